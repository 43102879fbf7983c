"""How a rehearsal of a system differs from a real run of it: the `[rehearsal]` table of a contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Trial:
    """What `bench rehearse` needs beside the contract, and where it may spare time.

    Attributes:
        recipe: script beside the contract that makes the stand-in weights, see `docs/baselines.md`.
        seconds: length of the samples.
        size: side of their pictures in pixels.
        replace: words of the commands, and what they become: fewer steps, smaller pictures.
        config: values that replace those of every gate's `config.set`, for the same purpose.
        python, packages: an environment of today's packages in place of `[environment]`, where that one's pins
            are hard to install; empty uses `[environment]`.
        patches: needed in that environment only, by name, see `bench.systems.inside.bench_patches`.
        needs: what a rehearsal asks of the machine, in words.
    """

    recipe: str = "standins.py"
    seconds: float = 0.8
    size: int = 256
    replace: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    python: str = ""
    packages: tuple[str, ...] = ()
    patches: tuple[str, ...] = ()
    needs: str = ""
