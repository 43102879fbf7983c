"""Taking a clip made elsewhere into the store, as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.execute.tasks import IngestTask, Outcome
from bench.jobs.clips import commit_clip
from bench.jobs.workshop import Workshop
from bench.media.probe import Probe


def ingest(shop: Workshop, task: IngestTask, start: float) -> Outcome:
    """Take one clip."""
    from bench.media.validate import validate

    def make(path: Path) -> Probe:
        # Checked where it lies, so that an error names the user's file. Any length will do.
        found = validate(task.path, None, expect_audio=False)
        shutil.copyfile(task.path, path)
        return found

    return commit_clip(shop, task, task.path.suffix.lower(), make, start)
