from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.core.keys import canonical_json, code_digest, digest, file_digest, sample_seed

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(plain)
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(item: object) -> object:
        if isinstance(item, dict):
            return {k: turned(item[k]) for k in reversed(list(item))}
        return [turned(i) for i in item] if isinstance(item, list) else item

    assert canonical_json(turned(value)) == canonical_json(value)


def test_golden_keys_stay_what_they_were() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5,null]}'
    assert digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    assert sample_seed(0, "synthetic", "clip-00", 0) == sample_seed(0, "synthetic", "clip-00", 0)


def test_a_path_or_nan_has_no_place_in_a_key() -> None:
    with pytest.raises(TypeError, match="no canonical form"):
        digest({"path": Path("/tmp")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(math.nan)


def test_a_dataclass_counts_by_its_fields() -> None:
    @dataclasses.dataclass
    class Settings:
        steps: int
        scale: float

    assert digest(Settings(4, 2.0)) == digest({"steps": 4, "scale": 2.0})
    assert digest(Settings(4, 2.0)) != digest(Settings(5, 2.0))


def test_code_digest_sees_code_and_not_its_comments(tmp_path: Path) -> None:
    def of(text: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "m.py"
        path.parent.mkdir()
        path.write_text(text)
        return code_digest((str(path),))

    plain_code = of("def f(x):\n    return x + 1\n")
    assert of('"""Doc."""\n# why\ndef f(x):\n    """Add."""\n    return (x + 1)\n') == plain_code
    assert of("def f(x):\n    return x + 2\n") != plain_code


def test_seeds_depend_on_what_is_made_and_on_nothing_else() -> None:
    base = sample_seed(0, "d", "s", 0)
    others = {sample_seed(1, "d", "s", 0), sample_seed(0, "e", "s", 0), sample_seed(0, "d", "t", 0)}
    assert base not in others | {sample_seed(0, "d", "s", 1)}
    assert 0 <= base < 2**31


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x").startswith("ba7816bf")
