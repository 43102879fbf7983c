"""Lazy tables of names: `name -> "module:attribute"`, extended by entry points.

Looking a name up imports only that name's module, so `bench --help` stays fast. This module imports nothing
of the project's own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

METHODS: Mapping[str, str] = {
    "ground-truth": "bench.methods.controls:GroundTruth",
    "frozen": "bench.methods.controls:Frozen",
    "shuffled-audio": "bench.methods.controls:ShuffledAudio",
    "mouth-warp": "bench.methods.mouth_warp:MouthWarp",
    "landmark-warp": "bench.methods.landmark_warp:LandmarkWarp",
    "actalker": "bench.methods.actalker:EmbeddedACTalker",
    "actalker-whole": "bench.methods.actalker:WHOLE",
    "actalker-no-pcm": "bench.methods.actalker:NO_PCM",
    "actalker-no-mask-drop": "bench.methods.actalker:NO_MASK_DROP",
    "actalker-no-identity": "bench.methods.actalker:NO_IDENTITY",
    "actalker-full": "bench.methods.actalker:FullACTalker",
}

# One module per metric family. Each lists its classes in METRICS and EXTRACTORS.
METRIC_MODULES: tuple[str, ...] = (
    "bench.metrics.articulation",
    "bench.metrics.background",
    "bench.metrics.beat",
    "bench.metrics.blink",
    "bench.metrics.closeness",
    "bench.metrics.control_independence",
    "bench.metrics.csim",
    "bench.metrics.drift",
    "bench.metrics.dynamics",
    "bench.metrics.efid",
    "bench.metrics.expression",
    "bench.metrics.faces",
    "bench.metrics.fid",
    "bench.metrics.fvd",
    "bench.metrics.gaze",
    "bench.metrics.kid",
    "bench.metrics.landmarks",
    "bench.metrics.lpips",
    "bench.metrics.motion_histograms",
    "bench.metrics.pixels",
    "bench.metrics.pose",
    "bench.metrics.remade",
    "bench.metrics.seqalign",
    "bench.metrics.sharpness",
    "bench.metrics.speed",
    "bench.metrics.sync",
    "bench.metrics.sync_drift",
    "bench.metrics.temporal",
    "bench.metrics.theval",
    "bench.metrics.timing",
    "bench.synthetic.control_independence",
    "bench.synthetic.metrics",
    "bench.synthetic.aligned",
)


class UnknownName(LookupError):
    """A name that is not registered.

    Args:
        kind: what was looked up, e.g. `method`.
        name: what the user wrote.
        known: the registered names.
    """

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        guess = f" Did you mean '{close[0]}'?" if close else ""
        super().__init__(f"There is no {kind} called '{name}'.{guess}")
        self.hint = f"Known: {', '.join(sorted(known))}" if len(known) <= 40 else f"See: bench list {kind}s"


def resolve(target: str) -> Any:
    """Import `package.module:attribute` or `path/to/file.py:attribute` and return the attribute.

    Raises:
        UnknownName: the module has no such attribute.
        ModuleNotFoundError: there is no such module or file.
    """
    module_name, _, attribute = target.rpartition(":")
    module = (
        _module_from_file(Path(module_name))
        if module_name.endswith(".py")
        else importlib.import_module(module_name)
    )
    try:
        return getattr(module, attribute)
    except AttributeError:
        names = [n for n in vars(module) if not n.startswith("_")]
        raise UnknownName(f"attribute in {module_name}", attribute, names) from None


def _module_from_file(path: Path) -> Any:
    path = path.resolve()
    name = f"bench_user_{path.stem}"
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == str(path):
        return loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModuleNotFoundError(f"no Python file at {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def targets(builtin: Mapping[str, str], group: str) -> dict[str, str]:
    """Return built-in names and those that installed packages add under an entry-point group."""
    from importlib.metadata import entry_points  # slow to import, and `bench --help` needs no names

    return {**builtin, **{e.name: e.value for e in entry_points(group=group)}}
