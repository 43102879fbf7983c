# ruff: noqa: E501
"""Made-up results in the harness' own row format, so that reports are tested without running anything."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.report.table import Table, Value
from bench.results.runs import Results
from bench.results.subsets import Halves

METHODS: Mapping[str, tuple[str, Sequence[str], float]] = {
    "actalker": ("model", ("audio", "visual", "audio+visual"), 0.8),
    "mouth-warp": ("classical", ("audio",), 0.3),
    "landmark-warp": ("classical", ("visual", "audio+visual"), 0.5),
    "ground-truth": ("control", ("none",), 1.0),
    "shuffled-audio": ("control", ("none",), 0.0),
    "frozen": ("control", ("none",), 0.05),
}

# protocol: (kind, summary, weights, columns (key, label, direction, unit, digits, scale, level, gain, spread))
PROTOCOLS: Mapping[str, tuple[str, str, Mapping[str, str], Sequence[tuple[Any, ...]]]] = {
    "sync/{d}": ("clip", "audio-video agreement, longest face track", {"syncnet_v2": "961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442"}, [
        ("sync_c", "Sync-C", "higher", "", 3, 1.0, 1.5, 5.0, 0.7),
        ("sync_d", "Sync-D", "lower", "", 3, 1.0, 12.0, -4.5, 0.6),
        ("offset", "Offset", "none", "frames", 1, 1.0, 0.0, 0.0, 1.2),
    ]),
    "fid/{d}": ("set", "Fréchet distance of frames", {"pt_inception": "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"}, [
        ("fid", "FID", "lower", "", 2, 1.0, 62.0, -38.0, 1.5),
    ]),
    "fvd/{d}": ("set", "Fréchet distance of clips, DisCo I3D", {}, [
        ("fvd", "FVD-Inc (assumed)", "lower", "", 1, 1.0, 520.0, -300.0, 20.0),
    ]),
    "csim/{d}": ("clip", "cosine to the reference picture", {}, [("csim", "CSIM", "higher", "", 3, 1.0, 0.6, 0.3, 0.04)]),
    "expr/{d}": ("clip", "mean absolute blendshape error", {}, [("expr_l1", "Expr err", "lower", "", 2, 100.0, 0.09, -0.07, 0.008)]),
    "psnr/rgb": ("clip", "float64 RGB", {}, [("psnr", "PSNR", "higher", "dB", 2, 1.0, 19.0, 14.0, 1.2)]),
    "ssim/gaussian11": ("clip", "Gaussian window 11, sigma 1.5", {}, [("ssim", "SSIM", "higher", "", 3, 1.0, 0.6, 0.35, 0.03)]),
    "flicker/mae": ("clip", "mean absolute change between frames", {}, [("flicker", "Smooth", "higher", "", 4, 1.0, 0.985, 0.01, 0.002)]),
}  # fmt: skip


def digest(*parts: object) -> str:
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()


def make(
    *,
    seed: int = 0,
    identities: int = 24,
    clips_per_identity: int = 1,
    repeats: int = 1,
    domain: str = "synthetic",
    dataset: str = "synthetic",
    split: str = "test",
    methods: Mapping[str, tuple[str, Sequence[str], float]] = METHODS,
    protocols: Sequence[str] | None = None,
    shift: Mapping[tuple[str, str], float] | None = None,
    repeat_noise: float = 0.25,
    missing: bool = True,
    media: Mapping[str, str] | None = None,
    world: int = 7,
) -> Results:
    """Results with a quality per method, an effect per sample (from `world`) and noise (from `seed`).

    `shift` adds to (method, column key), in units of the column's spread; `missing` plants failures;
    `media` maps `clip`, `reference`, `image`, `audio` to paths with `{i}`.
    """
    suffix = "synthetic_v1" if domain == "synthetic" else "default"
    place = np.random.default_rng(world)
    noise = np.random.default_rng([seed, 1])
    samples = [(f"clip{i:03d}_{k}", f"id{i:03d}") for i in range(identities) for k in range(clips_per_identity)]
    rows: list[dict[str, Any]] = []
    described: dict[str, Any] = {}
    for name, (kind, summary, weights, columns) in PROTOCOLS.items():
        protocol = name.format(d=suffix)
        if protocols is not None and name.split("/")[0] not in protocols:
            continue
        described[protocol] = {
            "summary": summary, "source": "test fixture", "params": {"window": 11}, "weights": dict(weights),
            "columns": [dict(zip(("key", "label", "direction", "unit", "digits", "scale"), c[:6], strict=True)) for c in columns],
        }  # fmt: skip
        for key, _, _, _, _, _, level, gain, spread in columns:
            effect = place.normal(0, spread, len(samples))
            own = {m: place.normal(0, 0.4 * spread, len(samples)) for m in methods}
            for method, (_, gates, quality) in methods.items():
                for g, gate in enumerate(gates):
                    mean = level + gain * min(1.0, quality + 0.06 * g)
                    mean += (shift or {}).get((method, key), 0.0) * spread
                    common = {
                        "kind": kind, "method": method, "gate": gate, "dataset": dataset, "split": split,
                        "domain": domain, "protocol": protocol, "column": key, "status": "ok", "reason": "", "detail": "",
                    }  # fmt: skip
                    if kind == "set":
                        value = max(0.0, mean + noise.normal(0, 0.2 * spread))
                        # A generator of their own: values do not move with the number of subsamples.
                        own_seed = int(digest(seed, method, gate, protocol, key)[:8], 16)
                        drawn = np.random.default_rng(own_seed).normal(0, 0.45 * spread, 10)
                        halves = Halves(digest(samples), identities, tuple((value + 1 + drawn).tolist()))
                        rows.append({
                            **common, "sample": "", "identity": "", "repeat": 0, "value": value, "n_clips": len(samples),
                            "n_frames": 75 * len(samples), "coverage": 1.0, "low": value + 1 - spread,
                            "high": value + 1 + spread, "floor": 0.1 * level,
                            "halves": halves.text(), "digest": digest(seed, method, gate, protocol, key, value),
                        })  # fmt: skip
                        continue
                    for n, (sample, identity) in enumerate(samples):
                        for repeat in range(repeats):
                            value = mean + effect[n] + own[method][n] + noise.normal(0, repeat_noise * spread)
                            row = {
                                **common, "sample": sample, "identity": identity, "repeat": repeat, "value": value,
                                "n_clips": 1, "n_frames": 75, "coverage": 1.0, "seconds": 0.1,
                                "clip_sha256": digest("clip", seed, method, gate, sample, repeat),
                                "digest": digest(seed, method, gate, protocol, sample, repeat),
                            }  # fmt: skip
                            for role, path in (media or {}).items():
                                row[f"{role}_path"] = path.format(i=n, method=method, gate=gate)
                            if missing and method == "frozen" and protocol.startswith("sync") and n % 8 == 0:
                                row |= {
                                    "status": "unscored",
                                    "reason": "no_speech",
                                    "detail": "RMS below threshold",
                                    "value": float("nan"),
                                }
                            if missing and method == "landmark-warp" and n == 3:
                                row |= {
                                    "status": "error",
                                    "reason": "method",
                                    "detail": "ValueError: no triangle <contains> the point",
                                    "value": float("nan"),
                                }
                            rows.append(row)
    about = {
        m: {
            "name": m,
            "version": "1",
            "kind": kind,
            "gates": list(gates),
            "summary": f"{m} of the tests",
            "settings": {},
        }
        for m, (kind, gates, _) in methods.items()
    }
    provenance = {
        "command": f"bench run --split {dataset}", "version": "0.1.0", "commit": "0123abc", "created": "2026-01-02T03:04:05Z",
        "split": dataset, "domain": domain, "notes": ["Synthetic faces: never compare with numbers on real ones."] if domain == "synthetic" else [],
        "seed": 0, "repeats": repeats, "protocols": described, "methods": about,
        "environment": {"python": "3.12.1", "platform": "Linux x86_64", "packages": {"torch": "2.13.0", "numpy": "2.4.6"}},
        "hardware": ["2 x CPU"],
        "counts": {"planned": len(rows), "ok": sum(r["status"] == "ok" for r in rows)},
        "rejected": [{"item": "notes.txt", "reason": "not a video"}],
    }  # fmt: skip
    return Results.from_rows(pd.DataFrame(rows), provenance, name="fake")


def cells(tables: list[Table], method: str, gate: str) -> dict[str, Value | None]:
    """Return the values of one row of the first table by heading."""
    table = tables[0]
    row = next(r for r in table.rows if (r.label, r.gate) == (method, gate))
    return {c.label: v for c, v in zip(table.columns, row.values, strict=True)}
