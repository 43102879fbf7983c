"""What a contract's texts may refer to: the names in braces, and which of them a gate closes."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Any

from bench.core.errors import did_you_mean

# What a command, a configuration value, a staged path or an output pattern may refer to. All paths are
# absolute, private to one sample, and made of letters, digits, `_` and `-` (plus one dot before the suffix).
PLACEHOLDERS: Mapping[str, str] = {
    "reference_image": "the portrait, in the format and size `inputs` asks for",
    "driving_audio": "16 kHz mono wav; only under a gate with audio",
    "silence": "16 kHz mono wav of zeros, as long as the clip; for systems that insist on audio",
    "driving_video": "25 fps mp4 with a silent track; only under a gate with visual",
    "driving_video_with_audio": "driving_video with driving_audio muxed; only under audio+visual",
    "driving_frames": "folder of 00000.jpg ... of the driving video; only under a gate with visual",
    "static_video": "25 fps mp4 repeating the portrait for the length of the clip, with a silent track",
    "static_video_with_audio": "static_video with driving_audio muxed; only under a gate with audio",
    "output_dir": "empty folder",
    "output_path": "{output_dir}/result.mp4",
    "output_stem": "{output_path} without .mp4",
    "work_dir": "empty scratch folder",
    "config": "the file rendered from the gate's `config`",
    "seed": "integer in [0, 2**31)",
    "duration": "seconds of the driving input handed out",
    "frames": "frames of the driving input handed out, at 25 fps",
    "sample_id": "letters, digits and `_`; unique per job",
    "index": "number of the sample in its batch, from 0; for `config.each`",
    "port": "a free TCP port on this machine",
    "contract_dir": "the folder of baseline.toml",
    "checkout": "the system's repository",
}
AUDIO_ONLY = {"driving_audio", "driving_video_with_audio", "static_video_with_audio"}
VISUAL_ONLY = {"driving_video", "driving_video_with_audio", "driving_frames"}
# In a batch the command is one for all samples.
SHARED = {"config", "output_dir", "work_dir", "checkout", "contract_dir", "port"}


def check_placeholders(where: str, text: str, allowed: Mapping[str, str]) -> None:
    """Raise ValueError for a placeholder that a text may not hold."""
    for name in placeholders(text):
        if name not in allowed:
            reason = "is closed by this gate" if name in PLACEHOLDERS and name != "config" else "is unknown"
            raise ValueError(f"{where}: placeholder {{{name}}} {reason}.{did_you_mean(name, list(allowed))}")


def placeholders(text: str) -> list[str]:
    """Return the names in braces, in order of appearance."""
    try:
        return [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None


def strings(value: Any) -> list[str]:
    """Return every text in a configuration, keys included."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [s for k, v in value.items() for s in (k, *strings(v))]
    if isinstance(value, (list, tuple)):
        return [s for v in value for s in strings(v)]
    return []
