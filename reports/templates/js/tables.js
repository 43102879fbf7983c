/* Tables: sorting that can be undone, search, a choice of columns, copying what is shown. */

const cards = [...document.querySelectorAll("article.table")].map((card) => {
  const heads = [...card.querySelectorAll("thead tr:last-child th")];
  const lines = [...card.querySelectorAll("tbody tr:not(.section)")];
  lines.forEach((line, n) => { line.dataset.n = n; });
  return { card, heads, lines, id: card.id.slice("table-".length) };
});
const columnHeads = cards.flatMap(({ heads }) => heads.filter((h) => h.dataset.column));

// ---------------------------------------------------------------- sorting
/** Sort within the groups of rows; without an order, as the report wrote them. */
function sort(head, order) {
  const index = [...head.parentNode.children].indexOf(head);
  for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
  if (order) head.setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const text = head.querySelector("button").dataset.sort === "text";
  const key = (row) => {
    const cell = row.children[index];
    if (text) return cell.textContent;
    return cell.dataset.v === undefined ? NaN : Number(cell.dataset.v);
  };
  const before = (a, b) => {
    if (!order) return a.dataset.n - b.dataset.n;
    const [x, y] = [key(a), key(b)];
    if (text) return sign * x.localeCompare(y);
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return sign * (x - y);
  };
  for (const body of head.closest("table").tBodies) {
    body.append(...[...body.rows].filter((r) => !r.classList.contains("section")).sort(before));
  }
}
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const first = button.dataset.sort === "higher" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const now = head.getAttribute("aria-sort");
    sort(head, now === first ? other : now === other ? null : first);
    writeAddress();
  });
}

// ---------------------------------------------------------------- columns
const hidden = new Set();
const PRESETS = {
  all: () => true,
  directed: (head) => head.dataset.direction !== "none",
  complete: (head) => head.dataset.complete === "yes",
  decided: (head) => head.dataset.decided === "yes",
};
function showColumns() {
  for (const { card, heads } of cards) {
    const off = heads.map((h) => hidden.has(h.dataset.column));
    for (const line of card.querySelectorAll("tbody tr:not(.section), thead tr:last-child")) {
      [...line.children].forEach((cell, i) => { cell.hidden = off[i]; });
    }
    for (const group of card.querySelectorAll("[data-members]")) {
      const [from, to] = group.dataset.members.split(" ").map(Number);
      const left = off.slice(from, to).filter((x) => !x).length;
      group.hidden = !left;
      group.colSpan = Math.max(1, left);
    }
    card.hidden = heads.every((h, i) => !h.dataset.column || off[i]);
  }
  const all = columnHeads.length, gone = columnHeads.filter((h) => hidden.has(h.dataset.column)).length;
  $("columns-count").textContent = gone ? `${all - gone} of ${all}` : String(all);
}
function choosePreset(name) {
  hidden.clear();
  for (const head of columnHeads) if (!PRESETS[name](head)) hidden.add(head.dataset.column);
  for (const box of $("columns-list").querySelectorAll("input")) box.checked = !hidden.has(box.value);
  showColumns();
}
$("columns-list").append(...cards.filter(({ heads }) => heads.some((h) => h.dataset.column)).map(({ card, heads }) =>
  make("fieldset", {}, make("legend", {}, card.querySelector("h3").textContent), ...heads.filter((h) => h.dataset.column).map((head) => {
    const box = make("input", { type: "checkbox", value: head.dataset.column, checked: true, onchange: () => {
      if (box.checked) hidden.delete(box.value); else hidden.add(box.value);
      for (const same of $("columns-list").querySelectorAll("input")) same.checked = !hidden.has(same.value);
      $("table-preset").value = "own";
      showColumns();
      writeAddress();
    } });
    return make("label", { title: head.dataset.column.split(":")[0] }, box, " ", head.querySelector("button").textContent.trim());
  }))));
$("table-preset").addEventListener("change", () => {
  if ($("table-preset").value === "own") $("columns-box").open = true;
  else choosePreset($("table-preset").value);
  writeAddress();
});

// ---------------------------------------------------------------- rows
function findRows() {
  const needles = $("table-find").value.trim().toLowerCase().split(/\s+/).filter(Boolean);
  for (const { card, lines } of cards) {
    for (const line of lines) {
      const said = [...line.querySelectorAll("th, .gate")].map((c) => c.textContent).join(" ").toLowerCase();
      line.hidden = !needles.every((n) => said.includes(n));
    }
    for (const body of card.querySelectorAll("tbody")) body.hidden = [...body.rows].every((r) => r.hidden || r.classList.contains("section"));
    card.classList.toggle("nothing", lines.every((l) => l.hidden));
  }
  $("find-count").textContent = needles.length && cards.every(({ lines }) => lines.every((l) => l.hidden)) ? "No row matches." : "";
}
$("table-find").addEventListener("input", () => { findRows(); writeAddress(); });
$("table-find").addEventListener("keydown", (event) => { if (event.key === "Escape") { $("table-find").value = ""; findRows(); writeAddress(); } });

// ---------------------------------------------------------------- copying
/** The chosen lines of one format, heading first, in the order in which they are shown. */
function pieces(part, format) {
  const entry = cards.find(({ id }) => id === part.id);
  const columns = entry.heads.map((_, i) => i).filter((i) => !hidden.has(entry.heads[i].dataset.column));
  const order = [...entry.card.querySelectorAll("tbody tr:not(.section)")].filter((l) => !l.hidden).map((l) => Number(l.dataset.n));
  const pick = (line) => columns.map((i) => line[i]);
  return { head: pick(part[format][0]), lines: order.map((n) => pick(part[format][n + 1])), sections: order.map((n) => part.sections[n]), columns };
}
const COPIES = {
  md(part) {
    const { head, lines, columns } = pieces(part, "md");
    const left = columns.map((i) => part.left.includes(i));
    const size = (cell) => [...cell].length;
    const widths = head.map((_, i) => Math.max(3, ...[head, ...lines].map((l) => size(l[i]))));
    const pad = (cell, i) => (left[i] ? cell + " ".repeat(widths[i] - size(cell)) : " ".repeat(widths[i] - size(cell)) + cell);
    const rule = widths.map((w, i) => (left[i] ? "-".repeat(w) : `${"-".repeat(w - 1)}:`));
    return [head.map(pad), rule, ...lines.map((l) => l.map(pad))].map((l) => `| ${l.join(" | ")} |`).join("\n");
  },
  tex(part) {
    const { head, lines, sections, columns } = pieces(part, "tex");
    const spec = columns.map((i) => (part.left.includes(i) ? "l" : "r")).join("");
    const out = [data.preamble + part.head, `\\begin{tabular}{@{}${spec}@{}}`, "\\toprule", `${head.join(" & ")} \\\\`, "\\midrule"];
    lines.forEach((line, n) => {
      if (sections[n] !== (n ? sections[n - 1] : "method") && part.titles[sections[n]]) {
        if (n) out.push("\\addlinespace");
        out.push(`\\multicolumn{${columns.length}}{@{}l}{\\textit{${part.titles[sections[n]]}}} \\\\`);
      }
      out.push(`${line.join(" & ")} \\\\`);
    });
    return [...out, "\\bottomrule", "\\end{tabular}", part.tail].join("\n");
  },
  csv(part) {
    const { head, lines } = pieces(part, "csv");
    const quoted = (v) => (v === null ? "" : /[",\r\n]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
    const names = head.flatMap((h) => (Array.isArray(h) ? [h[0], `${h[0]} low`, `${h[0]} high`] : [h]));
    return [names, ...lines.map((l) => l.flat())].map((l) => l.map(quoted).join(",")).join("\n");
  },
};
for (const button of document.querySelectorAll("[data-copy]")) {
  const part = data.copies.find(({ id }) => `table-${id}` === button.closest("article").id);
  button.addEventListener("click", () => copy(`${COPIES[button.dataset.copy](part)}\n`, button));
}

// ---------------------------------------------------------------- the address
keep("rows", () => $("table-find").value.trim(), (text) => { $("table-find").value = text; findRows(); });
keep("columns", () => {
  const preset = $("table-preset").value;
  if (preset !== "own") return preset === "all" ? "" : preset;
  return columnHeads.map((h, i) => (hidden.has(h.dataset.column) ? i : -1)).filter((i) => i >= 0).join(".");
}, (text) => {
  if (PRESETS[text]) { $("table-preset").value = text; choosePreset(text); return; }
  $("table-preset").value = "own";
  hidden.clear();
  for (const i of text.split(".")) if (columnHeads[i]) hidden.add(columnHeads[i].dataset.column);
  for (const box of $("columns-list").querySelectorAll("input")) box.checked = !hidden.has(box.value);
  showColumns();
});
keep("sort", () => cards.flatMap(({ id, heads }) => heads.flatMap((h, i) => (h.ariaSort ? [`${id}.${i}.${h.ariaSort[0]}`] : []))).join(","), (text) => {
  for (const one of text.split(",")) {
    const [id, i, order] = one.split(".");
    const head = cards.find((c) => c.id === id)?.heads[i];
    if (head?.querySelector("button")) sort(head, order === "a" ? "ascending" : "descending");
  }
});
showColumns();
