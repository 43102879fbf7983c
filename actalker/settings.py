"""Settings stored with a model."""

from __future__ import annotations

from dataclasses import dataclass, field

from actalker.masks import MaskMode
from actalker.sampler import SamplerConfig


@dataclass(frozen=True, slots=True)
class PipelineConfig:
    """Settings stored with a model.

    Attributes:
        fps: frame rate the model generates; driving videos are resampled to it by timestamp.
        masks: mask mode with both gates open, see `actalker.masks.control_masks`.
        sampler: how a segment is denoised.
        segment_frames: frames denoised together; longer clips are made of several segments.
        segment_overlap: frames two segments share and blend.
        decode_chunk: frames the codec decodes at once.
        round_scan: at half precision, round the scan's parameters as the released script does, see
            `actalker.control.cast`.
    """

    fps: float = 12.5
    masks: MaskMode = "released"
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    segment_frames: int = 250
    segment_overlap: int = 8
    decode_chunk: int = 10
    round_scan: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.segment_overlap < self.segment_frames:
            raise ValueError("segment_overlap must be smaller than segment_frames")
