"""Sync protocols on synthetic detections: which tracks count, bookkeeping, degenerate clips."""

from __future__ import annotations

import numpy as np
import pytest

from bench.core.spec import Reason, Unscored
from bench.metrics import sync
from bench.metrics.precision import Precision

FACE = (40, 40, 180, 190)


def speech(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3000, frames * 640).astype(np.int16)


def detections(frames: int, *tracks: tuple[int, int, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rows = [(i, (*box, 0.99)) for first, end, box in tracks for i in range(first, end)]
    rows.sort(key=lambda row: row[0])
    return {
        "frame": np.array([r[0] for r in rows], np.int32),
        "boxes": np.array([r[1] for r in rows], np.float32).reshape(-1, 5),
        "change": np.zeros(frames, np.float32),
    }


def found(**arrays) -> dict[str, np.ndarray]:
    """Features as `TrackSync` stores them, for two tracks of 150 and 120 frames."""
    features = {
        "frames": [150, 120],
        "confidence": [4.0, 6.0],
        "distance": [8.0, 7.0],
        "offset": [1, -3],
        "distance_at_zero": [9.0, 10.0],
        "windows": [145, 115],
        "at_border": [False, False],
    }
    return {k: np.array(arrays.get(k, v)) for k, v in features.items()}


def score(kind, clip_features, memory_clip, frames=300):
    clip = memory_clip(np.zeros((frames, 8, 8, 3), np.uint8), known={"syncnet_tracks": clip_features})
    return kind().score(clip, None)


def test_the_longest_track_counts(memory_clip):
    values = score(sync.LongestTrack, found(), memory_clip)
    assert (values["sync_c"], values["sync_d"], values["offset"], values["sync_d0"]) == (4.0, 8.0, 1.0, 9.0)
    assert (values["n_tracks"], values["n_windows"], values["unreliable"]) == (2, 145, 0)
    assert values["coverage"] == 0.5


def test_wav2lip_averages_all_tracks(memory_clip):
    values = score(sync.Wav2LipReal, found(), memory_clip)
    assert (values["sync_c"], values["sync_d"], values["n_tracks"]) == (5.0, 7.5, 2)


def test_the_two_agree_on_one_track(memory_clip):
    single = {k: v[:1] for k, v in found().items()}
    ours, theirs = (score(kind, single, memory_clip) for kind in (sync.LongestTrack, sync.Wav2LipReal))
    assert ours == theirs


def test_tracks_of_100_frames_only_count_in_short(memory_clip):
    features = {k: v[:1] for k, v in found(frames=[100, 0], windows=[95, 0]).items()}
    for frames, reason in ((100, Reason.TOO_SHORT), (300, Reason.NO_FACE)):
        with pytest.raises(Unscored, match="longest face track has 100 frames") as caught:
            score(sync.LongestTrack, features, memory_clip, frames)
        assert caught.value.reason is reason
    assert score(sync.Short, features, memory_clip)["sync_c"] == 4.0


@pytest.mark.parametrize("flag", [{"at_border": [True, False]}, {"windows": [49, 115]}])
def test_few_windows_or_a_lag_at_the_border_are_flagged_and_still_reported(flag, memory_clip):
    values = score(sync.LongestTrack, found(**flag), memory_clip)
    assert values["unreliable"] == 1 and values["sync_c"] == 4.0


def test_no_audio_silence_and_short_clips_have_reasons(memory_clip, noise):
    extractor = sync.TrackSync()
    frames = noise(60, 16)
    for audio, reason in ((None, Reason.NO_AUDIO), (np.zeros(60 * 640, np.int16), Reason.NO_SPEECH)):
        with pytest.raises(Unscored) as caught:
            extractor.extract(memory_clip(frames, audio))
        assert caught.value.reason is reason
    with pytest.raises(Unscored, match="50 frames") as caught:
        extractor.extract(memory_clip(frames[:50], speech(50)))
    assert caught.value.reason is Reason.TOO_SHORT
    nobody = memory_clip(frames, speech(60), known={"s3fd": detections(60)})
    with pytest.raises(Unscored) as caught:
        extractor.extract(nobody)
    assert caught.value.reason is Reason.NO_FACE


def test_tiny_frames_have_no_face_instead_of_an_error(memory_clip, noise):
    with pytest.raises(Unscored) as caught:
        sync.Faces().extract(memory_clip(noise(3, 64)))
    assert caught.value.reason is Reason.NO_FACE


def test_detection_covers_every_frame_in_any_chunking(weights_for, memory_clip, noise):
    weights_for("sfd_face")
    frames = noise(11, 128)
    frames[5:] = noise(6, 128, seed=9)
    arrays = sync.Faces().extract(memory_clip(frames))
    assert arrays["change"].shape == (11,) and arrays["change"][0] == 0 and (arrays["change"][1:] > 0).all()
    assert len(arrays["frame"]) == len(arrays["boxes"]) and (np.diff(arrays["frame"]) >= 0).all()


def test_tracks_are_cropped_and_searched_over_their_own_audio(weights_for, memory_clip, noise):
    from bench.metrics import face_tracks
    from bench.metrics.mfcc import mfcc
    from bench.metrics.sync_search import search

    weights_for("syncnet_v2", "sfd_face")
    frames, audio = noise(64, 200), speech(64)
    clip = memory_clip(frames, audio, known={"s3fd": detections(64, (4, 60, FACE))})
    arrays = sync.TrackSync().extract(clip)
    assert (arrays["first"][0], arrays["frames"][0], arrays["windows"][0]) == (4, 56, 51)
    # The same by hand, all at once.
    track = face_tracks.Track(4, np.tile(np.array(FACE, float), (56, 1)))
    path = face_tracks.smooth(track.boxes)
    crops = np.stack([face_tracks.crop(frames[4 + i], *path[i]) for i in range(56)])
    embedder = sync._embedder(Precision.FP32)
    expected = search(embedder.lips(crops)[:51], embedder.voice(mfcc(audio[4 * 640 : 60 * 640]), 51), sync.VSHIFT)
    assert arrays["curve"][0] == pytest.approx(expected.distances, rel=1e-6)
    assert arrays["confidence"][0] == pytest.approx(expected.confidence, abs=1e-5)
    assert arrays["offset"][0] == expected.offset


@pytest.mark.parametrize(
    ("frames", "samples", "windows"), [(12, 12 * 640, 7), (12, 9 * 640 + 639, 4), (6, 6 * 640, 1)]
)
def test_precropped_windows_follow_the_shorter_stream(frames, samples, windows, weights_for, memory_clip, noise):
    weights_for("syncnet_v2")
    clip = memory_clip(noise(frames, 64), speech(frames)[:samples])
    arrays = sync.FrameSync().extract(clip)
    assert arrays["windows"].tolist() == [windows]
    values = sync.Precropped().score(memory_clip(clip.pixels, known={"syncnet_frames": arrays}), None)
    assert values["unreliable"] == 1 and np.isfinite(values["sync_c"])


def test_five_frames_are_too_short_for_precropped(weights_for, memory_clip, noise):
    weights_for("syncnet_v2")
    with pytest.raises(Unscored) as caught:
        sync.FrameSync().extract(memory_clip(noise(5, 64), speech(5)))
    assert caught.value.reason is Reason.TOO_SHORT
