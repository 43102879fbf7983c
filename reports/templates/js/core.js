/* Elements, theme, address and data: what every other part stands on. All parts are joined into one function. */

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

/** Create an element; text is always text, never markup. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((c) => c !== null));
  return node;
}
function draw(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
const icon = (name) => draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, draw("use", { href: `#i-${name}` }));
const press = (button, on) => button.setAttribute("aria-pressed", String(on));
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

// ---------------------------------------------------------------- theme
const root = document.documentElement;
const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off for files */ } };
try { const saved = localStorage.getItem("bench-theme"); if (saved) root.dataset.theme = saved; } catch { /* as above */ }
$("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  store("bench-theme", root.dataset.theme);
});

// ---------------------------------------------------------------- the address follows what is shown
/** What the address keeps: under which name, how to read it, how to apply it. Applied in this order. */
const kept = [];
const keep = (key, read, apply) => kept.push({ key, read, apply });
let written = location.hash;
let writing = 0;
function writeAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const parts = kept.map(({ key, read }) => [key, read()]).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    written = `#${parts.map(([key, value]) => `${key}=${encodeURIComponent(value)}`).join("&")}`;
    // Some browsers refuse to rewrite the address of a file; following a link within the page always works.
    try { history.replaceState(null, "", written); } catch { location.replace(written); }
  }, 100);
}
/** Show what the address names; returns whether it names anything. */
function readAddress() {
  const found = new Map();
  for (const part of location.hash.slice(1).split("&")) {
    const at = part.indexOf("=");
    if (at < 1) continue;
    try { found.set(part.slice(0, at), decodeURIComponent(part.slice(at + 1))); } catch { /* not ours */ }
  }
  for (const { key, apply } of kept) if (found.has(key)) apply(found.get(key));
  return found.size > 0;
}
addEventListener("hashchange", () => { if (location.hash !== written) readAddress(); });

/** Go to a section without losing what the address holds. */
for (const link of document.querySelectorAll(".bar nav a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    $(link.hash.slice(1)).scrollIntoView();
  });
}
/** Links to a protocol lead into a closed box. */
function unfold() {
  const target = location.hash.startsWith("#protocol-") && $(location.hash.slice(1));
  if (!target) return;
  target.closest("details").open = true;
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// ---------------------------------------------------------------- printing
/** On paper nothing can be opened: what is folded is printed, and folded again afterwards. */
let unfolded = [];
addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const box of unfolded) box.open = true;
});
addEventListener("afterprint", () => { for (const box of unfolded) box.open = false; });

// ---------------------------------------------------------------- copying
async function copy(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = make("textarea", { readonly: true, class: "offscreen" });
    box.value = text;
    document.body.append(box);
    box.select();
    done = document.execCommand("copy");
    box.remove();
  }
  const before = button.dataset.label || (button.dataset.label = button.textContent);
  button.textContent = done ? "Copied" : "Not allowed here";
  setTimeout(() => { button.textContent = before; }, 1500);
}
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copy($(button.dataset.copies).textContent, button));
}

// ---------------------------------------------------------------- help
const help = $("help");
$("help-open").addEventListener("click", () => help.showModal());
help.addEventListener("click", (event) => { if (event.target === help) help.close(); });
/** Whether a key belongs to the element that has the focus. */
const types = (node) => node.matches("input:not([type=range], [type=checkbox]), select, textarea, [role=tab]");
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || types(event.target)) return;
  if (event.key === "?") { event.preventDefault(); if (help.open) help.close(); else help.showModal(); }
  if (event.key === "/" && !help.open) { event.preventDefault(); $("table-find").focus(); }
});

// ---------------------------------------------------------------- the data
const data = JSON.parse($("data").textContent);
const { rows, samples, metrics, values, clips, why } = data;
const nameOf = (r) => rows[r].method + (rows[r].gate === "none" ? "" : ` · ${rows[r].gate}`);
const idOf = (r) => `${rows[r].method}/${rows[r].gate}`;
const rowNamed = (id) => rows.findIndex((_, r) => idOf(r) === id);
const metricNamed = (id) => metrics.findIndex((m) => m.id === id);
const valueAt = (m, r, s) => values[m]?.[r]?.[s] ?? null;
const show = (m, v) => {
  if (v === null || v === undefined) return "—";
  const x = v * metrics[m].scale;
  return Math.abs(x) >= 1e6 ? x.toExponential(2) : x.toFixed(metrics[m].digits);
};
const signed = (m, v) => (v > 0 ? "+" : "") + show(m, v);
const arrow = (m) => ({ higher: " ↑", lower: " ↓" }[metrics[m].direction] || "");
const metricName = (m) => {
  const same = metrics.filter((x) => x.label === metrics[m].label).length > 1;
  return metrics[m].label + arrow(m) + (same ? ` (${metrics[m].protocol})` : "");
};
const goodness = (m) => (metrics[m].direction === "lower" ? -1 : 1);
/** Rows that have a score of their own for every clip in this metric. */
const present = (m) => [...rows.keys()].filter((r) => values[m]?.[r]);
const perClip = metrics.map((_, m) => m).filter((m) => present(m).length);
const options = (indices, name) => indices.map((i) => make("option", { value: i }, name(i)));
const firstMetric = perClip.find((m) => metrics[m].direction !== "none") ?? perClip[0] ?? 0;
/** What waits for the address to be read, and what is drawn to the width of the window. */
const whenDrawn = [];
const whenResized = [];
