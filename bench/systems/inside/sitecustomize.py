"""Imported by Python at the start of every process of a system with patches, or of one that is watched."""

import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))

if sys.path and _FOLDER in sys.path:
    # The environment's own file of this name, which ours hides, has its turn first.
    sys.path.remove(_FOLDER)
    _ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError:
        pass
    if _ours is not None:
        sys.modules["sitecustomize"] = _ours
    sys.path.insert(0, _FOLDER)
    import bench_patches

    sys.path.remove(_FOLDER)
    if os.environ.get("BENCH_PATCHES"):
        bench_patches.apply(os.environ["BENCH_PATCHES"].split(","))
    if os.environ.get("BENCH_TRACE"):
        sys.path.insert(0, _FOLDER)
        import bench_trace

        sys.path.remove(_FOLDER)
        bench_trace.start(os.environ["BENCH_TRACE"])
