"""What can go wrong with media files. Imports no codec, so anything may catch these."""

from __future__ import annotations

from bench.core.errors import BenchError


class DecodeError(BenchError):
    """A media file cannot be used. The message is one paragraph with the file and the reason."""


class EncodeError(BenchError):
    """Frames or samples that cannot be written: none at all, wrong type, or changing size."""


class InvalidClip(BenchError):
    """A clip that opens but is not what was asked for."""
