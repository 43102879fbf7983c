import numpy as np
import pytest

from bench.metrics.mfcc import mfcc, n_columns

GOLDEN = [17.7688, 21.7853, 12.5557, 6.5914, 0.5615, -6.426, -12.4811, -18.4851, -22.5771, -24.7395, -23.965]
GOLDEN += [-21.665, -17.7788]


def sine(seconds: float = 1.0, amplitude: float = 8000) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 220 * np.arange(int(16_000 * seconds)) / 16_000)).astype(np.int16)


def test_golden_row_of_a_220_hz_sine():
    assert mfcc(sine())[10] == pytest.approx(GOLDEN, abs=6e-5)


def test_digital_silence():
    cepstra = mfcc(np.zeros(3200, np.int16))
    assert cepstra[:, 0] == pytest.approx(-36.04365339, abs=1e-8)
    assert np.abs(cepstra[:, 1:]).max() < 1e-9


@pytest.mark.parametrize(("frames", "columns"), [(5, 19), (6, 23), (25, 99), (100, 399)])
def test_four_columns_per_video_frame_less_one(frames, columns):
    assert n_columns(640 * frames) == columns
    assert mfcc(np.ones(640 * frames, np.int16)).shape == (columns, 13)


@pytest.mark.parametrize("n", [1, 2, 100, 399, 400, 401, 560, 561, 16_000, 50_123])
def test_equals_python_speech_features(n):
    reference = pytest.importorskip("python_speech_features")
    audio = np.random.default_rng(n).normal(0, 3000, n).clip(-32768, 32767).astype(np.int16)
    assert np.abs(mfcc(audio) - reference.mfcc(audio, 16_000)).max() < 1e-9


def test_amplitude_moves_only_the_first_coefficient():
    quiet, loud = mfcc(sine(amplitude=2000) // 4 * 4), mfcc(sine(amplitude=2000) // 4 * 4 * 3)
    assert np.abs(loud[:, 1:] - quiet[:, 1:]).max() < 1e-9
    assert loud[:, 0] - quiet[:, 0] == pytest.approx(np.log(9))


def test_scaled_samples_are_refused():
    with pytest.raises(TypeError, match="int16"):
        mfcc(sine() / 32768)


@pytest.mark.parametrize("shape", [(0,), (100, 2)])
def test_shape_is_checked(shape):
    with pytest.raises(ValueError, match="mono"):
        mfcc(np.zeros(shape, np.int16))
