"""Ways to damage texts and tables, and the list of formats that are damaged."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NASTY = (
    "", "..", "/etc/passwd", "../../../outside/planted", "a/../../b", "con", ".hidden", "-rf", "n" * 300, "x\0y",
    "\x1b]0;OWNED\x07\x1b[31m", "\x9b31m", "\u202egnp.exe", "\n::error::x", "::set-env name=x::y", "##[error]x",
    "=cmd|' /C calc'!A0", "@SUM(1)", "<script>alert(1)</script>", "![x](javascript:y)",
    "`$(touch planted)`", "; touch planted",
    "\\input{/etc/passwd}", "$\\write18{x}$", "%s%n{0.__class__}", "\ud800", "é東🎬", "True", "1e999",
    "*" * 50, "(a+)+$",
)  # fmt: skip
BARE = (
    "null", "true", "-1", "0", "1e999", "NaN", "9" * 400, "1.5", "[]", "{}", "[[]]", '""', "[" * 3000,
    '{"a":' * 3000,
    "1979-13-45", "99999999999999999999", "-9223372036854775808",
)  # fmt: skip
_VALUE = re.compile(r'"(?:[^"\\\n]|\\.)*"|-?\b\d+(?:\.\d+)?\b|\btrue\b|\bfalse\b|\bnull\b')


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Damage a text in one of nine ways."""
    text = data.decode("utf-8", "surrogateescape")
    spots = list(_VALUE.finditer(text))
    way = random.integers(9)
    if way < 4 and spots:
        for _ in range(random.integers(1, 3)):
            spot = spots[random.integers(len(spots))]
            new = json.dumps(NASTY[random.integers(len(NASTY))]) if way < 2 else BARE[random.integers(len(BARE))]
            text = text[: spot.start()] + new + text[spot.end() :]
            spots = list(_VALUE.finditer(text))[:2000] or [spot]
        return text.encode("utf-8", "surrogatepass")
    if way == 4:
        lines = text.splitlines(keepends=True)
        at = int(random.integers(len(lines)))
        lines[at:at] = [lines[random.integers(len(lines))]] * int(random.integers(0, 3))
        del lines[random.integers(len(lines))]
        return "".join(lines).encode("utf-8", "surrogateescape")
    found = bytearray(data)
    at = int(random.integers(len(found)))
    if way == 5:
        del found[at:]
    elif way == 6:
        found[at : at + int(random.integers(1, 60))] = b""
    elif way == 7:
        found[at:at] = [b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b'"', b"}", b"]", b","][random.integers(8)]
    else:
        for _ in range(random.integers(1, 9)):
            found[random.integers(len(found))] = random.integers(256)
    return bytes(found)


def mutated_rows(data: bytes, random: np.random.Generator) -> bytes:
    """Damage a table: a cell, a column, or its bytes."""
    way = random.integers(4)
    if way == 3:
        return mutated(data, random)
    rows = pd.read_parquet(io.BytesIO(data))
    name = str(random.choice(list(rows.columns)))
    if way == 0:
        rows = rows.drop(columns=name)
    elif way == 1:
        rows[name] = (
            [[1, "x"], b"\xff", {"a": 1}, "text"][random.integers(4)] if rows.empty else rows[name].map(str)
        )
    else:
        column = rows[name].astype(object)
        for at in random.integers(len(rows), size=3):
            nasty = NASTY[random.integers(len(NASTY))].encode("utf-8", "replace").decode()
            number = [float("inf"), -1e308, 2**53, -1][random.integers(4)]
            column.iloc[at] = nasty if isinstance(column.iloc[at], str) else number
        text = isinstance(rows[name].iloc[0], str)
        rows[name] = column.map(str) if text else pd.to_numeric(column, errors="coerce").astype(float)
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


class Case:
    """A format: makes good files in a folder, says which of them is damaged, and reads it."""

    def __init__(self, file: Path, read: Callable[[], object], mutate: Any = mutated) -> None:
        self.file, self.read, self.mutate = file, read, mutate


CASES: dict[str, Callable[[Path], Case]] = {}


def case(make: Callable[[Path], Case]) -> Callable[[Path], Case]:
    """Register a format."""
    CASES[make.__name__] = make
    return make


def cli(*words: object) -> None:
    """Run a command; it may say no, in words."""
    from bench.cli import invoke

    code = invoke([str(word) for word in words])
    assert code in range(6), code


def dump(path: Path, value: object) -> Path:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
    return path
