"use strict";

// Everything shown is set as text, never as markup: names of files come from anywhere.
const byId = (id) => document.getElementById(id);
const UP = document.body.dataset.up;
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const SVG = "http://www.w3.org/2000/svg";

// Characters that control, turn or hide what is around them are written out, as in every other place.
const MISLEADING =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

function shown(text) {
  return String(text ?? "").replace(MISLEADING, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

// Makes an element: el("p.kind", { href: "…" }, "text", child, …). What is null is left out.
function el(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split(".");
  const made = document.createElement(tag);
  if (classes.length) made.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") {
      made.append(child instanceof Node ? child : shown(child));
    }
  }
  return made;
}

// Makes what is there equal to what is wanted; elements that stay keep the focus.
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, [...fresh.childNodes]);
}

function morphChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.children) if (child.dataset?.key) keyed.set(child.dataset.key, child);
  let at = parent.firstChild;
  for (const fresh of wanted) {
    const same = fresh.dataset?.key ? keyed.get(fresh.dataset.key) : at;
    const fits = same && same.nodeName === fresh.nodeName && same.dataset?.key === fresh.dataset?.key;
    if (!fits) {
      parent.insertBefore(fresh, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else parent.insertBefore(same, at);
    if (fresh.nodeType !== Node.TEXT_NODE) morph(same, fresh);
    else if (same.data !== fresh.data) same.data = fresh.data;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit ? count.toFixed(count < 100 ? 1 : 0) : count} ${UNITS[unit]}`;
}

const counted = (count, one, many) => `${count} ${count === 1 ? one : many ?? `${one}s`}`;
const percent = (part, whole) => (whole ? Math.floor((100 * part) / whole) : 100);

function duration(seconds) {
  const steps = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = steps.findIndex(([length]) => seconds >= length);
  if (first < 0) return "0 s";
  const [length, unit] = steps[first];
  const rest = first < 2 ? Math.floor((seconds % length) / steps[first + 1][0]) : 0;
  return `${Math.floor(seconds / length)} ${unit}${rest ? ` ${rest} ${steps[first + 1][1]}` : ""}`;
}

function moment(text) {
  const seconds = (Date.now() - new Date(text)) / 1000;
  const said = seconds < 0 ? `in ${duration(-seconds)}` : seconds < 5 ? "just now" : `${duration(seconds)} ago`;
  return el("time", { datetime: text, title: new Date(text).toLocaleString() }, said);
}

const since = (text) => el("time", { datetime: text, title: new Date(text).toLocaleString() },
  duration(Math.max(0, (Date.now() - new Date(text)) / 1000)));


function cure(text) {
  if (!text) return null;
  const isCommand = /^dropferry [a-z-]+( [^ ]+){0,3}$/.test(text);
  return el("p.cure", null, el("span.label", null, "To do:"), " ",
    isCommand ? el("code", null, text.split(" ").flatMap((word, at) => [at ? " " : "", el("span.whole", null, word)])) : text);
}

// A word for a state, with a sign beside its colour.
const SIGNS = { good: "✓", bad: "!", wait: "…", move: "↑", idle: "–" };
function badge(kind, words) {
  return el(`span.badge.${kind}`, null, el("span.sign", { "aria-hidden": "true" }, SIGNS[kind]), " ", words);
}

function bar(part, whole, label) {
  return el("progress", {
    max: Math.max(whole, 1), value: whole ? Math.min(part, whole) : 1,
    "aria-label": `${label}: ${percent(part, whole)} %`,
  });
}

// A path may be broken behind each slash, a name behind each underscore.
const pathOf = (text) => shown(text).split(/(?<=[/_])/).flatMap((name, at) => (at ? [el("wbr"), name] : [name]));
const address = (url) => (/^https?:\/\//.test(url ?? "") ? url : null);
const runPath = (drop, run) => `${UP}runs/${encodeURIComponent(drop)}/${encodeURIComponent(run)}`;

// --- throughput

let sent = null;

function curve(of, label, span) {
  const rates = [...Array(Math.max(0, of.count - of.bytes.length)).fill(null), ...of.bytes.map((sum) => sum / of.step_seconds)];
  const most = Math.max(0, ...rates);
  const sum = of.bytes.reduce((one, other) => one + other, 0);
  const scale = most || 1;
  const known = rates.findIndex((rate) => rate !== null);
  const points = rates.slice(known).map((rate, index) => `${known + index},${(100 - (96 * rate) / scale).toFixed(1)}`);
  const svg = document.createElementNS(SVG, "svg");
  const set = (node, attributes) => Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  const text = `Sent in ${label}: ${bytes(sum)}, at most ${bytes(Math.round(most))} a second`;
  set(svg, { viewBox: `0 0 ${rates.length - 1} 100`, preserveAspectRatio: "none", role: "img", "aria-label": text });
  if (points.length > 1) {
    const area = document.createElementNS(SVG, "polygon");
    set(area, { class: "area", points: `${known},100 ${points.join(" ")} ${rates.length - 1},100` });
    const line = document.createElementNS(SVG, "polyline");
    set(line, { class: "curve", points: points.join(" ") });
    svg.append(area, line);
  }
  return el("figure", null,
    el("figcaption", null, el("b", null, label[0].toUpperCase() + label.slice(1)), ` · ${bytes(sum)} sent · at most ${bytes(Math.round(most))}/s`),
    svg,
    el("p.axis", { "aria-hidden": "true" }, el("span", null, `${span} ago`), el("span", null, "now")));
}

function plots() {
  if (!sent) return null;
  const covers = Date.now() - new Date(sent.since) > 86400e3;
  return el("section", { "data-key": "plots" }, el("h2", null, "Throughput"),
    el("div.cards.plots", null, curve(sent.hour, "the last hour", "1 h"), curve(sent.day, "the last day", "24 h")),
    covers ? null : el("p.facts", null, "Known since the daemon started, ", moment(sent.since), "."));
}
