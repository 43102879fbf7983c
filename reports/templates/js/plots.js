/* Plots that decide: trade-off of two metrics, profile over the summary's columns, paired differences. */

const { means, pairs, noise, sets } = data.decide;
let set = 0;
const meanAt = (m, r) => means[set]?.[m]?.[r] ?? null;
const measured = metrics.map((_, m) => m).filter((m) => means.some((lines) => lines[m]));
const methodRows = rows.map((_, r) => r).filter((r) => !rows[r].control);
const colour = (r) => (rows[r].control ? "var(--dot)" : `var(--c${methodRows.indexOf(r) % 8})`);
const dashed = (r) => (methodRows.indexOf(r) >= 8 ? "5 3" : null);

/** Round numbers between low and high: 1, 2 or 5 times a power of ten apart. */
function ticks(low, high, count) {
  const rough = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(10)));
  return found;
}
const linear = (low, high, from, to) => (v) => from + ((v - low) / (high - low || 1)) * (to - from);
function words(svg, content, attributes) {
  const node = draw("text", attributes);
  node.textContent = content;
  svg.append(node);
  return node;
}
const widthOf = (box) => Math.max(300, box.clientWidth);
/** What a mean says in one line. */
function told(m, r) {
  const [value, low, high, scored, planned, few] = meanAt(m, r);
  const ends = low === null ? "" : few ? ` (people from ${show(m, low)} to ${show(m, high)}: too few for an interval)` : ` (95 % interval ${show(m, low)} to ${show(m, high)})`;
  return `${metrics[m].label} ${show(m, value)}${ends}, ${scored} of ${planned} scored`;
}
const caption = (m, plain) => (metrics[m].direction === "none" ? metrics[m].label : `${metrics[m].label}${arrow(m)}   ${plain}`);

// ---------------------------------------------------------------- what re-encoding alone does
/** The row that bands of noise lie around: the real video, or the first row. */
const centreOf = (shown) => shown.find((r) => rows[r].method === "ground-truth") ?? shown[0];
/** A band over an axis from `low` to `high`, cut at the ends of the plot. */
function noiseBand(svg, [from, to], [first, last], upright, [start, end], title) {
  const [low, high] = [clamp(Math.min(from, to), first, last), clamp(Math.max(from, to), first, last)];
  const size = Math.max(1, high - low);
  const box = upright ? { x: low, width: size, y: start, height: end - start } : { x: start, width: end - start, y: low, height: size };
  svg.append(draw("rect", { class: "noise", ...box }, draw("title")));
  svg.lastChild.firstChild.textContent = title;
}
/** Say under a plot what its bands mean; without any measured floor there are none. */
function noiseNote(id, shown, said) {
  const known = shown.filter((m) => metrics[m].noise !== undefined);
  $(id).hidden = !known.length;
  if (known.length) $(id).textContent = `${said} (${known.map((m) => `${metrics[m].label} ${show(m, metrics[m].noise)}`).join(", ")}).`;
}

// ---------------------------------------------------------------- trade-off
function tradeoff() {
  const box = $("tradeoff");
  const [mx, my] = [Number($("x-metric").value), Number($("y-metric").value)];
  const shown = rows.map((_, r) => r).filter((r) => meanAt(mx, r) && meanAt(my, r));
  box.replaceChildren();
  if (!shown.length) { box.append(make("p", { class: "hint" }, "No method has both numbers.")); $("tradeoff-noise").hidden = true; return; }
  const W = widthOf(box), H = 350, left = 58, right = 16, top = 14, bottom = 46;
  const ends = (m) => {
    const all = shown.flatMap((r) => meanAt(m, r).slice(0, 3).filter((v) => v !== null));
    const low = Math.min(...all), high = Math.max(...all), pad = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - pad, high + pad];
  };
  const [x0, x1] = ends(mx), [y0, y1] = ends(my);
  const x = linear(x0, x1, left, W - right), y = linear(y0, y1, H - bottom, top);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${metrics[mx].label} against ${metrics[my].label}` });
  const [sx, sy] = [metrics[mx].scale, metrics[my].scale];
  for (const t of ticks(x0 * sx, x1 * sx, W < 480 ? 4 : 6)) {
    svg.append(draw("line", { class: "axis", x1: x(t / sx), x2: x(t / sx), y1: top, y2: H - bottom }));
    words(svg, String(t), { x: x(t / sx), y: H - bottom + 16, "text-anchor": "middle" });
  }
  for (const t of ticks(y0 * sy, y1 * sy, 5)) {
    svg.append(draw("line", { class: "axis", x1: left, x2: W - right, y1: y(t / sy), y2: y(t / sy) }));
    words(svg, String(t), { x: left - 8, y: y(t / sy) + 4, "text-anchor": "end" });
  }
  words(svg, caption(mx, goodness(mx) > 0 ? "better →" : "← better"), { class: "name", x: (left + W - right) / 2, y: H - 8, "text-anchor": "middle" });
  words(svg, caption(my, goodness(my) > 0 ? "better →" : "← better"), { class: "name", x: 0, y: 0, transform: `translate(13 ${(top + H - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" });
  const centre = centreOf(shown);
  for (const [m, scale, upright] of [[mx, x, true], [my, y, false]]) {
    const floor = metrics[m].noise, mean = meanAt(m, centre)[0];
    const across = upright ? [left, W - right] : [top, H - bottom], along = upright ? [top, H - bottom] : [left, W - right];
    if (floor !== undefined) noiseBand(svg, [scale(mean - floor), scale(mean + floor)], across, upright, along, `${metrics[m].label} within re-encoding noise of ${nameOf(centre)}`);
  }
  noiseNote("tradeoff-noise", mx === my ? [mx] : [mx, my], `Shaded: not further from ${nameOf(centre)} than re-encoding alone moves a mean on this split`);
  front(svg, shown, mx, my, x, y);
  const taken = shown.map((r) => ({ x: x(meanAt(mx, r)[0]) - 6, y: y(meanAt(my, r)[0]) - 6, w: 12, h: 12 }));
  for (const r of [...shown].reverse()) {
    const a = meanAt(mx, r), b = meanAt(my, r), cx = x(a[0]), cy = y(b[0]);
    const group = draw("g", { class: `point${rows[r].control ? " control" : ""}`, style: `--own:${colour(r)}` });
    const title = draw("title");
    title.textContent = `${nameOf(r)}: ${told(mx, r)}; ${told(my, r)}`;
    group.append(title);
    if (a[1] !== null) group.append(draw("line", { class: a[5] ? "few" : "", x1: x(a[1]), x2: x(a[2]), y1: cy, y2: cy }));
    if (b[1] !== null) group.append(draw("line", { class: b[5] ? "few" : "", x1: cx, x2: cx, y1: y(b[1]), y2: y(b[2]) }));
    group.append(draw("circle", { cx, cy, r: 5.5 }));
    const name = nameOf(r), w = 6.4 * name.length + 4;
    const places = [[cx + 9, cy + 4], [cx - 9 - w, cy + 4], [cx - w / 2, cy - 10], [cx - w / 2, cy + 20], [cx + 8, cy - 9], [cx + 8, cy + 17], [cx - w - 8, cy - 9], [cx - w - 8, cy + 17]];
    const free = places.map(([px, py]) => ({ x: px, y: py - 11, w, h: 14 })).find((b) =>
      b.x > left && b.x + b.w < W && b.y > 0 && b.y < H - bottom - 8 && !taken.some((t) => t.x < b.x + b.w && b.x < t.x + t.w && t.y < b.y + b.h && b.y < t.y + t.h));
    if (free) { taken.push(free); words(group, name, { class: "name", x: free.x, y: free.y + 11 }); }
    group.addEventListener("mouseenter", () => { $("tradeoff-tip").textContent = title.textContent; });
    svg.append(group);
  }
  box.append(svg);
}
/** Join the methods that no other one beats in both metrics. */
function front(svg, shown, mx, my, x, y) {
  if (metrics[mx].direction === "none" || metrics[my].direction === "none") return;
  const at = (r) => [goodness(mx) * meanAt(mx, r)[0], goodness(my) * meanAt(my, r)[0]];
  const competing = shown.filter((r) => !rows[r].control);
  const best = competing.filter((r) => !competing.some((q) => { const [a, b] = at(r), [c, d] = at(q); return c >= a && d >= b && (c > a || d > b); }));
  if (best.length < 2) return;
  best.sort((p, q) => meanAt(mx, p)[0] - meanAt(mx, q)[0]);
  svg.append(draw("path", { class: "front", d: best.map((r, i) => `${i ? "L" : "M"}${x(meanAt(mx, r)[0]).toFixed(1)} ${y(meanAt(my, r)[0]).toFixed(1)}`).join("") }));
}

// ---------------------------------------------------------------- profile: parallel axes
const lit = new Set();
function profile() {
  const box = $("profile");
  const axes = metrics.map((_, m) => m).slice(0, data.first).filter((m) => metrics[m].direction !== "none" && rows.filter((_, r) => meanAt(m, r)).length > 1);
  $("profile-card").hidden = axes.length < 3;
  if (axes.length < 3) return;
  box.replaceChildren();
  const W = Math.max(widthOf(box), 110 * axes.length), H = 300, side = 56, top = 46, bottom = 26;
  const x = (i) => side + (i * (W - 2 * side)) / (axes.length - 1);
  const scales = axes.map((m) => {
    const all = rows.map((_, r) => meanAt(m, r)?.[0]).filter((v) => v !== undefined);
    const low = Math.min(...all), high = Math.max(...all);
    const [worst, best] = goodness(m) > 0 ? [low, high] : [high, low];
    return { worst, best, y: linear(worst, best, H - bottom, top) };
  });
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": "Every method over the columns of the summary", style: `min-width:${W > box.clientWidth ? W : 0}px` });
  axes.forEach((m, i) => {
    svg.append(draw("line", { class: "axis", x1: x(i), x2: x(i), y1: top, y2: H - bottom }));
    words(svg, metrics[m].label + arrow(m), { class: "name", x: x(i), y: 14, "text-anchor": "middle" });
    words(svg, show(m, scales[i].best), { x: x(i), y: top - 10, "text-anchor": "middle" });
    words(svg, show(m, scales[i].worst), { x: x(i), y: H - 8, "text-anchor": "middle" });
    const { best, y } = scales[i], floor = metrics[m].noise;
    if (floor !== undefined) noiseBand(svg, [y(best), y(best - goodness(m) * floor)], [top, H - bottom], false, [x(i) - 9, x(i) + 9], `${metrics[m].label} within re-encoding noise of the best`);
  });
  noiseNote("profile-noise", axes, "Shaded: not further from the best than re-encoding alone moves a mean on this split");
  const drawn = [...rows.keys()].filter((r) => axes.some((m) => meanAt(m, r)));
  for (const r of [...drawn].reverse()) {
    let path = "", pen = "M";
    axes.forEach((m, i) => {
      const mean = meanAt(m, r);
      if (!mean) { pen = "M"; return; }
      path += `${pen}${x(i).toFixed(1)} ${scales[i].y(mean[0]).toFixed(1)}`;
      pen = "L";
    });
    const line = draw("path", { class: `profile${rows[r].control ? " control" : ""}`, d: path, style: `--own:${colour(r)}`, "stroke-dasharray": dashed(r), "data-r": r });
    const title = draw("title");
    title.textContent = nameOf(r);
    line.append(title);
    svg.append(line);
  }
  box.append(svg);
  $("profile-legend").replaceChildren(...drawn.map((r) => make("button", {
    type: "button", class: rows[r].control ? "control" : "", "aria-pressed": String(lit.has(r)), style: `--own:${colour(r)}`,
    onclick: (event) => { if (lit.has(r)) lit.delete(r); else lit.add(r); press(event.currentTarget, lit.has(r)); light(); },
    onmouseenter: () => light(r), onmouseleave: () => light(),
  }, nameOf(r))));
  light();
}
/** Bring the chosen lines, or the one pointed at, to the front. */
function light(pointed) {
  const chosen = pointed === undefined ? lit : new Set([...lit, pointed]);
  for (const line of $("profile").querySelectorAll("path")) line.classList.toggle("dim", chosen.size > 0 && !chosen.has(Number(line.dataset.r)));
}

// ---------------------------------------------------------------- paired differences
const VERDICTS = { better: "better", worse: "worse", open: "no difference shown", few: "cannot decide" };
function differences() {
  const box = $("differences");
  const m = Number($("difference-metric").value), base = Number($("difference-base").value);
  box.replaceChildren();
  const found = (pairs[set]?.[m] ?? []).filter(([a, b]) => a === base || b === base).map(([a, b, gain, low, high, n, people, fair]) => {
    const turn = b === base ? 1 : -1;
    const [l, h] = turn > 0 || low === null ? [low, high] : [-high, -low];
    const sigma = Math.hypot(noise[m][a] ?? NaN, noise[m][b] ?? NaN) / Math.SQRT2;
    const verdict = l === null ? "few" : l > 0 ? "better" : h < 0 ? "worse" : "open";
    return { r: turn > 0 ? a : b, gain: turn * gain, low: l, high: h, n, people, fair, band: 1.96 * sigma, verdict };
  });
  found.sort((p, q) => rows[p.r].control - rows[q.r].control || q.gain - p.gain);
  if (!found.length) { box.append(make("p", { class: "hint" }, "Nothing was scored on the same clips.")); $("difference-note").textContent = ""; $("difference-noise").hidden = true; return; }
  const W = widthOf(box), narrow = W < 560, left = narrow ? 8 : Math.min(230, 20 + 7 * Math.max(...found.map((d) => nameOf(d.r).length))), right = narrow ? 12 : 168;
  const H = narrow ? 50 : 30, top = 24, height = top + H * found.length + 26;
  const reach = Math.max(...found.flatMap((d) => [d.gain, d.low ?? 0, d.high ?? 0, d.band || 0].map(Math.abs))) * 1.06 || 1;
  const x = linear(-reach, reach, left, W - right), scale = metrics[m].scale;
  const svg = draw("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": `Differences to ${nameOf(base)} in ${metrics[m].label}` });
  words(svg, "← worse", { x: left, y: 12 });
  words(svg, "better →", { x: W - right, y: 12, "text-anchor": "end" });
  for (const t of ticks(-reach * scale, reach * scale, narrow ? 4 : 5)) {
    svg.append(draw("line", { class: t ? "axis" : "zero", x1: x(t / scale), x2: x(t / scale), y1: top - 4, y2: height - 22 }));
    words(svg, (t > 0 ? "+" : "") + t, { x: x(t / scale), y: height - 6, "text-anchor": "middle" });
  }
  const floor = metrics[m].noise;
  if (floor !== undefined) noiseBand(svg, [x(-floor), x(floor)], [left, W - right], true, [top - 4, height - 22], `${metrics[m].label} within re-encoding noise of ${nameOf(base)}`);
  noiseNote("difference-noise", [m], "Shaded: differences that re-encoding alone makes on this split");
  found.forEach((d, n) => {
    const y = top + n * H + (narrow ? 34 : H / 2);
    const group = draw("g", { class: `difference ${d.verdict}` });
    if (d.band) group.append(draw("rect", { class: "band", x: x(-d.band), width: x(d.band) - x(-d.band), y: y - H * 0.32, height: H * 0.64 }));
    words(group, nameOf(d.r), narrow ? { class: "name", x: left, y: top + n * H + 16 } : { class: "name", x: left - 10, y: y + 4, "text-anchor": "end" });
    if (d.low !== null) group.append(draw("line", { class: "whisker", x1: x(d.low), x2: x(d.high), y1: y, y2: y }));
    group.append(draw("circle", { cx: x(d.gain), cy: y, r: 5 }));
    const said = `${signed(m, d.gain)} ${narrow ? { better: "▲", worse: "▼" }[d.verdict] ?? "" : VERDICTS[d.verdict]}`;
    words(group, said, narrow ? { x: W - right, y: top + n * H + 16, "text-anchor": "end", class: "verdict" } : { x: W - right + 12, y: y + 4, class: "verdict" });
    const title = draw("title");
    title.textContent = `${nameOf(d.r)} against ${nameOf(base)}: ${signed(m, d.gain)}`
      + (d.low === null ? `, cannot decide with ${d.people} identities` : `, 95 % interval ${signed(m, d.low)} to ${signed(m, d.high)}`)
      + `, ${d.n} clips${d.people ? ` of ${d.people} identities` : ""}${d.fair ? "" : " (those that both have scored)"}`;
    group.append(title);
    group.addEventListener("mouseenter", () => { $("difference-tip").textContent = title.textContent; });
    svg.append(group);
  });
  box.append(svg);
  const few = found.some((d) => d.verdict === "few");
  $("difference-note").textContent = [
    few ? `With ${Math.min(...found.map((d) => d.people))} identities there is no honest interval: ten are needed.` : "",
    found.some((d) => d.band) ? "Grey: what other seeds alone move it by (95 %)." : "Whether other seeds move it as far is unknown without repeats (--repeats 2).",
  ].filter(Boolean).join(" ");
}

// ---------------------------------------------------------------- choosing
const decided = measured.filter((m) => pairs.some((lines) => lines[m].length));
$("decide-set").append(...options([...sets.keys()], (s) => sets[s]));
$("decide-set").closest("label").hidden = sets.length < 2;
for (const id of ["x-metric", "y-metric"]) $(id).append(...options(measured, metricName));
$("difference-metric").append(...options(decided, metricName));
$("difference-base").append(...options([...rows.keys()], nameOf));
const directed = measured.filter((m) => metrics[m].direction !== "none");
const family = (m) => metrics[m].protocol.split("/")[0];
$("x-metric").value = directed[0] ?? measured[0];
$("y-metric").value = directed.find((m) => family(m) !== family(directed[0])) ?? directed[1] ?? measured[0];
$("difference-base").value = methodRows[0] ?? 0;
$("differences-card").hidden = !decided.length;
function decide() { tradeoff(); profile(); if (decided.length) differences(); }
$("decide-set").addEventListener("change", () => { set = Number($("decide-set").value); decide(); writeAddress(); });
for (const id of ["x-metric", "y-metric"]) $(id).addEventListener("change", () => { tradeoff(); writeAddress(); });
for (const id of ["difference-metric", "difference-base"]) $(id).addEventListener("change", () => { differences(); writeAddress(); });
const defaults = Object.fromEntries(["x-metric", "y-metric", "difference-metric", "difference-base", "decide-set"].map((id) => [id, $(id).value]));
const changed = (id, name) => ($(id).value === defaults[id] ? "" : name(Number($(id).value)));
const choose = (id, index) => { if (index >= 0 && [...$(id).options].some((o) => o.value === String(index))) { $(id).value = index; $(id).dispatchEvent(new Event("change")); } };
keep("data", () => changed("decide-set", (s) => sets[s]), (name) => choose("decide-set", sets.indexOf(name)));
keep("x", () => changed("x-metric", (m) => metrics[m].id), (id) => choose("x-metric", metricNamed(id)));
keep("y", () => changed("y-metric", (m) => metrics[m].id), (id) => choose("y-metric", metricNamed(id)));
keep("difference", () => changed("difference-metric", (m) => metrics[m].id), (id) => choose("difference-metric", metricNamed(id)));
keep("against", () => changed("difference-base", idOf), (id) => choose("difference-base", rowNamed(id)));
