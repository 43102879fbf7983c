"""Lists are drawn by hash order: fixed vectors, prefixes, pairing."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from bench.core.resources import data_folder
from bench.data import declared, ravdess
from bench.data.datasets import list_digest
from bench.data.selection import clip_order, cross_pairs, group_order, grouped, order_hash


def digest(ids):
    return hashlib.sha256("".join(f"{i}\n" for i in ids).encode()).hexdigest()


def test_hash_order_vector():
    groups = group_order("celebv-hq", ["AAAAAAAAAAA", "BBBBBBBBBBB", "CCCCCCCCCCC", "-DDDDDDDDDD"])
    assert groups == ["-DDDDDDDDDD", "AAAAAAAAAAA", "CCCCCCCCCCC", "BBBBBBBBBBB"]
    assert order_hash("v1", "celebv-hq", "group", "-DDDDDDDDDD").startswith("4c6ec063cada")
    assert clip_order("celebv-hq", ["AAAAAAAAAAA_0", "AAAAAAAAAAA_1"]) == ["AAAAAAAAAAA_1", "AAAAAAAAAAA_0"]


def test_ravdess_lists_are_the_published_rule():
    ids = ravdess.draw(100)
    assert digest(ids) == "1289135bca0a7bdd0d405fe0d831509c62af8dd12a4662cdeb27fd34e5e6404a"
    per_actor = [sum(ravdess.actor(i) == a for i in ids) for a in ravdess.ACTORS]
    assert sorted(set(per_actor)) == [4, 5] and per_actor.count(5) == 4
    per_emotion = [sum(ravdess.emotion(i) == f"{e:02d}" for i in ids) for e in range(1, 9)]
    assert set(per_emotion) <= {12, 13}
    assert sum(ravdess.sex(ravdess.actor(i)) == "female" for i in ids) == 51
    assert ravdess.draw(8, actors=2)[:2] == ["01-01-02-01-02-01-07", "01-01-04-02-02-02-22"]
    assert ravdess.draw(50) == ids[:50], "a shorter list is a prefix"


def test_shipped_lists_follow_the_rule():
    for name, drawn in (("test", ravdess.draw(100)), ("ci", ravdess.draw(8, actors=2))):
        rule = declared.declared("ravdess").subsets[name].rule
        made = declared.FrozenList(ravdess.header(name, len(drawn), rule), tuple(ravdess.entries(drawn)))
        assert (
            declared.render_list(made) == (data_folder("datasets") / f"ravdess/splits/{name}.jsonl").read_bytes()
        )
        assert list_digest(declared.shipped_list("ravdess", name)) == digest(drawn)


def test_there_are_1440_clips():
    names = [i for ids in ravdess.clip_ids().values() for i in ids]
    assert len(names) == len(set(names)) == 1440
    assert all(ravdess.rejection(f"{i}.mp4") is None for i in names)


keys = st.lists(st.text("abcXYZ012-_", min_size=1, max_size=8), unique=True, min_size=2, max_size=30)


@given(keys, st.randoms())
def test_order_depends_on_nothing_else(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    assert group_order("d", shuffled) == group_order("d", names)
    gone = random.choice(names)
    rest = [n for n in names if n != gone]
    assert [n for n in group_order("d", names) if n != gone] == group_order("d", rest)


def test_grouped_keeps_one_list_per_identity():
    clips = ["x_0", "x_1", "y_0"]
    made = grouped("d", clips, lambda c: c[0], lambda c: c)
    assert sorted(map(len, made)) == [1, 2]
    assert [g[0][0] for g in made] == group_order("d", ["x", "y"])


def test_cross_pairs():
    ids = {"b": "2", "a": "1", "c": "3"}
    assert cross_pairs(list(ids), ids.__getitem__) == [("a", "b"), ("b", "c"), ("c", "a")]
    same = {"a": "1", "b": "1", "c": "2"}
    assert cross_pairs(list(same), same.__getitem__) == [("a", "c"), ("b", "c"), ("c", "a")]
    assert cross_pairs(["a", "b"], lambda _: "one") == []


@given(keys)
def test_cross_pairs_never_share_an_identity(names):
    identity = {n: n[0] for n in names}
    pairs = cross_pairs(names, identity.__getitem__)
    assert all(identity[a] != identity[b] for a, b in pairs)
    if len(set(identity.values())) > 1:
        assert [a for a, _ in pairs] == sorted(names)
