"""The HTML page in a real browser without a network: reading order, contrast, links, players, pictures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import fakes
import pandas as pd
import pytest
from pages import embedded, wait_for_frame, wait_until

from bench import report
from bench.results.runs import Results

pytestmark = pytest.mark.xdist_group("browser")  # one worker starts it and makes the page it looks at


def test_it_opens_offline_without_errors(tab: Any) -> None:
    assert tab.trouble == []
    assert all(url.startswith(("file:", "data:")) for url in tab.requests)
    assert tab.evaluate("window.hacked") is None
    assert tab.locator("img[src=x]").count() == 0


def test_a_heading_sorts_its_table_within_the_groups(tab: Any) -> None:
    table = tab.locator("#table-sync table")
    table.get_by_role("button", name="Sync-C").click()
    cells = "#table-sync tbody.method tr:not(.section) td:nth-child(4)"
    shown = tab.eval_on_selector_all(cells, "all => all.map(td => Number(td.dataset.v))")
    assert shown == sorted(shown, reverse=True)
    assert table.locator("th[aria-sort]").get_attribute("aria-sort") == "descending"
    table.get_by_role("button", name="Sync-C").click()
    assert tab.eval_on_selector_all(cells, "all => all.map(td => Number(td.dataset.v))") == shown[::-1]


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
    wait_for_frame(tab, 20)
    assert tab.eval_on_selector_all("#players video", "all => all.every(v => v.paused)")


def test_keys_step_frames_and_clips(tab: Any) -> None:
    tab.locator("#samples").scroll_into_view_if_needed()
    tab.locator("#now").click()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    wait_for_frame(tab, 2)
    before = tab.locator("#now").inner_text()
    tab.keyboard.press("j")
    assert tab.locator("#now").inner_text() != before
    tab.keyboard.press("k")
    assert tab.locator("#now").inner_text() == before
    tab.keyboard.press("m")
    assert tab.eval_on_selector_all("#players video", "all => all.filter(v => !v.muted).length") == 1
    tab.keyboard.press(" ")
    assert tab.locator("#play").get_attribute("aria-label") == "Pause"


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


def test_a_missing_clip_says_so_and_the_rest_plays(tab: Any) -> None:
    tab.wait_for_selector("#players .absent")
    assert "gone.mp4" in tab.locator("#players .player", has_text="mouth-warp").locator(".absent").inner_text()


def test_links_to_a_clip_open_it_with_its_reasons(tab: Any) -> None:
    tab.locator("#missing summary").first.click()
    tab.locator("#missing a", has_text="clip003_0").first.click()
    wait_until(tab, "document.getElementById('now').textContent === 'clip003_0'")
    assert "no triangle" in tab.locator("#players").inner_text()
    tab.locator("#pick-list button").first.click()
    assert tab.locator("#curve-plot svg path").count() >= 1
    tab.locator("#plot circle").first.dispatch_event("click")  # neighbours may lie on top of it
    assert tab.locator("#now").inner_text() != ""


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
    wait_for_frame(tab, 21)
    # The frame of the moment is framed: the fifth of eight.
    frame = tab.evaluate("getComputedStyle(document.querySelector('#sheet .strip'), '::after').left")
    assert float(frame.removesuffix("px")) == pytest.approx(box["width"] / 2, abs=2)


def test_controls_come_after_the_methods_everywhere(tab: Any, site: Path) -> None:
    controls = [row["control"] for row in embedded(site.read_text(encoding="utf-8"))["rows"]]
    assert controls == sorted(controls)
    assert tab.locator("#plot .name").last.text_content() in ("ground-truth", "shuffled-audio", "frozen")


def test_a_footnote_opens_the_protocol_it_names(tab: Any) -> None:
    where = tab.locator("#protocol-sync-synthetic-v1")
    assert not where.is_visible()
    tab.locator("#table-summary .footnotes a").first.click()
    where.wait_for(state="visible")


def test_the_keyboard_reaches_everything_in_reading_order(tab: Any) -> None:
    focus = "document.activeElement.textContent.trim() || document.activeElement.ariaLabel"
    reached = []
    for _ in range(11):
        tab.keyboard.press("Tab")
        reached.append(tab.evaluate(focus))
    sections = ["Tables", "Decide", "More", "Gates", "Spread", "Samples", "Missing", "Provenance"]
    assert reached == ["Skip to the tables", *sections, "?", "Switch between light and dark"]
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


def test_the_theme_switches(tab: Any) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    before = tab.evaluate(colour)
    tab.locator("#theme").click()
    assert tab.evaluate(colour) != before


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_window_scrolls_sideways(browser: Any, site: Path, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800})
    context.set_default_timeout(90_000)
    page = context.new_page()
    page.goto(site.as_uri())
    page.wait_for_selector("#players .player")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


def test_every_control_has_a_name(tab: Any) -> None:
    nameless = tab.eval_on_selector_all(
        "button, select, input",
        """all => all.filter(
            e => !(e.textContent.trim() || e.getAttribute('aria-label') || e.closest('label'))
        ).length""",
    )
    assert nameless == 0


def test_the_script_runs_in_plain_chromium(chromium: str, site: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--virtual-time-budget=4000", "--dump-dom", site.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert 'aria-current="true"' in done.stdout
    assert done.stdout.count("<circle") > 50


def test_what_re_encoding_does_is_a_band_in_the_spread_of_its_metric(tab: Any) -> None:
    chosen = tab.locator("#plot-metric")
    labels = chosen.locator("option").all_inner_texts()
    chosen.select_option(label=next(text for text in labels if text.startswith("Sync-C")))
    assert tab.locator("#plot rect.noise").count() == 1
    assert float(tab.locator("#plot rect.noise").get_attribute("width")) > 1
    assert "ground-truth" in tab.locator("#plot-noise").inner_text()
    assert "0.4" in tab.locator("#plot-noise").inner_text()
    assert "re-encoding noise on this split: Sync-C 0.4" in tab.locator("body").inner_text()
    chosen.select_option(label=next(text for text in labels if text.startswith("Sync-D")))
    assert tab.locator("#plot rect.noise").count() == 0 and not tab.locator("#plot-noise").is_visible()


def test_what_re_encoding_does_is_a_band_in_the_plots_of_means_and_differences(tab: Any) -> None:
    def choose(box: str, label: str) -> None:
        labels = tab.locator(f"{box} option").all_inner_texts()
        tab.locator(box).select_option(label=next(text for text in labels if text.startswith(label)))

    def width(box: str) -> float:
        return float(tab.locator(f"{box} rect.noise").get_attribute("width"))

    choose("#difference-metric", "Sync-C")
    zero = float(tab.locator("#differences line.zero").get_attribute("x1"))
    left = float(tab.locator("#differences rect.noise").get_attribute("x"))
    assert left == pytest.approx(zero - width("#differences") / 2)
    assert "Sync-C 0.400" in tab.locator("#difference-noise").inner_text()
    choose("#x-metric", "Sync-C")
    choose("#y-metric", "Sync-D")
    assert width("#tradeoff") > 1 and "ground-truth" in tab.locator("#tradeoff-noise").inner_text()
    assert tab.locator("#profile rect.noise").count() == 1  # one of its axes has a floor
    choose("#difference-metric", "Sync-D")
    choose("#x-metric", "FID")
    for box, note in (("#differences", "#difference-noise"), ("#tradeoff", "#tradeoff-noise")):
        assert tab.locator(f"{box} rect.noise").count() == 0 and not tab.locator(note).is_visible()
