"""The ground truth is the user's original: an exact copy is exact, other sizes only under a declared fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import bench
from bench.core.errors import UsageError


def record(path: Path, width: int, height: int, frames: int, crf: str = "18", sound: bool = False) -> None:
    """A detailed moving picture, written with PyAV alone."""
    y, x = np.mgrid[0:height, 0:width]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"crf": crf})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for t in range(frames):
            picture = np.stack([x + t, y * 2 - t, 128 + 100 * np.sin((x * y + 40 * t) / 300)], -1) % 256
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    def make(width: int, height: int, frames: int = 8) -> tuple[Path, Path]:
        record(tmp_path / "truth" / "x.mp4", width, height, frames)
        (tmp_path / "made").mkdir()
        return tmp_path / "truth", tmp_path / "made"

    return make


def values(run: bench.run.session.Run) -> dict[str, float]:
    rows = run.rows
    assert set(rows["status"]) == {"ok"}, rows[["status", "reason", "detail"]].to_string()
    return dict(zip(rows["column"], rows["value"], strict=True))


@pytest.mark.parametrize("size", [(128, 96), (960, 540)])
def test_a_copy_is_identical_at_every_size(
    folders: Callable[..., tuple[Path, Path]], size: tuple[int, int]
) -> None:
    truth, made = folders(*size)
    shutil.copy(truth / "x.mp4", made / "x.mp4")
    run = bench.score(made, f"folder:{truth}", ["psnr", "ssim"], home=truth.parent / "home")
    found = values(run)
    assert found["psnr"] == 100.0 and found["n_identical"] == 8
    assert found["ssim"] == 1.0
    assert "identical" in str(run.tables)


def test_our_encoder_shows_in_the_control_and_can_be_left_out(folders: Callable[..., tuple[Path, Path]]) -> None:
    truth, _ = folders(128, 96)
    home = truth.parent / "home"
    coded, lossless = (
        values(bench.run(f"folder:{truth}", ["ground-truth"], ["psnr"], clips=clips, home=home))["psnr"]
        for clips in ("canonical", "lossless")
    )
    assert 30 < coded < 60
    assert lossless == 100.0


def test_clips_of_the_size_methods_are_given_meet_the_original_at_that_size(
    folders: Callable[..., tuple[Path, Path]],
) -> None:
    truth, _ = folders(960, 540, frames=4)
    run = bench.run(f"folder:{truth}", ["frozen"], ["psnr"], clips="lossless", home=truth.parent / "home")
    rows = run.rows
    assert set(rows["status"]) == {"ok"}
    assert set(rows["adapted"]) == {"reference scaled to 910x512, the size methods were given"}
    assert rows.set_index("column")["value"]["n_identical"] == 1  # the picture is the first frame


def test_another_size_needs_a_declared_fit(folders: Callable[..., tuple[Path, Path]]) -> None:
    truth, made = folders(128, 96)
    record(made / "x.mp4", 64, 64, 8)
    split, home = f"folder:{truth}", truth.parent / "home"
    refused = bench.score(made, split, ["psnr"], home=home).rows
    assert set(refused["reason"]) == {"shape_mismatch"}
    said = {}
    for fit in ("reference", "512", "crop"):
        run = bench.score(made, split, ["psnr"], fit=fit, home=home)
        said[fit] = set(run.rows["adapted"]).pop()
        assert set(run.rows["status"]) == {"ok"}
        assert run.results.protocol("psnr/rgb_float64")["params"]["fit"] == fit
    assert said == {
        "reference": "clip scaled from 64x64 to the reference's size",
        "512": "clip and reference scaled to 128x96",
        "crop": "middle of the reference cut out and scaled to 64x64",
    }
    with pytest.raises(UsageError, match="no fit called 'refernce'"):
        bench.score(made, split, ["psnr"], fit="refernce", home=home)


def test_silent_videos_can_be_heard_with_the_driving_sound(tmp_path: Path) -> None:
    from bench.data.splits import load_split
    from bench.media.clip import Clip
    from bench.media.encode import write_clip
    from bench.store.home import Home

    frames = [np.full((64, 64, 3), 40 + 5 * t, np.uint8) for t in range(25)]
    noise = np.random.default_rng(0).integers(-9000, 9000, 16000).astype(np.int16)
    for folder in ("truth", "made"):
        (tmp_path / folder).mkdir()
    write_clip(tmp_path / "truth/x.mp4", frames, audio=noise)
    write_clip(tmp_path / "made/x.mp4", frames)
    split, home = f"folder:{tmp_path / 'truth'}", tmp_path / "home"
    said: list[str] = []
    own, driven = (
        bench.score(tmp_path / "made", split, ["flicker"], sound=sound, home=home, say=said.append)
        for sound in ("own", "driving")
    )
    hint = "1 of 1 videos have no sound of their own: x."
    assert [hint in line and "--sound driving" in line for line in said] == [True]
    assert any(hint in note for note in own.results.provenance["notes"])
    assert "the video has no sound of its own" in set(own.rows["detail"])
    assert own.folder != driven.folder
    assert set(own.rows["adapted"]) == {""}
    assert set(driven.rows["adapted"]) == {"heard with the driving sound"}
    sample = load_split(split, Home(home)).samples[0]
    heard = Clip(tmp_path / "made/x.mp4", sound=sample.audio).audio()
    assert Clip(tmp_path / "made/x.mp4").audio() is None
    assert heard is not None and np.corrcoef(heard, noise)[0, 1] > 0.8


def test_a_missing_video_stays_in_the_denominator(folders: Callable[..., tuple[Path, Path]]) -> None:
    truth, made = folders(64, 64)
    shutil.copy(truth / "x.mp4", truth / "y.mp4")
    shutil.copy(truth / "x.mp4", made / "x.mp4")
    run = bench.score(made, f"folder:{truth}", ["psnr"], home=truth.parent / "home")
    rows = run.rows[run.rows["column"] == "psnr"].set_index("sample")
    assert rows.loc["x", "status"] == "ok"
    assert tuple(rows.loc["y", ["status", "reason"]]) == ("error", "not_delivered")
    assert "1/2" in str(run.tables)


def test_a_folder_cannot_pose_as_a_control(folders: Callable[..., tuple[Path, Path]]) -> None:
    truth, made = folders(64, 64)
    shutil.copy(truth / "x.mp4", made / "x.mp4")
    with pytest.raises(UsageError, match="control row"):
        bench.score(made, f"folder:{truth}", ["psnr"], name="ground-truth", home=truth.parent / "home")
