// The chains behind one recommended item, drawn: you -> an item you both chose -> a like-minded user -> the item. A chain
// is {via, neighbour, item_id, weight, shared, neighbour_at, effect, drop, measured}: weight is drawn as width, effect says
// in words what the list would lose without it, drop in a few characters.

import { h, s, clean, day } from "./dom.js";

const canvas = document.createElement("canvas").getContext("2d");

// wrap breaks text into at most two lines that are no wider than width.
function wrap(text, width, font) {
  canvas.font = font;
  const fits = (t) => canvas.measureText(t).width <= width;
  const cut = (t) => {
    if (fits(t)) return t;
    let chars = [...t];
    while (chars.length > 1 && !fits(chars.join("") + "…")) chars = chars.slice(0, Math.max(1, chars.length - Math.ceil(chars.length / 12)));
    return chars.join("").trimEnd() + "…";
  };
  if (fits(text)) return [text];
  const words = text.split(" ");
  let line = words.shift();
  while (words.length && fits(line + " " + words[0])) line += " " + words.shift();
  return words.length ? [cut(line), cut(words.join(" "))] : [cut(line)];
}

// sentence says one chain in words.
export function sentence(c, titleOf) {
  const more = c.shared > 1 ? ` (${c.shared} items in common)` : "";
  const when = c.neighbour_at ? ` on ${day(c.neighbour_at)}` : "";
  const effect = c.effect ? ` ${c.effect}` : "";
  return `You and like-minded user ${c.neighbour} both chose “${titleOf(c.via)}”${more}; user ${c.neighbour} chose “${titleOf(c.item_id)}”${when}.${effect}`;
}

const group = (chains, key) => {
  const sums = new Map();
  for (const c of chains) sums.set(c[key], (sums.get(c[key]) || 0) + c.weight);
  return sums;
};

// diagram draws chains of one item into width pixels and returns the figure; legend says what width stands for.
export function diagram(chains, titleOf, width, legend) {
  const compact = width < 560;
  const font = `${compact ? 12 : 13}px ${getComputedStyle(document.body).fontFamily}`;
  const vias = group(chains, "via");
  const people = group(chains, "neighbour");
  const most = Math.max(...chains.map((c) => c.weight), 1e-9);
  const viaIDs = [...vias.keys()].sort((a, b) => vias.get(b) - vias.get(a));
  const place = (n) => {
    const mine = chains.filter((c) => c.neighbour === n);
    return mine.reduce((sum, c) => sum + viaIDs.indexOf(c.via), 0) / mine.length;
  };
  const peopleIDs = [...people.keys()].sort((a, b) => place(a) - place(b) || people.get(b) - people.get(a));

  // Columns: a circle, boxes, circles, a box; what is left over is split between the three gaps.
  const r = compact ? 15 : 20;
  const box = compact ? Math.floor((width - 4 * r - 72) / 2) : Math.min(220, Math.floor((width - 4 * r - 210) / 2));
  const gap = (width - 4 * r - 2 * box - 4) / 3;
  const x = { you: 2 + r, via: 2 + 2 * r + gap, person: 2 + 3 * r + 2 * gap + box, item: 2 + 4 * r + 3 * gap + box };
  const top = 30, step = compact ? 48 : 54, high = compact ? 38 : 42;
  const tallest = Math.max(viaIDs.length, peopleIDs.length, 2);
  const height = top + tallest * step + 2;
  const middle = top + (tallest * step) / 2;
  const row = (i, n) => middle + (i - (n - 1) / 2) * step;
  const y = {
    via: new Map(viaIDs.map((id, i) => [id, row(i, viaIDs.length)])),
    person: new Map(peopleIDs.map((id, i) => [id, row(i, peopleIDs.length)])),
  };
  const thick = (w) => (1.2 + 5 * Math.sqrt(Math.min(1, w / most))).toFixed(1);
  const curve = (x1, y1, x2, y2) => `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`;

  const marks = []; // [element, chains that go through it]
  const through = (key, id) => chains.filter((c) => c[key] === id);
  const mark = (element, mine) => { marks.push([element, mine]); return element; };
  const edge = (kind, d, w, mine) => mark(s("path", { class: `edge ${kind}${mine.some((c) => c.measured !== false) ? "" : " unmeasured"}`, d, "stroke-width": thick(w) }), mine);

  const edges = [];
  for (const id of viaIDs) edges.push(edge("a", curve(x.you + r, middle, x.via, y.via.get(id)), vias.get(id), through("via", id)));
  for (const c of chains) edges.push(edge("b", curve(x.via + box, y.via.get(c.via), x.person - r, y.person.get(c.neighbour)), c.weight, [c]));
  for (const id of peopleIDs) edges.push(edge("c", curve(x.person + r, y.person.get(id), x.item, middle), people.get(id), through("neighbour", id)));

  // What is masked is the edge between a like-minded user and the item: its effect stands there, beside the user.
  const drops = compact ? [] : peopleIDs.flatMap((id) => through("neighbour", id).filter((c) => c.drop).slice(0, 1).map((c) =>
    mark(s("text", { class: "drop", x: x.person + r + 6, y: y.person.get(id) + (y.person.get(id) > middle + 1 ? 18 : -9) }, c.drop), [c])));

  const label = (text, cx, cy, weight) => {
    const lines = wrap(clean(text), box - 16, `${weight} ${font}`);
    return s("text", { class: "label", y: cy }, lines.map((l, i) =>
      s("tspan", { x: cx, y: cy + (i - (lines.length - 1) / 2) * (compact ? 14 : 15.5) + 4.5 }, l)));
  };
  const boxed = (kind, left, cy, text, mine, says) => mark(s("g", { class: "node " + kind, tabindex: 0, role: "img", "aria-label": says },
    s("rect", { x: left, y: cy - high / 2, width: box, height: high, rx: 9 }), label(text, left + box / 2, cy, kind === "item" ? 600 : 400)), mine);
  const round = (kind, cx, cy, text, mine, says) => mark(s("g", { class: "node " + kind, tabindex: 0, role: "img", "aria-label": says },
    s("circle", { cx, cy, r }), s("text", { class: "label", x: cx, y: cy + 4.5 }, text)), mine);

  const item = chains[0].item_id;
  const nodes = [
    round("you", x.you, middle, "you", chains, "You"),
    ...viaIDs.map((id) => boxed("via", x.via, y.via.get(id), titleOf(id), through("via", id), `You chose ${titleOf(id)}`)),
    ...peopleIDs.map((id) => round("person", x.person, y.person.get(id), String(id), through("neighbour", id), through("neighbour", id).map((c) => sentence(c, titleOf)).join(" "))),
    boxed("item", x.item, middle, titleOf(item), chains, `Recommended: ${titleOf(item)}`),
  ];
  const head = (cx, text) => s("text", { class: "col", x: Math.max(0, cx), y: 13 }, text);
  const heads = compact
    ? [head(x.via + box / 2, "you both chose"), head(x.person, "user"), head(x.item + box / 2, "recommended")]
    : [head(x.via + box / 2, "items you both chose"), head(x.person, "like-minded users"), head(x.item + box / 2, "recommended")];

  const svg = s("svg", { class: compact ? "chains compact" : "chains", width, height, viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `${chains.length} chains from you to ${titleOf(item)}` }, heads, edges, nodes, drops);
  const rest = `${legend} Point at a node or a line to follow its chains.`;
  const readout = h("figcaption", { class: "readout" }, rest);
  const follow = (mine) => {
    svg.classList.toggle("following", Boolean(mine));
    for (const [element, its] of marks) element.classList.toggle("lit", Boolean(mine) && its.some((c) => mine.includes(c)));
    readout.textContent = !mine ? rest : mine.length === 1 ? sentence(mine[0], titleOf) : `${mine.length} chains go through here. Strongest: ${sentence(mine.reduce((a, b) => (b.weight > a.weight ? b : a)), titleOf)}`;
  };
  for (const [element, mine] of marks) {
    element.addEventListener("pointerenter", () => follow(mine));
    element.addEventListener("pointerleave", () => follow(null));
    element.addEventListener("focus", () => follow(mine));
    element.addEventListener("blur", () => follow(null));
  }
  return h("figure", {}, svg, readout);
}
