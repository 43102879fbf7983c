"""Command line: `python -m actalker generate | convert | start | train | export`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from actalker.errors import ActalkerError, InputError
from actalker.reading import shown

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="ACTalker: talking heads driven by speech, by a video, or by both.",
)

_DTYPES = ("float32", "float16", "bfloat16")


@app.command()
def generate(
    image: Annotated[Path, typer.Option(help="Portrait.")],
    out: Annotated[Path, typer.Option(help="Video file to write.")],
    audio: Annotated[Path | None, typer.Option(help="Driving speech (any sound or video file).")] = None,
    video: Annotated[Path | None, typer.Option(help="Driving video of any frame rate.")] = None,
    model: Annotated[Path | None, typer.Option(help="Model folder; default: the embedded small model.")] = None,
    gate: Annotated[
        str | None, typer.Option(help="audio, visual or audio+visual; default: what is given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all noise.")] = 0,
    frames: Annotated[
        int | None, typer.Option(help="Frames to generate; default: as long as the signals.")
    ] = None,
    shortest: Annotated[
        bool, typer.Option(help="Stop where a driving video shorter than the audio ends.")
    ] = False,
    masks: Annotated[
        str | None, typer.Option(help="paper, overlap, released or none; default: the model's.")
    ] = None,
    face: Annotated[str | None, typer.Option(help="Face box in the portrait: x1,y1,x2,y2 in pixels.")] = None,
    largest_face: Annotated[bool, typer.Option(help="Take the largest of several faces.")] = False,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    items_per_call: Annotated[
        int | None, typer.Option(help="Guidance rows per UNet call; fewer need less memory.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; default: the best there is.")] = None,
    dtype: Annotated[str | None, typer.Option(help=f"{', '.join(_DTYPES)}; default: float16 on cuda.")] = None,
) -> None:
    """Animate a portrait and write a video with the driving speech."""
    import torch

    from actalker import media
    from actalker.pipeline import ACTalkerPipeline

    if dtype is not None and dtype not in _DTYPES:
        raise InputError(f"unknown dtype {dtype!r}", f"Choose one of: {', '.join(_DTYPES)}.")
    pipeline = ACTalkerPipeline.from_pretrained(
        model or embedded_model(), device, None if dtype is None else getattr(torch, dtype)
    )
    options: dict[str, Any] = {} if masks is None else {"masks": _mask_mode(masks)}
    clip = pipeline(
        image,
        audio,
        video,
        gate=gate,
        seed=seed,
        frames=frames,
        shortest=shortest,
        face=None if face is None else parse_box(face),
        largest_face=largest_face,
        steps=steps,
        items_per_call=items_per_call,
        progress=_progress if sys.stderr.isatty() else None,
        **options,
    )
    sound = None
    if audio is not None and gate != "visual":
        sound = media.read_audio(audio)
    written = media.write_video(out, clip, clip.fps, sound)
    say(f"{out}: {written} frames of {clip.width}x{clip.height} at {clip.fps:g} fps")


@app.command()
def convert(
    arcface: Annotated[Path, typer.Option(help="ArcFace iResNet-50: backbone.pth, or insightface's .onnx.")],
    svd: Annotated[str, typer.Option(help="Folder or hub id of stable-video-diffusion-img2vid-xt-1-1.")],
    whisper: Annotated[str, typer.Option(help="Folder or hub id of whisper-tiny.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    motion: Annotated[
        str, typer.Option(help="blendshapes (MediaPipe, no file), or the released MX31c_32k.ckpt.")
    ] = "blendshapes",
    dtype: Annotated[
        str, typer.Option(help="Precision of the stored UNet: float16, bfloat16 or float32.")
    ] = "float16",
    checkpoints: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the released unet-*.pth, pose_guider-*.pth, ...; without it, a model to train."
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Shorter side of the output; default 576.")] = None,
    offline: Annotated[bool, typer.Option(help="Look hub ids up in the local cache only.")] = False,
) -> None:
    """Convert the released checkpoints to one model folder of safetensors, or make one to train from SVD."""
    import torch

    from actalker.released import convert as convert_files

    if dtype not in _DTYPES:
        raise InputError(f"unknown dtype {dtype!r}", f"Choose one of: {', '.join(_DTYPES)}.")
    convert_files(
        checkpoints,
        motion=motion,
        arcface=arcface,
        svd=svd,
        whisper=whisper,
        out=out,
        dtype=getattr(torch, dtype),
        image_size=image_size,
        offline=offline,
        report=lambda message: say(message, err=True),
    )
    say(str(out))


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON)
def train(context: typer.Context) -> None:
    """Train a model; see `python -m actalker train --help`."""
    from actalker.training.cli import train as run

    _pass_on(context, run, "train")


@app.command(context_settings=_PASSED_ON)
def export(context: typer.Context) -> None:
    """Store the model of a training run's checkpoint; see `python -m actalker export --help`."""
    from actalker.training.cli import export as run

    _pass_on(context, run, "export")


@app.command(context_settings=_PASSED_ON)
def start(context: typer.Context) -> None:
    """Make a training run from a folder of videos; see `python -m actalker start --help`."""
    from actalker.training.cli import start as run

    _pass_on(context, run, "start")


def _pass_on(context: typer.Context, run: Callable[..., None], name: str) -> None:
    """Run a verb of another module, which is imported only now."""
    verb = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    verb.command()(run)
    verb(args=context.args, prog_name=f"python -m actalker {name}", standalone_mode=False)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x1,y1,x2,y2` as numbers.

    Raises:
        InputError: not four numbers.
    """
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"face box {text!r} is not four numbers", "Give --face x1,y1,x2,y2 in pixels.") from error
    return (x1, y1, x2, y2)


def embedded_model() -> Path:
    """Folder of the small model shipped with the package.

    Raises:
        InputError: this installation has none.
    """
    folder = Path(__file__).with_name("embedded") / "model"
    if not (folder / "model_index.json").is_file():
        raise InputError("this installation has no embedded model", "Give a model folder: --model PATH.")
    return folder


def _mask_mode(name: str) -> str:
    from typing import get_args

    from actalker.masks import MaskMode

    if name not in get_args(MaskMode):
        raise InputError(f"unknown mask mode {name!r}", f"Choose one of: {', '.join(get_args(MaskMode))}.")
    return name


def say(text: str, err: bool = False) -> None:
    """Print text in which names can come from anybody."""
    typer.echo(shown(text), err=err)


def _progress(done: int, total: int) -> None:
    sys.stderr.write(f"\rdenoising {done}/{total}" + ("\n" if done == total else ""))
    sys.stderr.flush()


def main() -> None:
    """Run the command line; an expected failure is printed as one paragraph (exit code 2)."""
    try:
        app()
    except ActalkerError as error:
        say(f"error: {error}", err=True)
        raise SystemExit(2) from error
