"""Scoring one clip under every protocol that has no record yet."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from bench import catalogue
from bench.core.errors import in_words, is_out_of_memory
from bench.core.spec import MISSING, Cause, MetricSpec, Reason, Unscored
from bench.core.views import ClipMetric, ClipView
from bench.execute.tasks import Outcome, ScoreTask
from bench.jobs.workshop import Workshop
from bench.media.errors import DecodeError
from bench.media.follow import remark
from bench.store.files import StoreFull, StoreUnreachable
from bench.store.records import Kind, Record


def score(shop: Workshop, task: ScoreTask, start: float) -> Outcome:
    """Compute every protocol of the task and store what it gave."""
    on_device = bool(task.lane.gpus)
    clip = shop.view(task.clip, on_device)
    clip.swapped = {control: shop.view(other) for control, other in task.swapped.items()}
    reference = shop.view(task.reference, on_device) if task.reference else None
    records = found(shop, "score", [key for _, key, _ in task.protocols])
    for protocol, key, fields in task.protocols:
        if key in records:
            continue
        began = time.perf_counter()
        metric = catalogue.metrics()[protocol]
        record: dict[str, Any] = {"kind": "score", "key": key, "protocol": protocol, "fields": dict(fields)}
        record |= measured(partial(_clip_value, metric, clip, reference))
        if record["status"] == "ok" and (remarks := _remarks(metric.spec, clip, reference)):
            record["detail"] = remarks
        record["seconds"] = time.perf_counter() - began
        if record.get("reason") not in MISSING:
            shop.home.records.put("score", key, record)
        records[key] = record
    for name in task.warm:
        with contextlib.suppress(Unscored):
            clip.features(name)
    return Outcome("ok", records=records, seconds=time.perf_counter() - start)


def found(shop: Workshop, kind: Kind, keys: Iterable[str]) -> dict[str, Record]:
    """Return results that are there already, where the driver does not look for every single one itself."""
    records = shop.home.records
    known = {} if records.near else records.read(kind, keys)
    return {key: record for key, record in known.items() if record["status"] != "error"}


def _remarks(spec: MetricSpec, clip: ClipView, reference: ClipView | None) -> str:
    """Return what the features that a value rests on say about the people in the picture."""
    sides = [("", clip)]
    if reference is not None and "reference" in spec.needs:
        sides.append(("reference: ", reference))
    said_of: list[str] = []
    for side, view in sides:
        for name in spec.features:
            with contextlib.suppress(Unscored):
                arrays = view.features(name)
                if "face_count" in arrays and (said := remark(arrays["face_count"], int(arrays["switches"]))):
                    said_of.append(side + said)
    return "; ".join(said_of)


def measured(compute: Callable[[], Mapping[str, float]]) -> dict[str, Any]:
    """Run a metric; return the record's status and values, with null for what is not finite."""
    try:
        values = {k: float(v) for k, v in compute().items()}
    except Unscored as error:
        return {"status": "unscored", "reason": str(error.reason), "detail": error.detail}
    except DecodeError as error:
        return {"status": "unscored", "reason": str(Reason.DECODE_ERROR), "detail": error.message}
    except (StoreFull, StoreUnreachable):
        raise
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise
        return {"status": "error", "reason": str(Cause.METHOD), "detail": in_words(error)}
    return {"status": "ok", "values": {k: v if math.isfinite(v) else None for k, v in values.items()}}


def _clip_value(metric: Any, clip: ClipView, reference: ClipView | None) -> Mapping[str, float]:
    spec = metric.spec
    if "reference" in spec.needs and reference is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no ground-truth video")
    if spec.remade and not clip.swapped:
        raise Unscored(Reason.NO_REFERENCE, "the clip was not made again with other controls")
    if "image" in spec.needs and clip.image is None:
        raise Unscored(Reason.NO_REFERENCE, "the sample has no reference picture")
    scored: ClipMetric = metric
    return scored.score(clip, reference)
