r"""Tables as LaTeX: `booktabs`, ready for `\input`, no `siunitx`; compiles with pdfLaTeX for Latin text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bench.core.printable import printable
from bench.report.table import (
    ARROWS,
    SECTION_TITLES,
    Column,
    Row,
    Table,
    lead,
    text,
)

COLUMNS_PER_PART = 7

_SPECIAL = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "_": r"\_", "&": r"\&", "%": r"\%", "#": r"\#",
    "$": r"\$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", '"': r"\textquotedbl{}", "|": r"\textbar{}", "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}", "±": r"$\pm$", "×": r"$\times$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "–": "--", "—": "---", "“": "``", "”": "''", "…": r"\dots{}", "·": r"$\cdot$", "\u00a0": "~",
    "≥": r"$\geq$", "≤": r"$\leq$", "²": r"$^2$", "³": r"$^3$", "σ": r"$\sigma$", "μ": r"$\mu$",
    "Δ": r"$\Delta$",
})  # fmt: skip
_SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"

HEAD = r"""% Needs \usepackage{booktabs,textcomp}; with \usepackage{xcolor} unranked rows are grey.
\providecommand{\benchgrey}[1]{{\ifdefined\color\color{gray}\fi#1}}
"""


def escape(raw: str) -> str:
    """Return text that typesets as itself: specials escaped, control characters replaced by spaces."""
    clean = printable(re.sub(r"[\x00-\x1f\x7f\s]+", " ", raw))
    powers = re.sub(f"[{_SUPERSCRIPTS}]+", lambda m: f"\x00{_plain_digits(m[0])}\x01", clean)
    escaped = powers.replace("--", "\x02\x02").translate(_SPECIAL)
    # Two hyphens would melt into a dash, so names keep theirs apart.
    return escaped.replace("\x00", "$^{").replace("\x01", "}$").replace("\x02", "-{}")


def _plain_digits(superscript: str) -> str:
    return superscript.translate(str.maketrans(_SUPERSCRIPTS, "-0123456789"))


def cell(row: Row, index: int, column: Column) -> str:
    """Return one cell with its mark; published and control cells are grey."""
    value = row.values[index]
    number, addition = text(row, index, column)
    shown = _number(number)
    if value is not None and value.mark == "best":
        shown = rf"\textbf{{{shown}}}"
    elif value is not None and value.mark == "second":
        shown = rf"\underline{{{shown}}}"
    if addition:
        shown += rf"{{\scriptsize {escape(addition).replace(' ', '~')}}}"
    return rf"\benchgrey{{{shown}}}" if row.section == "published" and shown else shown


def _number(number: str) -> str:
    return f"${number}$" if number.startswith("-") else escape(number)


def _heading(column: Column) -> str:
    arrow = ARROWS.get(column.direction, "")
    note = f"$^{{{column.footnote}}}$" if column.footnote else ""
    return escape(f"{column.heading} {arrow}".rstrip()) + note


def _tabular(model: Table, chosen: Sequence[int]) -> list[str]:
    heads, _ = lead(model)
    left = sum(head != "n" for head in heads)
    columns = [model.columns[i] for i in chosen]
    width = len(heads) + len(columns)
    out = [rf"\begin{{tabular}}{{@{{}}{'l' * left}{'r' * (width - left)}@{{}}}}", r"\toprule"]
    out += _groups(columns, len(heads))
    head, *body = lines(model, chosen)
    out += [_line(head), r"\midrule"]
    section = "method"
    for row, line in zip(model.rows, body, strict=True):
        if all(row.values[i] is None for i in chosen):
            continue
        if row.section != section:
            title = rf"\textit{{{escape(SECTION_TITLES[row.section])}}}"
            gap = [] if out[-1] == r"\midrule" else [r"\addlinespace"]
            out += [*gap, rf"\multicolumn{{{width}}}{{@{{}}l}}{{{title}}} \\"]
            section = row.section
        out.append(_line(line))
    return [*out, r"\bottomrule", r"\end{tabular}"]


def lines(model: Table, chosen: Sequence[int]) -> list[list[str]]:
    """Return the heading and every row with the chosen columns, as escaped cells."""
    heads, firsts = lead(model)
    out = [[*heads, *(_heading(model.columns[i]) for i in chosen)]]
    for row, first in zip(model.rows, firsts, strict=True):
        names = [escape(c) for c in first]
        if row.section != "method":
            names = [rf"\benchgrey{{{c}}}" if c else "" for c in names]
        out.append([*names, *(cell(row, i, model.columns[i]) for i in chosen)])
    return out


def _groups(columns: Sequence[Column], offset: int) -> list[str]:
    if not any(c.group for c in columns):
        return []
    spans: list[tuple[str, int, int]] = []
    for index, column in enumerate(columns):
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1], index)
        else:
            spans.append((column.group, index, index))
    heads = [rf"\multicolumn{{{last - first + 1}}}{{c}}{{{escape(name)}}}" for name, first, last in spans]
    rules = [rf"\cmidrule(lr){{{offset + f + 1}-{offset + last + 1}}}" for name, f, last in spans if name]
    return [_line([*[""] * offset, *heads]), " ".join(rules)]


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def around(model: Table) -> tuple[str, str]:
    """Return what stands before and after the tabular: a `table*` float, caption, label; footnotes and notes."""
    caption = escape(model.title) + (". " + escape(model.caption) if model.caption else "")
    before = [r"\begin{table*}[tp]", r"\centering", r"\footnotesize", r"\setlength{\tabcolsep}{4pt}"]
    before += [rf"\caption{{{caption}}}", rf"\label{{tab:bench-{model.id}}}"]
    beneath = [
        f"$^{{{f.number}}}$~\\texttt{{{escape(f.protocol)}}}" + (f": {escape(f.text)}" if f.text else "")
        for f in model.footnotes
    ]
    beneath += [escape(sentence) for sentence in (*model.notes, *map(str, model.reasons))]
    after = []
    if beneath:
        after += [r"\par\medskip", r"\begin{minipage}{\linewidth}\scriptsize\raggedright"]
        after += [rf"{sentence}\par" for sentence in beneath]
        after.append(r"\end{minipage}")
    return "\n".join(before), "\n".join([*after, r"\end{table*}"])


def table(model: Table) -> str:
    """Return one table as a `table*` float with caption, label, footnotes, notes and reasons."""
    before, after = around(model)
    out = [before]
    for number, chosen in enumerate(model.parts(COLUMNS_PER_PART)):
        out += [*([r"\par\medskip"] if number else []), *_tabular(model, chosen)]
    return "\n".join([*out, after]) + "\n"


def document(tables: Sequence[Table], provenance: Mapping[str, Any]) -> str:
    r"""Return a file for `\input` with every table as a float."""
    known = [k for k in ("command", "version", "commit", "created") if provenance.get(k)]
    head = "".join(f"% {k}: {re.sub(r'[^ -~]+', ' ', str(provenance[k]))}\n" for k in known)
    return head + HEAD + "\n" + "\n".join(table(t) for t in tables)
