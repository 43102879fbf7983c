"""Models by folder or by hub id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actalker.errors import CheckpointError, MissingPackageError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def resolve(
    name: str | Path, files: Sequence[str] | None = None, *, offline: bool = False, **options: Any
) -> Path:
    """The folder a model is in: `name` itself, or a snapshot of a hub repository.

    Args:
        name: a folder, or an id such as `openai/whisper-tiny`.
        files: patterns of the files needed; None takes all.
        offline: look only into the local hub cache.
        options: of `huggingface_hub.snapshot_download`, e.g. `revision`, `token`, `cache_dir`.

    Raises:
        CheckpointError: neither a folder nor an id, or the id cannot be fetched.
        MissingPackageError: an id, and huggingface_hub is not installed.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not _ID.fullmatch(str(name)):
        raise CheckpointError(f"{name} is neither a folder nor a hub id of the form owner/name")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingPackageError(
            f"fetching {name} needs the package huggingface_hub", "pip install huggingface_hub, or give a folder."
        ) from error
    options["local_files_only"] = offline or options.get("local_files_only", False)
    try:
        return Path(snapshot_download(str(name), allow_patterns=None if files is None else list(files), **options))
    except Exception as error:  # the hub's errors have no common base
        where = "in the local hub cache" if options["local_files_only"] else "at the hub"
        raise CheckpointError(
            f"{name} is no folder here and was not found {where}: {error}".split("\n")[0],
            "Download it on a connected machine and give its folder.",
        ) from error
