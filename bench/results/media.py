"""Which of the files that rows name may be copied into something that is shown to others."""

from __future__ import annotations

import re
from pathlib import Path

from bench.store.home import Home


def may_copy(path: Path, root: Path | None) -> bool:
    """Tell whether a file that rows name may be taken into a folder that is sent on, or shown to raters.

    Rows can come from anybody and name any file of the user. Those of a run in the user's own home are believed;
    others may name what lies in their own folder, and in the store and the data beside a `runs` folder it is in.
    Whatever it is called, it has to be a picture, a sound or a video.

    Args:
        path: the file.
        root: folder of the run, or None for rows that came from no folder.
    """
    try:
        place = path.resolve()
        if not place.is_file():
            return False
        if root is not None:
            root = root.resolve()
            beside = root.parent.parent
            own = [root, *((beside / "blobs", beside / "data") if root.parent.name == "runs" else ())]
            if root.parent != Home().runs and not any(place.is_relative_to(folder) for folder in own):
                return False
        with place.open("rb") as file:
            return _is_media(file.read(12))
    except (OSError, ValueError):  # too long, with a null, unreadable
        return False


_MEDIA = (
    rb"\x89PNG\r\n", rb"\xff\xd8\xff", rb"GIF8", rb"BM", rb"II\*\x00", rb"MM\x00\*", rb"RIFF....(WAVE|WEBP|AVI )",
    rb"....(ftyp|moov|mdat|free|wide)", rb"\x1aE\xdf\xa3", rb"OggS", rb"fLaC", rb"ID3", rb"\xff[\xe2-\xfb]",
    rb"\x00\x00\x01\xba",
)  # fmt: skip
"""How files of pictures, sounds and videos begin."""


def _is_media(head: bytes) -> bool:
    return any(re.match(begin, head, re.DOTALL) for begin in _MEDIA)
