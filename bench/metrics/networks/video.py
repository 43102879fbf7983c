"""Video networks fed from a stream of frames: whole-clip I3D, 3-D ResNet-50 by segments, TorchScript I3D."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from bench import weights
from bench.metrics.networks import i3d, resnet3d
from bench.metrics.networks.loading import State, arrange, device, fold_batchnorm, frames_tensor, official, ready
from bench.metrics.precision import Precision

Frames = npt.NDArray[np.uint8] | Tensor


def squash(frames: Frames, side: int) -> Tensor:
    """Scale uint8 frames (n, h, w, 3) to a square with antialiased bicubic weights.

    Equal to Pillow's bicubic resize of float channels; values may leave 0..255.

    Returns:
        float32 (n, side, side, 3).
    """
    x = frames_tensor(frames).permute(0, 3, 1, 2).float()
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).permute(0, 2, 3, 1)


class WholeClip:
    """I3D over a clip of any length.

    Args:
        state: weights to use instead of the official file's.
        pool_frames: see `I3d`.
        precision: arithmetic.
    """

    def __init__(
        self, state: State | None = None, pool_frames: int = 1, precision: Precision = Precision.FP32
    ) -> None:
        network = fold_batchnorm(ready(i3d.I3d(pool_frames), state or official("i3d_kinetics400")))
        self.network = arrange(network, precision)
        self._dtype = next(self.network.parameters()).dtype

    @torch.inference_mode()
    def __call__(self, chunks: Iterable[Frames], frames: int) -> npt.NDArray[np.float32]:
        """Return the time-averaged class scores (1, 400)."""
        return self.network(self._pieces(chunks), frames).float().cpu().numpy()

    def _pieces(self, chunks: Iterable[Frames]) -> Iterator[Tensor]:
        for chunk in chunks:
            x = (squash(chunk, i3d.SIDE) / 127.5 - 1).to(self._dtype)
            yield x[None].permute(0, 4, 1, 2, 3)


class Segments:
    """3-D ResNet-50 over consecutive 16-frame segments.

    Args:
        state: weights to use instead of the official file's.
        precision: arithmetic.
    """

    def __init__(self, state: State | None = None, precision: Precision = Precision.FP32) -> None:
        network = ready(resnet3d.ResNet3d(), state or official("resnet50_kinetics"))
        self.network = arrange(fold_batchnorm(network), precision)
        self._dtype = next(self.network.parameters()).dtype

    @torch.inference_mode()
    def __call__(self, segments: Iterable[Frames]) -> npt.NDArray[np.float32]:
        """Return the mean feature (1, 2048) of segments of 16 frames, any number at a time; the last is filled."""
        features = []
        for segment in segments:
            x = squash(segment, resnet3d.SIDE)
            missing = -len(x) % resnet3d.SEGMENT
            x = torch.cat([x, x[-1:].expand(missing, -1, -1, -1)]).unflatten(0, (-1, resnet3d.SEGMENT))
            features.append(self.network(resnet3d.prepare(x).to(self._dtype)).float())
        return torch.cat(features).mean(0, keepdim=True).cpu().numpy()


class FirstFrames:
    """The TorchScript graph of I3D. It is code, so it runs only after its hash matched the lock."""

    def __init__(self, precision: Precision = Precision.FP32) -> None:
        self._half = precision is Precision.BF16
        with weights.opened("i3d_torchscript") as file:
            self.graph = torch.jit.load(file, map_location=device()).eval()

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> npt.NDArray[np.float32]:
        """Return the class scores (1, 400) of 16 frames."""
        x = frames_tensor(frames).permute(3, 0, 1, 2)[None].float()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._half):
            scores = self.graph(x, rescale=True, resize=True, return_features=True)
        return scores.float().cpu().numpy().reshape(1, -1)
