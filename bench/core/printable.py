"""Text from files on its way to a terminal, a CI log or a document: it can show itself and do nothing else."""

from __future__ import annotations

import re


def printable(raw: str) -> str:
    """Return text on one line that neither moves the cursor, nor colours the terminal, nor speaks to a CI runner.

    Control and direction characters, line breaks and bytes that are no UTF-8 become U+FFFD; the beginnings of
    workflow commands (`::`, `##[`) are pulled apart.
    """
    clean = raw if raw.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in raw)
    return re.sub(r"^(\s*):(?=:)", r"\1: ", clean).replace("##[", "## [")


def printable_lines(raw: str) -> str:
    """Return text of several lines, each as `printable` gives it."""
    return "\n".join(map(printable, raw.split("\n")))


_UNSEEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(document: str) -> str:
    """Return a whole document in which text from files can neither reorder what is read nor break the encoding.

    Control and direction characters and bytes that are no UTF-8 become U+FFFD; its own spaces stay.
    """
    return _UNSEEN.sub("\ufffd", document)


def printable_json(text: str) -> str:
    """Return JSON text with everything that is not printable written as escapes: the same value, safe to show."""

    def escaped(found: re.Match[str]) -> str:
        code = found[0].encode("utf-16-be", "surrogatepass").hex()
        return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))

    return re.sub(r"[^\n]", lambda m: m[0] if m[0].isprintable() else escaped(m), text)
