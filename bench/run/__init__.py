"""One run from plan to rows: what is missing, driving the executor, preparing data sets, checking machines.

The package can be called: `bench.run(...)` is `bench.run.session.run`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that is also the function people expect under its name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from bench.run.session import run

        return run(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
