"""Our networks and the packages they re-implement, loaded with the same random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.metrics.networks import i3d, inception, lpips, resnet3d, s3fd, syncnet, video
from bench.metrics.networks.loading import random_state, ready
from bench.metrics.sync_search import search

TOLERANCE = 1e-5


def pictures(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def difference(ours, theirs) -> float:
    """Largest deviation relative to the largest value."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def fid_network(reference):
    module = reference("pytorch_fid.inception")
    state = random_state(inception.Inception(), seed=0)
    original = module.load_state_dict_from_url
    module.load_state_dict_from_url = lambda *args, **kwargs: state
    try:
        theirs = module.InceptionV3([0, 1, 2, 3]).eval()
    finally:
        module.load_state_dict_from_url = original
    return inception.FrameFeatures(state), theirs


@torch.inference_mode()
def test_inception_equals_pytorch_fid_at_every_tap(fid_network):
    ours, theirs = fid_network
    frames = pictures(2, 200, 170)
    expected = theirs(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255)
    for size, maps in zip((64, 192, 768, 2048), expected, strict=True):
        assert difference(ours(frames, size), maps.mean((2, 3))) < TOLERANCE


def test_fid_equals_pytorch_fids_own_distance(fid_network, reference):
    from bench.metrics import frechet

    score = reference("pytorch_fid.fid_score")
    ours, _ = fid_network
    sets = [ours(pictures(24, 96, 96, seed=s) // (1 + s), 64).astype(np.float64) for s in (0, 1)]
    moments = [m for x in sets for m in (x.mean(0), np.cov(x, rowvar=False))]
    expected = score.calculate_frechet_distance(*moments)
    assert frechet.distance(*(frechet.state(x) for x in sets)) == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def sync_networks(reference):
    module = reference("syncnet_python.SyncNetModel")
    state = random_state(syncnet.SyncNet(), seed=1)
    theirs = module.S()
    theirs.load_state_dict(state, strict=True)
    return syncnet.Embedder(state), theirs.eval()


@torch.inference_mode()
@pytest.mark.parametrize("frames", [5, 6, 20])
def test_one_lip_pass_equals_the_references_windows(sync_networks, frames):
    ours, theirs = sync_networks
    crops = pictures(frames, 224, 224, seed=frames)
    clip = torch.from_numpy(crops).flip(-1).permute(3, 0, 1, 2)[None].float()
    expected = torch.cat([theirs.forward_lip(clip[:, :, i : i + 5]) for i in range(frames - 4)])
    assert difference(ours.lips(crops), expected) < TOLERANCE
    stream = syncnet.LipStream(ours)
    for part in np.array_split(crops, [3, 7]):
        stream.push(part)
    assert difference(stream.result(), expected) < TOLERANCE


@torch.inference_mode()
def test_three_dimensional_tower_equals_the_flat_one(sync_networks):
    ours, _ = sync_networks
    network = ready(syncnet.SyncNet(), random_state(syncnet.SyncNet(), seed=1))
    crops = pictures(7, 224, 224)
    clip = torch.from_numpy(crops).flip(-1).permute(3, 0, 1, 2)[None].float()
    assert difference(ours.lips(crops), network.lip(clip)) < TOLERANCE


@torch.inference_mode()
def test_voice_tower_equals_the_reference(sync_networks):
    ours, theirs = sync_networks
    mfcc = np.random.default_rng(0).normal(0, 10, (99, 13))
    columns = torch.from_numpy(mfcc.T).float()[None, None]
    expected = torch.cat([theirs.forward_aud(columns[..., 4 * i : 4 * i + 20]) for i in range(20)])
    assert difference(ours.voice(mfcc, 20), expected) < TOLERANCE


def test_sync_c_and_d_equal_the_references_search(reference):
    instance = reference("syncnet_python.SyncNetInstance")
    generator = np.random.default_rng(3)
    video_part, audio_part = (generator.normal(0, 1, (60, 1024)).astype(np.float32) for _ in range(2))
    audio_part[:55] += 2 * video_part[5:]
    lags = instance.calc_pdist(torch.from_numpy(video_part), torch.from_numpy(audio_part), vshift=15)
    mean = torch.stack(lags, 1).mean(1)
    found = search(video_part, audio_part, 15)
    assert found.distance == pytest.approx(float(mean.min()), abs=1e-4)
    assert found.confidence == pytest.approx(float(mean.median() - mean.min()), abs=1e-4)
    assert found.offset == 15 - int(mean.argmin())


@pytest.fixture(scope="module")
def face_detectors(reference):
    package = reference("syncnet_python.detectors.s3fd")
    state = random_state(s3fd.S3fd(), seed=2)
    # Random heads give few confident scores and boxes of absurd size; this gives tens of ordinary faces.
    for i in range(6):
        state[f"conf.{i}.weight"] *= 4 if i < 3 else 0.05
        state[f"conf.{i}.bias"][-1] += 3
        state[f"loc.{i}.weight"] *= 0.03
    network = reference("syncnet_python.detectors.s3fd.nets").S3FDNet(device="cpu")
    network.load_state_dict(state, strict=True)
    return s3fd.Detector(state), package.S3FD(network.eval(), device="cpu")


@pytest.mark.parametrize(("height", "width"), [(256, 256), (322, 410), (129, 700)])
def test_faces_equal_the_reference_detector(face_detectors, height, width):
    pytest.importorskip("cv2")
    ours, theirs = face_detectors
    frames = pictures(2, height, width, seed=height)
    found = ours(s3fd.quarter(frames), width, height)
    assert sum(map(len, found)) > 5
    for frame, faces in zip(frames, found, strict=True):
        expected = theirs.detect_faces(frame, conf_th=0.9, scales=[0.25])
        assert faces.shape == expected.shape
        assert np.abs(faces - expected).max() < 1e-3 * max(height, width)


@pytest.mark.parametrize("height,width", [(256, 256), (322, 410), (129, 703), (90, 91)])
def test_quarter_size_equals_opencv(height, width):
    cv2 = pytest.importorskip("cv2")
    frame = pictures(height, width)
    expected = cv2.resize(frame, dsize=(0, 0), fx=0.25, fy=0.25, interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(s3fd.quarter(frame[None])[0], expected)


def test_quarter_pictures_are_faithful_on_a_gradient():
    frame = np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    small = s3fd.quarter(frame[None])[0]
    assert np.array_equal(small[0, :, 0], np.arange(16) * 4 + 2)


@torch.inference_mode()
def test_i3d_equals_the_videogpt_port_whole_and_in_pieces(reference):
    module = reference("cdfvd.third_party.i3d.pytorch_i3d")
    state = random_state(i3d.I3d(), seed=3)
    theirs = module.InceptionI3d(400, in_channels=3)
    theirs.load_state_dict(state, strict=True)
    theirs.eval()
    ours = ready(i3d.I3d(pool_frames=2), state)
    for frames in (10, 17):
        clip = torch.rand(1, 3, frames, 224, 224, generator=torch.Generator().manual_seed(frames)) * 2 - 1
        expected = theirs(clip)
        for piece in (frames, 7):
            assert difference(ours(clip.split(piece, 2), frames), expected) < TOLERANCE


@pytest.mark.parametrize("trunk", ["alex", "vgg"])
def test_lpips_equals_the_package_with_its_own_heads(trunk, reference):
    package = reference("lpips")
    theirs = package.LPIPS(net=trunk, pnet_rand=True, verbose=False)
    prefix = theirs.net.state_dict()
    weights = lpips.state(
        {f"features.{k.partition('.')[2]}": v for k, v in prefix.items()},
        {f"lin{i}.model.1.weight": head.model[-1].weight for i, head in enumerate(theirs.lins)},
    )
    a, b = pictures(2, 96, 80, seed=1), pictures(2, 96, 80, seed=2)
    scaled = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (a, b)]
    with torch.inference_mode():
        expected = theirs(*scaled).flatten()
    ours = lpips.Distance(trunk, weights)
    assert difference(ours(a, b), expected) < TOLERANCE
    assert (ours(a, a) == 0).all()


def test_squash_equals_pillows_bicubic_on_float_channels():
    image = pytest.importorskip("PIL.Image")
    frame = pictures(150, 330)
    ours = video.squash(frame[None], 112)[0].numpy()
    for channel in range(3):
        picture = image.fromarray(frame[..., channel].astype(np.float32), mode="F")
        expected = np.asarray(picture.resize((112, 112), image.Resampling.BICUBIC))
        assert np.abs(ours[..., channel] - expected).max() < 5e-3


@torch.inference_mode()
def test_resnet_stages_equal_torchvisions_three_dimensional_bottlenecks(reference):
    """Torchvision has the blocks but not this stem; the stem is plain layers, put in front by hand."""
    resnet = reference("torchvision.models.video.resnet")
    state = random_state(resnet3d.ResNet3d(), seed=4)
    theirs = resnet.VideoResNet(resnet.Bottleneck, [resnet.Conv3DSimple] * 4, [3, 4, 6, 3], resnet.BasicStem)
    names = {
        "conv1": "conv1.0",
        "bn1": "conv1.1",
        "conv2": "conv2.0",
        "bn2": "conv2.1",
        "conv3": "conv3.0",
        "bn3": "conv3.1",
    }
    stages = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0].startswith("layer"):
            stages[".".join([*parts[:2], names.get(parts[2], parts[2]), *parts[3:]])] = value
    missing, unexpected = theirs.load_state_dict(stages, strict=False)
    assert not unexpected and {k.split(".")[0] for k in missing} == {"stem", "fc"}
    theirs.eval()
    segment = pictures(16, 112, 112)
    x = torch.from_numpy(segment).float() - torch.tensor(resnet3d.MEAN_RGB)
    x = torch.nn.functional.conv3d(x.permute(3, 0, 1, 2)[None], state["conv1.weight"], None, (1, 2, 2), 3)
    mean, variance, weight, bias = (state[f"bn1.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    x = torch.nn.functional.batch_norm(x, mean, variance, weight, bias).relu()
    x = torch.nn.functional.max_pool3d(x, 3, 2, 1)
    expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x)))).mean((2, 3, 4))
    assert difference(video.Segments(state)([segment]), expected) < TOLERANCE


@torch.inference_mode()
def test_a_long_clip_keeps_no_more_in_memory_than_a_short_one():
    network = ready(i3d.I3d(), random_state(i3d.I3d(), seed=3))
    held = []

    def pieces(count):
        generator = torch.Generator().manual_seed(0)
        for _ in range(count):
            yield torch.rand(1, 3, 16, 32, 32, generator=generator)
            kept = [getattr(m, name, None) for m in network.modules() for name in ("kept", "ahead")]
            held.append(sum(k.untyped_storage().nbytes() for k in kept if k is not None))

    network(pieces(12), 12 * 16)
    # The last piece completes everything and is followed by padding.
    assert max(held[6:11]) == max(held[2:6])
