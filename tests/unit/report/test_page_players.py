"""The players stand on one frame, can be compared two at a time, and the address follows what is shown."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from pages import frames_on_screen, picture, wait_for_frame, wait_until, write_clip

from bench import report
from bench.results.runs import Results

pytestmark = pytest.mark.xdist_group("browser")  # one worker starts it and makes the page it looks at

REAL = Path(__file__).parents[4] / "shared" / "media" / "talking"
PANES = "#screens video"


def test_a_pause_leaves_every_player_on_the_same_frame(tab: Any) -> None:
    tab.locator("#speed").select_option("0.5")
    for _ in range(3):
        tab.locator("#play").click()
        wait_until(tab, "() => { const v = document.querySelectorAll('#players video')[3]; return !v.paused; }")
        tab.wait_for_timeout(217)
        tab.locator("#play").click()
        number = int(tab.locator("#clock").inner_text().split("·")[1])
        wait_for_frame(tab, number)
        assert set(frames_on_screen(tab)) == {number}
    for position in ("137", "611", "1000"):
        tab.locator("#scrub").fill(position)
        number = int(tab.locator("#clock").inner_text().split("·")[1])
        wait_for_frame(tab, number)
        assert set(frames_on_screen(tab)) == {number}
    assert number == 39  # the slider's end is the last of 40 frames


@pytest.mark.skipif(not REAL.is_dir(), reason="no real clips here")
def test_real_clips_of_other_encoders_show_the_same_frame(browser: Any, tmp_path: Path) -> None:
    source = REAL / "hdtf_katiehill_512_25fps.mp4"
    plain = ["-g", "12", "-bf", "3"], ["-g", "250", "-bf", "0", "-preset", "veryfast"]
    for name, options in zip(("a", "b"), plain, strict=True):
        command = ["ffmpeg", "-v", "error", "-i", source, "-t", "2", "-an", "-c:v", "libx264", *options]
        try:
            subprocess.run([*command, "-threads", "1", tmp_path / f"{name}.mp4"], check=True)
        except FileNotFoundError:
            pytest.skip("no ffmpeg here")
    four = {name: fakes.METHODS[name] for name in ("actalker", "ground-truth")}
    media = {"clip": "a.mp4", "reference": "b.mp4"}
    results = fakes.make(protocols=["psnr"], media=media, identities=12, methods=four)
    page = report.write(Results(results.rows, results.provenance, folder=tmp_path), tmp_path, formats=("html",))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(page["html"].as_uri())
    wait_until(tab, "[...document.querySelectorAll('#players video')].every(v => v.readyState > 1)")
    tab.locator("#play").click()
    wait_until(tab, "document.querySelector('#players video').currentTime > 0.7")
    tab.locator("#play").click()
    for step in range(2):
        number = int(tab.locator("#clock").inner_text().split("·")[1])
        wait_for_frame(tab, number)
        # What the compositor presents, not what was asked for.
        shown = tab.evaluate(
            "() => Promise.all([...document.querySelectorAll('#players video')].slice(0, 4).map(v => new Promise("
            "done => { v.requestVideoFrameCallback((_, about) => done(Math.round(about.mediaTime * 25)));"
            " v.currentTime += 1e-5; })))"
        )
        assert set(shown) == {number}
        if not step:
            tab.locator("#scrub").fill("800")
    context.close()


def test_a_reference_that_no_browser_shows_is_replaced_by_its_encoded_form(browser: Any, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    write_clip(tmp_path / "clip.mp4", 120)
    with av.open(str(tmp_path / "old.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for _ in range(10):
            image = np.full((64, 64, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))
    results = fakes.make(protocols=["psnr"], media={"clip": "clip.mp4", "reference": "old.mp4"})
    page = report.write(Results(results.rows, results.provenance, folder=tmp_path), tmp_path, formats=("html",))
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    tab = context.new_page()
    tab.goto(page["html"].as_uri())
    wait_until(tab, "document.querySelector('#players video[data-key=reference]')?.videoWidth === 64")
    assert tab.locator("#players video[data-key=reference]").get_attribute("src") == "clip.mp4"
    assert "old.mp4" in (tab.locator("#players video[data-key=reference]").get_attribute("title") or "")
    context.close()


def test_a_part_is_repeated(tab: Any) -> None:
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#now").click()
    for key in ["ArrowRight"] * 5 + ["i"] + ["ArrowRight"] * 4 + ["o"]:
        tab.keyboard.press(key)
    assert tab.locator("#region").inner_text() == "frames 5–9 ✕"
    tab.locator("#play").click()
    seen = set()
    for _ in range(40):
        seen.add(int(tab.locator("#clock").inner_text().split("·")[1]))
        tab.wait_for_timeout(20)
    assert min(seen) >= 5
    assert max(seen) <= 10
    tab.keyboard.press("x")
    assert not tab.locator("#region").is_visible()


def test_two_clips_are_compared_large(tab: Any) -> None:
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#now").click()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("c")
    wait_for_frame(tab, 1)
    assert tab.locator(PANES).count() == 2
    tab.keyboard.press("ArrowRight")
    wait_for_frame(tab, 2)
    assert set(frames_on_screen(tab, PANES)) == {2}
    tab.locator("#compare-c").select_option(label="ground-truth")
    assert tab.locator(PANES).count() == 3
    # Under the wipe the left half is the one clip, the right half the other: 180 and 60 of grey.
    tab.locator("#compare-view").select_option("wipe")
    tab.wait_for_timeout(400)
    screen = tab.locator("#screens .screen")
    found = picture(tab, screen)
    height, width = found.shape[:2]
    left, right = (found[height // 8, int(width * x)].mean() for x in (0.25, 0.75))
    assert left == pytest.approx(180, abs=12)
    assert right == pytest.approx(60, abs=12)
    # A wipe from the very left shows the second clip alone.
    tab.locator("#compare-wipe").fill("0")
    tab.wait_for_timeout(150)
    assert picture(tab, screen)[height // 8, int(width * 0.25)].mean() == pytest.approx(60, abs=12)


def test_the_heat_map_is_black_where_clips_agree(tab: Any) -> None:
    tab.locator("#compare-open").click()
    tab.locator("#compare-view").select_option("difference")
    tab.wait_for_timeout(400)
    screen = tab.locator("#screens .screen")
    found = picture(tab, screen)
    height, width = found.shape[:2]
    assert found[height // 8, width // 2].sum() > 300  # 180 against 60: bright
    assert found[height // 2, width // 16].sum() < 60  # the bars are the same in both: black
    tab.locator("#compare-b").select_option(label="actalker · visual")  # the same file as the first
    wait_until(tab, "[...document.querySelectorAll('#screens video')].every(v => v.readyState > 1 && !v.seeking)")
    assert picture(tab, screen).mean() < 6


def test_a_zoom_enlarges_the_mouth(tab: Any) -> None:
    tab.locator("#compare-open").click()
    tab.locator("#compare-mouth").click()
    assert tab.locator("#compare-mouth").get_attribute("aria-pressed") == "true"
    scale = tab.evaluate("new DOMMatrix(getComputedStyle(document.querySelector('#screens video')).transform).a")
    assert scale == 3
    assert tab.evaluate("!!document.getElementById('theatre').requestFullscreen")


def test_the_address_brings_back_what_was_shown(browser: Any, tab: Any) -> None:
    tab.locator("#table-find").fill("actalker")
    tab.locator("#table-preset").select_option("directed")
    tab.locator("#x-metric").select_option(label="PSNR (dB) ↑")
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#now").click()
    before = tab.url
    for key in ("j", "j", "k", "ArrowRight", "ArrowRight", "ArrowRight", "v", "v"):
        tab.keyboard.press(key)
    wait_until(tab, "before => location.href !== before && location.hash.includes('frame=3')", before)
    tab.wait_for_timeout(200)
    name = tab.locator("#now").inner_text()
    assert f"sample={name}" in tab.url
    other = browser.new_context().new_page()
    other.goto(tab.url)
    wait_until(other, "document.querySelectorAll('#screens video').length === 2")
    assert other.locator("#now").inner_text() == name
    wait_for_frame(other, 3)
    assert other.locator("#compare-view").input_value() == "wipe"
    assert other.locator("#table-find").input_value() == "actalker"
    assert other.locator("#table-preset").input_value() == "directed"
    assert other.locator("#x-metric option:checked").inner_text() == "PSNR (dB) ↑"
    assert other.locator("#table-summary tbody.control").count() == 1
    assert not other.locator("#table-summary tbody.control").is_visible()
    other.context.close()


def test_a_question_mark_explains_the_keys(tab: Any) -> None:
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    said = " ".join(tab.locator("#help dt").all_inner_texts())
    script = (Path(report.__file__).parents[2] / "reports" / "templates" / "js" / "viewer.js").read_text()
    keys = script.partition("const KEYS = {")[2].partition("\n};")[0]
    for line in keys.splitlines():
        key = line.strip().partition(":")[0]
        if len(key) == 1:
            assert key.upper() in said, f"the help does not name {key}"
    tab.keyboard.press("Escape")
    assert not tab.locator("#help").is_visible()


AXE = Path(os.environ.get("AXE_CORE", Path(__file__).parents[3] / "node_modules" / "axe-core")) / "axe.min.js"


@pytest.mark.skipif(not AXE.is_file(), reason="no axe-core here: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, site: Path, scheme: Any) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(site.as_uri())
    page.wait_for_selector("#players .player")
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for mode in ("all", "compare"):
        if mode == "compare":
            page.locator("#compare-open").click()
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
        assert [(v["id"], v["nodes"][0]["html"][:120]) for v in found["violations"]] == []
    context.close()
