"""What the gate and compare verbs hand to people and to CI."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import fakes
import pytest
import typer
from typer.testing import CliRunner

from bench.cli import compare as compare_verb
from bench.cli import gate as gate_verb
from bench.cli import reference as reference_verb
from bench.cli import report as report_verb
from bench.core.errors import MissingError, UsageError
from bench.report import changes, github, junit
from bench.results import reference
from bench.results.compare import compare
from bench.results.gate import Outcome, gate, parse_rules
from bench.results.runs import Results, load

NASTY = 'na_me&%#${}~^\\<>"|`: ,\x01\n'


def outcome(shift: float = -3.0, methods: Any = None, **options: Any) -> Outcome:
    methods = methods or {"mouth-warp": fakes.METHODS["mouth-warp"]}
    old = fakes.make(seed=1, methods=methods, protocols=["sync"], missing=False)
    new = fakes.make(
        seed=2, methods=methods, protocols=["sync"], missing=False, media={"clip": "blobs/{method}/{i}.mp4"},
        shift={(m, "sync_c"): shift for m in methods}, **options,
    )  # fmt: skip
    return gate(new, old, parse_rules({"rule": [{"protocol": "sync/*", "tolerance": 0.2}]}))


def test_junit_has_one_case_per_check_and_the_counts_add_up() -> None:
    found = outcome()
    root = ET.fromstring(junit.document(found))
    suite = root.find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert len(cases) == len(found.checks) == int(suite.attrib["tests"])
    assert int(suite.attrib["failures"]) == len(suite.findall(".//failure")) == found.count("fail")
    assert int(suite.attrib["skipped"]) == len(suite.findall(".//skipped"))
    failure = suite.find(".//failure")
    assert failure is not None
    assert "blobs/mouth-warp/" in (failure.text or "")


COUNT, DECIMAL, TEXT = r"\d+", r"\d+(\.\d+)?", r"[\s\S]*"
# What the schema of the common JUnit format (Jenkins, junit-10.xsd) allows, as far as a gate can write it:
# element: (attributes with their patterns, required attributes, children, whether it may hold text)
JUNIT: dict[str, tuple[dict[str, str], set[str], set[str], bool]] = {
    "testsuites": (
        {"name": TEXT, "time": DECIMAL, "tests": COUNT, "failures": COUNT, "errors": COUNT, "disabled": COUNT},
        set(), {"testsuite"}, False,
    ),
    "testsuite": (
        {"name": TEXT, "time": DECIMAL, "tests": COUNT, "failures": COUNT, "errors": COUNT, "disabled": COUNT,
         "skipped": COUNT, "timestamp": TEXT, "hostname": TEXT, "id": TEXT, "package": TEXT},
        {"name", "tests"}, {"testcase", "properties", "system-out", "system-err"}, False,
    ),
    "testcase": (
        {"name": TEXT, "classname": TEXT, "time": DECIMAL, "assertions": COUNT, "status": TEXT},
        {"name"}, {"skipped", "error", "failure", "system-out", "system-err"}, False,
    ),
    "failure": ({"message": TEXT, "type": TEXT}, {"message", "type"}, set(), True),
    "error": ({"message": TEXT, "type": TEXT}, {"message", "type"}, set(), True),
    "skipped": ({"message": TEXT}, {"message"}, set(), True),
}  # fmt: skip


def check_junit(element: ET.Element) -> None:
    attributes, required, children, text = JUNIT[element.tag]
    assert required <= set(element.attrib) <= set(attributes), element.tag
    for name, value in element.attrib.items():
        assert re.fullmatch(attributes[name], value), (element.tag, name, value)
    assert text or not (element.text or "").strip()
    assert {child.tag for child in element} <= children
    for child in element:
        assert not (child.tail or "").strip()
        check_junit(child)


def every_verdict() -> Outcome:
    """One run with each of the five verdicts, and with names that need escapes."""
    methods = dict.fromkeys((NASTY, "shaky", "same"), ("model", ("audio",), 0.5))
    options: dict[str, Any] = {"protocols": ["sync"], "missing": False, "repeats": 2}
    old = fakes.make(seed=1, methods=methods, **options)
    new = fakes.make(
        seed=2, methods={**methods, "new": ("model", ("audio",), 0.5)},
        shift={(NASTY, "sync_c"): -3.0, ("shaky", "sync_c"): -0.2}, **options,
    )  # fmt: skip
    sync = {"protocol": "sync/*", "column": "sync_c"}
    rules = [
        {**sync, "methods": NASTY, "tolerance": 0.2},
        {**sync, "methods": "shaky", "tolerance": 0.15},
        {**sync, "methods": ["same", "new"], "tolerance": 5.0},
        {"protocol": "none/*", "tolerance": 1.0},
    ]
    return gate(new, old, parse_rules({"rule": rules}))


def test_junit_keeps_to_the_schema_with_every_verdict() -> None:
    found = every_verdict()
    assert {c.verdict for c in found.checks} == {"fail", "missing", "inconclusive", "no reference", "pass"}
    root = ET.fromstring(junit.document(found))
    assert root.tag == "testsuites"
    check_junit(root)
    outcomes = {tag: len(root.findall(f".//{tag}")) for tag in ("failure", "error", "skipped")}
    assert outcomes == {"failure": 1, "error": 1, "skipped": 2}
    (suite,) = root
    assert [suite.attrib[k] for k in ("tests", "failures", "errors", "skipped")] == ["5", "1", "1", "2"]
    names = [(case.attrib["classname"], case.attrib["name"]) for case in suite]
    assert len(names) == len(set(names))
    assert all(len(case) <= 1 for case in suite)


def test_junit_survives_any_name() -> None:
    text = junit.document(outcome(methods={NASTY: ("model", ("audio",), 0.5)}))
    names = [c.attrib["name"] for c in ET.fromstring(text).iter("testcase")]
    assert any('na_me&%#${}~^\\<>"|`: ,\ufffd' in n for n in names)


def test_at_most_ten_annotations_and_the_rest_is_counted() -> None:
    many = {f"method{i}": ("model", ("audio",), 0.5) for i in range(14)}
    lines = github.commands(outcome(methods=many))
    assert len(lines) == 10
    assert all(line.startswith(("::error ", "::warning ")) for line in lines)
    assert "5 more" in lines[-1]


def test_annotations_escape_what_would_end_them() -> None:
    line = github.commands(outcome(methods={NASTY: ("model", ("audio",), 0.5)}))[0]
    assert "\n" not in line
    assert line.count("::") == 2
    assert "%25" in line
    assert "%3A" in line


def test_nothing_is_published_outside_github(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    found = outcome()
    assert github.publish(found, {"GITHUB_STEP_SUMMARY": str(summary)}) == []
    assert not summary.exists()
    assert github.publish(found, {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)})
    assert "mouth-warp" in summary.read_text(encoding="utf-8")


def test_a_long_summary_is_cut_before_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github, "SUMMARY_BYTES", 500)
    text = github.summary(outcome())
    assert len(text.encode()) < 700
    assert "JUnit file has every check" in text


def test_gate_text_lists_the_worst_samples_with_their_clips() -> None:
    text = changes.gate_text(outcome())
    assert "✗ fail" in text
    assert text.count("blobs/mouth-warp/") == 5
    assert text.rstrip().splitlines()[-2].startswith("gate: 1 fail")


def test_gate_text_stays_short_when_everything_fails() -> None:
    many = {f"method{i}": ("model", ("audio",), 0.5) for i in range(12)}
    found = outcome(methods=many)
    text = changes.gate_text(found)
    assert found.count("fail") == 12
    assert text.count("blobs/") == changes.SHOWN_FAILURES * 5
    assert "those of the other 9 failures" in text
    assert changes.gate_markdown(found).count("blobs/") == 12 * 5


def test_gate_text_says_how_to_accept_a_change_and_on_what_few_identities_rest() -> None:
    text = changes.gate_text(every_verdict())
    assert text.rstrip().endswith("bench reference save fake fake")
    few = gate(
        fakes.make(seed=2, protocols=["sync"], identities=4, shift={("mouth-warp", "sync_c"): -3.0}),
        fakes.make(seed=1, protocols=["sync"], identities=4),
        parse_rules({"rule": [{"protocol": "sync/*", "methods": "mouth-warp", "tolerance": 0.2}]}),
    )
    assert changes.gate_text(few).count("Only 4 identities.") == 1
    assert "bench reference save" not in changes.gate_text(outcome(shift=0.0))


def test_gate_markdown_escapes_names() -> None:
    text = changes.gate_markdown(outcome(methods={"a|b<c>": ("model", ("audio",), 0.5)}))
    assert "a\\|b&lt;c&gt;" in text
    outside_code = "".join(text.split("`")[::2])
    assert "<c>" not in outside_code


@pytest.fixture(scope="module")
def pair() -> tuple[Results, Results]:
    methods = {k: fakes.METHODS[k] for k in ("mouth-warp", "ground-truth")}
    old = fakes.make(seed=1, methods=methods, media={"clip": "old/{method}/{i}.mp4"})
    new = fakes.make(
        seed=2, methods=methods, shift={("mouth-warp", "psnr"): -2.0}, media={"clip": "new/{method}/{i}.mp4"}
    )
    return old, new


def test_compare_signs_gains_so_that_positive_is_better(pair: tuple[Results, Results]) -> None:
    found = {(d.cell.method, d.cell.column): d for d in compare(*pair)}
    lost = found["mouth-warp", "psnr"]
    assert lost.gain < 0
    assert lost.high < 0
    assert lost.p_holm < 0.05
    # Lower is better: the gain is minus the difference.
    fid = found["mouth-warp", "fid"]
    assert fid.gain == pytest.approx(fid.old - fid.new)
    assert found["ground-truth", "sync_c"].p_holm > 0.05


def test_compare_names_both_clips_of_the_largest_losses(pair: tuple[Results, Results]) -> None:
    text = changes.compare_text(compare(*pair), ("a", "b"), most=3)
    assert "PSNR" in text
    assert text.count("old/mouth-warp/") == text.count("new/mouth-warp/") == 3
    assert "without a significant change" in text
    assert len(changes.compare_text(compare(*pair), ("a", "b"), everything=True)) > len(text)


def test_identical_results_are_counted_not_listed(pair: tuple[Results, Results]) -> None:
    text = changes.compare_text(compare(pair[0], pair[0]), ("a", "a"))
    clip_and_set = len(compare(pair[0], pair[0]))
    assert f"{clip_and_set} identical" in text
    assert "Largest" not in text


def test_compare_as_json_has_null_where_there_is_no_number(pair: tuple[Results, Results]) -> None:
    data = json.loads(changes.compare_json(compare(*pair), ("a", "b")))
    offsets = [d for d in data["differences"] if d["column"] == "offset"]
    assert offsets
    assert all(d["p"] is None for d in offsets)
    assert all({"method", "gate", "protocol", "old", "new", "gain", "low", "high"} <= d.keys() for d in offsets)


def store(results: Results, folder: Path) -> None:
    folder.mkdir(parents=True)
    results.rows.to_parquet(folder / "rows.parquet")
    (folder / "run.json").write_text(json.dumps(results.provenance))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    methods = {"mouth-warp": fakes.METHODS["mouth-warp"]}
    options: dict[str, Any] = {"methods": methods, "protocols": ["sync"], "missing": False, "repeats": 3}
    runs = tmp_path / "home" / "runs"
    store(fakes.make(seed=1, **options), runs / "base")
    store(fakes.make(seed=1, **options), runs / "same")
    store(fakes.make(seed=2, shift={("mouth-warp", "sync_c"): -3.0}, **options), runs / "worse")
    for age, name in enumerate(("same", "worse", "base")):
        os.utime(runs / name / "rows.parquet", (1_700_000_000 - age, 1_700_000_000 - age))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.toml").write_text('[[rule]]\nprotocol = "sync/*"\nnoise = 4\n')
    return tmp_path


@pytest.fixture
def bench() -> typer.Typer:
    app = typer.Typer()
    app.command("gate")(gate_verb.gate)
    app.command("compare")(compare_verb.compare)
    app.command("report")(report_verb.report)
    app.add_typer(reference_verb.app, name="reference")
    return app


def test_the_verbs_from_reference_to_exit_code(project: Path, bench: typer.Typer) -> None:
    runner = CliRunner()
    saved = runner.invoke(bench, ["reference", "save", "synthetic", "base", "--rerun", "same"])
    assert saved.exit_code == 0, saved.output
    files = sorted(p.name for p in (project / "reports/reference/synthetic").iterdir())
    assert files == ["noise.json", "rows.parquet", "run.json"]
    shown = runner.invoke(bench, ["reference", "show", "synthetic"])
    assert "Noise floors" in shown.output
    assert "Sync-C" in shown.output
    assert "synthetic" in runner.invoke(bench, ["reference", "show"]).output

    assert runner.invoke(bench, ["gate"]).exit_code == 0  # latest is "same"
    failed = runner.invoke(bench, ["gate", "worse", "--junit", "out/gate.xml"])
    assert failed.exit_code == 3, failed.output
    assert "fail" in failed.output
    assert ET.parse(project / "out/gate.xml").getroot().attrib["failures"] == "1"
    compared = runner.invoke(bench, ["compare", "synthetic", "worse"])
    assert compared.exit_code == 0
    assert "worse" in compared.output


def test_the_report_verb_writes_into_the_run_or_where_it_is_told(project: Path, bench: typer.Typer) -> None:
    runner = CliRunner()
    one = runner.invoke(bench, ["report", "base", "--recipe", "summary", "--format", "md,csv"])
    assert one.exit_code == 0, one.output
    folder = project / "home" / "runs" / "base"
    assert one.output.split() == [str(folder / "report.md"), str(folder / "report.csv")]
    two = runner.invoke(
        bench, ["report", "base", "worse", "--format", "md", "--recipe", "summary", "--out", "both"]
    )
    assert two.exit_code == 0, two.output
    text = (project / "both" / "report.md").read_text(encoding="utf-8")
    assert "mouth-warp @ base" in text
    assert "mouth-warp @ worse" in text


def test_a_reference_keeps_scores_and_digests_but_no_media(project: Path) -> None:
    run = load("base")
    where = reference.save(
        Results.from_rows(run.rows.assign(clip_path="/secret/clip.mp4"), run.provenance),
        "kept",
        folder=project / "r",
    )
    kept = load(str(where))
    assert (kept.rows["clip_path"] == "").all()
    assert (kept.rows["clip_sha256"] != "").all()
    assert kept.rows["value"].tolist() == run.rows["value"].tolist()
    assert b"/secret/" not in (where / "rows.parquet").read_bytes()


def test_missing_things_say_what_to_type(project: Path) -> None:
    with pytest.raises(MissingError, match="bench reference save"):
        reference.load_reference("nothing")
    with pytest.raises(MissingError, match="Did you mean 'worse'"):
        load("wrose")
    with pytest.raises(UsageError, match="cannot be the name"):
        reference.save(load("base"), "../up")


def test_strict_turns_inconclusive_into_five(project: Path, bench: typer.Typer) -> None:
    runner = CliRunner()
    runner.invoke(bench, ["reference", "save", "synthetic", "base"])
    (project / "gate.toml").write_text('[[rule]]\nprotocol = "sync/*"\ncolumn = "sync_d"\nnoise = 1\n')
    assert runner.invoke(bench, ["gate", "worse"]).exit_code == 0
    assert runner.invoke(bench, ["gate", "worse", "--strict"]).exit_code == 5


def test_coverage_is_said_in_compare(pair: tuple[Results, Results]) -> None:
    old, new = pair
    rows = new.rows[~((new.rows["sample"] == "clip001_0") & (new.rows["column"] == "psnr"))]
    found = compare(old, Results.from_rows(rows, new.provenance))
    psnr = next(d for d in found if d.cell.column == "psnr")
    assert psnr.n == 23
    assert "1 sample no longer scored (clip001_0: not run)" in psnr.coverage


def test_what_one_side_alone_has_is_counted_by_method(pair: tuple[Results, Results]) -> None:
    old, new = pair
    rows = old.rows[old.rows["method"] != "mouth-warp"]
    found = compare(Results.from_rows(rows, old.provenance), new)
    text = changes.compare_text(found, ("a", "b"))
    alone = sum(d.problem == "new" for d in found)
    assert alone > 5
    assert f"{alone} only in the second (mouth-warp)" in text and "--all lists them" in text
    assert "not in the first results" not in text
    assert changes.compare_text(found, ("a", "b"), everything=True).count("not in the first results") == alone
