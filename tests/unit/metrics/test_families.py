"""Every protocol is explained, and looking at them costs little."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import bench.metrics
from bench.catalogue import choose_metrics, metrics, plain_protocols

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


def protocols():
    for module in pkgutil.iter_modules(bench.metrics.__path__, "bench.metrics."):
        if not module.ispkg:
            yield from getattr(importlib.import_module(module.name), "METRICS", ())


@pytest.mark.parametrize("metric", protocols(), ids=lambda metric: metric.__name__)
def test_protocol_is_explained(metric):
    spec = metric().spec
    assert f"`{spec.id.partition('+')[0]}`" in PAGE.read_text(encoding="utf-8")
    assert spec.summary
    assert spec.source


@pytest.mark.parametrize("name", plain_protocols())
def test_columns_and_default_are_explained(name):
    page, spec = PAGE.read_text(encoding="utf-8"), metrics()[name].spec
    assert [c.label for c in spec.columns if c.label not in page and f"`{c.key}`" not in page] == []
    assert (f"`{name}` ●" in page) is spec.default


def test_the_sign_of_the_offset_is_explained():
    assert "audio is early (leads)" in PAGE.read_text(encoding="utf-8")


def test_listing_metrics_loads_no_network_library():
    """`bench list metrics` imports every family; torch alone would take seconds."""
    names = [m.name for m in pkgutil.iter_modules(bench.metrics.__path__, "bench.metrics.") if not m.ispkg]
    imports = "; ".join(f"import {name}" for name in names)
    heavy = "print([m for m in ('torch', 'mediapipe', 'onnxruntime', 'av') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {imports}; {heavy}"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_defaults_stand_for_what_a_plain_run_computes():
    plain = [m.spec.id for m in choose_metrics("real", None)]
    more = [m.spec.id for m in choose_metrics("real", ["defaults", "speed/offline_v1"])]
    assert set(more) == {*plain, "speed/offline_v1"} and "speed/offline_v1" not in plain
