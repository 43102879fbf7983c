"""What `bench verify-metrics`, the tests and the timings compare with: reference packages, and stand-in weights.

Neither is ever needed to compute a metric. Packages may sit in a folder of their own, `$BENCH_REFERENCES`
(`pip install --no-deps --target DIR ...`), because torchvision's CUDA build, which some of them import,
breaks other libraries beside a CPU build of torch.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from bench import weights
from bench.core.spec import Reason, Unscored
from bench.store.files import write_bytes

# Import name -> what to install, without dependencies they declare but never import.
PACKAGES = {
    "pytorch_fid": "pytorch-fid",
    "lpips": "lpips",
    "torchvision": "torchvision",
    "syncnet_python": "syncnet-python",
    "python_speech_features": "python_speech_features",
    "skimage": "scikit-image",
    "cdfvd": "cd-fvd",
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
    if name.startswith(("pytorch_fid", "lpips", "torchvision")):
        _declare_torchvision_operators()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent = (error.name or name).partition(".")[0]
        package = PACKAGES.get(absent, absent)
        raise Unscored(Reason.MISSING_PACKAGE, f"{error}. Run: pip install --no-deps {package}") from error


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


def random_weights(name: str, seed: int = 0) -> dict[str, Any]:
    """Return a random state dict with exactly the keys of an official weight file.

    The detector's heads are set so that it finds one face in the middle of a 512x512 frame, with all of its
    arithmetic done; everything else is noise with sane activations.

    Args:
        name: entry of the weights lock that holds a state dict.
        seed: of the noise.
    """
    import torch

    from bench.metrics.networks import i3d, inception, lpips, resnet3d, s3fd, syncnet
    from bench.metrics.networks.loading import random_state

    networks: dict[str, Any] = {
        "syncnet_v2": syncnet.SyncNet,
        "sfd_face": s3fd.S3fd,
        "inception_fid": inception.Inception,
        "i3d_kinetics400": i3d.I3d,
        "resnet50_kinetics": resnet3d.ResNet3d,
        "alexnet": lambda: lpips.Features("alex"),
        "vgg16": lambda: lpips.Features("vgg"),
    }
    if name in networks:
        state = random_state(networks[name](), seed)
        return _one_face(state) if name == "sfd_face" else state
    generator = torch.Generator().manual_seed(seed)
    trunk: Any = name.removeprefix("lpips_")
    return {
        f"lin{i}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator)
        for i, channels in enumerate(lpips.CHANNELS[trunk])
    }


def _one_face(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    for level in range(6):
        for head in ("conf", "loc"):
            state[f"{head}.{level}.weight"] *= 0
            state[f"{head}.{level}.bias"] *= 0
        # Background wins everywhere but on the coarsest level, which has a single cell.
        state[f"conf.{level}.bias"][: -1 if level < 5 else 0] = 5
        state[f"conf.{level}.bias"][-1] = 5 if level == 5 else -5
    # From the 512-pixel anchor of the quarter-size picture down to half the frame.
    state["loc.5.bias"] = torch.tensor([0.0, 0.0, -10.4, -10.4])
    return state


def write_random_weights(folder: Path, names: Iterable[str]) -> Path:
    """Write stand-ins for official files, under their names, and a lock that pins them.

    Args:
        folder: for `$BENCH_WEIGHTS`; files that are there already stay.
        names: entries of the current lock.

    Returns:
        The lock, for `$BENCH_WEIGHTS_LOCK`. It keeps every entry; those without a file match nothing.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    known = weights.lock()
    for name in names:
        if not (folder / known[name].file).exists():
            torch.save(random_weights(name), folder / known[name].file)
    lines = []
    for entry in known.values():
        path = folder / entry.file
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"
        metrics = ", ".join(f'"{metric}"' for metric in entry.metrics)
        lines += [f'["{entry.name}"]', f'file = "{entry.file}"', "urls = []", f"metrics = [{metrics}]"]
        lines += [f'sha256 = "{digest}"', f'licence = "{entry.licence}"']
    lock = folder / "weights.lock"
    write_bytes(lock, "\n".join(lines).encode())
    return lock
