"""Committing a clip: blob first, then its record, whether the clip was made or came from elsewhere."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.core.errors import in_words, is_out_of_memory
from bench.core.spec import MISSING, Cause, Unscored
from bench.execute.tasks import GenerateTask, IngestTask, Outcome
from bench.jobs.workshop import Workshop
from bench.media.probe import Probe
from bench.methods.base import GenerationFailed
from bench.store.blobs import Blob
from bench.store.files import StoreFull


def commit_clip(
    shop: Workshop,
    task: GenerateTask | IngestTask,
    suffix: str,
    make: Callable[[Path], Probe],
    start: float,
    measured: Mapping[str, Any] | None = None,
) -> Outcome:
    """Run `make` on a scratch file, adopt it into the store and write the record, or record why it failed.

    What `make` puts into `measured` goes into the record.
    """
    record: dict[str, Any] = {
        "kind": "gen",
        "key": task.key,
        "method": task.method,
        "sample": task.sample.id,
        "fields": dict(task.fields),
    }
    scratch = ""
    try:
        with shop.home.blobs.scratch(suffix) as path:
            scratch = str(path)
            probe = make(path)
            blob = shop.home.blobs.adopt(path, suffix)
        record |= {
            "status": "ok",
            "clip": asdict(blob),
            "width": probe.width,
            "height": probe.height,
            "frames": probe.frames,
            "fps": probe.fps,
            "audio": probe.has_audio,
            "notes": list(probe.notes),
            **(measured or {}),
        }
    except Unscored as error:
        if error.reason in MISSING:
            raise GenerationFailed(Cause.ENVIRONMENT, str(error)) from error
        record |= {"status": "error", "cause": Cause.INPUT, "detail": str(error)}
    except StoreFull:
        raise
    except (Exception, SystemExit) as error:  # scripts call sys.exit; it is this clip's error
        if is_out_of_memory(error):
            raise
        expected = Cause.INPUT if isinstance(task, IngestTask) else Cause.METHOD
        cause = getattr(error, "cause", expected)
        if cause not in (Cause.INPUT, Cause.METHOD, Cause.NOT_DELIVERED):
            raise  # a state of this machine, not a result
        # The scratch file has another name every time, and a user never sees it.
        detail = in_words(error).replace(scratch or "\0", "the clip")
        record |= {"status": "error", "cause": cause, "detail": detail}
        record["traceback"] = "".join(traceback.format_exception(error))
    record["seconds"] = time.perf_counter() - start
    record["host"] = host()
    if isinstance(task, GenerateTask) and not task.fresh:
        record = shop.home.records.add(
            "gen", task.key, record, lambda first: shop.home.blobs.has(Blob(**first["clip"]))
        )
    else:
        shop.home.records.put("gen", task.key, record)
    return Outcome("ok", records={task.key: record}, seconds=record["seconds"])


def host() -> dict[str, str]:
    """Return what a record says about where it was made. Recorded, never keyed."""
    import platform

    return {"node": platform.node(), "machine": platform.machine(), "gpu": _gpu_name()}


def _gpu_name() -> str:
    import sys

    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else ""
