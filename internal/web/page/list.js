// The list of recommendations, what changed in it, and the reasons behind the item that is looked at.

import { $, h, clean, name, tags, percent, day } from "./dom.js";
import { diagram, sentence } from "./diagram.js";

const actions = [
  { type: "click", label: "Click", title: "Send a click: “I opened it”" },
  { type: "like", label: "Like", title: "Send a like" },
  { type: "hide", label: "Hide", title: "Send a hide: “never show me this again”" },
];

// moves says, for each item of next, what happened since previous: a number of places up or down, "new", or nothing.
export function moves(previous, next) {
  const was = new Map((previous || []).map((it, i) => [it.item_id, i]));
  return new Map(next.map((it, i) => [it.item_id,
    !previous ? 0 : was.has(it.item_id) ? was.get(it.item_id) - i : "new"]));
}

function moved(change) {
  if (!change) return null;
  if (change === "new") return h("span", { class: "move new" }, "new");
  const up = change > 0;
  return h("span", { class: "move " + (up ? "up" : "down"), title: `${up ? "up" : "down"} ${Math.abs(change)}` },
    h("span", { "aria-hidden": "true" }, up ? "▲" : "▼"), h("span", { class: "hidden" }, up ? "up" : "down"), String(Math.abs(change)));
}

const sources = {
  reasoned: ["reasoned", "Ranked by the language model over the graph's evidence"],
  graph: ["graph", "Ranked by the graph alone"],
};

export function badge(source) {
  $("source").hidden = !source;
  if (!source) return;
  const [text, title] = sources[source] || [clean(source), ""];
  $("source").className = "badge " + source;
  $("source").textContent = text;
  $("source").title = title;
}

// show draws the list. view: {rec, changes, gone, selected, busy, select(id, byPointer), act(type, item)}.
export function show(view) {
  const { rec, changes } = view;
  badge(rec.source);
  const note = clean(rec.note);
  $("note").hidden = !note;
  $("note").textContent = note;
  const best = Math.max(...rec.items.map((it) => it.score), 1e-9);
  const focused = document.activeElement?.closest?.("#items li")?.dataset.item;
  $("items").replaceChildren(...rec.items.map((it) => item(view, it, best, changes.get(it.item_id))));
  if (!rec.items.length) {
    $("items").append(h("li", { class: "empty" }, "Nothing to recommend yet: the graph knows too little. Once events flow, ask again."));
  }
  $("gone").hidden = !view.gone.length;
  $("gone").replaceChildren("Left the list: ", ...view.gone.flatMap((it, i) => [i ? ", " : "", name(it.title || it.item_id)]));
  if (focused) focusItem(view.rec.items.some((it) => it.item_id === focused) ? focused : view.selected);
}

function item(view, it, best, change) {
  const chosen = it.item_id === view.selected;
  const bar = h("i", {});
  bar.style.width = Math.max(2, (100 * it.score) / best) + "%";
  const reason = it.reasons?.[0]?.text;
  const node = h("li", { class: [chosen ? "chosen" : "", change === "new" ? "fresh" : ""].join(" ").trim() || null },
    h("button", { class: "pick-item", "aria-current": chosen ? "true" : null, onclick: (e) => view.select(it.item_id, e.detail > 0) },
      h("span", { class: "pos" }, String(it.position)),
      h("span", { class: "what" },
        h("span", { class: "title" }, name(it.title || it.item_id), moved(change)),
        h("span", { class: "cats" }, tags(it.categories)),
        reason && h("span", { class: "reason" }, name(reason))),
      h("span", { class: "score", title: "Share of the ranking it was drawn from" }, h("span", { class: "bar" }, bar), percent(it.score))),
    h("div", { class: "acts" }, actions.map((a) =>
      h("button", { title: a.title, disabled: view.busy, "aria-label": `${a.label}: ${clean(it.title)}`, onclick: () => view.act(a.type, it) }, a.label))));
  node.dataset.item = it.item_id;
  return node;
}

export function focusItem(id) {
  for (const li of $("items").children) if (li.dataset.item === id) li.querySelector(".pick-item").focus();
}

// loading shows places that will be filled.
export function loading() {
  badge(null);
  $("note").hidden = $("gone").hidden = true;
  $("items").replaceChildren(...Array.from({ length: 5 }, () => h("li", { class: "skeleton", "aria-hidden": "true" })));
  $("why").replaceChildren(h("p", { class: "muted" }, "Asking the graph and the model…"));
}

export function failed(problem, retry) {
  badge(null);
  $("note").hidden = $("gone").hidden = true;
  $("items").replaceChildren(h("li", { class: "empty error" }, h("p", {}, clean(problem.message)), h("button", { onclick: retry }, "Try again")));
  $("why").replaceChildren();
}

const steps = ["what you do", "Kafka has it", "the graph has it", "a new list"];

// loop shows how far an event of this page came: {done: number of steps, label, times: [ms], failed}.
export function loop(state) {
  $("loop").replaceChildren(...steps.map((text, i) => {
    const at = !state ? "" : i < state.done ? "done" : i === state.done ? (state.failed ? "failed" : "now") : "";
    return h("li", { class: at || null, "aria-current": at === "now" ? "step" : null },
      h("span", {}, i === 0 && state ? state.label : text), state?.times[i] !== undefined && h("small", {}, `${Math.round(state.times[i])} ms`));
  }));
}

const evidence = [
  [(e) => e.like_minded_recent[1], "like-minded users", "Users with your taste who have it, choices halved every half-year"],
  [(e) => e.similar, "goes with yours", "How often it is chosen by those who chose what you chose"],
  [(e) => e.after[1], "chosen next", "Users who went on to it from what you dealt with"],
  [(e) => e.latent[0], "fits your taste", "Inner product of your latent factors and its own: alike, though no user may have both"],
  [(e) => e.chains, "chains", "Summed weight of the chains that support it"],
  [(e) => e.recent[0], "popular now", "Popularity, each choice halved every two weeks"],
  [(e) => e.popularity, "popular overall", "Users in its list"],
  [(e) => e.category, "your categories", "Share of the history's categories that it covers"],
];

// why explains one item: its reasons, its chains and how the graph and the model saw it. decision may be null.
export function why(it, rec, decision) {
  const box = $("why");
  if (!it) return box.replaceChildren(h("p", { class: "muted" }, "Choose an item of the list to see why it is there."));
  const chains = chainsOf(it, rec, decision);
  const titles = new Map();
  for (const x of [...(decision?.context.history || []), ...(decision?.context.candidates || [])]) titles.set(x.item_id, x.title);
  for (const reason of it.reasons || []) for (const c of reason.chains || []) titles.set(c.via, c.via_title);
  titles.set(it.item_id, it.title);
  const titleOf = (id) => clean(titles.get(id) || id);
  const reasons = it.reasons || [];
  box.replaceChildren(
    h("h3", { class: "why-title" }, h("span", { class: "pos" }, String(it.position)), name(it.title || it.item_id), h("span", { class: "cats" }, tags(it.categories, 6))),
    h("ul", { class: "reasons" }, reasons.map((r) => h("li", {}, name(r.text)))),
    chains.length
      ? h("div", { class: "drawing" }, diagram(chains, titleOf, Math.max(300, Math.floor(box.clientWidth)), legend(chains)))
      : h("p", { class: "muted box" }, "No chain bears this item out: none leads here, or the list would be the same without those that do."),
    tested(decision),
    chains.length ? h("details", {}, h("summary", {}, `The ${chains.length === 1 ? "chain" : chains.length + " chains"} in words`),
      h("ol", {}, chains.map((c) => h("li", {}, sentence(c, titleOf))))) : "",
    decision ? numbers(it, decision) : h("p", { class: "muted small" }, rec.decision_id ? "This list was stored earlier; ask again to see the evidence behind it." : "Kafka did not take this decision: nothing refers to it, and it earns nothing. Ask again when Kafka is back."),
    facts(rec, decision));
}

// chainsOf takes the chains that the item's reasons cite, each with what the list would lose without it. The document
// knows them without the dates, and its shares only by the ranking that was served.
function chainsOf(it, rec, decision) {
  const at = (decision?.context.candidates || []).findIndex((c) => c.item_id === it.item_id);
  const share = !rec.measured_by || rec.measured_by === rec.source ? it.score : decision?.scores?.[at]?.graph;
  const cited = at < 0
    ? (it.reasons || []).flatMap((r) => r.chains || []).map((c) => ({ ...c, neighbour: String(c.neighbour), item_id: it.item_id, weight: 1, shared: 0 }))
    : (decision.thought?.steps || []).filter((s) => s.item_id === it.item_id).flatMap((s) =>
      (s.chains || []).map((n, i) => ({ ...decision.context.chains[n - 1], contribution: s.contributions?.[i] })));
  const measured = (c) => typeof c.contribution === "number";
  if (!cited.some(measured)) return cited;
  const which = rec.measured_by === rec.source ? "its share" : "its share by the graph alone";
  return cited.map((c) => {
    if (!measured(c)) return { ...c, weight: 0, measured: false, effect: "What it contributes was not measured in time." };
    const kept = Math.exp(-c.contribution);
    return { ...c, weight: c.contribution, measured: true, drop: share === undefined ? "" : `−${(100 * share * (1 - kept)).toFixed(1)} pt`,
      effect: `Without this chain ${which} would fall ` + (share === undefined ? `by ${tenths(1 - kept)}.` : `from ${tenths(share)} to ${tenths(share * kept)}.`) };
  });
}

const tenths = (x) => (100 * x).toFixed(1) + "\u00a0%";

function legend(chains) {
  const best = chains.filter((c) => c.measured).sort((a, b) => b.weight - a.weight)[0];
  if (!best) return "Thicker is stronger.";
  const dashed = chains.some((c) => !c.measured) ? " Dashed: not measured in time." : "";
  const points = best.drop ? ", in violet the percentage points" : "";
  return `Thicker contributes more${points}. ${best.effect.replace("this chain", `user ${best.neighbour}'s choice`)}${dashed}`;
}

// tested says how many of the decision's chains were put to the test.
function tested(decision) {
  const m = decision?.thought?.masking;
  if (!m) return "";
  const left = m.proposed - m.measured;
  return h("p", { class: "muted small", title: "Each proposed chain is taken out of the graph's evidence, and the candidates are ranked again with the same seed" },
    `Reasons of this list put to the test: ${m.positive} of ${m.measured} chains contribute and are shown${left ? `, ${left} could not be measured in time` : ""}.`);
}

function meter(label, title, share, text) {
  const bar = h("i", {});
  bar.style.width = Math.min(100, 100 * share) + "%";
  return h("div", { class: "meter", title }, h("dt", {}, label), h("dd", {}, h("span", { class: "bar" }, bar), h("b", {}, text)));
}

function numbers(it, decision) {
  const all = decision.context.candidates || [];
  const at = all.findIndex((c) => c.item_id === it.item_id);
  if (at < 0) return "";
  const own = all[at].evidence;
  const score = decision.scores?.[at];
  const show = (x) => (Number.isInteger(x) ? String(x) : x.toPrecision(2).replace(/e.*/, ""));
  const most = (pick) => Math.max(...all.map(pick), 1e-9);
  const shares = !score ? [] : [
    ["share by the graph", "Its share in the graph's ranking", score.graph, Math.max(...decision.scores.map((s) => s.graph), 1e-9)],
    score.model !== undefined && score.model !== null && ["share by the model", "Its share in the model's ranking", score.model, Math.max(...decision.scores.map((s) => s.model || 0), 1e-9)],
  ].filter(Boolean);
  return h("div", { class: "numbers" },
    h("h4", {}, `Evidence, compared with the best of ${all.length} candidates`),
    h("dl", {}, evidence.map(([of, label, title]) => meter(label, title, of(own) / most((c) => of(c.evidence)), show(of(own)))),
      shares.map(([label, title, share, best]) => meter(label, title, share / best, percent(share)))));
}

function facts(rec, decision) {
  const model = decision?.model;
  const facts = [
    ["made", `${day(rec.generated_at)}, ${new Date(rec.generated_at).toLocaleTimeString("en-GB")}`],
    ["by", model ? `${model.name}, prompt ${model.prompt_version}${model.adapter ? ", adapter " + model.adapter.slice(0, 12) : ""}` : rec.model || "the graph, no model"],
    decision?.fallback && ["because", decision.fallback],
    ["decision", rec.decision_id || "could not be logged"],
    decision && ["seed", String(decision.seed)],
  ].filter(Boolean);
  return h("dl", { class: "facts" }, facts.map(([k, v]) => h("div", {}, h("dt", {}, k), h("dd", {}, name(v)))));
}
