"""What a gate says to GitHub Actions: at most ten annotations, and a step summary that is never cut off."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from bench.core.printable import printable_lines
from bench.report import changes
from bench.results.gate import Outcome

ANNOTATIONS = 10  # GitHub drops what exceeds ten errors or ten warnings per step, silently
SUMMARY_BYTES = 900_000  # of 1 MiB that a step may write


def commands(outcome: Outcome) -> list[str]:
    """Return workflow commands, most severe first; the last one says how many more there are."""
    levels = {"fail": "error", "missing": "error", "inconclusive": "warning"}
    marked = [c for c in outcome.checks if c.verdict in levels]
    shown = marked if len(marked) <= ANNOTATIONS else marked[: ANNOTATIONS - 1]
    lines = [f"::{levels[c.verdict]} title={_property(c.name)}::{_message(c.message)}" for c in shown]
    if len(shown) < len(marked):
        level = levels[marked[len(shown)].verdict]
        rest = len(marked) - len(shown)
        lines.append(f"::{level} title=bench gate::{rest} more; the step summary has all of them")
    return lines


def _message(raw: str) -> str:
    return printable_lines(raw).replace("%", "%25").replace("\n", "%0A")


def _property(raw: str) -> str:
    return _message(raw).replace(":", "%3A").replace(",", "%2C")


def summary(outcome: Outcome) -> str:
    """Return the Markdown for the step summary, cut at a line before the limit."""
    full = changes.gate_markdown(outcome)
    data = full.encode()
    if len(data) <= SUMMARY_BYTES:
        return full
    head = data[:SUMMARY_BYTES].decode(errors="ignore").rsplit("\n", 1)[0]
    return head + "\n\nThe rest is left out: a step summary holds 1 MiB. The JUnit file has every check.\n"


def publish(outcome: Outcome, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Append the summary to the step's file and return the annotations to print; does nothing elsewhere."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return []
    target = environment.get("GITHUB_STEP_SUMMARY")
    if target:
        with Path(target).open("a", encoding="utf-8") as stream:
            stream.write(summary(outcome))
    return commands(outcome)
