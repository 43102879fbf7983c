"""Finding methods, metrics, extractors and splits by the name a user types."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from bench.core import registry
from bench.core.errors import MissingError, UsageError, did_you_mean
from bench.core.keys import code_digest, digest, source_digest
from bench.core.options import check, split_name, variant
from bench.core.registry import UnknownName
from bench.core.spec import GATES, Domain, MethodSpec, MetricSpec
from bench.core.views import ClipMetric, Extractor, SetMetric
from bench.methods.base import Method
from bench.metrics.precision import Precision

CONTRACT = "contract:"
DEFAULTS = "defaults"
HERE = "here:"
"""Begins the target of a method given as an object: it exists in this process only."""
_SET = "#"
"""Stands in a target before the settings that a user chose, which are JSON."""

_objects: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method found by name.

    Attributes:
        target: what a worker loads, see `load_method`.
        spec: its declaration.
        code: digest of the code behind its output.
    """

    target: str
    spec: MethodSpec
    code: str

    @property
    def place(self) -> str:
        """Where it comes from, for people."""
        if self.target.startswith(HERE):
            kind = _objects[self.target.partition(_SET)[0]]
            kind = kind if isinstance(kind, type) else type(kind)
            return f"{kind.__module__}:{kind.__qualname__}"
        return self.target.partition(_SET)[0].removeprefix(CONTRACT)


def method_targets() -> dict[str, str]:
    """Return every known method name with what to load for it."""
    from bench.systems.contract import contract_paths

    python = registry.targets(registry.METHODS, "bench.methods")
    return python | {name: f"{CONTRACT}{name}" for name in contract_paths() if name not in python}


def find_method(method: object, settings: Mapping[str, Any] | None = None) -> MethodEntry:
    """Return a method by what a user may call it.

    Args:
        method: its name, `module:Class`, `path/to/file.py:Class`, a contract's folder, each with settings behind
            it (`actalker+steps=10`); or the class or an instance itself, which then runs in this process.
        settings: values of what its spec declares as options, by name.

    Raises:
        UnknownName: with the closest known name.
        UsageError: what was found is no method, or a setting is none of its own.
    """
    if not isinstance(method, str):
        return _set(_entry(repr(method), _keep(method), method), method, settings or {})
    known = method in method_targets()
    plain, written = (method, {}) if known else split_name(method)
    target = _target(plain)
    try:
        loaded = _method_class(target)
        return _set(_entry(plain, target, loaded), loaded, {**written, **(settings or {})})
    except (ImportError, SyntaxError) as error:
        raise UsageError(
            f"Cannot load method '{method}': {type(error).__name__}: {error}.", "See: bench list methods"
        ) from error


def _entry(name: str, target: str, loaded: Any) -> MethodEntry:
    spec = getattr(loaded, "spec", None)
    if not isinstance(spec, MethodSpec):
        raise UsageError(
            f"'{name}' is no method: it has no `spec` of type MethodSpec.",
            "See: bench show doc methods",
        )
    wrong = [gate for gate in spec.gates if gate not in GATES]
    if wrong:
        raise UsageError(
            f"The spec of method '{spec.name}' ({name}) has a gate '{wrong[0]}'."
            f"{did_you_mean(wrong[0], list(GATES))}",
            f"Known: {', '.join(GATES)}",
        )
    kind = loaded if isinstance(loaded, type) else type(loaded)
    if kind.__module__ == "__main__" and target.startswith(HERE):
        return MethodEntry(target, spec, _typed_in(kind))
    return MethodEntry(target, spec, _code_of(loaded))


def _set(entry: MethodEntry, loaded: Any, wanted: Mapping[str, Any]) -> MethodEntry:
    """Return a method with settings: in its target, its name, and its spec."""
    spec, chosen = entry.spec, check(entry.spec, wanted)
    if not chosen:
        return entry
    if not isinstance(loaded, type) and not hasattr(loaded, "configured"):
        raise UsageError(f"'{spec.name}' is an instance already.", "Pass its class, or set it where it is made.")
    spec = replace(spec, name=variant(spec.name, chosen), settings={**spec.settings, **chosen})
    return replace(entry, target=f"{entry.target}{_SET}{json.dumps(chosen, sort_keys=True)}", spec=spec)


def _code_of(loaded: Any) -> str:
    return code_digest(tuple(getattr(loaded, "code_modules", None) or (_source_of(loaded),)))


def method_code(target: str) -> str:
    """Return the digest of the code behind a method on this machine; takes what `load_method` does."""
    return _code_of(_method_class(target))


def is_control(name: str) -> bool:
    """Tell whether a name belongs to a built-in control row."""
    return name in registry.METHODS and _method_class(registry.METHODS[name]).spec.kind == "control"


def _keep(method: object) -> str:
    """Remember a method given as an object and return its target."""
    target = f"{HERE}{id(method)}"
    _objects[target] = method
    return target


def _typed_in(kind: type) -> str:
    """Return the digest of a class written in a script or notebook cell."""
    import inspect
    import textwrap

    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError) as error:
        raise UsageError(
            f"The source of {kind.__name__} cannot be read, so its results could not be told from another's.",
            f"Write the class into a file and pass 'that_file.py:{kind.__name__}'.",
        ) from error
    return digest([source_digest(source)])


def _target(name: str) -> str:
    """Return what to load for what a user typed."""
    from bench.systems.contract import FILE

    known = method_targets()
    if name in known:
        return known[name]
    if name.endswith(".py"):
        raise UsageError(f"'{name}' is a file, and a method is a class in it.", f"Name it, e.g. {name}:MyMethod")
    if (Path(name) / FILE).is_file():
        return f"{CONTRACT}{Path(name).resolve()}"
    if ":" in name and not name.startswith(CONTRACT):
        return name
    raise UnknownName("method", name, list(known))


def state(target: str) -> str:
    """Return `ready`, or what a method still needs. Takes what `load_method` does."""
    target = target.partition(_SET)[0]
    if target.startswith(CONTRACT):
        from bench.systems.host import readiness

        return readiness(target.removeprefix(CONTRACT))
    asked = getattr(_method_class(target), "state", None)
    return asked() if asked is not None else "ready"


def require_ready(entries: Iterable[MethodEntry]) -> None:
    """Refuse to start with a method that still needs something.

    Raises:
        MissingError: naming every such method and what it needs.
    """
    waiting = {e.spec.name: needs for e in entries if (needs := state(e.target)) != "ready"}
    if waiting:
        lines = "\n".join(f"  {name}: {needs}" for name, needs in waiting.items())
        raise MissingError(f"These methods cannot run here yet:\n{lines}", "See: bench list methods")


def load_method(target: str) -> Method:
    """Build a method in a worker."""
    loaded, (_, _, written) = _method_class(target), target.partition(_SET)
    chosen = json.loads(written) if written else {}
    if isinstance(loaded, type):
        return loaded(**chosen)
    return loaded.configured(**chosen) if chosen else loaded


def _method_class(target: str) -> Any:
    target = target.partition(_SET)[0]
    if target.startswith(HERE):
        return _objects[target]
    if target.startswith(CONTRACT):
        from bench.systems.host import external_method

        return external_method(target.removeprefix(CONTRACT))
    return registry.resolve(target)


def _source_of(loaded: Any) -> str:
    kind = loaded if isinstance(loaded, type) else type(loaded)
    module = importlib.import_module(kind.__module__)
    is_ours = kind.__module__.partition(".")[0] in ("bench", "actalker")  # these say what they rest on
    return kind.__module__ if is_ours else str(module.__file__)


@cache
def metrics() -> dict[str, ClipMetric | SetMetric]:
    """Return every metric by protocol id."""
    found: dict[str, ClipMetric | SetMetric] = {}
    for module in _metric_modules():
        found.update({m.spec.id: m for m in (kind() for kind in module.METRICS)})
    return dict(sorted(found.items()))


def plain_protocols() -> list[str]:
    """Return the ids of protocols in float32: what a list shows, and what patterns and families stand for."""
    return [i for i, m in metrics().items() if "precision" not in m.spec.params]


@cache
def extractors() -> dict[str, Extractor]:
    """Return every feature extractor by name."""
    found: dict[str, Extractor] = {}
    for module in _metric_modules():
        found.update({e.spec.name: e for e in (kind() for kind in getattr(module, "EXTRACTORS", ()))})
    return found


def _metric_modules() -> list[Any]:
    names = [*registry.METRIC_MODULES, *registry.targets({}, "bench.metrics").values()]
    return [importlib.import_module(name) for name in names]


def metric_code(metric: ClipMetric | SetMetric | Extractor) -> str:
    """Return the digest of the code behind a metric or an extractor."""
    return code_digest(tuple(getattr(metric, "code_modules", None) or (type(metric).__module__,)))


def protocol_digest(metric: ClipMetric | SetMetric) -> str:
    """Return the digest of a metric: everything but the clips that decides its values."""
    spec = metric.spec
    parts = [feature_digest(name) for name in spec.features]
    if spec.kind == "set":
        parts.append(code_digest(("bench.metrics.sets", "bench.metrics.pairing")))
    return digest(
        [spec.id, spec.version, spec.params, [w.sha256 for w in spec.weights], metric_code(metric), parts]
    )


@cache
def feature_digest(name: str) -> str:
    """Return the digest of an extractor: everything but the clip that decides a feature."""
    extractor = extractors()[name]
    spec = extractor.spec
    return digest([spec.name, spec.version, spec.params, [w.sha256 for w in spec.weights], metric_code(extractor)])


def feature_fields(clip: str, name: str, picture: str = "") -> dict[str, str]:
    """Return the fields of the key under which an extractor's result for a clip is stored.

    Args:
        clip: sha256 of the clip's file.
        name: of the extractor.
        picture: sha256 of the sample's reference picture; counts only for extractors that look at it.
    """
    fields = {
        "kind": "feature",
        "extractor": name,
        "extractor_digest": feature_digest(name),
        "clip": clip,
    }
    return fields | {"picture": picture} if picture and extractors()[name].spec.meets else fields


def feature_key(clip: str, name: str, picture: str = "") -> str:
    """Return the key under which an extractor's result for a clip is stored, see `feature_fields`."""
    return digest(feature_fields(clip, name, picture))


def choose_metrics(
    domain: Domain, wanted: Iterable[str] | None, precision: Precision = Precision.FP32
) -> list[ClipMetric | SetMetric]:
    """Return the metrics of a run, in order of id.

    Args:
        domain: of the split.
        wanted: protocol ids or patterns (`sync/*`), or None for the defaults.
        precision: protocols that have a variant in this arithmetic are replaced by it.

    Raises:
        UnknownName: a name that matches nothing.
        UsageError: a metric of another domain was asked for by name, or none has a variant in `precision`.
    """
    known = metrics()
    chosen = _by_name(domain, wanted)
    if precision is Precision.FP32:
        return [known[i] for i in chosen]
    variants = [i.removesuffix(precision.suffix) + precision.suffix for i in chosen]
    if not any(i in known for i in variants):
        raise UsageError(
            f"None of these metrics has a variant in {precision}: {', '.join(chosen)}.",
            "It exists for the networks of real faces: sync, fid, fvd, lpips. Leave out --precision.",
        )
    kept = (new if new in known else old for old, new in zip(chosen, variants, strict=True))
    return [known[i] for i in dict.fromkeys(kept)]


def _by_name(domain: Domain, wanted: Iterable[str] | None) -> list[str]:
    known = metrics()
    if wanted is None:
        return [i for i, m in known.items() if m.spec.default and domain in m.spec.domains]
    chosen: set[str] = set()
    for name, matches in match_metrics(wanted).items():
        usable = [i for i in matches if domain in known[i].spec.domains]
        if not usable:
            other = ", ".join(known[matches[0]].spec.domains)
            raise UsageError(
                f"Metric '{name}' is for the {other} domain, and this split is {domain}: its weights were made for"
                " other pictures.",
                "See: bench list metrics",
            )
        chosen.update(usable)
    return sorted(chosen)


def match_metrics(wanted: Iterable[str]) -> dict[str, list[str]]:
    """Return the protocol ids that each id, family or pattern stands for; `defaults` for those of a plain run.

    A variant in another precision (`fid/facecrop+bf16`) is meant only where its suffix is written.

    Raises:
        UnknownName: one matches nothing.
    """
    found: dict[str, list[str]] = {}
    for name in wanted:
        if name == DEFAULTS:
            found[name] = [i for i, m in metrics().items() if m.spec.default]
            continue
        ids = metrics() if "+" in name else plain_protocols()
        found[name] = [i for i in ids if fnmatchcase(i, name) or i.split("/")[0] == name]
        if not found[name]:
            raise UnknownName("metric", name, plain_protocols())
    return found


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A metric that cannot run here, and the command that changes that."""

    spec: MetricSpec
    reason: str
    detail: str


def unavailable(metric: ClipMetric | SetMetric) -> Unavailable | None:
    """Tell why a metric cannot run here (missing weights, packages or files), or None when it can."""
    from importlib.util import find_spec

    from bench import weights
    from bench.core.spec import Reason, Unscored

    read = [extractors()[name].spec for name in metric.spec.features]
    for package in (p for spec in read for p in spec.packages):
        if find_spec(package) is None:
            return Unavailable(
                metric.spec,
                Reason.MISSING_PACKAGE,
                f"{package} is not installed; run: pip install 'actalker-bench[faces]'",
            )
    for ref in dict.fromkeys((*metric.spec.weights, *(ref for spec in read for ref in spec.weights))):
        try:
            weights.locate(ref.name)
        except Unscored as missing:
            return Unavailable(metric.spec, missing.reason, missing.detail)
    try:
        getattr(metric, "require", lambda: None)()
    except Unscored as missing:
        return Unavailable(metric.spec, missing.reason, missing.detail)
    return None


def require_available(chosen: Iterable[ClipMetric | SetMetric], wanted: Iterable[str]) -> None:
    """Refuse to start when what was asked for by name cannot run.

    Of a family or pattern (`expr`, `fvd/*`) at least one protocol must be able to; the others stay without a
    value.

    Args:
        chosen: the metrics of the run.
        wanted: what the user wrote, see `match_metrics`.

    Raises:
        MissingError: naming every such metric and the command that gets what it needs.
    """
    missing = {m.spec.id: unavailable(m) for m in chosen}
    refused: dict[str, Unavailable] = {}
    for matches in match_metrics(wanted).values():
        asked = [i for i in missing if i in matches or i.removesuffix(Precision.BF16.suffix) in matches]
        blocked = {i: u for i in asked if (u := missing[i]) is not None}
        if len(blocked) == len(asked):
            refused |= blocked
    if refused:
        lines = "\n".join(f"  {name}: {u.detail}" for name, u in refused.items())
        raise MissingError(f"These metrics cannot run here:\n{lines}", "Or leave them out of --metrics.")
