"""Packages for setuptools; everything else is in pyproject.toml.

The root folders `datasets`, `baselines`, `reports` and `docs` are data. They go into the wheel as `bench._data.*`,
because a top-level package called `datasets` would shadow Hugging Face's.
"""

from setuptools import find_packages, setup

DATA = ("datasets", "baselines", "reports", "docs")
OURS = ["py.typed", *(f"**/*.{suffix}" for suffix in ("toml", "json", "md", "lock", "safetensors"))]

setup(
    include_package_data=False,  # what is data is listed here, not whatever git tracks
    packages=[*find_packages(include=["bench*", "actalker*"]), *(f"bench._data.{name}" for name in DATA)],
    package_dir={f"bench._data.{name}": name for name in DATA},
    package_data={"bench": OURS, "actalker": OURS}
    | {f"bench._data.{name}": ["**/*"] for name in DATA}
    | {"bench._data.docs": ["*.md", "ci/*"]},  # without the pictures
)
