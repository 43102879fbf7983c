"""The renderers: what a table becomes in text, Markdown, CSV, Parquet and LaTeX."""

from __future__ import annotations

import csv
import html
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.report import latex, markdown, text
from bench.report.table import Column, Table
from bench.results.runs import Results

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
NASTY = "we_i&rd%#${}~^\\<b>\"|`*'x"


# ------------------------------------------------------------------ text, Markdown, CSV and Parquet


def test_numbers_are_shown_at_their_precision() -> None:
    column = Column("p", "k", "K", digits=2, scale=100)
    assert column.show(0.01234) == "1.23"
    assert column.show(-0.00001) == "0.00"
    assert column.show(float("nan")) == "—"
    assert Column("p", "k", "K", digits=2).show(1.5e7) == "1.5e+07"
    assert column.heading == "K (×10⁻²)"
    # Nothing would be left of either at two digits: both go scientific.
    assert Column("p", "k", "K", digits=2).show_pair(0.0012, 0.0003) == ("1.2e-03", "3.0e-04")
    assert Column("p", "k", "K", digits=2).show_pair(0.0012, 0.2) == ("0.00", "0.20")


def test_wide_tables_are_split_without_cutting_groups() -> None:
    columns = tuple(Column("p", str(i), str(i), group="abc"[i // 3]) for i in range(9))
    table = Table("t", "t", "", columns, ())
    assert [len(p) for p in table.parts(4)] == [3, 3, 3]
    assert [i for p in table.parts(4) for i in p] == list(range(9))
    assert list(table.parts(9)) == [tuple(range(9))]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_text_tables_keep_to_the_width(width: int) -> None:
    lines = report.text_table(fakes.make(), "full", width).splitlines()
    assert max(text.width_of(line) for line in lines) <= width
    assert sum("Sync-C ↑" in line for line in lines) >= 2


def test_no_lone_column_is_left_over() -> None:
    columns = tuple(Column("p", str(i), f"heading {i}") for i in range(4))
    lines = text.table(Table("t", "t", "", columns, ()), 45).splitlines()  # three would fit
    assert [line.count("heading") for line in lines if "heading" in line] == [2, 2]


def test_text_tables_defuse_control_characters() -> None:
    methods = {"evil\x1b[31m": ("model", ("audio",), 0.5)}
    assert "\x1b" not in report.text_table(fakes.make(methods=methods), "summary")


def test_markdown_tables_are_rectangular_and_escaped() -> None:
    methods = {**fakes.METHODS, NASTY: ("model", ("audio",), 0.4)}
    out = markdown.document("t", report.build_tables(fakes.make(methods=methods), "full"), {})
    blocks = re.findall(r"(?:^\|.*\n)+", out, flags=re.M)
    for block in blocks:
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
    assert "<b>" not in out
    assert markdown.escape(NASTY) in out


def test_markdown_escapes_but_keeps_names_readable() -> None:
    assert markdown.escape("syncnet_v2") == "syncnet_v2"
    assert markdown.escape("_x_ *y* [z](u) <b>") == "\\_x\\_ \\*y\\* \\[z\\](u) &lt;b&gt;"
    assert markdown.escape("a\nb|c") == "a b\\|c"


def test_csv_has_every_planned_cell_and_no_formulas() -> None:
    methods = {"=cmd()": ("model", ("audio",), 0.4)}
    results = fakes.make(methods=methods, protocols=["psnr", "ssim"])
    from bench.report import csv as tidy

    lines = list(csv.DictReader(io.StringIO(tidy.document(report.build_tables(results, "summary")))))
    assert [r["column"] for r in lines] == ["psnr"]
    assert lines[0]["method"] == "'=cmd()"
    assert float(lines[0]["low"]) < float(lines[0]["value"]) < float(lines[0]["high"])
    assert (lines[0]["n_ok"], lines[0]["n_planned"]) == ("24", "24")


def test_parquet_and_csv_hold_the_same(tmp_path: Path) -> None:
    written = report.write(fakes.make(), tmp_path, recipe="summary", formats=("csv", "parquet"))
    a, b = pd.read_csv(written["csv"]), pd.read_parquet(written["parquet"])
    np.testing.assert_allclose(a["value"], b["value"].astype(float))
    assert a["protocol"].tolist() == b["protocol"].tolist()


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    results = fakes.make(media={"clip": "c/{method}{i}.mp4"})
    shuffled = Results.from_rows(
        results.rows.sample(frac=1, random_state=3), results.provenance, name=results.name
    )
    formats = tuple(report.FORMATS)
    first = {k: p.read_bytes() for k, p in report.write(results, tmp_path, formats=formats).items()}
    second = {k: p.read_bytes() for k, p in report.write(shuffled, tmp_path, formats=formats).items()}
    assert first == second
    assert not list(tmp_path.glob("*.partial"))


SCRIPT = """
import sys
from pathlib import Path
import fakes
from bench import report
report.write(fakes.make(media={"clip": "c/{method}{i}.mp4"}), Path(sys.argv[1]), formats=tuple(report.FORMATS))
"""


def test_the_same_rows_give_the_same_bytes_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(Path(fakes.__file__).parent), str(Path(report.__file__).parents[2])]
    # Strings hash otherwise than in this process.
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(paths)}
    out = tmp_path / "out"
    subprocess.run([sys.executable, "-c", SCRIPT, str(out)], env=environment, check=True, cwd=tmp_path)
    found = {f.name: f.read_bytes() for f in out.iterdir()}
    assert found.keys() == set(report.FORMATS.values())
    monkeypatch.chdir(tmp_path)
    report.write(fakes.make(media={"clip": "c/{method}{i}.mp4"}), out, formats=tuple(report.FORMATS))
    assert {f.name: f.read_bytes() for f in out.iterdir()} == found


def test_a_name_with_every_special_character_survives_in_every_format(tmp_path: Path) -> None:
    results = fakes.make(methods={NASTY: ("model", ("audio",), 0.4)}, protocols=["psnr"], dataset=NASTY)
    written = report.write(results, tmp_path, recipe="summary", formats=tuple(report.FORMATS))
    raw = {name: path.read_text(encoding="utf-8") for name, path in written.items() if name != "parquet"}
    assert pd.read_parquet(written["parquet"])["method"].tolist() == [NASTY]
    assert [r["method"] for r in csv.DictReader(io.StringIO(raw["csv"]))] == [NASTY]
    assert NASTY in re.findall(r'<th scope="row"><span>(.*?)</span>', html.unescape(raw["html"]))
    assert latex.escape(NASTY) in raw["latex"]
    assert markdown.escape(NASTY) in raw["md"]
    assert NASTY in report.text_table(results, "summary")


# ------------------------------------------------------------------ golden files and LaTeX


def golden(name: str, found: str) -> None:
    path = GOLDEN / name
    if os.environ.get("BENCH_UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), f"{name} changed; BENCH_UPDATE_GOLDEN=1 rewrites it"


@pytest.mark.parametrize("recipe", ["summary", "paper-table1", "gates"])
def test_golden_markdown_latex_and_text(recipe: str) -> None:
    methods = {**fakes.METHODS, NASTY: ("model", ("audio",), 0.4)}
    results = fakes.make(dataset="celebv-hq", domain="real", methods=methods)
    tables = report.build_tables(results, recipe)
    golden(f"{recipe}.md", markdown.document("Golden", tables, results.provenance))
    golden(f"{recipe}.tex", latex.document(tables, results.provenance))
    golden(f"{recipe}.txt", text.document(tables, 120))


def test_latex_escapes_everything() -> None:
    escaped = latex.escape(NASTY)
    assert escaped == (
        r"we\_i\&rd\%\#\$\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\textless{}b\textgreater{}"
        r"\textquotedbl{}\textbar{}\textasciigrave{}*\textquotesingle{}x"
    )
    assert latex.escape("a--b") == "a-{}-{}b"
    assert latex.escape("×10⁻²") == r"$\times$10$^{-2}$"
    assert "\x07" not in latex.escape("a\x07b")


@pytest.mark.parametrize("recipe", ["full", "paper-table2"])
def test_latex_compiles(tmp_path: Path, recipe: str) -> None:
    engine = shutil.which("pdflatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no pdflatex or tectonic here")
    methods = {
        **fakes.METHODS,
        NASTY: ("model", ("audio", "visual"), 0.4),
        "naïve--x": ("model", ("visual",), 0.2),
    }
    report.write(fakes.make(methods=methods, dataset=NASTY), tmp_path, recipe=recipe, formats=("latex",))
    packages = "\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp,xcolor}"
    (tmp_path / "main.tex").write_text(
        f"\\documentclass{{article}}{packages}\\begin{{document}}\\input{{report.tex}}\\end{{document}}"
    )
    options: list[Any] = [] if "tectonic" in engine else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run(
        [engine, *options, "main.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "main.pdf").stat().st_size > 10_000
