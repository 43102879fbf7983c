"""Private copies of a sample's inputs, in the form a contract asks for, and the values of its placeholders."""

from __future__ import annotations

import json
import re
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bench.core.declaration import as_type
from bench.core.errors import UsageError
from bench.core.spec import SAMPLES_PER_FRAME, Cause, Gate, Sample
from bench.media.decode import chunks, read_audio, read_image
from bench.media.encode import write_clip, write_image, write_wav
from bench.media.scale import Resizer
from bench.methods.base import GenerationFailed
from bench.systems.contract import Config, Contract, GateCommand
from bench.systems.placeholders import placeholders

FPS = 25
_REWRITTEN = {".aac", ".avi", ".mp4", ".wav"}

Frame = npt.NDArray[np.uint8]


def driving_frames(contract: Contract, sample: Sample) -> int:
    """Return how many frames of driving input a system is handed: the sample's, or more where it needs more.

    Raises:
        GenerationFailed: the sample is longer than the system can do (an input error).
    """
    wants = contract.inputs
    seconds = sample.frames / FPS
    if wants.max_seconds and seconds > wants.max_seconds:
        raise GenerationFailed(
            Cause.INPUT,
            f"{contract.name} takes at most {wants.max_seconds:g} s and sample {sample.id} lasts {seconds:.2f} s.",
        )
    frames = max(sample.frames, int(np.ceil(wants.min_seconds * FPS)))
    if wants.not_multiple_of and abs(frames / FPS % wants.not_multiple_of) < 0.5 / FPS:
        frames += FPS // 5
    return frames


class Inputs:
    """The values of a contract's placeholders for one sample; files are made when first asked for.

    Args:
        contract, sample, gate, seed: what is run. Inputs that the gate closes are None in `sample`.
        job: the private folder of this run.
        checkout: the system's repository.
        index: number of the sample in a batch, whose samples share `job` but for their inputs and scratch; None
            outside one.

    Attributes:
        batch: whose entries `{config}` lists.
    """

    def __init__(
        self,
        contract: Contract,
        sample: Sample,
        gate: Gate,
        seed: int,
        job: Path,
        checkout: Path,
        index: int | None = None,
    ) -> None:
        self.contract, self.sample, self.gate, self.seed = contract, sample, gate, seed
        self.job = job
        self.batch: Sequence[Inputs] = [self]
        own = "" if index is None else f"-{index}"
        self.files, self.work = job / f"in{own}", job / f"work{own}"
        self.frames = driving_frames(contract, sample)
        self.commands: GateCommand = contract.gates[gate.name]
        for folder in (self.files, self.work, job / "out"):
            folder.mkdir(parents=True, exist_ok=True)
        plain = re.sub(r"[^A-Za-z0-9]", "_", sample.id)[:40]
        unique = sha256(f"{sample.id}/{gate.name}/{seed}".encode()).hexdigest()[:6]
        self._values: dict[str, Any] = {
            "output_dir": str(job / "out"),
            "output_path": str(job / "out" / "result.mp4"),
            "output_stem": str(job / "out" / "result"),
            "work_dir": str(self.work),
            "seed": seed,
            "duration": round(self.frames / FPS, 2),
            "frames": self.frames,
            "sample_id": f"{plain}_{unique}",
            "index": index or 0,
            "contract_dir": contract.folder,
            "checkout": str(checkout),
            **{name: option.default for name, option in contract.options.items()},
        }
        self._prefix = "" if index is None else f"{plain}_{unique}_"
        self._makers: Mapping[str, Callable[[], Any]] = {
            "reference_image": self._reference_image,
            "driving_audio": lambda: self._sound("speech", self._speech()),
            "silence": lambda: self._sound("silence", self._silence()),
            "driving_video": lambda: self._video("driver", self._driving(), self._silence()),
            "driving_video_with_audio": lambda: self._video("driver_speech", self._driving(), self._speech()),
            "static_video": lambda: self._video("still", self._static(), self._silence()),
            "static_video_with_audio": lambda: self._video("still_speech", self._static(), self._speech()),
            "driving_frames": self._pictures,
            "config": self._config,
            "port": _free_port,
        }

    def value(self, name: str) -> Any:
        """Return a placeholder's value, making the file behind it if needed."""
        if name not in self._values:
            self._values[name] = self._makers[name]()
        return self._values[name]

    def fill(self, text: str) -> str:
        """Return a text with its placeholders replaced."""
        return text.format(**{name: self.value(name) for name in placeholders(text)})

    def fill_typed(self, value: Any) -> Any:
        """Replace placeholders anywhere in a configuration; a text that is one placeholder keeps its type."""
        if isinstance(value, str):
            names = placeholders(value)
            return self.value(names[0]) if value == f"{{{names[0] if names else ''}}}" else self.fill(value)
        if isinstance(value, Mapping):
            return {self.fill(k): self.fill_typed(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fill_typed(v) for v in value]
        return value

    def argv(self, line: str) -> list[str]:
        """Return a command line as words; placeholders are replaced after splitting, so no value is split."""
        return [self.fill(word) for word in shlex.split(line)]

    # Pictures

    def _picture(self) -> Frame:
        picture = read_image(self.sample.image)
        return _square(picture, self.contract.inputs.size) if self.contract.inputs.size else picture

    def _reference_image(self) -> str:
        path = self.files / f"{self._prefix}portrait.{self.contract.inputs.image_format}"
        if path.suffix == ".png":
            write_image(path, self._picture())
        else:
            _write_jpg(path, self._picture())
        return str(path)

    def _driving(self) -> Iterator[Frame]:
        assert self.sample.video is not None, "the contract asks for a video under a gate without visual"
        frames = (frame for chunk in chunks(self.sample.video, FPS) for frame in chunk)
        held = _held(islice(frames, self.sample.frames), self.frames)
        size = self.contract.inputs.size
        return (_square(frame, size) for frame in held) if size else held

    def _static(self) -> Iterator[Frame]:
        return repeat(_even(self._picture()), self.frames)

    def _pictures(self) -> str:
        folder = self.files / f"{self._prefix}frames"
        folder.mkdir()
        for index, frame in enumerate(self._driving()):
            _write_jpg(folder / f"{index:05d}.jpg", frame)
        return str(folder)

    # Sound

    def _silence(self) -> npt.NDArray[np.int16]:
        return np.zeros(self.frames * SAMPLES_PER_FRAME, np.int16)

    def _speech(self) -> npt.NDArray[np.int16]:
        assert self.sample.audio is not None, "the contract asks for speech under a gate without audio"
        speech = read_audio(self.sample.audio)
        if speech is None:
            raise GenerationFailed(Cause.INPUT, f"{self.sample.audio} has no audio stream.")
        padded = self._silence()
        used = speech[: self.sample.frames * SAMPLES_PER_FRAME]
        padded[: len(used)] = used
        return padded

    def _sound(self, stem: str, samples: npt.NDArray[np.int16]) -> str:
        path = self.files / f"{self._prefix}{stem}.wav"
        write_wav(path, samples)
        return str(path)

    def _video(self, stem: str, frames: Iterator[Frame], sound: npt.NDArray[np.int16]) -> str:
        path = self.files / f"{self._prefix}{stem}.mp4"
        write_clip(path, frames, float(FPS), sound)
        return str(path)

    # Configuration

    def entries(self) -> dict[str, Any]:
        """Return what this sample adds to the configuration of its batch, making the files it names."""
        config = self.commands.config
        return self.fill_typed(config.each) if config is not None else {}

    def _config(self) -> str:
        config = self.commands.config
        assert config is not None
        path = self.work / f"config.{config.format}"
        path.write_text(self._rendered(config), encoding="utf-8")
        return str(path)

    def _rendered(self, config: Config) -> str:
        import yaml

        base: Any = {}
        if config.base:
            file = Path(self.value("checkout")) / config.base
            try:
                base = as_type(yaml.safe_load(file.read_text(encoding="utf-8")) or {}, dict[str, Any], file)
            except (OSError, ValueError, RecursionError, yaml.YAMLError, UsageError) as error:
                raise GenerationFailed(
                    Cause.ENVIRONMENT,
                    f"{self.contract.name}: the configuration it starts from cannot be read: {file}: {error}.",
                    f"Run: bench prepare --methods {self.contract.name}",
                ) from error
        filled = {**base, **self.fill_typed(config.set)}
        for inputs in self.batch:
            filled |= inputs.entries()
        return json.dumps(filled, indent=1) if config.format == "json" else yaml.safe_dump(filled, sort_keys=False)


def _held(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    """Yield exactly `count` frames: the last one is held, more are cut."""
    last: Frame | None = None
    shown = 0
    for frame in islice(frames, count):
        yield frame
        last = frame
        shown += 1
    if last is not None:
        yield from repeat(last, count - shown)


def _square(picture: Frame, size: int) -> Frame:
    """Return the centre square, resized."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = np.ascontiguousarray(picture[top : top + side, left : left + side])
    return cut if side == size else Resizer(size, size)(cut)


def _even(picture: Frame) -> Frame:
    height, width = picture.shape[:2]
    return np.ascontiguousarray(picture[: height // 2 * 2, : width // 2 * 2])


def _write_jpg(path: Path, picture: Frame) -> None:
    Image.fromarray(picture).save(path, "JPEG", quality=95, subsampling=0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def link_checkout(contract: Contract, checkout: Path, shadow: Path) -> Path:
    """Make a working folder that looks like the checkout but keeps what a run writes to itself.

    Everything is linked except the folders on the way to the working folder and those that the contract
    declares as private (`run.empty_folders`, `run.own_folders`): they are real. Sound and video files in the
    working folder itself are left out, because a run that writes them again would write through the link. So
    programs that write under fixed names in their repository run side by side, and the checkout stays as it was.

    Returns:
        The working folder (`run.cwd` inside the copy).
    """
    run = contract.run
    real = {Path()}
    for name in chain([run.cwd] if run.cwd else [], run.own_folders):
        real |= {Path(name), *Path(name).parents}
    for name in run.empty_folders:
        real |= set(Path(name).parents)
    empty = {Path(name) for name in run.empty_folders}
    own = {Path(name) for name in run.own_folders}

    def fill(relative: Path) -> None:
        target = shadow / relative
        target.mkdir(parents=True, exist_ok=True)
        source = checkout / relative
        for child in sorted(source.iterdir()) if source.is_dir() else ():
            name = relative / child.name
            if name in real or name in empty or child.name == ".git":
                continue
            if relative in own and not child.is_dir():
                continue
            if name.parent == Path(run.cwd) and child.suffix.lower() in _REWRITTEN and child.is_file():
                continue
            (target / child.name).symlink_to(child)

    for folder in sorted(real):
        fill(folder)
    for folder in sorted(empty):
        (shadow / folder).mkdir(parents=True, exist_ok=True)
    return shadow / run.cwd
