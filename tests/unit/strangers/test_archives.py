"""Archives, checkpoints and checkouts from anybody: what leads out of its folder, runs something or never ends."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import BenchError
from bench.core.spec import Unscored
from bench.data import ravdess, vfhq
from bench.metrics.coefficients import _read
from bench.metrics.networks.loading import read_state
from bench.systems.prepare import unpack
from bench.systems.rehearsal import copy_checkout

CLIP = "01-01-01-01-01-01-01"


def entry(name: str, kind: bytes = tarfile.REGTYPE, leads: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size, made.mode = kind, leads, size, 0o6777
    return made


TARS = {
    "climbs": [entry("../planted", size=1)],
    "climbs late": [entry("a/../../planted", size=1)],
    "link out": [entry("out", tarfile.SYMTYPE, "../elsewhere"), entry("out/planted", size=1)],
    "absolute link": [entry("out", tarfile.SYMTYPE, "/tmp")],
    "link chain": [
        entry("a", tarfile.SYMTYPE, "."),
        entry("b", tarfile.SYMTYPE, "a/.."),
        entry("b/../planted", size=1),
    ],
    "hard link out": [entry("out", tarfile.LNKTYPE, "../precious")],
    "device": [entry("zero", tarfile.CHRTYPE)],
    "pipe": [entry("pipe", tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("name", TARS)
def test_a_repositorys_archive_unpacks_into_its_folder_or_not_at_all(name: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "precious").write_text("precious")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for member in TARS[name]:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    with pytest.raises(BenchError, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar", tmp_path / "into")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "into") == ["elsewhere", "precious", "x.tar"]
    assert not list((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "precious").read_text() == "precious"


def test_an_absolute_name_in_an_archive_is_taken_as_relative(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.addfile(entry("/planted/file", size=1), io.BytesIO(b"x"))
    unpack(tmp_path / "x.tar", tmp_path / "into")
    assert (tmp_path / "into" / "planted" / "file").stat().st_mode & 0o7022 == 0  # nor with its special bits


@pytest.mark.parametrize("data", [b"", b"not an archive", b"\x1f\x8b broken gzip", os.urandom(600)])
def test_what_is_no_archive_is_a_sentence(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(BenchError, match="cannot be unpacked"):
        unpack(tmp_path / "x.tar", tmp_path / "into")


def test_zip_members_that_climb_link_or_never_end_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo(f"Actor_01/{CLIP}.mp4")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr(link, "/etc/passwd")
        for name in (f"../{CLIP}.mp4", f"/tmp/{CLIP}.mp4", f"Actor_01/../../{CLIP}.mp4"):
            zipped.writestr(name, b"x")
    with (
        zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as zipped,
        zipped.open(f"Actor_01/{CLIP}.mp4", "w") as member,
    ):
        for _ in range(201):
            member.write(bytes(2**20))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    files = ravdess.Files(tmp_path)
    assert files.found == {}
    reasons = [reason.partition(":")[0] for _, reason in files.refused]
    assert sorted(reasons) == ["far larger than any clip", "not a readable zip", *["unsafe path"] * 4]


class Run:
    """Unpickles to a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["plain pickle", "in a zip"])
def test_nothing_in_a_checkpoint_is_run(kind: str, tmp_path: Path) -> None:
    import torch

    from actalker.checkpoints import read_state as read_model
    from actalker.errors import CheckpointError

    file, planted = tmp_path / "net.pth", tmp_path / "planted"
    if kind == "in a zip":
        torch.save({"a": Run(planted)}, file)
    else:
        file.write_bytes(pickle.dumps({"a": Run(planted)}))
    with file.open("rb") as opened, pytest.raises(Unscored, match="holds no weights"):
        read_state(opened)
    with pytest.raises(CheckpointError, match="not a checkpoint of plain tensors"):
        read_model(file)
    np.savez(tmp_path / "c.npz", expression=np.array([Run(planted)], dtype=object))
    with pytest.raises(Unscored, match="holds no coefficients"):
        _read(tmp_path / "c.npz", "deep3d")
    assert not planted.exists()


def test_a_bomb_of_an_array_is_a_sentence(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as zipped:
        zipped.writestr("expression.npy", header.getvalue())
    with pytest.raises(Unscored, match="holds no coefficients"):
        _read(tmp_path / "c.npz", "deep3d")


@pytest.mark.parametrize("is_git", [True, False])
def test_links_in_a_checkout_lead_its_copy_nowhere(is_git: bool, tmp_path: Path) -> None:
    """The copy is written to and its weights are removed, which must not reach the user's own."""
    models, source = tmp_path / "models", tmp_path / "repository"
    models.mkdir()
    source.mkdir()
    (models / "net.pth").write_text("precious")
    (source / "run.py").write_text("x")
    (source / "same.py").symlink_to("run.py")
    (source / "checkpoints").symlink_to(models)
    (source / "key.pth").symlink_to(models / "net.pth")
    if is_git:
        settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        for words in (["init", "-q"], ["add", "-A"], [*settings, "commit", "-qm", "x"]):
            subprocess.run(["git", "-C", str(source), *words], check=True)
    copy_checkout(source, tmp_path / "copy", ["checkpoints/net.pth", "key.pth"])
    assert (models / "net.pth").read_text() == "precious"
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["run.py", "same.py"]


def test_one_damaged_picture_costs_its_clip_and_no_other(tmp_path: Path) -> None:
    from PIL import Image

    for number, name in enumerate(("Clip+abcDEF_-123+P0+C1+F1-102", "Clip+abcDEF_-123+P0+C2+F1-102")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (512, 512)).save(tmp_path / name / "00000001.png")
        for frame in range(2, 101):
            os.link(tmp_path / name / "00000001.png", tmp_path / name / f"{frame:08}.png")
        if number == 0:
            (tmp_path / name / "00000001.png").unlink()
            (tmp_path / name / "00000001.png").write_bytes(b"\x89PNG\r\n damaged")
    clips, refused = vfhq.find_test_clips(tmp_path)
    assert [clip.clip_id for clip in clips] == ["Clip+abcDEF_-123+P0+C2+F1-102"]
    assert "its first picture cannot be read" in dict(refused)["Clip+abcDEF_-123+P0+C1+F1-102"]
