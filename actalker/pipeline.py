"""From portrait, speech and driving video to frames.

    pipeline = ACTalkerPipeline.from_pretrained("models/actalker")
    for frame in pipeline("face.png", audio="speech.wav"):
        ...

Clips of any length stream: conditions are read, denoised and decoded segment by segment, and frames are
yielded as soon as they are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Self

import diffusers
import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from actalker.components import SAMPLE_RATE, Codec
from actalker.conditions import Conditioner, Conditions, ConditionStream, Request
from actalker.config import from_json
from actalker.control import cast
from actalker.errors import CheckpointError, InputError, OutOfMemoryError
from actalker.faces import check_box
from actalker.gates import Gates
from actalker.generated import OUTPUTS, Generated, StepCallback, reporting
from actalker.guidance import Guidance
from actalker.hub import resolve
from actalker.masks import Box, MaskMode
from actalker.reading import foreign, read_json
from actalker.request import (
    Picture,
    as_driving,
    as_picture,
    as_waveform,
    check_sound,
    frame_count,
    open_gates,
)
from actalker.sampler import OnStep, Progress, SamplerConfig, denoise, with_options
from actalker.schedule import DiffusersSchedule, Schedule, build_schedule, check_scheduler, euler_scheduler
from actalker.settings import PipelineConfig as PipelineConfig
from actalker.storage import (
    choose_device,
    component_target,
    default_dtype,
    hub_options,
    load_component,
    load_scheduler,
)
from actalker.unet import ACTalkerUNet
from actalker.writing import write_json

INDEX_FILE = "model_index.json"
SCHEDULER = "scheduler"
"""Folder of a diffusers scheduler that takes the place of the model's own schedule."""
_PARTS = ("unet", "codec", "conditioner")


class ACTalkerPipeline(DiffusionPipeline):
    """Generate talking-head clips.

    A diffusers pipeline in everything but two points: it yields frames while they are made, and its folders name
    classes of this package only, so that loading one runs no foreign code.

    Args:
        unet: the denoising network.
        codec: images to latents and back.
        conditioner: reads the inputs.
        config: settings.
        scheduler: see `scheduler`.
    """

    model_cpu_offload_seq = "conditioner->codec->unet->codec"

    def __init__(
        self,
        unet: ACTalkerUNet,
        codec: Codec,
        conditioner: Conditioner,
        config: PipelineConfig | None = None,
        scheduler: Any = None,
    ) -> None:
        self._settings = config or PipelineConfig()
        self._offload: torch.device | None = None
        self._whole_chunk = self._settings.decode_chunk
        self.unet, self.codec, self.conditioner = unet, codec, conditioner
        self.scheduler = scheduler

    @property
    def config(self) -> PipelineConfig:
        """The settings stored with the model; may be replaced."""
        return self._settings

    @config.setter
    def config(self, settings: PipelineConfig) -> None:
        self._settings = settings

    @property
    def components(self) -> dict[str, Any]:
        """The parts, by the names the constructor takes."""
        return {name: getattr(self, name) for name in _PARTS}

    @property
    def scheduler(self) -> Any:
        """The noise schedule as a diffusers scheduler; None for a model that predicts clean latents.

        Assign another one, e.g. `UniPCMultistepScheduler.from_config(pipeline.scheduler.config)`, and its stepping
        rule takes the place of the model's own, on the same noise levels; assign None to go back.

        Raises:
            InputError: the scheduler does not fit the model.
        """
        if self._scheduler is not None:
            return self._scheduler
        return euler_scheduler(self.config.sampler.schedule)

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        if scheduler is not None:
            check_scheduler(scheduler, self.config.sampler.schedule)
        self._scheduler = scheduler

    @property
    def vae(self) -> Any:
        """The autoencoder inside the codec, or None."""
        return getattr(self.codec, "vae", None)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        *,
        torch_dtype: torch.dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load a model folder, or a model from the hub.

        Args:
            folder: holds `model_index.json` and one sub-folder per component; or a hub id.
            device: default the best of cuda, mps, cpu.
            dtype, torch_dtype: precision of UNet and decoder; default float16 on cuda, else float32.
            options: `unet`, `codec`, `conditioner` or `scheduler` to take in place of the stored one; for an id:
                `revision`, `token`, `cache_dir`, `local_files_only`, `force_download`.

        Raises:
            CheckpointError: something is missing or does not fit.
            InputError: an option that is not known.
        """
        given = {name: options.pop(name) for name in (*_PARTS, SCHEDULER) if name in options}
        hub = hub_options(options)
        path = Path(folder)
        if not (path / INDEX_FILE).is_file():
            if path.exists() or len(path.parts) != 2 or path.is_absolute():
                raise CheckpointError(
                    f"{folder} holds no {INDEX_FILE}, so it is not a stored model",
                    "Convert released checkpoints with: python -m actalker convert --help",
                )
            path = resolve(folder, **hub)
        index = read_json(path / INDEX_FILE)
        with foreign(path / INDEX_FILE):
            targets, config = index["components"], from_json(PipelineConfig, index["config"])
            parts = {
                name: given[name] if name in given else load_component(path / name, targets[name])
                for name in _PARTS
            }
            pipeline = cls(**parts, config=config)
        if SCHEDULER in given or index.get(SCHEDULER):
            pipeline.scheduler = given[SCHEDULER] if SCHEDULER in given else load_scheduler(path / SCHEDULER)
        chosen = choose_device(device)
        return pipeline.to(chosen, dtype or torch_dtype or default_dtype(chosen))

    @classmethod
    def from_pipe(cls, pipeline: Any, torch_dtype: torch.dtype | None = None, **parts: Any) -> Self:
        """A pipeline of another one's parts, which both then use, with those given in place of its own."""
        own = {**pipeline.components, "config": pipeline.config, SCHEDULER: pipeline._scheduler}
        return cls(**{**own, **parts}).to(torch_dtype)

    def save_pretrained(
        self,
        folder: str | Path,
        dtype: torch.dtype | None = None,
        *,
        safe_serialization: bool = True,
        variant: str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **hub: Any,
    ) -> None:
        """Write a model folder; floating tensors as `dtype` (default as they are).

        Args:
            folder: where to.
            dtype: precision of the stored tensors.
            safe_serialization, variant: as diffusers passes them; there are safetensors only, and no variants.
            push_to_hub: upload the folder afterwards.
            repo_id: where to, default the folder's name.
            hub: of `push_to_hub`: `token`, `private`, `commit_message`.
        """
        if not safe_serialization or variant:
            raise InputError("models are stored as safetensors, without variants", "Give dtype=... instead.")
        folder = Path(folder)
        for name, part in self.components.items():
            part.save_pretrained(folder / name, dtype)
        index: dict[str, Any] = {
            "_class_name": type(self).__name__,
            "_diffusers_version": diffusers.__version__,
            "config": asdict(self.config),
            "components": {name: component_target(part) for name, part in self.components.items()},
        }
        if self._scheduler is not None:
            self._scheduler.save_pretrained(folder / SCHEDULER)
            index[SCHEDULER] = True
        write_json(folder / INDEX_FILE, index)
        if push_to_hub:
            super().push_to_hub(repo_id or folder.name, **hub)  # type: ignore[misc]

    def to(
        self,
        *where: Any,
        device: Any = None,
        dtype: torch.dtype | None = None,
        silence_dtype_warnings: bool = False,
    ) -> Self:
        """Move to a device, a precision or both, as `nn.Module.to`; encoders stay in float32 and nothing warns.

        Raises:
            InputError: there is no such device here.
        """
        for value in where:
            if isinstance(value, torch.dtype):
                dtype = value
            elif value is not None:
                device = value
        if device is not None:
            chosen = choose_device(device)
            self._offload = None
            for part in self.components.values():
                part.to(chosen)
        self.unet.eval()
        if dtype is not None:
            cast(self.unet, dtype, round_scan=self.config.round_scan)
            codec: Any = self.codec
            codec.to(dtype)
        return self

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes."""
        return self._offload or self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the UNet."""
        return self.unet.conv_in.weight.dtype

    def enable_model_cpu_offload(self, gpu_id: int | None = None, device: Any = "cuda") -> None:
        """Keep every part in main memory and bring it to the device only while it works.

        Args:
            gpu_id: number of the GPU.
            device: kind of device.

        Raises:
            InputError: there is no such device here.
        """
        chosen = choose_device(device if gpu_id is None else f"{torch.device(device).type}:{gpu_id}")
        self.to("cpu")
        self._offload = chosen

    def enable_sequential_cpu_offload(self, *args: Any, **kwargs: Any) -> None:
        """Not offered: a UNet call touches every layer, so that this would be slower by far.

        Raises:
            InputError: always.
        """
        raise InputError("layers are not offloaded one by one", "Use enable_model_cpu_offload().")

    def enable_vae_slicing(self) -> None:
        """Decode one frame at a time. The temporal decoder then sees no neighbours: frames change a little."""
        if self._settings.decode_chunk != 1:
            self._whole_chunk = self._settings.decode_chunk
        self._settings = replace(self._settings, decode_chunk=1)

    def disable_vae_slicing(self) -> None:
        """Decode as many frames at once as before."""
        self._settings = replace(self._settings, decode_chunk=self._whole_chunk)

    def enable_vae_tiling(self, size: int = 64) -> None:
        """Decode overlapping tiles of `size` latent cells and blend them; for large pictures on small devices.

        Raises:
            InputError: the codec has no tiles.
        """
        codec: Any = self.codec
        if not hasattr(codec, "tile"):
            raise InputError(f"a {type(codec).__name__} needs no tiles: it works on every cell by itself")
        codec.tile = size

    def disable_vae_tiling(self) -> None:
        """Decode pictures whole."""
        codec: Any = self.codec
        codec.tile = None

    def load_lora_weights(self, folder: str | Path, scale: float = 1.0, **hub: Any) -> None:
        """Add a low-rank adaptation to the UNet's weights, see `actalker.lora.merge_lora`.

        Args:
            folder: folder or hub id with PEFT's `adapter_config.json` and `adapter_model.safetensors`.
            scale: how much of it.
            hub: for an id, as `from_pretrained`.
        """
        from actalker.lora import merge_lora

        merge_lora(self.unet, resolve(folder, **hub), scale)

    @contextmanager
    def _at_work(self, *parts: Any) -> Iterator[None]:
        """With offloading, the parts are on the device for the duration of the block."""
        with ExitStack() as stack:
            for part in parts if self._offload is not None else ():
                part.to(self._offload)
                stack.callback(part.to, torch.device("cpu"))
            yield

    def __call__(
        self,
        image: Any,
        audio: Any = None,
        video: Any = None,
        *,
        gate: str | Gates | None = None,
        seed: int = 0,
        generator: torch.Generator | None = None,
        frames: int | None = None,
        shortest: bool = False,
        masks: MaskMode | None = None,
        face: Box | None = None,
        largest_face: bool = False,
        steps: int | None = None,
        num_inference_steps: int | None = None,
        sigmas: Sequence[float] | None = None,
        guidance: Guidance | None = None,
        guidance_interval: tuple[float, float] | None = None,
        cache_interval: int | None = None,
        items_per_call: int | None = None,
        progress: Progress | None = None,
        callback_on_step_end: StepCallback | None = None,
        output_type: Literal["np", "pil", "pt"] = "np",
    ) -> Generated:
        """Check the inputs and start generating.

        Args:
            image: portrait: a file, a PIL image, an array (H, W, 3) or a tensor (3, H, W), see `as_picture`.
            audio: driving speech: a file, or mono samples at 16 kHz, float in [-1, 1] or int16, see `as_waveform`.
            video: driving video: a file of any frame rate, or pictures at the model's rate, see `as_driving`.
            gate: `audio`, `visual` or `audio+visual`; by default what is given. A closed signal is ignored.
            seed: of the CPU generator that draws all noise.
            generator: draws the noise instead; one on another device lends its seed.
            frames: output frames; default as long as the open signals.
            shortest: with both gates open, stop where a shorter driving video ends instead of refusing.
            masks: override the model's mask mode.
            face: face box (x1, y1, x2, y2) in the portrait, in pixels.
            largest_face: take the largest face where the portrait shows several.
            steps, num_inference_steps: sampling steps (two names of one setting).
            sigmas: noise levels of the steps, falling, without the final 0, e.g. ten of
                `diffusers.schedulers.AysSchedules["StableDiffusionVideoSigmas"]`.
            guidance: override the guidance scales.
            guidance_interval: lowest and highest noise level σ at which guidance is computed; elsewhere the model
                runs on the full conditions alone, at a third or quarter of the work.
            cache_interval: compute the whole UNet at every so manieth step only, see `SamplerConfig`.
            items_per_call: override the sampler's setting.
            progress: called with (UNet calls done, all calls) of each segment.
            callback_on_step_end: called as `callback(pipeline, step, timestep, {"latents": ...})` after each step
                of each segment; `latents` in what it returns replace the present ones.
            output_type: `np` yields uint8 arrays (H, W, 3), `pil` PIL images, `pt` tensors (3, H, W) in [0, 1].

        Returns:
            The clip, computed while it is iterated over.

        Raises:
            InputError: an input is missing, unreadable, silent, too short, or shows no (single) face, or a
                setting is out of range.
            OutOfMemoryError: raised while iterating; names the setting that halves the need.
        """
        gates = open_gates(gate, audio is not None, video is not None)
        fps = self.config.fps
        waveform = as_waveform(audio) if gates.audio and audio is not None else None
        lengths = {}
        if waveform is not None:
            lengths["audio"] = int(len(waveform) / SAMPLE_RATE * fps + 1e-6)
            check_sound(waveform, lengths["audio"], fps)
        driving = None
        if gates.visual and video is not None:
            lengths["video"], driving = as_driving(video, fps)
        count = frame_count(frames, lengths, fps, shortest)
        portrait = as_picture(image)
        if face is not None:
            check_box(face, portrait, "the image")
        if output_type not in OUTPUTS:
            raise InputError(f"unknown output_type {output_type!r}", f"Choose one of: {', '.join(OUTPUTS)}.")
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
        sampler = with_options(
            self.config.sampler, steps if num_inference_steps is None else num_inference_steps, sigmas, guidance,
            guidance_interval, cache_interval, items_per_call,
        )  # fmt: skip
        if generator is None:
            generator = torch.Generator("cpu").manual_seed(seed)
        elif generator.device.type != "cpu":
            generator = torch.Generator("cpu").manual_seed(generator.initial_seed())
        on_step = None if callback_on_step_end is None else reporting(self, callback_on_step_end)
        with self._at_work(self.conditioner, self.codec):
            stream = self.conditioner.open(request, self.codec)
        produced = self._produce(stream, count, gates, sampler, generator, progress, on_step)
        return Generated(map(OUTPUTS[output_type], produced), count, fps, stream.height, stream.width)

    def _produce(
        self,
        stream: ConditionStream,
        count: int,
        gates: Gates,
        sampler: SamplerConfig,
        generator: torch.Generator,
        progress: Progress | None,
        on_step: OnStep | None,
    ) -> Iterator[Picture]:
        """Denoise segment after segment and decode each as soon as its frames are final."""
        overlap = self.config.segment_overlap
        tail: Tensor | None = None
        previous: Conditions | None = None
        done = 0
        while done < count:
            shared = 0 if tail is None else overlap
            new = min(self.config.segment_frames - shared, count - done)
            with self._at_work(self.conditioner, self.codec):
                conditions = stream.read(new).to(self.device, self.dtype)
            if previous is not None:
                conditions = previous.followed_by(conditions, shared)
            with self._at_work(self.unet):
                latents = denoise(
                    self.unet, conditions, shared + new, gates, sampler, self.codec.scaling, generator, progress,
                    schedule=self._schedule(sampler), on_step=on_step,
                )  # fmt: skip
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

    def _schedule(self, sampler: SamplerConfig) -> Schedule:
        if self._scheduler is None:
            return build_schedule(sampler.schedule)
        return DiffusersSchedule(self._scheduler, sampler.schedule)

    @torch.no_grad()
    def _decode(self, latents: Tensor) -> Iterator[Picture]:
        size = self.config.decode_chunk
        for chunk in (latents / self.codec.scaling).split(size):
            try:
                with self._at_work(self.codec):
                    images = self.codec.decode(chunk)
            except torch.OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"{chunk.device} ran out of memory decoding {size} frames",
                    f"Set decode_chunk to {max(1, size // 2)} in {INDEX_FILE} (it halves the need).",
                ) from error
            pictures = (images.float() * 0.5 + 0.5).clamp(0, 1).mul(255).round().byte()
            yield from pictures.permute(0, 2, 3, 1).cpu().numpy()
