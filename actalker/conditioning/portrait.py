"""The full-size model's conditioner: portrait, speech and driving video to conditions, as the released script.

Source: `Inference.py` and `test_preprocess.py` of the authors' repository, without the faults its users meet:
no driving video is needed for audio, no audio for a driving video, and any frame rate is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn

from actalker.components import SAMPLE_RATE, AudioEncoder, Codec, Face, FaceFinder
from actalker.conditioning.audio import AudioProjection, take_steps
from actalker.conditioning.identity import IdentityProjection, IResNet
from actalker.conditioning.motion import HeadExpression, HeadPose, MotionProjection
from actalker.conditioning.pose_guider import PoseGuider
from actalker.conditions import Conditions, Request
from actalker.config import from_json
from actalker.errors import InputError
from actalker.faces import MediaPipeFaces, find_face
from actalker.masks import box_mask, control_masks, mouth_box
from actalker.preprocess import (
    Picture,
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

_BATCH = 16
_PATIENCE = 25
"""Driving frames looked at for a first face."""


@dataclass(frozen=True, slots=True)
class PortraitConditionerConfig:
    """Sizes of the released pre-processing.

    Attributes:
        image_size: shorter side of the output in pixels.
        multiple: both sides are rounded to multiples of this.
        area: factor on the portrait's face box for the pose guider and the single-gate masks.
    """

    image_size: int = 576
    multiple: int = 64
    area: float = 1.2


class PortraitConditioner(nn.Module):
    """Holds the encoders and projections; see `actalker.conditions.Conditioner`.

    Args:
        config: sizes.
        audio_encoder: speech features.
        audio_projection, identity, identity_projection, expression, pose, motion_projection, pose_guider: the
            trained networks.
        finder: finds faces; by default MediaPipe, loaded when first needed.
    """

    parts = (
        "audio_encoder",
        "audio_projection",
        "identity",
        "identity_projection",
        "expression",
        "pose",
        "motion_projection",
        "pose_guider",
    )

    def __init__(
        self,
        config: PortraitConditionerConfig,
        audio_encoder: AudioEncoder,
        audio_projection: AudioProjection,
        identity: IResNet,
        identity_projection: IdentityProjection,
        expression: HeadExpression,
        pose: HeadPose,
        motion_projection: MotionProjection,
        pose_guider: PoseGuider,
        finder: FaceFinder | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.audio_encoder = audio_encoder
        self.audio_projection = audio_projection
        self.identity = identity
        self.identity_projection = identity_projection
        self.expression = expression
        self.pose = pose
        self.motion_projection = motion_projection
        self.pose_guider = pose_guider
        self._finder = finder

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load `config.json` and one sub-folder per network."""
        from actalker.pipeline import load_component

        folder = Path(folder)
        stored = json.loads((folder / "config.json").read_text())
        parts = {name: load_component(folder / name, target) for name, target in stored.pop("parts").items()}
        return cls(from_json(PortraitConditionerConfig, stored), **parts).eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write what `from_pretrained` reads."""
        from actalker.pipeline import component_target

        folder = Path(folder)
        for name in self.parts:
            getattr(self, name).save_pretrained(folder / name, dtype)
        targets = {name: component_target(getattr(self, name)) for name in self.parts}
        stored = {**asdict(self.config), "parts": targets}
        (folder / "config.json").write_text(json.dumps(stored, indent=2) + "\n")

    @property
    def finder(self) -> FaceFinder:
        """The face finder, loaded on first use."""
        if self._finder is None:
            self._finder = MediaPipeFaces()
        return self._finder

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.identity_projection.proj1.weight.device

    @torch.inference_mode()
    def open(self, request: Request, codec: Codec) -> PortraitStream:
        """See `actalker.conditions.Conditioner.open`."""
        picture = request.image
        source = (picture.shape[1], picture.shape[0])
        finder = self.finder if request.face is None else None
        face = find_face(finder, picture, request.face, "the image", largest=request.largest_face)
        size = working_size(*source, self.config.image_size, self.config.multiple)
        portrait = to_tensor(resized(picture, *size, Image.Resampling.BICUBIC)) * 2 - 1
        reference = codec.encode(portrait.to(self.device)).unsqueeze(1)
        head = head_crop(picture, face.box, self.identity.config.size).to(self.device)
        identity = self.identity_projection(self.identity(head))[:, None, None]
        location = location_image(face.box, source, size, self.config.area)
        spatial = self.pose_guider(location.expand(-1, 3, -1, -1).to(self.device)[:, None])
        mouth = box_mask(scale_box(face.mouth or mouth_box(face.box), source, size), size[1], size[0])
        gates = request.gates
        masks = control_masks(
            location, mouth * location, audio=gates.audio, visual=gates.visual, mode=request.masks
        )
        constant = Conditions(
            reference=reference,
            identity=identity,
            audio=None,
            silence=self.audio_projection.silent() if gates.audio else None,
            motion=None,
            stillness=self.motion_projection.still() if gates.visual else None,
            masks=masks,
            spatial=spatial,
        )
        return PortraitStream(self, request, constant, size, (picture, face))


class PortraitStream:
    """Conditions of one request; see `actalker.conditions.ConditionStream`."""

    def __init__(
        self,
        conditioner: PortraitConditioner,
        request: Request,
        constant: Conditions,
        size: tuple[int, int],
        portrait: tuple[Picture, Face],
    ) -> None:
        self.width, self.height = size
        self._conditioner, self._request, self._constant = conditioner, request, constant
        self._position = 0
        self._speech: dict[int, Tensor] = {}
        self._motion: Iterator[Tensor] | None = None
        if request.driving is not None:
            self._motion = self._motion_tokens(request.driving, portrait)

    @torch.inference_mode()
    def read(self, count: int) -> Conditions:
        """Conditions of the next `count` frames."""
        first, self._position = self._position, self._position + count
        audio = motion = None
        if self._request.waveform is not None:
            audio = self._audio_tokens(first, count)
        if self._motion is not None:
            tokens = [token for _, token in zip(range(count), self._motion, strict=False)]
            if len(tokens) < count:
                raise InputError(
                    f"the driving video ended after {first + len(tokens)} of {self._request.frames} frames",
                    "The file may be damaged; re-encode it, or ask for fewer frames.",
                )
            motion = torch.cat(tokens)[None]
        return replace(self._constant, audio=audio, motion=motion)

    def _audio_tokens(self, first: int, count: int) -> Tensor:
        conditioner = self._conditioner
        encoder, projection = conditioner.audio_encoder, conditioner.audio_projection
        index = projection.steps(first, count, self._request.fps, encoder.rate)
        low, high = max(0, int(index.min())), int(index.max()) + 1
        features = self._features(low, high)
        return projection(take_steps(features, index - low))[None]

    def _features(self, low: int, high: int) -> Tensor:
        """Speech features of steps [low, high), or as far as the sound goes; whole chunks are encoded."""
        assert self._request.waveform is not None
        encoder = self._conditioner.audio_encoder
        waveform = torch.from_numpy(self._request.waveform).to(self._conditioner.device)
        samples = len(waveform)
        if encoder.chunk_seconds is not None:
            samples = round(encoder.chunk_seconds * SAMPLE_RATE)
        steps = round(samples * encoder.rate / SAMPLE_RATE)
        needed = range(low // steps, max(low, high - 1) // steps + 1)
        for chunk in [known for known in self._speech if known not in needed]:
            del self._speech[chunk]
        for chunk in needed:
            part = waveform[chunk * samples : (chunk + 1) * samples]
            if chunk not in self._speech and len(part):
                self._speech[chunk] = encoder.encode(part)
        known = [self._speech[chunk] for chunk in needed if chunk in self._speech]
        if not known:
            config = self._conditioner.audio_projection.config
            return torch.zeros(0, config.layers, config.features, device=self._conditioner.device)
        start = needed[0] * steps
        return torch.cat(known)[low - start : high - start]

    def _motion_tokens(self, driving: Iterator[Picture], portrait: tuple[Picture, Face]) -> Iterator[Tensor]:
        """One token (1, 1, condition) per driving frame, computed in batches."""
        conditioner = self._conditioner
        reference = None
        if conditioner.motion_projection.config.difference:
            picture, face = portrait
            box = pose_box(face.box, picture.shape[1], picture.shape[0])
            reference = self._encode([self._crops(picture, face, box)])
        crops = self._driving_crops(driving)
        while batch := [crop for _, crop in zip(range(_BATCH), crops, strict=False)]:
            expression, pose = self._encode(batch)
            yield from conditioner.motion_projection(expression, pose, reference).split(1)

    def _driving_crops(self, driving: Iterator[Picture]) -> Iterator[tuple[Tensor, Tensor]]:
        """Expression and pose crop of every frame; a frame without a face keeps the previous one's box."""
        finder = self._conditioner.finder
        early: list[Picture] = []
        face: Face | None = None
        for picture in driving:
            early.append(picture)
            if found := finder.find(picture):
                face = found[0]
                break
            if len(early) == _PATIENCE:
                break
        if face is None:
            raise InputError(
                f"no face found in the first {len(early)} frames of the driving video",
                "Use a video that shows one face, cut to where it is visible.",
            )
        box = pose_box(face.box, early[0].shape[1], early[0].shape[0])
        for i, picture in enumerate(chain(early, driving)):
            if i >= len(early):
                face = _same_face(finder.find(picture), face)
            yield self._crops(picture, face, box)

    def _crops(self, picture: Picture, face: Face, box: Any) -> tuple[Tensor, Tensor]:
        conditioner = self._conditioner
        return (
            expression_crop(picture, face.features or face.box, conditioner.expression.config.size),
            pose_crop(picture, box, conditioner.pose.config.size, conditioner.config.image_size),
        )

    def _encode(self, crops: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        conditioner = self._conditioner
        expression, pose = (torch.cat(part).to(conditioner.device) for part in zip(*crops, strict=True))
        return conditioner.expression(expression), conditioner.pose(pose)


def _same_face(found: list[Face], previous: Face) -> Face:
    """The face nearest to the previous one, so that a second person does not take over."""

    def distance(face: Face) -> float:
        return sum((a - b) ** 2 for a, b in zip(face.box, previous.box, strict=True))

    return min(found, key=distance, default=previous)
