"""A study is blind, balanced and resumable; its server gives away nothing and takes nothing odd."""

import json
import threading
from collections import Counter
from http.client import HTTPConnection

import numpy as np
import pytest

from bench.cli import invoke
from bench.core.errors import UsageError
from bench.media.decode import read_audio
from bench.media.probe import probe
from bench.results.runs import load
from bench.run.vote_server import make_server
from bench.run.voting import DAMAGED, LEVEL, TRUTH, Desk, load_study, make_study, read_votes

NUMBERS = {"replays": 0, "latency": 900, "width": 800, "height": 600}
METHODS = ("still", "copy", "half-rate")


def rater(number):
    return f"{number:016x}"


def answer(desk, who, given="left"):
    trial = desk.next(who)
    if "id" in trial:
        chosen = given(trial) if callable(given) else given
        assert desk.take({"rater": who, "trial": trial["id"], "answer": chosen, **NUMBERS})
    return trial


def simulate(desk, strength, raters, seed=0):
    """Raters with a planted order answer until they are done."""
    rng = np.random.default_rng(seed)
    owner = {c.file: c.method for c in desk.study.clips}

    def preference(trial):
        a, b = (strength[owner[trial[side]]] for side in ("left", "right"))
        return "left" if rng.random() < 1 / (1 + np.exp(b - a)) else "right"

    for number in range(raters):
        while "id" in answer(desk, rater(number), preference):
            pass


def test_every_clip_has_one_container_one_size_one_loudness(study):
    made, folder = study
    methods = {c.method for c in made.clips}
    assert methods == {*METHODS, TRUTH, f"{DAMAGED}-picture"}
    sizes, levels = set(), []
    for clip in made.clips:
        found = probe(folder / "media" / clip.file)
        sizes.add((found.width, found.height, found.fps))
        sound = read_audio(folder / "media" / clip.file).astype(float)
        levels.append(20 * np.log10(np.sqrt((sound**2).mean()) / 32768))
        assert clip.method not in clip.file and clip.sample not in clip.file
    assert len(sizes) == 1
    assert np.ptp(levels) < 1.5 and abs(np.mean(levels) - LEVEL) < 1.5


def test_trials_name_no_method_and_no_sample(study):
    made, folder = study
    desk = Desk(made, folder)
    for number in range(6):
        told = json.dumps(answer(desk, rater(number)))
        assert not any(word in told for word in (*METHODS, TRUTH, DAMAGED, "toy-"))


def test_pairs_sides_and_samples_are_balanced(study):
    made, folder = study
    desk = Desk(made, folder)
    simulate(desk, dict.fromkeys((*METHODS, TRUTH, f"{DAMAGED}-picture"), 0.0), 12)
    votes, problems = read_votes(folder, made)
    real = [v for v in votes if not v.check]
    assert problems == []
    pairs = Counter(frozenset((v.left, v.right)) for v in real)
    assert len(pairs) == 6 and max(pairs.values()) - min(pairs.values()) <= 2
    left = Counter(v.left for v in real)
    for method, seen in Counter(m for v in real for m in (v.left, v.right)).items():
        assert abs(left[method] / seen - 0.5) < 0.15
    per_rater = Counter((v.rater, v.sample) for v in real)
    assert max(per_rater.values()) <= 2
    checks = [v for v in votes if v.check]
    assert checks and all({v.left, v.right} == {TRUTH, f"{DAMAGED}-picture"} for v in checks)
    assert all((v.check == "left") == (v.left == TRUTH) for v in checks)


def test_a_study_goes_on_after_a_restart(study, run):
    made, folder = study
    desk = Desk(made, folder)
    first = [answer(desk, rater(1)) for _ in range(3)]
    again = Desk(load_study(folder), folder)
    assert again.next(rater(1))["answered"] == 3
    assert not again.take({"rater": rater(1), "trial": first[0]["id"], "answer": "left", **NUMBERS})
    assert make_study(run, folder, ["realism"], ties=True) == made
    with pytest.raises(UsageError, match="holds a study"):
        make_study(run, folder, ["sync"])


def test_what_cannot_be_judged_is_not_asked_again(study):
    made, folder = study
    desk = Desk(made, folder)
    shown = [
        frozenset((t["left"], t["right"]))
        for t in (answer(desk, rater(1), "broken") for _ in range(8))
        if "id" in t
    ]
    assert len(shown) == len(set(shown)) == 8
    assert read_votes(folder, made)[0] == []


def test_odd_answers_are_refused_and_nothing_is_stored(study):
    made, folder = study
    desk = Desk(made, folder)
    trial = desk.next(rater(1))
    for wrong in ({"answer": "maybe"}, {"answer": "left", "latency": "x"}, {"answer": "left", "replays": -1}):
        with pytest.raises(UsageError):
            desk.take({"rater": rater(1), "trial": trial["id"], **NUMBERS, **wrong})
    assert not desk.take({"rater": rater(2), "trial": trial["id"], "answer": "left", **NUMBERS})
    assert not (folder / "votes.jsonl").exists()


def test_damaged_lines_are_told_and_the_rest_counts(study):
    made, folder = study
    answer(Desk(made, folder), rater(1))
    with (folder / "votes.jsonl").open("a") as file:
        file.write('{"broken\n[1, 2]\n{"rater": "x"}\n')
    votes, problems = read_votes(folder, made)
    assert len(votes) == 1 and len(problems) == 3


def test_simulated_raters_give_the_planted_order_beside_the_metrics(study, capsys):
    made, folder = study
    strength = {"copy": 1.6, TRUTH: 2.2, "half-rate": -1.0, "still": -0.4, f"{DAMAGED}-picture": -4.0}
    simulate(Desk(made, folder), strength, 24)
    assert invoke(["vote", "score", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]
    order = [s["method"] for s in found["standings"]]
    assert set(order[:2]) == {TRUTH, "copy"} and set(order[2:]) == {"still", "half-rate"}
    psnr = next(a for a in found["metrics"] if a["label"] == "PSNR")
    assert psnr["accuracy"] > 0.7
    assert invoke(["vote", "score", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Krippendorff" in printed and "PSNR" in printed and "ground-truth" in printed


@pytest.fixture
def served(study):
    made, folder = study
    server = make_server(Desk(made, folder), folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, made, folder
    server.shutdown()
    server.server_close()
    thread.join()


def ask(port, method, path, body=None, **headers):
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    return reply.status, data, reply.headers


def test_media_come_whole_and_in_parts(served):
    port, made, folder = served
    name = made.clips[0].file
    whole = (folder / "media" / name).read_bytes()
    assert ask(port, "GET", f"/media/{name}")[1] == whole
    status, part, headers = ask(port, "GET", f"/media/{name}", Range="bytes=10-19")
    assert (status, part) == (206, whole[10:20]) and headers["Content-Range"] == f"bytes 10-19/{len(whole)}"
    assert ask(port, "GET", f"/media/{name}", Range="bytes=-5")[1] == whole[-5:]
    assert ask(port, "GET", f"/media/{name}", Range=f"bytes={len(whole)}-")[0] == 416


def test_nothing_else_is_served(served):
    for path in ("study.json", "votes.jsonl", "media/../study.json", "media/%2e%2e/study.json", "media/1.mp4"):
        assert ask(served[0], "GET", f"/{path}")[0] == 404, path


def test_other_sites_and_odd_bodies_get_nothing(served):
    port, _, folder = served
    json_type = {"Content-Type": "application/json"}
    assert ask(port, "POST", "/vote", "{}", **json_type, Origin="http://elsewhere.example")[0] == 403
    assert ask(port, "GET", "/next?rater=" + rater(1), Host="elsewhere.example:80")[0] == 403
    assert ask(port, "POST", "/vote", "{}", **{"Content-Type": "text/plain"})[0] == 403
    assert ask(port, "POST", "/vote", "x" * 5000, **json_type)[0] == 413
    assert ask(port, "POST", "/vote", "[1]", **json_type)[0] == 400
    assert ask(port, "GET", "/next?rater=../..")[0] == 400
    assert not (folder / "votes.jsonl").exists()


def test_unknown_questions_and_runs_without_clips_are_explained(run, tmp_path):
    with pytest.raises(UsageError, match="realism"):
        make_study(run, tmp_path / "a", ["realizm"])
    alone = load(str(run.folder))
    one = type(alone).from_rows(alone.rows[alone.rows["method"] == "still"], alone.provenance, folder=alone.folder)
    with pytest.raises(UsageError, match="fewer than two"):
        make_study(one, tmp_path / "b", ["realism"])
