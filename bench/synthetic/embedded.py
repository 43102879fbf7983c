"""The embedded networks by name: weights that come with the package, checked before they are used."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from bench import weights
from bench.core.spec import WeightRef
from bench.weights.locked import EMBEDDED, EMBEDDED_MANIFEST

FOLDER = EMBEDDED
MANIFEST = EMBEDDED_MANIFEST.name
NETWORKS = {
    "sync": "SyncNet",
    "identity": "IdentityNet",
    "frame": "FrameNet",
    "face": "FaceNet",
    "clip": "ClipNet",
}
"""Classes in `networks` by short name; the weights are called `synthetic_<short name>`."""


def ref(name: str) -> WeightRef:
    """Return the weights of a network by content, without loading them; `absent` before they were trained."""
    full = f"synthetic_{name}"
    return weights.ref(full) if full in weights.lock() else WeightRef(full, "absent")


def load(name: str) -> Any:
    """Return the named network in float32, in evaluation mode.

    Args:
        name: key of `NETWORKS`.

    Raises:
        Unscored: the file is missing, or is not the one that was trained with this version.
    """
    return _verified(name, weights.locate(f"synthetic_{name}"))


@cache
def _verified(name: str, _path: Path) -> Any:
    with weights.opened(f"synthetic_{name}") as file:
        return _network(name, file.read())


def load_file(name: str, path: Path) -> Any:
    """Return the named network with the weights of a file just trained, in float32, in evaluation mode."""
    return _network(name, path.read_bytes())


def _network(name: str, data: bytes) -> Any:
    from safetensors.torch import load as read

    from bench.synthetic import networks

    network = getattr(networks, NETWORKS[name])()
    network.load_state_dict(read(data))
    return network.eval().requires_grad_(False)
