"""Features of clips, computed once and shared: by metrics, by methods, by runs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

from bench import catalogue
from bench.core.keys import digest
from bench.core.spec import MISSING, Reason, Unscored
from bench.core.views import ClipView, Extractor, Features
from bench.media.probe import picture_digest
from bench.store.blobs import Blob
from bench.store.home import Home

_KEPT = 64  # feature sets kept in memory; a reference clip's are read by every method in turn


class FeatureBank:
    """Reads features from the store, or extracts and stores them.

    Args:
        home: the store.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self._recent: dict[str, Features | Unscored] = {}
        self._digests: dict[Path, str] = {}

    def bind(self, sha256: str, picture: str = "") -> Mapping[str, Extractor]:
        """Return the extractors as a clip with this content asks for them: stored results first.

        Args:
            sha256: of the clip.
            picture: sha256 of its sample's reference picture, or empty.
        """
        known = catalogue.extractors()
        return {name: _Stored(self, sha256, picture, extractor) for name, extractor in known.items()}

    def get(self, clip: ClipView, sha256: str, name: str, picture: str = "") -> Features:
        """Return the arrays of one extractor for one clip.

        Raises:
            Unscored: the extractor has no result for this clip; remembered unless it is about this machine.
        """
        fields = catalogue.feature_fields(sha256, name, picture)
        key = digest(fields)
        if key not in self._recent:
            while len(self._recent) >= _KEPT:
                self._recent.pop(next(iter(self._recent)))
            self._recent[key] = self._load(key) or self._make(clip, name, key, fields, picture)
        found = self._recent[key]
        if isinstance(found, Unscored):
            raise found
        return found

    def stored(self, sha256: str, name: str, picture: str = "") -> Features | None:
        """Return the arrays of an extractor for a clip if they are in the store; computes nothing."""
        if name not in catalogue.extractors():
            return None
        found = self._load(catalogue.feature_key(sha256, name, picture))
        return None if isinstance(found, Unscored) else found

    def _load(self, key: str) -> Features | Unscored | None:
        record = self.home.records.get("feature", key)
        if record is None:
            return None
        if record["status"] == "unscored":
            return Unscored(Reason(record["reason"]), record["detail"])
        path = self.home.blobs.local(Blob(**record["blob"]))
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _make(
        self, clip: ClipView, name: str, key: str, fields: dict[str, str], picture: str
    ) -> Features | Unscored:
        keys = [key, *self._twin(clip, name, picture)]
        for twin in keys[1:]:
            if (found := self._load(twin)) is not None:
                record = self.home.records.get("feature", twin)
                self.home.records.put("feature", key, {**(record or {}), "fields": fields})
                return found
        try:
            arrays = catalogue.extractors()[name].extract(clip)
        except Unscored as error:
            if error.reason not in MISSING:
                record = {
                    "kind": "feature",
                    "status": "unscored",
                    "reason": str(error.reason),
                    "detail": error.detail,
                    "fields": fields,
                }
                for one in keys:
                    self.home.records.put("feature", one, record)
            return error
        with self.home.blobs.scratch(".npz") as path:
            buffer = io.BytesIO()
            np.savez(buffer, **{k: np.asarray(v) for k, v in arrays.items()})  # type: ignore[arg-type]
            path.write_bytes(buffer.getvalue())
            blob = self.home.blobs.adopt(path, ".npz")
        for one in keys:
            self.home.records.put(
                "feature", one, {"kind": "feature", "status": "ok", "blob": asdict(blob), "fields": fields}
            )
        return arrays

    def _twin(self, clip: ClipView, name: str, picture: str) -> list[str]:
        """Return the key under which every clip with the same pictures, whatever its sound, finds this feature."""
        if catalogue.extractors()[name].spec.hears:
            return []
        if clip.path not in self._digests:
            self._digests[clip.path] = picture_digest(clip.path)
        look = getattr(clip, "look", "")
        return [catalogue.feature_key(f"pictures:{self._digests[clip.path]}{look}", name, picture)]


class _Stored:
    """An extractor whose results for one clip are kept in the bank."""

    def __init__(self, bank: FeatureBank, sha256: str, picture: str, extractor: Extractor) -> None:
        self.spec = extractor.spec
        self._bank = bank
        self._sha256 = sha256
        self._picture = picture

    def extract(self, clip: ClipView) -> Features:
        """See `bench.core.views.Extractor.extract`."""
        return self._bank.get(clip, self._sha256, self.spec.name, self._picture)
