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

const user = (id) => "/v1/users/" + encodeURIComponent(id);

export const recommendations = (id, fresh, signal) =>
  call(`${user(id)}/recommendations?surface=page${fresh ? "&fresh=true" : ""}`, { signal });
export const history = (id) => call(user(id) + "/history?n=24");
export const traces = (id) => call(user(id) + "/traces");
export const activeUsers = () => call("/v1/users?n=9");
export const decision = (id) => call("/v1/decisions/" + encodeURIComponent(id));
export const adapters = () => call("/v1/adapters");
export const rollBack = (reason) =>
  call("/v1/adapters/rollback", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ reason }) });
export const publish = (events) =>
  call("/v1/events", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(events) });

// listen reads the feed for ever, and connects again when it breaks. on has a function for each kind of message, and
// "state", which gets whether the feed is connected. EventSource could not send the token.
export async function listen(on) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      const response = await request("/v1/stream");
      if (!response.ok) throw new Problem(response.status, "the feed answers " + response.status);
      on.state(true);
      wait = 500;
      await read(response.body.getReader(), on);
    } catch { /* the state says so, and the next round tries again */ }
    on.state(false);
    await new Promise((done) => setTimeout(done, wait));
  }
}

async function read(reader, on) {
  const decoder = new TextDecoder();
  for (let buffer = ""; ;) {
    const { value, done } = await reader.read();
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
