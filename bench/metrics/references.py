"""The independent implementations that `bench verify-metrics` and the tests compare against.

They are never needed to compute a metric. Packages may sit in a folder of their own, `$BENCH_REFERENCES`
(`pip install --no-deps --target DIR ...`), because torchvision's CUDA build, which some of them import,
breaks other libraries beside a CPU build of torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from types import ModuleType
from typing import Any

from bench.spec import Reason, Unscored

# Import name -> what to install, without dependencies they declare but never import.
PACKAGES = {
    "pytorch_fid.inception": "pytorch-fid",
    "lpips": "lpips",
    "syncnet_python": "syncnet-python",
    "python_speech_features": "python_speech_features",
    "skimage.metrics": "scikit-image",
    "cdfvd.third_party.i3d.pytorch_i3d": "cd-fvd",
}

_library: Any = None


def module(name: str) -> ModuleType:
    """Import a reference package.

    Raises:
        Unscored: it is not installed; the detail has the command.
    """
    folder = os.environ.get("BENCH_REFERENCES")
    if folder and folder not in sys.path:
        sys.path.append(folder)
    if name in ("pytorch_fid.inception", "lpips"):
        _declare_torchvision_operators()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unscored(
            Reason.MISSING_PACKAGE, f"{error}. Run: pip install --no-deps {PACKAGES.get(name, name)}"
        ) from error


def _declare_torchvision_operators() -> None:
    """Let a CUDA build of torchvision import beside a CPU torch.

    Its compiled part cannot load then, and its import fails on two operators nobody calls here. Declaring
    their signatures first is enough.
    """
    global _library
    import torch

    if _library is not None or "torchvision" in sys.modules or torch.version.cuda is not None:
        return
    _library = torch.library.Library("torchvision", "DEF")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
