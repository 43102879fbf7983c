"""The embedded ACTalker: the same model, small enough to ship, for the synthetic talking-face world.

`load()` returns it ready to use; `actalker/embedded/README.md` is its model card.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actalker.pipeline import ACTalkerPipeline

FOLDER = Path(__file__).with_name("model")
"""The shipped weights and settings."""


def load(device: str = "cpu") -> ACTalkerPipeline:
    """Return the shipped model, ready to generate 64×64 clips at 25 fps.

    Raises:
        actalker.errors.CheckpointError: the shipped files are missing or do not fit.
    """
    from actalker.pipeline import ACTalkerPipeline

    return ACTalkerPipeline.from_pretrained(FOLDER, device)
