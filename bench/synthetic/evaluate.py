"""Measures the embedded networks on faces they never saw: `python -m bench.synthetic.evaluate`.

Prints the figures of the model card for one evaluation seed: 64 new identities with two clips each by default.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core.views import ClipView, Extractor, Features, SetMetric
from bench.synthetic import clip, corruptions, geometry, labels, parameters, reader, renderer, training_data
from bench.synthetic import metrics as metrics
from bench.synthetic.parameters import Partition

Frames = npt.NDArray[np.uint8]
_SEED_STRIDE = 100_000  # clips and identities of different evaluation seeds never overlap, nor with the splits


class MemoryClip:
    """A clip in memory as metrics see it (`bench.core.views.ClipView`).

    Args:
        pixels: uint8 (T, H, W, 3).
        sound: int16 at 16 kHz, or None.
        made: what it was rendered from, if known.
    """

    def __init__(
        self, pixels: Frames, sound: npt.NDArray[np.int16] | None = None, made: clip.WorldClip | None = None
    ) -> None:
        self.pixels, self.sound, self.made = pixels, sound, made
        self.frames, self.height, self.width = pixels.shape[:3]
        self.fps = 25.0
        self.path = Path("memory")
        self.image: Path | None = None
        self.truth: Path | None = None
        self.swapped: Mapping[str, ClipView] = {}
        self._features: dict[str, Features] = {}

    def chunks(self, size: int = 32) -> Iterator[Frames]:
        """Yield frames, `size` at a time."""
        for start in range(0, len(self.pixels), size):
            yield self.pixels[start : start + size]

    def audio(self) -> npt.NDArray[np.int16] | None:
        """Return the sound."""
        return self.sound

    def features(self, extractor: str) -> Features:
        """Return features, computed once."""
        if extractor not in self._features:
            self._features[extractor] = _EXTRACTORS[extractor].extract(self)
        return self._features[extractor]

    def showing(self, frames: Frames) -> MemoryClip:
        """Return this clip with other pictures."""
        return MemoryClip(frames, self.sound, self.made)

    def sounding(self, audio: npt.NDArray[np.int16] | None) -> MemoryClip:
        """Return this clip with other sound."""
        return MemoryClip(self.pixels, audio, self.made)


_EXTRACTORS: dict[str, Extractor] = {kind.spec.name: kind() for kind in metrics.EXTRACTORS}  # type: ignore[attr-defined]


def held_out(
    partition: Partition, seed: int, identities: int = 64, takes: int = 2, frames: int = 75
) -> list[list[MemoryClip]]:
    """Return `takes` lists of clips, one clip per identity in each, after compression."""
    base = (seed + 1) * _SEED_STRIDE
    lists: list[list[MemoryClip]] = []
    for take in range(takes):
        made = [
            clip.make_clip(partition, base + take * identities + i, frames, base + i) for i in range(identities)
        ]
        lists.append([MemoryClip(*training_data.compressed(m.frames, m.audio), m) for m in made])
    return lists


def area_under_curve(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Return the probability that a positive value exceeds a negative one."""
    a, b = np.asarray(positive, float), np.sort(np.asarray(negative, float))
    below = np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")
    return float(below.mean() / (2 * len(b)))


def sync_scores(
    clips: Sequence[MemoryClip], metric: type[metrics.Sync] = metrics.SyncValid
) -> dict[str, np.ndarray]:
    """Return confidence, distance and offset of every clip."""
    rows = [metric().score(c, None) for c in clips]
    return {key: np.array([row[key] for row in rows]) for key in ("sync_c", "sync_d", "offset")}


def late(one: MemoryClip, frames: int) -> MemoryClip:
    """Return the clip with its sound late (positive) or early (negative) by whole frames."""
    assert one.sound is not None
    if frames >= 0:
        return MemoryClip(one.pixels[frames:], one.sound[: len(one.sound) - 640 * frames], one.made)
    return MemoryClip(one.pixels[:frames], one.sound[-640 * frames :], one.made)


def sync_figures(clips: Sequence[MemoryClip]) -> dict[str, float]:
    """Return how well sound and mouth are told to belong together."""
    count = len(clips)
    true = sync_scores(clips)
    padded = sync_scores(clips, metrics.Sync)
    wrong = sync_scores([c.sounding(clips[(i + count // 2 + 1) % count].sound) for i, c in enumerate(clips)])
    still = sync_scores([c.showing(np.repeat(c.pixels[:1], c.frames, 0)) for c in clips])
    figures = {
        "sync_c": true["sync_c"].mean(),
        "sync_d": true["sync_d"].mean(),
        "sync_c_zero_padded": padded["sync_c"].mean(),
        "sync_d_zero_padded": padded["sync_d"].mean(),
        "sync_c_wrong_audio": wrong["sync_c"].mean(),
        "sync_c_frozen": still["sync_c"].mean(),
        "sync_auc_wrong_audio": area_under_curve(true["sync_c"], wrong["sync_c"]),
        "offset_0_found": np.mean(true["offset"] == 0),
    }
    for shift in (5, -5):
        found = sync_scores([late(c, shift) for c in clips])["offset"]
        figures[f"offset_{-shift}_found"] = np.mean(found == -shift)
    return {key: float(value) for key, value in figures.items()}


def identity_figures(first: Sequence[MemoryClip], second: Sequence[MemoryClip]) -> dict[str, float]:
    """Return how well identities are told apart; the same identity is shown in two clips."""
    step = 15
    a, b = (
        np.stack([c.features("synthetic_identity")["embeddings"][::step] for c in part])
        for part in (first, second)
    )
    single = np.einsum("isd,jtd->ijst", a, b)
    same = np.eye(len(a), dtype=bool)
    clips = np.einsum("id,jtd->ijt", a[:, 0], b).mean(-1)
    return {
        "csim_same": float(single[same].mean()),
        "csim_other": float(single[~same].mean()),
        "csim_auc": area_under_curve(single[same].ravel(), single[~same].ravel()[::7]),
        "csim_top1": float((clips.argmax(1) == np.arange(len(a))).mean()),
        "csim_own_clip": float(np.einsum("id,itd->it", a[:, 0], a[:, 1:]).mean()),
    }


def clip_reading_figures(clips: Sequence[MemoryClip]) -> dict[str, float]:
    """Return errors on talking clips: pose (rad, half-widths), landmarks (px), readings (share of their range)."""
    read = [c.features("synthetic_face") for c in clips]
    made = [c.made for c in clips if c.made is not None]
    values = np.concatenate([r["readings"] for r in read])
    true = np.concatenate([labels.readings(m.identity, m.expression) for m in made])
    pose = np.concatenate([r["pose"] for r in read]) - np.concatenate([m.pose for m in made])
    points = np.concatenate([r["landmarks"] for r in read])
    exact = np.concatenate([geometry.landmarks(m.identity, m.expression, m.pose) for m in made])
    apart = np.linalg.norm(points - exact, axis=-1)
    figures = {f"pose_mae_{name}": np.abs(pose[:, i]).mean() for i, name in enumerate(parameters.POSE)}
    off = np.abs(values - true).mean(0)
    figures |= {f"error_{name}": off[i] / labels.RANGES[name] for i, name in enumerate(labels.READINGS)}
    parts = {"eyes": geometry.EYES, "brows": geometry.BROWS, "nose": geometry.NOSE}
    parts |= {"mouth": geometry.MOUTH, "outline": geometry.OUTLINE}
    figures |= {f"landmark_px_{name}": apart[:, part].mean() for name, part in parts.items()}
    return {key: float(value) for key, value in figures.items()}


def portrait_reading_figures(partition: Partition, seed: int, count: int = 1024) -> dict[str, float]:
    """Return R2 of the readings on unrelated faces that cover all ranges evenly."""
    made = training_data.portraits(
        partition, f"evaluation-{seed}", count, 1, first=(seed + 1) * _SEED_STRIDE + _SEED_STRIDE // 2
    )
    true = np.asarray(made["readings"], np.float64)
    residual = ((reader.read(np.asarray(made["frames"], np.uint8)).readings - true) ** 2).mean(0)
    return {f"r2_{name}": float(1 - residual[i] / true[:, i].var()) for i, name in enumerate(labels.READINGS)}


def expression_figures(clips: Sequence[MemoryClip]) -> dict[str, list[float]]:
    """Return `expr/synthetic_v1` between every clip and changed versions of it.

    `expr_towards_other`: the same face with its performance moved 0 (compressed again), 25, 50 and 100 % of the
    way to the next clip's. `expr_other_identity`: the same performance by the next clip's face.
    """
    errors: dict[str, list[float]] = {"expr_towards_other": [], "expr_other_identity": []}
    pairs = list(zip(clips, [*clips[1:], clips[0]], strict=True))
    for share, swap in ((0, False), (0.25, False), (0.5, False), (1, False), (0, True)):
        values = []
        for one, other in pairs:
            a, b = one.made, other.made
            assert a is not None and b is not None
            face = b.identity if swap else a.identity
            expression = a.expression * (1 - share) + b.expression * share
            drawn = renderer.render(face, expression, a.pose, a.nuisance)
            changed = one.showing(training_data.compressed(drawn)[0])
            values.append(metrics.Expression().score(changed, one)["expr"])
        errors["expr_other_identity" if swap else "expr_towards_other"].append(float(np.mean(values)))
    return errors


LADDERS: dict[str, tuple[Callable[..., Frames], tuple[float, ...], bool, bool]] = {
    "blur_px": (corruptions.blurred, (0.5, 0.8, 1.2, 2, 3), True, True),
    "noise_of_255": (corruptions.noisy, (5, 10, 20, 40), True, True),
    "hold_frames": (corruptions.held, (2, 3, 4), False, True),
    "freeze_share": (corruptions.frozen, (0.25, 0.5, 0.75, 1), False, True),
    "shuffle_share": (corruptions.shuffled, (0.1, 0.25, 0.5, 1), False, True),
}
"""Corruptions with rising levels, and whether FID and FVD must rise with them."""


def frechet_of(metric: type[SetMetric], generated: Sequence[MemoryClip], reference: Sequence[MemoryClip]) -> float:
    """Return the Fréchet distance of two sets of clips."""
    one = metric()
    states = [one.merge([one.state(c) for c in part]) for part in (generated, reference)]
    return next(iter(one.compute(*states).values()))


def frechet_figures(
    first: Sequence[MemoryClip], second: Sequence[MemoryClip], ladders: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Return FID and FVD of ever stronger corruptions of the second set against the first, level 0 in front."""
    kinds: dict[str, type[SetMetric]] = {"fid": metrics.Fid, "fvd": metrics.Fvd}
    figures: dict[str, list[float]] = {}
    floor = {name: frechet_of(kind, second, first) for name, kind in kinds.items()}

    def add(name: str, fid: bool, fvd: bool, versions: list[list[MemoryClip]]) -> None:
        for key, wanted in (("fid", fid), ("fvd", fvd)):
            if wanted:
                values = [frechet_of(kinds[key], version, first) for version in versions]
                figures[f"{key}_{name}"] = [floor[key], *values]

    for name, (corrupt, levels, fid, fvd) in LADDERS.items():
        if ladders is None or name in ladders:
            add(name, fid, fvd, [[c.showing(corrupt(c.pixels, x)) for c in second] for x in levels])
    others = [*second[7:], *second[:7]]
    if ladders is None or "ghost_share" in ladders:
        pairs = list(zip(second, others, strict=True))
        versions = [
            [c.showing(corruptions.mixed(c.pixels, o.pixels, x)) for c, o in pairs] for x in (0.1, 0.2, 0.35, 0.5)
        ]
        add("ghost_share", True, True, versions)
    if ladders is None or "switched_clips" in ladders:
        versions = []
        for share in (0.1, 0.25, 0.5, 1):
            many = round(share * len(second))
            changed = [
                c.showing(corruptions.switched(c.pixels, o.pixels)) for c, o in zip(second, others, strict=True)
            ]
            versions.append([*changed[:many], *second[many:]])
        add("switched_clips", False, True, versions)
    if ladders is None or "collapse_share" in ladders:
        versions = [
            [*[second[0]] * round(share * len(second)), *second[round(share * len(second)) :]]
            for share in (0.1, 0.25, 0.5, 0.9)
        ]
        add("collapse_share", True, False, versions)
    return figures


def figures(partition: Partition, seed: int, identities: int = 64) -> dict[str, float | list[float]]:
    """Return all figures for one evaluation seed; identities of other seeds and of the splits are not used."""
    first, second = held_out(partition, seed, identities)
    return {
        **sync_figures([*first, *second]),
        **identity_figures(first, second),
        **clip_reading_figures([*first, *second]),
        **portrait_reading_figures(partition, seed),
        **expression_figures(first[:16]),
        **frechet_figures(first, second),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; see `--help`."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m bench.synthetic.evaluate", description=__doc__)
    parser.add_argument("--partition", default="validation", choices=("validation", "test"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--identities", type=int, default=64)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    started = time.process_time()
    found = figures(options.partition, options.seed, options.identities)
    for key, value in found.items():
        shown = "  ".join(f"{v:.3f}" for v in value) if isinstance(value, list) else f"{value:.4f}"
        print(f"{key:28s} {shown}")
    print(f"{'cpu_seconds':28s} {time.process_time() - started:.0f}")
    if options.out:
        options.out.write_text(
            json.dumps({"partition": options.partition, "seed": options.seed, **found}, indent=1)
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
