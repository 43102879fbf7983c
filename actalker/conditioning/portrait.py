"""The full-size model's conditioner: portrait, speech and driving video to conditions, as the released script.

Source: `Inference.py` and `test_preprocess.py` of the authors' repository, without the faults its users meet:
no driving video is needed for audio, no audio for a driving video, and any frame rate is accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import torch
from PIL import Image
from torch import Tensor, nn

from actalker.components import AudioEncoder, Codec, Face, FaceFinder
from actalker.conditioning.audio import AudioProjection, Speech
from actalker.conditioning.blendshapes import Blendshapes, HeadMatrix
from actalker.conditioning.identity import IdentityEncoder, IdentityProjection
from actalker.conditioning.inputs import (
    ExpressionEncoder,
    MotionReader,
    PoseEncoder,
    Seen,
    face_masks,
    lips,
)
from actalker.conditioning.motion import MotionProjection
from actalker.conditioning.pose_guider import PoseGuider
from actalker.conditions import Conditions, Request
from actalker.config import from_json
from actalker.errors import CheckpointError, InputError, MissingPackageError
from actalker.faces import MediaPipeFaces, find_face, follow_faces
from actalker.masks import control_masks
from actalker.preprocess import Picture, head_crop, pose_box, resized, to_tensor, working_size
from actalker.reading import foreign, read_json
from actalker.writing import write_json

_BATCH = 16


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
        identity: IdentityEncoder,
        identity_projection: IdentityProjection,
        expression: ExpressionEncoder,
        pose: PoseEncoder,
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
        stored = read_json(folder / "config.json")
        with foreign(folder / "config.json"):
            targets = stored.pop("parts")
            if strange := sorted(name for name in targets if not name.isidentifier()):
                raise CheckpointError(f"{folder} names a part {strange[0]!r}")
            parts = {name: load_component(folder / name, target) for name, target in targets.items()}
            return cls(from_json(PortraitConditionerConfig, stored), **parts).eval()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write what `from_pretrained` reads."""
        from actalker.pipeline import component_target

        folder = Path(folder)
        for name in self.parts:
            getattr(self, name).save_pretrained(folder / name, dtype)
        targets = {name: component_target(getattr(self, name)) for name in self.parts}
        stored = {**asdict(self.config), "parts": targets}
        write_json(folder / "config.json", stored)

    @property
    def finder(self) -> FaceFinder:
        """The face finder, loaded on first use."""
        if self._finder is None:
            read = isinstance(self.expression, Blendshapes) or isinstance(self.pose, HeadMatrix)
            self._finder = MediaPipeFaces(expressions=read)
        return self._finder

    def finder_if_there(self) -> FaceFinder | None:
        """The face finder, or None where this machine has none: a face box given by hand does without."""
        try:
            return self.finder
        except MissingPackageError:
            return None

    @property
    def motion(self) -> MotionReader:
        """Reads expression and pose of driving frames."""
        return MotionReader(self.expression, self.pose, self.config.image_size)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.identity_projection.proj1.weight.device

    @torch.inference_mode()
    def open(self, request: Request, codec: Codec) -> PortraitStream:
        """See `actalker.conditions.Conditioner.open`."""
        picture = request.image
        source = (picture.shape[1], picture.shape[0])
        finder = self.finder if request.face is None else self.finder_if_there()
        face = find_face(finder, picture, request.face, "the image", largest=request.largest_face)
        size = working_size(*source, self.config.image_size, self.config.multiple)
        portrait = to_tensor(resized(picture, *size, Image.Resampling.BICUBIC)) * 2 - 1
        reference = codec.encode(portrait.to(self.device)).unsqueeze(1)
        head = head_crop(picture, face.box, self.identity.config.size).to(self.device)
        identity = self.identity_projection(self.identity(head))[:, None, None]
        location, mouth = face_masks(face.box, lips(face), source, size, self.config.area)
        spatial = self.pose_guider(location.expand(-1, 3, -1, -1).to(self.device)[:, None])
        gates = request.gates
        masks = control_masks(location, mouth, audio=gates.audio, visual=gates.visual, mode=request.masks)
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
        self._speech: Speech | None = None
        if request.waveform is not None:
            waveform = torch.from_numpy(request.waveform).to(conditioner.device)
            self._speech = Speech(conditioner.audio_encoder, conditioner.audio_projection, waveform)
        self._motion: Iterator[Tensor] | None = None
        if request.driving is not None:
            self._motion = self._motion_tokens(request.driving, portrait)

    @torch.inference_mode()
    def read(self, count: int) -> Conditions:
        """Conditions of the next `count` frames."""
        first, self._position = self._position, self._position + count
        audio = motion = None
        if self._speech is not None:
            windows = self._speech.windows(first, count, self._request.fps)
            audio = self._conditioner.audio_projection(windows)[None]
        if self._motion is not None:
            tokens = [token for _, token in zip(range(count), self._motion, strict=False)]
            if len(tokens) < count:
                raise InputError(
                    f"the driving video ended after {first + len(tokens)} of {self._request.frames} frames",
                    "The file may be damaged; re-encode it, or ask for fewer frames.",
                )
            motion = torch.cat(tokens)[None]
        return replace(self._constant, audio=audio, motion=motion)

    def _motion_tokens(self, driving: Iterator[Picture], portrait: tuple[Picture, Face]) -> Iterator[Tensor]:
        """One token (1, 1, condition) per driving frame, computed in batches."""
        conditioner = self._conditioner
        reader, device = conditioner.motion, conditioner.device
        reference = None
        if conditioner.motion_projection.config.difference:
            reference = reader.encode([reader.own(*portrait)], device)
        frames = self._driving_frames(reader, driving)
        while batch := [seen for _, seen in zip(range(_BATCH), frames, strict=False)]:
            expression, pose = reader.encode(batch, device)
            yield from conditioner.motion_projection(expression, pose, reference).split(1)

    def _driving_frames(self, reader: MotionReader, driving: Iterator[Picture]) -> Iterator[Seen]:
        """What the motion encoders see of every frame."""
        box = None
        for picture, face in follow_faces(driving, self._conditioner.finder.find, "the driving video"):
            box = box or pose_box(face.box, picture.shape[1], picture.shape[0])
            yield reader.see(picture, face, box)
