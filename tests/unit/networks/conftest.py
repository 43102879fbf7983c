"""The independent implementations, skipped where they are not installed."""

from __future__ import annotations

import pytest

from bench.core.spec import Unscored
from bench.metrics import references


@pytest.fixture(scope="session")
def reference():
    """Import a reference package or skip the test."""

    def load(name: str):
        try:
            return references.module(name)
        except Unscored as missing:
            pytest.skip(str(missing))

    return load
