"""VFHQ: a test pack of frame folders without sound, and a training list of YouTube ids, frames and crops.

Xie et al., VFHQ: A High-Quality Dataset and Benchmark for Video Face Super-Resolution, CVPRW 2022.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import in_words
from bench.data.candidates import BadAnnotation, Box, Candidate

NAME = "vfhq"
FRAMES = 100
"""Frames used of every clip; all clips have at least as many."""
SIZE = 512

_NAME = re.compile(r"^Clip\+([\w-]{11})\+P(\d+)\+C(\d+)\+F(\d+)-(\d+)$")


@dataclass(frozen=True, slots=True)
class Name:
    """The parts of a clip's name.

    Attributes:
        video: YouTube id.
        person, crop: running numbers inside the video.
        first, last: used native frames, both included (the name holds the frames outside them).
    """

    video: str
    person: int
    crop: int
    first: int
    last: int


def parse_name(text: str) -> Name:
    """Return the parts of `Clip+<id>+P<person>+C<crop>+F<start>-<end>`; used are start + 1 to end - 1.

    Raises:
        BadAnnotation: it is no such name, or holds no frame.
    """
    match = _NAME.match(text)
    if match is None:
        raise BadAnnotation(f"not a VFHQ clip name: {text}")
    video, person, crop, start, end = match[1], *(int(g) for g in match.groups()[1:])
    if end - start < 2:
        raise BadAnnotation(f"no frame: {text}")
    return Name(video, person, crop, start + 1, end - 1)


@dataclass(frozen=True, slots=True)
class FrameFolder:
    """A clip of the test pack.

    Attributes:
        clip_id: folder name.
        files: its pictures in order.
        warnings: what differs from expectation without harm.
    """

    clip_id: str
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def find_test_clips(root: Path) -> tuple[list[FrameFolder], list[tuple[str, str]]]:
    """Find the test pack's 512 x 512 clips below a folder, whatever its layout.

    Low-quality twins (other sizes) are passed over. Frames are ordered by the number in their name, which may
    start anywhere and must have no gap.

    Returns:
        Clips sorted by name, and (name, reason) of those that cannot be used.
    """
    from PIL import Image

    clips: dict[str, FrameFolder] = {}
    refused: list[tuple[str, str]] = []
    for folder in sorted(p for p in root.rglob("Clip+*") if p.is_dir()):
        try:
            name = parse_name(folder.name)
        except BadAnnotation as error:
            refused.append((folder.name, str(error)))
            continue
        pictures = {int(p.stem): p for p in folder.iterdir() if p.suffix in (".png", ".jpg") and p.stem.isdigit()}
        if not pictures:
            continue
        numbers = sorted(pictures)
        try:
            with Image.open(pictures[numbers[0]]) as first:
                size = first.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            refused.append((folder.name, f"its first picture cannot be read: {in_words(error)}"))
            continue
        if size != (SIZE, SIZE):
            continue
        if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            refused.append((folder.name, "frames are missing between its first and last"))
            continue
        if len(numbers) < FRAMES:
            refused.append((folder.name, f"too short: {len(numbers)} frames"))
            continue
        warnings = ["fps-assumed"]
        if len(numbers) != name.last - name.first + 1:
            warnings.append(f"{len(numbers)} frames where the name says {name.last - name.first + 1}")
        clips.setdefault(
            folder.name, FrameFolder(folder.name, tuple(pictures[n] for n in numbers), tuple(warnings))
        )
    return [clips[name] for name in sorted(clips)], refused


def train_candidate(meta: Path) -> Candidate:
    """Return a clip of the training list from its meta file `<name>.txt`; unusable ones with the reason.

    Lines are found by their first word, numbers are the last ones of their line, split at any white space.
    """
    clip = meta.stem
    try:
        name = parse_name(clip)
        fields = _fields(meta.read_text(encoding="utf-8"))
        fps = float(fields["FPS"][-1])
        height, width = int(fields["H"][-1]), int(fields["W"][-1])
        corners = tuple(float(v) for v in fields["CROP"][-4:])
        if len(corners) != 4:
            raise BadAnnotation("incomplete meta file: CROP has not four numbers")
    except (BadAnnotation, OSError, UnicodeDecodeError) as error:
        return Candidate(clip, clip, "", problem=str(error))
    except (KeyError, ValueError, IndexError) as error:
        return Candidate(clip, clip, "", problem=f"incomplete meta file: {type(error).__name__}: {error}")
    return Candidate(
        clip,
        name.video,
        name.video,
        frames=(name.first, min(name.last, name.first + FRAMES - 1)),
        fps=fps,
        box=Box("corners", corners, (width, height)),
        url=f"https://www.youtube.com/watch?v={name.video}",
    )


def _fields(text: str) -> dict[str, list[str]]:
    """Return the words after each known first word; frame rows begin with digits and are passed over."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        match = re.match(r"^(FPS|CROP|HEIGHT|WIDTH|H|W)\b", line)
        if match:
            found[match[1][:1] if match[1] in ("HEIGHT", "WIDTH") else match[1]] = (
                line[match.end() :].replace(":", " ").split()
            )
    return found
