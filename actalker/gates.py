"""Gates: which driving signals a clip obeys."""

from __future__ import annotations

from dataclasses import dataclass

from actalker.errors import InputError


@dataclass(frozen=True, slots=True)
class Gates:
    """Open control branches (paper Eq. 2: G1, G2 ∈ {0, 1}, G1 + G2 > 0)."""

    audio: bool
    visual: bool

    def __post_init__(self) -> None:
        if not (self.audio or self.visual):
            raise InputError("both gates are closed", "Choose gate audio, visual or audio+visual.")

    @classmethod
    def parse(cls, name: str) -> Gates:
        """`audio`, `visual` or `audio+visual`."""
        if name not in GATES:
            raise InputError(f"unknown gate {name!r}", f"Choose one of: {', '.join(GATES)}.")
        return GATES[name]

    @property
    def name(self) -> str:
        """The name `parse` accepts."""
        return "+".join(n for n, is_open in (("audio", self.audio), ("visual", self.visual)) if is_open)


GATES: dict[str, Gates] = {
    "audio": Gates(True, False),
    "visual": Gates(False, True),
    "audio+visual": Gates(True, True),
}
