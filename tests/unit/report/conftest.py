"""Makes the shared fake results importable, and opens a page of them in a browser."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import fakes
from pages import EVIL, FLOORS, PIXEL, wait_until, write_clip

from bench import report
from bench.report import sheets
from bench.results.runs import Results


@pytest.fixture(scope="session")
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
    provenance = {**results.provenance, "notes": [EVIL], "floors": FLOORS}
    return report.write(
        Results.from_rows(rows, provenance, folder=folder, clips=extras), folder, formats=("html",)
    )["html"]


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
