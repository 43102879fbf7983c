/* The spread over clips, and over people: where a mean comes from. */

let current = -1;

function spread(m) {
  const box = $("plot");
  box.replaceChildren();
  const shown = present(m);
  const all = shown.flatMap((r) => values[m][r].filter((v) => v !== null));
  if (!all.length) return;
  const narrow = box.clientWidth < 560;
  const longest = Math.max(...shown.map((r) => nameOf(r).length));
  const W = widthOf(box), left = narrow ? 8 : Math.min(300, 24 + 7 * longest), right = 72, H = narrow ? 46 : 32, top = 6;
  const low = Math.min(...all), high = Math.max(...all);
  const x = linear(low, high, left, W - right);
  const height = top + shown.length * H + 28;
  const svg = draw("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": `Spread of ${metrics[m].label}` });
  const scale = metrics[m].scale;
  for (const t of ticks(low * scale, high * scale, narrow ? 5 : 6)) {
    const at = x(t / scale);
    svg.append(draw("line", { class: "axis", x1: at, x2: at, y1: top, y2: height - 24 }));
    words(svg, String(t), { x: at, y: height - 8, "text-anchor": "middle" });
  }
  const floor = metrics[m].noise, centre = centreOf(shown);
  if (floor !== undefined) {
    const own = values[m][centre].filter((v) => v !== null), mean = own.reduce((a, b) => a + b, 0) / own.length;
    noiseBand(svg, [x(mean - floor), x(mean + floor)], [left, W - right], true, [top, height - 24], `${metrics[m].label} within re-encoding noise of ${nameOf(centre)}`);
  }
  noiseNote("plot-noise", [m], `Shaded: a mean not further from that of ${nameOf(centre)} than re-encoding alone moves it on this split`);
  shown.forEach((r, n) => {
    const line = values[m][r];
    const y = top + n * H + (narrow ? H * 0.68 : H / 2);
    const group = draw("g", { class: rows[r].control ? "control" : "method" });
    const known = line.filter((v) => v !== null).sort((a, b) => a - b);
    const at = (q) => known[Math.min(known.length - 1, Math.floor(q * known.length))];
    const mean = known.reduce((a, b) => a + b, 0) / known.length;
    words(group, nameOf(r), narrow ? { class: "name", x: left, y: top + n * H + 14 } : { class: "name", x: left - 12, y: y + 4, "text-anchor": "end" });
    group.append(draw("rect", { class: "box", x: x(at(0.25)), width: Math.max(1, x(at(0.75)) - x(at(0.25))), y: y - 9, height: 18, rx: 4 }));
    const bins = new Map();
    line.forEach((v, s) => {
      if (v === null) return;
      // Dots that would overlap step aside, alternately up and down, within the row.
      const bin = Math.round(x(v) / 6);
      const k = bins.get(bin) || 0;
      bins.set(bin, k + 1);
      const shift = clamp((k % 2 ? 1 : -1) * Math.ceil(k / 2) * 4, -10, 10);
      group.append(draw("circle", {
        cx: x(v), cy: y + shift, r: 3.4, "data-s": s, class: s === current ? "here" : "",
        onmouseenter: () => { $("plot-tip").textContent = `${nameOf(r)}, ${samples[s].id}: ${show(m, v)}`; },
        onclick: () => open(s, r, true),
      }));
    });
    group.append(draw("line", { class: "mean", x1: x(mean), x2: x(mean), y1: y - 11, y2: y + 11 }));
    words(group, show(m, mean), { x: W - right + 16, y: y + 4 });
    svg.append(group);
  });
  box.append(svg);
}

// ---------------------------------------------------------------- people
const FEW_PEOPLE = 12;
let everybody = false;
/** Mean of every method over the clips of each identity: who is easy, who is hard, who breaks one method. */
function people(m) {
  const groups = new Map();
  samples.forEach((s, i) => { if (!groups.has(s.who)) groups.set(s.who, []); groups.get(s.who).push(i); });
  const shown = present(m);
  $("people-card").hidden = groups.size < 2 || !shown.length;
  if ($("people-card").hidden) return;
  const mean = (list, r) => {
    const known = list.map((s) => values[m][r][s]).filter((v) => v !== null);
    return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
  };
  const table = [...groups].map(([who, list]) => ({ who, list, cells: shown.map((r) => mean(list, r)) }));
  const apart = ({ cells }) => { const own = cells.filter((v, i) => v !== null && !rows[shown[i]].control); return own.length > 1 ? Math.max(...own) - Math.min(...own) : 0; };
  table.sort((a, b) => apart(b) - apart(a));
  const all = table.flatMap((t) => t.cells).filter((v) => v !== null);
  const low = Math.min(...all), span = Math.max(...all) - low || 1;
  const head = make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Identity"), make("th", { scope: "col", class: "num" }, "clips"),
    ...shown.map((r) => make("th", { scope: "col", class: "num" }, nameOf(r)))));
  const body = make("tbody", {}, ...table.slice(0, everybody ? table.length : FEW_PEOPLE).map(({ who, list, cells }) =>
    make("tr", {}, make("th", { scope: "row" }, make("button", { type: "button", class: "link", onclick: () => hardest(m, list) }, who)), make("td", { class: "num n" }, String(list.length)),
      ...cells.map((v) => {
        const cell = make("td", { class: "num" }, show(m, v));
        if (v !== null && metrics[m].direction !== "none") {
          const share = (v - low) / span;
          cell.classList.add("tinted");
          cell.style.setProperty("--tint", (goodness(m) > 0 ? share : 1 - share).toFixed(3));
        }
        return cell;
      }))));
  $("people").replaceChildren(head, body);
  $("people-more").hidden = everybody || table.length <= FEW_PEOPLE;
  $("people-more").textContent = `Show all ${table.length}`;
}
/** Open the clip of a person on which the chosen method does worst. */
function hardest(m, list) {
  const key = (s) => { const v = valueAt(m, pick.row, s); return v === null ? Infinity : goodness(m) * v; };
  open([...list].sort((a, b) => key(a) - key(b))[0], null, true);
}
$("people-more").addEventListener("click", () => { everybody = true; people(Number($("plot-metric").value)); });
$("plot-metric").append(...options(perClip, metricName));
$("plot-metric").value = firstMetric;
function spreads() { spread(Number($("plot-metric").value)); people(Number($("plot-metric").value)); }
$("plot-metric").addEventListener("change", () => { spreads(); writeAddress(); });
keep("spread", () => (Number($("plot-metric").value) === firstMetric ? "" : metrics[Number($("plot-metric").value)].id), (id) => {
  if (perClip.includes(metricNamed(id))) { $("plot-metric").value = metricNamed(id); spreads(); }
});
