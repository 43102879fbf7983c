"""Verbs, exit codes and errors, through the command line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from bench.cli import invoke

TOYS = Path(__file__).resolve().parents[2] / "toys.py"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = invoke(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "message", "next_step"),
    [
        (
            ["run", "--methods", "mouth-wrap"],
            "no method called 'mouth-wrap'. Did you mean 'mouth-warp'?",
            "bench list methods",
        ),
        (["run", "--metrics", "psrn"], "no metric called 'psrn'", ""),
        (["run", "--split", "celebvhq"], "celebvhq", ""),
        (["run", "--gates", "adio"], "no gate called 'adio'", "Known: audio"),
        (["run", "--executor", "slurm"], "no executor called 'slurm'", "Known: auto, ray, inline"),
        (["run", "--split", "synthetic-ci", "--subset", "0"], "leaves nothing to do", "at least 1"),
        (["run", "--methods", "nowhere.py:Thing"], "Cannot load method", "bench list methods"),
        (["run", "--home", __file__], "is a file", "--home"),
        (["score", "/no/such/folder"], "is not a folder", "Give the folder"),
        (["show", "metric", "fid/none"], "no metric called 'fid/none'", "bench list metrics"),
        (["run", "--format", "pfd"], "no report format 'pfd'", "Formats: md"),
        (["run", "--recipe", "sumary"], "sumary", "summary"),
        (["score", ".", "--executor", "slurm"], "no executor called 'slurm'", "Known: auto, ray, inline"),
        (["run", "--methods", "./mine.py"], "a method is a class in it", "./mine.py:MyMethod"),
        (["show", "metric", "sync"], "stands for", "Name one"),
        (["prepare"], "Nothing to prepare", "--metrics all"),
        (["cache", "explain", "ffff"], "0 records start with 'ffff'", "rows.parquet"),
    ],
)
def test_wrong_words_are_one_paragraph_a_next_step_and_exit_code_2(
    arguments: list[str], message: str, next_step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2, err
    assert message in err and next_step in err
    assert "Traceback" not in err and out == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        # What was typed has to be changed.
        ("run --methods nosuch", 2),
        ("prepare --methods nosuch", 2),
        ("rehearse nosuch --checkout .", 2),
        ("show doc nosuch", 2),
        ("run --split nosuch", 2),
        ("run --split folder:/no/such", 2),
        ("prepare --split ravdess --from /no/such", 2),
        ("new ci nosuch", 2),
        # It is right, but what it needs is not here.
        ("run --methods sadtalker", 4),
        ("run --split celebv-hq --methods frozen", 4),
        ("prepare --metrics fvd/disco_res50 --offline", 4),
        ("report", 4),
        ("report nosuch", 4),
        ("compare nosuch latest", 4),
        ("status nosuch", 4),
        ("show run nosuch", 4),
        ("gate --reference nosuch --rules .ci/gate.toml", 4),
        ("gate --rules /no/such.toml", 4),
        ("reference show nosuch", 4),
    ],
)
def test_exit_code_2_is_for_what_was_typed_and_4_for_what_is_not_here(
    command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    monkeypatch.setenv("BENCH_WEIGHTS", "")
    found, _, err = run(capsys, *command.split())
    assert found == code, err
    assert err.count("\n") >= 2 or "Run:" in err or "Make" in err, "no next step"


def test_an_unknown_verb_or_option_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "rum")[0] == 2
    assert run(capsys, "run", "--sed", "1")[0] == 2


def test_a_metric_asked_for_by_name_without_its_weights_is_exit_code_4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests_toys import frames

    from bench.media.encode import write_clip

    (tmp_path / "talk").mkdir()
    write_clip(tmp_path / "talk" / "a.mp4", frames(0))
    code, _, err = run(
        capsys, "score", str(tmp_path / "talk"), "--metrics", "lmd/mouth_iod", "--weights", str(tmp_path)
    )
    assert code == 4
    assert "bench prepare --metrics" in err or "pip install" in err


def test_a_method_that_is_not_prepared_is_exit_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "run", "--methods", "sadtalker")
    assert code == 4
    assert "bench prepare --methods sadtalker" in err


def test_score_reports_videos_made_elsewhere_and_names_what_it_cannot_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests_toys import frames

    from bench.media.encode import write_clip

    folder = tmp_path / "it's a 'folder' ünï"
    folder.mkdir()
    write_clip(folder / "good one.mp4", frames(1))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("x")
    home = tmp_path / "home"
    arguments = ["score", str(folder), "--as", "theirs", "--metrics", "flicker/mae", "--home", str(home)]
    code, out, err = run(capsys, *arguments, "--executor", "inline", "--format", "md,csv")
    assert code == 1, "two clips failed"
    assert "theirs" in out
    assert "notes.txt" in err and "empty.mp4" in err and "text.mp4" in err
    assert "1 of 3 clips made; 1 of 4 files not used: notes.txt" in err
    code, out, _ = run(capsys, "status", "--home", str(home), "--json")
    status = json.loads(out)
    assert code == 0 and status["counts"]["error"] == 2 and status["counts"]["ok"] == 1
    assert run(capsys, *arguments, "--executor", "inline", "--max-failures", "2")[0] == 0


def test_plan_counts_without_doing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--split", "synthetic-ci", "--methods", "frozen,ground-truth", "--metrics", "psnr"]
    code, out, _ = run(capsys, "plan", *arguments, "--home", str(tmp_path), "--json")
    plan = json.loads(out)
    assert code == 0
    assert (plan["clips"], plan["clips_to_make"], plan["metrics"]) == (8, 8, ["psnr/rgb_float64"])
    assert not [p for p in (tmp_path / "blobs").rglob("*") if p.is_file()]


def test_cache_finds_a_damaged_clip_and_the_next_run_makes_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(tmp_path)]
    once = ["run", "--split", "synthetic-ci", "--subset", "1", "--methods", "frozen", "--metrics", "psnr,flicker"]
    once += ["--executor", "inline", "--format", "csv", "--quiet", *home]
    code, first, err = run(capsys, *once)
    assert code == 0, err
    assert run(capsys, "cache", "verify", *home)[0] == 0
    clip = next((tmp_path / "blobs").glob("??/*.mp4"))
    clip.write_bytes(b"x" * clip.stat().st_size)
    code, out, _ = run(capsys, "cache", "verify", *home)
    assert code == 1 and "1 broken" in out
    assert run(capsys, *once)[:2] == (0, first)
    assert run(capsys, "cache", "verify", *home)[0] == 0
    code, out, _ = run(
        capsys, "cache", "explain", next((tmp_path / "records" / "gen").glob("*/*.json")).stem[:12], *home
    )
    assert code == 0 and json.loads(out)["fields"]["method"] == "frozen"


def test_doctor_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--home", str(tmp_path), "--json")
    checks = {check["check"]: check["state"] for check in json.loads(out)}
    assert code == 0 and checks["torch"] == checks["codecs"] == "ok"


def test_cleaning_leaves_alone_what_a_run_may_still_be_writing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young, old = tmp_path / "blobs" / "ab" / "young.mp4", tmp_path / "blobs" / "scratch" / "old.mp4"
    for path in (young, old):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"clip")
    os.utime(old, (1.0, 1.0))
    code, _, _ = run(capsys, "cache", "clean", "--home", str(tmp_path))
    assert code == 0 and young.exists() and not old.exists()


def test_a_data_set_that_is_not_prepared_can_be_planned(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "plan", "--split", "celebv-hq", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["clips"] == plan["clips_to_make"] > 0
    methods = {cell["method"] for cell in plan["cells"]}
    assert "shuffled-audio" in methods
    assert "landmark-warp" in methods | set(plan["left_out"])  # it needs a file on real faces


def test_videos_of_our_own_store_are_not_scored(tmp_path: Path) -> None:
    from tests_toys import frames

    from bench.data.ingest import own_split
    from bench.media.encode import write_clip

    (tmp_path / ".bench" / "blobs").mkdir(parents=True)
    write_clip(tmp_path / "theirs.mp4", frames(0))
    write_clip(tmp_path / ".bench" / "blobs" / "ours.mp4", frames(1))
    assert list(own_split(tmp_path)[1]) == ["theirs"]


def test_nobody_at_the_cluster_address_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "doctor", "--cluster", "127.0.0.1:1", "--home", str(tmp_path))
    assert code == 4
    assert "No Ray cluster answers at 127.0.0.1:1" in err and "ray start" in err


def test_a_disk_that_fills_up_under_a_report_is_one_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench import report

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    once = ["run", "--split", "synthetic-ci", "--subset", "1", "--methods", "frozen", "--metrics", "flicker/mae"]
    with monkeypatch.context() as patch:
        patch.setattr(report, "write", full)
        code, _, err = run(capsys, *once, "--executor", "inline", "--quiet", "--home", str(tmp_path))
    assert code == 1
    assert "No space left on device" in err and "run the same command again" in err
