"""Facial expression and head motion that go with a sentence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.synthetic.parameters import Floats
from bench.synthetic.speech import CONTROL, Speech

FPS = 25


def perform(
    frames: int,
    speech: Speech,
    rng: np.random.Generator,
    pose_amplitude: float = 1.0,
    expression_amplitude: float = 1.0,
) -> tuple[Floats, Floats]:
    """Make up a performance of a sentence.

    The mouth follows the speech (sampled at frame centres), brows and head follow its accents a little;
    smile, furrow, blinks, gaze and the rest of the pose are independent random processes.

    Args:
        frames: number of frames at 25 fps.
        speech: the sentence; at least as long as the frames.
        rng: source of randomness.
        pose_amplitude: scales head motion and position; 0 = still and centred.
        expression_amplitude: scales smile, brow and furrow.

    Returns:
        expression (frames, 10) and pose (frames, 6), see `parameters`.
    """
    at = np.arange(frames) / FPS + 0.5 / FPS
    control = np.arange(speech.articulation.shape[1]) / CONTROL
    opening, width, rounding, accent = (np.interp(at, control, row) for row in speech.articulation)

    def drift(seconds: float) -> npt.NDArray[np.float64]:
        """Standard normal noise, smooth over the given time."""
        sigma = seconds * FPS
        steps = np.arange(-int(4 * sigma), int(4 * sigma) + 1)
        kernel = np.exp(-0.5 * (steps / sigma) ** 2)
        white = rng.standard_normal(frames + len(steps) - 1)
        return np.convolve(white, kernel / np.sqrt((kernel**2).sum()), "valid")

    expression = np.zeros((frames, 10))
    expression[:, 0] = opening * rng.uniform(0.8, 1.1)
    expression[:, 1], expression[:, 2] = width, rounding
    smile = 0.35 * drift(0.6) + rng.uniform(-0.4, 0.7)
    brow = 0.30 * drift(0.35) + 0.25 * accent + rng.uniform(-0.3, 0.4)
    furrow = 0.25 * drift(0.5) + rng.uniform(-0.4, 0.7)
    expression[:, 3] = np.clip(smile, -0.6, 1) * expression_amplitude
    expression[:, 4] = np.clip(brow, -0.6, 1) * expression_amplitude
    expression[:, 5] = np.clip(furrow, 0, 1) * expression_amplitude
    blink = _blinks(frames, rng)
    squint = rng.uniform(0, 0.25) * (rng.random() < 0.3)
    expression[:, 6], expression[:, 7] = np.clip(blink + squint, 0, 1), blink
    expression[:, 8:10] = _saccades(frames, rng)

    pose = np.zeros((frames, 6))
    pose[:, 0] = 0.15 * drift(0.5) + rng.uniform(-0.22, 0.22)
    pose[:, 1] = 0.06 * drift(0.4) + 0.03 * accent + rng.uniform(-0.10, 0.10)
    pose[:, 2] = 0.06 * drift(0.6) + rng.uniform(-0.10, 0.10)
    pose[:, 3] = 0.035 * drift(0.7) + rng.uniform(-0.06, 0.06)
    pose[:, 4] = 0.02 * drift(0.7) + rng.uniform(-0.04, 0.04)
    pose[:, 5] = 0.02 * drift(0.8) + rng.uniform(-0.06, 0.06)
    pose *= pose_amplitude
    pose[:, 5] += 1
    pose[:, 0], pose[:, 1] = np.clip(pose[:, 0], -0.5, 0.5), np.clip(pose[:, 1], -0.3, 0.3)
    return expression.astype(np.float32), pose.astype(np.float32)


def _blinks(frames: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    closed = np.zeros(frames + 4)
    at = int(rng.integers(3, 60))
    while at < frames:
        closed[at : at + 4] = (0.5, 1, 0.9, 0.4)
        at += int(rng.integers(30, 110))
    return closed[:frames]


def _saccades(frames: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    gaze = np.zeros((frames, 2))
    target = rng.uniform(-0.5, 0.5, 2)
    for frame in range(frames):
        if rng.random() < 0.03:
            target = np.array([rng.uniform(-0.9, 0.9), rng.uniform(-0.6, 0.6)])
        gaze[frame] = target
    return gaze
