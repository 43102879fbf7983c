/* Clips: which one is shown, all methods side by side, and its scores. */

const pick = { tab: "worst", metric: firstMetric, row: 0, find: "", most: 20, order: [] };
$("pick-metric").append(...options(perClip, metricName));
$("pick-metric").value = pick.metric;
function fillRows() {
  const known = present(pick.metric);
  $("pick-row").replaceChildren(...options(known, nameOf));
  if (!known.includes(pick.row)) pick.row = known.find((r) => !rows[r].control) ?? known[0] ?? 0;
  $("pick-row").value = pick.row;
}
const scramble = (n) => { let x = (n + 1) * 2654435761 % 4294967296; x ^= x >>> 15; x = Math.imul(x, 2246822519); return (x ^ (x >>> 13)) >>> 0; };
function ranked() {
  const { tab, metric: m, row: r } = pick;
  let found = samples.map((_, s) => s);
  const needle = pick.find.trim().toLowerCase();
  if (needle) found = found.filter((s) => `${samples[s].id} ${samples[s].who} ${samples[s].set}`.toLowerCase().includes(needle));
  if (tab === "random") return found.sort((a, b) => scramble(a) - scramble(b));
  const key = tab === "disagree"
    ? (s) => { const v = present(m).filter((q) => !rows[q].control).map((q) => valueAt(m, q, s)).filter((v) => v !== null); return v.length > 1 ? -(Math.max(...v) - Math.min(...v)) : null; }
    : (s) => { const v = valueAt(m, r, s); return v === null ? null : goodness(m) * v * (tab === "worst" ? 1 : -1); };
  const keys = new Map(found.map((s) => [s, key(s)]));
  const rank = (s) => (keys.get(s) === null ? Infinity : keys.get(s));
  return found.sort((a, b) => (rank(a) === rank(b) ? a - b : rank(a) - rank(b)));
}
/** Where the methods lie on this clip, as a strip of dots. */
function dots(s) {
  const m = pick.metric;
  const all = (values[m] ?? []).flatMap((line) => (line ? line.filter((v) => v !== null) : []));
  const x = linear(Math.min(...all), Math.max(...all), 4, 196);
  const svg = draw("svg", { viewBox: "0 0 200 9", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(draw("path", { class: "axis", d: "M0 4.5H200" }));
  for (const r of present(m).sort((a, b) => (a === pick.row) - (b === pick.row))) {
    const v = valueAt(m, r, s);
    if (v === null || (rows[r].control && r !== pick.row)) continue;
    // A dot is a stroke of no length: it stays round while the strip stretches.
    svg.append(draw("path", { d: `M${x(v).toFixed(1)} 4.5h0`, class: r === pick.row ? "chosen" : "" }));
  }
  return svg;
}
function list() {
  pick.order = ranked();
  const shown = pick.order.slice(0, pick.most);
  $("pick-row-field").hidden = pick.tab === "disagree";
  $("pick-list").replaceChildren(...shown.map((s) => make("li", {},
    make("button", { type: "button", "aria-current": s === current ? "true" : null, title: samples[s].id, onclick: () => open(s, null, false) },
      make("span", { class: "id" }, samples[s].id), make("span", { class: "value" }, show(pick.metric, valueAt(pick.metric, pick.row, s))), dots(s)))));
  if (!shown.length) $("pick-list").append(make("li", { class: "hint" }, "No clip matches."));
  $("pick-more").hidden = pick.order.length <= pick.most;
  $("pick-more").textContent = `Show more (${pick.order.length - pick.most})`;
}
const tabs = [...document.querySelectorAll("[data-tab]")];
function chooseTab(tab, first = true) {
  pick.tab = tab.dataset.tab;
  pick.most = 20;
  for (const t of tabs) { t.setAttribute("aria-selected", String(t === tab)); t.tabIndex = t === tab ? 0 : -1; }
  list();
  if (first && pick.order.length) open(pick.order[0], null, false);
}
tabs.forEach((tab, n) => {
  tab.addEventListener("click", () => chooseTab(tab));
  tab.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault(); event.stopPropagation();
    const next = tabs[(n + by + tabs.length) % tabs.length];
    next.focus(); chooseTab(next);
  });
});
$("pick-metric").addEventListener("change", () => { pick.metric = Number($("pick-metric").value); fillRows(); list(); players(); writeAddress(); });
$("pick-row").addEventListener("change", () => { pick.row = Number($("pick-row").value); list(); outline(); writeAddress(); });
$("pick-find").addEventListener("input", () => { pick.find = $("pick-find").value; list(); });
$("pick-more").addEventListener("click", () => { pick.most += 60; list(); });

// ---------------------------------------------------------------- all methods side by side
const under = (r) => (rows[r].gate === "none" ? "control" : rows[r].gate);
function card(title, gate, r, key, screen, foot) {
  const moves = screen.tagName === "VIDEO";
  const speaker = moves ? make("button", { type: "button", "data-key": key, "aria-label": `Sound of ${title} ${gate}`, "aria-pressed": "false", title: "Sound (M)", onclick: () => listen(key) }, icon("sound")) : null;
  const frame = make("div", { class: "screen", onclick: moves ? toggle : () => {} }, screen);
  return make("article", { class: "player", "data-row": r ?? null }, make("header", {}, make("strong", { title }, title), make("span", {}, gate), speaker), frame, foot);
}
function footer(r) {
  const m = pick.metric;
  const shown = [m, ...perClip.filter((i) => i !== m && metrics[i].direction !== "none")].slice(0, 3);
  const lost = why[r][current] && clips[r][current] ? make("span", { class: "lost", title: why[r][current] }, why[r][current]) : null;
  return make("footer", {}, lost, ...shown.filter((i) => valueAt(i, r, current) !== null).map((i) =>
    make("span", { title: metrics[i].protocol }, `${metrics[i].label} `, make("b", {}, show(i, valueAt(i, r, current))))));
}
/** The clip of the ground-truth row. */
const truthLink = () => clips[rows.findIndex((row) => row.method === "ground-truth")]?.[current] ?? "";
const extraOf = (r) => data.curves.of && data.curves.of[`${r},${current}`];
/** Rows that planned anything for the clip. */
const planned = () => [...rows.keys()].filter((r) => clips[r][current] || why[r][current] || values.some((line) => line[r] && line[r][current] !== null));
function players() {
  if (current < 0) return;
  const s = samples[current];
  const resume = playing;
  pause();
  videos = [];
  const sources = [["null", "none"], ...(s.video ? [["reference", "reference"]] : []), ...planned().filter((r) => clips[r][current]).map((r) => [String(r), nameOf(r)])];
  $("sound").replaceChildren(...sources.map(([key, name]) => make("option", { value: key }, name)));
  if (comparing()) {
    $("players").replaceChildren();
    compare();
  } else {
    const made = [];
    if (s.image) made.push(card("Reference", "picture", null, null, make("img", { src: s.image, alt: `Reference picture of ${s.who}`, loading: "lazy" }), null));
    if (s.video) made.push(card("Reference", "video", null, "reference", video(s.video, "reference"), null));
    for (const r of planned()) {
      const screen = clips[r][current] ? video(clips[r][current], r, extraOf(r)?.fps) : make("div", { class: "absent" }, why[r][current] || "No clip recorded");
      made.push(card(rows[r].method, under(r), r, r, screen, footer(r)));
    }
    $("players").replaceChildren(...made);
  }
  $("now").textContent = s.id;
  $("now-who").textContent = [s.who !== s.id ? s.who : "", s.set].filter(Boolean).join(" · ");
  outline();
  sound();
  speed();
  if (resume) videos[0]?.addEventListener("loadeddata", play, { once: true });
  scores();
  sheet();
  curveRows();
  tick();
}
function outline() {
  for (const node of $("players").children) node.classList.toggle("chosen", node.dataset.row === String(pick.row));
}

// ---------------------------------------------------------------- scores of one clip
function scores() {
  const shown = perClip.filter((m) => values[m].some((line) => line && line[current] !== null));
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Method"),
    ...shown.map((m) => make("th", { scope: "col", class: "num", title: metrics[m].protocol }, metrics[m].label, make("span", { class: "arrow" }, arrow(m))))));
  const body = make("tbody");
  rows.forEach((row, r) => {
    if (!shown.some((m) => valueAt(m, r, current) !== null)) return;
    body.append(make("tr", {}, make("th", { scope: "row" }, make("span", {}, nameOf(r))), ...shown.map((m) => {
      const v = valueAt(m, r, current);
      const all = values[m].map((line) => (line ? line[current] : null)).filter((x) => x !== null);
      const low = Math.min(...all), high = Math.max(...all);
      const cell = make("td", { class: "num" }, show(m, v));
      if (v !== null && high > low && metrics[m].direction !== "none") {
        const share = (v - low) / (high - low);
        cell.classList.add("tinted");
        cell.style.setProperty("--tint", goodness(m) > 0 ? share : 1 - share);
      }
      return cell;
    })));
  });
  $("scores").replaceChildren(head, body);
}

// ---------------------------------------------------------------- opening a clip
function open(s, r, scroll) {
  current = s;
  region = null;
  if (r !== null && present(pick.metric).includes(r)) { pick.row = r; $("pick-row").value = r; }
  players();
  list();
  showRegion();
  for (const dot of $("plot").querySelectorAll("circle")) dot.setAttribute("class", Number(dot.dataset.s) === s ? "here" : "");
  if (scroll) $("samples").scrollIntoView();
}
function neighbour(by) {
  if (!pick.order.length) return;
  const at = pick.order.indexOf(current);
  const next = (at + by + pick.order.length) % pick.order.length;
  if (next >= pick.most) { pick.most = next + 1; list(); }
  open(pick.order[next], null, false);
}
$("previous").addEventListener("click", () => neighbour(-1));
$("next").addEventListener("click", () => neighbour(1));
