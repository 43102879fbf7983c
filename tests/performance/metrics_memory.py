"""Measure the peak memory of scoring one long 512x512 clip with every network protocol.

    python tests/performance/metrics_memory.py [--minutes 10]

The networks' arithmetic is left out (their working memory is added from one real batch), because what grows with
the length of a clip is everything around them: decoding, crops, embeddings, features, MFCC.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.media.clip import Clip
from bench.media.encode import write_clip
from bench.metrics import fid, fvd, lpips, references, sync
from bench.metrics.networks import s3fd


def frames(count: int) -> Iterator[np.ndarray]:
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(32, 0).repeat(32, 1)
    for i in range(count):
        yield np.roll(picture, i % 512, axis=1)


class NoDetector:
    def __call__(self, small: np.ndarray, width: int, height: int) -> list[np.ndarray]:
        return [np.array([[128, 128, 384, 384, 0.99]], np.float32)] * len(small)


class NoEmbedder:
    def lips(self, crops: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).random((len(crops) - 4, 1024), np.float32)

    def voice(self, mfcc: np.ndarray, count: int) -> np.ndarray:
        return np.random.default_rng(1).random((count, 1024), np.float32)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    count = round(parser.parse_args().minutes * 60 * 25)
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        names = ("sfd_face", "syncnet_v2", "inception_fid", "i3d_kinetics400", "alexnet", "lpips_alex")
        os.environ["BENCH_WEIGHTS_LOCK"] = str(references.write_random_weights(weights, names))
        os.environ["BENCH_WEIGHTS"], os.environ["BENCH_HOME"] = str(weights), str(Path(folder) / "home")
        path = Path(folder) / "long.mp4"
        speech = np.random.default_rng(0).normal(0, 3000, count * 640).astype(np.int16)
        write_clip(path, frames(count), audio=speech)
        del speech
        # One real batch of each network, with all of them loaded.
        start = Path(folder) / "start.mp4"
        write_clip(start, frames(60), audio=np.random.default_rng(0).normal(0, 3000, 60 * 640).astype(np.int16))
        known = {e.spec.name: e for m in (sync, fid, fvd) for e in (kind() for kind in m.EXTRACTORS)}
        short = Clip(start, extractors=known)
        for name in ("syncnet_tracks", "inception2048", "i3d"):
            short.features(name)
        lpips.Alex().score(short, short)
        print(f"{'after one batch of every network':40}{peak():6.2f} GiB")

        networks = fid._network, fvd._network("WholeClip").network, sync._embedder
        s3fd.Detector = NoDetector  # type: ignore[assignment,misc]
        sync._embedder = NoEmbedder  # type: ignore[assignment]
        fid._network = lambda: lambda batch: np.zeros((len(batch), 2048), np.float32)  # type: ignore[assignment]
        known["s3fd"]._detector = None  # type: ignore[attr-defined]
        network = fvd._network("WholeClip")
        network.network = lambda pieces, n: sum(piece[:, :, :1, 0, 0] for piece in pieces)
        clip = Clip(path, extractors=known)
        for name in ("s3fd", "syncnet_tracks", "inception2048", "i3d"):
            clip.features(name)
            print(f"{name + f' of {clip.frames} frames':40}{peak():6.2f} GiB", flush=True)
        assert networks


if __name__ == "__main__":
    main()
