/* Keys of the viewer, what the address keeps of it, and its first clip. */

const inView = () => { const box = $("samples").getBoundingClientRect(); return box.top < innerHeight * 0.8 && box.bottom > innerHeight * 0.2; };
const KEYS = {
  ArrowLeft: (event) => (event.shiftKey ? step(-Math.round(fpsOf(leader()))) : step(-1)),
  ArrowRight: (event) => (event.shiftKey ? step(Math.round(fpsOf(leader()))) : step(1)),
  j: () => neighbour(1),
  k: () => neighbour(-1),
  l: () => $("loop").click(),
  m: () => listen(heard ?? videos[0]?.dataset.key),
  i: () => mark(false),
  o: () => mark(true),
  x: wholeClip,
  c: () => { setCompare(!theatre.on); writeAddress(); },
  v: nextView,
  z: () => { if (!theatre.on) setCompare(true); $("compare-mouth").click(); },
  f: fullscreen,
};
fillRows();
spreads();
list();
keep("tab", () => (pick.tab === "worst" ? "" : pick.tab), (name) => { const tab = tabs.find((t) => t.dataset.tab === name); if (tab) chooseTab(tab, false); });
keep("metric", () => (pick.metric === firstMetric ? "" : metrics[pick.metric].id), (id) => {
  const m = metricNamed(id);
  if (perClip.includes(m)) { pick.metric = m; $("pick-metric").value = m; fillRows(); list(); }
});
keep("method", () => idOf(pick.row), (id) => {
  const r = rowNamed(id);
  if (present(pick.metric).includes(r)) { pick.row = r; $("pick-row").value = r; list(); }
});
keep("sample", () => (current >= 0 ? samples[current].id : ""), (id) => {
  const s = samples.findIndex((x) => x.id === id);
  if (s >= 0) open(s, null, true);
});
keep("frame", () => (playing || !frameNow ? "" : frameNow), (n) => stand(frameNow = Number(n) || 0));
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || help.open || types(event.target) || !inView()) return;
  if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow") && event.target.id !== "scrub") return;
  if (event.key === " ") {
    if (event.target.matches("button, summary, a")) return;
    event.preventDefault();
    toggle();
    return;
  }
  const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (action && videos.length) { event.preventDefault(); action(event); }
});

whenDrawn.push(() => { if (current < 0 && pick.order.length) open(pick.order[0], null, false); });
whenResized.push(spreads, curves);
