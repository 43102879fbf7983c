"""Training data for the embedded ACTalker, drawn from the synthetic world.

`python -m bench.synthetic.actalker_data --out DIR` writes what `actalker.training` reads: a manifest
`clips.jsonl` with one talking clip per line, and `portraits.npz`, single pictures with independent identity,
expression, pose, light and background from which the encoders learn what a face is doing. Clips come from the
world's `train` partition; `--partition validation` makes the clips a model is chosen on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from bench.synthetic import geometry, parameters, renderer
from bench.synthetic.clip import make_clip
from bench.synthetic.motion import perform
from bench.synthetic.parameters import Partition
from bench.synthetic.speech import speak

_FRAMES_PER_PERFORMANCE = 25


def write_clips(root: Path, partition: Partition, count: int, frames: int, start: int = 0, size: int = 64) -> Path:
    """Write clips `start` to `start + count` of a partition and return the manifest's path.

    Clips that exist are kept, so an interrupted run continues.
    """
    root.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(start, start + count):
        name = f"clip_{index:05d}.npz"
        if not (root / name).exists():
            clip = make_clip(partition, index, frames, size=size)
            points = geometry.landmarks(clip.identity, clip.expression, clip.pose, size)
            face, mouth = geometry.boxes(points, size)
            arrays = {
                "frames": clip.frames,
                "audio": clip.audio,
                "face_box": face,
                "mouth_box": mouth,
                "expression": clip.expression,
                "pose": clip.pose,
                "mouth_drawn": geometry.mouth_drawn(clip.identity, clip.expression),
            }
            partial = root / f"{name}.partial.npz"
            np.savez(partial, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()})
            partial.rename(root / name)
        lines.append(json.dumps({"clip": name, "identity": f"{partition}_{index}"}))
    manifest = root / "clips.jsonl"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def write_portraits(path: Path, partition: Partition, identities: int, per_identity: int, size: int = 64) -> Path:
    """Write single pictures whose light, background, pose and expression tell nothing about the identity.

    The file holds `frames` uint8 (n, size, size, 3), `identity_index` (n,), `identity` (n, 16), `expression`
    (n, 10), `pose` (n, 6) and `mouth_drawn` (n, 3).
    """
    if path.exists():
        return path
    rng = parameters.generator(partition, "portraits")
    count = identities * per_identity
    performances = []
    for _ in range(-(-count // _FRAMES_PER_PERFORMANCE)):
        # Long sentences, of which few frames are used, keep neighbouring pictures unrelated.
        sentence = speak(4.0, rng)
        expression, pose = perform(100, sentence, rng)
        chosen = rng.choice(100, _FRAMES_PER_PERFORMANCE, replace=False)
        performances.append(np.concatenate([expression, pose], -1)[chosen])
    acted = rng.permutation(np.concatenate(performances))[:count]
    expression, pose = acted[:, :10].copy(), acted[:, 10:].copy()
    _fill_ranges(expression, rng)
    index = rng.permutation(np.repeat(np.arange(identities), per_identity))
    who = np.stack([parameters.identity(partition, int(i)) for i in range(identities)])[index]
    frames = renderer.render(who, expression, pose, parameters.nuisance(rng, count), size)
    partial = path.with_suffix(".partial.npz")
    np.savez(
        partial,
        frames=frames,
        identity_index=index,
        identity=who,
        expression=expression,
        pose=pose,
        mouth_drawn=geometry.mouth_drawn(who, expression),
    )
    partial.rename(path)
    return path


def _fill_ranges(expression: np.ndarray, rng: np.random.Generator) -> None:
    """Redraw blinks, gaze, brows and smile of half the pictures uniformly: performances rarely show extremes."""
    low = np.array([0, -0.5, 0, -0.6, -0.6, 0, 0, 0, -0.9, -0.6], np.float32)
    high = np.array([1, 1, 1, 1, 1, 1, 1, 1, 0.9, 0.6], np.float32)
    uniform = rng.uniform(low, high, expression.shape).astype(np.float32)
    pick = rng.random((len(expression), 1)) < 0.5
    columns = [3, 4, 5, 6, 7, 8, 9]
    expression[:, columns] = np.where(pick, uniform, expression)[:, columns]


def main() -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--partition", choices=("train", "validation"), default="train")
    parser.add_argument("--clips", type=int, default=900)
    parser.add_argument("--start", type=int, default=0, help="first clip number")
    parser.add_argument("--frames", type=int, default=50, help="frames per clip at 25 fps")
    parser.add_argument("--identities", type=int, default=1200, help="identities in portraits.npz")
    parser.add_argument("--portraits", type=int, default=20, help="pictures per identity in portraits.npz")
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.portraits:
        path = args.out / "portraits.npz"
        write_portraits(path, args.partition, args.identities, args.portraits, args.size)
    if args.clips:
        write_clips(args.out, args.partition, args.clips, args.frames, args.start, args.size)


if __name__ == "__main__":
    main()
