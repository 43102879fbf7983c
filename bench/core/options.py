"""Settings of a method that a user chose: written as text, checked against what the method declares.

`--set METHOD.NAME=VALUE` sets one; `METHOD+NAME=VALUE` names the method with it, and is what its row is called, so
that two settings of one method can stand in one table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bench.core.errors import UsageError, did_you_mean
from bench.core.spec import MethodSpec, Option

_NEXT = re.compile(r"\+(?=[A-Za-z_]\w*=)")
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Return a method's plain name and the settings written behind it: `actalker+steps=10`."""
    plain, *parts = _NEXT.split(name)
    return plain, {key: value for key, _, value in (part.partition("=") for part in parts)}


def parse(assignments: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the values of `--set METHOD.NAME=VALUE` by method and name; a later one wins.

    Raises:
        UsageError: one has another form.
    """
    found: dict[str, dict[str, str]] = {}
    for text in assignments:
        place, equals, value = text.partition("=")
        method, _, name = place.rpartition(".")
        if not (equals and method and name.isidentifier()):
            raise UsageError(
                f"'{text}' sets nothing.", "Write --set METHOD.NAME=VALUE, e.g. --set actalker.steps=10"
            )
        found.setdefault(method, {})[name] = value
    return found


def check(spec: MethodSpec, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that differ from the defaults, with the types that the method declares, by name.

    Args:
        spec: of the method.
        wanted: values by name; texts are read as the declared type.

    Raises:
        UsageError: the method declares no such option, or does not allow the value.
    """
    chosen = {}
    for name, value in sorted(wanted.items()):
        option = spec.options.get(name)
        if option is None:
            raise UsageError(
                f"Method '{spec.name}' has no setting '{name}'.{did_you_mean(name, list(spec.options))}",
                f"It has {', '.join(spec.options)}; see: bench show method {spec.name}"
                if spec.options
                else "It has none.",
            )
        read = _read(option, value) if isinstance(value, str) else value
        if wrong := option.refuses(read):
            raise UsageError(f"{spec.name}.{name} = {read} {wrong}.", f"It takes: {_about(option)}")
        read = float(read) if option.kind == "float" else read
        if read != option.default:
            chosen[name] = read
    return chosen


def variant(name: str, chosen: Mapping[str, Any]) -> str:
    """Return what the row of a method with these settings is called."""
    return "+".join([name, *(f"{key}={_shown(value)}" for key, value in sorted(chosen.items()))])


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = text.removesuffix(".0") if isinstance(value, float) else text
    # A comma, a colon or a star would mean something where names are listed.
    return re.sub(r"[^\w.%/=+-]+", "_", text)


def _read(option: Option, text: str) -> Any:
    """Return a text as the option's type, or as it is where it cannot be read so."""
    if option.kind == "bool":
        return _TRUTH.get(text.lower(), text)
    if option.kind == "str":
        return text
    try:
        return int(text) if option.kind == "int" else float(text)
    except ValueError:
        return text


def _about(option: Option) -> str:
    """Return kind, bounds, default and meaning of an option in one line."""
    bounds = [f"at least {option.low:g}"] if option.low is not None else []
    bounds += [f"at most {option.high:g}"] if option.high is not None else []
    said = [", ".join(option.choices) or option.kind, *bounds]
    said.append("the method decides" if option.default is None else f"default {option.default}")
    return ", ".join(said) + (f": {option.summary}" if option.summary else "")
