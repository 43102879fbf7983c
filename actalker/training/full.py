"""Training the full-size model: a stored pipeline whose encoders and codec stay frozen.

Follows paper §3.4 and A.3 and the released data set class where they agree: one portrait
per clip within a second of the window, a static face mask (union over the window's frames), its lower half as
the mouth mask in joint training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from actalker.conditioning.audio import take_steps
from actalker.conditioning.portrait import PortraitConditioner
from actalker.errors import InputError
from actalker.gates import Gates
from actalker.masks import MaskMode, box_mask, mouth_box
from actalker.pipeline import ACTalkerPipeline
from actalker.preprocess import (
    expression_crop,
    head_crop,
    location_image,
    pose_box,
    pose_crop,
    resized,
    scale_box,
    to_tensor,
    working_size,
)
from actalker.schedule import build_schedule
from actalker.training.data import FPS, Features, TrainingClip, Window
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout

_BATCH = 8
_NEAR = 25
"""The portrait is a frame at most this many frames away from the window."""


class FullPreparation:
    """Runs ArcFace, Whisper, motion encoders and VAE over a clip once, and cuts windows out of the results.

    Args:
        pipeline: the model; its conditioner must be a `PortraitConditioner`.
    """

    def __init__(self, pipeline: ACTalkerPipeline) -> None:
        conditioner = pipeline.conditioner
        if not isinstance(conditioner, PortraitConditioner):
            raise InputError(f"cannot train with a {type(conditioner).__name__}")
        self.conditioner, self.codec = conditioner, pipeline.codec
        self.fps = pipeline.config.fps
        self.stride = max(1, round(FPS / self.fps))

    @torch.no_grad()
    def prepare(self, clip: TrainingClip) -> Features:
        """Encode every `stride`-th frame of a clip; frames without a given face box are searched for one.

        Raises:
            InputError: a clip without face boxes and no face to be found.
        """
        conditioner, device = self.conditioner, self.conditioner.device
        pictures = clip.frames[:: self.stride]
        count = len(pictures)
        boxes = self._boxes(clip)[:: self.stride]
        height, width = pictures.shape[1:3]
        config = conditioner.config
        size = working_size(width, height, config.image_size, config.multiple)
        fixed = pose_box(tuple(boxes[0]), width, height)
        columns: dict[str, list[Tensor]] = {"latents": [], "expression": [], "pose": [], "identity": []}
        for start in range(0, count, _BATCH):
            part = list(zip(pictures[start : start + _BATCH], boxes[start : start + _BATCH], strict=True))
            working = [to_tensor(resized(p, *size, Image.Resampling.BICUBIC)) * 2 - 1 for p, _ in part]
            heads = [head_crop(p, tuple(box), conditioner.identity.config.size) for p, box in part]
            faces = [expression_crop(p, tuple(box), conditioner.expression.config.size) for p, box in part]
            poses = [pose_crop(p, fixed, conditioner.pose.config.size, config.image_size) for p, _ in part]
            columns["latents"].append(self.codec.encode(torch.cat(working).to(device)))
            columns["identity"].append(conditioner.identity(torch.cat(heads).to(device)))
            columns["expression"].append(conditioner.expression(torch.cat(faces).to(device)))
            columns["pose"].append(conditioner.pose(torch.cat(poses).to(device)))
        speech = conditioner.audio_encoder.encode(torch.from_numpy(clip.audio).float().to(device) / 32768)
        steps = conditioner.audio_projection.steps(0, count, self.fps, conditioner.audio_encoder.rate)
        return {
            "frames": torch.tensor(count),
            "size": torch.tensor([*size, width, height]),
            "boxes": torch.from_numpy(np.ascontiguousarray(boxes, np.float32)),
            "audio": take_steps(speech, steps).cpu().half(),
            **{name: torch.cat(parts).cpu().half() for name, parts in columns.items()},
        }

    def _boxes(self, clip: TrainingClip) -> Any:
        if clip.face is not None:
            return clip.face
        boxes: list[Any] = []
        for picture in clip.frames:
            found = self.conditioner.finder.find(picture)
            boxes.append(found[0].box if found else (boxes[-1] if boxes else None))
        first = next((box for box in boxes if box is not None), None)
        if first is None:
            raise InputError(f"no face found in the training clip of {clip.identity}")
        return np.array([first if box is None else box for box in boxes], np.float32)

    def window(
        self, features: Sequence[Features], frames: int, gates: Gates, generator: torch.Generator
    ) -> Window:
        """Cut one window out of each clip; all clips of a batch must have one working size."""
        columns: dict[str, list[Tensor]] = {}

        def below(n: int) -> int:
            return int(torch.randint(n, (1,), generator=generator))

        for clip in features:
            length = int(clip["frames"])
            start = below(length - frames + 1)
            at = slice(start, start + frames)
            low, high = max(0, start - _NEAR), min(length, start + frames + _NEAR)
            reference = low + below(high - low)
            w, h, width, height = clip["size"].tolist()
            boxes = clip["boxes"][at]
            union = (*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist())
            location = location_image(union, (width, height), (w, h), self.conditioner.config.area)[0]
            mouth = box_mask(mouth_box(scale_box(union, (width, height), (w, h))), h, w)[0]
            values = {
                "clean": clip["latents"][at].float() * self.codec.scaling,
                "reference": clip["latents"][reference : reference + 1].float(),
                "identity": clip["identity"][reference].float(),
                "audio": clip["audio"][at].float(),
                "expression": clip["expression"][at].float(),
                "reference_expression": clip["expression"][reference].float(),
                "pose": clip["pose"][at].float(),
                "reference_pose": clip["pose"][reference].float(),
                "location": location.expand(3, -1, -1)[None],
                "face": location,
                "mouth": mouth * location,
            }
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
        x = {name: torch.stack(values) for name, values in columns.items()}
        weight = torch.ones_like(x["clean"][:, :, :1])
        return Window(weight=weight, **x)


class FullSystem:
    """A stored full-size pipeline in training.

    Args:
        pipeline: the model to start from, in single precision.
        dropout: conditioning dropout.
        mask_mode: control masks with both gates open.
        noise_offset: see `objective.corrupt`.
    """

    def __init__(
        self, pipeline: ACTalkerPipeline, dropout: Dropout, mask_mode: MaskMode, noise_offset: float
    ) -> None:
        # A model generates with the masks it was trained with.
        pipeline.config = replace(pipeline.config, masks=mask_mode)
        self.pipeline = pipeline
        self.preparation = FullPreparation(pipeline)
        conditioner = self.preparation.conditioner
        sampler = pipeline.config.sampler
        self.parts = TrainedParts(
            pipeline.unet,
            conditioner.audio_projection,
            conditioner.motion_projection,
            conditioner.identity_projection,
            conditioner.pose_guider,
            schedule=build_schedule(sampler.schedule),
            dropout=dropout,
            mask_mode=mask_mode,
            noise_offset=noise_offset,
            time_ids=sampler.time_ids,
        )

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) of consecutive frames to pictures (n, 3, H, W), chunked as at inference."""
        codec = self.pipeline.codec
        chunks = (latents / codec.scaling).split(self.pipeline.config.decode_chunk)
        return torch.cat([codec.decode(chunk) for chunk in chunks])

    def save(self, folder: Path) -> None:
        """Store the pipeline with its present weights."""
        self.pipeline.save_pretrained(folder, torch.float16)
