"""The classical methods, on drawn faces whose landmarks are known exactly and on a real portrait."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench import weights
from bench.core.spec import AUDIO, AUDIO_VISUAL, VISUAL, Sample, Unscored
from bench.media.decode import chunks, read_audio, read_image
from bench.media.encode import write_clip, write_image, write_wav
from bench.methods.articulation import articulate
from bench.methods.face_shape import RealFaces, as_points, bridged, similarity
from bench.methods.landmark_warp import LandmarkWarp
from bench.methods.mouth_warp import MouthWarp
from bench.methods.warp import FaceWarp
from bench.synthetic.clip import make_clip
from bench.synthetic.geometry import LANDMARKS

RATE = 16000
AT = {name: index for index, name in enumerate(LANDMARKS)}


def vowel(first: float, second: float, seconds: float, pitch: float = 120.0) -> np.ndarray:
    """A buzz shaped by two resonances."""
    t = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros_like(t)
    for harmonic in range(1, 40):
        f = harmonic * pitch
        gain = sum(1 / (1 + ((f - formant) / width) ** 2) for formant, width in ((first, 80), (second, 120)))
        sound += gain / harmonic**0.5 * np.sin(2 * np.pi * f * t)
    return sound / np.abs(sound).max() * 0.5


def pcm(*parts: np.ndarray) -> np.ndarray:
    return (np.concatenate(parts) * 32767 * 0.6).astype(np.int16)


class TestArticulation:
    silence = np.zeros(RATE // 2)
    speech = pcm(
        silence, vowel(750, 1200, 0.5), silence, vowel(290, 2250, 0.5), silence, vowel(330, 900, 0.5), silence
    )

    def mean(self, values, part):
        return float(values[round((part * 0.5 + 0.12) * 25) : round((part * 0.5 + 0.38) * 25)].mean())

    def test_mouth_is_closed_in_silence_and_wide_for_open_vowels(self):
        opening = articulate(self.speech, 87).opening
        rest, ah, ee = self.mean(opening, 2), self.mean(opening, 1), self.mean(opening, 3)
        assert rest < 0.05
        assert ah > 0.6
        assert rest + 0.05 < ee < ah - 0.3

    def test_front_vowels_spread_and_back_vowels_round_the_lips(self):
        spread = articulate(self.speech, 87).spread
        assert self.mean(spread, 3) > 0.3
        assert self.mean(spread, 5) < -0.3

    def test_hiss_is_said_with_a_nearly_closed_mouth(self):
        noise = np.random.default_rng(0).normal(size=RATE // 2)
        high = np.diff(noise, n=3, prepend=[0, 0, 0]) * 0.05
        opening = articulate(pcm(self.silence, vowel(700, 1200, 0.5), high, self.silence), 50).opening
        assert self.mean(opening, 2) < 0.35 * self.mean(opening, 1)

    @pytest.mark.parametrize("length", [0, 100, 16000, 50000])
    def test_any_length_gives_as_many_frames_as_asked_for_in_range(self, length):
        audio = np.random.default_rng(0).integers(-9000, 9000, length).astype(np.int16)
        speech = articulate(audio, 25)
        assert speech.opening.shape == speech.spread.shape == (25,)
        assert (speech.opening >= 0).all() and (speech.opening <= 1).all()
        assert (np.abs(speech.spread) <= 1).all()

    def test_loudness_of_the_recording_does_not_matter(self):
        quiet = (self.speech * 0.1).astype(np.int16)
        assert articulate(quiet, 87).opening == pytest.approx(articulate(self.speech, 87).opening, abs=0.05)

    def test_follows_the_mouths_of_the_synthetic_world(self):
        found = []
        for index in range(4):
            clip = make_clip("validation", index)
            found.append(np.corrcoef(articulate(clip.audio, 75).opening, clip.expression[:, 0])[0, 1])
        assert np.mean(found) > 0.6


def texture(size: int = 96) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size] / size
    waves = [np.sin(12 * x + 3 * y), np.sin(9 * y - 4 * x), np.sin(7 * (x + y))]
    return np.rint(127 + 100 * np.stack(waves, -1)).astype(np.uint8)


class Drawn:
    """A synthetic face with its exact landmarks instead of the reader's."""

    def __init__(self) -> None:
        from bench.methods.face_shape import SyntheticFaces

        self.clip = make_clip("validation", 3)
        self.shape = SyntheticFaces().shape
        self.landmarks = self.clip.truth()["landmarks"].astype(np.float64)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


class TestFaceWarp:
    def test_no_displacement_is_the_picture_itself(self, drawn):
        picture = drawn.clip.frames[0]
        warp = FaceWarp(picture, drawn.shape, drawn.landmarks[0])
        (frame,) = warp.frames(np.zeros((1, 43, 2)))
        assert np.array_equal(frame, picture)

    @pytest.mark.parametrize("size", [64, 96, 250, 513])
    def test_landmarks_go_where_they_are_sent(self, drawn, size):
        """A dot painted on each of a few landmarks is found again at its displaced place."""
        points = (drawn.landmarks[0] + 0.5) * size / 64 - 0.5
        rng = np.random.default_rng(1)
        smooth = as_points(0.05 * (points[:, 0] + 1j * points[:, 1]) * np.exp(0.4j)) - 0.05 * points.mean(0)
        for name in ("nose_tip", "mouth_corner_left", "eye_right_outer", "outline_4"):
            y, x = np.mgrid[0:size, 0:size]
            spot = np.exp(-((x - points[AT[name], 0]) ** 2 + (y - points[AT[name], 1]) ** 2) / (size / 24) ** 2)
            picture = np.repeat(np.rint(255 * spot)[..., None], 3, axis=2).astype(np.uint8)
            moves = smooth[None] + rng.normal(0, 0.002 * size, (1, 1, 2))
            (frame,) = FaceWarp(picture, drawn.shape, points).frames(moves)
            mass = frame[..., 0].astype(float)
            centre = np.array([(mass * x).sum(), (mass * y).sum()]) / mass.sum()
            assert centre == pytest.approx(points[AT[name]] + moves[0, AT[name]], abs=0.012 * size)

    def test_frames_do_not_depend_on_their_neighbours(self, drawn):
        moves = drawn.landmarks[:20] - drawn.landmarks[0]
        warp = FaceWarp(drawn.clip.frames[0], drawn.shape, drawn.landmarks[0])
        together = list(warp.frames(moves))
        for index in (3, 11, 19):
            (alone,) = warp.frames(moves[index : index + 1])
            assert np.array_equal(alone, together[index])

    def test_reproduces_the_motion_of_the_driving_face(self, drawn):
        """Warping the first frame by the true landmarks comes closer to the true frames than standing still."""
        truth = drawn.clip.frames.astype(float)
        moves = drawn.landmarks - drawn.landmarks[0]
        outline = list(drawn.shape.outline)
        head = similarity(drawn.landmarks[0][outline], drawn.landmarks[:, outline])
        warped = np.stack(
            list(FaceWarp(drawn.clip.frames[0], drawn.shape, drawn.landmarks[0]).frames(moves, head))
        )
        moved = ((warped - truth) ** 2).mean()
        still = ((truth[:1] - truth) ** 2).mean()
        assert moved < 0.75 * still

    def test_wild_displacements_neither_fail_nor_leave_holes(self, drawn):
        moves = np.random.default_rng(0).normal(0, 15, (3, 43, 2))
        picture = np.full((64, 64, 3), 120, np.uint8)
        for frame in FaceWarp(picture, drawn.shape, drawn.landmarks[0]).frames(moves):
            assert (frame == 120).all()


def test_similarity_is_recovered_exactly():
    source = np.random.default_rng(0).normal(size=(12, 2))
    turn, shift = 1.3 * np.exp(0.4j), 5 - 2j
    z = turn * (source[:, 0] + 1j * source[:, 1]) + shift
    a, b = similarity(source, as_points(np.stack([z, 2 * z])))
    assert a == pytest.approx([turn, 2 * turn])
    assert b == pytest.approx([shift, 2 * shift])


class TestBridging:
    sample = Sample("d", "s", "x", "x", Path("i"), None, None, None, 5)

    def test_gaps_are_bridged_in_a_straight_line(self):
        track = np.arange(5.0)[:, None, None] * np.ones((5, 3, 2))
        holed = track.copy()
        holed[[1, 4]] = np.nan
        filled = bridged(holed, self.sample)
        assert filled[1] == pytest.approx(track[1])
        assert filled[4] == pytest.approx(track[3])

    def test_too_few_faces_are_refused(self):
        track = np.full((5, 3, 2), np.nan)
        track[0] = 1
        with pytest.raises(Unscored, match="1 of 5 driving frames"):
            bridged(track, self.sample)


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory) -> Sample:
    """A sample of the synthetic world as the planner hands it to a method, without ground truth."""
    from bench.synthetic import embedded

    for name in ("frame", "face"):
        try:
            embedded.load(name)
        except Unscored as missing:
            pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("synthetic")
    clip = make_clip("validation", 5)
    write_clip(folder / "clip.mp4", clip.frames, audio=clip.audio)
    write_image(folder / "image.png", clip.frames[0])
    write_wav(folder / "audio.wav", clip.audio)
    return Sample(
        "synthetic", "val", "x", "x", folder / "image.png", folder / "audio.wav", folder / "clip.mp4", None, 75
    )


def made(method, sample, gate) -> np.ndarray:
    shown = dataclasses.replace(
        sample, audio=sample.audio if gate.audio else None, video=sample.video if gate.visual else None
    )
    return np.stack(list(method.generate(shown, gate, 0).frames))


class TestOnSyntheticFaces:
    def test_mouth_warp_moves_the_mouth_and_only_the_mouth(self, synthetic):
        frames = made(MouthWarp(), synthetic, AUDIO).astype(int)
        assert frames.shape == (75, 64, 64, 3)
        change = np.abs(frames - read_image(synthetic.image)).max(axis=(0, 3))
        clip = make_clip("validation", 5)
        box = clip.truth()["mouth_box"][0]
        x, y = round((box[0] + box[2]) / 2), round((box[1] + box[3]) / 2)
        assert change[y - 3 : y + 4, x - 3 : x + 4].max() > 25
        assert change[:20].max() <= 2, "forehead and hair stand still"

    def test_mouth_stands_still_without_sound(self, synthetic, tmp_path):
        write_wav(tmp_path / "silence.wav", np.zeros(75 * 640, np.int16))
        frames = made(MouthWarp(), dataclasses.replace(synthetic, audio=tmp_path / "silence.wav"), AUDIO)
        assert (frames == frames[0]).all()

    def test_landmark_warp_begins_with_the_reference_and_then_moves(self, synthetic):
        frames = made(LandmarkWarp(), synthetic, VISUAL)
        assert np.abs(frames[0].astype(int) - read_image(synthetic.image)).mean() < 2
        assert np.abs(np.diff(frames.astype(int), axis=0)).mean() > 0.2

    def test_speech_drives_the_mouth_under_both_gates(self, synthetic):
        visual = made(LandmarkWarp(), synthetic, VISUAL).astype(int)
        both = made(LandmarkWarp(), synthetic, AUDIO_VISUAL).astype(int)
        difference = np.abs(visual - both).max(axis=(0, 3))
        assert difference[30:].max() > 25
        assert difference[:18].mean() < 0.2 * difference[30:].mean()

    def test_same_inputs_same_frames(self, synthetic):
        one, two = (made(LandmarkWarp(), synthetic, AUDIO_VISUAL) for _ in range(2))
        assert np.array_equal(one, two)

    @pytest.mark.parametrize(("method", "gate"), [(MouthWarp, AUDIO), (LandmarkWarp, AUDIO_VISUAL)])
    def test_missing_speech_is_explained(self, synthetic, method, gate):
        with pytest.raises(Unscored, match="no driving speech"):
            method().generate(dataclasses.replace(synthetic, audio=None), gate, 0)


@pytest.fixture(scope="module")
def portrait(shared) -> Sample:
    pytest.importorskip("mediapipe")
    weights.use_folder(shared / "weights")
    image = shared / "media" / "portraits" / "anitalker_aiface4.png"
    audio = shared / "media" / "speech" / "anitalker_english_female.wav"
    video = shared / "media" / "talking" / "megactor_entf2_512_25fps_mp3audio.mp4"
    return Sample("folder", "s", "x", "x", image, audio, video, None, 20)


class TestOnRealFaces:
    def opening(self, frames):
        points = RealFaces().read(frames)
        return np.linalg.norm(points[:, 13] - points[:, 14], axis=1)

    def test_mouth_opens_as_far_as_the_speech_says(self, portrait):
        sample = dataclasses.replace(portrait, frames=50)
        frames = made(MouthWarp(), sample, AUDIO)[::3]
        wanted = articulate(read_audio(sample.audio), 50).opening[::3]
        assert np.corrcoef(self.opening(frames), wanted)[0, 1] > 0.85

    def test_face_follows_the_driving_face(self, portrait):
        sample = dataclasses.replace(portrait, frames=40)
        reader = RealFaces()
        made_points = reader.read(made(LandmarkWarp(), sample, VISUAL)[::3])
        driving = reader.read(np.concatenate(list(chunks(sample.video)))[:40:3])
        scale, _ = similarity(driving[0], made_points[0])
        wanted = scale.real * (driving - driving[0])
        found = made_points - made_points[0]
        assert np.abs(wanted).max() > 4, "the driving face hardly moves"
        assert np.corrcoef(wanted.ravel(), found.ravel())[0, 1] > 0.8

    def test_picture_without_a_face_is_explained(self, portrait, tmp_path):
        write_image(tmp_path / "wall.png", texture())
        with pytest.raises(Unscored, match="no face in the reference picture of x"):
            MouthWarp().generate(dataclasses.replace(portrait, image=tmp_path / "wall.png"), AUDIO, 0)
