"""What a user sets of a method: typed, part of the key, and in the row's name."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import tests_toys as toys

import bench
from bench.catalogue import find_method, load_method, state
from bench.cli import invoke
from bench.core.options import parse
from bench.methods.actalker import EmbeddedACTalker
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.blobs import Blob
from bench.store.home import Home

TINT = """
import numpy as np
from bench import MethodSpec, Option, Video, read_image


class Tint:
    spec = MethodSpec(
        "tint", "1", ("audio",), "classical", seeded=False,
        options={
            "level": Option(40, low=0, high=255, summary="grey level"),
            "gain": Option(1.0),
            "twice": Option(False),
            "side": Option("left", choices=("left", "right")),
        },
    )

    def __init__(self, level=40, gain=1.0, twice=False, side="left"):
        self.level = level * gain * (2 if twice else 1)

    def generate(self, sample, gate, seed):
        return Video(np.full((32, 32, 3), self.level, np.uint8) for _ in range(sample.frames))
"""


@pytest.fixture
def tint(tmp_path: Path) -> str:
    path = tmp_path / "tint.py"
    path.write_text(TINT, encoding="utf-8")
    return f"{path}:Tint"


def test_two_settings_of_one_method_stand_in_one_table(tint: str, tmp_path: Path) -> None:
    split = toys.make_split(tmp_path / "split", 2)
    names = [tint, f"{tint}+level=60+twice=yes", f"{tint}+gain=2.5"]
    plan = plan_generation(split, [find_method(name) for name in names])
    assert len({job.key for job in plan.jobs}) == 6
    home = Home(tmp_path / "home")
    done = execute(plan, [], home, Execution("inline"))
    assert done.made == 6, done.failures
    grey = {}
    for job in plan.jobs:
        record = home.records.get("gen", job.key)
        assert record is not None
        path = home.blobs.path(Blob(**record["clip"]))
        grey[job.method] = np.mean([c.mean() for c in bench.chunks(path)])
    assert grey == pytest.approx({"tint": 40, "tint+level=60+twice=true": 120, "tint+gain=2.5": 100}, abs=2)


def test_what_is_set_to_the_default_is_not_set(tint: str) -> None:
    plain, same = find_method(tint), find_method(tint, {"level": "40", "gain": 1, "side": "left", "twice": "no"})
    assert plain == same
    changed = find_method(tint, {"side": "right"})
    assert changed.spec.name == "tint+side=right"
    assert changed.spec.settings == {"side": "right"}
    assert state(changed.target) == "ready"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "tint.lvl=3"), "no setting 'lvl'. Did you mean 'level'?"),
        (("--set", "tint.level=red"), "tint.level = red is not an integer"),
        (("--set", "tint.level=2.5"), "tint.level = 2.5 is not an integer"),
        (("--set", "tint.level=256"), "is more than 255"),
        (("--set", "tint.gain=nan"), "is not finite"),
        (("--set", "tint.twice=2"), "is not true or false"),
        (("--set", "tint.side=up"), "is none of left, right"),
        (("--set", "tnt.level=3"), "'tnt', which this run does not make. Did you mean 'tint'?"),
        (("--set", "level=3"), "Write --set METHOD.NAME=VALUE"),
        (("--set", "frozen.level=3", "--methods", "frozen"), "no setting 'level'"),
    ],
)
def test_a_wrong_setting_is_refused_before_the_work(
    words: tuple[str, ...], message: str, tint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = invoke(["run", "--home", str(tmp_path / "home"), "--methods", tint, *words])
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_setting_reaches_rows_and_tables_through_the_command(
    tint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--split", "synthetic-ci", "--subset", "1", "--methods", tint, "--metrics", "psnr"]
    words += ["--home", str(tmp_path), "--executor", "inline", "--quiet", "--format", "csv"]
    assert invoke([*words, "--set", "tint.level=90", "--set", f"{tint}.gain=2"]) == 0
    assert "tint+gain=2+level=90" in capsys.readouterr().out
    run = bench.load("latest", home=tmp_path)
    assert set(run.rows["method"]) == {"tint+gain=2+level=90"}
    assert run.results.provenance["methods"]["tint+gain=2+level=90"]["settings"] == {"gain": 2.0, "level": 90}
    assert "tint+gain=2+level=90" in pd.read_csv(run.folder / "report.csv").to_string()


def test_values_may_hold_signs_of_their_own() -> None:
    assert parse(["a.b.c=x=1.5", "./d.py:E.f=1e+3"]) == {"a.b": {"c": "x=1.5"}, "./d.py:E": {"f": "1e+3"}}


def test_an_instance_that_cannot_be_changed_says_so(tint: str) -> None:
    instance = load_method(find_method(tint).target)
    with pytest.raises(bench.UsageError, match="is an instance already"):
        find_method(instance, {"level": 3})


def test_steps_and_masks_reach_actalker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from actalker.masks import MaskMode
    from actalker.pipeline import ACTalkerPipeline

    asked: list[dict[str, object]] = []

    def remember(pipeline: ACTalkerPipeline, *_: object, **options: object) -> object:
        asked.append({"own": pipeline.config.sampler.guidance, **options})
        raise InterruptedError

    monkeypatch.setattr(ACTalkerPipeline, "__call__", remember)
    assert EmbeddedACTalker.spec.options["masks"].choices == get_args(MaskMode)
    sample = toys.make_split(tmp_path, 1).samples[0]
    for name in ("actalker", "actalker+steps=3+guidance_audio=5+masks=none"):
        entry = find_method(name)
        with pytest.raises(InterruptedError):
            load_method(entry.target).generate(sample, bench.GATES["audio"], 0)
    plain, changed = asked
    assert (plain["steps"], plain["guidance"], plain["masks"]) == (None, None, None)
    assert (changed["steps"], changed["masks"]) == (3, "none")
    own, guidance = changed["own"], changed["guidance"]
    assert (guidance.audio, guidance.motion) == (5.0, own.motion)  # type: ignore[attr-defined]


def test_an_ablation_keeps_its_settings() -> None:
    entry = find_method("actalker-no-pcm", {"steps": 2})
    assert entry.spec.name == "actalker-no-pcm+steps=2"
    assert load_method(entry.target).settings == {"steps": 2}  # type: ignore[attr-defined]
