// The learning loop: what is shown earns rewards, a round learns from them, a gate judges what it learned, and what passes
// is rolled out. Every figure is the server's; nothing here is computed but places of marks.

import { $, h, s, clean, name, count } from "./dom.js";
import * as api from "./api.js";

let loop = null; // the newest state
let log = null; // of adapters; null: none is followed, or it has not been read
let reading = false;

// show takes over a state of the loop, and reads the log of adapters again where it changed.
export function show(state) {
  loop = state;
  $("learn").hidden = false;
  $("learn-jump").hidden = false;
  draw();
  if (loop.offset !== undefined && loop.offset !== log?.offset) readLog();
}

async function readLog() {
  if (reading) return;
  reading = true;
  const offset = loop.offset;
  try {
    log = { ...(await api.adapters()), offset };
    draw();
  } catch { /* the next message tries again */ } finally {
    reading = false;
  }
}

const short = (digest) => (digest ? clean(digest).slice(0, 8) : "base");
const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(3);
const plain = (x) => x.toFixed(3);
const words = (x, b, f = signed) => (b ? `${f(x)} (${f(b.low)} to ${f(b.high)})` : f(x));
const clock = (t) => new Date(t).toLocaleTimeString("en-GB");
const share = (x) => Math.round(100 * x) + " %";

function draw() {
  const sim = loop.simulation;
  $("learn-sim").hidden = $("learn-rule").hidden = !sim;
  if (sim) $("learn-rule").textContent = clean(sim.ended ? `${sim.ended} ${sim.rule}` : sim.rule);
  $("learn-note").hidden = !loop.note;
  $("learn-note").textContent = clean(loop.note);
  $("learn-steps").replaceChildren(...steps().map(([title, figure, detail, at], i) => h("li", { class: at || null },
    h("h3", {}, `${i + 1}. ${title}`), h("b", {}, figure), h("span", { class: "small muted" }, clean(detail)), i === 2 && progress())));
  drawUplift();
  drawArms();
  drawAdapters();
}

// steps are the stations of the loop: title, figure, detail, class.
function steps() {
  const { simulation: sim, rewards, rounds, rollout } = loop;
  const last = rounds.ended[0];
  const judged = log?.entries?.find((e) => !e.void && e.record?.gate);
  return [
    sim ? ["Decisions", count(sim.visits), `visits of at most ${count(sim.limit)}, ${sim.per_second} a second wanted; ${count(sim.clicks)} clicks`, sim.ended ? "" : "alive"]
      : ["Decisions", count(rewards.decisions), "shown lists whose rewards are known"],
    ["Rewards", count(rewards.decisions), rewards.decisions
      ? `decisions; ${count(rewards.by_decision)} slots clicked by name, ${count(rewards.by_window)} joined in time` : `none yet. ${rewards.rule || "They come from the topic rewards."}`,
    rewards.decisions ? "alive" : ""],
    round(rounds),
    last ? ["Gate", clean(last.verdict), `${clock(last.ended)}: ${last.reason}`, last.verdict === "promoted" ? "good" : ""]
      : judged ? ["Gate", judged.record.kind === "refuse" ? "refused" : "passed", judged.record.reason] : ["Gate", "–", "has judged nothing yet"],
    rollout ? ["Roll-out", share(rollout.share), `of the users have ${short(rollout.candidate)}. ${rollOutWords(rollout)}`, "alive"]
      : ["Serving", short(log?.serving.current), log?.serving.loading ? `loading ${short(log.serving.loading)}` : faults() || "to all users but the control share; no roll-out is under way"],
  ];
}

function round(r) {
  if (r.running) return ["Round", "learning", r.running.doing, "alive"];
  if (r.elsewhere) return ["Round", "–", r.elsewhere];
  const missing = r.usable < r.needed;
  const which = r.ended.length ? "next" : "first";
  return ["Round", `${count(r.usable)} of ${count(r.needed)}`,
    !missing ? "decisions: it begins when the roll-out has ended" : loop.simulation?.ended ? `decisions until the ${which} round: those that explored, and were shown` : `decisions until the ${which} round`];
}

function progress() {
  const r = loop.rounds.running;
  const of = r ? r.done / Math.max(1, r.total) : loop.rounds.usable / Math.max(1, loop.rounds.needed);
  if (loop.rounds.elsewhere) return null;
  const bar = h("i", {});
  bar.style.width = Math.min(100, 100 * of) + "%";
  return h("span", { class: "bar", role: "progressbar", "aria-label": r ? clean(r.doing) : "Decisions until the next round", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-valuenow": Math.floor(Math.min(100, 100 * of)) }, bar);
}

const faults = () => (log?.serving.faults || []).map((f) => `${short(f.adapter)} does not serve: ${f.reason}`).join("; ");

function rollOutWords(r) {
  if (!r.decisions[0] && !r.decisions[1]) return "No reward of it is known here yet.";
  return r.reason || "";
}

// whisker draws an estimate with its interval around zero; most is the value at the edges. A screen reader gets the words.
function whisker(estimate, b, most, says, from = -most) {
  const w = 150, high = 20, x = (v) => (w * (Math.max(from, Math.min(most, v)) - from)) / (most - from);
  const kind = !b ? "" : b.low > 0 ? "up" : b.high < 0 ? "down" : "";
  return s("svg", { class: "whisker " + (from < 0 ? kind : ""), width: w, height: high, viewBox: `0 0 ${w} ${high}`, role: "img", "aria-label": says },
    s("line", { class: "zero", x1: x(0), x2: x(0), y1: 1, y2: high - 1 }),
    b && s("line", { class: "range", x1: x(b.low), x2: x(b.high), y1: high / 2, y2: high / 2 }),
    b && [b.low, b.high].map((v) => s("line", { class: "range", x1: x(v), x2: x(v), y1: high / 2 - 4, y2: high / 2 + 4 })),
    s("circle", { cx: x(estimate), cy: high / 2, r: 3.5 }));
}

function drawUplift() {
  const u = loop.uplift;
  if (!u) {
    $("learn-uplift").replaceChildren(h("span", { class: "muted" }, "Waiting for rewards of users who stay on the graph's ranking, and of others."));
    return;
  }
  const says = words(u.difference, u.interval);
  const most = Math.max(0.02, ...[u.difference, u.interval?.low, u.interval?.high].map((v) => Math.abs(v || 0))) * 1.05;
  $("learn-uplift").replaceChildren(
    whisker(u.difference, u.interval, most, says), h("b", {}, says),
    h("span", { class: "muted small" }, `reward a decision, of ${count(u.users)} users over ${count(u.control_users)} who always get the graph's ranking` +
      (u.interval ? "; 95 %, by user" : `; an interval takes ${u.least_users} users of each kind`)));
}

function drawArms() {
  const most = Math.max(0.01, ...loop.arms.map((a) => a.interval?.high ?? a.mean)) * 1.05;
  $("learn-arms").replaceChildren(...loop.arms.map((a) => {
    const who = a.control ? "control: the graph" : a.graph ? "the graph, as a fallback" : a.adapter ? "adapter " + short(a.adapter) : "base model";
    const says = words(a.mean, a.interval, plain);
    return h("tr", {}, h("th", { scope: "row" }, h("b", {}, who), h("span", { class: "small muted" }, `${count(a.decisions)} decisions, ${count(a.users)} users`)),
      h("td", {}, whisker(a.mean, a.interval, most, says, 0), h("span", { class: "small" }, says)));
  }));
  $("learn-arms-none").hidden = loop.arms.length > 0;
}

// judged puts what the log says of each adapter together, newest first, with the rounds of this process that gave none.
function judged() {
  const rows = new Map();
  for (const e of [...(log?.entries || [])].reverse()) { // oldest first
    if (e.void || !e.record) continue;
    const p = e.record, back = p.kind === "rollback";
    const digest = back ? p.parent : p.adapter;
    if (!digest) continue;
    const row = rows.get(digest) || { digest, at: p.timestamp };
    Object.assign(row, { kind: p.kind, reason: p.reason }, p.gate ? { gate: p.gate, why: p.reason } : {}, p.kind === "promote" ? { share: p.share, at: p.timestamp } : {});
    rows.set(digest, row);
  }
  for (const r of loop.rounds.ended) {
    const row = rows.get(r.adapter);
    if (row) Object.assign(row, { round: r });
    else rows.set(r.began + r.verdict, { at: r.ended, round: r, gate: r.gate, why: r.reason });
  }
  return [...rows.values()].sort((a, b) => new Date(b.at) - new Date(a.at));
}

function standing(row) {
  if (!row.digest) return ["", clean(row.round.verdict)];
  if (row.digest === log.current) return ["good", "serving"];
  if (row.digest === log.candidate) return ["alive", `rolled out to ${share(log.share)}`];
  return { refuse: ["bad", "refused"], rollback: ["bad", "rolled back"], promote: ["", "not served"], complete: ["", "retired"] }[row.kind] || ["", clean(row.kind)];
}

function drawAdapters() {
  const rows = judged();
  const bounds = rows.flatMap((r) => (r.gate ? [r.gate.snips, r.gate.dr] : [])).flatMap((b) => [b.low, b.high]);
  const most = Math.max(0.02, ...bounds.map(Math.abs)) * 1.05;
  const estimate = (b, title) => h("td", { "data-of": title }, b ? [whisker(b.estimate, b, most, `${title}: ${words(b.estimate, b)}`), h("span", { class: "small" }, words(b.estimate, b))] : "–");
  $("learn-adapters").replaceChildren(...rows.map((r) => {
    const [kind, text] = standing(r);
    const learned = r.round ? `${count(r.round.learned_from)} to learn from, ${count(r.round.held)} for the gate` : r.gate ? `${count(r.gate.decisions)} for the gate` : "promoted by hand";
    const ended = r.reason && r.reason !== r.why ? r.reason : "";
    return h("tr", {},
      h("th", { scope: "row" }, h("code", {}, r.digest ? short(r.digest) : "none"), h("span", { class: "small muted" }, clock(r.at))),
      h("td", {}, h("span", { class: "badge " + kind }, text)),
      estimate(r.gate?.snips, "SNIPS"), estimate(r.gate?.dr, "DR"),
      h("td", { class: "small" }, h("span", {}, learned), r.round && curve(r.round.reward), h("span", { class: "muted" }, name([r.why, ended].filter(Boolean).join(" · ")))));
  }));
  const { rounds } = loop;
  $("learn-none").hidden = rows.length > 0;
  $("learn-none").textContent = rounds.elsewhere ? `No adapter yet. ${clean(rounds.elsewhere)}`
    : rounds.running ? `The first round is learning: ${clean(rounds.running.doing)}.` : `No adapter yet: the base model serves. ${count(rounds.usable)} of ${count(rounds.needed)} decisions until the first round.`;
  $("learn-back").hidden = !log;
  $("learn-back").disabled = !log || (!log.candidate && !log.current);
  $("learn-back").title = $("learn-back").disabled ? "The base model serves: nothing was before it" : "";
}

// curve shows how the expected reward went while a round learned.
function curve(values) {
  if (values.length < 2) return null;
  const w = 90, high = 20, low = Math.min(...values), top = Math.max(...values), span = top - low || 1;
  const says = `expected reward while learning: ${plain(values[0])} to ${plain(values[values.length - 1])}`;
  return h("span", { class: "curve" }, s("svg", { width: w, height: high, viewBox: `0 0 ${w} ${high}`, role: "img", "aria-label": says },
    s("title", {}, says), s("polyline", { points: values.map((v, i) => `${(w * i) / (values.length - 1)},${(high - 3 - (high - 6) * ((v - low) / span)).toFixed(1)}`).join(" ") })), h("span", { class: "muted" }, "expected reward while learning"));
}

// Rolling back

let taken = ""; // what the dialog says is taken back

function confirm() {
  taken = log.candidate || log.current;
  $("back-error").textContent = "";
  $("back-text").textContent = log.candidate
    ? `Adapter ${short(log.candidate)} is taken back from the ${share(log.share)} of the users who have it. All get ${log.current ? "adapter " + short(log.current) : "the base model"} again, within a second.`
    : `Adapter ${short(log.current)} is taken back from all users. They get the one before it, or the base model, within a second.`;
  $("back").showModal();
}

async function rollBack() {
  $("back-do").disabled = true;
  try {
    log = { ...(await api.rollBack(taken, "asked for on the page")), offset: undefined };
    $("back").close();
    draw();
    $("learn-say").textContent = `Rolled back: ${log.current ? "adapter " + short(log.current) : "the base model"} serves.`;
  } catch (problem) {
    $("back-error").textContent = problem.message;
  } finally {
    $("back-do").disabled = false;
  }
}

export function start() {
  $("learn-back").addEventListener("click", confirm);
  $("back-cancel").addEventListener("click", () => $("back").close());
  $("back-form").addEventListener("submit", (e) => { e.preventDefault(); rollBack(); });
}
