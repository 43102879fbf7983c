"""Measures the embedded ACTalker: `python -m bench.synthetic.actalker_evaluate --split synthetic-val`.

Generates every sample under the three gates, with foreign sound and with a foreign driving video, scores the
results with the embedded networks, and prints the table of the model card. Choose between models on
`synthetic-val`; `synthetic` is for reporting once. `--sheet` writes a contact sheet.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from actalker.embedded import load
from actalker.pipeline import ACTalkerPipeline
from bench.core.spec import Sample
from bench.media.decode import chunks, read_audio, read_image
from bench.synthetic import labels
from bench.synthetic import metrics as metrics
from bench.synthetic.evaluate import MemoryClip, frechet_of
from bench.synthetic.split import make_split

Frames = npt.NDArray[np.uint8]
REGIONS = {
    "mouth opening": ("opening",),
    "smile": ("smile",),
    "brows": ("brow", "furrow"),
    "blink": ("blink_left", "blink_right"),
    "gaze": ("gaze_x", "gaze_y"),
}


@dataclass(frozen=True, slots=True)
class Task:
    """A sample in memory."""

    sample: Sample
    image: Frames
    sound: npt.NDArray[np.int16]
    driving: Frames

    @property
    def truth(self) -> MemoryClip:
        """The ground-truth clip."""
        return self.clip(self.driving)

    def clip(self, frames: Frames, sound: npt.NDArray[np.int16] | None = None) -> MemoryClip:
        """Frames with this sample's reference picture, and its sound unless another is given."""
        clip = MemoryClip(frames, self.sound if sound is None else sound)
        clip.image = self.sample.image
        return clip


def load_tasks(split: str, root: Path, limit: int | None) -> list[Task]:
    """Make the split under `root` and read its samples."""
    tasks = []
    for sample in make_split(split, root).samples[:limit]:
        assert sample.audio is not None and sample.video is not None
        sound = read_audio(sample.audio)
        assert sound is not None
        tasks.append(Task(sample, read_image(sample.image), sound, np.concatenate(list(chunks(sample.video)))))
    return tasks


class Generator:
    """Runs the pipeline on tasks and counts its time."""

    def __init__(self, pipeline: ACTalkerPipeline) -> None:
        self.pipeline = pipeline
        self.seconds = 0.0
        self.frames = 0

    def __call__(
        self, task: Task, gate: str, sound: npt.NDArray[np.int16] | None = None, driving: Frames | None = None
    ) -> Frames:
        """Generate one clip with the task's own signals unless others are given."""
        start = time.process_time()
        made = self.pipeline(
            task.image,
            audio=task.sound if sound is None else sound,
            video=task.driving if driving is None else driving,
            gate=gate,
            seed=0,
        )
        frames = np.stack(list(made))
        self.seconds += time.process_time() - start
        self.frames += len(frames)
        return frames


def score(clips: Sequence[MemoryClip], truth: Sequence[MemoryClip]) -> dict[str, float]:
    """Mean scores of clips against their ground truth."""
    rows = []
    for one, true in zip(clips, truth, strict=True):
        rows.append(
            {
                **metrics.Sync().score(one, None),
                **metrics.Csim().score(one, None),
                **metrics.Expression().score(one, true),
                **metrics.Pose().score(one, true),
            }
        )
    keys = ("sync_c", "sync_d", "csim", "opening", "smile", "brow", "blink", "gaze", "pose", "yaw")
    result = {key: float(np.mean([row[key] for row in rows])) for key in keys}
    result["offset_0"] = float(np.mean([abs(row["offset"]) <= 1 for row in rows]))
    result["fid"] = frechet_of(metrics.Fid, clips, truth)
    result["fvd"] = frechet_of(metrics.Fvd, clips, truth)
    return result


def sync_c(clips: Sequence[MemoryClip]) -> float:
    """Mean Sync-C."""
    return float(np.mean([metrics.Sync().score(c, None)["sync_c"] for c in clips]))


def change(a: MemoryClip, b: MemoryClip) -> dict[str, float]:
    """How differently each region moves in two clips: mean absolute difference as a share of the range."""
    first, second = (c.features("synthetic_face") for c in (a, b))
    off = np.abs(first["readings"] - second["readings"]).mean(0)
    share = {n: float(off[i]) / labels.RANGES[n] for i, n in enumerate(labels.READINGS)}
    result = {region: float(np.mean([share[n] for n in names])) for region, names in REGIONS.items()}
    angles = np.abs(first["pose"][:, :3] - second["pose"][:, :3]).mean()
    return {**result, "pose (deg)": float(np.rad2deg(angles))}


def evaluate(
    tasks: Sequence[Task], generate: Generator, say: Callable[[str], None]
) -> tuple[dict[str, dict[str, float]], list[list[Frames]]]:
    """Return the table (row name to scores) and the clips of the contact sheet (task, row)."""
    truth = [t.truth for t in tasks]
    others = [tasks[(i + len(tasks) // 2 + 1) % len(tasks)] for i in range(len(tasks))]
    table: dict[str, dict[str, float]] = {}

    def add(name: str, clips: Sequence[MemoryClip], against: Sequence[MemoryClip] = truth) -> None:
        table[name] = score(clips, against)
        foreign = [c.sounding(o.sound) for c, o in zip(clips, others, strict=True)]
        table[name]["sync_c_foreign"] = sync_c(
            [t.clip(c.pixels, c.sound) for t, c in zip(tasks, foreign, strict=True)]
        )
        say(name + ": " + " ".join(f"{k} {v:.3f}" for k, v in table[name].items()))

    add("ground truth", truth)
    add("frozen reference", [t.clip(np.repeat(t.image[None], len(t.driving), 0)) for t in tasks])
    made: dict[str, list[Frames]] = {}
    for gate in ("audio+visual", "audio", "visual"):
        made[gate] = [generate(t, gate) for t in tasks]
        add(gate, [t.clip(f) for t, f in zip(tasks, made[gate], strict=True)])
    dubbed = [generate(t, "audio+visual", sound=o.sound) for t, o in zip(tasks, others, strict=True)]
    used = sync_c([t.clip(f, o.sound) for t, o, f in zip(tasks, others, dubbed, strict=True)])
    own = sync_c([t.clip(f) for t, f in zip(tasks, dubbed, strict=True)])
    table["audio+visual, foreign audio"] = {"sync_c": used, "sync_c_foreign": own}
    say(f"foreign audio: used {used:.2f} own {own:.2f}")
    moved = [generate(t, "audio+visual", driving=o.driving) for t, o in zip(tasks, others, strict=True)]
    base = [t.clip(f) for t, f in zip(tasks, made["audio+visual"], strict=True)]
    pairs = {
        "change when the audio is replaced": dubbed,
        "change when the video is replaced": moved,
    }
    for name, frames in pairs.items():
        rows = [change(a, t.clip(f)) for a, t, f in zip(base, tasks, frames, strict=True)]
        table[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
        say(name + ": " + " ".join(f"{k} {v:.3f}" for k, v in table[name].items()))
    sheet = [[t.driving, *(made[g][i] for g in ("audio+visual", "audio", "visual"))] for i, t in enumerate(tasks)]
    return table, sheet


_COLUMNS = (
    ("sync_c", "Sync-C", 2),
    ("sync_c_foreign", "Sync-C, foreign sound", 2),
    ("offset_0", "offset within ±1", 2),
    ("csim", "CSIM", 3),
    ("opening", "opening", 3),
    ("smile", "smile", 3),
    ("brow", "brow", 3),
    ("blink", "blink", 3),
    ("gaze", "gaze", 3),
    ("pose", "pose °", 2),
    ("fid", "FID", 1),
    ("fvd", "FVD", 1),
)


def headline(table: Mapping[str, Mapping[str, float]]) -> str:
    """Return the rows that have all scores as a Markdown table."""
    lines = ["| | " + " | ".join(label for _, label, _ in _COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    for name, row in table.items():
        if "fid" in row:
            lines.append(f"| {name} | " + " | ".join(f"{row[key]:.{d}f}" for key, _, d in _COLUMNS) + " |")
    return "\n".join(lines)


def contact_sheet(clips: Sequence[Sequence[Frames]], columns: int = 10, step: int = 4, zoom: int = 2) -> Frames:
    """Rows of frames: for each task, each version of it."""
    rows = [np.concatenate(list(version[4 : 4 + columns * step : step]), 1) for task in clips for version in task]
    picture = np.concatenate(rows, 0)
    return picture.repeat(zoom, 0).repeat(zoom, 1)


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description="Evaluate the embedded ACTalker on a synthetic split.")
    parser.add_argument("--model", type=Path, help="model folder (default: the shipped one)")
    parser.add_argument("--split", default="synthetic-val")
    parser.add_argument("--root", type=Path, default=Path("build/synthetic"), help="where splits are written")
    parser.add_argument("--limit", type=int, help="use the first samples only")
    parser.add_argument("--steps", type=int, help="sampling steps")
    parser.add_argument("--json", type=Path, help="also write the table here")
    parser.add_argument("--sheet", type=Path, help="also write a contact sheet (PNG) of three samples here")
    args = parser.parse_args()
    pipeline = load() if args.model is None else ACTalkerPipeline.from_pretrained(args.model, "cpu")
    generate = Generator(pipeline)
    tasks = load_tasks(args.split, args.root, args.limit)
    table, clips = evaluate(tasks, generate, lambda line: print(line, flush=True))
    print(headline(table))
    print(f"{generate.frames / generate.seconds:.1f} frames per CPU-second")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    if args.sheet:
        # 128 colours keep the picture small enough for a repository.
        picture = Image.fromarray(contact_sheet([clips[i] for i in range(0, min(len(clips), 5), 2)]))
        picture.quantize(128).save(args.sheet, optimize=True)


if __name__ == "__main__":
    main()
