/* Two or three clips large: side by side, under a wipe, or as a heat map of their difference, with a zoom. */

const theatre = { on: false, zoom: 1, at: [50, 50] };
const comparing = () => theatre.on;
const VIEWS = ["side", "wipe", "difference"];
/** What can be compared on this clip: key and name. */
function candidates() {
  const found = planned().filter((r) => clips[r][current]).map((r) => [String(r), nameOf(r)]);
  return samples[current].video ? [["reference", "Reference video"], ...found] : found;
}
const linkOf = (key) => (key === "reference" ? samples[current].video : clips[Number(key)][current]);
const calledBy = (key) => (key === "reference" ? "Reference video" : nameOf(Number(key)));
function fillSides() {
  const known = candidates();
  const wanted = { "compare-a": [$("compare-a").value, theatre.a, String(methodRows[0] ?? 0)], "compare-b": [$("compare-b").value, theatre.b, "reference", String(methodRows[1] ?? 0)], "compare-c": [$("compare-c").value, theatre.c, ""] };
  for (const [id, choices] of Object.entries(wanted)) {
    const all = id === "compare-c" ? [["", "—"], ...known] : known;
    $(id).replaceChildren(...all.map(([key, name]) => make("option", { value: key }, name)));
    const taken = id === "compare-b" ? $("compare-a").value : null;
    $(id).value = choices.find((c) => c !== undefined && c !== taken && all.some(([key]) => key === c)) ?? all.find(([key]) => key !== taken)?.[0] ?? all[0]?.[0] ?? "";
  }
}
function pane(key) {
  const node = video(linkOf(key), key, key === "reference" ? FPS : extraOf(Number(key))?.fps);
  node.addEventListener("loadedmetadata", () => { if (node.videoWidth) $("screens").style.setProperty("--aspect", `${node.videoWidth} / ${node.videoHeight}`); });
  return node;
}
function compare() {
  fillSides();
  const view = $("compare-view").value;
  const keys = [$("compare-a").value, $("compare-b").value, ...(view === "side" && $("compare-c").value ? [$("compare-c").value] : [])].filter(Boolean);
  $("compare-c").closest("label").hidden = view !== "side";
  $("compare-wipe").closest("label").hidden = view !== "wipe";
  $("compare-gain").closest("label").hidden = view !== "difference";
  $("screens").className = `screens ${view}`;
  $("screens").style.setProperty("--panes", keys.length);
  const figure = (key, ...content) => make("figure", {}, make("div", { class: "screen zoomed" }, ...content), key);
  const title = (key) => make("figcaption", {}, make("span", {}, calledBy(key)), " ", key === "reference" ? null : make("small", {}, brief(Number(key))));
  if (view === "side") {
    $("screens").replaceChildren(...keys.map((key) => figure(title(key), pane(key))));
  } else {
    const [below, above] = [pane(keys[0]), pane(keys[1] ?? keys[0])];
    above.classList.add("above");
    const both = make("figcaption", {}, view === "wipe" ? `left: ${calledBy(keys[0])} · right: ${calledBy(keys[1] ?? keys[0])}` : `difference of ${calledBy(keys[0])} and ${calledBy(keys[1] ?? keys[0])}, black where equal`);
    $("screens").replaceChildren(figure(both, below, above, ...(view === "wipe" ? [make("i", { class: "divider" })] : [])));
  }
  for (const screen of $("screens").querySelectorAll(".screen")) grip(screen);
  aim();
}
const brief = (r) => (valueAt(pick.metric, r, current) === null ? "" : `${metrics[pick.metric].label} ${show(pick.metric, valueAt(pick.metric, r, current))}`);

// ---------------------------------------------------------------- zoom, wipe, gain
function aim() {
  const box = $("screens");
  box.style.setProperty("--zoom", theatre.zoom);
  box.style.setProperty("--x", `${theatre.at[0]}%`);
  box.style.setProperty("--y", `${theatre.at[1]}%`);
  box.style.setProperty("--wipe", `${$("compare-wipe").value}%`);
  $("compare-zoom").value = theatre.zoom;
  press($("compare-mouth"), theatre.zoom > 1 && theatre.mouth === true);
  const gain = Number($("compare-gain").value);
  const third = (gain / 3).toFixed(3);
  // The sum of the three differences drives a black-violet-orange-yellow ramp, all of it without reading pixels.
  $("heat-sum").setAttribute("values", `${third} ${third} ${third} 0 0  ${third} ${third} ${third} 0 0  ${third} ${third} ${third} 0 0  0 0 0 1 0`);
}
/** Where the mouth is on this clip, in percent; the lower middle of the picture where no landmarks were read. */
function mouth() {
  for (const r of planned()) { const at = extraOf(r)?.mouth_at; if (at) return at.map((v) => 100 * v); }
  return [50, 71];
}
function zoomTo(zoom, at, isMouth = false) {
  theatre.zoom = clamp(zoom, 1, 8);
  theatre.at = at.map((v) => clamp(v, 0, 100));
  theatre.mouth = isMouth;
  aim();
  writeAddress();
}
/** Drag to move the picture (or the wipe, while nothing is enlarged). */
function grip(screen) {
  let from = null;
  screen.addEventListener("pointerdown", (event) => { from = [event.clientX, event.clientY, ...theatre.at, false]; screen.setPointerCapture(event.pointerId); });
  screen.addEventListener("pointermove", (event) => {
    if (!from) return;
    const box = screen.getBoundingClientRect();
    const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
    if (Math.hypot(dx, dy) > 3) from[4] = true;
    if (!from[4]) return;
    if (theatre.zoom > 1) {
      const by = (d, size) => (100 * d) / size / (theatre.zoom - 1);
      zoomTo(theatre.zoom, [from[2] - by(dx, box.width), from[3] - by(dy, box.height)]);
    } else if ($("compare-view").value === "wipe") {
      $("compare-wipe").value = (100 * (event.clientX - box.left)) / box.width;
      aim();
    }
  });
  screen.addEventListener("pointerup", () => { if (from && !from[4]) toggle(); from = null; });
}
$("compare-zoom").addEventListener("input", () => zoomTo(Number($("compare-zoom").value), theatre.at));
$("compare-mouth").addEventListener("click", () => (theatre.mouth && theatre.zoom > 1 ? zoomTo(1, [50, 50]) : zoomTo(3, mouth(), true)));
for (const id of ["compare-wipe", "compare-gain"]) $(id).addEventListener("input", aim);
for (const id of ["compare-a", "compare-b", "compare-c", "compare-view"]) $(id).addEventListener("change", () => { remember(); players(); writeAddress(); });
function remember() { theatre.a = $("compare-a").value; theatre.b = $("compare-b").value; theatre.c = $("compare-c").value; }
$("compare-full").addEventListener("click", fullscreen);
function fullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("theatre").requestFullscreen?.().catch(() => {});
}
function setCompare(on) {
  theatre.on = on;
  press($("compare-open"), on);
  $("compare").hidden = !on;
  $("players").hidden = on;
  if (on) remember();
  players();
}
$("compare-open").addEventListener("click", () => { setCompare(!theatre.on); writeAddress(); });
function nextView() {
  if (!theatre.on) setCompare(true);
  else { $("compare-view").value = VIEWS[(VIEWS.indexOf($("compare-view").value) + 1) % VIEWS.length]; players(); }
  writeAddress();
}
const outward = (key) => (key && key !== "reference" ? idOf(Number(key)) : key);
const inward = (id) => (id === "reference" || id === "" ? id : String(rowNamed(id)));
keep("compare", () => (theatre.on ? [$("compare-a"), $("compare-b"), $("compare-c")].map((s) => outward(s.value)).join("|") + `|${$("compare-view").value}|${theatre.zoom}|${theatre.at.map((v) => v.toFixed(1)).join(" ")}` : ""), (text) => {
  const [a, b, c, view, zoom, at] = text.split("|");
  if (VIEWS.includes(view)) $("compare-view").value = view;
  for (const id of ["compare-a", "compare-b", "compare-c"]) $(id).replaceChildren();
  Object.assign(theatre, { on: true, a: inward(a), b: inward(b), c: inward(c), zoom: clamp(Number(zoom) || 1, 1, 8), at: (at || "50 50").split(" ").map(Number) });
  const { a: left, b: right, c: third } = theatre;
  setCompareTo(left, right, third);
});
function setCompareTo(a, b, c) {
  press($("compare-open"), true);
  $("compare").hidden = false;
  $("players").hidden = true;
  Object.assign(theatre, { a, b, c });
}
