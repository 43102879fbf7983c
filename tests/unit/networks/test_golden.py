"""Our networks against numbers the reference packages gave, for machines that do not have them.

`tests/golden/networks.json` holds outputs of the reference packages. To write it again, where they are installed:
BENCH_WRITE_GOLDEN=1 python -m pytest tests/unit/networks/test_golden.py
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.metrics import references
from bench.metrics.networks import LPIPS_FILES, inception, lpips, s3fd, syncnet, video

GOLDEN = Path(__file__).parents[2] / "golden" / "networks.json"
SEED = 0
TOLERANCE = 1e-4  # relative to the largest value; leaves room for other CPUs


def pictures(*shape: int) -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, (*shape, 3)).astype(np.uint8)


def weights(name: str):
    return references.random_weights(name, SEED)


def crops():
    return torch.from_numpy(pictures(6, 224, 224)).flip(-1).permute(3, 0, 1, 2)[None].float()


def coefficients() -> np.ndarray:
    return np.random.default_rng(SEED).normal(0, 10, (30, 13))


def scaled(frames: np.ndarray):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def our_lpips(trunk):
    state = lpips.state(*(weights(name) for name in LPIPS_FILES[trunk]))
    frames = pictures(2, 96, 80)
    return lpips.Distance(trunk, state)(frames[:1], frames[1:])


OURS = {
    "inception/2048": lambda: inception.FrameFeatures(weights("inception_fid"))(pictures(1, 200, 170)),
    "inception/64": lambda: inception.FrameFeatures(weights("inception_fid"))(pictures(1, 200, 170), 64),
    "syncnet/lips": lambda: syncnet.Embedder(weights("syncnet_v2")).lips(pictures(6, 224, 224)),
    "syncnet/voice": lambda: syncnet.Embedder(weights("syncnet_v2")).voice(coefficients(), 3),
    "s3fd/faces": lambda: s3fd.Detector(weights("sfd_face"))(s3fd.quarter(pictures(1, 512, 512)), 512, 512)[0],
    "i3d": lambda: video.WholeClip(weights("i3d_kinetics400"), pool_frames=2)(iter([pictures(12, 64, 64)]), 12),
    "lpips/alex": lambda: our_lpips("alex"),
    "lpips/vgg": lambda: our_lpips("vgg"),
}


def reference_inception(size: int):
    module = references.module("pytorch_fid.inception")
    module.load_state_dict_from_url = lambda *args, **kwargs: weights("inception_fid")
    block = module.InceptionV3.BLOCK_INDEX_BY_DIM[size]
    network = module.InceptionV3([block]).eval()
    return network(torch.from_numpy(pictures(1, 200, 170)).permute(0, 3, 1, 2) / 255)[0].mean((2, 3))


def reference_syncnet():
    network = references.module("syncnet_python.SyncNetModel").S()
    network.load_state_dict(weights("syncnet_v2"))
    return network.eval()


def reference_voice():
    columns = torch.from_numpy(coefficients().T).float()[None, None]
    return reference_syncnet().forward_aud(torch.cat([columns[..., 4 * i : 4 * i + 20] for i in range(3)]))


def reference_faces():
    network = references.module("syncnet_python.detectors.s3fd.nets").S3FDNet(device="cpu")
    network.load_state_dict(weights("sfd_face"))
    detector = references.module("syncnet_python.detectors.s3fd").S3FD(network.eval(), device="cpu")
    return detector.detect_faces(pictures(1, 512, 512)[0], conf_th=0.9, scales=[0.25])


def reference_i3d():
    network = references.module("cdfvd.third_party.i3d.pytorch_i3d").InceptionI3d(400, in_channels=3)
    network.load_state_dict(weights("i3d_kinetics400"))
    clip = video.squash(pictures(12, 64, 64), 224) / 127.5 - 1
    return network.eval()(clip[None].permute(0, 4, 1, 2, 3))


def reference_lpips(trunk):
    network = references.module("lpips").LPIPS(net=trunk, pnet_rand=True, verbose=False).eval()
    layers, heads = (weights(name) for name in LPIPS_FILES[trunk])
    network.net.load_state_dict({k: layers[f"features.{k.partition('.')[2]}"] for k in network.net.state_dict()})
    for i, head in enumerate(network.lins):
        head.model[-1].weight.data = heads[f"lin{i}.model.1.weight"]
    frames = scaled(pictures(2, 96, 80))
    return network(frames[:1], frames[1:]).flatten()


REFERENCES = {
    "inception/2048": lambda: reference_inception(2048),
    "inception/64": lambda: reference_inception(64),
    "syncnet/lips": lambda: torch.cat([reference_syncnet().forward_lip(crops()[:, :, i : i + 5]) for i in (0, 1)]),
    "syncnet/voice": reference_voice,
    "s3fd/faces": reference_faces,
    "i3d": reference_i3d,
    "lpips/alex": lambda: reference_lpips("alex"),
    "lpips/vgg": lambda: reference_lpips("vgg"),
}


def sampled(values) -> dict:
    flat = np.asarray(values, np.float64).ravel()
    index = np.unique(np.linspace(0, flat.size - 1, 16).astype(int))
    return {
        "shape": list(np.shape(values)),
        "index": index.tolist(),
        "values": flat[index].tolist(),
        "largest": float(np.abs(flat).max()),
    }


@pytest.mark.skipif("BENCH_WRITE_GOLDEN" not in os.environ, reason="writes the golden file")
@torch.no_grad()
def test_write_the_golden_file():
    recorded = {name: sampled(reference()) for name, reference in REFERENCES.items()}
    GOLDEN.write_text(json.dumps({"seed": SEED, "tolerance": TOLERANCE, "outputs": recorded}, indent=1) + "\n")


@pytest.mark.parametrize("name", OURS)
def test_outputs_equal_what_the_reference_packages_gave(name):
    golden = json.loads(GOLDEN.read_text())
    expected = golden["outputs"][name]
    ours = np.asarray(OURS[name](), np.float64)
    assert list(ours.shape) == expected["shape"]
    difference = np.abs(ours.ravel()[expected["index"]] - expected["values"]).max()
    assert difference <= golden["tolerance"] * expected["largest"]
    assert np.abs(ours).max() == pytest.approx(expected["largest"], rel=golden["tolerance"])
