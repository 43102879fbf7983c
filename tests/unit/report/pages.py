"""The page in a browser: clips that say which frame they show, waiting, reading the screen."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

EVIL = "<img src=x onerror='window.hacked=1'>\"&</script><script>window.hacked=1</script>"
FLOORS = {"sync/synthetic_v1|sync_c": {"same": 0.4, "cross": 1.1, "worst": "h265_crf26", "clips": 8}}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def embedded(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, flags=re.S)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def write_clip(path: Path, shade: int, seconds: float = 1.6) -> None:
    """A little clip of one colour; in the middle third eight bars spell the number of the frame."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for n in range(int(25 * seconds)):
            image = np.full((64, 64, 3), shade, np.uint8)
            for bit in range(8):
                image[22:42, 8 * bit : 8 * bit + 8] = 255 if n >> bit & 1 else 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode(None))


def wait_until(tab: Any, condition: str, arg: Any = None, limit: float = 90.0) -> None:
    """Wait until a JavaScript expression is true; a busy machine may take its time.

    Playwright's own waiting evaluates text inside the page, which the page's security policy forbids.
    """
    end = time.monotonic() + limit
    while not tab.evaluate(condition, arg):
        assert time.monotonic() < end, f"never true: {condition}"
        tab.wait_for_timeout(50)


def wait_for_frame(tab: Any, number: int) -> None:
    """Wait until every player has arrived in the middle of this frame's time (25 frames per second)."""
    wait_until(
        tab,
        "n => [...document.querySelectorAll('video')]"
        ".every(v => !v.seeking && Math.abs(v.currentTime * 25 - n - 0.5) < 0.1)",
        number,
    )


def picture(tab: Any, node: Any) -> np.ndarray:
    """Return what the screen shows of an element, int16 (height, width, 3), with nothing floating above it."""
    tab.evaluate("document.querySelectorAll('.top, .transport').forEach(e => { e.style.position = 'static'; })")
    node.scroll_into_view_if_needed()
    tab.wait_for_timeout(150)
    return np.asarray(Image.open(io.BytesIO(node.screenshot())).convert("RGB"), np.int16)


def frames_on_screen(tab: Any, selector: str = "#players video") -> list[int]:
    """Read the number that every picture carries from the pixels on the screen: eight bars, black or white."""
    area = selector.partition(" ")[0]
    grey = picture(tab, tab.locator(area)).mean(-1)
    boxes = tab.evaluate(
        "([area, selector]) => { const o = document.querySelector(area).getBoundingClientRect();"
        " return [...document.querySelectorAll(selector)].map(v => { const b = v.getBoundingClientRect();"
        " return [b.x - o.x, b.y - o.y, b.width, b.height]; }); }",
        [area, selector],
    )
    found = []
    for x, y, width, height in boxes:
        row = grey[int(y + height / 2)]
        found.append(sum(int(row[int(x + (i + 0.5) / 8 * width)] > 127) << i for i in range(8)))
    return found
