"""S3FD, the face detector in front of SyncNet.

Zhang et al. 2017, "S3FD: Single Shot Scale-invariant Face Detector": a VGG-16 trunk with six detection
layers, anchors of 16 to 512 px at strides 4 to 128, and the max-out background label on the first. Module
names follow the checkpoint of the SyncNet pipeline.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.metrics.geometry import suppress
from bench.metrics.networks.loading import State, arrange, frames_tensor, official, ready
from bench.metrics.precision import Precision

MEAN_RGB = (123.0, 117.0, 104.0)
STEPS = (4, 8, 16, 32, 64, 128)
ANCHORS = (16, 32, 64, 128, 256, 512)
VARIANCES = (0.1, 0.2)
KEEP = 750  # boxes kept by the inner suppression

# Output channels of the trunk's convolutions; M is a max pool, C one that rounds its size up.
_TRUNK = (64, 64, "M", 128, 128, "M", 256, 256, 256, "C", 512, 512, 512, "M", 512, 512, 512, "M")
_TAPPED = (15, 22, 29)  # last layer before conv3_3, conv4_3 and conv5_3 are tapped
_CHANNELS = (256, 512, 512, 1024, 512, 256)


class L2Norm(nn.Module):
    """Scale every position's channel vector to length `weight` (learned per channel)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, c, h, w) to the same shape."""
        norm = x.pow(2).sum(1, keepdim=True).sqrt_().add_(1e-10)
        return x / norm * self.weight[:, None, None]


class S3fd(nn.Module):
    """The network up to class scores and raw box offsets."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for item in _TRUNK:
            if isinstance(item, int):
                layers += [nn.Conv2d(channels, item, 3, padding=1), nn.ReLU(inplace=True)]
                channels = item
            else:
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=item == "C"))
        layers += [nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(1024, 1024, 1), nn.ReLU(inplace=True)]
        self.vgg = nn.ModuleList(layers)
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = L2Norm(256), L2Norm(512), L2Norm(512)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, 2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, 2, padding=1),
            ]
        )
        self.loc = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in _CHANNELS)
        self.conf = nn.ModuleList(nn.Conv2d(c, 4 if i == 0 else 2, 3, padding=1) for i, c in enumerate(_CHANNELS))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[tuple[int, int], ...]]:
        """Run the network.

        Args:
            x: (n, 3, h, w) RGB, 0 to 255, minus `MEAN_RGB`.

        Returns:
            Face probability (n, anchors), raw offsets (n, anchors, 4), and the six feature map sizes.
        """
        sources = []
        norms = iter((self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3))
        for i, layer in enumerate(self.vgg):
            x = layer(x)
            if i in _TAPPED:
                sources.append(next(norms)(x))
        sources.append(x)
        for i, layer in enumerate(self.extras):
            x = F.relu(layer(x), inplace=True)
            if i % 2:
                sources.append(x)
        scores, offsets = [], []
        for i, source in enumerate(sources):
            score = self.conf[i](source)
            if i == 0:  # three background channels compete, the strongest counts
                score = torch.cat([score[:, :3].amax(1, keepdim=True), score[:, 3:]], 1)
            scores.append(score.permute(0, 2, 3, 1).flatten(1, 2))
            offsets.append(self.loc[i](source).permute(0, 2, 3, 1).reshape(len(x), -1, 4))
        sizes = tuple((s.shape[2], s.shape[3]) for s in sources)
        return torch.cat(scores, 1).float().softmax(-1)[..., 1], torch.cat(offsets, 1).float(), sizes


Raw = tuple[Tensor, Tensor, Tensor]  # face probability (n, anchors), offsets (n, anchors, 4), anchors


@lru_cache(maxsize=8)
def anchors(height: int, width: int, sizes: tuple[tuple[int, int], ...]) -> Tensor:
    """Return the anchors (count, 4) as centre x, centre y, width, height relative to the input's size."""
    boxes = []
    for (rows, columns), step, side in zip(sizes, STEPS, ANCHORS, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centre = torch.stack([(x + 0.5) * step / width, (y + 0.5) * step / height], -1).reshape(-1, 2)
        size = torch.tensor([side / width, side / height]).expand(len(centre), 2)
        boxes.append(torch.cat([centre, size], 1))
    return torch.cat(boxes)


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Turn raw offsets (..., 4) and anchors (..., 4) into corners x1, y1, x2, y2 in relative units."""
    centre = priors[..., :2] + offsets[..., :2] * VARIANCES[0] * priors[..., 2:]
    size = priors[..., 2:] * torch.exp(offsets[..., 2:] * VARIANCES[1])
    start = centre - size / 2
    return torch.cat([start, start + size], -1)


def quarter(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Scale frames (n, h, w, 3) by 0.25 as OpenCV's bilinear resize does: the centre of every 4x4 cell."""
    rows, columns = (round(frames.shape[1] * 0.25), round(frames.shape[2] * 0.25))
    top, left = np.arange(rows) * 4 + 1, np.arange(columns) * 4 + 1
    lines = frames[:, top].astype(np.uint16) + frames[:, np.minimum(top + 1, frames.shape[1] - 1)]
    total = lines[:, :, left] + lines[:, :, np.minimum(left + 1, frames.shape[2] - 1)]
    return ((total + 2) >> 2).astype(np.uint8)


def faces(
    probability: Tensor, offsets: Tensor, priors: Tensor, width: int, height: int, threshold: float = 0.9
) -> list[npt.NDArray[np.float32]]:
    """Decode one batch into faces, best first.

    The reference keeps everything above 0.05, suppresses at IoU 0.3, keeps 750, thresholds, and suppresses
    again at 0.1. Weak boxes never suppress stronger ones, so thresholding first gives the same faces for
    less.

    Args:
        probability, offsets: from `S3fd` (n, anchors) and (n, anchors, 4).
        priors: (anchors, 4).
        width, height: of the frames before scaling.
        threshold: smallest probability of a face.

    Returns:
        One array (faces, 5) per frame: x1, y1, x2, y2 in pixels, probability.
    """
    found = []
    strong = probability > threshold
    size = np.array([width, height, width, height], np.float32)
    for i in range(len(probability)):
        # Probabilities saturate at 1; among equals the reference takes the last anchor first.
        index = strong[i].nonzero()[:, 0].flip(0)
        boxes = decode(offsets[i, index], priors[index]).cpu().numpy()
        scores = probability[i, index].cpu().numpy()
        kept = suppress(boxes, scores, 0.3)[:KEEP][::-1]
        boxes, scores = boxes[kept] * size, scores[kept]
        kept = suppress(boxes, scores, 0.1)
        found.append(np.concatenate([boxes[kept], scores[kept, None]], 1).astype(np.float32))
    return found


class Detector:
    """The network ready for inference on pictures scaled by 0.25.

    Args:
        state: weights to use instead of the official file's.
        precision: arithmetic.
    """

    def __init__(self, state: State | None = None, precision: Precision = Precision.FP32) -> None:
        self.network = arrange(ready(S3fd(), state or official("sfd_face")), precision)
        self._dtype = next(self.network.parameters()).dtype

    def __call__(self, small: npt.NDArray[np.uint8], width: int, height: int) -> list[npt.NDArray[np.float32]]:
        """Return the faces of `quarter` pictures (n, h, w, 3) of frames of the given size, see `faces`."""
        return self.decoded([self.raw(small)], width, height)

    @torch.inference_mode()
    def raw(self, small: npt.NDArray[np.uint8] | Tensor) -> Raw:
        """Run the network on `quarter` pictures (n, h, w, 3), without waiting for the device."""
        x = frames_tensor(small).permute(0, 3, 1, 2).float()
        x = x - torch.tensor(MEAN_RGB, device=x.device)[:, None, None]
        probability, offsets, sizes = self.network(x.to(self._dtype))
        return probability, offsets, anchors(*x.shape[2:], sizes)

    @staticmethod
    def decoded(batches: list[Raw], width: int, height: int) -> list[npt.NDArray[np.float32]]:
        """Return the faces of all batches of frames of the given size, see `faces`."""
        probability, offsets = (torch.cat([raw[i] for raw in batches]).cpu() for i in (0, 1))
        return faces(probability, offsets, batches[0][2], width, height)
