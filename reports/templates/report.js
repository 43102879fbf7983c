"use strict";
(() => {
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
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }

  function icon(name) {
    return draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, draw("use", { href: `#i-${name}` }));
  }

  // ---------------------------------------------------------------- theme
  const root = document.documentElement;
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* storage is off for files */ } };
  try { const saved = localStorage.getItem("bench-theme"); if (saved) root.dataset.theme = saved; } catch { /* as above */ }
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember("bench-theme", root.dataset.theme);
  });

  // ---------------------------------------------------------------- sortable tables
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const head = button.closest("th");
      const table = head.closest("table");
      const index = [...head.parentNode.children].indexOf(head);
      const first = button.dataset.sort === "higher" ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const th of head.parentNode.children) th.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const text = button.dataset.sort === "text";
      const key = (row) => {
        const cell = row.children[index];
        if (text) return cell.textContent;
        return cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
      };
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((r) => !r.classList.contains("section"));
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (text) return sign * x.localeCompare(y);
          if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
          return sign * (x - y);
        });
        body.append(...rows);
      }
    });
  }

  // ---------------------------------------------------------------- links into closed boxes
  function unfold() {
    const target = location.hash.startsWith("#protocol-") && document.getElementById(location.hash.slice(1));
    if (!target) return;
    target.closest("details").open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", unfold);
  unfold();

  const data = JSON.parse($("data").textContent);
  if (!data.samples.length) return;
  const { rows, samples, metrics, values, clips, why } = data;
  const nameOf = (r) => rows[r].method + (rows[r].gate === "none" ? "" : ` · ${rows[r].gate}`);
  const valueAt = (m, r, s) => { const line = values[m][r]; return line ? line[s] : null; };
  const show = (m, v) => {
    if (v === null || v === undefined) return "—";
    const x = v * metrics[m].scale;
    return Math.abs(x) >= 1e6 ? x.toExponential(2) : x.toFixed(metrics[m].digits);
  };
  const arrow = (m) => ({ higher: " ↑", lower: " ↓" }[metrics[m].direction] || "");
  const metricName = (m) => {
    const same = metrics.filter((x) => x.label === metrics[m].label).length > 1;
    return metrics[m].label + arrow(m) + (same ? ` (${metrics[m].protocol})` : "");
  };
  const goodness = (m) => (metrics[m].direction === "lower" ? -1 : 1);
  const present = (m) => rows.map((_, r) => r).filter((r) => values[m][r]);
  const metricOptions = () => metrics.map((_, m) => make("option", { value: m }, metricName(m)));
  const firstMetric = Math.max(0, metrics.findIndex((m) => m.direction !== "none"));

  // ---------------------------------------------------------------- spread over clips
  let current = -1;
  /** Round numbers between low and high: 1, 2 or 5 times a power of ten apart. */
  function ticks(low, high, count) {
    const rough = (high - low || 1) / count;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((k) => k * power >= rough);
    const found = [];
    for (let i = Math.ceil(low / step); i * step <= high + step * 1e-9; i++) found.push(Number((i * step).toPrecision(10)));
    return found;
  }
  function plot(m) {
    const box = $("plot");
    box.replaceChildren();
    const shown = present(m);
    const all = shown.flatMap((r) => values[m][r].filter((v) => v !== null));
    if (!all.length) return;
    const narrow = box.clientWidth < 560;
    const longest = Math.max(...shown.map((r) => nameOf(r).length));
    const W = Math.max(320, box.clientWidth), left = narrow ? 8 : Math.min(300, 24 + 7 * longest), right = 72, H = narrow ? 46 : 32, top = 6;
    const low = Math.min(...all), high = Math.max(...all), span = high - low || 1;
    const x = (v) => left + ((v - low) / span) * (W - left - right);
    const height = top + shown.length * H + 28;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": `Spread of ${metrics[m].label}` });
    const scale = metrics[m].scale;
    for (const t of ticks(low * scale, high * scale, narrow ? 5 : 6)) {
      const at = x(t / scale);
      svg.append(draw("line", { class: "axis", x1: at, x2: at, y1: top, y2: height - 24 }));
      const label = draw("text", { x: at, y: height - 8, "text-anchor": "middle" });
      label.textContent = String(t);
      svg.append(label);
    }
    shown.forEach((r, n) => {
      const line = values[m][r];
      const y = top + n * H + (narrow ? H * 0.68 : H / 2);
      const group = draw("g", { class: rows[r].control ? "control" : "method" });
      const label = draw("text", narrow ? { class: "name", x: left, y: top + n * H + 14 } : { class: "name", x: left - 12, y: y + 4, "text-anchor": "end" });
      label.textContent = nameOf(r);
      const known = line.filter((v) => v !== null).sort((a, b) => a - b);
      const at = (q) => known[Math.min(known.length - 1, Math.floor(q * known.length))];
      const mean = known.reduce((a, b) => a + b, 0) / known.length;
      group.append(label, draw("rect", { class: "box", x: x(at(0.25)), width: Math.max(1, x(at(0.75)) - x(at(0.25))), y: y - 9, height: 18, rx: 4 }));
      const bins = new Map();
      line.forEach((v, s) => {
        if (v === null) return;
        // Dots that would overlap step aside, alternately up and down, within the row.
        const bin = Math.round(x(v) / 6);
        const k = bins.get(bin) || 0;
        bins.set(bin, k + 1);
        const shift = Math.max(-10, Math.min(10, (k % 2 ? 1 : -1) * Math.ceil(k / 2) * 4));
        group.append(draw("circle", {
          cx: x(v), cy: y + shift, r: 3.4, "data-s": s, class: s === current ? "here" : "",
          onmouseenter: () => { $("plot-tip").textContent = `${nameOf(r)}, ${samples[s].id}: ${show(m, v)}`; },
          onclick: () => open(s, r, true),
        }));
      });
      group.append(draw("line", { class: "mean", x1: x(mean), x2: x(mean), y1: y - 11, y2: y + 11 }));
      const note = draw("text", { x: W - right + 16, y: y + 4 });
      note.textContent = show(m, mean);
      group.append(note);
      svg.append(group);
    });
    box.append(svg);
  }
  $("plot-metric").append(...metricOptions());
  $("plot-metric").value = firstMetric;
  $("plot-metric").addEventListener("change", () => plot(Number($("plot-metric").value)));
  let resizing = 0;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(() => { plot(Number($("plot-metric").value)); curves(); }, 150); });

  // ---------------------------------------------------------------- choosing a clip
  const pick = { tab: "worst", metric: firstMetric, row: 0, find: "", most: 20, order: [] };
  $("pick-metric").append(...metricOptions());
  $("pick-metric").value = pick.metric;
  function fillRows() {
    const options = present(pick.metric);
    $("pick-row").replaceChildren(...options.map((r) => make("option", { value: r }, nameOf(r))));
    if (!options.includes(pick.row)) pick.row = options.find((r) => !rows[r].control) ?? options[0] ?? 0;
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
  function strip(s) {
    const m = pick.metric;
    const all = values[m].flatMap((line) => (line ? line.filter((v) => v !== null) : []));
    const low = Math.min(...all), span = Math.max(...all) - low || 1;
    const svg = draw("svg", { viewBox: "0 0 200 9", preserveAspectRatio: "none", "aria-hidden": "true" });
    svg.append(draw("path", { class: "axis", d: "M0 4.5H200" }));
    const shown = present(m).sort((a, b) => (a === pick.row) - (b === pick.row));
    for (const r of shown) {
      const v = valueAt(m, r, s);
      if (v === null || (rows[r].control && r !== pick.row)) continue;
      // A dot is a stroke of no length: it stays round while the strip stretches.
      svg.append(draw("path", { d: `M${(4 + (192 * (v - low)) / span).toFixed(1)} 4.5h0`, class: r === pick.row ? "chosen" : "" }));
    }
    return svg;
  }
  function list() {
    pick.order = ranked();
    const shown = pick.order.slice(0, pick.most);
    $("pick-row-field").hidden = pick.tab === "disagree";
    $("pick-list").replaceChildren(...shown.map((s) => make("li", {},
      make("button", { type: "button", "aria-current": s === current ? "true" : null, title: samples[s].id, onclick: () => open(s, null, false) },
        make("span", { class: "id" }, samples[s].id), make("span", { class: "value" }, show(pick.metric, valueAt(pick.metric, pick.row, s))), strip(s)))));
    if (!shown.length) $("pick-list").append(make("li", { class: "hint" }, "No clip matches."));
    $("pick-more").hidden = pick.order.length <= pick.most;
    $("pick-more").textContent = `Show more (${pick.order.length - pick.most})`;
  }
  const tabs = [...document.querySelectorAll("[data-tab]")];
  function chooseTab(tab) {
    pick.tab = tab.dataset.tab;
    pick.most = 20;
    for (const t of tabs) { t.setAttribute("aria-selected", String(t === tab)); t.tabIndex = t === tab ? 0 : -1; }
    list();
    if (pick.order.length) open(pick.order[0], null, false);
  }
  tabs.forEach((tab, n) => {
    tab.addEventListener("click", () => chooseTab(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault(); event.stopPropagation();
      const next = tabs[(n + step + tabs.length) % tabs.length];
      next.focus(); chooseTab(next);
    });
  });
  $("pick-metric").addEventListener("change", () => { pick.metric = Number($("pick-metric").value); fillRows(); list(); players(); });
  $("pick-row").addEventListener("change", () => { pick.row = Number($("pick-row").value); list(); mark(); });
  $("pick-find").addEventListener("input", () => { pick.find = $("pick-find").value; list(); });
  $("pick-more").addEventListener("click", () => { pick.most += 60; list(); });

  // ---------------------------------------------------------------- players
  let videos = [];
  let loop = true;
  let playing = false;
  let solo = null;
  const leader = () => videos.reduce((best, v) => ((v.duration || 0) > (best?.duration || 0) ? v : best), null);
  const length = () => leader()?.duration || 0;
  const time = () => leader()?.currentTime || 0;

  function card(title, gate, r, screen, foot) {
    const speaker = screen.tagName === "VIDEO"
      ? make("button", { type: "button", "aria-label": `Sound of ${title}`, "aria-pressed": "false", title: "Sound (M)", onclick: () => listen(screen) }, icon("sound")) : null;
    const frame = make("div", { class: "screen", onclick: screen.tagName === "VIDEO" ? toggle : () => {} }, screen);
    return make("article", { class: "player", "data-row": r ?? null },
      make("header", {}, make("strong", { title }, title), gate ? make("span", {}, gate) : null, speaker), frame, foot);
  }
  function video(src) {
    const node = make("video", { src, preload: "auto", playsinline: true });
    node.muted = true;
    node.addEventListener("error", () => {
      videos = videos.filter((v) => v !== node);
      node.replaceWith(make("div", { class: "absent" }, "This clip is not where the report expects it: " + decodeURIComponent(src)));
    });
    node.addEventListener("loadedmetadata", tick);
    videos.push(node);
    return node;
  }
  function footer(r) {
    const m = pick.metric;
    const shown = [m, ...metrics.map((_, i) => i).filter((i) => i !== m && metrics[i].direction !== "none")].slice(0, 3);
    const lost = why[r][current] && clips[r][current] ? make("span", { class: "lost", title: why[r][current] }, why[r][current]) : null;
    return make("footer", {}, lost, ...shown.filter((i) => valueAt(i, r, current) !== null).map((i) =>
      make("span", { title: metrics[i].protocol }, `${metrics[i].label} `, make("b", {}, show(i, valueAt(i, r, current))))));
  }
  function players() {
    if (current < 0) return;
    const s = samples[current];
    const was = time();
    const resume = playing;
    pause();
    videos = [];
    solo = null;
    const cards = [];
    const image = s.image ? make("img", { src: s.image, alt: `Reference picture of ${s.who}`, loading: "lazy" }) : null;
    if (image) cards.push(card("Reference", "picture", null, image, null));
    if (s.video) cards.push(card("Reference", "video", null, video(s.video), null));
    const order = rows.map((_, r) => r).filter((r) => clips[r][current] || why[r][current] || values.some((line) => line[r] && line[r][current] !== null));
    for (const r of order) {
      const absent = () => make("div", { class: "absent" }, why[r][current] || "No clip recorded");
      cards.push(card(rows[r].method, rows[r].gate === "none" ? "control" : rows[r].gate, r, clips[r][current] ? video(clips[r][current]) : absent(), footer(r)));
    }
    $("players").replaceChildren(...cards);
    $("now").textContent = s.id;
    $("now-who").textContent = [s.who !== s.id ? s.who : "", s.set].filter(Boolean).join(" · ");
    mark();
    const lead = videos[0];
    if (lead) lead.addEventListener("loadeddata", () => { if (was) seek(Math.min(was, length())); if (resume) play(); }, { once: true });
    for (const v of videos) v.playbackRate = Number($("speed").value);
    scores();
    sheet();
    curveRows();
    tick();
  }
  function mark() {
    for (const node of $("players").children) node.classList.toggle("chosen", node.dataset.row === String(pick.row));
  }
  function listen(target) {
    solo = solo === target ? null : target;
    for (const v of videos) v.muted = v !== solo;
    for (const button of $("players").querySelectorAll("header button")) {
      button.setAttribute("aria-pressed", String(Boolean(solo) && button.closest(".player").contains(solo)));
    }
  }
  function seek(t) {
    const end = length();
    const at = Math.max(0, Math.min(end ? end - 0.001 : 0, t));
    for (const v of videos) if (v.readyState) v.currentTime = Math.min(at, Math.max(0, (v.duration || at) - 0.001));
    tick(at);
  }
  function play() {
    if (!videos.length) return;
    if (time() >= length() - 0.05) seek(0);
    playing = true;
    for (const v of videos) v.play().catch(() => {});
    $("play").replaceChildren(icon("pause"));
    $("play").setAttribute("aria-label", "Pause");
    requestAnimationFrame(follow);
  }
  function pause() {
    playing = false;
    for (const v of videos) v.pause();
    $("play").replaceChildren(icon("play"));
    $("play").setAttribute("aria-label", "Play");
  }
  function toggle() { if (playing) pause(); else play(); }
  /** Keep every player within a frame and a half of the longest one. */
  function follow() {
    if (!playing) return;
    const lead = leader();
    if (lead) {
      const t = lead.currentTime;
      for (const v of videos) {
        if (v === lead || !v.readyState || t > v.duration) continue;
        if (Math.abs(v.currentTime - t) > 0.06 && !v.seeking) v.currentTime = t;
        if (v.paused && !v.ended) v.play().catch(() => {});
      }
      if (lead.ended || t >= lead.duration - 0.02) {
        if (loop) { seek(0); for (const v of videos) v.play().catch(() => {}); } else { pause(); }
      }
      tick();
    }
    requestAnimationFrame(follow);
  }
  function tick(at) {
    const t = typeof at === "number" ? at : time();
    const end = length();
    if (document.activeElement !== $("scrub") || playing) $("scrub").value = end ? (1000 * t) / end : 0;
    $("clock").textContent = `${t.toFixed(2)} s`;
    playhead(t);
  }
  $("scrub").addEventListener("input", () => { const resume = playing; if (resume) pause(); seek((length() * $("scrub").value) / 1000); });
  $("play").addEventListener("click", toggle);
  const frame = (step) => { pause(); seek(Math.round(time() * 25 + step) / 25 + 0.004); };
  $("back").addEventListener("click", () => frame(-1));
  $("forward").addEventListener("click", () => frame(1));
  $("speed").addEventListener("change", () => { for (const v of videos) v.playbackRate = Number($("speed").value); });
  $("loop").addEventListener("click", () => { loop = !loop; $("loop").setAttribute("aria-pressed", String(loop)); });
  function neighbour(step) {
    if (!pick.order.length) return;
    const at = pick.order.indexOf(current);
    const next = (at + step + pick.order.length) % pick.order.length;
    if (next >= pick.most) { pick.most = next + 1; list(); }
    open(pick.order[next], null, false);
  }
  $("previous").addEventListener("click", () => neighbour(-1));
  $("next").addEventListener("click", () => neighbour(1));

  const inView = () => { const box = $("samples").getBoundingClientRect(); return box.top < innerHeight * 0.8 && box.bottom > innerHeight * 0.2; };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !inView()) return;
    const at = event.target;
    if (at.matches("input:not([type=range]), select, textarea, [role=tab]")) return;
    const actions = {
      " ": () => { if (at.matches("button, summary, a")) return false; toggle(); },
      ArrowLeft: () => (event.shiftKey ? seek(time() - 1) : frame(-1)),
      ArrowRight: () => (event.shiftKey ? seek(time() + 1) : frame(1)),
      j: () => neighbour(1), k: () => neighbour(-1),
      l: () => $("loop").click(),
      m: () => listen(solo || videos[0]),
    };
    const action = actions[event.key] || actions[event.key.toLowerCase()];
    if (action && action() !== false) event.preventDefault();
  });

  // ---------------------------------------------------------------- scores of one clip
  function scores() {
    const shown = metrics.map((_, m) => m).filter((m) => values[m].some((line) => line && line[current] !== null));
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

  // ---------------------------------------------------------------- contact sheet of one clip
  const extraOf = (r) => data.curves.of && data.curves.of[`${r},${current}`];
  function sheet() {
    const order = rows.map((_, r) => r).filter((r) => extraOf(r)?.sheet);
    order.sort((a, b) => (rows[b].method === "ground-truth") - (rows[a].method === "ground-truth"));
    $("frames").hidden = !order.length;
    $("sheet").replaceChildren(...order.flatMap((r) => {
      const picture = make("img", { src: extraOf(r).sheet, alt: `Frames of ${nameOf(r)}`, loading: "lazy" });
      const strip = make("div", { class: "strip", onclick: (event) => { const box = strip.getBoundingClientRect(); seek((length() * (event.clientX - box.left)) / box.width); } }, picture);
      const label = make("span", {}, rows[r].method, " ", make("small", {}, rows[r].gate === "none" ? "control" : rows[r].gate));
      picture.addEventListener("error", () => { strip.remove(); label.remove(); });
      return [label, strip];
    }));
  }

  // ---------------------------------------------------------------- curves along one clip
  let curveRow = -1;
  let curveTime = null;
  function curveRows() {
    const drawn = ["mouth", "sync_curve", "mel"];
    const options = rows.map((_, r) => r).filter((r) => extraOf(r) && drawn.some((name) => name in extraOf(r)));
    $("curves").hidden = !options.length;
    if (!options.length) return;
    if (!options.includes(curveRow)) curveRow = options.includes(pick.row) ? pick.row : options[0];
    $("curve-row").replaceChildren(...options.map((r) => make("option", { value: r }, nameOf(r))));
    $("curve-row").value = curveRow;
    curves();
  }
  $("curve-row").addEventListener("change", () => { curveRow = Number($("curve-row").value); curves(); });
  /** What accompanies a clip, with shared lines and pictures looked up. */
  function along(r) {
    const kept = extraOf(r);
    if (!kept) return null;
    const extra = { fps: kept.fps };
    for (const name of ["mouth", "reference_mouth", "sync_curve"]) if (name in kept) extra[name] = data.curves.lines[kept[name]];
    if ("mel" in kept) extra.mel = data.curves.pictures[kept.mel];
    return extra;
  }
  function curves() {
    const extra = along(curveRow);
    const box = $("curve-plot");
    box.replaceChildren();
    curveTime = null;
    if (!extra) return;
    const W = Math.max(320, box.clientWidth), left = 4, gap = 22;
    const frames = Math.max(...["mouth", "reference_mouth"].map((k) => (extra[k] || []).length), 2);
    const x = (i) => left + ((W - 2 * left) * i) / (frames - 1);
    const svg = draw("svg", { role: "img", "aria-label": "Curves along the clip" });
    let y = 14;
    const caption = (words) => { const t = draw("text", { x: left, y: y - 3 }); t.textContent = words; svg.append(t); };
    if (extra.mel !== undefined) {
      caption("speech (log mel)");
      svg.append(draw("image", { href: extra.mel, x: left, y, width: W - 2 * left, height: 56, preserveAspectRatio: "none" }));
      y += 56 + gap;
    }
    const opening = [["reference_mouth", "truth"], ["mouth", "generated"]];
    const known = opening.flatMap(([k]) => (extra[k] || []).filter((v) => v !== null));
    if (known.length) {
      const height = 70, low = Math.min(...known), span = Math.max(...known) - low || 1;
      caption(`mouth opening (dashed: reference video): ${low.toPrecision(3)} to ${(low + span).toPrecision(3)}`);
      for (const [k, style] of opening) {
        let path = "", pen = "M";
        (extra[k] || []).forEach((v, i) => {
          if (v === null) { pen = "M"; return; }
          path += `${pen}${x(i).toFixed(1)} ${(y + height - (height * (v - low)) / span).toFixed(1)}`;
          pen = "L";
        });
        if (path) svg.append(draw("path", { class: style, d: path }));
      }
      y += height + gap;
    }
    const head = draw("line", { class: "head", x1: 0, x2: 0, y1: 4, y2: y - gap });
    if (y > 14) svg.append(head);
    svg.setAttribute("viewBox", `0 0 ${W} ${Math.max(1, y - gap + 4)}`);
    svg.addEventListener("click", (event) => { const r = svg.getBoundingClientRect(); seek((((event.clientX - r.left) / r.width) * frames) / extra.fps); });
    curveTime = (t) => { const at = x(Math.min(frames - 1, t * extra.fps)); head.setAttribute("x1", at); head.setAttribute("x2", at); };
    box.append(svg);
    if (extra.sync_curve) box.append(byOffset(extra.sync_curve, W));
    curveTime(time());
  }
  /** Distance of sound and lips by offset: a clear valley at 0 is a clip in sync. */
  function byOffset(curve, W) {
    const H = 96, left = 4, top = 18, reach = (curve.length - 1) / 2;
    const known = curve.filter((v) => v !== null);
    const low = Math.min(...known), span = Math.max(...known) - low || 1;
    const x = (i) => left + ((W - 2 * left) * (curve.length - 1 - i)) / (curve.length - 1);
    const y = (v) => top + (H - top - 20) * (1 - (v - low) / span);
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, class: "offsets", role: "img", "aria-label": "Distance of sound and lips by offset" });
    const words = (content, at, height, anchor) => { const t = draw("text", { x: at, y: height, "text-anchor": anchor }); t.textContent = content; svg.append(t); };
    const best = curve.indexOf(low);
    words(`distance of sound and lips by offset: least ${low.toPrecision(3)} at ${reach - best} frames`, left, 12, "start");
    svg.append(draw("line", { class: "zero", x1: x(reach), x2: x(reach), y1: top, y2: H - 16 }));
    svg.append(draw("path", { class: "generated", d: curve.map((v, i) => (v === null ? "" : `${i && curve[i - 1] !== null ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`)).join("") }));
    svg.append(draw("circle", { cx: x(best), cy: y(low), r: 4 }));
    words(`sound ${reach} frames late`, left, H - 3, "start");
    words("0", x(reach), H - 3, "middle");
    words(`${reach} early`, W - left, H - 3, "end");
    return svg;
  }
  function playhead(t) {
    if (curveTime) curveTime(t);
    const frames = data.sheet_frames, now = length() ? Math.min(frames - 1, Math.floor((frames * t) / length())) : 0;
    $("sheet").style.setProperty("--at", now / frames);
    $("sheet").style.setProperty("--step", 1 / frames);
  }

  // ---------------------------------------------------------------- opening a clip
  function open(s, r, scroll) {
    current = s;
    if (r !== null && values[pick.metric][r]) { pick.row = r; $("pick-row").value = r; }
    players();
    list();
    for (const dot of $("plot").querySelectorAll("circle")) dot.setAttribute("class", Number(dot.dataset.s) === s ? "here" : "");
    if (scroll) $("samples").scrollIntoView();
  }
  function fromAddress() {
    const wanted = /^#sample=(.*)$/.exec(location.hash);
    if (!wanted) return false;
    let id;
    try { id = decodeURIComponent(wanted[1]); } catch { return false; }
    const s = samples.findIndex((x) => x.id === id);
    if (s >= 0) open(s, null, true);
    return s >= 0;
  }
  addEventListener("hashchange", fromAddress);

  fillRows();
  plot(firstMetric);
  list();
  if (!fromAddress() && pick.order.length) open(pick.order[0], null, false);
})();
