"""What a rehearsal found: `rehearsal.toml` beside a contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core.declaration import read
from bench.core.keys import digest
from bench.store.files import write_bytes
from bench.systems.contract import Contract

FILE = "rehearsal.toml"


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What a gate's runs left.

    Attributes:
        samples: how many were made.
        frames, fps, size: of the raw file, before the host retimes and crops it.
        sound: `speech`, `silence` or `none`, in the raw file.
        seconds: wall time of the slower run.
        memory_mb: largest resident size of any of its Python processes.
    """

    samples: int = 0
    frames: int = 0
    fps: float = 0.0
    size: str = ""
    sound: str = ""
    seconds: float = 0.0
    memory_mb: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One rehearsal of one system.

    Attributes:
        date: ISO.
        commit: of the checkout, with `+` when it was changed; empty when it is no git checkout.
        python, packages: of its environment.
        environment: `contract` (its own pins), `today` (`rehearsal.packages`) or `given` (an interpreter).
        device: `cpu` or `gpu`.
        contract: digest of the contract that was rehearsed, see `contract_digest`.
        patches: repairs of libraries that were applied.
        spared: what was made cheaper than the contract says.
        weights: stand-ins, by path inside the checkout.
        seed: what three runs showed: `settable`, `ignored` (two seeds, one result) or `random`.
        gates: what happened, by gate.
        network: whom it tried to reach.
        absent: files of the repository it looked for that were not there.
        unseen: weights that were not seen opened by Python (compiled readers are not seen).
        warnings: what it printed, the first few of each kind.
        differences: where reality and contract part, each with the line to mend; empty when verified.
    """

    date: str
    commit: str = ""
    python: str = ""
    environment: str = ""
    device: str = "cpu"
    contract: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    patches: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    seed: str = ""
    gates: Mapping[str, GateRecord] = field(default_factory=dict)
    network: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether every gate ran and nothing differed."""
        return not self.differences and bool(self.gates)


def contract_digest(contract: Contract) -> str:
    """Return the digest of what a rehearsal tries: commands, inputs, output, seed, weights' paths, patches."""
    gates = {name: commands.said() for name, commands in contract.gates.items()}
    parts = [contract.source.commit, gates, contract.inputs, contract.output, contract.seed.kind]
    parts += [[w.path for w in contract.weights], sorted(contract.patches), contract.run.cwd, contract.run.env]
    parts += [contract.options] if contract.options else []
    return digest(json.loads(json.dumps(parts, default=_plain)))[:16]


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else dataclasses.asdict(value)


def load_record(contract: Contract) -> Record | None:
    """Return the last rehearsal's record, or None.

    Raises:
        UsageError: the file breaks the schema.
    """
    path = Path(contract.folder) / FILE
    return read(path, Record) if path.is_file() else None


def sentence(contract: Contract) -> str:
    """Return in a line whether a contract was rehearsed, empty when it never was."""
    record = load_record(contract)
    if record is None:
        return ""
    where = f"at {record.commit[:12] or 'a folder without commit'} on {record.date} with Python {record.python}"
    where += f" and torch {record.packages['torch']}" if record.packages.get("torch") else ""
    if not record.verified:
        count = len(record.differences)
        return f"rehearsed {where}: {count} difference{'s' if count != 1 else ''}"
    if record.contract != contract_digest(contract):
        return f"rehearsed {where}; the contract was changed since"
    return f"verified by rehearsal {where}"


def write_record(record: Record, path: Path) -> None:
    """Write a record as TOML."""
    tables: dict[str, Any] = {"": {}}
    for spec in dataclasses.fields(record):
        value = getattr(record, spec.name)
        if spec.name == "gates":
            tables |= {f'gates."{gate}"': dataclasses.asdict(found) for gate, found in value.items()}
        elif isinstance(value, Mapping):
            tables[spec.name] = value
        else:
            tables[""][spec.name] = value
    lines = ["# Written by `bench rehearse`. What the contract says was compared with what its repository does."]
    for name, values in tables.items():
        lines += ["", f"[{name}]"] if name else []
        lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items() if value not in ("", ())]
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        inner = "".join(f"\n  {_value(item)}," for item in value)
        return f"[{inner}\n]" if value else "[]"
    # A JSON string is a TOML string, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
