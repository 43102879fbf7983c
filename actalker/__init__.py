"""ACTalker: audio-visual controlled video diffusion with masked selective state spaces.

    from actalker import ACTalkerPipeline

Knows nothing of the benchmark harness around it; see `actalker.pipeline` for inference and
`python -m actalker --help` for the command line. Importing the package loads nothing heavy: a public name brings
its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actalker.errors import ActalkerError, CheckpointError, InputError, MissingPackageError, OutOfMemoryError
    from actalker.gates import Gates
    from actalker.generated import Generated
    from actalker.guidance import Guidance
    from actalker.pipeline import ACTalkerPipeline, PipelineConfig
    from actalker.unet import ACTalkerUNet, UNetConfig

_PUBLIC = {
    "ACTalkerPipeline": "pipeline",
    "ACTalkerUNet": "unet",
    "ActalkerError": "errors",
    "CheckpointError": "errors",
    "Gates": "gates",
    "Generated": "generated",
    "Guidance": "guidance",
    "InputError": "errors",
    "MissingPackageError": "errors",
    "OutOfMemoryError": "errors",
    "PipelineConfig": "pipeline",
    "UNetConfig": "unet",
}

__all__ = [
    "ACTalkerPipeline",
    "ACTalkerUNet",
    "ActalkerError",
    "CheckpointError",
    "Gates",
    "Generated",
    "Guidance",
    "InputError",
    "MissingPackageError",
    "OutOfMemoryError",
    "PipelineConfig",
    "UNetConfig",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'actalker' has no attribute {name!r}")
    return getattr(import_module(f"actalker.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
