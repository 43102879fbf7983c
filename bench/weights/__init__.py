"""Weight files of the metrics: found by name, verified by content, fetched once.

`weights.lock` says for every file where it comes from, how to recognise it and on what terms. Nothing is loaded
before its content matched: a truncated download or a look-alike never becomes a number.
Files are searched in `$BENCH_WEIGHTS` (`--weights DIR`), then in `<home>/weights`, then in the package.
"""

from bench.weights.digests import content
from bench.weights.fetching import WrongContent, fetch
from bench.weights.finding import WeightStatus, folders, locate, opened, ref, use_folder, verify
from bench.weights.locked import LockedWeight, entry, lock, needed, use_lock

__all__ = [
    "LockedWeight",
    "WeightStatus",
    "WrongContent",
    "content",
    "entry",
    "fetch",
    "folders",
    "locate",
    "lock",
    "needed",
    "opened",
    "ref",
    "use_folder",
    "use_lock",
    "verify",
]
