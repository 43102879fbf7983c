"""Face-model coefficients made elsewhere, read from a folder.

EMOCA and Deep3DFaceRecon need checkpoints behind registration, so the harness does not run them. Put what they
returned into `$BENCH_COEFFICIENTS/<model>/`, one file per clip, named by the clip's sha256 or by its file name
without the ending:

    coefficients/emoca/<name>.npy     float (n, d)    expression vectors, one row per frame at 25 fps
    coefficients/deep3d/<name>.npy    float (n, 257)  full vectors (expression is 80:144), or (n, 64)

A row with NaN means that no face was found. `.npz` files hold the same array as `expression`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.core.spec import Reason, Unscored
from bench.core.views import ClipView
from bench.metrics.pairing import check_lengths, require_reference

VARIABLE = "BENCH_COEFFICIENTS"
MIN_PAIRS = 5

Model = Literal["emoca", "deep3d", "theval"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CoefficientPairs:
    """Coefficients of frames in which both clips have them: `generated` and `reference` (pairs, d)."""

    generated: Array
    reference: Array
    frames: int

    @property
    def coverage(self) -> dict[str, float]:
        """`n_frames` and `coverage`: pairs, and pairs over the longer clip's frames."""
        return {"n_frames": float(len(self.generated)), "coverage": len(self.generated) / self.frames}


def paired(clip: ClipView, reference: ClipView | None, model: Model) -> CoefficientPairs:
    """Return paired coefficients.

    Raises:
        Unscored: no reference, a file is missing or unusable, lengths differ by more than two frames, or fewer
            than five frames have coefficients in both clips.
    """
    sides = [of(one, model) for one in (clip, require_reference(reference))]
    lengths = [len(side) for side in sides]
    count = check_lengths(*lengths)
    if sides[0].shape[1] != sides[1].shape[1]:
        raise Unscored(Reason.SHAPE_MISMATCH, f"{model} vectors of {sides[0].shape[1]} and {sides[1].shape[1]}")
    generated, other = (side[:count] for side in sides)
    both = np.isfinite(generated).all(axis=1) & np.isfinite(other).all(axis=1)
    if both.sum() < MIN_PAIRS:
        raise Unscored(Reason.TOO_SHORT, f"{model} coefficients in both clips in {both.sum()} frame(s)")
    return CoefficientPairs(generated[both], other[both], max(lengths))


def of(clip: ClipView, model: Model) -> Array:
    """Return a clip's coefficients (n, d), NaN where a frame has none.

    Raises:
        Unscored: the file is missing or unusable.
    """
    return _read(_find(clip.path, model), model)


def fingerprint(model: Model) -> str:
    """Return a digest of the names and contents of a model's files, empty when there are none.

    It is part of the protocol's parameters, so a number is computed again when the files change.
    """
    files = sorted(_folder(model).glob("*.np[yz]")) if os.environ.get(VARIABLE) else []
    state = hashlib.sha256()
    for path in files:
        stat = path.stat()
        state.update(f"{path.name}\0{_sha256(path, stat.st_size, stat.st_mtime_ns)}\0".encode())
    return state.hexdigest() if files else ""


def require(model: Model) -> None:
    """Check before a run that there are coefficients at all.

    Raises:
        Unscored: the folder is not set, or holds no file of this model.
    """
    folder = _folder(model)
    if not any(folder.glob("*.np[yz]")):
        detail = f"there is no .npy or .npz file in {folder}; `bench show doc metrics` says what belongs there"
        raise Unscored(Reason.MISSING_WEIGHTS, detail)


def _folder(model: Model) -> Path:
    root = os.environ.get(VARIABLE)
    if not root:
        raise Unscored(
            Reason.MISSING_WEIGHTS,
            f"{model} coefficients come from files. Run: export {VARIABLE}=DIR (see: bench show doc metrics)",
        )
    return Path(root).expanduser() / model


def _find(clip: Path, model: Model) -> Path:
    folder = _folder(model)
    stat = clip.stat()
    names = _sha256(clip, stat.st_size, stat.st_mtime_ns), clip.stem
    for name in names:
        for ending in (".npy", ".npz"):
            path = folder / f"{name}{ending}"
            if path.is_file():
                return path
    raise Unscored(Reason.MISSING_WEIGHTS, f"neither {names[0]}.npy nor {names[1]}.npy is in {folder}")


def _read(path: Path, model: Model) -> Array:
    try:
        loaded = np.load(path, allow_pickle=False)
        values = np.asarray(loaded["expression"] if path.suffix == ".npz" else loaded, np.float64)
    except Exception as error:  # NumPy and its zip files raise many kinds for damaged ones
        raise Unscored(Reason.DECODE_ERROR, f"{path} holds no coefficients: {error}") from error
    if model == "deep3d" and values.ndim == 2 and values.shape[1] == 257:
        values = values[:, 80:144]
    wide = {"deep3d": 64, "theval": 4}.get(model)
    if values.ndim != 2 or not len(values) or wide not in (None, values.shape[1]):
        raise Unscored(Reason.SHAPE_MISMATCH, f"{path} has shape {values.shape}, not one vector per frame")
    return values


@lru_cache(maxsize=4096)
def _sha256(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
