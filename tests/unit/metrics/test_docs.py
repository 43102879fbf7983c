"""Every protocol is explained, and no documented protocol is missing its family."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import bench.metrics

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def protocols():
    for module in pkgutil.iter_modules(bench.metrics.__path__, "bench.metrics."):
        if not module.ispkg:
            yield from getattr(importlib.import_module(module.name), "METRICS", ())


@pytest.mark.parametrize("metric", protocols(), ids=lambda metric: metric.__name__)
def test_protocol_is_explained(metric):
    spec = metric().spec
    assert f"`{spec.id}`" in PAGE.read_text(encoding="utf-8")
    assert spec.summary
    assert spec.source


def test_the_sign_of_the_offset_is_explained():
    assert "audio is early (leads)" in PAGE.read_text(encoding="utf-8")
