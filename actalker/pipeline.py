"""From portrait, speech and driving video to frames.

    pipeline = ACTalkerPipeline.from_pretrained("models/actalker")
    for frame in pipeline("face.png", audio="speech.wav"):
        ...

Clips of any length stream: conditions are read, denoised and decoded segment by segment, and frames are
yielded as soon as they are decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from actalker import media
from actalker.components import SAMPLE_RATE, Codec
from actalker.conditions import Conditioner, Conditions, ConditionStream, Request
from actalker.config import from_json
from actalker.control import cast
from actalker.errors import CheckpointError, InputError, OutOfMemoryError
from actalker.faces import check_box
from actalker.gates import GATES, Gates
from actalker.guidance import Guidance
from actalker.masks import Box, MaskMode
from actalker.sampler import Progress, SamplerConfig, denoise
from actalker.unet import ACTalkerUNet

INDEX_FILE = "model_index.json"
Picture = npt.NDArray[np.uint8]
_SILENCE = 1e-3
"""Peak amplitude (-60 dB) below which a recording counts as silent."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Generated:
    """A clip being generated; iterate over it once.

    Attributes:
        frames: uint8 RGB frames (height, width, 3), computed while they are consumed.
        count: how many there will be.
        fps: their frame rate.
        height, width: their size.
    """

    frames: Iterator[Picture]
    count: int
    fps: float
    height: int
    width: int

    def __iter__(self) -> Iterator[Picture]:
        return self.frames

    def __len__(self) -> int:
        return self.count


class ACTalkerPipeline:
    """Generate talking-head clips.

    Args:
        unet: the denoising network.
        codec: images to latents and back.
        conditioner: reads the inputs.
        config: settings.
    """

    def __init__(
        self, unet: ACTalkerUNet, codec: Codec, conditioner: Conditioner, config: PipelineConfig | None = None
    ) -> None:
        self.unet, self.codec, self.conditioner = unet, codec, conditioner
        self.config = config or PipelineConfig()

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> Self:
        """Load a model folder.

        Args:
            folder: holds `model_index.json` and one sub-folder per component.
            device: default the best of cuda, mps, cpu.
            dtype: precision of UNet and decoder; default float16 on cuda, else float32.

        Raises:
            CheckpointError: something is missing or does not fit.
        """
        folder = Path(folder)
        if not (folder / INDEX_FILE).is_file():
            raise CheckpointError(
                f"{folder} holds no {INDEX_FILE}, so it is not a stored model",
                "Convert released checkpoints with: python -m actalker convert --help",
            )
        index = json.loads((folder / INDEX_FILE).read_text())
        parts = {name: load_component(folder / name, target) for name, target in index["components"].items()}
        pipeline = cls(
            parts["unet"], parts["codec"], parts["conditioner"], from_json(PipelineConfig, index["config"])
        )
        return pipeline.to(device, dtype)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a model folder; floating tensors as `dtype` (default as they are)."""
        folder = Path(folder)
        parts: dict[str, Any] = {"unet": self.unet, "codec": self.codec, "conditioner": self.conditioner}
        for name, part in parts.items():
            part.save_pretrained(folder / name, dtype)
        index = {
            "_class_name": type(self).__name__,
            "config": asdict(self.config),
            "components": {name: component_target(part) for name, part in parts.items()},
        }
        (folder / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move to a device and precision (defaults as in `from_pretrained`); encoders stay in float32.

        Raises:
            InputError: there is no such device here.
        """
        chosen = choose_device(device)
        if dtype is None:
            dtype = torch.float16 if chosen.type == "cuda" else torch.float32
        self.unet.to(chosen).eval()
        cast(self.unet, dtype, round_scan=self.config.round_scan)
        codec: Any = self.codec
        codec.to(chosen, dtype)
        self.conditioner.to(chosen)
        return self

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return self.unet.conv_in.weight.device

    def __call__(
        self,
        image: str | Path | Picture,
        audio: str | Path | npt.NDArray[Any] | None = None,
        video: str | Path | Picture | None = None,
        *,
        gate: str | Gates | None = None,
        seed: int = 0,
        frames: int | None = None,
        shortest: bool = False,
        masks: MaskMode | None = None,
        face: Box | None = None,
        largest_face: bool = False,
        steps: int | None = None,
        guidance: Guidance | None = None,
        items_per_call: int | None = None,
        progress: Progress | None = None,
    ) -> Generated:
        """Check the inputs and start generating.

        Args:
            image: portrait, a file or uint8 RGB (H, W, 3).
            audio: driving speech, a file or mono samples at 16 kHz (float in [-1, 1], or int16).
            video: driving video, a file of any frame rate or uint8 RGB (n, H, W, 3) at the model's rate.
            gate: `audio`, `visual` or `audio+visual`; by default what is given. A closed signal is ignored.
            seed: of the CPU generator that draws all noise.
            frames: output frames; default as long as the open signals.
            shortest: with both gates open, stop where a shorter driving video ends instead of refusing.
            masks: override the model's mask mode.
            face: face box (x1, y1, x2, y2) in the portrait, in pixels.
            largest_face: take the largest face where the portrait shows several.
            steps, guidance, items_per_call: override the sampler's settings.
            progress: called with (UNet calls done, all calls) of each segment.

        Returns:
            The clip, computed while it is iterated over.

        Raises:
            InputError: an input is missing, unreadable, silent, too short, or shows no (single) face, or a
                setting is out of range.
            OutOfMemoryError: raised while iterating; names the setting that halves the need.
        """
        gates = _gates(gate, audio is not None, video is not None)
        fps = self.config.fps
        waveform = _waveform(audio) if gates.audio and audio is not None else None
        lengths = {}
        if waveform is not None:
            lengths["audio"] = int(len(waveform) / SAMPLE_RATE * fps + 1e-6)
            _check_sound(waveform, lengths["audio"], fps)
        driving = None
        if gates.visual and video is not None:
            lengths["video"], driving = _driving(video, fps)
        count = _frame_count(frames, lengths, fps, shortest)
        portrait = image if isinstance(image, np.ndarray) else media.read_image(image)
        if face is not None:
            check_box(face, portrait, "the image")
        request = Request(
            image=portrait,
            waveform=waveform,
            driving=driving,
            gates=gates,
            frames=count,
            fps=fps,
            masks=masks or self.config.masks,
            face=face,
            largest_face=largest_face,
        )
        sampler = self.config.sampler
        for name, value in (("steps", steps), ("items_per_call", items_per_call)):
            if value is not None and value < 1:
                raise InputError(f"{name}={value}: at least 1 is needed")
        if steps is not None:
            sampler = replace(sampler, schedule=replace(sampler.schedule, steps=steps))
        if guidance is not None:
            sampler = replace(sampler, guidance=guidance)
        if items_per_call is not None:
            sampler = replace(sampler, items_per_call=items_per_call)
        stream = self.conditioner.open(request, self.codec)
        generator = torch.Generator("cpu").manual_seed(seed)
        produced = self._produce(stream, count, gates, sampler, generator, progress)
        return Generated(produced, count, fps, stream.height, stream.width)

    def _produce(
        self,
        stream: ConditionStream,
        count: int,
        gates: Gates,
        sampler: SamplerConfig,
        generator: torch.Generator,
        progress: Progress | None,
    ) -> Iterator[Picture]:
        """Denoise segment after segment and decode each as soon as its frames are final."""
        overlap = self.config.segment_overlap
        tail: Tensor | None = None
        previous: Conditions | None = None
        done = 0
        while done < count:
            shared = 0 if tail is None else overlap
            new = min(self.config.segment_frames - shared, count - done)
            conditions = stream.read(new).to(self.device, self.unet.conv_in.weight.dtype)
            if previous is not None:
                conditions = previous.followed_by(conditions, shared)
            latents = denoise(
                self.unet, conditions, shared + new, gates, sampler, self.codec.scaling, generator, progress
            )
            if tail is not None:
                ramp = torch.linspace(0, 1, shared + 2, device=latents.device, dtype=latents.dtype)[1:-1]
                ramp = ramp[None, :, None, None, None]
                latents[:, :shared] = tail * (1 - ramp) + latents[:, :shared] * ramp
            done += new
            # The frames the next segment shares with this one are not final yet.
            held = overlap if done < count else 0
            final = latents.shape[1] - held
            tail, previous = latents[:, final:], conditions
            yield from self._decode(latents[0, :final])

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Iterator[Picture]:
        size = self.config.decode_chunk
        for chunk in (latents / self.codec.scaling).split(size):
            try:
                images = self.codec.decode(chunk)
            except torch.OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"{chunk.device} ran out of memory decoding {size} frames",
                    f"Set decode_chunk to {max(1, size // 2)} in {INDEX_FILE} (it halves the need).",
                ) from error
            pictures = (images.float() * 0.5 + 0.5).clamp(0, 1).mul(255).round().byte()
            yield from pictures.permute(0, 2, 3, 1).cpu().numpy()


def choose_device(name: str | torch.device | None = None) -> torch.device:
    """The device named, by default the best there is: cuda, else mps, else cpu.

    Raises:
        InputError: there is no such device here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name is None:
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    usable = ", ".join(kind for kind, is_there in there.items() if is_there)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"unknown device {name!r}", f"Choose one of: {usable}.") from error
    if not there.get(device.type, True):
        raise InputError(
            f"there is no {device.type} device here, or PyTorch was installed without it",
            f"Choose one of: {usable}.",
        )
    return device


def component_target(component: Any) -> str:
    """`module:Class`, as stored in `model_index.json`."""
    return f"{type(component).__module__}:{type(component).__qualname__}"


def load_component(folder: Path, target: str) -> Any:
    """Load one stored component. Only this package's own classes can be named.

    Raises:
        CheckpointError: the class is not one of this package's.
    """
    module, _, name = target.partition(":")
    if not module.startswith("actalker."):
        raise CheckpointError(f"{folder}: component class {target!r} does not belong to actalker")
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"{folder}: component class {target!r} does not exist") from error
    return cls.from_pretrained(folder)


def _gates(gate: str | Gates | None, has_audio: bool, has_video: bool) -> Gates:
    if gate is None:
        if not (has_audio or has_video):
            raise InputError("neither audio nor video is given", "Pass driving audio, a driving video, or both.")
        return Gates(has_audio, has_video)
    gates = gate if isinstance(gate, Gates) else Gates.parse(gate)
    for name, is_open, given in (("audio", gates.audio, has_audio), ("video", gates.visual, has_video)):
        if is_open and not given:
            raise InputError(
                f"gate {gates.name} needs driving {name}, and none is given",
                f"Pass {name}, or choose another gate: {', '.join(GATES)}.",
            )
    return gates


def _waveform(audio: str | Path | npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if not isinstance(audio, np.ndarray):
        return media.read_audio(audio)
    if audio.ndim != 1:
        raise InputError(f"audio samples must be one-dimensional (mono, 16 kHz), got shape {audio.shape}")
    if audio.dtype == np.int16:
        return audio.astype(np.float32) / np.float32(32768)
    samples = audio.astype(np.float32)
    if not np.isfinite(samples).all():
        raise InputError("the audio samples contain NaN or infinity")
    return samples


def _check_sound(waveform: npt.NDArray[np.float32], frames: int, fps: float) -> None:
    if frames < 1:
        raise InputError(
            f"the audio lasts {len(waveform) / SAMPLE_RATE:.3f} s, less than one video frame ({1 / fps:.3f} s)",
            "Pass a longer recording.",
        )
    peak = float(np.abs(waveform).max())
    if peak < _SILENCE:
        raise InputError(
            f"the audio is silent (peak {peak:.1e} of full scale)",
            "Pass a recording with speech, or use gate visual.",
        )


def _driving(video: str | Path | Picture, fps: float) -> tuple[int, Iterator[Picture]]:
    if isinstance(video, np.ndarray):
        if video.ndim != 4 or video.shape[-1] != 3 or not len(video):
            raise InputError(f"driving frames must have shape (n, height, width, 3), got {video.shape}")
        return len(video), iter(video)
    return media.video_length(video, fps), media.video_frames(video, fps)


def _frame_count(frames: int | None, lengths: dict[str, int], fps: float, shortest: bool) -> int:
    available = min(lengths.values())
    limiting = min(lengths, key=lambda name: lengths[name])
    if frames is not None:
        if frames < 1:
            raise InputError(f"frames={frames}: ask for at least one frame")
        if frames > available:
            raise InputError(
                f"the {limiting} lasts {available / fps:.2f} s, but {frames} frames at {fps:g} fps need "
                f"{frames / fps:.2f} s",
                f"Ask for at most {available} frames, or pass a longer {limiting}.",
            )
        return frames
    if not shortest and limiting == "video" and max(lengths.values()) > available + 2:
        raise InputError(
            f"the driving video ({available / fps:.2f} s) is shorter than the audio "
            f"({lengths['audio'] / fps:.2f} s)",
            "Pass shortest=True (--shortest) to stop where the video ends, or give the number of frames.",
        )
    return available
