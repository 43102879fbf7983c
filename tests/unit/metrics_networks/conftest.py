"""Clips in memory, and random weights under the official file names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from bench.metrics import references


@dataclass
class MemoryClip:
    """A clip without a file. `known` features are given, others come from `extractors`."""

    pixels: np.ndarray
    sound: np.ndarray | None = None
    known: dict = field(default_factory=dict)
    extractors: dict = field(default_factory=dict)
    image: Path | None = None
    path: Path = Path("memory.mp4")
    truth: Path | None = None
    fps: float = 25.0

    @property
    def frames(self) -> int:
        return len(self.pixels)

    @property
    def height(self) -> int:
        return self.pixels.shape[1]

    @property
    def width(self) -> int:
        return self.pixels.shape[2]

    def chunks(self, size: int = 32) -> Iterator[np.ndarray]:
        for start in range(0, len(self.pixels), size):
            view = self.pixels[start : start + size]
            view.flags.writeable = False  # as decoded frames are
            yield view

    def audio(self) -> np.ndarray | None:
        return self.sound

    def features(self, name: str):
        if name not in self.known:
            self.known[name] = self.extractors[name].extract(self)
        return self.known[name]


@pytest.fixture(scope="session")
def memory_clip():
    return MemoryClip


class RandomWeights:
    """Writes random files on demand, under the official names, with a lock that pins them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def provide(self, *names: str) -> None:
        import torch

        if "i3d_torchscript" in names:
            torch.jit.script(_graph()).save(str(self.folder / "i3d_torchscript.pt"))
        self.lock = references.write_random_weights(self.folder, [n for n in names if n != "i3d_torchscript"])


def _graph():
    import torch

    class Graph(torch.nn.Module):
        """Stands in for the TorchScript I3D: same call, scores that depend on every frame."""

        def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
            assert rescale and resize and return_features
            assert x.shape[2] == 16
            means = x.mean(dim=[3, 4]).flatten(1)
            return torch.cat([means] * 9, 1)[:, :400]

    return Graph()


@pytest.fixture(scope="session")
def random_weights(tmp_path_factory):
    return RandomWeights(tmp_path_factory.mktemp("weights"))


def _forget_networks() -> None:
    from bench.metrics import csim, fid, fvd, sync

    for cached in (csim._embedder, fid._network, fvd._network, sync._embedder):
        cached.cache_clear()


@pytest.fixture
def weights_for(random_weights, monkeypatch, tmp_path):
    """Call with names: they exist, with random content, for the rest of the test."""

    def provide(*names: str) -> None:
        monkeypatch.setenv("BENCH_WEIGHTS_LOCK", "")
        random_weights.provide(*names)
        monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(random_weights.lock))

    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_WEIGHTS", str(random_weights.folder))
    return provide


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    """No weight file exists anywhere."""
    monkeypatch.setenv("BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", "")
    _forget_networks()


@pytest.fixture
def noise():
    """Random frames of any size, smooth enough to survive resizing."""

    def make(frames: int, side: int = 64, seed: int = 0) -> np.ndarray:
        generator = np.random.default_rng(seed)
        coarse = generator.integers(0, 256, (frames, side // 8, side // 8, 3)).astype(np.uint8)
        return np.ascontiguousarray(coarse.repeat(8, 1).repeat(8, 2))

    return make
