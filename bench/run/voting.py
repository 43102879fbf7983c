"""A study of human votes: which clips are shown to whom, blind and balanced, and the file the answers go to."""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.core.declaration import as_type, parse_json, read_json
from bench.core.errors import MissingError, UsageError, did_you_mean
from bench.core.keys import digest
from bench.results.media import may_copy
from bench.results.runs import Results
from bench.results.votes import Vote
from bench.store.files import append_to, make_folder, require_inside, write_bytes

STUDY_FILE, VOTES_FILE, MEDIA = "study.json", "votes.jsonl", "media"
SCHEMA = 1
LEVEL = -23.0  # dB of full scale every clip's sound is brought to
CHECK_EVERY = 6  # one trial in six has a known answer
PER_SAMPLE = 2  # times a rater sees a sample
TRUTH = "ground-truth"
DAMAGED = "damaged"

QUESTIONS: Mapping[str, str] = {
    "realism": "Which one looks more like a real person talking?",
    "sync": "In which one do the lips fit the voice better? The left clip plays first, then the right one.",
    "identity": "Which one looks more like the person in the picture above?",
    "picture": "Which one has the better picture?",
    "motion": "In which one do head and face move more naturally?",
}
ANSWERS = ("left", "right", "same", "broken")


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip of a study: a sample, whose it is, and the name of its file, which says nothing."""

    sample: str
    method: str
    file: str


@dataclass(frozen=True, slots=True)
class Study:
    """What is shown.

    Attributes:
        run: name of the run it comes from; `split` and `folder` say where its numbers are.
        questions: asked, see `QUESTIONS`.
        ties: whether `same` may be answered.
        wanted: answers asked of a rater.
        seed: of the order.
        clips: all of them, the damaged copies for attention checks included.
        pictures: file of the reference picture by sample, for the question of identity.
    """

    run: str
    split: str
    folder: str
    questions: tuple[str, ...]
    ties: bool
    wanted: int
    seed: int
    clips: tuple[Clip, ...]
    pictures: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What a vote says it is about."""
        return digest([SCHEMA, asdict(self)])[:16]


def make_study(
    results: Results,
    folder: Path,
    questions: Sequence[str],
    ties: bool = False,
    wanted: int = 40,
    seed: int = 0,
    samples: int | None = None,
) -> Study:
    """Write the media of a study and its `study.json`; one that is there already is read again.

    Every clip is encoded anew by one encoder, at one size and one loudness per sample, under a random name.

    Args:
        results: a run with its clips.
        folder: where the study lives.
        questions: names out of `QUESTIONS`.
        ties: allow `same`.
        wanted: answers asked of one rater.
        seed: of names and order.
        samples: use only so many of them.

    Raises:
        UsageError: an unknown question, another study in the folder, or fewer than two methods with clips.
    """
    for name in questions:
        if name not in QUESTIONS:
            known = list(QUESTIONS)
            raise UsageError(
                f"There is no question called '{name}'.{did_you_mean(name, known)}", f"Known: {', '.join(known)}"
            )
    if (folder / STUDY_FILE).is_file():
        study = load_study(folder)
        if (study.run, study.questions, study.ties) != (results.name, tuple(questions), ties):
            raise UsageError(
                f"{folder} holds a study of {study.run} about {', '.join(study.questions)}"
                f"{', with ties' if study.ties else ''}.",
                "Give another folder with --out, or the same run and questions to go on.",
            )
        return study
    shown = _clips_of(results, samples)
    rng = np.random.default_rng(seed)
    names = iter(rng.permutation(10**6)[: 4 * len(shown) + 16])
    clips: list[Clip] = []
    pictures: dict[str, str] = {}
    make_folder(folder / MEDIA)
    require_inside(folder / MEDIA / "file", folder)
    for sample in sorted({s for s, _ in shown}):
        mine = {method: path for (s, method), path in shown.items() if s == sample}
        reference, picture = _files_of(results, sample)
        size = _size(reference or next(iter(mine.values())))
        if reference is not None:
            mine[TRUTH] = reference
        for method, path in sorted(mine.items()):
            clips.append(Clip(sample, method, f"{next(names):06d}.mp4"))
            _write(folder / MEDIA / clips[-1].file, path, size)
        if reference is not None:
            for kind in sorted({"sync" if q == "sync" else "picture" for q in questions}):
                clips.append(Clip(sample, f"{DAMAGED}-{kind}", f"{next(names):06d}.mp4"))
                _write(folder / MEDIA / clips[-1].file, reference, size, damage=kind)
        if picture is not None and "identity" in questions:
            pictures[sample] = f"{next(names):06d}{picture.suffix.lower()}"
            write_bytes(folder / MEDIA / pictures[sample], picture.read_bytes())
    split = str(results.provenance.get("split", ""))
    study = Study(
        results.name,
        split,
        str(results.folder or ""),
        tuple(questions),
        ties,
        wanted,
        seed,
        tuple(clips),
        pictures,
    )
    write_bytes(folder / STUDY_FILE, json.dumps({"schema": SCHEMA, **asdict(study)}, indent=1).encode())
    return study


def method_names(results: Results) -> dict[tuple[str, str], str]:
    """Return how each (method, gate) is called: with its gate only where there are several."""
    rows = results.rows[results.rows["kind"] == "clip"]
    pairs = rows[["method", "gate"]].drop_duplicates().itertuples(index=False, name=None)
    found = [(str(m), str(g)) for m, g in pairs]
    many = Counter(m for m, _ in found)
    return {(m, g): m if many[m] == 1 else f"{m} ({g})" for m, g in found}


def _clips_of(results: Results, samples: int | None) -> dict[tuple[str, str], Path]:
    rows = results.rows[(results.rows["kind"] == "clip") & (results.rows["clip_path"] != "")]
    rows = rows[(rows["repeat"] == 0) & (rows["gate"] != "none")]
    names = method_names(results)
    base = results.folder or Path()
    found = {
        (str(s), names[str(m), str(g)]): base / str(p)
        for s, m, g, p in rows[["sample", "method", "gate", "clip_path"]]
        .drop_duplicates(["sample", "method", "gate"])
        .itertuples(index=False, name=None)
    }
    found = {key: path for key, path in found.items() if may_copy(path, results.folder)}
    if samples is not None:
        kept = sorted({s for s, _ in found})[:samples]
        found = {key: path for key, path in found.items() if key[0] in kept}
    if len({m for _, m in found}) < 2:
        raise UsageError(
            f"{results.name} holds clips of fewer than two methods, so there is nothing to compare.",
            "Type `bench run --methods A,B` first, or name another run.",
        )
    return found


def _files_of(results: Results, sample: str) -> tuple[Path | None, Path | None]:
    row = results.rows[results.rows["sample"] == sample].iloc[0]
    base = results.folder or Path()
    files = [base / str(row[k]) if row[k] else None for k in ("reference_path", "image_path")]
    reference, picture = (f if f is not None and may_copy(f, results.folder) else None for f in files)
    return reference, picture


def _size(path: Path) -> tuple[int, int]:
    from bench.media.probe import probe

    found = probe(path)
    return found.width // 2 * 2, found.height // 2 * 2


def _write(target: Path, source: Path, size: tuple[int, int], damage: str = "") -> None:
    """Write one clip of a study; a damaged one is blurred, or has its sound 400 ms late."""
    from bench.media.decode import chunks, read_audio
    from bench.media.encode import write_clip
    from bench.media.scale import Resizer
    from bench.methods.variant_pictures import blurred

    fit = Resizer(*size)
    frames = np.concatenate(list(chunks(source)))
    if damage == "picture":
        frames = blurred(frames, 12.0)
    sound = read_audio(source)
    if sound is not None:
        sound = levelled(sound)
        if damage == "sync":
            sound = np.pad(sound, (6400, 0))[: len(sound)]
    same = frames.shape[2] == size[0] and frames.shape[1] == size[1]
    write_clip(target, (f if same else fit(f) for f in frames), audio=sound)


def levelled(sound: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return sound at -23 dB RMS of full scale, or as loud as it can be without clipping."""
    values = sound.astype(np.float64)
    level, peak = float(np.sqrt((values**2).mean())) if len(values) else 0.0, float(np.abs(values).max(initial=0))
    if level == 0:
        return sound
    gain = min(32768 * 10 ** (LEVEL / 20) / level, 32000 / peak)
    return np.rint(values * gain).astype(np.int16)


def load_study(folder: Path) -> Study:
    """Read a study.

    Raises:
        MissingError: there is none.
        UsageError: the file is no study of this version.
    """
    path = folder / STUDY_FILE
    if not path.exists():
        raise MissingError(f"There is no study in {folder}.", "Make one: bench vote serve RUN")
    try:
        data = read_json(path, dict[str, Any])
        if data.pop("schema", None) != SCHEMA:
            raise UsageError(f"{path} is of another version.")
        study = as_type(data, Study, path)
        if unknown := [q for q in study.questions if q not in QUESTIONS]:
            raise UsageError(f"{path}: questions: {unknown[0]!r} is none of {', '.join(QUESTIONS)}.")
        return study
    except UsageError as error:
        raise UsageError(f"Not a study: {error.message}", "Make a new one in another folder.") from error


def read_votes(folder: Path, study: Study) -> tuple[list[Vote], list[str]]:
    """Return the votes on a study and a sentence for every line that is none.

    Votes without a preference (`broken`) are left out.
    """
    votes: list[Vote] = []
    problems: list[str] = []
    methods = {c.method for c in study.clips}
    samples = {c.sample for c in study.clips}
    try:
        lines = (folder / VOTES_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return [], []
    for number, line in enumerate(lines, 1):
        try:
            data = parse_json(line, dict[str, Any], "a vote")
            vote = Vote(**{k: str(data[k]) for k in Vote.__slots__})
            if data["study"] != study.digest:
                problems.append(f"line {number} is about another study")
            elif not {vote.left, vote.right} <= methods or vote.sample not in samples:
                problems.append(f"line {number} names a clip the study does not have")
            elif vote.answer not in ANSWERS:
                problems.append(f"line {number} answers {vote.answer!r}")
            elif vote.answer != "broken":
                votes.append(vote)
        except (UsageError, KeyError):
            problems.append(f"line {number} is no vote")
    return votes, problems


class Desk:
    """Hands out trials and takes answers; one per served study, safe for several threads.

    Args:
        study: what is shown.
        folder: where the answers go.
    """

    def __init__(self, study: Study, folder: Path) -> None:
        self.study = study
        self._path = folder / VOTES_FILE
        self._lock = threading.Lock()
        self._open: dict[str, dict[str, Any]] = {}
        self._files = {(c.sample, c.method): c.file for c in study.clips}
        self._methods = sorted({c.method for c in study.clips if not c.method.startswith(DAMAGED)})
        self._samples = sorted({c.sample for c in study.clips})
        self._known, _ = read_votes(folder, study)
        self._broken: set[tuple[str, str, str, frozenset[str]]] = set()  # what a rater could not judge

    def next(self, rater: str) -> dict[str, Any]:
        """Return a trial for a rater, or `{"done": true}`; it names no method."""
        with self._lock:
            mine = [v for v in self._known if v.rater == rater]
            chosen = None if len(mine) >= self.study.wanted else self._choose(rater, mine)
            if chosen is None:
                return {"done": True}
            token = secrets.token_hex(8)
            self._open[token] = {"rater": rater, "shown": time.time(), **chosen}
            if len(self._open) > 10_000:
                self._open.pop(next(iter(self._open)))
            sample, question = chosen["sample"], chosen["question"]
            return {
                "id": token,
                "text": QUESTIONS[question],
                "sequential": question == "sync",
                "ties": self.study.ties,
                "left": self._files[sample, chosen["left"]],
                "right": self._files[sample, chosen["right"]],
                "reference": self.study.pictures.get(sample) if question == "identity" else None,
                "answered": len(mine),
                "wanted": self.study.wanted,
            }

    def _choose(self, rater: str, mine: Sequence[Vote]) -> dict[str, str] | None:
        """Take what was asked least: question, then pair of methods, then sample, then side."""
        rng = np.random.default_rng([self.study.seed, len(mine), *rater.encode()])
        seen = Counter(v.sample for v in mine if not v.check)
        question = min(self.study.questions, key=lambda q: (sum(v.question == q for v in mine), rng.random()))
        damaged = f"{DAMAGED}-{'sync' if question == 'sync' else 'picture'}"
        if len(mine) % CHECK_EVERY == CHECK_EVERY - 1:
            possible = [s for s in self._samples if (s, damaged) in self._files]
            if possible:
                sides = rng.permutation([TRUTH, damaged])
                check = "left" if sides[0] == TRUTH else "right"
                return self._trial(str(rng.choice(possible)), question, str(sides[0]), str(sides[1]), check)
        asked = [v for v in self._known if v.question == question and not v.check]
        counts = Counter(frozenset((v.left, v.right)) for v in asked)
        done = {(v.sample, frozenset((v.left, v.right))) for v in mine if v.question == question and not v.check}
        done |= {(sample, pair) for who, sample, q, pair in self._broken if who == rater and q == question}
        options = [
            (counts[frozenset(pair)], seen[sample], rng.random(), sample, pair)
            for pair in combinations(self._methods, 2)
            for sample in self._samples
            if all((sample, m) in self._files for m in pair)
            and seen[sample] < PER_SAMPLE * len(self.study.questions)
            and (sample, frozenset(pair)) not in done
        ]
        if not options:
            return None
        *_, sample, (first, second) = min(options)
        on_left = sum(v.left == first for v in asked if {v.left, v.right} == {first, second})
        on_right = sum(v.right == first for v in asked if {v.left, v.right} == {first, second})
        turn = on_left > on_right or (on_left == on_right and rng.random() < 0.5)
        return self._trial(sample, question, *((second, first) if turn else (first, second)))

    @staticmethod
    def _trial(sample: str, question: str, left: str, right: str, check: str = "") -> dict[str, str]:
        return {"sample": sample, "question": question, "left": left, "right": right, "check": check}

    def take(self, data: Mapping[str, Any]) -> bool:
        """Store an answer; False when its trial is not open (answered already, or from before a restart).

        Raises:
            UsageError: the answer is not one.
        """
        answer = data.get("answer")
        if answer not in ANSWERS or (answer == "same" and not self.study.ties):
            raise UsageError(f"{answer!r} is not an answer.")
        numbers = {k: data.get(k) for k in ("replays", "latency", "width", "height")}
        if not all(isinstance(v, int) and 0 <= v < 10**9 for v in numbers.values()):
            raise UsageError("replays, latency, width and height are whole numbers.")
        with self._lock:
            trial = self._open.get(str(data.get("trial")))
            if trial is None or trial["rater"] != data.get("rater"):
                return False
            del self._open[str(data["trial"])]
            shown = trial.pop("shown")
            record = {"study": self.study.digest, **trial, "answer": answer, **numbers, "time": int(shown)}
            with append_to(self._path) as file:
                file.write(json.dumps(record, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            vote = Vote(**{k: str(record[k]) for k in Vote.__slots__})
            if answer == "broken":
                self._broken.add((vote.rater, vote.sample, vote.question, frozenset((vote.left, vote.right))))
            else:
                self._known.append(vote)
            return True
