"""Training data drawn from the synthetic world, read back through the trainer's manifest."""

from __future__ import annotations

import numpy as np

from actalker.training.data import Manifest
from actalker.training.encoders import Portraits
from bench.synthetic import geometry
from bench.synthetic.actalker_data import write_clips, write_portraits
from bench.synthetic.actalker_evaluate import contact_sheet, headline
from bench.synthetic.clip import make_clip


def test_clips_are_the_worlds_and_are_kept_on_a_second_run(tmp_path):
    manifest = write_clips(tmp_path, "train", 2, 6)
    before = (tmp_path / "clip_00001.npz").stat().st_mtime_ns
    write_clips(tmp_path, "train", 2, 6)
    assert (tmp_path / "clip_00001.npz").stat().st_mtime_ns == before
    source = Manifest(manifest)
    assert len(source) == 2 and source[1].identity == "train_1"
    assert np.array_equal(source[1].frames, make_clip("train", 1, 6).frames)
    assert source[1].face is not None and source[1].face.shape == (6, 4)


def test_portraits_carry_exact_labels(tmp_path):
    path = write_portraits(tmp_path / "portraits.npz", "train", identities=3, per_identity=5)
    data = Portraits(path)
    assert len(data) == 15 and data.frames.shape == (15, 3, 64, 64)
    assert sorted(np.bincount(data.person.numpy())) == [5, 5, 5]
    with np.load(path) as stored:
        drawn = geometry.mouth_drawn(stored["identity"], stored["expression"])
    assert np.allclose(data.expression[:, :3].numpy(), drawn[:, [1, 0, 2]], atol=1e-5)


def test_contact_sheets_show_every_version_of_every_task():
    clip = np.arange(45, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    sheet = contact_sheet([[clip, clip], [clip, clip]], columns=12, step=3, zoom=2)
    assert sheet.shape == (4 * 4 * 2, 12 * 4 * 2, 3)
    assert sheet[0, 0, 0] == 4 and sheet[0, -1, 0] == 37


def test_the_table_has_one_row_per_condition():
    row = {"sync_c": 8.0, "sync_c_foreign": 1.0, "offset_0": 1.0, "csim": 0.9, "pose": 1.0, "fid": 2.0, "fvd": 0.5}
    row |= dict.fromkeys(("opening", "smile", "brow", "blink", "gaze"), 0.1)
    lines = headline({"ground truth": row, "audio": row}).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| ground truth | 8.00 |")
