"""Parallel-control Mamba layer: two masked scans that let audio and motion write into disjoint tokens.

Paper §3.2, Eq. 1-7. Defaults follow the released model, which differs from the paper's text in the points
that `ControlConfig` names; module and parameter names are those of the released checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from actalker.masks import LevelMask
from actalker.scan import Backend, selective_scan

_DIRECTIONS = 2


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """What the control layer is made of.

    Attributes:
        kind: `mamba` is the model; `cross-attention` is the baseline of the paper's ablation (Table 3), one
            spatial cross-attention over all tokens instead; `none` leaves the layer out.
        scan: `per-frame` scans the tokens of each frame by themselves (released), `spatio-temporal` scans
            those of all frames of a clip, frame after frame (paper, z of size f·h·w).
        residual: add the layer's input to its output (paper Eq. 4; the released layer does not).
        identity: let the layer see the identity token (False is the ablation "w/o ID").
        state: size of the scan's state.
        expand: inner width over the layer's width.
        backend: scan backend, see `actalker.scan`.
    """

    kind: Literal["mamba", "cross-attention", "none"] = "mamba"
    scan: Literal["per-frame", "spatio-temporal"] = "per-frame"
    residual: bool = False
    identity: bool = True
    state: int = 16
    expand: int = 2
    backend: Backend = "auto"


class ScanUnit(nn.Module):
    """Two-direction selective scan over a token sequence; both outputs are summed.

    Direction 0 runs forwards, direction 1 backwards, each with its own parameters. The sequence is
    [face tokens, identity, driving tokens], so the driving signal reaches the face through direction 1.

    Args:
        width: channels D of a token.
        rank: rank of the step-size projection.
        state: state size S.
        backend: scan backend.
    """

    def __init__(self, width: int, rank: int, state: int, backend: Backend = "auto") -> None:
        super().__init__()
        self.rank, self.state, self.backend = rank, state, backend
        bound = width**-0.5
        self.x_proj_weight = nn.Parameter(
            torch.empty(_DIRECTIONS, rank + 2 * state, width).uniform_(-bound, bound)
        )
        self.dt_projs_weight = nn.Parameter(
            torch.empty(_DIRECTIONS, width, rank).uniform_(-(rank**-0.5), rank**-0.5)
        )
        # softplus(bias) log-uniform in [1e-3, 1e-1], as in Mamba.
        log_step = torch.rand(_DIRECTIONS, width) * (math.log(0.1) - math.log(1e-3)) + math.log(1e-3)
        step = log_step.exp().clamp_min(1e-4)
        self.dt_projs_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        decay = torch.log(torch.arange(1, state + 1, dtype=torch.float32))
        self.A_logs = nn.Parameter(decay.expand(_DIRECTIONS * width, -1).clone())
        self.Ds = nn.Parameter(torch.ones(_DIRECTIONS * width))

    def forward(self, sequence: Tensor, outputs: int | None = None, valid: Tensor | None = None) -> Tensor:
        """Scan `sequence` (batch, tokens, width); return its first `outputs` tokens (default all).

        The forward direction stops after `outputs` tokens and the backward one only carries its state
        through the others, whose outputs nobody reads.
        """
        width = sequence.shape[-1]
        forwards = sequence if outputs is None else sequence[:, :outputs]
        result = None
        for direction, tokens in enumerate((forwards, sequence)):
            low, B, C = F.linear(tokens, self.x_proj_weight[direction]).split(
                (self.rank, self.state, self.state), dim=-1
            )
            part = slice(direction * width, (direction + 1) * width)
            y = selective_scan(
                tokens,
                F.linear(low, self.dt_projs_weight[direction]),
                -torch.exp(_at_least_single(self.A_logs[part])),
                B,
                C,
                self.Ds[part],
                delta_bias=self.dt_projs_bias[direction],
                reverse=direction == 1,
                outputs=outputs,
                valid=None if valid is None else valid[:, : tokens.shape[1]],
                backend=self.backend,
            )
            result = y if result is None else result + y
        assert result is not None
        return result


class ParallelControl(nn.Module):
    """The parallel-control Mamba layer of one transformer.

    Args:
        width: channels C of the feature map.
        condition: channels of the identity and driving tokens.
        config: options.
    """

    def __init__(self, width: int, condition: int, config: ControlConfig) -> None:
        super().__init__()
        self.config = config
        inner, rank = config.expand * width, math.ceil(width / 16)
        self.audio_unit = ScanUnit(inner, rank, config.state, config.backend)
        self.exp_unit = ScanUnit(inner, rank, config.state, config.backend)
        self.audio_proj = nn.Linear(condition, inner, bias=False)
        self.exp_proj = nn.Linear(condition, inner, bias=False)
        self.id_proj = nn.Linear(condition, inner, bias=False) if config.identity else None
        self.in_proj1 = nn.Linear(width, inner, bias=False)
        self.in_proj2 = nn.Linear(width, inner, bias=False)
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        if config.residual:
            # With a skip around it the layer can start as the identity, which trains faster.
            nn.init.zeros_(self.out_proj.weight)

    def forward(
        self,
        x: Tensor,
        identity: Tensor,
        audio: Tensor | None,
        motion: Tensor | None,
        audio_mask: LevelMask | None,
        motion_mask: LevelMask | None,
        frames: int,
    ) -> Tensor:
        """Write both driving signals into the tokens their masks select.

        Args:
            x: (batch·frames, tokens, width), one frame's raster-ordered grid per row.
            identity: (batch, frames or 1, 1, condition).
            audio: (batch, frames or 1, n, condition), or None for a closed branch.
            motion: (batch, frames or 1, m, condition), or None for a closed branch.
            audio_mask, motion_mask: the branches' masks at this level; None selects every token.
            frames: frames per clip.

        Returns:
            (batch·frames, tokens, width). Tokens no branch selects pass through the projections only.
        """
        identity_token = None
        if self.id_proj is not None:
            identity_token = _per_frame(F.silu(self.id_proj(identity)), frames)
        z = self._branch(
            self.in_proj1(x), self.audio_unit, self.audio_proj, identity_token, audio, audio_mask, frames
        )
        z = z + self._branch(
            self.in_proj2(x), self.exp_unit, self.exp_proj, identity_token, motion, motion_mask, frames
        )
        out = self.out_proj(self.out_norm(z))
        return out + x if self.config.residual else out

    def _branch(
        self,
        z: Tensor,
        unit: ScanUnit,
        project: nn.Linear,
        identity: Tensor | None,
        driving: Tensor | None,
        mask: LevelMask | None,
        frames: int,
    ) -> Tensor:
        if driving is None or (mask is not None and mask.index.shape[1] == 0):
            return z
        tokens = _per_frame(F.silu(project(driving)), frames)
        context = tokens if identity is None else torch.cat([identity, tokens], dim=1)
        everywhere = mask is None or mask.full
        if everywhere:
            face, index, valid = z, None, None
        else:
            assert mask is not None
            index, valid = mask.index, mask.valid
            face = _gather(z, index)
        written = self._scan(unit, face, context, valid, frames)
        return written if index is None else _scatter(z, index, written, valid)

    def _scan(self, unit: ScanUnit, face: Tensor, context: Tensor, valid: Tensor | None, frames: int) -> Tensor:
        rows, selected, width = face.shape
        sequence = torch.cat([face, context], dim=1)
        if valid is not None:
            on = valid.new_ones(rows, context.shape[1])
            valid = torch.cat([valid.expand(rows, -1), on], dim=1)
        if self.config.scan == "per-frame":
            return unit(sequence, outputs=selected, valid=valid)
        length = sequence.shape[1]
        clips = unit(
            sequence.reshape(rows // frames, frames * length, width),
            valid=None if valid is None else valid.reshape(rows // frames, frames * length),
        )
        return clips.reshape(rows, length, width)[:, :selected]


class CrossAttentionControl(nn.Module):
    """Ablation baseline: spatial cross-attention over identity, audio and motion tokens in place of the scan.

    Args:
        width: channels of the feature map.
        condition: channels of the tokens.
        heads: attention heads.
        identity: let it see the identity token.
    """

    def __init__(self, width: int, condition: int, heads: int, identity: bool) -> None:
        super().__init__()
        self.heads, self.identity = heads, identity
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(condition, width, bias=False)
        self.to_v = nn.Linear(condition, width, bias=False)
        self.to_out = nn.Linear(width, width)
        # Starts as the identity, like a scan with a residual, and leaves a pretrained UNet as it was.
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(
        self,
        x: Tensor,
        identity: Tensor,
        audio: Tensor | None,
        motion: Tensor | None,
        audio_mask: LevelMask | None,
        motion_mask: LevelMask | None,
        frames: int,
    ) -> Tensor:
        """Arguments and result as `ParallelControl.forward`; the masks are not used."""
        seen = (identity if self.identity else None, audio, motion)
        context = torch.cat([_per_frame(t, frames) for t in seen if t is not None], dim=1)
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for t in (self.to_q(self.norm(x)), self.to_k(context), self.to_v(context))
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        return x + self.to_out(attended.transpose(1, 2).flatten(2))


def build_control(width: int, condition: int, heads: int, config: ControlConfig) -> nn.ModuleList | None:
    """The control layer of a transformer as a one-element list (key `mamba_blocks.0`), or None."""
    if config.kind == "none":
        return None
    if config.kind == "cross-attention":
        return nn.ModuleList([CrossAttentionControl(width, condition, heads, config.identity)])
    return nn.ModuleList([ParallelControl(width, condition, config)])


def cast(module: nn.Module, dtype: torch.dtype, *, round_scan: bool = True) -> None:
    """Convert a module to `dtype`, but keep decay, skip and step bias of every scan in single precision.

    They enter an exponential. The released script converts them too and then back, which leaves them rounded
    to half precision; `round_scan=False` keeps their exact values instead.
    """
    names = ("A_logs", "Ds", "dt_projs_bias")
    units = [unit for unit in module.modules() if isinstance(unit, ScanUnit)]
    exact = [[_at_least_single(getattr(unit, name).data) for name in names] for unit in units]
    module.to(dtype)
    for unit, values in zip(units, exact, strict=True):
        for name, value in zip(names, values, strict=True):
            parameter = getattr(unit, name)
            parameter.data = _at_least_single(parameter.data) if round_scan else value


def _at_least_single(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _per_frame(tokens: Tensor, frames: int) -> Tensor:
    """(batch, frames or 1, n, d) -> (batch·frames, n, d)."""
    return tokens.expand(-1, frames, -1, -1).flatten(0, 1)


def _gather(z: Tensor, index: Tensor) -> Tensor:
    if index.shape[0] == 1:
        return z[:, index[0]]
    return z.gather(1, index.unsqueeze(-1).expand(-1, -1, z.shape[-1]))


def _scatter(z: Tensor, index: Tensor, written: Tensor, valid: Tensor | None) -> Tensor:
    """Copy of `z` with the tokens at `index` replaced; places marked invalid write nothing."""
    if index.shape[0] == 1:
        return z.index_copy(1, index[0], written.to(z.dtype))
    wide = index.unsqueeze(-1).expand(-1, -1, z.shape[-1])
    if valid is None:
        return z.scatter(1, wide, written.to(z.dtype))
    change = (written.to(z.dtype) - z.gather(1, wide)) * valid.unsqueeze(-1)
    return z.scatter_add(1, wide, change)
