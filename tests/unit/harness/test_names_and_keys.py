"""What a key follows, what a name may be, and what a folder gives: one rule for every kind of user's file."""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tests_toys as toys

from bench.catalogue import find_method
from bench.core.errors import UsageError
from bench.core.keys import code_digest, imported_files
from bench.core.spec import Rejected
from bench.data.folder import _find, visible_files
from bench.run.plan import plan_generation
from bench.weights import digests

METHOD = """
from bench import MethodSpec, Video, read_image
{imports}
class Mine:
    spec = MethodSpec({name!r}, "1", gates=("audio",), kind="model", seeded=False)
    def generate(self, sample, gate, seed):
        return Video([read_image(sample.image)] * sample.frames)
"""


def digest_of(path: Path) -> str:
    code_digest.cache_clear()
    return code_digest((str(path),))


@pytest.mark.parametrize(
    ("statement", "helper"),
    [
        ("import helper", "helper.py"),
        ("from helper import SHIFT", "helper.py"),
        ("import parts.deep.helper as h", "parts/deep/helper.py"),
        ("from parts import helper", "parts/helper.py"),
        ("def late():\n    import helper", "helper.py"),
        ("import middle", "helper.py"),
    ],
)
def test_a_changed_helper_changes_the_key(tmp_path: Path, statement: str, helper: str) -> None:
    (tmp_path / "middle.py").write_text("import helper\n")
    file = tmp_path / helper
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("SHIFT = 0\n")
    mine = tmp_path / "mine.py"
    mine.write_text(METHOD.format(imports=statement, name="mine"))
    (tmp_path / "stranger.py").write_text("X = 1\n")
    before = digest_of(mine)
    (tmp_path / "stranger.py").write_text("X = 2\n")
    file.write_text("SHIFT = 0  # said better\n")
    assert digest_of(mine) == before
    file.write_text("SHIFT = 24\n")
    assert digest_of(mine) != before


def test_relative_imports_are_followed_in_their_package(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    (package / "sub").mkdir(parents=True)
    for folder in (package, package / "sub"):
        (folder / "__init__.py").write_text("")
    (package / "base.py").write_text("X = 1\n")
    (package / "sub" / "near.py").write_text("from . import mine\n")
    (package / "sub" / "mine.py").write_text("from ..base import X\nfrom .near import mine\n")
    found = {p.relative_to(tmp_path).as_posix() for p in imported_files(package / "sub" / "mine.py")}
    assert found == {
        "pack/__init__.py",
        "pack/base.py",
        "pack/sub/__init__.py",
        "pack/sub/mine.py",
        "pack/sub/near.py",
    }


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str, str], str]:
    def write(file: str, name: str) -> str:
        path = tmp_path / file
        path.write_text(METHOD.format(imports="", name=name))
        return f"{path}:Mine"

    return write


@pytest.fixture
def split(tmp_path: Path) -> object:
    return toys.make_split(tmp_path / "split", 1)


def test_names_are_unique_in_a_run(own: Callable[[str, str], str], split) -> None:  # type: ignore[no-untyped-def]
    first, second = own("one.py", "mine"), own("two.py", "mine")
    (Path(second.removesuffix(":Mine"))).write_text(METHOD.format(imports="A = 1", name="mine"))
    with pytest.raises(UsageError, match=r"'mine'.*one\.py.*two\.py"):
        plan_generation(split, [find_method(first), find_method(second)])
    again = plan_generation(split, [find_method(first), find_method(first)])
    assert len(again.jobs) == len({job.key for job in again.jobs})


def test_a_typo_in_a_methods_gates_names_it_and_the_known_ones(own: Callable[[str, str], str]) -> None:
    target = own("one.py", "mine")
    path = Path(target.removesuffix(":Mine"))
    path.write_text(METHOD.format(imports="", name="mine").replace('("audio",)', '("audoi",)'))
    assert "audoi" in path.read_text()
    with pytest.raises(UsageError, match=r"audoi.*") as caught:
        find_method(target)
    assert (
        "mine" in caught.value.message + str(path)
        and "audio+visual" in f"{caught.value.message}{caught.value.hint}"
    )


def test_nobody_takes_the_name_of_a_control(own: Callable[[str, str], str], split) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="control row"):
        plan_generation(split, [find_method(own("one.py", "ground-truth"))])
    assert plan_generation(split, [find_method("ground-truth")]).jobs


def test_accents_pair_however_they_are_written(tmp_path: Path) -> None:
    for form, suffix in (("NFC", ".png"), ("NFD", ".wav")):
        (tmp_path / (unicodedata.normalize(form, "José") + suffix)).touch()
    items, rejected = _find(tmp_path)
    assert len(items) == 1 and not rejected


def test_linked_folders_are_read_once_and_stores_never(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "disk" / "deep" / "a.mp4").touch()
    root = tmp_path / "clips"
    root.mkdir()
    (root / "more").symlink_to(tmp_path / "disk")
    (root / "most").symlink_to(tmp_path / "disk")
    (root / "up").symlink_to(root)
    for part in ("records", "blobs"):
        (root / "results" / part).mkdir(parents=True)
    (root / "results" / "blobs" / "own.mp4").touch()
    rejected: list[Rejected] = []
    assert [p.relative_to(root).as_posix() for p in visible_files(root, rejected)] == ["more/deep/a.mp4"]
    assert sorted(r.item for r in rejected) == ["most", "up"]


def test_a_file_put_in_the_place_of_another_is_read_again(tmp_path: Path) -> None:
    file, other = tmp_path / "net.pth", tmp_path / "other"
    file.write_bytes(b"right")
    before = digests.content(file)
    other.write_bytes(b"WRONG")
    stamp = file.stat()
    os.utime(other, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    other.replace(file)
    assert digests.content(file) != before


def test_sets_leave_out_clips_of_another_length_and_pair_their_halves() -> None:
    from bench.core.spec import Reason, Unscored
    from bench.metrics import frechet
    from bench.metrics.sets import set_value
    from bench.results import subsets

    @dataclasses.dataclass(frozen=True)
    class View:
        rows: np.ndarray
        frames: int = 25

    class Metric:
        class spec:  # noqa: N801
            id, version = "fid/test", "1"
            columns = (type("Column", (), {"key": "fid"}),)

        def state(self, clip: View) -> object:
            return frechet.state(clip.rows)

        merge = staticmethod(frechet.merge)

        def compute(self, generated: object, reference: object) -> dict[str, float]:
            return {"fid": frechet.distance(generated, reference)}  # type: ignore[arg-type]

    draw = np.random.default_rng(0).normal
    truth = [View(draw(size=(6, 3))) for _ in range(12)]
    made = [View(v.rows + draw(size=(6, 3)) * 0.3) for v in truth]
    values = set_value(Metric(), list(zip(made, truth, strict=True)))  # type: ignore[arg-type]
    copies = set_value(Metric(), list(zip(truth, truth, strict=True)))  # type: ignore[arg-type]
    assert copies["fid"] == 0 and copies["coverage"] == 1
    short = [dataclasses.replace(v, frames=4) if i < 3 else v for i, v in enumerate(made)]
    cut = set_value(Metric(), list(zip(short, truth, strict=True)))  # type: ignore[arg-type]
    assert (cut["n_clips"], cut["coverage"]) == (9, 0.75)
    assert cut["halves_of"] != values["halves_of"] == copies["halves_of"]
    with pytest.raises(Unscored) as refused:
        set_value(Metric(), [(dataclasses.replace(v, frames=4), v) for v in truth])  # type: ignore[misc]
    assert refused.value.reason is Reason.LENGTH_MISMATCH

    def halves(found: object) -> subsets.Halves:
        return subsets.Halves("x", 12, tuple(found[f"fid.half{n}"] for n in range(10)))  # type: ignore[index]

    moved = subsets.Halves("x", 12, tuple(v + 0.01 for v in halves(values).values))
    assert subsets.half_width(halves(values), moved, 0.95) < 1e-9  # a constant shift is no noise
    assert subsets.half_width(halves(values), halves(copies), 0.95) > 0
    assert np.isnan(subsets.half_width(halves(values), dataclasses.replace(moved, of="y"), 0.95))
    assert subsets.read(moved.text()) == moved and subsets.read('{"of": 1}') is None
