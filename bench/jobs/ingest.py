"""Taking a clip made elsewhere into the store, as it is."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from bench.core.spec import Cause
from bench.execute.tasks import IngestTask, Outcome
from bench.jobs.clips import commit_clip
from bench.jobs.workshop import Workshop
from bench.media.errors import DecodeError
from bench.media.probe import Probe
from bench.methods.base import GenerationFailed


def ingest(shop: Workshop, task: IngestTask, start: float) -> Outcome:
    """Take one clip."""
    from bench.media.validate import validate

    source = task.path

    def make(path: Path) -> Probe:
        if source is None:
            raise GenerationFailed(Cause.NOT_DELIVERED, f"{task.method} has no video for {task.sample.id}.")
        # Checked where it lies, so that an error names the user's file. Any length will do.
        found = validate(source, None, expect_audio=False)
        shutil.copyfile(source, path)
        return dataclasses.replace(found, notes=(*found.notes, *_sound_notes(source)))

    return commit_clip(shop, task, source.suffix.lower() if source else ".mp4", make, start)


def _sound_notes(path: Path) -> tuple[str, ...]:
    """Return what was done to the clip's sound; without readable sound, metrics of pictures remain."""
    from bench.media.sound import read_sound

    try:
        sound = read_sound(path)
    except DecodeError as error:
        return (f"its sound cannot be read: {error.message}",)
    return ("the video has no sound of its own",) if sound is None else sound.notes
