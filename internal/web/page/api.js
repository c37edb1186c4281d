// Talking to the server: requests with the token where one is needed, and the live feed.

const tokenKey = "r2rec.token";
let askForToken = async () => "";
let asking = null;

export function onTokenNeeded(f) { askForToken = f; }

export class Problem extends Error {
  constructor(status, detail, errors) { super(detail); this.status = status; this.errors = errors || []; }
}

// request sends and returns the response; 401 asks the person for the token and tries again.
async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem(tokenKey);
    const headers = { ...options.headers, ...(token ? { Authorization: "Bearer " + token } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers, cache: "no-store" });
    } catch (cause) {
      if (cause.name === "AbortError") throw cause;
      throw new Problem(0, "r2rec does not answer. Is it still running?");
    }
    if (response.status !== 401) return response;
    if (sessionStorage.getItem(tokenKey) !== token) continue; // another request asked meanwhile
    asking ||= askForToken(Boolean(token)).then((t) => sessionStorage.setItem(tokenKey, /^[\x21-\x7e]+$/.test(t) ? t : "wrong")).finally(() => { asking = null; }); // no header takes other characters
    await asking;
  }
}

export async function call(path, options) {
  const response = await request(path, options);
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Problem(response.status, body.detail || "status " + response.status, body.errors);
  return body;
}

// metrics as Prometheus reads them: text.
export async function metrics() {
  const response = await request("/metrics");
  if (!response.ok) throw new Problem(response.status, "the metrics answer " + response.status);
  return response.text();
}

const user = (id) => "/v1/users/" + encodeURIComponent(id);

export const recommendations = (id, fresh, signal) =>
  call(`${user(id)}/recommendations?surface=page${fresh ? "&fresh=true" : ""}`, { signal });
export const history = (id) => call(user(id) + "/history?n=24");
export const activeUsers = () => call("/v1/users?n=9");
export const decision = (id) => call("/v1/decisions/" + encodeURIComponent(id));
export const adapters = () => call("/v1/adapters");
export const rollBack = (from, reason) =>
  call("/v1/adapters/rollback", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ from, reason }) });
export const publish = (events) =>
  call("/v1/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(events) });

// The server says something every 15 seconds, if only that it is there: a feed that is silent for longer is broken, whatever
// the network knows of it. A page that nobody looks at lets go of its connection, of which a browser has six a server.
const silence = 40000, unseen = 60000;

// listen reads the feed for ever, and connects again when it breaks. on has a function for each kind of message, and
// "state", which gets whether the feed is connected; that the page lets go of it is no news. EventSource could not send the token.
export async function listen(on) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    await looked();
    const feed = new AbortController();
    let letGo = false;
    const hidden = onHidden(() => { letGo = true; feed.abort(); });
    try {
      const response = await request("/v1/stream", { signal: feed.signal });
      if (!response.ok) throw new Problem(response.status, "the feed answers " + response.status);
      on.state(true);
      wait = 500;
      await read(response.body.getReader(), on, feed);
    } catch { /* the state says so, and the next round tries again */ } finally { hidden(); }
    if (letGo) continue;
    on.state(false);
    await new Promise((done) => setTimeout(done, wait));
  }
}

// looked waits until somebody looks at the page.
async function looked() {
  while (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

// onHidden calls f when the page was not looked at for a while, and returns how to stop that.
function onHidden(f) {
  let timer;
  const watch = () => { clearTimeout(timer); if (document.hidden) timer = setTimeout(f, unseen); };
  document.addEventListener("visibilitychange", watch);
  watch();
  return () => { clearTimeout(timer); document.removeEventListener("visibilitychange", watch); };
}

async function read(reader, on, feed) {
  const decoder = new TextDecoder();
  for (let buffer = ""; ;) {
    const quiet = setTimeout(() => feed.abort(), silence);
    const { value, done } = await reader.read().finally(() => clearTimeout(quiet));
    if (done) return;
    buffer += decoder.decode(value, { stream: true });
    const messages = buffer.split("\n\n");
    buffer = messages.pop();
    for (const message of messages) {
      const kind = /^event: (.*)$/m.exec(message)?.[1];
      const data = /^data: (.*)$/m.exec(message)?.[1];
      if (kind && data && on[kind]) on[kind](JSON.parse(data));
    }
  }
}
