"""Errors a user of the model can act on."""

from __future__ import annotations


class ActalkerError(Exception):
    """An expected failure: what happened and why, and what to do next.

    Args:
        message: what happened and why.
        hint: what to type or change; shown on its own line.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class InputError(ActalkerError):
    """The image, audio, video or setting given cannot be used."""


class MissingPackageError(ActalkerError):
    """An optional package is not installed."""


class CheckpointError(ActalkerError):
    """A checkpoint does not fit the model: lists every missing, unexpected and mismatched key."""


class DivergedError(ActalkerError):
    """Training has left the numbers: its gradients are infinite or no numbers."""


class OutOfMemoryError(ActalkerError):
    """The device ran out of memory; the hint names the setting that halves the need."""
