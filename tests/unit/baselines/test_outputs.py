"""From the file a system left to the frames that are scored: alignment, retiming, crops, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from bench.media.encode import write_clip
from bench.methods.base import GenerationFailed
from bench.systems.contract import Output, Panel
from bench.systems.outputs import NoOutput, check_output, read_output


def numbered(number):
    """A picture whose halves have one of sixteen levels each."""
    picture = np.full((32, 32, 3), 30 + 12 * (number % 16), np.uint8)
    picture[16:] = 30 + 12 * (number // 16)
    return picture


def read_number(frame):
    upper, lower = (round((float(half.mean()) - 30) / 12) for half in (frame[:12], frame[20:]))
    return upper + 16 * lower


def clip(path: Path, count: int, fps: float, columns: int = 1, logo: int = 0) -> Path:
    """Frame i carries its number; a logo is white frames at both ends; other columns are black."""
    good = [numbered(i) for i in range(count)]
    ends = [np.full((32, 32, 3), 250, np.uint8)] * logo
    black = np.zeros((32, 32, 3), np.uint8)
    frames = [np.concatenate([f, *[black] * (columns - 1)], axis=1) for f in (*ends, *good, *ends)]
    write_clip(path, frames, fps)
    return path


def shown(path, output, frames):
    check_output(path, output, frames)
    made = list(read_output(path, output, frames))
    assert len(made) == frames
    return [read_number(f) for f in made]


def test_as_it_is(tmp_path):
    assert shown(clip(tmp_path / "a.mp4", 20, 25.0), Output(), 20) == list(range(20))


def test_longer_is_cut(tmp_path):
    assert shown(clip(tmp_path / "a.mp4", 30, 25.0), Output(), 20) == list(range(20))


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_few_missing_frames_are_held(tmp_path, missing):
    path = clip(tmp_path / "a.mp4", 20 - missing, 25.0)
    last = 20 - missing - 1
    assert shown(path, Output(), 20) == [*range(20 - missing), *[last] * missing]


def test_more_missing_frames_are_an_error(tmp_path):
    with pytest.raises(NoOutput, match="truncated"):
        check_output(clip(tmp_path / "a.mp4", 16, 25.0), Output(), 20)
    assert shown(clip(tmp_path / "b.mp4", 16, 25.0), Output(hold=0.2), 20)[-1] == 15


@pytest.mark.parametrize("fps", [12.5, 24.0, 30.0, 62.5])
def test_other_rates_are_retimed_by_time_stamps(tmp_path, fps):
    path = clip(tmp_path / "a.mp4", round(2 * fps), fps)
    made = shown(path, Output(fps=fps), 50)
    for k, index in enumerate(made):
        assert abs(index / fps - k / 25) <= 0.5 / 25 + 0.5 / fps + 1e-6


def test_a_false_clock_is_not_believed(tmp_path):
    # 50 driver frames written at 7 fps: the file says 7 s, the content lasts 2 s.
    path = clip(tmp_path / "a.mp4", 50, 7.0)
    assert shown(path, Output(fps=7.0, retime="frames", rate=25.0), 50) == list(range(50))
    with pytest.raises(NoOutput, match=r"lasts 2\.00 s where 2\.40 s"):
        check_output(path, Output(fps=7.0, retime="frames", rate=25.0), 60)


def test_a_missing_start_is_held_so_that_sound_stays_aligned(tmp_path):
    path = clip(tmp_path / "a.mp4", 17, 25.0)
    assert shown(path, Output(starts_at=0.12), 20) == [0, 0, 0, *range(17)]


def test_logo_frames_are_dropped_at_both_ends(tmp_path):
    path = clip(tmp_path / "a.mp4", 20, 25.0, logo=5)
    assert shown(path, Output(drop_start=0.2, drop_end=0.2), 20) == list(range(20))
    with pytest.raises(NoOutput, match="truncated"):
        check_output(path, Output(drop_start=0.2, drop_end=0.2), 30)


def test_a_file_of_nothing_but_logo(tmp_path):
    path = clip(tmp_path / "a.mp4", 1, 25.0)
    with pytest.raises(GenerationFailed, match="no frame left"):
        list(read_output(path, Output(drop_start=1.0), 1))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_panel_is_kept(tmp_path, index):
    path = clip(tmp_path / "a.mp4", 10, 25.0, columns=3)
    frames = list(read_output(path, Output(panel=Panel(3, index)), 10))
    assert frames[0].shape == (32, 32, 3)
    assert (frames[9].mean() > 20) == (index == 0)


def test_panels_that_do_not_divide(tmp_path):
    with pytest.raises(NoOutput, match="5 equal panels do not divide"):
        check_output(clip(tmp_path / "a.mp4", 10, 25.0), Output(panel=Panel(5, 0)), 10)


def test_a_crop_belongs_to_one_size(tmp_path):
    path = clip(tmp_path / "a.mp4", 10, 25.0, columns=2)
    output = Output(crop=(0, 0, 16, 24), frame_size=(64, 32))
    assert next(read_output(path, output, 10)).shape == (24, 16, 3)
    with pytest.raises(NoOutput, match="64x32, and the crop belongs to 1544x516"):
        check_output(path, Output(crop=(0, 0, 16, 16), frame_size=(1544, 516)), 10)
