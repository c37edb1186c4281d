// What flows: the state of the parts, the phase, counters and the events as they are applied.

import { $, h, s, clean, name, count, calm } from "./dom.js";

const labels = { kafka: "Kafka", redis: "Redis", model: "Model", adapter: "Adapter", consumer: "Consumer", rewards: "Rewards" };

let parts = [];
const consumes = () => parts.some((c) => c.name === "consumer"); // this process does, and its feed tells what it applies

export function health({ components }) {
  parts = components || [];
  const chips = (components || []).map((c) => {
    const plain = { ok: "ok", degraded: "degraded", down: "down" }[c.state] || c.state;
    return h("li", { class: "chip " + c.state, title: clean(c.detail) },
      h("span", { class: "dot" }), h("b", {}, labels[c.name] || clean(c.name)),
      h("span", { class: "hidden" }, plain), h("span", { class: "detail" }, clean(c.detail) || plain));
  });
  $("health").replaceChildren(...chips);
  if (!consumes()) {
    if ($("no-users")) $("no-users").textContent = "Open a user by id: another process consumes the events, and this one does not see them.";
    if ($("no-events")) $("no-events").textContent = "Another process consumes: run r2rec serve --consume to see events here.";
  }
}

let visiting = false; // simulated users
let last = null;

// visits hears of the simulation; undefined: nobody is simulated.
export function visits(simulation) {
  const now = Boolean(simulation && !simulation.ended);
  if (now === visiting) return;
  visiting = now;
  if (last) phase(last);
}

export function phase(p) {
  last = p;
  const replaying = p.name === "replaying";
  const share = p.total ? Math.min(1, (p.done || 0) / p.total) : 0;
  $("phase").hidden = false;
  $("phase").className = "phase " + (replaying || visiting ? "sim" : "live");
  $("phase-tag").textContent = replaying || visiting ? "simulated" : "live";
  const what = clean(p.text) || "recorded history";
  $("phase-text").textContent = replaying
    ? `Replaying ${what}: ${count(p.done || 0)}${p.total ? " of " + count(p.total) : ""} events`
    : p.total ? `${what}: ${count(p.total)} events replayed. ${visiting ? "Simulated users go on visiting; what you do below is real." : "From here on nothing is simulated: what you do below is real."}`
      : visiting ? "Simulated users visit; what you do below is real." : clean(p.text) || "Nothing is simulated: events come from producers and from what you do below.";
  $("phase-track").hidden = !replaying || !p.total;
  $("phase-track").setAttribute("aria-valuenow", Math.floor(100 * share));
  $("phase-bar").style.width = 100 * share + "%";
  $("stream-sim").hidden = !replaying && !visiting;
}

const rates = [];
let perSecond = 0;

export function stats(m) {
  perSecond = m.events_per_second;
  $("n-users").textContent = count(m.users);
  $("n-items").textContent = count(m.items);
  $("n-edges").textContent = count(m.edges);
  $("rate").textContent = count(perSecond);
  rates.push(perSecond);
  if (rates.length > 60) rates.shift();
  const most = Math.max(1, ...rates);
  const points = rates.map((r, i) => `${(120 * (i + 60 - rates.length)) / 59},${(28 - 25 * (r / most)).toFixed(1)}`);
  const first = points[0].split(",")[0];
  $("spark").replaceChildren(
    s("polygon", { points: `${first},30 ${points.join(" ")} 120,30` }),
    s("polyline", { points: points.join(" ") }));
  sampledNote();
}

const verbs = {
  view: "viewed", impression: "was shown", click: "clicked", like: "liked", cart: "put in cart", purchase: "bought",
  dislike: "disliked", hide: "hid",
};
const verb = (e) => (e.type === "rating" ? `rated ${e.value}` : verbs[e.type] || e.type);

const rows = 20; // in the document
const waiting = []; // newest last, but what somebody here did comes first
let paused = false;
let shown = 0;
let open = () => {};

export function onOpenUser(f) { open = f; }

export function applied(e) {
  if (e.type === "impression") return; // what this page showed: not news
  if (e.own) waiting.unshift(e); // next in line: somebody here did it
  else waiting.push(e);
  if (waiting.length > 12) waiting.splice(waiting.findIndex((x) => !x.own), 1); // the oldest; where all are own, the last is
}

// flow puts one waiting event on top, at most eight a second, or one for who asks for less motion. What comes while nobody
// looks is not shown later.
function flow() {
  setTimeout(flow, calm.matches ? 1000 : 125);
  if (paused || document.hidden) waiting.length = 0;
  if (!waiting.length) return;
  const e = waiting.shift();
  const list = $("events");
  if (!shown++) list.replaceChildren();
  list.prepend(h("li", { class: e.own ? "own" : null },
    h("button", { class: "person", title: "Open this user", onclick: () => open(e.user_id) }, name(e.user_id)),
    h("span", { class: "verb " + (e.type === "hide" || e.type === "dislike" ? "no" : "") }, verb(e)),
    h("span", { class: "title" }, name(e.title || e.item_id)), e.own ? h("span", { class: "badge real" }, "real") : e.simulated && h("span", { class: "badge sim" }, "simulated")));
  while (list.children.length > rows) list.lastChild.remove();
}

function sampledNote() {
  const note = paused ? "Paused; the events go on." : perSecond > 8 ? `A sample: ${count(perSecond)} a second are applied.` : "";
  if ($("sampled").textContent !== note) $("sampled").textContent = note;
}

export function start() {
  $("pause").addEventListener("click", () => {
    paused = !paused;
    $("pause").setAttribute("aria-pressed", paused);
    $("pause").textContent = paused ? "Go on" : "Pause";
    sampledNote();
  });
  flow();
}

export function connection(connected) {
  $("banner").hidden = connected;
  if (connected) return;
  $("banner").textContent = "The live feed is gone. Is r2rec still running? Trying again…";
  $("health").replaceChildren(h("li", { class: "chip down" }, h("span", { class: "dot" }), h("b", {}, "not connected")));
  $("rate").textContent = "–";
}
