"""Deterministic weights, a tiny pipeline, and the straightforward path to compare with."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from actalker.components import Face
from actalker.conditioning.audio import AudioProjection, AudioProjectionConfig
from actalker.conditioning.identity import IdentityProjection, IdentityProjectionConfig, IResNet, IResNetConfig
from actalker.conditioning.motion import (
    ExpressionConfig,
    HeadExpression,
    HeadPose,
    HeadPoseConfig,
    MotionProjection,
    MotionProjectionConfig,
)
from actalker.conditioning.portrait import PortraitConditioner, PortraitConditionerConfig
from actalker.conditioning.pose_guider import PoseGuider, PoseGuiderConfig
from actalker.pipeline import ACTalkerPipeline, PipelineConfig
from actalker.sampler import SamplerConfig
from actalker.schedule import ScheduleConfig
from actalker.unet import ACTalkerUNet, UNetConfig

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(Path(__file__).parent))  # for `public_models`


def sequence(n: int, k: int) -> Tensor:
    """Pseudo-random numbers in [-1, 1): a linear congruence of the index, shifted by `k`."""
    index = torch.arange(n, dtype=torch.int64)
    return 2 * (((index * 1103515245 + 7919 * k + 12345) % 2**31).double() / 2**31) - 1


def example(shape: tuple[int, ...], j: int) -> Tensor:
    """Input number `j` of the given shape, unit variance, float64."""
    return (math.sqrt(3) * sequence(math.prod(shape), 1000 + j)).reshape(shape)


def fill(module: nn.Module) -> nn.Module:
    """Give every tensor of `module` its deterministic value, in float64."""
    module = module.double().eval().requires_grad_(False)
    state = module.state_dict()
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        if not tensor.is_floating_point():
            continue
        v = sequence(tensor.numel(), k).reshape(tensor.shape)
        if name.endswith("A_logs"):
            v = torch.log(torch.arange(1, tensor.shape[1] + 1, dtype=torch.float64)).expand(tensor.shape)
        elif name.endswith("running_var"):
            v = torch.ones_like(v)
        elif name.endswith("Ds"):
            v = 1 + 0.1 * v
        elif name.endswith("dt_projs_bias"):
            v = -3 + 0.5 * v
        elif tensor.ndim >= 2:
            own = name.endswith(("x_proj_weight", "dt_projs_weight"))
            fan = tensor.shape[-1] if own else tensor.numel() // tensor.shape[0]
            v = v * math.sqrt(3 / fan)
        elif name.endswith("weight"):
            v = 1 + 0.1 * v
        else:
            v = 0.1 * v
        tensor.copy_(v)
    return module


class Golden:
    fill = staticmethod(fill)
    example = staticmethod(example)


@pytest.fixture(scope="session")
def golden() -> type[Golden]:
    return Golden


@pytest.fixture(scope="session")
def shared_keys(shared: Path) -> Path:
    """Folder of the official key lists; tests that need it are skipped where it is absent."""
    return shared / "specs" / "keys"


@pytest.fixture(scope="session")
def straightforward() -> ModuleType:
    """The unoptimised computation, shared with the performance script."""
    path = ROOT / "tests" / "performance" / "actalker_straightforward.py"
    spec = importlib.util.spec_from_file_location("actalker_straightforward", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class EnergyEncoder(nn.Module):
    """Speech features for tests: energy of 20-ms frames in two bands, 50 steps per second, one layer."""

    rate = 50.0

    def __init__(self, chunk_seconds: float | None = None) -> None:
        super().__init__()
        self.chunk_seconds = chunk_seconds
        self.chunks = 0

    def encode(self, waveform: Tensor) -> Tensor:
        self.chunks += 1
        frames = waveform[: len(waveform) // 320 * 320].reshape(-1, 320)
        low, high = frames.pow(2).mean(1).sqrt(), frames.diff(dim=1).pow(2).mean(1).sqrt()
        return torch.stack([low, high], dim=1)[:, None]

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        folder.mkdir(parents=True)

    @classmethod
    def from_pretrained(cls, folder: Path) -> EnergyEncoder:
        return cls()


class OneFace:
    """Finds a face in the middle of every picture that is not black."""

    def find(self, image: np.ndarray) -> list[Face]:
        if not image.any():
            return []
        h, w = image.shape[:2]
        box = (w * 0.25, h * 0.2, w * 0.75, h * 0.8)
        mouth = (w * 0.38, h * 0.56, w * 0.62, h * 0.72)
        return [Face(box, mouth, (w * 0.3, h * 0.3, w * 0.7, h * 0.74))]


@pytest.fixture(scope="session")
def tiny_conditioner() -> PortraitConditioner:
    torch.manual_seed(1)
    conditioner = PortraitConditioner(
        PortraitConditionerConfig(image_size=32, multiple=16),
        EnergyEncoder(),
        AudioProjection(AudioProjectionConfig(layers=1, features=2, hidden=16, tokens=3, condition=24)),
        IResNet(IResNetConfig(layers=(1, 1, 1, 1), widths=(4, 4, 8, 8), embedding=8, size=32)),
        IdentityProjection(IdentityProjectionConfig(embedding=8, hidden=16, condition=24)),
        HeadExpression(ExpressionConfig(width=4, blocks=(1, 1, 1, 1), features=8, size=32)),
        HeadPose(HeadPoseConfig(width=4, blocks=(1, 1, 1, 1), groups=2, size=32)),
        MotionProjection(MotionProjectionConfig(features=8, condition=24, rotation_scale=0.01)),
        PoseGuider(PoseGuiderConfig(widths=(4, 8, 8), outputs=32)),
        finder=OneFace(),
    ).eval()
    torch.nn.init.normal_(conditioner.pose_guider.conv_out.weight, std=0.1)
    return conditioner


class PatchCodec(nn.Module):
    """A codec without weights: 4x4 patches folded to channels and mixed down to 4 of them."""

    stride, latent_channels, scaling = 4, 4, 0.5

    def __init__(self) -> None:
        super().__init__()
        mixing = torch.linalg.qr(sequence(48 * 48, 1).reshape(48, 48)).Q[:4]
        self.register_buffer("mixing", mixing.float())

    def encode(self, images: Tensor) -> Tensor:
        patches = torch.nn.functional.pixel_unshuffle(images, 4)
        return torch.einsum("kc,nchw->nkhw", self.mixing.to(patches), patches)

    def decode(self, latents: Tensor) -> Tensor:
        patches = torch.einsum("kc,nkhw->nchw", self.mixing.to(latents), latents)
        return torch.nn.functional.pixel_shuffle(patches, 4)

    def save_pretrained(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        folder.mkdir(parents=True)

    @classmethod
    def from_pretrained(cls, folder: Path) -> PatchCodec:
        return cls()


@pytest.fixture(scope="session")
def tiny_codec() -> PatchCodec:
    return PatchCodec()


@pytest.fixture(scope="session")
def tiny_unet() -> ACTalkerUNet:
    config = UNetConfig(channels=(32, 32), heads=(1, 2), attention=(True, True), layers=1, condition=24)
    return fill(ACTalkerUNet(config)).float()


@pytest.fixture
def tiny_pipeline(
    tiny_unet: ACTalkerUNet, tiny_codec: PatchCodec, tiny_conditioner: PortraitConditioner
) -> ACTalkerPipeline:
    sampler = SamplerConfig(schedule=ScheduleConfig(steps=2), window=5, shift=2)
    config = PipelineConfig(masks="paper", sampler=sampler, decode_chunk=4)
    return ACTalkerPipeline(tiny_unet, tiny_codec, tiny_conditioner, config)


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 255, (48, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def speech() -> np.ndarray:
    """One second of tone bursts, float32 at 16 kHz."""
    t = np.arange(16_000) / 16_000
    return (0.5 * np.sin(2 * np.pi * 220 * t) * (np.sin(2 * np.pi * 3 * t) > 0)).astype(np.float32)


@pytest.fixture(scope="session")
def driving() -> np.ndarray:
    """Twelve driving frames at the model's rate."""
    return np.random.default_rng(3).integers(1, 255, (12, 40, 48, 3), dtype=np.uint8)


@pytest.fixture
def storable_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tests' codec and audio encoder classes of the package, so that they can be stored and loaded."""
    module = ModuleType("actalker.parts_for_tests")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for part in (EnergyEncoder, PatchCodec):
        setattr(module, part.__name__, part)
        monkeypatch.setattr(part, "__module__", module.__name__)
