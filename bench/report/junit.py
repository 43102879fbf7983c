"""Gate outcomes as JUnit XML: one test case per check, so that any CI shows which number fell."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

from bench.report.changes import column_of
from bench.results.gate import Check, Outcome

# Characters XML 1.0 cannot carry, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(outcome: Outcome) -> str:
    """Return a `testsuites` document.

    `fail` is a failure, `missing` an error, `inconclusive` and `no reference` are skipped with the reason.
    """
    failures, errors = outcome.count("fail"), outcome.count("missing")
    skipped = outcome.count("inconclusive") + outcome.count("no reference")
    counts = {"tests": str(len(outcome.checks)), "failures": str(failures), "errors": str(errors), "time": "0"}
    root = ET.Element("testsuites", {"name": "bench gate", **counts})
    # Only the inner element may count what was skipped.
    suite = ET.SubElement(
        root, "testsuite",
        {"name": _text(f"gate against {outcome.reference}"), **counts, "skipped": str(skipped)},
    )  # fmt: skip
    for check in outcome.checks:
        _case(suite, check)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, check: Check) -> None:
    cell = check.difference.cell
    names = {"classname": _text(f"{cell.protocol}.{cell.column}"), "name": _text(check.name), "time": "0"}
    case = ET.SubElement(suite, "testcase", names)
    if check.verdict == "pass":
        return
    tag = {"fail": "failure", "missing": "error"}.get(check.verdict, "skipped")
    attributes = {"message": _text(check.message)}
    if tag != "skipped":
        attributes["type"] = "coverage" if check.why.startswith("coverage") else check.verdict
    element = ET.SubElement(case, tag, attributes)
    if tag == "failure":
        element.text = _text("\n".join(_lines(check)))


def _lines(check: Check) -> list[str]:
    d = check.difference
    column = column_of(d)
    lines = [f"reference {column.show(d.old)}, this run {column.show(d.new)}"]
    if math.isfinite(d.gain):
        lines.append(f"gain {column.show(d.gain)} [{column.show(d.low)}, {column.show(d.high)}], p {check.p:.4g}")
    for change in d.worst:
        lines.append(f"{change.sample}: {column.show(change.old)} -> {column.show(change.new)}")
        lines += [f"  {path}" for path in (change.old_clip, change.new_clip) if path]
    return lines


def _text(raw: str) -> str:
    return _FORBIDDEN.sub("\ufffd", raw)
