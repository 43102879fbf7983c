"""The pseudo-methods of `bench sensitivity`: ground truth with a known change, made and scored like any method.

Two sets. *Invisible* changes nobody should see or hear: codecs, resampling, one pixel. What they do to a number is
its noise floor. *Damage* ladders have five levels each, from hardly visible to gross: what they do to a number is
what it reacts to. A variant is a pure function of a clip, the sample's own seed included.

`bench.methods.variants:blur@3` loads the third level of a ladder, `bench.methods.variants:mp3_128` an invisible
change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from bench.core.keys import sample_seed
from bench.core.spec import Gate, MethodSpec, Reason, Sample, Unscored
from bench.methods.base import Video
from bench.methods.controls import reference_frames

if TYPE_CHECKING:
    from bench.methods.face_shape import LandmarkReader, Points, Readers

Frames = npt.NDArray[np.uint8]
Sound = npt.NDArray[np.int16]
RATE = 16_000


class Scene:
    """A clip on its way through a variant, and what a variant may ask about it; all of it read on first use.

    Attributes:
        frames: uint8 (n, height, width, 3).
        rng: the sample's own, the same for every variant.
    """

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.frames: Frames = np.stack(list(reference_frames(sample)))
        self.rng = np.random.default_rng(sample_seed(0, sample.dataset, sample.id, 0))

    @property
    def sound(self) -> Sound:
        """The sample's own sound, cut to the frames. Raises `Unscored` without one."""
        from bench.media.decode import read_audio

        samples = None if self.sample.audio is None else read_audio(self.sample.audio)
        if samples is None:
            raise Unscored(Reason.NO_AUDIO, f"{self.sample.id} has no sound")
        length = len(self.frames) * RATE // 25
        return np.pad(samples[:length], (0, max(0, length - len(samples))))

    @property
    def other_frames(self) -> Frames:
        """Another sample's pictures."""
        from bench.media.decode import chunks

        assert self.sample.video is not None
        return np.concatenate(list(chunks(self.sample.video)))

    @property
    def other_sound(self) -> Sound:
        """Another sample's sound, repeated to this one's length."""
        from bench.media.decode import read_audio

        assert self.sample.video is not None
        samples = read_audio(self.sample.video)
        if samples is None or not len(samples):
            raise Unscored(Reason.NO_AUDIO, f"the partner of {self.sample.id} has no sound")
        return np.resize(samples, len(self.frames) * RATE // 25)

    def face(self) -> tuple[LandmarkReader, Points]:
        """Return the reader and the landmarks (n, K, 2) of the frames, gaps bridged."""
        from bench.methods.face_shape import bridged

        reader = _readers().of(self.sample)
        key = (self.sample.dataset, self.sample.id, self.sample.digests.get("reference"), self.frames.shape)
        if key not in _TRACKS:
            while len(_TRACKS) >= _KEPT:
                _TRACKS.pop(next(iter(_TRACKS)))
            _TRACKS[key] = reader.read(self.frames)
        return reader, bridged(_TRACKS[key], self.sample)


_KEPT = 64
_TRACKS: dict[tuple[Any, ...], Points] = {}
"""Landmarks of the clips seen last: every level of three ladders asks for them, and reading them is what costs."""


@cache
def _readers() -> Readers:
    from bench.methods.face_shape import Readers

    return Readers()


Change = Callable[[Scene, float], Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One invisible change or one damage ladder.

    Attributes:
        id: as reports call it.
        touches: which stream it changes.
        group: what kind of change, e.g. `video codec`, `time`.
        change: from a scene and a level's value to new frames or new sound.
        values: one per level, in `unit`; a single one for an invisible change.
        unit: of the values.
        partner: it needs another sample.
        codec: encoder it needs, or empty.
        quick: part of `--quick`.
    """

    id: str
    touches: Literal["picture", "sound"]
    group: str
    change: Change
    values: tuple[float, ...] = (0.0,)
    unit: str = ""
    partner: bool = False
    codec: str = ""
    quick: bool = False

    @property
    def invisible(self) -> bool:
        """Whether nobody should notice it."""
        return len(self.values) == 1


def _pictures(name: str, *arguments: Any, rng: bool = False) -> Change:
    """A function of `variant_pictures` that takes the frames, the value, and maybe the generator."""

    def change(scene: Scene, value: float) -> Frames:
        from bench.methods import variant_pictures

        more = (scene.rng,) if rng else ()
        made: Frames = getattr(variant_pictures, name)(scene.frames, value, *more, *arguments)
        return made

    return change


def _recoded(codec: str, option: str, extra: Mapping[str, str], scene: Scene, value: float) -> Frames:
    from bench.media.reencode import pictures

    return pictures(scene.frames, codec, {option: f"{value:g}", **extra})


def _chroma(scene: Scene, value: float) -> Frames:
    from bench.media.reencode import chroma

    return chroma(scene.frames)


def _sound(codec: str, kilobits: int, scene: Scene, value: float) -> Sound:
    from bench.media.reencode import sound

    return sound(scene.sound, codec, 1000 * kilobits, 48_000)


def _gain(scene: Scene, value: float) -> Sound:
    return np.rint(scene.sound * 10 ** (value / 20)).astype(np.int16)


def _delayed(scene: Scene, milliseconds: float) -> Sound:
    """Late for positive, early for negative values."""
    samples, shift = scene.sound, round(milliseconds * RATE / 1000)
    return np.pad(samples, (max(shift, 0), max(-shift, 0)))[max(-shift, 0) :][: len(samples)]


def _noisy_sound(scene: Scene, decibels: float) -> Sound:
    """Add pink noise at a signal-to-noise ratio."""
    samples = scene.sound.astype(np.float64)
    spectrum = np.fft.rfft(scene.rng.standard_normal(len(samples)))
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(samples))
    scale = np.sqrt((samples**2).mean() / (pink**2).mean()) * 10 ** (-decibels / 20)
    return np.clip(np.rint(samples + scale * pink), -32768, 32767).astype(np.int16)


def _swapped_sound(scene: Scene, percent: float) -> Sound:
    samples, other = scene.sound.copy(), scene.other_sound
    start = round(len(samples) * (1 - percent / 100))
    samples[start:] = other[start : len(samples)]
    return samples


def _swapped_identity(scene: Scene, percent: float) -> Frames:
    from bench.methods.variant_pictures import switched

    return switched(scene.frames, scene.other_frames, percent / 100)


def _mouth_blur(scene: Scene, sigma: float) -> Frames:
    from bench.methods.variant_pictures import mouth_blurred

    reader, points = scene.face()
    lips = points[:, [*reader.shape.upper_outer, *reader.shape.lower_outer]]
    low, high = lips.min(axis=1), lips.max(axis=1)
    margin = 0.2 * (high - low)
    return mouth_blurred(scene.frames, sigma, np.concatenate([low - margin, high + margin], axis=1))


def _damped(part: str, scene: Scene, share: float) -> Frames:
    from bench.methods.variant_pictures import damped

    reader, points = scene.face()
    s = reader.shape
    lips = (*s.upper_outer, *s.upper_inner, *s.lower_inner, *s.lower_outer, s.chin)
    return damped(scene.frames, share, points, s, lips if part == "mouth" else ())


def _steadied(scene: Scene, share: float) -> Frames:
    from bench.methods.variant_pictures import steadied

    reader, points = scene.face()
    return steadied(scene.frames, share, points, reader.shape.rigid)


def _same(scene: Scene, value: float) -> Frames:
    return scene.frames


_BLUR = (0.5, 1.0, 2.0, 4.0, 8.0)
_NOISE = (2.0, 4.0, 8.0, 16.0, 32.0)
_AV1 = {"preset": "8"}
_VP9 = {"b": "0", "deadline": "good", "cpu-used": "4"}
_LATE = (40.0, 80.0, 120.0, 200.0, 400.0)

INVISIBLE: tuple[Family, ...] = (
    Family("rerun", "picture", "same again", _same, quick=True),
    Family("h264_crf18", "picture", "video codec", partial(_recoded, "libx264", "crf", {}), (18,), "crf",
           codec="libx264", quick=True),
    Family("h264_crf23", "picture", "video codec", partial(_recoded, "libx264", "crf", {}), (23,), "crf",
           codec="libx264"),
    Family("h265_crf20", "picture", "video codec", partial(_recoded, "libx265", "crf", {}), (20,), "crf",
           codec="libx265"),
    Family("h265_crf26", "picture", "video codec", partial(_recoded, "libx265", "crf", {}), (26,), "crf",
           codec="libx265", quick=True),
    Family("vp9_q31", "picture", "video codec", partial(_recoded, "libvpx-vp9", "crf", _VP9), (31,), "crf",
           codec="libvpx-vp9"),
    Family("av1_q30", "picture", "video codec", partial(_recoded, "libsvtav1", "crf", _AV1), (30,), "crf",
           codec="libsvtav1"),
    Family("shift_1px", "picture", "geometry", _pictures("shifted"), (1,), "px",
           quick=True),
    Family("scale_rt", "picture", "geometry", _pictures("rescaled"), (0.9,)),
    Family("crop_2pct", "picture", "geometry", _pictures("cropped"), (0.98,)),
    Family("gamma_1pct", "picture", "colour", _pictures("gamma"), (1.01,), quick=True),
    Family("chroma_rt", "picture", "colour", _chroma),
    Family("aac_128", "sound", "sound codec", partial(_sound, "aac", 128), codec="aac"),
    Family("aac_64", "sound", "sound codec", partial(_sound, "aac", 64), codec="aac", quick=True),
    Family("mp3_128", "sound", "sound codec", partial(_sound, "libmp3lame", 128), codec="libmp3lame", quick=True),
    Family("mp2_192", "sound", "sound codec", partial(_sound, "mp2", 192), codec="mp2"),
    Family("opus_64", "sound", "sound codec", partial(_sound, "libopus", 64), codec="libopus"),
    Family("resample_48k", "sound", "sound level", partial(_sound, "pcm_s16le", 0), codec="pcm_s16le"),
    Family("gain_3db", "sound", "sound level", _gain, (-3.0,), "dB", quick=True),
    Family("pcm_pad_5ms", "sound", "sound level", _delayed, (5.0,), "ms"),
)  # fmt: skip

DAMAGE: tuple[Family, ...] = (
    Family("blur", "picture", "picture", _pictures("blurred"), _BLUR, "px", quick=True),
    Family("noise", "picture", "picture", _pictures("noisy", rng=True), _NOISE, "/255", quick=True),
    Family("grain_static", "picture", "picture", _pictures("noisy", True, rng=True), _NOISE, "/255"),
    Family("h264_low", "picture", "codec", partial(_recoded, "libx264", "crf", {}), (28, 33, 38, 43, 48), "crf",
           codec="libx264", quick=True),
    Family("lowres", "picture", "picture", _pictures("rescaled"), (0.75, 0.5, 0.33, 0.25, 0.125), "×"),
    Family("mouth_blur", "picture", "mouth", _mouth_blur, _BLUR, "px", quick=True),
    Family("frame_drop", "picture", "time", lambda s, v: _pictures("dropped", rng=True)(s, v / 100),
           (2, 5, 10, 20, 40), "%"),
    Family("freeze", "picture", "motion", lambda s, v: _pictures("frozen")(s, v / 100), (90, 75, 50, 25, 0),
           "% moving", quick=True),
    Family("shuffle", "picture", "time", lambda s, v: _pictures("shuffled", rng=True)(s, int(v)),
           (2, 4, 8, 16, 32), "frames", quick=True),
    Family("jitter", "picture", "stability", _pictures("jittered", rng=True), (0.25, 0.5, 1.0, 2.0, 4.0), "px",
           quick=True),
    Family("flicker", "picture", "flicker", _pictures("flickering", rng=True), (0.5, 1.0, 2.0, 4.0, 8.0), "%",
           quick=True),
    Family("mouth_damp", "picture", "articulation", partial(_damped, "mouth"), (0.2, 0.4, 0.6, 0.8, 1.0), "×"),
    Family("expr_damp", "picture", "expression", partial(_damped, "all"), (0.2, 0.4, 0.6, 0.8, 1.0), "×",
           quick=True),
    Family("head_damp", "picture", "pose", _steadied, (0.25, 0.5, 0.75, 0.9, 1.0), "×", quick=True),
    Family("identity_swap", "picture", "identity", _swapped_identity, (10, 25, 50, 75, 100), "%", partner=True),
    Family("colour_drift", "picture", "drift", _pictures("reddened"), (2, 4, 8, 16, 32), "%"),
    Family("speed", "picture", "motion", _pictures("faster"), (1.02, 1.05, 1.1, 1.2, 1.4), "×"),
    Family("audio_late", "sound", "sync", _delayed, _LATE, "ms", quick=True),
    Family("audio_early", "sound", "sync", lambda s, v: _delayed(s, -v), _LATE, "ms", quick=True),
    Family("audio_noise", "sound", "sound", _noisy_sound, (30, 20, 10, 5, 0), "dB"),
    Family("audio_swap", "sound", "sync", _swapped_sound, (10, 25, 50, 75, 100), "%", partner=True, quick=True),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {family.id: family for family in (*INVISIBLE, *DAMAGE)}


class Variant:
    """One level of one family as a control row.

    Args:
        family: what is changed.
        level: 1 is the first value.
    """

    code_modules = (__name__, "bench.methods.variant_pictures", "bench.media.reencode")

    def __init__(self, family: Family, level: int) -> None:
        value = family.values[level - 1]
        settings: dict[str, Any] = {
            "variant": "invisible" if family.invisible else "damage",
            "family": family.id,
            "group": family.group,
            "touches": family.touches,
            "level": 0 if family.invisible else level,
            "value": value,
            "unit": family.unit,
        }
        if family.partner:
            settings["video_from"] = "partner"
        self.spec = MethodSpec(
            name=family.id if family.invisible else f"{family.id}@{level}",
            version="1",
            gates=("none",),
            kind="control",
            settings=settings,
            seconds_per_frame=0.05,
            summary=f"the real video, {family.id} {value:g} {family.unit}".strip(),
            seeded=False,
            default=False,
        )
        self._change = partial(family.change)
        self._value = value
        self._picture = family.touches == "picture"

    def generate(self, sample: Sample, gate: Gate, seed: int) -> Video:
        """Return the changed clip; see `bench.methods.base.Method.generate`."""
        scene = Scene(sample)
        made = self._change(scene, self._value)
        return Video(made) if self._picture else Video(scene.frames, audio=made)


def target(family: Family, level: int) -> str:
    """Return what `bench.catalogue.find_method` finds a variant by."""
    return f"{__name__}:{family.id}" + ("" if family.invisible else f"@{level}")


def __getattr__(name: str) -> Variant:
    """Build the variant that a target names."""
    family, _, level = name.partition("@")
    if family not in FAMILIES or (level and not level.isdigit()):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = FAMILIES[family]
    number = int(level or 1)
    if not 1 <= number <= len(found.values):
        raise AttributeError(f"{family} has levels 1 to {len(found.values)}, not {number}")
    return Variant(found, number)
