"""What one worker keeps between jobs: the store, loaded methods, and features."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

from bench import catalogue
from bench.core.spec import Cause
from bench.core.views import ClipView
from bench.execute.tasks import ClipRef, FeatureTask, GenerateTask, ScoreTask, Task
from bench.jobs.features import FeatureBank
from bench.jobs.on_device import OnDevice
from bench.jobs.speed import Stopwatch
from bench.media.clip import MEMORY_BUDGET, Clip
from bench.methods.base import GenerationFailed, Method
from bench.store.claims import Claims
from bench.store.home import Home
from bench.store.travel import arrived_code
from bench.weights import use_folder


class Workshop:
    """The tools of one worker process.

    Args:
        home: folder or address of the store.
        weights: folder searched first for weight files, or None.
        run: see `bench.store.claims.Claims`.
    """

    def __init__(self, home: str | Path, weights: Path | None = None, run: str = "") -> None:
        if weights is not None:
            use_folder(weights)
        self.home = Home(home)
        self.claims = Claims(self.home.storage, run)
        self.bank = FeatureBank(self.home)
        self._unchanged: set[Path] = set()  # clips whose digest was checked
        self._methods: dict[str, Method] = {}
        self.loaded: Callable[[], None] = lambda: None  # told when a method begins to work
        self._load_seconds: dict[str, float] = {}  # of methods that were not called yet
        self._on_device = OnDevice(self._open)

    def method(self, task: GenerateTask) -> Method:
        """Return the task's method, loading it on first use.

        Raises:
            GenerationFailed: this machine has other code for it than the plan was made with.
        """
        if task.target not in self._methods:
            target = task.target
            if task.method_code and not target.startswith(catalogue.HERE):
                target = arrived_code(self.home.storage, target, task.method_code)
                _require_same(task, catalogue.method_code(target))
            if task.lane.gpus:
                self.close()  # two models rarely fit on one GPU
            start = time.perf_counter()
            self._methods[task.target] = catalogue.load_method(target)
            self._load_seconds[task.target] = time.perf_counter() - start
        return self._methods[task.target]

    def close(self) -> None:
        """Drop the loaded methods and end what they keep running (see `bench.methods.base.Method`)."""
        while self._methods:
            _, method = self._methods.popitem()
            getattr(method, "close", lambda: None)()

    def stopwatch(self, task: GenerateTask) -> Stopwatch:
        """Return what times the next call of the task's method, which is loaded."""
        first = task.target in self._load_seconds
        return Stopwatch(self._load_seconds.pop(task.target, 0.0), first)

    def expect(self, task: Task) -> None:
        """Begin, in the background, what a task will need first; it is this worker's next one."""
        if task.lane.gpus and isinstance(task, (FeatureTask, ScoreTask)):
            reference = task.reference if isinstance(task, ScoreTask) else None
            self._on_device.expect([task.clip, *([reference] if reference else [])])

    def view(self, clip: ClipRef, on_device: bool = False) -> ClipView:
        """Open a clip for metrics; its features come from the bank.

        Args:
            on_device: bring its frames to the GPU, once for all networks.
        """
        return self._on_device.get(clip) if on_device else self._open(clip)

    def _open(self, clip: ClipRef, budget: int = MEMORY_BUDGET) -> Clip:
        if clip.path not in self._unchanged:  # some milliseconds, where reading it takes a hundred
            self.home.blobs.require_unchanged(clip.path)
            self._unchanged.add(clip.path)
        return Clip(
            clip.path,
            clip.image,
            clip.truth,
            self.bank.bind(clip.sha256, clip.picture),
            budget,
            clip.size,
            clip.cropped,
            clip.frames,
            clip.sound,
        )


def _require_same(task: GenerateTask, code: str) -> None:
    if code != task.method_code:
        raise GenerationFailed(
            Cause.ENVIRONMENT,
            f"the code of {task.method} on {platform.node()} has digest {code[:12]}, and the run was planned with"
            f" {task.method_code[:12]}; put the same version on every machine",
        )
