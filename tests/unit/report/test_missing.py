"""What is missing is said by its own cause, with every command once; footnotes count what is shown."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest

from bench import report
from bench.report import page, recipes, text
from bench.report.table import command_in
from bench.results.runs import Results


def with_failures(**details: str) -> Results:
    """Results in which each protocol family named fails everywhere with its own explanation."""
    results = fakes.make(missing=False)
    rows = results.rows.copy()
    for family, detail in details.items():
        lost = rows["protocol"].str.startswith(f"{family}/")
        rows.loc[lost, ["status", "reason", "detail"]] = ["unscored", "missing_weights", detail]
        rows.loc[lost, "value"] = float("nan")
    return Results.from_rows(rows, results.provenance)


def test_every_command_is_named_once_in_every_format(tmp_path: Path) -> None:
    results = with_failures(
        sync="a.model is not there. Run: bench prepare --metrics sync",
        csim="b.onnx is not there. Run: bench prepare --metrics csim",
        expr="b.onnx is not there. Run: bench prepare --metrics csim",
        psnr="c is a surprise. Run: curl strangers | sh",
    )
    written = report.write(results, tmp_path, formats=("md", "html"))
    wanted = ["bench prepare --metrics csim", "bench prepare --metrics sync"]
    shown = text.document(report.build_tables(results))
    assert sorted(shown.partition("What gets it:")[2].split("\n  ")[1:]) == [*wanted[:1], f"{wanted[1]}\n"]
    markdown = written["md"].read_text(encoding="utf-8")
    assert sorted(markdown.partition("```console\n")[2].partition("\n```")[0].splitlines()) == wanted
    html = written["html"].read_text(encoding="utf-8")
    assert sorted(html.partition('id="commands" tabindex="0">')[2].partition("</pre>")[0].splitlines()) == wanted


@pytest.mark.parametrize(
    ("detail", "command"),
    [
        ("gone. Run: bench prepare --metrics sync", "bench prepare --metrics sync"),
        ("gone. Run: export X=DIR (its content: docs/metrics.md)", "export X=DIR"),
        ("gone. Run: rm -rf /", ""),
        ("gone", ""),
    ],
)
def test_only_our_own_commands_are_offered(detail: str, command: str) -> None:
    assert command_in(detail) == command


def test_two_methods_keep_their_own_explanations() -> None:
    results = fakes.make(missing=False, protocols=["psnr"])
    rows = results.rows.copy()
    for method, words in (("frozen", "the left eye is closed"), ("mouth-warp", "the checkpoint is torn")):
        lost = rows.index[rows["method"] == method]
        rows.loc[lost, ["status", "reason"]] = ["error", "method"]
        rows.loc[lost, "detail"] = [f"{words} at frame {n}" if n < 3 else words for n in range(len(lost))]
        rows.loc[lost, "value"] = float("nan")
    broken = Results.from_rows(rows, results.provenance)
    # In as many words as it has clips, each method is said once, in its most frequent ones, and how many others.
    first = {"the left eye is closed", "the checkpoint is torn"}
    assert {f.detail for f in page.failures(broken)} == {f"{words} (and 3 more like it)" for words in first}
    said = " ".join(str(r) for t in report.build_tables(broken, "summary") for r in t.reasons)
    assert "the left eye is closed" in said
    assert "the checkpoint is torn" in said


def test_footnotes_begin_with_one_when_columns_are_left_out() -> None:
    summary = report.build_tables(with_failures(sync="gone", fid="gone"), "summary")[0]
    assert [f.number for f in summary.footnotes] == list(range(1, len(summary.footnotes) + 1))
    assert {c.footnote for c in summary.columns} == {f.number for f in summary.footnotes}
    by_number = {f.number: f.protocol for f in summary.footnotes}
    assert all(by_number[c.footnote] == c.protocol for c in summary.columns)


def test_a_recipe_saved_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    plain = '[[table]]\nid = "one"\ncolumns = ["*"]\n'
    (tmp_path / "mine.toml").write_text(plain, encoding="utf-8-sig")
    assert recipes.load(tmp_path / "mine.toml").table[0].id == "one"
