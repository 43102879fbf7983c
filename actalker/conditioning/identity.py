"""Portrait to identity token: ArcFace's iResNet and a three-layer projection."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.config import Configured
from actalker.errors import CheckpointError, MissingPackageError


@dataclass(frozen=True, slots=True)
class IResNetConfig:
    """Sizes; the defaults are ArcFace's r50 (43,590,848 parameters).

    Attributes:
        layers: blocks per stage.
        widths: channels of each stage.
        embedding: size of the identity vector.
        size: side of the square input in pixels; each of the four stages halves it.
    """

    layers: tuple[int, ...] = (3, 4, 14, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    embedding: int = 512
    size: int = 112


class _IResBlock(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, project: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if project:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(h)) + (x if self.downsample is None else self.downsample(x))


class IResNet(Configured):
    """Identity encoder: an aligned or plainly cropped head to an embedding, not normalised."""

    Config = IResNetConfig
    config: IResNetConfig

    def __init__(self, config: IResNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IResNetConfig()
        first = config.widths[0]
        self.conv1 = nn.Conv2d(3, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.prelu = nn.PReLU(first)
        inputs, side = first, config.size
        for stage, (width, blocks) in enumerate(zip(config.widths, config.layers, strict=True), start=1):
            self.add_module(
                f"layer{stage}",
                nn.Sequential(
                    *(
                        _IResBlock(width if i else inputs, width, 1 if i else 2, project=i == 0)
                        for i in range(blocks)
                    )
                ),
            )
            inputs, side = width, (side + 1) // 2
        self.bn2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs * side * side, config.embedding)
        self.features = nn.BatchNorm1d(config.embedding)
        # ArcFace keeps this scale at 1: the direction of the embedding is what the loss sees.
        nn.init.ones_(self.features.weight)
        self.features.weight.requires_grad_(False)

    def forward(self, head: Tensor) -> Tensor:
        """Head crops (n, 3, size, size) in [-1, 1] -> (n, embedding)."""
        x = self.prelu(self.bn1(self.conv1(head)))
        for stage in range(1, len(self.config.widths) + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.features(self.fc(self.bn2(x).flatten(1)))


@dataclass(frozen=True, slots=True)
class OnnxIdentityConfig:
    """Read from the file.

    Attributes:
        embedding: size of the identity vector.
        size: side of the square input in pixels.
    """

    embedding: int
    size: int


class OnnxIdentity(nn.Module):
    """An ArcFace network as insightface ships it (`w600k_r50.onnx`), run by onnxruntime on the CPU.

    Args:
        file: the ONNX file; takes RGB crops (n, 3, size, size) in [-1, 1].

    Raises:
        MissingPackageError: onnxruntime is not installed.
        CheckpointError: not such a file.
    """

    FILE = "model.onnx"

    def __init__(self, file: str | Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingPackageError(
                "this model's identity encoder is an ONNX file, which needs the package onnxruntime",
                "pip install onnxruntime",
            ) from error
        self.file = Path(file)
        try:
            self._session: Any = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
            (given,), (made,) = self._session.get_inputs(), self._session.get_outputs()
            self.config = OnnxIdentityConfig(embedding=int(made.shape[-1]), size=int(given.shape[-1]))
        except Exception as error:  # onnxruntime's own errors have no common base
            raise CheckpointError(f"{file} is not an identity network in ONNX: {error}") from error
        self._input = given.name

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype | None = None) -> Self:
        """Load the folder `save_pretrained` writes."""
        del dtype
        return cls(Path(folder) / cls.FILE)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Copy the file."""
        del dtype
        Path(folder).mkdir(parents=True, exist_ok=True)
        target = Path(folder) / self.FILE
        if not (target.exists() and target.samefile(self.file)):
            shutil.copy(self.file, target)

    def forward(self, head: Tensor) -> Tensor:
        """Head crops (n, 3, size, size) in [-1, 1] -> (n, embedding)."""
        rows = [self._session.run(None, {self._input: row[None].float().cpu().numpy()})[0] for row in head]
        return torch.from_numpy(np.concatenate(rows)).to(head)


IdentityEncoder = IResNet | OnnxIdentity


@dataclass(frozen=True, slots=True)
class IdentityProjectionConfig:
    """Sizes; the defaults are the released `id_proj_model` file.

    Attributes:
        embedding: size of the identity vector.
        hidden: width of the two hidden layers.
        condition: channels of the token.
    """

    embedding: int = 512
    hidden: int = 1024
    condition: int = 1024


class IdentityProjection(Configured):
    """Identity vector to one token."""

    Config = IdentityProjectionConfig
    config: IdentityProjectionConfig

    def __init__(self, config: IdentityProjectionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IdentityProjectionConfig()
        self.proj1 = nn.Linear(config.embedding, config.hidden)
        self.proj2 = nn.Linear(config.hidden, config.hidden)
        self.proj3 = nn.Linear(config.hidden, config.condition)

    def forward(self, embedding: Tensor) -> Tensor:
        """(..., embedding) -> (..., condition)."""
        return self.proj3(F.relu(self.proj2(F.relu(self.proj1(embedding)))))
