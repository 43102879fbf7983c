"""What frozen encoders computed, kept on disk: found by content, read when looked at.

A cache folder holds shards: a safetensors file with the features of some clips under `DIGEST.VARIANT/name`, and
beside it a JSON list of the clips in it, which is written last and makes the shard count. Tensors are mapped, not
read: a window touches only the frames it needs, and the operating system keeps what is used often. Any number of
workers may add shards to one folder on shared storage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import Tensor

from actalker.errors import InputError
from actalker.reading import foreign, read_json
from actalker.writing import write_tensors, write_text

SHARD_BYTES = 256 * 2**20
"""Size at which a shard is written."""


class FileDigests:
    """SHA-256 of files, remembered by their path, size and times.

    Args:
        path: JSON file that remembers them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        if path.is_file():
            with suppress(InputError):  # half-written or foreign: it only saves time
                known = read_json(path, InputError)
                self._known = {name: seen for name, seen in known.items() if isinstance(seen, list) and seen}

    def digest(self, file: Path) -> str:
        """SHA-256 of a file's bytes.

        Raises:
            InputError: it does not exist.
        """
        try:
            now = file.stat()
        except OSError as error:
            raise InputError(f"the manifest lists {file}, which does not exist") from error
        seen = [now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino]
        name = str(file.resolve())
        if name not in self._known or self._known[name][1:] != seen:
            with file.open("rb") as opened:
                self._known[name] = [hashlib.file_digest(opened, "sha256").hexdigest(), *seen]
        return str(self._known[name][0])

    def exchange(self, world: int) -> None:
        """Learn what the other workers read, so that each file is read by one of them."""
        known: list[Any] = [None] * world
        dist.all_gather_object(known, self._known)
        for theirs in known:
            self._known |= theirs

    def save(self) -> None:
        """Write the JSON file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps(self._known))


class FeatureStore(Sequence[Mapping[str, Tensor]]):
    """Features of an ordered list of clips.

    Args:
        folder: the cache of one preparation.
        keys: `DIGEST.VARIANT` of every clip, in the order of the sequence.
    """

    def __init__(self, folder: Path, keys: Sequence[str]) -> None:
        self.folder, self.keys = folder, list(keys)
        self._shards: dict[str, Path] = {}
        self._open: dict[Path, Any] = {}
        self._waiting: dict[str, Mapping[str, Tensor]] = {}
        self._bytes = 0
        self.refresh()

    def refresh(self) -> None:
        """Read which clips the folder holds."""
        for listing in sorted(self.folder.glob("*.json")):
            shard = listing.with_suffix(".safetensors")
            if shard.is_file():
                with foreign(listing, InputError):
                    self._shards.update(dict.fromkeys(json.loads(listing.read_bytes()), shard))

    def missing(self) -> list[int]:
        """Positions whose clips are not there yet; of equal clips only the first."""
        first = {key: i for i, key in reversed(list(enumerate(self.keys)))}
        return sorted(i for key, i in first.items() if key not in self._shards)

    def add(self, index: int, features: Mapping[str, Tensor]) -> None:
        """Keep the features of the clip at `index`; they reach the disk with `flush` at the latest."""
        self._waiting[self.keys[index]] = features
        self._bytes += sum(value.numel() * value.element_size() for value in features.values())
        if self._bytes >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the clips added so far as a shard."""
        if not self._waiting:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(" ".join(self._waiting).encode()).hexdigest()[:24]
        shard = self.folder / f"{name}.safetensors"
        write_tensors(
            shard, {f"{key}/{part}": value for key, f in self._waiting.items() for part, value in f.items()}
        )
        write_text(shard.with_suffix(".json"), json.dumps(list(self._waiting)))
        self._shards.update(dict.fromkeys(self._waiting, shard))
        self._waiting, self._bytes = {}, 0

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        key = self.keys[index]
        return _Stored(self._handle(self._shards[key]), key)

    def _handle(self, shard: Path) -> Any:
        from safetensors import safe_open

        if shard not in self._open:
            with foreign(shard, InputError):
                self._open[shard] = safe_open(shard, framework="pt")
        return self._open[shard]


class _Stored(Mapping[str, Tensor]):
    """Features of one clip; a tensor is mapped when it is asked for."""

    def __init__(self, handle: Any, key: str) -> None:
        self._handle, self._prefix = handle, f"{key}/"

    def __getitem__(self, name: str) -> Tensor:
        try:
            tensor: Tensor = self._handle.get_tensor(self._prefix + name)
        except Exception as error:
            raise KeyError(name) from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        names: list[str] = list(self._handle.keys())
        return (name.removeprefix(self._prefix) for name in names if name.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
