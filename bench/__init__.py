"""The benchmark harness: plan, generate, score and report talking-head videos.

Everything a method, a metric or a script of a user's needs is imported from here:

    from bench import MethodSpec, Video, read_audio, read_image

Importing this package is cheap; a name loads its module when it is first used, so torch, ray, pandas and PyAV are
loaded only by who needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.core.errors import BenchError as BenchError
    from bench.core.errors import MissingError as MissingError
    from bench.core.errors import UsageError as UsageError
    from bench.core.spec import GATES as GATES
    from bench.core.spec import Cause as Cause
    from bench.core.spec import Column as Column
    from bench.core.spec import ExtractorSpec as ExtractorSpec
    from bench.core.spec import Gate as Gate
    from bench.core.spec import MethodSpec as MethodSpec
    from bench.core.spec import MetricSpec as MetricSpec
    from bench.core.spec import Option as Option
    from bench.core.spec import Reason as Reason
    from bench.core.spec import Sample as Sample
    from bench.core.spec import Split as Split
    from bench.core.spec import Unscored as Unscored
    from bench.core.spec import WeightRef as WeightRef
    from bench.core.views import ClipMetric as ClipMetric
    from bench.core.views import ClipView as ClipView
    from bench.core.views import Extractor as Extractor
    from bench.core.views import Features as Features
    from bench.core.views import SetMetric as SetMetric
    from bench.media.decode import chunks as chunks
    from bench.media.decode import read_audio as read_audio
    from bench.media.decode import read_image as read_image
    from bench.methods.base import BatchMethod as BatchMethod
    from bench.methods.base import GenerationFailed as GenerationFailed
    from bench.methods.base import Method as Method
    from bench.methods.base import Video as Video
    from bench.run.drive import Execution as Execution
    from bench.run.session import Run as Run
    from bench.run.session import load as load
    from bench.run.session import score as score

_ROOMS = {
    "bench.core.errors": ("BenchError", "MissingError", "UsageError"),
    "bench.core.spec": (
        "GATES",
        "Cause",
        "Column",
        "ExtractorSpec",
        "Gate",
        "MethodSpec",
        "MetricSpec",
        "Option",
        "Reason",
        "Sample",
        "Split",
        "Unscored",
        "WeightRef",
    ),
    "bench.core.views": ("ClipMetric", "ClipView", "Extractor", "Features", "SetMetric"),
    "bench.media.decode": ("chunks", "read_audio", "read_image"),
    "bench.methods.base": ("BatchMethod", "GenerationFailed", "Method", "Video"),
    "bench.run.drive": ("Execution",),
    "bench.run.session": ("Run", "load", "score"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = sorted([*_HOME, "run"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return globals().setdefault(name, version("actalker-bench"))
        except PackageNotFoundError:  # a bare source tree on the path
            return "0"
    if name == "run":  # a room that can be called, see there
        return import_module("bench.run")
    if name not in _HOME:
        raise AttributeError(f"module 'bench' has no attribute '{name}'")
    return globals().setdefault(name, getattr(import_module(_HOME[name]), name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
