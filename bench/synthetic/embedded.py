"""The embedded networks by name: weights that come with the package, checked before they are used."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.spec import Reason, Unscored, WeightRef

if TYPE_CHECKING:
    from bench.synthetic import networks

FOLDER = Path(__file__).resolve().parent / "weights"
MANIFEST = "manifest.json"
_NETWORKS = {
    "sync": "SyncNet",
    "identity": "IdentityNet",
    "frame": "FrameNet",
    "face": "FaceNet",
    "clip": "ClipNet",
}


@cache
def manifest() -> dict[str, dict[str, Any]]:
    """Return what is known of every weight file: file, sha256, bytes, parameters, steps, seed."""
    path = FOLDER / MANIFEST
    return json.loads(path.read_text()) if path.is_file() else {}


def ref(name: str) -> WeightRef:
    """Return the weights of a network by content, without loading them; works before they were trained."""
    return WeightRef(f"synthetic_{name}", manifest().get(name, {}).get("sha256", ""))


@cache
def load(name: str) -> Any:
    """Return the named network in float32, in evaluation mode.

    Args:
        name: `sync`, `identity`, `frame`, `face` or `clip`.

    Raises:
        Unscored: the file is missing, or is not the one the manifest describes.
    """
    from safetensors.torch import load as load_tensors

    from bench.synthetic import networks

    entry = manifest().get(name)
    path = FOLDER / f"{name}.safetensors"
    if entry is None or not path.is_file():
        raise Unscored(Reason.MISSING_WEIGHTS, f"{path} is missing; run: python -m bench.synthetic.train")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise Unscored(
            Reason.MISSING_WEIGHTS, f"{path} is not the file of the manifest; reinstall the package"
        )
    network: networks.SyncNet = getattr(networks, _NETWORKS[name])()
    network.load_state_dict(load_tensors(content))
    return network.eval().requires_grad_(False)
