"""Training the full-size model: a stored pipeline whose encoders and codec stay frozen.

Follows paper §3.4 and A.3 and the released data set class where they agree: one portrait per clip within a second
of the window, and a static face mask (union over the window's frames). Faces, masks and what the motion encoders
see come from the functions inference uses.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from actalker.components import SAMPLE_RATE, Face
from actalker.conditioning.audio import Speech
from actalker.conditioning.inputs import face_masks, lips
from actalker.conditioning.portrait import PortraitConditioner
from actalker.errors import InputError
from actalker.faces import face_at, follow_faces
from actalker.gates import Gates
from actalker.lora import add_lora, fuse_lora, save_lora
from actalker.masks import Box, MaskMode
from actalker.pipeline import ACTalkerPipeline
from actalker.preprocess import head_crop, pose_box, resized, to_tensor, working_size
from actalker.schedule import build_schedule
from actalker.training import augment
from actalker.training.config import LoraConfig
from actalker.training.data import FPS, Features, TrainingClip, Window
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout

_BATCH = 8
_NEAR = 25
"""The portrait is a frame at most this many frames away from the window."""
_MOTION_IDS = 3
"""Time ids of the released model: frame rate, motion bucket, expression bucket."""


class FullPreparation:
    """Runs ArcFace, Whisper, motion encoders and VAE over a clip once, and cuts windows out of the results.

    Args:
        pipeline: the model; its conditioner must be a `PortraitConditioner`.

    Attributes:
        key: names the frozen networks and their settings by content.
    """

    def __init__(self, pipeline: ACTalkerPipeline) -> None:
        conditioner = pipeline.conditioner
        if not isinstance(conditioner, PortraitConditioner):
            raise InputError(f"cannot train with a {type(conditioner).__name__}")
        self.conditioner, self.codec = conditioner, pipeline.codec
        self.fps = pipeline.config.fps
        self.stride = max(1, round(FPS / self.fps))
        self.measured_ids = len(pipeline.config.sampler.time_ids) == _MOTION_IDS
        frozen = (self.codec, conditioner.audio_encoder, conditioner.identity)
        self.key = _fingerprint(
            [*frozen, conditioner.expression, conditioner.pose],
            [asdict(conditioner.config), asdict(conditioner.audio_projection.config), self.fps],
        )

    @torch.no_grad()
    def prepare(self, clip: TrainingClip) -> Features:
        """Encode every `stride`-th frame of a clip; a face box that is given names the face to look at.

        Raises:
            InputError: a clip without face boxes and no face to be found.
        """
        conditioner, device, reader = self.conditioner, self.conditioner.device, self.conditioner.motion
        pictures: Any = clip.frames[:: self.stride]
        faces = self._faces(clip, pictures)
        change = None
        if clip.variant:
            rng = augment.generator(clip.frames[0], clip.variant)
            x1, y1, x2, y2 = augment.random_crop(
                _union([f.box for f in faces]), pictures.shape[2], pictures.shape[1], rng
            )
            pictures, faces = pictures[:, y1:y2, x1:x2], [_moved(face, -x1, -y1) for face in faces]
            change = augment.colour_change(rng)
        count, (height, width) = len(pictures), pictures.shape[1:3]
        config = conditioner.config
        size = working_size(width, height, config.image_size, config.multiple)
        fixed = pose_box(faces[0].box, width, height)
        columns: dict[str, list[Tensor]] = {}

        def put(**tensors: Tensor) -> None:
            for name, tensor in tensors.items():
                columns.setdefault(name, []).append(tensor.cpu())

        for start in range(0, count, _BATCH):
            part = list(zip(pictures[start : start + _BATCH], faces[start : start + _BATCH], strict=True))
            working = [to_tensor(resized(p, *size, Image.Resampling.BICUBIC)) * 2 - 1 for p, _ in part]
            heads = [head_crop(p, face.box, conditioner.identity.config.size) for p, face in part]
            expression, pose = reader.encode([reader.see(p, face, fixed, change) for p, face in part], device)
            put(
                latents=self.codec.encode(torch.cat(working).to(device)),
                identity=conditioner.identity(torch.cat(heads).to(device)),
                expression=expression,
                pose=pose,
            )
            if conditioner.motion_projection.config.difference:
                own = reader.encode([reader.own(p, face) for p, face in part], device)
                put(own_expression=own[0], own_pose=own[1])
        speech = Speech(
            conditioner.audio_encoder,
            conditioner.audio_projection,
            torch.from_numpy(np.ascontiguousarray(clip.audio)).float().to(device) / 32768,
        )
        return {
            "frames": torch.tensor(count),
            "size": torch.tensor([*size, width, height]),
            "boxes": torch.tensor([face.box for face in faces], dtype=torch.float32),
            "mouths": torch.tensor([lips(face) for face in faces], dtype=torch.float32),
            "waveform": torch.from_numpy(np.ascontiguousarray(clip.audio)),
            "audio": speech.windows(0, count, self.fps).cpu().half(),
            **{name: torch.cat(parts).half() for name, parts in columns.items()},
        }

    def _faces(self, clip: TrainingClip, pictures: Any) -> list[Face]:
        conditioner = self.conditioner
        if clip.face is None:
            try:
                return [face for _, face in follow_faces(pictures, conditioner.finder.find, "the clip")]
            except InputError as error:
                raise InputError(
                    f"no face found in the training clip of {clip.identity}: {error.message}",
                    "Take it out of the manifest, or give its `face`.",
                ) from error
        finder = conditioner.finder_if_there()
        boxes = [tuple(float(v) for v in box) for box in clip.face[:: self.stride]]
        return [face_at(finder, picture, box) for picture, box in zip(pictures, boxes, strict=True)]  # type: ignore[arg-type]

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
            boxes, mouths = clip["boxes"][at], clip["mouths"][at]
            location, mouth = face_masks(
                _union(boxes.tolist()), _union(mouths.tolist()), (width, height), (w, h),
                self.conditioner.config.area,
            )  # fmt: skip
            own = "own_" if "own_pose" in clip else ""
            samples = SAMPLE_RATE / self.fps
            values = {
                "clean": clip["latents"][at].float() * self.codec.scaling,
                "reference": clip["latents"][reference : reference + 1].float(),
                "identity": clip["identity"][reference].float(),
                "audio": clip["audio"][at].float(),
                "expression": clip["expression"][at].float(),
                "reference_expression": clip[f"{own}expression"][reference].float(),
                "pose": clip["pose"][at].float(),
                "reference_pose": clip[f"{own}pose"][reference].float(),
                "location": location[0].expand(3, -1, -1)[None],
                "face": location[0],
                "mouth": mouth[0],
                "sound": clip["waveform"][round(start * samples) : round((start + frames) * samples)],
            }
            if self.measured_ids:
                values["time_ids"] = torch.tensor([self.fps, *motion_buckets(boxes, mouths)])
            for name, value in values.items():
                columns.setdefault(name, []).append(value)
        x = {name: torch.stack(_even(values) if name == "sound" else values) for name, values in columns.items()}
        weight = torch.ones_like(x["clean"][:, :, :1])
        return Window(weight=weight, **x)


def motion_buckets(boxes: Tensor, mouths: Tensor) -> tuple[float, float]:
    """How much head and mouth move in a window, each in [0, 128] (released data set class, there from landmarks).

    Args:
        boxes, mouths: face and mouth boxes (frames, 4) in pixels.

    Returns:
        mean distance of the face's centre from its mean, over the face's diagonal, times 256; mean distance of
        the mouth's corners from their means, seen from the face's centre, over the diagonal, times 1024.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    diagonal = (boxes[0, 2:] - boxes[0, :2]).norm().clamp_min(1)
    head = (centre - centre.mean(0)).norm(dim=1).mean() / diagonal * 256
    corners = mouths.unflatten(1, (2, 2)) - centre[:, None]
    mouth = (corners - corners.mean(0)).norm(dim=2).mean() / diagonal * 1024
    return float(head.floor().clamp(0, 128)), float(mouth.floor().clamp(0, 128))


def _union(boxes: Sequence[Sequence[float]]) -> Box:
    columns = list(zip(*boxes, strict=True))
    return (min(columns[0]), min(columns[1]), max(columns[2]), max(columns[3]))


def _moved(face: Face, dx: float, dy: float) -> Face:
    def move(box: Box | None) -> Box | None:
        return None if box is None else (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)

    return replace(face, box=move(face.box), mouth=move(face.mouth), features=move(face.features))  # type: ignore[arg-type]


def _even(sounds: list[Tensor]) -> list[Tensor]:
    shortest = min(len(sound) for sound in sounds)
    return [sound[:shortest] for sound in sounds]


def _fingerprint(modules: Sequence[Any], settings: Sequence[Any]) -> str:
    made = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for module in modules:
        config = getattr(module, "config", None)
        made.update(f"{type(module).__qualname__}{config}".encode())
        if isinstance(module, nn.Module):
            for name, value in sorted(module.state_dict().items()):
                made.update(f"{name}{tuple(value.shape)}".encode())
                made.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


class FullSystem:
    """A stored full-size pipeline in training.

    Args:
        pipeline: the model to start from, in single precision.
        dropout: conditioning dropout.
        mask_mode: control masks with both gates open.
        noise_offset: see `objective.corrupt`.
        lora: train a low-rank adaptation of the UNet instead of its weights.
    """

    def __init__(
        self,
        pipeline: ACTalkerPipeline,
        dropout: Dropout,
        mask_mode: MaskMode,
        noise_offset: float,
        lora: LoraConfig | None = None,
    ) -> None:
        self.lora = lora is not None and lora.rank > 0
        if lora is not None and self.lora:
            add_lora(pipeline.unet, lora.rank, lora.alpha or None)
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
        if self.lora:  # what is stored in `lora` is all that differs from the model it started from
            for name, parameter in self.parts.named_parameters():
                parameter.requires_grad_("lora_" in name)

    @property
    def fps(self) -> float:
        """Frame rate the model generates."""
        return self.preparation.fps

    def decode(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, c, h, w) of consecutive frames to pictures (n, 3, H, W), chunked as at inference."""
        codec = self.pipeline.codec
        chunks = (latents / codec.scaling).split(self.pipeline.config.decode_chunk)
        return torch.cat([codec.decode(chunk) for chunk in chunks])

    def save(self, folder: Path) -> None:
        """Store the pipeline with its present weights; an adaptation is added to them and lies in `lora`, too."""
        pipeline = self.pipeline
        if self.lora:
            save_lora(pipeline.unet, folder / "lora")
            whole = copy.deepcopy(pipeline.unet)
            fuse_lora(whole)
            pipeline = ACTalkerPipeline(whole, pipeline.codec, pipeline.conditioner, pipeline.config)
        pipeline.save_pretrained(folder, torch.float16)
