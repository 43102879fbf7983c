"""A model in training that takes milliseconds per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from actalker.conditioning.audio import AudioProjection, AudioProjectionConfig
from actalker.conditioning.identity import IdentityProjection, IdentityProjectionConfig
from actalker.conditioning.motion import MotionProjection, MotionProjectionConfig
from actalker.conditioning.pose_guider import PoseGuider, PoseGuiderConfig
from actalker.control import ControlConfig
from actalker.gates import Gates
from actalker.schedule import ScheduleConfig, build_schedule
from actalker.training.config import DataConfig, PhaseConfig, RunConfig, TrainConfig
from actalker.training.data import Features, TrainingClip, Window, WindowSampler
from actalker.training.model import TrainedParts
from actalker.training.objective import Dropout
from actalker.unet import ACTalkerUNet, UNetConfig

CONDITION = 16


def parts(kind: str = "flow", dropout: Dropout | None = None, masks: str = "paper") -> TrainedParts:
    torch.manual_seed(0)
    unet = UNetConfig(
        in_channels=6,
        out_channels=3,
        channels=(8,),
        layers=0,  # one layer on the way up, with everything the large ones have
        heads=(1,),
        attention=(True,),
        mid_attention=False,
        condition=CONDITION,
        time_ids=0,
        norm_groups=4,
        control=ControlConfig(state=2, residual=True, expand=1),
    )
    return TrainedParts(
        ACTalkerUNet(unet),
        AudioProjection(
            AudioProjectionConfig(window=2, layers=1, features=3, hidden=8, tokens=2, condition=CONDITION)
        ),
        MotionProjection(MotionProjectionConfig(features=4, condition=CONDITION, difference=True)),
        IdentityProjection(IdentityProjectionConfig(embedding=5, hidden=8, condition=CONDITION)),
        PoseGuider(PoseGuiderConfig(inputs=3, widths=(4, 4), outputs=8)),
        schedule=build_schedule(ScheduleConfig(kind=kind, steps=2)),  # type: ignore[arg-type]
        dropout=dropout,
        mask_mode=masks,  # type: ignore[arg-type]
    )


class TinyPreparation:
    """Latents are 8×8 pictures of brightness that follows the audio."""

    def prepare(self, clip: TrainingClip) -> Features:
        n = len(clip.frames)
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        level = torch.from_numpy(clip.audio).float().view(n, -1).mean(1) / 32768
        return {"frames": torch.tensor(n), "latents": frames, "level": level}

    def window(
        self, features: Sequence[Features], frames: int, gates: Gates, generator: torch.Generator
    ) -> Window:
        b = len(features)
        start = [int(torch.randint(int(f["frames"]) - frames + 1, (1,), generator=generator)) for f in features]
        clean = torch.stack([f["latents"][s : s + frames] for f, s in zip(features, start, strict=True)])
        level = torch.stack([f["level"][s : s + frames] for f, s in zip(features, start, strict=True)])
        face = torch.zeros(b, 1, 16, 16)
        face[..., 2:14, 2:14] = 1
        mouth = torch.zeros(b, 1, 16, 16)
        mouth[..., 8:14, 4:12] = 1
        return Window(
            clean=clean,
            reference=torch.zeros(b, 1, 3, 8, 8),
            identity=torch.ones(b, 5),
            audio=level[:, :, None, None, None].expand(b, frames, 2, 1, 3),
            expression=level[:, :, None].expand(b, frames, 4),
            reference_expression=torch.zeros(b, 4),
            pose=torch.zeros(b, frames, 6),
            reference_pose=torch.zeros(b, 6),
            location=face[:, :, None].expand(b, 1, 3, 16, 16),
            face=face,
            mouth=mouth,
            weight=torch.ones(b, frames, 1, 8, 8),
        )


def clips(count: int = 4, frames: int = 6) -> list[TrainingClip]:
    import numpy as np

    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        loud = rng.uniform(-0.9, 0.9, frames).astype(np.float32)
        pictures = np.broadcast_to(((loud + 1) * 127.5)[:, None, None, None], (frames, 8, 8, 3)).astype(np.uint8)
        audio = np.repeat((loud * 32767).astype(np.int16), 640)
        made.append(TrainingClip(pictures, audio, None, f"person_{i}"))
    return made


def sampler() -> WindowSampler:
    preparation = TinyPreparation()
    return WindowSampler([preparation.prepare(clip) for clip in clips()], preparation)


def config(out: Path, steps: int = 6, **run: object) -> TrainConfig:
    return TrainConfig(
        model="tiny",
        data=DataConfig(train=Path("unused")),
        run=RunConfig(out=out, **run),  # type: ignore[arg-type]
        phases=(
            PhaseConfig(steps=steps // 2, batch=3, frames=1, accumulation=2, lr=1e-2, lr_end=1e-3),
            PhaseConfig(steps=steps - steps // 2, batch=2, frames=3, accumulation=1, lr=1e-3, lr_end=1e-4),
        ),
    )


class TinySystem:
    """What `command.System` asks for."""

    def __init__(self) -> None:
        self.parts = parts()
        self.preparation = TinyPreparation()

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latents, scale_factor=4)

    def save(self, folder: Path) -> None:
        self.parts.unet.save_pretrained(folder / "unet")
