"""The trained parts of ACTalker, and one loss evaluation of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from actalker.attention import Context
from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.identity import IdentityProjection
from actalker.conditioning.motion import MotionProjection
from actalker.conditioning.pose_guider import PoseGuider
from actalker.gates import Gates
from actalker.masks import MaskMode, control_masks
from actalker.schedule import Schedule
from actalker.training.data import Window
from actalker.training.objective import Dropout, corrupt, weighted_error
from actalker.unet import ACTalkerUNet


class TrainedParts(nn.Module):
    """UNet, projections and pose guider under one roof; `forward` returns the loss of each clip.

    One forward per step keeps wrappers such as DistributedDataParallel simple.

    Args:
        unet, audio, motion, identity, guider: the modules to train.
        schedule: noise levels and prediction target.
        dropout: conditioning dropout.
        mask_mode: how control masks are formed with both gates open, see `masks.control_masks`.
        noise_offset: see `objective.corrupt`.
        time_ids: values for the UNet's added time ids, if it has any.
    """

    def __init__(
        self,
        unet: ACTalkerUNet,
        audio: AudioProjection,
        motion: MotionProjection,
        identity: IdentityProjection,
        guider: PoseGuider,
        *,
        schedule: Schedule,
        dropout: Dropout | None = None,
        mask_mode: MaskMode = "paper",
        noise_offset: float = 0.0,
        time_ids: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.unet = unet
        self.audio_projection, self.motion_projection = audio, motion
        self.identity_projection, self.pose_guider = identity, guider
        self.schedule, self.dropout, self.mask_mode = schedule, dropout or Dropout(), mask_mode
        self.noise_offset, self.time_ids = noise_offset, time_ids

    def forward(self, window: Window, gates: Gates, generator: torch.Generator) -> Tensor:
        """Return the loss of every clip in the window, shape (b,).

        Args:
            window: a batch on the module's device.
            gates: the open control branches, the same for the whole batch (the masks differ per clip).
            generator: CPU generator of noise levels, noise and dropout.
        """
        level, noisy, target = corrupt(self.schedule, window.clean, generator, self.noise_offset)
        keep = self.dropout.draw(len(level), generator)
        predicted = self.predict(noisy, level, window, gates, keep)
        return weighted_error(predicted, target, window.weight)

    def predict(
        self,
        noisy: Tensor,
        level: Tensor,
        window: Window,
        gates: Gates,
        keep: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Return the network's prediction for noisy latents (b, f, c, h, w) at noise levels (b,).

        Args:
            noisy, level: latents and their noise levels.
            window: conditions.
            gates: open branches.
            keep: which clips keep reference, audio and motion, see `Dropout.draw`.
        """
        batch, frames = noisy.shape[:2]

        def kept(x: Tensor, condition: int) -> Tensor:
            return x if keep is None else x * keep[condition].to(x).view(-1, *(1,) * (x.dim() - 1))

        # A dropped identity is a zero token; dropped audio and motion are projections of zeros, as at inference.
        identity = kept(self.identity_projection(window.identity)[:, None, None], 0)
        audio = motion = None
        if gates.audio:
            audio = self.audio_projection(kept(window.audio, 1))
        if gates.visual:
            own = (kept(window.reference_expression, 2)[:, None], kept(window.reference_pose, 2)[:, None])
            motion = self.motion_projection(kept(window.expression, 2), kept(window.pose, 2), own)
        reference = kept(window.reference, 0).expand(batch, frames, -1, -1, -1)
        masks = control_masks(
            window.face, window.mouth, audio=gates.audio, visual=gates.visual, mode=self.mask_mode
        )
        scaled = self.schedule.scale(noisy, level.view(-1, *(1,) * (noisy.dim() - 1)))
        time_ids = window.time_ids
        if time_ids is None and self.time_ids:
            time_ids = torch.tensor([self.time_ids], device=noisy.device)
        return self.unet(
            torch.cat([scaled, reference.to(scaled)], dim=2),
            self.schedule.time(level),
            Context(identity=identity, audio=audio, motion=motion),
            masks,
            time_ids=time_ids,
            spatial=self.pose_guider(window.location),
        )
