/* What accompanies one clip: contact sheet, speech and mouth along it, agreement of sound and lips by offset. */

function sheet() {
  const order = [...rows.keys()].filter((r) => extraOf(r)?.sheet);
  order.sort((a, b) => (rows[b].method === "ground-truth") - (rows[a].method === "ground-truth"));
  $("frames").hidden = !order.length;
  $("sheet").replaceChildren(...order.flatMap((r) => {
    const picture = make("img", { src: extraOf(r).sheet, alt: `Frames of ${nameOf(r)}`, loading: "lazy" });
    const strip = make("div", { class: "strip", onclick: (event) => {
      const box = strip.getBoundingClientRect();
      pause();
      seek((length() * (event.clientX - box.left)) / box.width);
      writeAddress();
    } }, picture);
    const label = make("span", {}, rows[r].method, " ", make("small", {}, under(r)));
    picture.addEventListener("error", () => { strip.remove(); label.remove(); });
    return [label, strip];
  }));
}

// ---------------------------------------------------------------- curves
let curveRow = -1;
let curveTime = null;
function curveRows() {
  const drawn = ["mouth", "sync_curve", "mel"];
  const known = [...rows.keys()].filter((r) => extraOf(r) && drawn.some((name) => name in extraOf(r)));
  $("curves").hidden = !known.length;
  if (!known.length) { curveTime = null; return; }
  if (!known.includes(curveRow)) curveRow = known.includes(pick.row) ? pick.row : known[0];
  $("curve-row").replaceChildren(...options(known, nameOf));
  $("curve-row").value = curveRow;
  curves();
}
$("curve-row").addEventListener("change", () => { curveRow = Number($("curve-row").value); curves(); });
/** What accompanies a clip, with shared lines and pictures looked up. */
function along(r) {
  const found = extraOf(r);
  if (!found) return null;
  const extra = { fps: found.fps };
  for (const name of ["mouth", "reference_mouth", "sync_curve"]) if (name in found) extra[name] = data.curves.lines[found[name]];
  if ("mel" in found) extra.mel = data.curves.pictures[found.mel];
  return extra;
}
function curves() {
  const extra = along(curveRow);
  const box = $("curve-plot");
  box.replaceChildren();
  curveTime = null;
  if (!extra) return;
  const W = Math.max(320, box.clientWidth), left = 4, gap = 22;
  const count = Math.max(...["mouth", "reference_mouth"].map((k) => (extra[k] || []).length), 2);
  const x = (i) => left + ((W - 2 * left) * i) / (count - 1);
  const svg = draw("svg", { role: "img", "aria-label": "Curves along the clip" });
  let y = 14;
  if (extra.mel !== undefined) {
    words(svg, "speech (log mel)", { x: left, y: y - 3 });
    svg.append(draw("image", { href: extra.mel, x: left, y, width: W - 2 * left, height: 56, preserveAspectRatio: "none" }));
    y += 56 + gap;
  }
  const opening = [["reference_mouth", "truth"], ["mouth", "generated"]];
  const known = opening.flatMap(([k]) => (extra[k] || []).filter((v) => v !== null));
  if (known.length) {
    const height = 70, low = Math.min(...known), high = Math.max(...known);
    const up = linear(low, high, y + height, y);
    words(svg, `mouth opening (dashed: reference video): ${low.toPrecision(3)} to ${high.toPrecision(3)}`, { x: left, y: y - 3 });
    for (const [k, style] of opening) {
      let path = "", pen = "M";
      (extra[k] || []).forEach((v, i) => {
        if (v === null) { pen = "M"; return; }
        path += `${pen}${x(i).toFixed(1)} ${up(v).toFixed(1)}`;
        pen = "L";
      });
      if (path) svg.append(draw("path", { class: style, d: path }));
    }
    y += height + gap;
  }
  const head = draw("line", { class: "head", x1: 0, x2: 0, y1: 4, y2: y - gap });
  if (y > 14) svg.append(head);
  svg.setAttribute("viewBox", `0 0 ${W} ${Math.max(1, y - gap + 4)}`);
  svg.addEventListener("click", (event) => { const r = svg.getBoundingClientRect(); pause(); seek((((event.clientX - r.left) / r.width) * count) / extra.fps); });
  curveTime = (t) => { const at = x(Math.min(count - 1, t * extra.fps)); head.setAttribute("x1", at); head.setAttribute("x2", at); };
  box.append(svg);
  if (extra.sync_curve) box.append(byOffset(extra.sync_curve, W));
  curveTime(time());
}
/** Distance of sound and lips by offset: a clear valley at 0 is a clip in sync. */
function byOffset(curve, W) {
  const H = 96, left = 4, top = 18, reach = (curve.length - 1) / 2;
  const known = curve.filter((v) => v !== null);
  const low = Math.min(...known);
  const x = (i) => left + ((W - 2 * left) * (curve.length - 1 - i)) / (curve.length - 1);
  const y = linear(low, Math.max(...known), H - 20, top);
  const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, class: "offsets", role: "img", "aria-label": "Distance of sound and lips by offset" });
  const best = curve.indexOf(low);
  words(svg, `distance of sound and lips by offset: least ${low.toPrecision(3)} at ${reach - best} frames`, { x: left, y: 12 });
  svg.append(draw("line", { class: "zero", x1: x(reach), x2: x(reach), y1: top, y2: H - 16 }));
  svg.append(draw("path", { class: "generated", d: curve.map((v, i) => (v === null ? "" : `${i && curve[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`)).join("") }));
  svg.append(draw("circle", { cx: x(best), cy: y(low), r: 4 }));
  words(svg, `sound ${reach} frames late`, { x: left, y: H - 3 });
  words(svg, "0", { x: x(reach), y: H - 3, "text-anchor": "middle" });
  words(svg, `${reach} early`, { x: W - left, y: H - 3, "text-anchor": "end" });
  return svg;
}
function playhead(t) {
  if (curveTime) curveTime(t);
  const parts = data.sheet_frames, now = length() ? Math.min(parts - 1, Math.floor((parts * t) / length())) : 0;
  $("sheet").style.setProperty("--at", now / parts);
  $("sheet").style.setProperty("--step", 1 / parts);
}
