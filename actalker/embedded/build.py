"""Sizes of the embedded model, and its assembly for training.

Every part is the full model's class with small sizes, except the encoders and the codec, which are small networks
in the same roles (`encoders`, `codec`). Sizes follow the budget: all weights in fp16 below 8 MB, one frame below
0.2 CPU-seconds.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actalker.blocks import TemporalResBlock
from actalker.conditioning.audio import AudioProjection, AudioProjectionConfig
from actalker.conditioning.identity import IdentityProjection, IdentityProjectionConfig, IResNet
from actalker.conditioning.motion import MotionProjection, MotionProjectionConfig
from actalker.conditioning.pose_guider import PoseGuider, PoseGuiderConfig
from actalker.config import Configured
from actalker.control import ControlConfig
from actalker.embedded.codec import PatchCodec
from actalker.embedded.conditioner import EmbeddedConditioner
from actalker.embedded.encoders import (
    ARCFACE,
    SmallAudioEncoder,
    SmallHeadExpression,
    SmallHeadPose,
    channels_last,
)
from actalker.embedded.reading import FPS, Reader
from actalker.embedded.windows import EmbeddedPreparation
from actalker.errors import CheckpointError
from actalker.guidance import Guidance
from actalker.masks import MaskMode
from actalker.pipeline import ACTalkerPipeline, PipelineConfig
from actalker.sampler import SamplerConfig
from actalker.schedule import ScheduleConfig, build_schedule
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout
from actalker.unet import ACTalkerUNet, UNetConfig

CONDITION = 64

UNET = UNetConfig(
    in_channels=96,
    out_channels=48,
    channels=(64, 72),
    layers=1,
    heads=(2, 3),
    attention=(False, True),
    mid_attention=False,
    condition=CONDITION,
    time_ids=0,
    norm_groups=8,
    reference_skip=True,
    frame_embedding=True,
    control=ControlConfig(residual=True, state=4, expand=1),
)
AUDIO = AudioProjectionConfig(window=10, layers=1, features=67, hidden=128, tokens=4, condition=CONDITION)
MOTION = MotionProjectionConfig(
    features=10, condition=CONDITION, rotation_scale=0.1, translation=True, difference=True
)
IDENTITY = IdentityProjectionConfig(embedding=ARCFACE.embedding, hidden=64, condition=CONDITION)
GUIDER = PoseGuiderConfig(inputs=3, widths=(8, 16, 32), outputs=UNET.channels[0])
SCHEDULE = ScheduleConfig(kind="flow", steps=1, pure_noise=0.9)
PIPELINE = PipelineConfig(
    fps=FPS,
    masks="overlap",
    sampler=SamplerConfig(
        schedule=SCHEDULE,
        guidance=Guidance(appearance=1.0, audio=1.0, motion=1.0),
        window=12,
        shift=6,
        circular=False,
        time_ids=(),
    ),
    segment_frames=120,
    segment_overlap=0,
    decode_chunk=60,
)

_ENCODERS: dict[str, type[Configured]] = {
    "pose": SmallHeadPose,
    "expression": SmallHeadExpression,
    "identity": IResNet,
    "audio": SmallAudioEncoder,
}


def load_reader(folder: Path) -> Reader:
    """Load the four encoders stored by the encoder stage.

    Raises:
        CheckpointError: one is missing or does not fit.
    """
    missing = [name for name in _ENCODERS if not (folder / name).is_dir()]
    if missing:
        raise CheckpointError(
            f"{folder} lacks the encoders {', '.join(missing)}",
            "Train them first: python -m actalker.embedded.train encoders --data DATA --out OUT",
        )
    made: dict[str, Any] = {name: cls.from_pretrained(folder / name) for name, cls in _ENCODERS.items()}
    for name in ("pose", "expression", "identity"):
        channels_last(made[name])
    return Reader(**made)


def start_per_frame(unet: ACTalkerUNet) -> None:
    """Let temporal convolutions begin as functions of single frames.

    Training on single frames never moves the weights that look at neighbours; left at random they would disturb
    the first clips.
    """
    for module in unet.modules():
        if isinstance(module, TemporalResBlock):
            for conv in (module.conv1, module.conv2):
                with torch.no_grad():
                    conv.weight[:, :, [0, 2]] = 0


class EmbeddedSystem:
    """The embedded model in training.

    Args:
        encoders: folder of the stored encoders.
        seed: decides the initial weights.
        dropout: conditioning dropout.
        mask_mode: control masks with both gates open.
        noise_offset: see `objective.corrupt`.
        unet: the UNet's config; an ablation has another than `UNET`.
    """

    def __init__(
        self,
        encoders: Path,
        seed: int,
        dropout: Dropout,
        mask_mode: MaskMode,
        noise_offset: float,
        unet: UNetConfig = UNET,
    ) -> None:
        reader = load_reader(encoders)
        torch.manual_seed(seed)
        self.codec = PatchCodec()
        self.parts = TrainedParts(
            ACTalkerUNet(unet),
            AudioProjection(AUDIO),
            MotionProjection(MOTION),
            IdentityProjection(IDENTITY),
            PoseGuider(GUIDER),
            schedule=build_schedule(SCHEDULE),
            dropout=dropout,
            mask_mode=mask_mode,
            noise_offset=noise_offset,
        )
        start_per_frame(self.parts.unet)
        self.reader = reader
        self.preparation = EmbeddedPreparation(reader, self.codec, self.parts.audio_projection)

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (n, c, h, w) to pictures (n, 3, 64, 64)."""
        return self.codec.decode(latents)

    def pipeline(self) -> ACTalkerPipeline:
        """The model with its present weights, for inference."""
        parts = self.parts
        conditioner = EmbeddedConditioner(
            self.reader,
            parts.audio_projection,
            parts.motion_projection,
            parts.identity_projection,
            parts.pose_guider,
        )
        config = replace(PIPELINE, masks=parts.mask_mode)
        return ACTalkerPipeline(parts.unet, self.codec, conditioner, config)

    def save(self, folder: Path) -> None:
        """Store the model with its present weights in half precision."""
        self.pipeline().save_pretrained(folder, torch.float16)
