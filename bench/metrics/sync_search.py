"""Search for the lag at which speech and lips fit best: Sync-C, Sync-D and the offset.

Works on any pair of embedding sequences (SyncNet's, or the synthetic world's). Source: J. S. Chung and
A. Zisserman, "Out of time: automated lip sync in the wild", 2016, with the arithmetic of the authors'
released evaluation (zero rows around the audio, 1e-6 inside the norm), which Wav2Lip calls LSE-C and LSE-D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

EPSILON = 1e-6  # added to every component of the difference, as torch's pairwise_distance does
WINDOW, HOP = 100, 25  # frames: length and step of windows that move along a clip
FEW_WINDOWS = 50  # below this many windows a best lag at the border is likely to be chance
_ROWS = 256  # windows handled at once, so that a ten-minute clip needs little memory


@dataclass(frozen=True, slots=True)
class SyncResult:
    """Outcome of the search; lags and distances are means over the windows of one track.

    Attributes:
        confidence: Sync-C (LSE-C), median minus minimum of `distances`; >= 0, higher is better.
        distance: Sync-D (LSE-D), minimum of `distances`, taken at the best lag; lower is better.
        offset: best lag in frames of 40 ms. Positive: the audio is early (leads), the video late;
            negative: the audio is late; 0 is ideal.
        distance_at_zero: distance at lag 0, which a late clip cannot improve by shifting.
        distances: mean distance per lag, shape (2 * vshift + 1,); entry k belongs to offset vshift - k.
            NaN where a valid-only search has too little overlap.
        windows: number of video windows searched.
        at_border: the best lag is the first or last one searched.
    """

    confidence: float
    distance: float
    offset: int
    distance_at_zero: float
    distances: npt.NDArray[np.float64]
    windows: int
    at_border: bool

    @property
    def unreliable(self) -> bool:
        """Whether the numbers should carry a flag: few windows, or no minimum inside the range."""
        return self.at_border or self.windows < FEW_WINDOWS


def search(
    video_embeddings: npt.NDArray[np.floating],
    audio_embeddings: npt.NDArray[np.floating],
    vshift: int = 15,
    *,
    valid_only: bool = False,
) -> SyncResult:
    """Compare each video window with the audio windows up to `vshift` frames away.

    Args:
        video_embeddings: one row per window of frames, shape (N, d).
        audio_embeddings: one row per audio window aligned to the same frames, shape (N, d).
        vshift: largest lag in frames on either side.
        valid_only: False reproduces the published numbers, where audio rows beyond the ends are zeros. That
            pulls unrelated or short clips towards the largest lags. True averages existing pairs only and
            leaves out lags at which less than half of the windows overlap.

    Raises:
        ValueError: the shapes do not fit, there is no window, or a value is not finite.
    """
    video = np.asarray(video_embeddings, np.float64)
    audio = np.asarray(audio_embeddings, np.float64)
    if video.ndim != 2 or video.shape != audio.shape or len(video) == 0:
        raise ValueError(f"search needs two equal shapes (N >= 1, d), got {video.shape} and {audio.shape}")
    if not (np.isfinite(video).all() and np.isfinite(audio).all()):
        raise ValueError("search needs finite embeddings")
    windows, lags = len(video), 2 * vshift + 1
    padded = np.pad(audio, ((vshift, vshift), (0, 0)))
    index = np.arange(windows)
    total = np.zeros(lags)
    for start in range(0, windows, _ROWS):
        rows = video[start : start + _ROWS] + EPSILON
        for lag in range(lags):
            difference = rows - padded[start + lag : start + lag + len(rows)]
            length = np.sqrt(np.einsum("nd,nd->n", difference, difference))
            if valid_only:
                partner = index[start : start + _ROWS] + lag - vshift
                length = length[(partner >= 0) & (partner < windows)]
            total[lag] += length.sum()
    if valid_only:
        overlap = np.maximum(windows - np.abs(np.arange(lags) - vshift), 0)
        distances = np.full(lags, np.nan)
        usable = 2 * overlap >= windows
        distances[usable] = total[usable] / overlap[usable]
    else:
        distances = total / windows
    best = int(np.nanargmin(distances))
    searched = np.flatnonzero(np.isfinite(distances))
    return SyncResult(
        confidence=float(np.nanmedian(distances) - distances[best]),
        distance=float(distances[best]),
        offset=vshift - best,
        distance_at_zero=float(distances[vshift]),
        distances=distances,
        windows=windows,
        at_border=best in (searched[0], searched[-1]),
    )


def moving_offsets(
    video_embeddings: npt.NDArray[np.floating],
    audio_embeddings: npt.NDArray[np.floating],
    vshift: int = 15,
    window: int = WINDOW,
    hop: int = HOP,
) -> npt.NDArray[np.float64]:
    """Return the best lag inside windows that move along the clip, in frames, positive: the sound is early.

    Only existing pairs are averaged, and lags with fewer than half of a window's pairs are left out.

    Args:
        video_embeddings, audio_embeddings, vshift: see `search`.
        window, hop: length and step in frames.

    Returns:
        (k,), one per window; none for a clip shorter than a window.
    """
    video, audio = np.asarray(video_embeddings, np.float64), np.asarray(audio_embeddings, np.float64)
    windows, lags = len(video), 2 * vshift + 1
    table = np.full((windows, lags), np.nan)
    for lag in range(lags):
        shift = lag - vshift
        rows = slice(max(0, -shift), min(windows, windows - shift))
        if rows.stop > rows.start:
            difference = video[rows] + EPSILON - audio[rows.start + shift : rows.stop + shift]
            table[rows, lag] = np.linalg.norm(difference, axis=1)
    found = []
    for start in range(0, windows - window + 1, hop):
        part = table[start : start + window]
        known = np.isfinite(part).sum(axis=0)
        mean = np.where(2 * known >= window, np.nansum(part, axis=0) / np.maximum(known, 1), np.inf)
        found.append(float(vshift - int(mean.argmin())))
    return np.array(found)
