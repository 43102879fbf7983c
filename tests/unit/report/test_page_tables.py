"""Tables and plots on the page: sorting, searching, columns, copying, several runs, small windows, print."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import fakes
import pytest
from pages import FLOORS, embedded, wait_until

from bench import report
from bench.report import latex, markdown
from bench.results.runs import Results, merge

pytestmark = pytest.mark.xdist_group("browser")  # one worker starts it and makes the page it looks at

CAUGHT = """() => {
  window.caught = "";
  navigator.clipboard.writeText = (text) => { window.caught = text; return Promise.resolve(); };
}"""


def copied(tab: Any, table: str, kind: str) -> str:
    tab.evaluate("window.caught = ''")
    tab.locator(f"#table-{table} [data-copy={kind}]").click()
    wait_until(tab, "window.caught !== ''")
    return str(tab.evaluate("window.caught"))


def test_the_third_click_restores_the_order(tab: Any) -> None:
    cells = "#table-sync tbody tr:not(.section) td:nth-child(4)"
    written = tab.locator(cells).all_inner_texts()
    button = tab.locator("#table-sync table").get_by_role("button", name="Sync-C")
    for _ in range(2):
        button.click()
        assert tab.locator(cells).all_inner_texts() != written
    button.click()
    assert tab.locator(cells).all_inner_texts() == written
    assert tab.locator("#table-sync th[aria-sort]").count() == 0


def test_rows_and_columns_are_chosen_for_every_table(tab: Any) -> None:
    tab.locator("#table-find").fill("actalker visual")
    shown = tab.locator("#table-summary tbody tr:visible:not(.section)").all_inner_texts()
    assert len(shown) == 2  # visual, and audio+visual
    assert all(line.startswith("actalker") and "visual" in line for line in shown)
    tab.locator("#table-find").fill("nobody")
    assert tab.locator("#find-count").inner_text() == "No row matches."
    tab.locator("#table-find").fill("")
    heads = "#table-descriptive thead th:visible"
    assert "Offset" in tab.locator(heads).last.inner_text()
    tab.locator("#table-preset").select_option("directed")
    assert not tab.locator("#table-descriptive").is_visible()
    # One failed clip leaves the column scored; the sets of `complete` come from the rows.
    tab.locator("#table-preset").select_option("all")
    tab.locator("#columns-box summary").click()
    tab.locator("#columns-list input[value='sync/synthetic_v1:sync_c']").first.uncheck()
    for table in ("summary", "sync"):
        assert not any("Sync-C" in h for h in tab.locator(f"#table-{table} thead th:visible").all_inner_texts())
    assert tab.locator("#table-preset").input_value() == "own"


def test_what_is_copied_is_what_the_renderers_write(tab: Any, site: Path) -> None:
    tab.evaluate(CAUGHT)
    tables = {t.id: t for t in report.build_tables(results_of(site))}
    small = tables["sync"]
    left = [i for i, h in enumerate(markdown.lines(small, ())[0]) if h != "n"]
    assert copied(tab, "sync", "md").splitlines() == markdown.grid(
        markdown.lines(small, range(len(small.columns))), left
    )
    assert copied(tab, "sync", "tex") == latex.HEAD + latex.table(small)
    lines = list(csv.reader(io.StringIO(copied(tab, "sync", "csv"))))
    assert lines[0][:6] == ["Method", "Gate", "n", "Sync-C", "Sync-C low", "Sync-C high"]
    first = small.rows[0].values[0]
    assert first is not None
    assert [float(x) for x in lines[1][3:6]] == pytest.approx([first.value, first.low, first.high], rel=1e-6)
    # Sorted, searched and without a column: the copy follows.
    tab.locator("#table-sync table").get_by_role("button", name="Sync-C").click()
    tab.locator("#table-find").fill("actalker")
    tab.locator("#columns-box summary").click()
    tab.locator("#columns-list input[value='sync/synthetic_v1:sync_d']").first.uncheck()
    lines = list(csv.reader(io.StringIO(copied(tab, "sync", "csv"))))
    assert [line[0] for line in lines[1:]] == ["actalker"] * 3
    assert not any("Sync-D" in h for h in lines[0])
    values = [float(line[3]) for line in lines[1:]]
    assert values == sorted(values, reverse=True)


def results_of(site: Path) -> Results:
    import pandas as pd

    provenance = {**fakes.make().provenance, "floors": FLOORS}
    return Results.from_rows(pd.read_parquet(site.parent / "kept.parquet"), provenance)


def test_plots_show_every_method_and_say_what_is_decided(tab: Any, site: Path) -> None:
    data = embedded(site.read_text(encoding="utf-8"))
    assert tab.locator("#tradeoff .point").count() == len(data["rows"])
    assert tab.locator("#profile path.profile").count() == len(data["rows"])
    tab.locator("#difference-base").select_option(label="mouth-warp · audio")
    said = tab.locator("#differences .difference.better title").all_text_contents()
    assert any(s.startswith("actalker · audio against mouth-warp · audio: +") for s in said)
    # The same pair seen from the other side.
    gain = next(s for s in said if s.startswith("actalker · audio ")).split(": +")[1].split(",")[0]
    tab.locator("#difference-base").select_option(label="actalker · audio")
    worse = tab.locator("#differences .difference.worse title").all_text_contents()
    assert any(s.startswith(f"mouth-warp · audio against actalker · audio: -{gain},") for s in worse)
    tab.locator("#profile-legend button").first.click()
    assert tab.locator("#profile path.dim").count() == len(data["rows"]) - 1
    people = tab.locator("#people tbody tr")
    assert people.count() == 12
    tab.locator("#people-more").click()
    assert people.count() == len({s["who"] for s in data["samples"]})
    people.first.get_by_role("button").click()
    assert tab.locator("#now-who").inner_text() or tab.locator("#now").inner_text()


def test_headings_stay_on_a_phone(browser: Any, site: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 600}, has_touch=True)
    page = context.new_page()
    page.goto(site.as_uri())
    page.wait_for_selector("#players .player")
    place = """() => {
      const box = document.querySelector('#table-summary .scroll');
      box.scrollTop = 120; box.scrollLeft = 60;
      const head = box.querySelector('thead tr:last-child th:nth-child(4)').getBoundingClientRect();
      const name = box.querySelector('tbody th').getBoundingClientRect();
      const frame = box.getBoundingClientRect();
      return [box.scrollTop, Math.round(head.top - frame.top), Math.round(name.left - frame.left)];
    }"""
    scrolled, top, left = page.evaluate(place)
    assert scrolled > 0
    assert top < 40
    assert 0 <= left < 20
    context.close()


def test_a_print_has_whole_tables_and_no_controls(tab: Any) -> None:
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 1040, "height": 740})  # A4 landscape
    assert not tab.locator(".top").is_visible()
    assert not tab.locator(".tools").is_visible()
    assert not tab.locator("#samples .viewer").is_visible()
    wide = tab.eval_on_selector_all(
        "article.table",
        "all => all.filter(a => a.querySelector('table').scrollWidth > a.clientWidth).map(a => a.id)",
    )
    assert wide == []
    assert tab.locator("#tradeoff svg").is_visible()
    # Paper is white whatever the screen is, chosen metrics are words, and folded boxes are printed unfolded.
    ground = "getComputedStyle(document.body).backgroundColor"
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    assert tab.evaluate(ground) == "rgb(255, 255, 255)"
    assert tab.locator("#difference-metric").is_visible()
    assert tab.evaluate("getComputedStyle(document.querySelector('#difference-metric')).appearance") == "none"
    folded = "document.querySelectorAll('details:not([open])').length"
    before = tab.evaluate(folded)
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert before > 0 and tab.evaluate(folded) == 0
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate(folded) == before
    # Headings of the people's table stand over their own columns.
    heads, cells = (tab.locator(f"#people tr:first-child {c}") for c in ("th[scope=col]:visible", "td:visible"))
    assert heads.count() == cells.count() + 1


def test_several_runs_stand_on_one_page(tmp_path: Path) -> None:
    first, second = (
        fakes.make(missing=False),
        fakes.make(seed=1, shift={("actalker", "sync_c"): 4.0}, missing=False),
    )
    parts = [Results(r.rows, r.provenance, name=n) for r, n in ((first, "before"), (second, "after"))]
    text = report.write(merge(parts), tmp_path, formats=("html",))["html"].read_text(encoding="utf-8")
    assert "Runs on this page" in text
    assert "actalker @ before · audio" in text
    names = [r["method"] for r in embedded(text)["rows"]]
    assert {"actalker @ before", "actalker @ after"} <= set(names)
