"""What one worker keeps between jobs: the store, loaded methods, and features."""

from __future__ import annotations

from pathlib import Path

from bench import catalogue
from bench.core.views import ClipView
from bench.execute.tasks import ClipRef, GenerateTask
from bench.jobs.features import FeatureBank
from bench.methods.base import Method
from bench.store.home import Home
from bench.weights import use_folder


class Workshop:
    """The tools of one worker process.

    Args:
        home: the store.
        weights: folder searched first for weight files, or None.
    """

    def __init__(self, home: Path, weights: Path | None = None) -> None:
        if weights is not None:
            use_folder(weights)
        self.home = Home(home)
        self.bank = FeatureBank(self.home)
        self._methods: dict[str, Method] = {}

    def method(self, task: GenerateTask) -> Method:
        """Return the task's method, loading it on first use."""
        if task.target not in self._methods:
            if task.lane.gpus:
                self._methods.clear()  # two models rarely fit on one GPU
            self._methods[task.target] = catalogue.load_method(task.target)
        return self._methods[task.target]

    def view(self, clip: ClipRef) -> ClipView:
        """Open a clip for metrics; its features come from the bank."""
        from bench.media.clip import Clip

        return Clip(clip.path, clip.image, clip.truth, self.bank.bind(clip.sha256))
