"""The HTML page: what is in the file."""

from __future__ import annotations

import base64
import html.parser
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fakes
import numpy as np
import pytest
from pages import EVIL, PIXEL, embedded

from bench import report
from bench.report.page import Media
from bench.results.runs import Results
from bench.results.summary import Summary

GOLDEN = Path(__file__).parents[2] / "golden" / "report"


def page(results: Results, folder: Path, **options: Any) -> str:
    return report.write(results, folder, formats=("html",), **options)["html"].read_text(encoding="utf-8")


class Balance(html.parser.HTMLParser):
    """Counts elements and checks that they nest."""

    VOID = frozenset(["meta", "link", "br", "img", "input", "hr", "source"])

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# ------------------------------------------------------------------ the file


def test_the_page_stands_alone_and_nests(tmp_path: Path) -> None:
    text = page(fakes.make(media={"clip": "c/{method}{i}.mp4"}), tmp_path)
    parser = Balance()
    parser.feed(text)
    assert parser.open == []
    for tag, attributes in parser.seen:
        assert tag not in ("link", "iframe", "object")
        assert "src" not in attributes or tag != "script"
        link = attributes.get("href") or ""
        assert not link.startswith(("http", "//"))
    assert "https://" not in text.replace("http://www.w3.org/2000/svg", "")
    ids = [a["id"] for _, a in parser.seen if "id" in a]
    assert len(ids) == len(set(ids))


def test_names_from_outside_stay_text(tmp_path: Path) -> None:
    methods = {EVIL: ("model", ("audio",), 0.5), "plain": ("model", ("audio",), 0.4)}
    results = fakes.make(methods=methods, dataset=EVIL, media={"clip": EVIL + "/{i}.mp4"})
    rows = results.rows.copy()
    rows["sample"] = rows["sample"].where(rows["sample"] == "", EVIL + rows["sample"])
    rows.loc[rows.index[:3], ["status", "reason", "detail", "value"]] = ["error", EVIL, EVIL, float("nan")]
    provenance = {
        **results.provenance,
        "command": EVIL,
        "notes": [EVIL],
        "rejected": [{"item": EVIL, "reason": EVIL}],
    }
    text = page(Results.from_rows(rows, provenance), tmp_path)
    parser = Balance()
    parser.feed(text)
    assert [t for t, _ in parser.seen].count("script") == 2
    assert not any(a.get("src") == "x" for _, a in parser.seen)
    assert embedded(text)["rows"][0]["method"] in methods


def test_a_thousand_clips_stay_below_two_megabytes(tmp_path: Path) -> None:
    methods = {f"method-{i}": ("model", ("audio",), 0.1 * i) for i in range(10)}
    results = fakes.make(methods=methods, identities=100, media={
        "clip": "../../blobs/ab/" + "0123456789abcdef" * 4 + "{method}{i}.mp4",
        "reference": "data/reference/{i}.mp4",
        "image": "data/image/{i}.png", "audio": "data/audio/{i}.wav",
    })  # fmt: skip
    noise = base64.b64encode(np.random.default_rng(0).bytes(4000)).decode()
    shas = sorted(set(results.rows["clip_sha256"]) - {""})
    extras = {
        sha: {
            "fps": 25, "mouth": [0.1234 * ((k * n) % 7) for k in range(250)], "reference_mouth": [0.4] * 250,
            "sync_curve": [0.01 * n + k for k in range(31)],
            "mel": f"data:image/png;base64,{noise}{n % 100:04d}",
            "sheet": f"sheets/{sha[:16]}-10000.jpg",
        }
        for n, sha in enumerate(shas)
    }  # fmt: skip
    full = Results(results.rows, results.provenance, clips=extras)
    assert len(shas) == 1000
    written = report.write(full, tmp_path, formats=("html",))["html"]
    assert written.stat().st_size <= 2_000_000


def test_links_are_relative_and_encoded(tmp_path: Path) -> None:
    results = fakes.make(protocols=["psnr"], media={"clip": "media/a b#{i}?é.mp4"})
    where = Results(results.rows, results.provenance, folder=tmp_path / "run")
    clips = embedded(page(where, tmp_path / "run" / "out"))["clips"]
    assert clips[0][3] == "../media/a%20b%233%3F%C3%A9.mp4"


def test_copied_media_travel_with_the_page(tmp_path: Path) -> None:
    (tmp_path / "run" / "media").mkdir(parents=True)
    for n in range(24):
        (tmp_path / "run" / "media" / f"{n}.mp4").write_bytes(b"\0\0\0\x18ftypmp42 %d" % n)
    results = fakes.make(protocols=["psnr"], media={"clip": "media/{i}.mp4", "reference": "media/gone{i}.mp4"})
    where = Results(results.rows, results.provenance, folder=tmp_path / "run")
    data = embedded(page(where, tmp_path / "out", copy_media=True))
    assert all(not link.startswith("..") for line in data["clips"] for link in line)
    assert (tmp_path / "out" / unquote(data["clips"][0][5])).read_bytes() == b"\0\0\0\x18ftypmp42 5"
    assert {s["video"] for s in data["samples"]} == {""}


def test_scores_and_reasons_reach_the_viewer(tmp_path: Path) -> None:
    results = fakes.make(repeats=2)
    data = embedded(page(results, tmp_path))
    row = next(i for i, r in enumerate(data["rows"]) if r["method"] == "mouth-warp")
    metric = next(i for i, m in enumerate(data["metrics"]) if m["label"] == "PSNR (dB)")
    sample = next(i for i, s in enumerate(data["samples"]) if s["id"] == "clip005_0")
    rows = results.rows
    wanted = rows[(rows["method"] == "mouth-warp") & (rows["column"] == "psnr") & (rows["sample"] == "clip005_0")]
    assert data["values"][metric][row][sample] == pytest.approx(wanted["value"].mean(), rel=1e-4)
    broken = next(i for i, r in enumerate(data["rows"]) if r["method"] == "landmark-warp")
    assert "no triangle <contains> the point" in data["why"][broken]["3"]


def test_curves_are_kept_and_pictures_are_shared(tmp_path: Path) -> None:
    results = fakes.make(protocols=["sync"], media={"clip": "{method}{gate}{i}.mp4"})
    shas = sorted(set(results.rows["clip_sha256"]) - {""})
    extras: dict[str, Any] = {sha: {"mouth": [0.1, None, 0.3], "mel": PIXEL} for sha in shas}
    extras[shas[0]] = {"mel": "javascript:alert(1)", "mouth": "no list"}
    data = embedded(page(Results(results.rows, results.provenance, clips=extras), tmp_path))
    assert data["curves"]["pictures"] == [PIXEL]
    kept = list(data["curves"]["of"].values())
    assert len(kept) == len(shas) - 1
    assert kept[0] == {"fps": 25.0, "mouth": 0, "mel": 0}
    assert data["curves"]["lines"] == [[0.1, None, 0.3]]


def test_failures_are_grouped_by_cause(tmp_path: Path) -> None:
    from bench.report.page import failures

    found = failures(fakes.make())
    assert [f.code for f in found] == ["method", "no_speech"]
    assert found[1].groups[0]["samples"] == ["clip000_0", "clip008_0", "clip016_0"]
    assert "ValueError: no triangle" in found[0].detail
    text = page(fakes.make(), tmp_path)
    assert '<a href="#sample=clip000_0">' in text


def test_a_run_with_set_metrics_only_has_no_viewer(tmp_path: Path) -> None:
    text = page(fakes.make(protocols=["fid"]), tmp_path)
    assert 'id="samples"' not in text
    assert "FID" in text


def test_golden_page(tmp_path: Path) -> None:
    import os

    results = fakes.make(identities=12, media={"clip": "c/{method}{i}.mp4"})
    # Beside its run folder, so that links do not depend on where the test runs.
    text = page(Results(results.rows, results.provenance, folder=tmp_path), tmp_path)
    body = re.sub(r"<style>.*?</style>", "<style></style>", text, flags=re.S)
    body = re.sub(
        r"sha256-[^']+", "sha256-", re.sub(r"<script>.*?</script>", "<script></script>", body, flags=re.S)
    )
    path = GOLDEN / "page.html"
    if os.environ.get("BENCH_UPDATE_GOLDEN"):
        path.write_text(body, encoding="utf-8")
    assert body == path.read_text(encoding="utf-8"), "the page changed; BENCH_UPDATE_GOLDEN=1 rewrites it"


def test_summary_is_computed_once_per_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = Summary.__init__

    def counted(self: Summary, *arguments: Any, **options: Any) -> None:
        made.append(1)
        original(self, *arguments, **options)

    monkeypatch.setattr(Summary, "__init__", counted)
    report.write(fakes.make(), tmp_path)
    assert len(made) == 1


def test_links_lead_to_the_file_itself(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "blobs" / "a b"
    out.mkdir()
    kept.mkdir(parents=True)
    for name in ("1.mp4", "2 é.mp4"):
        (kept / name).write_bytes(b"clip")
    (tmp_path / "linked").symlink_to(kept, target_is_directory=True)
    (tmp_path / "one.mp4").symlink_to(kept / "1.mp4")
    (out / "own.mp4").write_bytes(b"clip")
    media = Media(out, tmp_path, copy=False)
    for raw in (
        str(kept / "1.mp4"),
        "blobs/a b/2 é.mp4",
        "linked/1.mp4",
        "one.mp4",
        "blobs/../one.mp4",
        "linked/..",
    ):
        assert (out / unquote(media.link(raw))).resolve() == (tmp_path / raw).resolve()
        assert "linked" not in media.link(raw) and " " not in media.link(raw)
    assert media.link("out/own.mp4") == "own.mp4"
    assert media.link("") == media.link("null\0.mp4") == ""
