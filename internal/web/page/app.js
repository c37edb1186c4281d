// The page: which user is looked at, and the loop from what a person does here to the list that follows from it.

import { $, h, clean, name, tags, day } from "./dom.js";
import * as api from "./api.js";
import * as live from "./live.js";
import * as list from "./list.js";
import * as learn from "./learn.js";

const surface = "page";
const state = {
  user: null, rec: null, decision: null, changes: new Map(), gone: [], selected: null,
  busy: false, event: null, asking: 0, replaying: false, shownTo: new Set(),
};
const appliedWaiters = new Map(); // event id -> function

const say = (text) => { $("say").textContent = text; };
const random = (n) => [...crypto.getRandomValues(new Uint8Array(n))].map((b) => b.toString(16).padStart(2, "0")).join("");

// Which user

let offering = false;
async function offerUsers() {
  if (document.hidden || offering) return;
  offering = true;
  const { users } = await api.activeUsers().catch(() => ({ users: [] }));
  offering = false;
  if (!users.length) return;
  if (!state.user) open(users[0].user_id);
  const box = $("users");
  if (box.matches(":hover") || box.contains(document.activeElement)) return; // not under somebody's finger
  drawUsers(users.map((u) => ({ id: u.user_id, events: u.events })));
}

let offered = [];
function drawUsers(users = offered) {
  offered = users;
  const known = users.some((u) => u.id === state.user);
  const all = known || !state.user ? users : [{ id: state.user }, ...users];
  $("users").replaceChildren(...all.map((u) => h("button", {
    class: "user", "aria-pressed": String(u.id === state.user), title: u.events ? `${u.events} events` : null, onclick: () => open(u.id),
  }, name(u.id))));
}

function open(user) {
  if (!user || user === state.user) return;
  Object.assign(state, { user, rec: null, decision: null, selected: null, gone: [], changes: new Map(), busy: false, event: null });
  history.replaceState(null, "", "#user=" + encodeURIComponent(user));
  $("history-user").textContent = clean(user);
  $("history").replaceChildren(h("li", { class: "muted" }, "…"));
  list.loop(null);
  list.loading();
  drawUsers();
  ask({ byPerson: true });
}

function fromAddress() {
  const user = new URLSearchParams(location.hash.slice(1)).get("user");
  if (user) open(user);
}

// The list

const overtaken = "overtaken"; // by a newer question

// ask loads list, history and decision, and tells whether that went well. The answer of an older question is thrown away.
async function ask({ fresh = false, byPerson = false } = {}) {
  const user = state.user, question = ++state.asking;
  if (!user) return false;
  $("again").disabled = true;
  $("list").setAttribute("aria-busy", "true");
  try {
    const [rec, past] = await Promise.all([api.recommendations(user, fresh), api.history(user)]);
    const decision = rec.decision_id ? await api.decision(rec.decision_id).catch(() => null) : null;
    if (question !== state.asking) return overtaken;
    const before = state.rec?.items;
    const now = new Set(rec.items.map((it) => it.item_id));
    state.changes = list.moves(before, rec.items);
    state.gone = (before || []).filter((it) => !now.has(it.item_id));
    state.rec = rec;
    state.decision = decision;
    if (!now.has(state.selected)) state.selected = rec.items[0]?.item_id ?? null;
    drawHistory(past.items);
    draw();
    if (byPerson) setTimeout(() => wasShown(rec), 1000);
    return true;
  } catch (problem) {
    if (question !== state.asking) return overtaken;
    if (state.rec) say(problem.message);
    if (!state.rec || byPerson) { state.rec = null; list.failed(problem, () => { list.loading(); ask({ fresh, byPerson }); }); }
    return false;
  } finally {
    if (question === state.asking) {
      $("again").disabled = false;
      $("list").removeAttribute("aria-busy");
    }
  }
}

function draw() {
  list.show({ ...state, select, act });
  drawWhy();
}

function drawWhy() {
  if (!state.rec) return;
  list.why(state.rec.items.find((it) => it.item_id === state.selected), state.rec, state.decision);
}

// select explains an item; where the reasons stand below the list, a tap goes there.
function select(id, byPointer = false) {
  state.selected = id;
  draw();
  list.focusItem(id);
  if (byPointer && matchMedia("(max-width: 1199px)").matches) $("why").scrollIntoView({ block: "nearest" });
}

let seen = { user: null, ids: new Set() };
function drawHistory(items) {
  const known = seen.user === state.user ? seen.ids : null;
  $("history").replaceChildren(...items.map((it) => h("li", { class: known && !known.has(it.item_id) ? "fresh" : null, title: `${clean(it.title)}, ${day(it.timestamp)}` },
    h("span", { class: "title" }, name(it.title || it.item_id)), h("span", { class: "cats" }, tags(it.categories, 2)))));
  if (!items.length) $("history").append(h("li", { class: "muted" }, "Nothing yet. The list shows what is popular now; like something and it adapts."));
  seen = { user: state.user, ids: new Set(items.map((it) => it.item_id)) };
}

// What a person does

function makeEvent(type, rec, it) {
  return {
    event_id: "page-" + random(12), user_id: rec.user_id, item_id: it.item_id, type, timestamp: new Date().toISOString(),
    position: it.position, surface, ...(rec.decision_id ? { decision_id: rec.decision_id } : {}),
  };
}

// impressions says that the list was on the screen, once a decision: without them nothing can be learned from it.
function impressions(rec) {
  if (!rec.decision_id || state.shownTo.has(rec.decision_id)) return [];
  state.shownTo.add(rec.decision_id);
  return rec.items.map((it) => makeEvent("impression", rec, it));
}

function wasShown(rec) {
  if (rec !== state.rec || document.hidden) return;
  const events = impressions(rec);
  if (events.length) api.publish(events).catch(() => state.shownTo.delete(rec.decision_id));
}

// appliedElsewhere waits until another process has applied an event, which the feed of this one does not tell, whether this one
// consumes too or not: what is liked stands in the history; what is hidden does not, but is the user's newest edge.
async function appliedElsewhere(event, wanted) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (!wanted()) return;
    const seen = api.history(event.user_id).then((past) => event.type === "hide"
      ? Date.parse(past.newest) >= Date.parse(event.timestamp)
      : past.items.some((x) => x.item_id === event.item_id && Date.parse(x.timestamp) >= Date.parse(event.timestamp)));
    if (await seen.catch(() => false)) return;
  }
}

const done = { click: "clicked", like: "liked", hide: "hid" };

// act sends one event and follows it around the loop: Kafka, graph, new list. It is shown until another user is opened, or the
// next event takes its place.
async function act(type, it) {
  if (state.busy) return;
  const rec = state.rec, times = [], begun = performance.now();
  const label = `you ${done[type]} it`;
  const event = makeEvent(type, rec, it);
  const followed = () => state.event === event;
  const step = (n, failed) => { if (followed()) list.loop({ done: n, label, times, failed }); };
  state.busy = true;
  state.event = event;
  draw();
  step(1);
  say(`You ${done[type]} ${clean(it.title)}. Sending it to Kafka.`);
  const shown = impressions(rec);
  let at = 1;
  try {
    const applied = new Promise((resolve, reject) => {
      appliedWaiters.set(event.event_id, resolve);
      setTimeout(() => reject(new Error("The event is in Kafka but was not applied within 20 seconds: is r2rec consume running?")), 20000);
    });
    applied.catch(() => {});
    await api.publish([...shown, event]);
    times[1] = performance.now() - begun;
    step(at = 2);
    await Promise.race([applied, appliedElsewhere(event, () => appliedWaiters.has(event.event_id))]);
    times[2] = performance.now() - begun;
    step(at = 3);
    if (!followed()) return;
    state.busy = false;
    const made = await ask({ fresh: true, byPerson: true });
    if (made === overtaken || !followed()) return;
    if (!made) throw new Error("The new list could not be made.");
    times[3] = performance.now() - begun;
    step(at = 4);
    const left = state.gone.length ? ` Left the list: ${state.gone.map((g) => clean(g.title)).join(", ")}.` : "";
    const came = state.rec.items.filter((x) => state.changes.get(x.item_id) === "new");
    say(`The list was made again.${left}${came.length ? ` New: ${came.map((x) => clean(x.title)).join(", ")}.` : ""}`);
  } catch (problem) {
    if (at === 1 && shown.length) state.shownTo.delete(rec.decision_id);
    step(at, true);
    if (!followed()) return;
    say(problem.message);
    $("note").hidden = false;
    $("note").textContent = problem.message;
  } finally {
    appliedWaiters.delete(event.event_id);
    if (followed()) {
      state.busy = false;
      for (const b of document.querySelectorAll(".acts button")) b.disabled = false;
    }
  }
}

// Following the replay: the list is made again while history flows in, so that one sees it change.

async function follow() {
  const idle = state.replaying && $("follow").checked && state.rec && !state.busy && !document.hidden
    && !$("items").contains(document.activeElement) && !$("items").matches(":hover") && !$("why").matches(":hover");
  if (idle) await ask({ fresh: true });
  setTimeout(follow, 5000);
}

function onPhase(p) {
  live.phase(p);
  const ended = state.replaying && p.name !== "replaying";
  state.replaying = p.name === "replaying";
  $("follow-label").hidden = !state.replaying;
  if (ended && state.rec && !state.busy) ask({ fresh: true });
}

// The token

let tokenGiven = null; // takes the token that requests wait for; null: none does

api.onTokenNeeded((wrong) => new Promise((resolve) => {
  tokenGiven = resolve;
  $("gate-error").textContent = wrong ? "That was not the token." : "";
  $("gate").showModal();
}));

// startGate keeps the dialog open until somebody has answered: browsers let only the first Esc be refused.
function startGate() {
  $("gate").addEventListener("cancel", (e) => e.preventDefault());
  $("gate").addEventListener("close", () => { if (tokenGiven && !$("gate").open) $("gate").showModal(); });
  $("gate-form").addEventListener("submit", (e) => {
    e.preventDefault();
    const given = tokenGiven, token = $("token").value.trim();
    tokenGiven = null;
    $("token").value = "";
    $("gate").close();
    given?.(token);
  });
}

// The metrics: a link could not send the token.

async function showMetrics() {
  $("metrics-text").textContent = await api.metrics().catch((problem) => problem.message);
  $("metrics").showModal();
}

function startMetrics() {
  $("metrics-open").addEventListener("click", (e) => { e.preventDefault(); showMetrics(); });
  $("metrics-form").addEventListener("submit", (e) => { e.preventDefault(); $("metrics").close(); });
}

function start() {
  startGate();
  startMetrics();
  list.loop(null);
  list.why(null);
  live.onOpenUser(open);
  live.start();
  learn.start();
  $("open").addEventListener("submit", (e) => {
    e.preventDefault();
    open($("user").value.trim());
    $("user").value = "";
  });
  $("newcomer").addEventListener("click", () => open("guest-" + random(3)));
  $("again").addEventListener("click", () => ask({ fresh: true, byPerson: true }));
  $("items").addEventListener("keydown", (e) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (!step || !state.rec) return;
    const items = state.rec.items;
    const next = items[items.findIndex((it) => it.item_id === state.selected) + step];
    if (next) { e.preventDefault(); select(next.item_id); }
  });
  addEventListener("hashchange", fromAddress);
  let width = 0;
  new ResizeObserver(([entry]) => {
    if (Math.abs(entry.contentRect.width - width) < 2) return;
    width = entry.contentRect.width;
    drawWhy();
  }).observe($("why"));
  fromAddress();
  offerUsers();
  setInterval(offerUsers, 3000);
  setTimeout(follow, 5000);
  api.listen({
    state: live.connection, phase: onPhase, stats: live.stats, health: live.health,
    loop: (l) => { live.visits(l.simulation); learn.show(l); },
    applied: (e) => { appliedWaiters.get(e.event_id)?.(); live.applied(e); },
  });
}

start();
