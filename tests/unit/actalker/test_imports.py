"""What importing the package costs, and what it can do without."""

from __future__ import annotations

import subprocess
import sys

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


def test_model_and_training_need_no_media_library():
    """A machine without PyAV imports everything; the first file it opens says what to install."""
    said = run(
        "import sys; sys.modules['av'] = None\n"
        "import actalker.pipeline, actalker.training.command, actalker.training.full, actalker.media\n"
        "from actalker.errors import MissingPackageError\n"
        "try: actalker.media.read_image('x.png')\n"
        "except MissingPackageError as error: print(error.hint)"
    )
    assert said == "pip install av"
