"""Measure the peak memory of `bench score` on one long 512x512 clip.

    python tests/performance/metrics_memory.py [--minutes 10]

Everything that grows with the length of a clip is real: decoding, face tracks, crops, MFCC, the lag search,
features and their way into the store, records, rows. Of the networks, all are loaded and one real batch of each
has run; for the long clip their convolutions are replaced by constants, because they would take hours on a CPU
and their memory does not depend on the length.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas

from bench import catalogue
from bench.core.keys import file_digest
from bench.core.spec import Sample, Split
from bench.media.clip import Clip
from bench.media.encode import write_clip
from bench.metrics import fid, fvd, lpips, references, sync
from bench.metrics.networks import inception, s3fd, syncnet, video
from bench.metrics.precision import Precision
from bench.run.drive import Execution, execute
from bench.run.plan import plan_ingestion
from bench.store.home import Home

METRICS = ("sync/longest_track", "fid/pytorch_fid_allframes", "fvd/disco_i3d", "flicker/mae")
FP32 = Precision.FP32
WEIGHTS = ("sfd_face", "syncnet_v2", "inception_fid", "i3d_kinetics400", "alexnet", "lpips_alex")


def frames(count: int) -> Iterator[np.ndarray]:
    """A still picture with a patch that moves: quick to encode, and as large in memory as any other."""
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8).repeat(32, 0).repeat(32, 1)
    for i in range(count):
        frame = picture.copy()
        frame[200:264, i % 448 : i % 448 + 64] = i % 256
        yield frame


def speech(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3000, count * 640).astype(np.int16)


class OneFace:
    """In place of S3FD."""

    def __init__(self, **_: object) -> None: ...

    def __call__(self, small: np.ndarray, width: int, height: int) -> list[np.ndarray]:
        return [np.array([[128, 128, 384, 384, 0.99]], np.float32)] * len(small)


class Noise:
    """In place of SyncNet."""

    def __init__(self, **_: object) -> None: ...

    def lips(self, crops: np.ndarray) -> np.ndarray:
        return np.random.default_rng(0).random((len(crops) - 4, 1024), np.float32)

    def voice(self, mfcc: np.ndarray, count: int) -> np.ndarray:
        return np.random.default_rng(1).random((count, 1024), np.float32)


class Ramp:
    """In place of Inception."""

    def __init__(self, **_: object) -> None: ...

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return np.outer(batch[:, 0, 0, 0] + 1.0, np.arange(2048)).astype(np.float32)


class Scaled(video.WholeClip):
    """I3D's input, without its convolutions."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.network = lambda pieces, n: sum(piece[:, :, 0, 0, 0] for piece in pieces).repeat(1, 134)[:, :400]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def one_real_batch(folder: Path) -> object:
    path = folder / "start.mp4"
    write_clip(path, frames(60), audio=speech(60))
    clip = Clip(path, extractors=catalogue.extractors())
    for name in ("syncnet_tracks", "inception2048", "i3d"):
        clip.features(name)
    alex = lpips.Alex()
    alex.score(clip, clip)
    return alex


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    count = round(parser.parse_args().minutes * 60 * 25)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        os.environ["BENCH_WEIGHTS_LOCK"] = str(references.write_random_weights(folder / "weights", WEIGHTS))
        os.environ["BENCH_WEIGHTS"] = str(folder / "weights")
        os.environ["BENCH_HOME"] = str(folder / "home")
        path = folder / "long.mp4"
        write_clip(path, frames(count), audio=speech(count))
        print(f"{f'after encoding {count} frames of 512x512':50}{peak():6.2f} GiB", flush=True)
        loaded = one_real_batch(folder)
        print(f"{'with all networks, after a real batch of each':50}{peak():6.2f} GiB", flush=True)

        networks = sync._embedder, fid._network, fvd._network
        kept = [catalogue.extractors()["s3fd"]._detector, loaded]  # type: ignore[attr-defined]
        kept += [sync._embedder(FP32), fid._network(FP32), fvd._network("WholeClip", FP32)]
        for network in networks:
            network.cache_clear()
        catalogue.extractors()["s3fd"]._detector = None  # type: ignore[attr-defined]
        s3fd.Detector, syncnet.Embedder = OneFace, Noise  # type: ignore[assignment,misc]
        inception.FrameFeatures, video.WholeClip = Ramp, Scaled  # type: ignore[assignment,misc]

        digests = dict.fromkeys(("audio", "video", "reference"), file_digest(path))
        sample = Sample("long", "test", "long", "long", path, path, path, path, count, digests=digests)
        plan = plan_ingestion(Split("long", "real", (sample,)), "long", {"long": path}, "audio+visual")
        start = time.perf_counter()
        result = execute(
            plan, catalogue.choose_metrics("real", METRICS), Home(folder / "home"), Execution("inline")
        )
        rows = pandas.read_parquet(result.folder / "rows.parquet")
        print(rows[["protocol", "column", "value", "n_frames", "status", "detail"]].to_string())
        print(f"{f'scored, {time.perf_counter() - start:.0f} s':50}{peak():6.2f} GiB")
        assert kept and peak() < 2


if __name__ == "__main__":
    main()
