"""What people read: texts for people and JSON for programs, whole lines in pipes, two methods of one run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench import __version__
from bench.cli import invoke
from bench.core.errors import UsageError
from bench.media.encode import write_clip
from bench.report import changes
from bench.results.compare import compare, methods_of_one
from bench.results.runs import Results

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
import fakes


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = invoke(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


SMALL = ("run", "--split", "synthetic-ci", "--subset", "1", "--methods", "frozen", "--metrics", "psnr")


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"bench {__version__}\n", "")


def test_show_is_text_for_people_and_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "show", "metric", "psnr/rgb_float64")
    assert code == 0
    assert not text.startswith("{")
    shown = dict(line.split(None, 1) for line in text.splitlines() if not line.startswith(" ") and " " in line)
    code, said, _ = run(capsys, "show", "metric", "psnr/rgb_float64", "--json")
    data = json.loads(said)
    assert shown["id"] == data["id"] == "psnr/rgb_float64"
    assert shown["summary"] == data["summary"]
    assert shown["domains"] == ", ".join(data["domains"])
    assert "PSNR" in text


def test_control_signals_are_chosen_and_the_old_name_still_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["plan", "--split", "synthetic-ci", "--methods", "actalker", "--json", "--home", str(tmp_path)]

    def cells(*words: str) -> tuple[list[str], str]:
        code, out, err = run(capsys, *plan, *words)
        assert code == 0, err
        return [c["gate"] for c in json.loads(out)["cells"]], err

    assert cells("--controls", "audio,both")[0] == ["audio", "audio+visual"]
    assert cells("--controls", "all")[0] == cells()[0] == ["audio", "visual", "audio+visual"]
    old, err = cells("--gates", "audio+visual")
    assert old == ["audio+visual"]
    assert "--controls" in err


def test_a_run_for_programs_holds_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--executor", "inline", "-q", "--format", "csv", "--home", str(tmp_path))
    code, out, _ = run(capsys, *SMALL, *options, "--json")
    scores = json.loads(out)["scores"]
    assert code == 0
    psnr = next(s for s in scores if s["protocol"] == "psnr/rgb_float64" and s["column"] == "psnr")
    assert (psnr["method"], psnr["n_ok"], psnr["direction"]) == ("frozen", 1, "higher")
    assert 5 < psnr["value"] < 60
    # The same again: a table this time.
    code, out, _ = run(capsys, *SMALL, *options)
    assert code == 0
    assert f"{psnr['value']:.2f}" in out


def test_pipes_get_whole_lines_and_may_close_early(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"BENCH_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "bench", "list", "metrics"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ids = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert all("/" in i for i in ids)  # no line is the rest of another
    assert max(map(len, done.stdout.splitlines())) > 120
    child = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None and child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 0


def test_defaults_that_cannot_run_on_real_faces_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS", "")
    (tmp_path / "clips").mkdir()
    frames = [np.full((64, 64, 3), 40 + 20 * t, np.uint8) for t in range(10)]
    write_clip(tmp_path / "clips" / "a.mp4", frames, 25.0, np.zeros(6400, np.int16))
    home = ("--home", str(tmp_path / "home"))
    code, out, err = run(capsys, "plan", "--split", f"folder:{tmp_path / 'clips'}", "--json", *home)
    assert code == 0, err
    data = json.loads(out)
    methods = {c["method"] for c in data["cells"]}
    assert {"ground-truth", "frozen"} <= methods
    assert not {"mouth-warp", "landmark-warp"} & methods
    assert {"mouth-warp", "landmark-warp"} <= set(data["left_out"])
    assert all("bench prepare" in needs for n, needs in data["left_out"].items() if n.endswith("-warp"))
    _, out, _ = run(capsys, "plan", "--split", f"folder:{tmp_path / 'clips'}", *home)
    assert sum("left out, cannot run here" in line and "landmark-warp" in line for line in out.splitlines()) == 1


def test_a_folder_of_weights_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *SMALL, "--weights", "/no/such/folder")
    assert code == 2
    assert "/no/such/folder" in err


def test_two_methods_of_one_run_are_compared_on_the_same_clips() -> None:
    results = fakes.make(missing=False)
    old, new = methods_of_one(results, "mouth-warp", "actalker")
    found = compare(old, new)
    sync = next(d for d in found if d.cell.column == "sync_c")
    assert (sync.cell.method, sync.cell.gate, sync.n) == ("actalker against mouth-warp", "audio", 24)
    rows = results.rows[(results.rows["column"] == "sync_c") & (results.rows["gate"] == "audio")]
    means = rows.groupby("method")["value"].mean()
    assert sync.gain == pytest.approx(means["actalker"] - means["mouth-warp"])
    assert sync.low > 0
    # Other signals, because the names say so, or because each side has one.
    old, new = methods_of_one(results, "actalker:audio", "actalker:visual")
    assert compare(old, new)[0].cell.gate == "visual against audio"
    assert len(compare(*methods_of_one(results, "frozen", "mouth-warp"))) == len(found)
    with pytest.raises(UsageError, match="no row 'actalkr'"):
        methods_of_one(results, "actalkr", "frozen")
    with pytest.raises(UsageError, match="share no control signal"):
        methods_of_one(results, "actalker", "frozen")


def test_too_few_people_are_said_to_decide_nothing() -> None:
    few = fakes.make(identities=2, clips_per_identity=4, missing=False, protocols=["psnr"])
    shift = fakes.make(identities=2, clips_per_identity=4, missing=False, protocols=["psnr"], seed=1)
    text = changes.compare_text(compare(few, shift), ("a", "b"))
    assert "cannot be decided by 2 identities (10 are needed)" in text
    assert "without a significant change" not in text
    assert "better" not in text.partition("positive is better")[2]


def test_progress_names_the_running_job(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from bench.cli import display

    clock = iter([100.0, 112.4])
    monkeypatch.setattr(display.time, "monotonic", lambda: next(clock))
    running = [SimpleNamespace(title="actalker audio id00"), SimpleNamespace(title="sync of id01")]
    now = display.Now(lambda: running)
    assert now() == "now actalker audio id00 for 0 s, and 1 more"
    running.pop()
    assert now() == "now actalker audio id00 for 12 s"


def test_a_log_names_the_running_job_though_nothing_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from types import SimpleNamespace

    from bench.cli import display

    monkeypatch.setattr(display, "_LOG_EVERY", 1)
    monkeypatch.setattr(display, "errors", display._Screen(stderr=True, force_terminal=False))
    task = SimpleNamespace(title="actalker audio id00")
    plan = SimpleNamespace(jobs=(1, 2), cells=())
    flow = SimpleNamespace(clips=2, plan=plan, generated={}, settled=0, set_metrics=(), sets={})
    progress = display.RunProgress()
    said = ""
    try:
        progress.start(flow, lambda: [task])
        for _ in range(200):
            time.sleep(0.05)
            said += capsys.readouterr().err
            if "now actalker" in said:
                break
    finally:
        progress.stop()
    assert "clips 0/2" in said and "now actalker audio id00 for" in said


def test_results_of_a_pair_keep_the_run(tmp_path: Path) -> None:
    results = dataclasses.replace(fakes.make(missing=False), folder=tmp_path)
    old, new = methods_of_one(results, "mouth-warp", "actalker")
    assert isinstance(old, Results)
    assert (old.name, new.name, new.folder) == ("mouth-warp", "actalker", tmp_path)


def test_the_doctor_says_what_real_videos_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BENCH_WEIGHTS", "")
    code, out, _ = run(capsys, "doctor", "--real", "--json", "--home", str(tmp_path))
    assert code == 0
    checks = {c["check"]: c for c in json.loads(out)}
    assert checks["psnr/rgb_float64"]["state"] == checks["frozen"]["state"] == "ok"
    assert "bench prepare --metrics sync" in checks["sync/longest_track"]["detail"]
    assert not any("synthetic" in name for name in checks)
    _, out, _ = run(capsys, "doctor", "--real", "--home", str(tmp_path))
    assert out.rstrip().endswith("bench prepare --metrics all")
