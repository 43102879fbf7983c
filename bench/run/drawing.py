"""Drawing a data set's list and making its clips: the work behind `bench prepare --split`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.core.declaration import known_json
from bench.core.errors import MissingError, UsageError
from bench.data import celebv_hq, declared, hdtf, layouts
from bench.data.candidates import Candidate
from bench.data.checks import OTHERS, look_alike
from bench.data.datasets import (
    OWN_LIST,
    Account,
    Progress,
    command,
    data_root,
    frozen_list,
    list_digest,
    unchecked,
)
from bench.data.declared import Dataset, FrozenList, Subset
from bench.data.folder import safe_id
from bench.data.normalise import FILES, Refused, Tools, available_tools, intact
from bench.data.preparation import Result, read_results
from bench.data.selection import SEED
from bench.run.preparation import Preparer
from bench.store.files import write_bytes
from bench.store.home import Home
from bench.systems.environment import find_program

WITHDRAWN = "withdrawn.txt"
"""File of the user's, below the data set's folder: ids that were asked to be taken out, one per line."""


def prepare(
    name: str,
    source: Path | None,
    home: Home,
    accept_terms: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    subset: str | None = None,
) -> Account:
    """Prepare a list of a data set; what is done stays done.

    Args:
        name: of the data set.
        source: folder with what the owners publish, or None to download where that is allowed.
        home: where everything goes.
        accept_terms: the user has read and accepts the printed terms; asked for once.
        workers: processes.
        progress: called with (clips settled, clips wanted).
        subset: a list the data set declares; None is `test`.

    Raises:
        UnknownName, UsageError: there is no such data set, subset or folder; the terms are not accepted.
        MissingError: something has to be fetched by hand; says what and from where.
    """
    dataset = declared.declared(name)
    chosen, rule = declared.subset_of(dataset, subset)
    if rule.protocol == "cross":
        chosen, rule = declared.MAIN, dataset.subsets[declared.MAIN]
    if source is not None and not source.is_dir():
        raise UsageError(f"There is no folder {source}.", "--from takes what the owners of the data set publish.")
    root = data_root(home, name)
    _require_terms(dataset, root, accept_terms, command(dataset, chosen, source))
    if source is None and dataset.download != "yes":
        raise MissingError(
            f"Split '{name}' needs files from you: {dataset.source}", f"Run: {command(dataset, chosen)}"
        )
    tools = available_tools(dataset)
    layout, groups, header = _layout(dataset, chosen, rule, source, root)
    withdrawn = _withdrawn(root)
    with Preparer(dataset, rule.seconds, root, tools, layout, home, workers, withdrawn) as preparer:
        frozen = frozen_list(dataset, chosen, home)
        try:
            if frozen is not None and frozen.entries and frozen.header.get("complete", True):
                by_id = {c.clip_id: c for group in groups for c in group}
                listed = [[by_id[i]] for e in frozen.entries if (i := str(e["clip_id"])) in by_id]
                preparer.fill(listed, len(listed), progress)
            else:
                compare = partial(_twin, root) if dataset.identities == "faces" else None
                accepted = preparer.fill(groups, rule.count, progress, compare)
                frozen = _freeze(root, chosen, header | _verdict(dataset, rule, tools, accepted), accepted)
        finally:  # also when a download breaks off or the user stops it: what is finished can be used
            manifest = _record(root, preparer.tried, layout.refused)
            home.give([root / "clips"], again=False)
            home.give([path for path in root.iterdir() if path.suffix == ".jsonl"] + [root / "splits"])
    return _account(dataset, chosen, root, frozen, tools, preparer.tried, layout.refused, manifest)


def _twin(root: Path, result: Result, accepted: Sequence[Result]) -> Refused | None:
    """C6: refuse a clip that shows a person who is in the list already."""
    import numpy as np

    def embedding(of: Result) -> Any:
        return np.load(root / "clips" / safe_id(of.clip_id) / FILES["identity"])

    if "identity" not in result.clip["digests"]:
        return None
    found = look_alike(
        embedding(result), {r.clip_id: embedding(r) for r in accepted if "identity" in r.clip["digests"]}
    )
    if found is None:
        return None
    return Refused("filtered", "same person as another clip", f"{found[0]}, cosine {found[1]:.2f}")


def _verdict(dataset: Dataset, rule: Subset, tools: Tools, accepted: Sequence[Result]) -> dict[str, Any]:
    """Return what a drawn list's header says of how far it was checked."""
    left = unchecked(r.clip for r in accepted)
    if dataset.identities == "faces" and not tools.identity:
        left.append(OTHERS)
    return {
        "complete": len(accepted) == rule.count,
        "list_kind": "unfiltered" if left else "filtered",
        "not_applied": left,
    }


def _layout(
    dataset: Dataset, subset: str, rule: Subset, source: Path | None, root: Path
) -> tuple[Any, Sequence[Sequence[Candidate]], dict[str, Any]]:
    """Return what finds media, the candidates in order, and the header of a list drawn from them."""
    header: dict[str, Any] = {
        "list": subset,
        "dataset": dataset.name,
        "count": rule.count,
        "rule": rule.rule,
        "seed": SEED,
        "state": "verified",
    }
    cache = root / "source"
    if dataset.name == "ravdess":
        frozen = declared.shipped_list(dataset.name, subset)
        assert frozen is not None, "the list is part of the repository"
        layout = layouts.Ravdess(source, cache)
        return layout, layout.groups(frozen.entries), header
    assert source is not None
    if dataset.name == "celebv-hq":
        file = _find(source, celebv_hq.ANNOTATIONS, "github.com/CelebV-HQ/CelebV-HQ")
        clips = celebv_hq.candidates(file)
        header["annotations"] = {file.name: _digest(file)}
        return _youtube(dataset, source, cache, clips, layouts.celebv_groups(clips), header)
    if dataset.name == "hdtf":
        times = _find(source, "WDA_annotion_time.txt", "github.com/MRzzm/HDTF, folder HDTF_dataset")
        clips = hdtf.candidates(times.parent)
        header["annotations"] = {
            p.name: _digest(p) for s in hdtf.SETS for p in sorted(times.parent.glob(f"{s}_*.txt"))
        }
        return _youtube(dataset, source, cache, clips, layouts.hdtf_groups(clips), header)
    if dataset.name == "vfhq" and subset == "train":
        metas = _find(source, "Clip+*.txt", "meta_info.zip on VFHQ's project page").parent
        clips, groups = layouts.vfhq_train_groups(metas, source)
        return _youtube(dataset, source, cache, clips, groups, header)
    if dataset.name == "vfhq":
        pack = layouts.VfhqTest(source)
        groups = pack.groups()
        if subset != declared.MAIN:
            least = layouts.first_by_hash(dataset.name, [g[0].clip_id for g in groups], rule.count)
            groups = [g for g in groups if g[0].clip_id in least]
        return pack, groups, header
    raise UsageError(
        f"Data set '{dataset.name}' is declared but has no preparation.",
        "Bring its videos into a folder and use --split folder:PATH.",
    )


def _youtube(
    dataset: Dataset,
    source: Path,
    cache: Path,
    clips: Sequence[Candidate],
    groups: Sequence[Sequence[Candidate]],
    header: dict[str, Any],
) -> tuple[Any, Sequence[Sequence[Candidate]], dict[str, Any]]:
    layout = layouts.YouTube(source, cache, clips, _can_download())
    return layout, groups, {**header, "mirror": layout.mirror}


def _withdrawn(root: Path) -> frozenset[str]:
    """Return the clip and source ids that must not be kept here any more."""
    try:
        lines = (root / WITHDRAWN).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(line.strip() for line in lines if line.strip())


def _can_download() -> bool:
    return find_program("yt-dlp") is not None


def _find(source: Path, pattern: str, where: str) -> Path:
    found = next(iter(sorted(source.rglob(pattern))), None)
    if found is None:
        raise MissingError(
            f"There is no {pattern} below {source}.", f"Get it from {where}, and give its folder with --from."
        )
    return found


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _require_terms(dataset: Dataset, root: Path, accept: bool, how: str) -> None:
    """Ask for the terms once; a changed text is asked for again. `how` is the command that accepts them."""
    file = root / "terms.json"
    text = sha256(dataset.terms.encode()).hexdigest()
    if (known_json(file, dict[str, Any]) or {}).get("sha256") == text:
        return
    if not accept:
        raise UsageError(f"{dataset.title}: {dataset.terms}", f"If you may and want to go on: {how}")
    from datetime import UTC, datetime

    accepted = {"sha256": text, "accepted": datetime.now(UTC).isoformat(timespec="seconds")}
    write_bytes(file, json.dumps(accepted, indent=1).encode())


def _freeze(root: Path, subset: str, header: Mapping[str, Any], accepted: Sequence[Result]) -> FrozenList:
    """Write the list drawn here; a complete one is kept by later runs, an incomplete one is drawn on."""
    entries = tuple(
        {
            "rank": rank,
            "clip_id": r.clip_id,
            "identity": r.identity,
            "frames": r.clip["frames"],
            "frames_sha256": r.clip["frames_sha256"],
            "pcm_sha256": r.clip["pcm_sha256"],
        }
        for rank, r in enumerate(accepted, 1)
    )
    frozen = FrozenList(header, entries)
    write_bytes(root / "splits" / f"{subset}.jsonl", declared.render_list(frozen))
    return frozen


def _record(
    root: Path, tried: Sequence[Result], refused: Sequence[tuple[str, str]]
) -> dict[str, Mapping[str, Any]]:
    """Write manifest and ledger; return the manifest's lines by clip id."""
    stored = read_results(root)
    results = stored | {r.clip_id: r for r in tried}
    ledger = [
        {"clip_id": clip_id, "state": "bad-annotation", "reason": reason, "detail": ""}
        for clip_id, reason in dict(refused).items()
        if clip_id not in results
    ]
    ledger += [
        {"clip_id": r.clip_id, "state": r.state, "reason": r.reason, "detail": r.detail} for r in results.values()
    ]
    manifest = [
        {"clip_id": r.clip_id, "folder": safe_id(r.clip_id), "identity": r.identity, **r.clip}
        for r in stored.values()
        if r.state == "ok" and intact(root, safe_id(r.clip_id), r.clip)
    ]
    _write_lines(root / "manifest.jsonl", manifest)
    _write_lines(root / "ledger.jsonl", ledger)
    return {line["clip_id"]: line for line in manifest}


def _account(
    dataset: Dataset,
    subset: str,
    root: Path,
    frozen: FrozenList,
    tools: Tools,
    tried: Sequence[Result],
    refused: Sequence[tuple[str, str]],
    ready: Mapping[str, Mapping[str, Any]],
) -> Account:
    """Return what the preparation came to."""
    entries = [str(e["clip_id"]) for e in frozen.entries]
    listed = [ready[i] for i in entries if i in ready]
    wanted = dataset.subsets[subset].count
    notes = [OWN_LIST]
    if not frozen.header.get("complete", True):
        notes.append(f"the list has {len(entries)} of {wanted} clips; it is drawn on when more media is there")
    if dataset.download == "youtube" and "unavailable" in {r.reason for r in tried} and not _can_download():
        notes.append(
            "missing source videos were not fetched, because yt-dlp is not on PATH: pip install -U yt-dlp,"
            " or put <YouTube id>.mp4 into the folder given with --from"
        )
    if doubtful := Counter(f["name"] for line in listed for f in line["filters"] if f["passed"] is False):
        each = ", ".join(f"{name} ({count} clips)" for name, count in sorted(doubtful.items()))
        notes.append(f"outside the bounds, which are only reported for this set: {each}")
    return Account(
        dataset.name,
        subset,
        len(listed),
        wanted,
        dict(Counter(r.reason for r in tried if r.state != "ok")),
        list_digest(frozen),
        root / "ledger.jsonl",
        tuple(notes),
        sum(r.state in ("retry", "blocked") for r in tried),
        dict(Counter(reason.partition(":")[0] for _, reason in refused)),
        {name: tools.lacking(name) for name in (*unchecked(listed), *frozen.header.get("not_applied", ()))},
    )


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    ordered = sorted(lines, key=lambda line: str(line["clip_id"]))
    write_bytes(
        path,
        "".join(json.dumps(x, sort_keys=True, ensure_ascii=False) + "\n" for x in ordered).encode(
            "utf-8", "backslashreplace"
        ),
    )
