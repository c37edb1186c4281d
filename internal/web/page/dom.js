// Building the document. Text goes in as text nodes only: titles and ids are written by strangers.

export const $ = (id) => document.getElementById(id);

// h makes an element. Properties that start with "on" are listeners, the others attributes; null, false and undefined
// leave the attribute out. Children are nodes or text.
export function h(tag, props = {}, ...children) {
  return build(document.createElement(tag), props, children);
}

// s makes an SVG element.
export function s(tag, props = {}, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);
}

function build(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// clean takes out what would reorder or break a line: bidirectional overrides and isolates, controls, line separators.
export const clean = (text) => String(text ?? "").replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, " ").trim();

// name shows text of a stranger, isolated from the direction of what stands around it.
export const name = (text) => h("bdi", {}, clean(text) || "(no title)");

export const count = (n) => Math.round(n).toLocaleString("en-GB");
export const percent = (x) => (100 * x).toFixed(x < 0.0995 ? 1 : 0) + " %";

export function day(at) {
  const date = new Date(at);
  if (isNaN(date)) return "";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
}

// tags shows at most most categories.
export const tags = (categories, most = 3) =>
  (categories || []).slice(0, most).map((c) => h("span", { class: "cat" }, name(c)));

export const calm = matchMedia("(prefers-reduced-motion: reduce)");
