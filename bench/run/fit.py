"""At which size a clip and its ground truth are compared when theirs differ: never changed without being said.

The ground truth is the original at its own size. A clip of the size that methods were given is compared with the
original brought to that size. Any other size is a mismatch, unless the user declares a fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.core.errors import UsageError, did_you_mean

FITS = {
    "reference": "the clip is scaled to the reference's size",
    "512": "both are scaled to the reference's shape with a shorter side of at most 512 pixels",
    "crop": "the middle of the reference that has the clip's shape is scaled to the clip's size",
}
"""Declared fits by name, with what they do."""

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """A size in pixels (width, height) to bring frames to, and whether they are cut to its shape first."""

    size: Size
    cropped: bool = False


@dataclass(frozen=True, slots=True)
class Fitting:
    """What is done to the two sides of a comparison; None: nothing.

    Attributes:
        clip, reference: how each is looked at.
        words: the same for people, empty when nothing is done.
    """

    clip: Look | None = None
    reference: Look | None = None
    words: str = ""


def check_fit(name: str) -> str:
    """Return a fit's name.

    Raises:
        UsageError: there is no such fit.
    """
    if name and name not in FITS:
        known = "; ".join(f"{fit}: {what}" for fit, what in FITS.items())
        raise UsageError(f"There is no fit called '{name}'.{did_you_mean(name, list(FITS))}", f"Known: {known}.")
    return name


def fitting(name: str, clip: Size, reference: Size, given: Size | None) -> Fitting:
    """Return how a clip and its ground truth are compared.

    Args:
        name: of a declared fit, or empty.
        clip, reference: width and height.
        given: of what methods were given, where the reference has another size.
    """
    if clip == given:
        return Fitting(None, Look(clip), f"reference scaled to {clip[0]}x{clip[1]}, the size methods were given")
    if clip == reference or not name:
        return Fitting()
    if name == "reference":
        return Fitting(Look(reference), None, f"clip scaled from {clip[0]}x{clip[1]} to the reference's size")
    if name == "512":
        from bench.media.scale import within

        size = within(*reference, 512)
        ours, theirs = (None if side == size else Look(size) for side in (clip, reference))
        return Fitting(ours, theirs, f"clip and reference scaled to {size[0]}x{size[1]}")
    return Fitting(None, Look(clip, True), f"middle of the reference cut out and scaled to {clip[0]}x{clip[1]}")
