"""Text from files is shown and does nothing; broken JSON ends in a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TypedDict

import pytest

from bench.cli import display, invoke
from bench.core.declaration import known_json, read_json, read_json_lines
from bench.core.errors import UsageError
from bench.core.printable import printable, printable_json
from bench.report import latex, markdown
from bench.store.records import Records
from bench.store.storage import Folder

NASTY = [
    "\x1b]0;OWNED\x07",
    "a\x9b31m",
    "\u202egnp.exe",
    "x\n::error::y",
    "::error::y",
    "a ##[error]b",
    "\udcff.mp4",
]


@pytest.mark.parametrize("raw", NASTY)
def test_nothing_but_itself_is_shown(raw: str, capsys: pytest.CaptureFixture[str]) -> None:
    for shown in (printable(raw), markdown.escape(raw), markdown.code(raw), latex.escape(raw)):
        assert shown.isprintable()
        assert not shown.lstrip().startswith("::")
        assert "##[" not in shown
        shown.encode()
    display.table(("name",), [(raw,)])
    display.output.print(raw)
    display.emit_json({"name": raw})
    said = capsys.readouterr().out
    said.encode()
    assert not [c for c in said if not c.isprintable() and c != "\n"]
    assert not [line for line in said.splitlines() if line.lstrip().startswith("::") or "##[error" in line[1:3]]


@pytest.mark.parametrize("raw", [*NASTY, "é Ж 東 🎬 \U000e0001"])
def test_json_for_programs_keeps_the_value(raw: str) -> None:
    text = printable_json(json.dumps([raw], ensure_ascii=False, indent=1))
    assert json.loads(text) == [raw]
    assert text.replace("\n", "").isprintable()


def test_a_code_span_cannot_be_left() -> None:
    assert markdown.code("x` <img> `\n# title") == "`x' <img> ' # title`"


def test_an_error_about_a_file_speaks_to_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"x\n::error::\x1b[31m\xff")
    assert invoke(["report", str(tmp_path / name)]) == 4
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert not [line for line in said.splitlines() if line.startswith("::")]


class Shape(TypedDict, total=False):
    names: list[str]
    size: float
    inner: dict[str, list[int]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b"{", "not valid JSON"),
        (b'{"a": "\xff"}', "not valid JSON"),
        (b"9" * 5000, "not valid JSON"),
        (b"[]", "must be an object, not a list"),
        (b"null", "must be an object, not null"),
        (b'{"names": ["a", 1]}', "names.1: must be a string, not an integer"),
        (b'{"names": null}', "names: must be a list, not null"),
        (b'{"size": 1' + b"0" * 400 + b"}", "size: is too large a number"),
        (b'{"inner": {"x": [true]}}', "inner.x.0: must be an integer, not true or false"),
    ],
)
def test_broken_json_is_a_sentence_with_file_and_field(data: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(data)
    for read in (read_json, read_json_lines):
        with pytest.raises(UsageError) as caught:
            read(file, Shape)
        assert said in str(caught.value)
        assert str(file) in str(caught.value)
    assert known_json(file, Shape) is None


def test_what_another_version_added_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"size": 3, "new": {"a": 1}}')
    assert read_json(tmp_path / "x.json", Shape) == {"size": 3.0, "new": {"a": 1}}
    with pytest.raises(UsageError, match="Cannot read"):
        read_json(tmp_path / "missing.json", Shape)


@pytest.mark.parametrize(
    "text",
    ['{"status": "ok"}', "[]", '{"status": "ok", "values": {"a": "x"}, "method": 1}', "[" * 99999, "{}",
     '{"status": "ok", "method": "m", "sample": "s", "clip": {"sha256": 1, "size": 2, "suffix": ""}}'],
)  # fmt: skip
def test_a_record_of_another_shape_is_no_record(text: str, tmp_path: Path) -> None:
    records = Records(Folder(tmp_path))
    records.put("gen", "aa", {})
    records.path("gen", "aa").write_text(text)
    assert records.get("gen", "aa") is None


def test_names_that_are_no_utf8_come_back_from_records(tmp_path: Path) -> None:
    records = Records(Folder(tmp_path))
    name = os.fsdecode(b"caf\xe9.mp4")
    records.put("score", "aa", {"status": "error", "detail": name})
    assert records.get("score", "aa") == {"status": "error", "detail": name}
    records.path("score", "aa").read_bytes().decode("utf-8")
