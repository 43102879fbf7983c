"""What every network protocol declares, and what happens without weights."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bench import weights
from bench.core.spec import Reason, Unscored
from bench.metrics import csim, fid, fvd, lpips, sync

MODULES = (sync, fid, fvd, csim, lpips)
PROTOCOLS = [kind for module in MODULES for kind in module.METRICS]
EXTRACTORS = [kind for module in MODULES for kind in module.EXTRACTORS]


def test_protocol_ids():
    assert {i for kind in PROTOCOLS if "+" not in (i := kind().spec.id)} == {
        "sync/longest_track",
        "sync/wav2lip_real",
        "sync/short",
        "sync/precropped224",
        "fid/pytorch_fid_allframes",
        "fid/facecrop",
        "fvd/disco_i3d",
        "fvd/disco_res50",
        "fvd/i3d_ts_16f_first",
        "csim/ref_image",
        "csim/gt_frame",
        "lpips/vgg_v0.1",
        "lpips/alex_v0.1",
    }


def test_the_assumed_columns_say_so():
    labels = {kind().spec.id: kind().spec.columns[0].label for kind in fvd.METRICS}
    assert labels["fvd/disco_i3d"] == "FVD-Inc (assumed)"
    assert labels["fvd/disco_res50"] == "FVD-Res (assumed)"


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_declarations_are_complete(kind):
    spec = kind().spec
    assert spec.domains == ("real",)
    assert spec.weights and spec.summary and spec.source and spec.columns
    known = {extractor().spec.name: extractor().spec for extractor in EXTRACTORS}
    behind = {w.name for name in spec.features for w in known[name].weights}
    assert behind <= {w.name for w in spec.weights}
    # `bench prepare --metrics ID` must fetch all that the protocol reads.
    assert {w.name for w in spec.weights} <= set(weights.needed([spec.id]))


@pytest.mark.parametrize("module", [sync, fid, fvd, lpips])
def test_bf16_is_a_protocol_of_its_own(module):
    plain, rough = ({s.id: s for k in module.METRICS if ("+" in (s := k().spec).id) is bf16} for bf16 in (0, 1))
    assert {f"{name}+bf16" for name in plain} == set(rough)
    names = {kind().spec.name for kind in EXTRACTORS}
    for name, spec in plain.items():
        twin = rough[f"{name}+bf16"]
        assert twin.features == tuple(f"{f}+bf16" for f in spec.features) and set(twin.features) <= names
        assert (twin.columns, twin.weights, twin.needs) == (spec.columns, spec.weights, spec.needs)
        assert twin.params == {**spec.params, "precision": "bf16"} and "bfloat16" in twin.summary
        assert not twin.default


def test_features_read_features_of_their_own_precision(memory_clip, noise):
    """Faces of the float32 detector must not end up in a bfloat16 row."""
    asked = []

    class Clip(memory_clip):
        def features(self, name):
            asked.append(name)
            raise Unscored(Reason.NO_FACE)

    clip = Clip(noise(60, 128), np.random.default_rng(0).normal(0, 2000, 640 * 60).astype(np.int16))
    for kind in EXTRACTORS:
        if kind().spec.name in ("syncnet_tracks+bf16", "inception2048_face+bf16"):
            with pytest.raises(Unscored):
                kind().extract(clip)
    assert asked == ["s3fd+bf16"] * 2


def test_importing_the_protocols_leaves_torch_alone():
    code = (
        "import sys; from bench.metrics import csim, fid, fvd, lpips, sync;"
        "[k() for m in (csim, fid, fvd, lpips, sync) for k in (*m.METRICS, *m.EXTRACTORS)];"
        "print(sorted({'torch', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "kind", [k for k in EXTRACTORS if not issubclass(k, (sync.TrackSync, fid.InceptionFaces))]
)
def test_missing_weights_name_the_command(kind, no_weights, memory_clip, noise):
    speech = (np.random.default_rng(0).normal(0, 2000, 640 * 20)).astype(np.int16)
    clip = memory_clip(noise(20, 128), speech)
    with pytest.raises(Unscored, match=r"bench prepare --metrics|Put it into") as caught:
        kind().extract(clip)
    assert caught.value.reason is Reason.MISSING_WEIGHTS


@pytest.mark.parametrize("kind", lpips.METRICS)
def test_lpips_without_weights_names_the_command(kind, no_weights, memory_clip, noise):
    clip = memory_clip(noise(3, 64))
    with pytest.raises(Unscored, match="bench prepare --metrics lpips") as caught:
        kind().score(clip, clip)
    assert caught.value.reason is Reason.MISSING_WEIGHTS
