"""What the face reader returns, and its exact values for a rendered face."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bench.synthetic import geometry, parameters
from bench.synthetic.parameters import Floats

READINGS = (
    "brow",
    "furrow",
    "blink_left",
    "blink_right",
    "gaze_x",
    "gaze_y",
    "half_width",
    "opening",
    "protrusion",
    "smile",
)
"""Expression numbers that can be read from one picture, with the drawn mouth geometry (see
`geometry.MOUTH_DRAWN`) in place of the raw opening, width and rounding."""

RANGES: Mapping[str, float] = {
    "brow": 1.6,
    "furrow": 1.0,
    "blink_left": 1.0,
    "blink_right": 1.0,
    "gaze_x": 1.8,
    "gaze_y": 1.2,
    "half_width": 0.41,
    "opening": 0.38,
    "protrusion": 1.0,
    "smile": 1.6,
}
"""Distance from the smallest to the largest value the world draws; errors are given as shares of it."""


def readings(identity: npt.ArrayLike, expression: npt.ArrayLike) -> Floats:
    """Return the exact readings (B, 10), see `READINGS`.

    Args:
        identity: (16,) or (B, 16).
        expression: (B, 10), see `parameters.EXPRESSION`.
    """
    expression = np.atleast_2d(np.asarray(expression, np.float32))
    columns = geometry.named(expression, parameters.EXPRESSION)
    columns |= geometry.named(geometry.mouth_drawn(identity, expression), geometry.MOUTH_DRAWN)
    return np.stack([columns[name] for name in READINGS], -1).astype(np.float32)
