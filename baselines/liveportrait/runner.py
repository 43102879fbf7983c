"""Keeps LivePortrait's networks loaded between samples.

The entry script's `main()` is called once per sample with that sample's arguments, in one process; the class
it builds the networks with is called once only. Relies on two names of `inference.py`, `main` and
`LivePortraitPipeline`, which are there at the contract's commit: where they differ this script ends before it
is ready, and every sample runs in a process of its own.
"""

import json
import os
import pathlib
import sys
import traceback

sys.path.insert(0, str(pathlib.Path.cwd()))
protocol = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever the system prints must not end up between the answers

import inference  # noqa: E402

build, built = inference.LivePortraitPipeline, []
serve = inference.main


def once(*arguments, **options):
    """Return the pipeline; its options do not depend on the sample."""
    if not built:
        built.append(build(*arguments, **options))
    return built[0]


inference.LivePortraitPipeline = once


def answer(message):
    """Write one line for the harness."""
    protocol.write(json.dumps(message) + "\n")
    protocol.flush()


answer({"ready": True})
for line in sys.stdin:
    job = json.loads(line)
    os.chdir(job["cwd"])
    sys.argv = ["inference.py", *job["argv"]]
    try:
        serve()
        answer({"id": job["id"], "ok": True})
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            answer({"id": job["id"], "ok": True})
            continue
        traceback.print_exc()
        answer({"id": job["id"], "ok": False, "error": repr(error)})
