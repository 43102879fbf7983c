"""SyncNet: embeddings of a mouth and of a voice that agree when the two belong together.

Chung and Zisserman 2016, "Out of time: automated lip sync in the wild"; layers of the released `syncnet_v2`
checkpoint. The lip tower looks at five frames; only its first convolution spans time, so a whole clip is one
pass of it and every later layer is an ordinary image convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.metrics.networks.loading import (
    State,
    arrange,
    device,
    downloaded,
    fold_batchnorm,
    frames_tensor,
    official,
    ready,
)
from bench.metrics.precision import Precision

WINDOW = 5  # video frames behind one embedding, 0.2 s at 25 fps
STEP = 4  # MFCC columns per video frame
COLUMNS = 20  # MFCC columns behind one embedding
SIZE = 1024
SIDE = 224


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, SIZE))


def _audio(inputs: int, outputs: int, kernel=(3, 3), padding=(1, 1)) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=padding),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]


def _lip(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    convolution = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), (0, padding, padding))
    return [convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)]


class SyncNet(nn.Module):
    """Both towers with the checkpoint's layer names."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_audio(1, 64),
            nn.MaxPool2d((1, 1), (1, 1)),
            *_audio(64, 192),
            nn.MaxPool2d((3, 3), (1, 2)),
            *_audio(192, 384),
            *_audio(384, 256),
            *_audio(256, 256),
            nn.MaxPool2d((3, 3), (2, 2)),
            *_audio(256, 512, (5, 4), (0, 0)),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(
            *_lip(3, 96, (5, 7, 7), stride=2),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_lip(96, 256, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
            *_lip(256, 256, (1, 3, 3), padding=1),
            *_lip(256, 256, (1, 3, 3), padding=1),
            *_lip(256, 256, (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_lip(256, 512, (1, 6, 6)),
        )

    def lip(self, x: Tensor) -> Tensor:
        """Embed a clip (1, 3, t, 224, 224), BGR in 0..255, to (t - 4, 1024)."""
        return self.netfclip(self.netcnnlip(x)[0, :, :, 0, 0].T)


def flat(tower: nn.Sequential) -> nn.Sequential:
    """Return the lip tower with its 3-D layers as 2-D ones.

    Everything after the first convolution has temporal extent 1 and becomes an image layer as it is; the
    first takes the window's five frames as 15 channels (colour varies slowest).
    """
    layers: list[nn.Module] = []
    layer: Any
    for layer in tower:
        if isinstance(layer, nn.Conv3d):
            weight = layer.weight.flatten(1, 2)
            size: Any = weight.shape[2:]
            image = nn.Conv2d(weight.shape[1], weight.shape[0], size, layer.stride[1], layer.padding[1])
            image.weight, image.bias = nn.Parameter(weight), layer.bias
            layers.append(image)
        elif isinstance(layer, nn.MaxPool3d):
            kernel, stride, padding = (v if isinstance(v, int) else v[1:] for v in _pool(layer))
            layers.append(nn.MaxPool2d(kernel, stride, padding))
        else:
            layers.append(layer)
    return nn.Sequential(*layers).requires_grad_(False)


def _pool(layer: nn.MaxPool3d) -> tuple[Any, Any, Any]:
    return layer.kernel_size, layer.stride, layer.padding


def windows(frames: Tensor) -> Tensor:
    """Stack uint8 RGB crops (t, 224, 224, 3) into overlapping windows (t - 4, 15, 224, 224) for `flat`."""
    bgr = frames.flip(-1).permute(3, 0, 1, 2).float()
    return bgr.unfold(1, WINDOW, 1).permute(1, 0, 4, 2, 3).flatten(1, 2)


def audio_windows(mfcc: Tensor, count: int) -> Tensor:
    """Cut MFCC columns (columns, 13) into (count, 1, 13, 20), one window per video frame."""
    return mfcc.T.unfold(1, COLUMNS, STEP)[:, :count].permute(1, 0, 2)[:, None].float()


class Embedder:
    """Both towers ready for inference.

    Args:
        state: weights to use instead of the official file's.
        precision: arithmetic.
    """

    def __init__(self, state: State | None = None, precision: Precision = Precision.FP32) -> None:
        network = fold_batchnorm(ready(SyncNet(), state or official("syncnet_v2")))
        self._lips = arrange(flat(network.netcnnlip), precision)
        self._lips_head = arrange(network.netfclip, precision)
        self._voice = arrange(network.netcnnaud, precision)
        self._voice_head = arrange(network.netfcaud, precision)
        self._dtype = next(self._lips.parameters()).dtype

    @torch.inference_mode()
    def embedded_lips(self, crops: npt.NDArray[np.uint8] | Tensor) -> Tensor:
        """Embed RGB crops (t, 224, 224, 3), t >= 5, to (t - 4, 1024), on the device."""
        x = windows(frames_tensor(crops)).to(self._dtype).contiguous(memory_format=torch.channels_last)
        return self._lips_head(self._lips(x).flatten(1))

    def lips(self, crops: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed RGB crops (t, 224, 224, 3), t >= 5, to (t - 4, 1024)."""
        return downloaded([self.embedded_lips(crops)])

    @torch.inference_mode()
    def voice(self, mfcc: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float32]:
        """Embed the first `count` windows of MFCC columns (columns, 13) to (count, 1024)."""
        batches = audio_windows(torch.from_numpy(mfcc), count).to(device(), self._dtype).split(64)
        return torch.cat([self._voice_head(self._voice(b).flatten(1)) for b in batches]).float().cpu().numpy()


class LipStream:
    """Embeds one sequence of crops that arrives in pieces, with the overlap its windows need."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._tail = torch.zeros((0, SIDE, SIDE, 3), dtype=torch.uint8, device=device())
        self._done: list[Tensor] = [torch.zeros((0, SIZE), device=device())]

    def push(self, crops: npt.NDArray[np.uint8] | Tensor) -> None:
        """Take the next crops (n, 224, 224, 3)."""
        joined = torch.cat([self._tail, frames_tensor(crops)])
        if len(joined) >= WINDOW:
            self._done.append(self._embedder.embedded_lips(joined))
        self._tail = joined[-(WINDOW - 1) :]

    def result(self) -> npt.NDArray[np.float32]:
        """Return the embeddings (crops - 4, 1024) so far."""
        return downloaded(self._done)
