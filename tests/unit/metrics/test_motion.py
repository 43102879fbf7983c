"""Motion and articulation: formulas against independent ones, freedom of scale and rate, degenerate input."""

import sys
import types

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.stats import spearmanr

from bench.catalogue import extractors
from bench.core.spec import Reason, Unscored
from bench.media.clip import Clip
from bench.media.decode import chunks
from bench.media.encode import write_clip
from bench.media.faces import MOUTH, NOSE
from bench.media.scale import Fit
from bench.metrics import speech
from bench.metrics.articulation import LipStability, Loudness, VoiceStability
from bench.metrics.closeness import MotionCloseness, closeness
from bench.metrics.dynamics import BrowDynamics, HeadDynamics, LipDynamics
from bench.metrics.face_motion import INNER_LOWER, INNER_UPPER

TONE = (3277 * np.sqrt(2) * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.int16)  # -20 dB
SILENCE = np.zeros(16000, np.int16)


def heard(clip, audio):
    clip.audio = lambda: audio
    return clip


def reason_of(call):
    with pytest.raises(Unscored) as caught:
        call()
    return caught.value.reason


def open_mouth(face, gaps):
    """Put the inner lips so many E (100 px) apart."""
    for frame, gap in enumerate(gaps):
        face.landmarks[frame, INNER_LOWER] = face.landmarks[frame, INNER_UPPER] + [0, 100 * gap, 0]
    return face


def test_tone_silence_tone_is_split_on_whole_frames():
    split = speech.split(np.concatenate([TONE, SILENCE, TONE]), 75)
    assert np.flatnonzero(split.silence).tolist() == list(range(25, 50))
    assert np.flatnonzero(split.speech).tolist() == [*range(25), *range(50, 75)]
    assert split.level[3] == pytest.approx(-20, abs=0.1)


def test_short_gaps_belong_to_speech_and_clicks_do_not():
    audio = np.concatenate([TONE, SILENCE, TONE])
    audio[640 * 10 : 640 * 12] = 0  # 80 ms
    audio[640 * 35 : 640 * 37] = TONE[:1280]  # a click
    split = speech.split(audio, 75)
    assert split.speech[:25].all() and not split.speech[25:50].any()


def test_steady_sound_has_no_silence():
    assert not speech.split(np.tile(TONE, 3), 75).silence.any()


def test_still_face_has_no_dynamics(make_face):
    clip = make_face(40).clip()
    for metric in (LipDynamics, BrowDynamics, HeadDynamics):
        values = metric().score(clip, None)
        still = {k: v for k, v in values.items() if k not in ("n_frames", "coverage", "brows_asymmetry")}
        assert all(v == pytest.approx(0, abs=1e-5) for v in still.values()), still


def test_lip_dynamics_is_the_mean_deviation_of_780_distances(make_face):
    face = make_face(30)
    face.landmarks[:, list(MOUTH)] += np.random.default_rng(1).normal(0, 3, (30, 40, 3)).astype(np.float32)
    lips = face.landmarks[:, list(MOUTH)].astype(float) / 100
    distances = [np.linalg.norm(lips[:, i] - lips[:, j], axis=1).std(ddof=1) for i in range(40) for j in range(i)]
    assert len(distances) == 780
    assert LipDynamics().score(face.clip(), None)["lips_std"] == pytest.approx(np.mean(distances), rel=1e-4)


def test_turning_and_shifting_at_a_known_rate(make_face):
    face = make_face(50)
    face.turn([(0.4 * t, 0, 0) for t in range(50)])  # 10 degrees per second
    face.landmarks[:, list(NOSE), 0] += 2 * np.arange(50)[:, None]  # 50 px, half an E, per second
    values = HeadDynamics().score(face.clip(), None)
    assert values["head_turn_speed"] == pytest.approx(10, rel=1e-3)
    assert values["head_turn"] == pytest.approx(np.sqrt(np.var(0.4 * np.arange(50)) / 3), rel=1e-3)
    assert values["head_shift_speed"] == pytest.approx(0.5, rel=1e-3)
    assert values["head_shift"] == pytest.approx(np.std(0.02 * np.arange(50)), rel=1e-3)


def test_turns_are_measured_on_the_sphere(make_face):
    face = make_face(30)
    path = Rotation.from_euler("YXZ", np.random.default_rng(0).normal(0, 10, (30, 3)), degrees=True)
    face.turn(path.as_euler("YXZ", degrees=True))
    angles = np.degrees((path[:-1].inv() * path[1:]).magnitude())
    assert HeadDynamics().score(face.clip(), None)["head_turn_speed"] == pytest.approx(
        angles.mean() * 25, rel=1e-4
    )


def test_no_step_is_taken_across_a_gap(make_face):
    face = make_face(40)
    face.landmarks[20:, list(NOSE), 0] += 50
    face.lose(20)
    face.landmarks[20] = np.nan
    assert HeadDynamics().score(face.clip(), None)["head_shift_speed"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("metric", [LipDynamics, BrowDynamics, HeadDynamics])
def test_dynamics_know_neither_size_nor_frame_rate(make_face, metric):
    rng = np.random.default_rng(3)
    waves = rng.normal(0, 3, (478, 3, 3))

    def face(scale, native):
        at = np.arange(250)
        seconds = np.floor(at / 25 * native + 1e-9) / native  # the last native frame at or before each instant
        made = make_face(250, size=(256 * scale, 256 * scale))
        motion = sum(waves[..., k] * np.sin((1 + k) * seconds)[:, None, None] for k in range(3))
        made.landmarks = ((made.landmarks + motion) * scale).astype(np.float32)
        made.turn([(9 * np.sin(s), 5 * np.sin(2 * s), 3 * np.cos(s)) for s in seconds])
        return metric().score(made.clip(), None)

    base, large, fast = face(1, 25), face(2, 25), face(1, 30)
    for key in base:
        assert large[key] == pytest.approx(base[key], rel=1e-4)
        assert fast[key] == pytest.approx(base[key], rel=0.03)


def test_dynamics_of_a_smaller_copy_of_a_real_clip_are_the_same(shared, tmp_path, monkeypatch):
    pytest.importorskip("mediapipe")
    monkeypatch.setenv("BENCH_WEIGHTS", str(shared / "weights"))
    source = shared / "media" / "talking" / "hdtf_katiehill_512_25fps.mp4"
    frames, half = next(chunks(source, size=40)), Fit(256, 256)
    write_clip(tmp_path / "large.mp4", frames, lossless=True)
    write_clip(tmp_path / "small.mp4", map(half, frames), lossless=True)
    large, small = (Clip(tmp_path / f"{name}.mp4", extractors=extractors()) for name in ("large", "small"))
    for metric in (LipDynamics(), HeadDynamics()):  # brow speed is noise at 256 pixels
        assert metric.score(small, None) == pytest.approx(metric.score(large, None), rel=0.03)


def test_lips_in_silence_use_deviation_from_the_median(make_face):
    gaps = np.full(75, 0.3)
    gaps[25:50] = np.where(np.arange(25) % 4 == 3, 0.3, 0.1)
    clip = heard(open_mouth(make_face(75), gaps).clip(), np.concatenate([TONE, SILENCE, TONE]))
    values = LipStability().score(clip, None)
    assert values["lips_mad"] == pytest.approx(0, abs=1e-6)  # about the mean it would be 0.04
    assert values["lips_p90"] == pytest.approx(0.3, rel=1e-4)
    assert values["silent_seconds"] == 1.0


def talking(make_face, lag=0, seed=0):
    """A mouth that opens with the sound, whose sound comes so many frames early."""
    rng = np.random.default_rng(seed)
    loud = np.clip(np.convolve(rng.random(150), np.ones(4) / 4, "same"), 0.1, None)
    carrier = np.sin(2 * np.pi * 300 * np.arange(150 * 640) / 16000)
    audio = (np.repeat(np.roll(loud, -lag), 640) * carrier * 9000).astype(np.int16)
    return heard(open_mouth(make_face(150), 0.05 + 0.2 * loud).clip(), audio)


@pytest.mark.parametrize("lag", [-3, -1, 0, 2])
def test_lag_follows_the_sound(make_face, lag):
    values = Loudness().score(talking(make_face, lag), None)
    assert values["lag"] == lag
    assert values["rho"] > 0.97
    assert (values["rho_0"] == values["rho"]) == (lag == 0)


def test_correlation_is_spearmans(make_face):
    clip = talking(make_face, seed=5)
    found = Loudness().score(clip, None)
    from bench.metrics.face_motion import from_faces, smoothed

    split = speech.split(clip.audio(), 150)
    x, y = smoothed(from_faces(clip).opening, 1.0), smoothed(split.level, 1.0)
    assert found["rho_0"] == pytest.approx(spearmanr(x[split.speech], y[split.speech]).statistic, abs=1e-9)


def test_shut_mouth_scores_zero_and_is_flagged(make_face):
    clip = heard(make_face(75).clip(), np.tile(TONE, 3))
    values = Loudness().score(clip, None)
    assert values["rho"] == 0 and values["frozen_mouth"] == 1


def test_a_network_says_where_voices_are(make_face, monkeypatch):
    """What silero-vad returns becomes frames: half of one is enough, a pause counts from 0.3 s."""
    voices = [{"start": 0, "end": 24 * 640 + 319}, {"start": 32 * 640 + 320, "end": 75 * 640}]
    package = types.ModuleType("silero_vad")
    package.load_silero_vad = lambda: "network"
    package.get_speech_timestamps = lambda waves, network, sampling_rate: (
        voices if (network, sampling_rate, waves.abs().max() <= 1) == ("network", 16000, True) else None
    )
    monkeypatch.setitem(sys.modules, "silero_vad", package)
    speech._silero.cache_clear()
    monkeypatch.setattr(speech.util, "find_spec", lambda _: None)
    assert reason_of(VoiceStability().require) == Reason.MISSING_PACKAGE
    monkeypatch.setattr(speech.util, "find_spec", sys.modules.get)
    VoiceStability().require()
    found = speech.Silero().split(np.tile(TONE, 3), 75)
    assert np.flatnonzero(~found.speech).tolist() == list(range(24, 32))
    assert np.array_equal(found.silence, ~found.speech)  # 8 frames are 0.32 s
    gaps = np.where((np.arange(75) >= 24) & (np.arange(75) < 32), 0.1, 0.3)
    clip = heard(open_mouth(make_face(75), gaps).clip(), np.tile(TONE, 3))
    values = VoiceStability().score(clip, None)  # the steady tone has no pause by loudness
    assert values["lips_p90"] == pytest.approx(0.1, rel=1e-4) and values["silent_seconds"] == pytest.approx(0.32)
    voices[1]["start"] = 31 * 640
    assert not speech.Silero().split(np.tile(TONE, 3), 75).silence.any()
    speech._silero.cache_clear()


def test_a_tone_is_loud_but_no_voice():
    pytest.importorskip("silero_vad")
    speech._silero.cache_clear()
    found = speech.Silero().split(np.tile(TONE, 3), 75)
    assert not found.speech.any() and found.silence.all()


def test_what_cannot_be_measured_says_why(make_face):
    mute, quiet = make_face(75).clip(), heard(make_face(75).clip(), np.zeros(48000, np.int16))
    steady = heard(make_face(75).clip(), np.tile(TONE, 3))
    assert reason_of(lambda: Loudness().score(mute, None)) == Reason.NO_AUDIO
    assert reason_of(lambda: Loudness().score(quiet, None)) == Reason.NO_SPEECH
    assert reason_of(lambda: LipStability().score(steady, None)) == Reason.NO_SILENCE
    assert reason_of(lambda: LipDynamics().score(make_face(24).clip(), None)) == Reason.TOO_SHORT


def test_closeness_is_bounded_and_symmetric():
    assert closeness(3.0, 3.0) == 1
    assert closeness(1.5, 3.0) == closeness(6.0, 3.0) == 0.5
    assert closeness(0.0, 3.0) == 0 and closeness(0.0, 3.0, 1.0) == 0.25
    assert np.isnan(closeness(0.0, 0.0))


def test_half_the_motion_is_half_as_close(make_face):
    def moving(share):
        face = make_face(60)
        wave = np.sin(np.arange(60) / 4)[:, None]
        face.landmarks[:, list(MOUTH), 1] += share * 20 * wave * np.linspace(-1, 1, len(MOUTH))
        face.turn(share * 10 * wave * [1, 0.5, 0.2])
        return face.clip()

    full, half = moving(1.0), moving(0.5)
    same = MotionCloseness().score(full, full)
    assert same["closeness"] == same["lips"] == same["turn"] == 1
    values = MotionCloseness().score(half, full)
    assert values["turn"] == pytest.approx(0.5, abs=0.02) and values["lips"] == pytest.approx(0.5, abs=0.06)
    assert values == pytest.approx(MotionCloseness().score(full, half))
    assert reason_of(lambda: MotionCloseness().score(full, None)) == Reason.NO_REFERENCE
