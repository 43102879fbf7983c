"""What importing the package costs, and what it can do without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import actalker


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    heavy = "[m for m in ('torch', 'av', 'numpy', 'diffusers') if m in sys.modules]"
    assert run(f"import actalker, sys; print({heavy})") == "[]"


def test_every_public_name_is_there():
    assert {getattr(actalker, name).__name__ for name in actalker.__all__} == set(actalker.__all__)
    assert set(actalker.__all__) <= set(dir(actalker))
    with pytest.raises(AttributeError, match="Pipeline"):
        _ = actalker.Pipeline


def test_model_training_and_measurements_need_torch_einops_and_diffusers_only():
    """A rented GPU has little else; the first media file that is opened says what to install."""
    missing = (
        "av",
        "ray",
        "mediapipe",
        "insightface",
        "onnxruntime",
        "pandas",
        "scipy",
        "skimage",
        "typer",
        "cv2",
    )
    said = run(
        f"import sys; sys.modules |= dict.fromkeys({missing})\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[2] / 'performance')!r})\n"
        "import actalker.pipeline, actalker.training.command, actalker.training.full, actalker.media\n"
        "import actalker_scan, actalker_unet\n"
        "from actalker.errors import MissingPackageError\n"
        "try: actalker.media.read_image('x.png')\n"
        "except MissingPackageError as error: print(error.hint)"
    )
    assert said == "pip install av"
