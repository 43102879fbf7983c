"""The page in a real browser: consent, keys, touch, a phone's width, and what arrives on disk."""

import threading

import pytest

from bench.run.vote_server import make_server
from bench.run.voting import Desk, read_votes


@pytest.fixture
def address(study):
    made, folder = study
    server = make_server(Desk(made, folder), folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", made, folder
    server.shutdown()
    server.server_close()
    thread.join()


def begin(page, address):
    page.goto(address)
    assert page.locator("#begin").is_disabled()
    page.check("#agree")
    page.click("#begin")
    wait_ready(page)


def wait_ready(page):
    page.wait_for_selector('[data-answer="left"]:not([disabled])', timeout=20_000)


def test_voting_by_key_and_by_touch_is_stored(browser, address):
    url, made, folder = address
    page = browser.new_page()
    begin(page, url)
    page.keyboard.press("1")
    page.wait_for_function("document.getElementById('progress').textContent.startsWith('1 of')")
    wait_ready(page)
    page.click("#replay")
    wait_ready(page)
    page.click('[data-answer="same"]')
    page.wait_for_function("document.getElementById('progress').textContent.startsWith('2 of')")
    votes, problems = read_votes(folder, made)
    assert problems == [] and [v.answer for v in votes] == ["left", "same"]
    assert len({v.rater for v in votes}) == 1
    assert '"replays": 1' in (folder / "votes.jsonl").read_text()
    assert not any(m in page.content() for m in ("half-rate", "copy", "still", "ground-truth", "toy-"))
    page.close()


def test_same_rater_comes_back_after_closing_the_page(browser, address):
    url, made, folder = address
    context = browser.new_context()
    for _ in range(2):
        page = context.new_page()
        begin(page, url)
        page.keyboard.press("2")
        page.wait_for_timeout(300)
        page.close()
    context.close()
    votes, _ = read_votes(folder, made)
    assert len(votes) == 2 and len({v.rater for v in votes}) == 1


def test_a_phone_shows_both_clips_without_scrolling_sideways(browser, address):
    page = browser.new_page(viewport={"width": 360, "height": 740})
    begin(page, address[0])
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [page.locator(f"#{side} video").bounding_box() for side in ("left", "right")]
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"] + 1
    page.close()
