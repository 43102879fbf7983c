"""Where the project's data folders are: the checkout's root, or the wheel's `bench/_data`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

DataFolder = Literal["datasets", "baselines", "reports", "docs"]


def data_folder(name: DataFolder) -> Path:
    """Return the folder of declared data sets, baseline contracts, report material or documents.

    In a checkout (or an editable install) these are the root folders; in a wheel they are installed as
    `bench/_data/<name>`, because a top-level package called `datasets` would shadow Hugging Face's.
    """
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / name
    if (package.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return package / "_data" / name
