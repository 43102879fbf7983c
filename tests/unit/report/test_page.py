"""The HTML page: what is in the file, and how it behaves in a real browser without a network."""

from __future__ import annotations

import base64
import html.parser
import importlib.util
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fakes
import numpy as np
import pandas as pd
import pytest

from bench import report
from bench.report import sheets
from bench.results.runs import Results
from bench.results.summary import Summary

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
EVIL = "<img src=x onerror='window.hacked=1'>\"&</script><script>window.hacked=1</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
browser_only = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("playwright") is None,
    reason="no Chromium or no playwright here",
)
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def page(results: Results, folder: Path, **options: Any) -> str:
    return report.write(results, folder, formats=("html",), **options)["html"].read_text(encoding="utf-8")


def embedded(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


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


# ------------------------------------------------------------------ in a browser


def write_clip(path: Path, shade: int, seconds: float = 1.6) -> None:
    """A little clip of one colour with a moving bar."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for n in range(int(25 * seconds)):
            image = np.full((64, 64, 3), shade, np.uint8)
            image[:, n % 64] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "media").mkdir()
    for n in range(3):
        write_clip(folder / "media" / f"{n}.mp4", 60 + 60 * n)
    results = fakes.make(media={"clip": "media/1.mp4", "reference": "media/0.mp4"})
    rows = results.rows.copy()
    rows.loc[(rows["method"] == "mouth-warp") & (rows["kind"] == "clip"), "clip_path"] = "media/gone.mp4"
    rows.loc[rows["method"] == "actalker", "clip_path"] = "media/2.mp4"
    extras: dict[str, dict[str, Any]] = {
        s: {"mouth": [0.1 * (k % 5) for k in range(40)], "mel": PIXEL} for s in set(rows["clip_sha256"]) - {""}
    }
    clips = rows[rows["method"] != "frozen"].drop_duplicates("clip_sha256")
    for sha256, sheet in sheets.write(clips[clips["clip_sha256"] != ""], folder).items():
        extras[sha256]["sheet"] = sheet
    rows.to_parquet(folder / "kept.parquet")
    (folder / "kept.json").write_text(json.dumps(extras), encoding="utf-8")
    provenance = {**results.provenance, "notes": [EVIL]}
    return report.write(
        Results.from_rows(rows, provenance, folder=folder, clips=extras), folder, formats=("html",)
    )["html"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        )
        yield found
        found.close()


@pytest.fixture
def tab(browser: Any, site: Path) -> Iterator[Any]:
    """The page in a desktop window, with everything that went wrong or left the machine collected."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.trouble = []
    page.requests = []
    page.on("pageerror", lambda error: page.trouble.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(site.as_uri())
    wait_until(page, "document.querySelectorAll('#players video').length > 3")
    yield page
    context.close()


def wait_until(tab: Any, condition: str, arg: Any = None, limit: float = 90.0) -> None:
    """Wait until a JavaScript expression is true; a busy machine may take its time.

    Playwright's own waiting evaluates text inside the page, which the page's security policy forbids.
    """
    end = time.monotonic() + limit
    while not tab.evaluate(condition, arg):
        assert time.monotonic() < end, f"never true: {condition}"
        tab.wait_for_timeout(50)


def wait_for_time(tab: Any, seconds: float, slack: float = 0.03) -> None:
    """Wait until every player shows this moment."""
    wait_until(
        tab,
        "([t, slack]) => [...document.querySelectorAll('#players video')]"
        ".every(v => Math.abs(v.currentTime - t) < slack)",
        [seconds, slack],
    )


@browser_only
def test_it_opens_offline_without_errors(tab: Any) -> None:
    assert tab.trouble == []
    assert all(url.startswith(("file:", "data:")) for url in tab.requests)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img[src=x]").count() == 0


@browser_only
def test_a_heading_sorts_its_table_within_the_groups(tab: Any) -> None:
    table = tab.locator("#table-sync table")
    table.get_by_role("button", name="Sync-C").click()
    cells = "#table-sync tbody.method tr:not(.section) td:nth-child(4)"
    shown = tab.eval_on_selector_all(cells, "all => all.map(td => Number(td.dataset.v))")
    assert shown == sorted(shown, reverse=True)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="Sync-C").click()
    assert tab.eval_on_selector_all(cells, "all => all.map(td => Number(td.dataset.v))") == shown[::-1]


@browser_only
def test_players_run_together_and_follow_the_slider(tab: Any) -> None:
    tab.locator("#speed").select_option("0.25")
    tab.locator("#play").click()
    wait_until(tab, "[...document.querySelectorAll('#players video')].every(v => v.currentTime > 0.1)")
    # One player falls behind: the page brings it back to the others.
    tab.evaluate("document.querySelectorAll('#players video')[2].currentTime = 0")
    wait_until(
        tab,
        "() => { const t = [...document.querySelectorAll('#players video')].map(v => v.currentTime);"
        " return Math.min(...t) > 0.1 && Math.max(...t) - Math.min(...t) < 0.15; }",
    )
    assert not tab.eval_on_selector("#players video", "v => v.paused")
    tab.locator("#play").click()
    tab.locator("#scrub").fill("500")
    wait_for_time(tab, 0.8)
    assert tab.eval_on_selector_all("#players video", "all => all.every(v => v.paused)")


@browser_only
def test_keys_step_frames_and_clips(tab: Any) -> None:
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#now").click()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    wait_for_time(tab, 0.08, slack=0.02)
    before = tab.locator("#now").inner_text()
    tab.keyboard.press("j")
    assert tab.locator("#now").inner_text() != before
    tab.keyboard.press("k")
    assert tab.locator("#now").inner_text() == before
    tab.keyboard.press("m")
    assert tab.eval_on_selector_all("#players video", "all => all.filter(v => !v.muted).length") == 1
    tab.keyboard.press(" ")
    assert tab.locator("#play").get_attribute("aria-label") == "Pause"


@browser_only
def test_tabs_order_the_clips(tab: Any, site: Path) -> None:
    data = embedded(site.read_text(encoding="utf-8"))
    metric = next(i for i, m in enumerate(data["metrics"]) if m["label"] == "Sync-C")
    scores = data["values"][metric][0]
    names = [s["id"] for s in data["samples"]]
    by_score = [names[i] for i in sorted(range(len(scores)), key=lambda i: scores[i])]
    listed = "#pick-list .id"
    assert tab.locator(listed).first.inner_text() == by_score[0] == tab.locator("#now").inner_text()
    tab.get_by_role("tab", name="Best").click()
    assert tab.locator(listed).first.inner_text() == by_score[-1]
    tab.get_by_role("tab", name="Disagree").click()
    methods = [i for i, r in enumerate(data["rows"]) if not r["control"]]

    def spread(sample: int) -> float:
        known = [v for r in methods if (v := data["values"][metric][r][sample]) is not None]
        return max(known) - min(known)

    assert tab.locator(listed).first.inner_text() == names[max(range(len(names)), key=spread)]
    tab.get_by_role("tab", name="Random").click()
    assert tab.locator("#pick-list li").count() == 20
    tab.locator("#pick-find").fill("clip007")
    assert tab.locator(listed).all_inner_texts() == ["clip007_0"]


@browser_only
def test_a_missing_clip_says_so_and_the_rest_plays(tab: Any) -> None:
    tab.wait_for_selector("#players .absent")
    assert "gone.mp4" in tab.locator("#players .player", has_text="mouth-warp").locator(".absent").inner_text()


@browser_only
def test_links_to_a_clip_open_it_with_its_reasons(tab: Any) -> None:
    tab.locator("#missing summary").first.click()
    tab.locator("#missing a", has_text="clip003_0").first.click()
    wait_until(tab, "document.getElementById('now').textContent === 'clip003_0'")
    assert "no triangle" in tab.locator("#players").inner_text()
    tab.locator("#pick-list button").first.click()
    assert tab.locator("#curve-plot svg path").count() >= 1
    tab.locator("#plot circle").first.dispatch_event("click")  # neighbours may lie on top of it
    assert tab.locator("#now").inner_text() != ""


@browser_only
def test_the_contact_sheet_has_the_ground_truth_on_top_and_leads_to_a_moment(tab: Any) -> None:
    tab.locator("#frames").scroll_into_view_if_needed()
    labels = tab.locator("#sheet span").all_inner_texts()
    assert labels[0].split()[0] == "ground-truth"
    assert [line.split()[0] for line in labels[1:4]] == ["actalker"] * 3
    # The clips of mouth-warp are gone and frozen ones got no strip.
    assert not {"mouth-warp", "frozen"} & {line.split()[0] for line in labels}
    wait_until(tab, "[...document.querySelectorAll('#sheet img')].every(i => i.naturalWidth === 768)")
    strip = tab.locator("#sheet .strip").first
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 0.55, "y": 5})
    wait_for_time(tab, 0.88, slack=0.05)
    # The frame of the moment is framed: the fifth of eight.
    frame = tab.evaluate("getComputedStyle(document.querySelector('#sheet .strip'), '::after').left")
    assert float(frame.removesuffix("px")) == pytest.approx(box["width"] / 2, abs=2)


@browser_only
def test_controls_come_after_the_methods_everywhere(tab: Any, site: Path) -> None:
    controls = [row["control"] for row in embedded(site.read_text(encoding="utf-8"))["rows"]]
    assert controls == sorted(controls)
    assert tab.locator("#plot .name").last.text_content() in ("ground-truth", "shuffled-audio", "frozen")


@browser_only
def test_a_footnote_opens_the_protocol_it_names(tab: Any) -> None:
    where = tab.locator("#protocol-sync-synthetic-v1")
    assert not where.is_visible()
    tab.locator("#table-summary .footnotes a").first.click()
    where.wait_for(state="visible")


@browser_only
def test_the_keyboard_reaches_everything_in_reading_order(tab: Any) -> None:
    focus = "document.activeElement.textContent.trim() || document.activeElement.ariaLabel"
    reached = []
    for _ in range(8):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate(focus))
    sections = ["Tables", "Gates", "Spread", "Samples", "Missing", "Provenance"]
    assert reached == ["Skip to the tables", *sections, "Switch between light and dark"]
    # One tab stop for the four tabs; arrows move and choose among them.
    tab.locator("[data-tab=worst]").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(focus) == "Best"
    assert tab.locator("[data-tab=best]").get_attribute("aria-selected") == "true"
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "pick-metric"
    tab.locator("#table-sync button", has_text="Sync-C").focus()
    tab.keyboard.press("Enter")
    assert tab.locator("#table-sync th[aria-sort]").get_attribute("aria-sort") == "descending"


CONTRASTS = """() => {
  const rgba = (text) => {
    const n = text.match(/-?[\\d.]+(e-?\\d+)?/g).map(Number);
    const scale = text.startsWith("color(") ? 255 : 1;
    return [n[0] * scale, n[1] * scale, n[2] * scale, n.length > 3 ? n[3] : 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = (node) => {
    const own = rgba(getComputedStyle(node).backgroundColor);
    return own[3] === 1 ? own : over(own, node.parentElement ? behind(node.parentElement) : [255, 255, 255, 1]);
  };
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = new Map();
  for (const node of document.querySelectorAll("body *")) {
    const said = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!said || node.closest("script, style, svg, option, select, .skip") || !node.checkVisibility()) continue;
    const back = behind(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), back)), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = `${node.closest("[class]")?.className} ${node.tagName}`;
    if (ratio < (found.get(name) ?? 99)) found.set(name, ratio);
  }
  return [...found].filter(([, ratio]) => ratio < 4.5);
}"""


@browser_only
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_stands_out_from_its_background(browser: Any, site: Path, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme)
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto(site.as_uri())
    page.wait_for_selector("#players .player")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    # 4.5 is what WCAG 2.1 asks of body text (1.4.3, level AA).
    assert page.evaluate(CONTRASTS) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor").startswith("rgb(1")
    assert dark == (scheme == "dark")
    context.close()


@browser_only
def test_a_zipped_report_plays_where_it_is_unpacked(browser: Any, site: Path, tmp_path: Path) -> None:
    clips = json.loads((site.parent / "kept.json").read_text(encoding="utf-8"))
    rows = pd.read_parquet(site.parent / "kept.parquet")
    results = Results.from_rows(rows, fakes.make().provenance, folder=site.parent, clips=clips)
    report.write(results, tmp_path / "out", formats=("html",), copy_media=True)
    archive = shutil.make_archive(str(tmp_path / "page"), "zip", tmp_path / "out")
    elsewhere = tmp_path / "été & co #1"
    shutil.unpack_archive(archive, elsewhere)
    shutil.rmtree(tmp_path / "out")
    context = browser.new_context(offline=True)
    context.set_default_timeout(90_000)
    page = context.new_page()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(unquote(request.url)))
    page.goto((elsewhere / "report.html").as_uri())
    wait_until(
        page,
        "() => { const all = [...document.querySelectorAll('video')];"
        " return all.length > 3 && all.every(v => v.readyState > 1); }",
    )
    page.locator("#frames").scroll_into_view_if_needed()
    wait_until(page, "document.querySelector('#sheet img').naturalWidth === 768")
    assert {r for r in requests if not r.startswith((f"file://{elsewhere}/", "data:"))} == set()
    context.close()


@browser_only
def test_the_theme_switches(tab: Any) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(colour)
    tab.locator("#theme").click()
    assert tab.evaluate(colour) != before


@browser_only
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_window_scrolls_sideways(browser: Any, site: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto(site.as_uri())
    page.wait_for_selector("#players .player")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@browser_only
def test_every_control_has_a_name(tab: Any) -> None:
    nameless = tab.eval_on_selector_all(
        "button, select, input",
        """all => all.filter(
            e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))
        ).length""",
    )
    assert nameless == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_the_script_runs_in_plain_chromium(site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--virtual-time-budget=4000", "--dump-dom", site.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert 'aria-current="true"' in done.stdout
    assert done.stdout.count("<circle") > 50


def test_summary_is_computed_once_per_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = Summary.__init__

    def counted(self: Summary, *arguments: Any, **options: Any) -> None:
        made.append(1)
        original(self, *arguments, **options)

    monkeypatch.setattr(Summary, "__init__", counted)
    report.write(fakes.make(), tmp_path)
    assert len(made) == 1
