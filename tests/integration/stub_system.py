"""Stands in for an outside system: takes exactly its flags, and writes what its contract says it writes.

`stub.json` beside it holds `flags` (all that exist), `image`, `audio`, `video`, `out` (the flags that carry
them), `name` (of the file, when `out` is a folder) and `exit`. It moves the picture a little in every frame.
"""

import argparse
import json
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

spec = json.loads(Path(__file__).absolute().with_name("stub.json").read_text())
parser = argparse.ArgumentParser(allow_abbrev=False)
for flag in spec["flags"]:
    parser.add_argument(flag, nargs="*", dest=flag)
given = {flag: (value or [None])[0] for flag, value in vars(parser.parse_args()).items() if value is not None}

with av.open(given[spec["image"]]) as picture:
    image = next(picture.decode(video=0)).to_ndarray(format="rgb24")
if given.get(spec["audio"]):
    with wave.open(given[spec["audio"]]) as sound:
        count = round(sound.getnframes() / sound.getframerate() * 25)
else:
    with av.open(given[spec["video"]]) as driver:
        count = sum(1 for _ in driver.decode(video=0))

out = Path(given[spec["out"]])
if spec.get("name"):
    out = out / spec["name"]
print("rendering", count, "frames to", out)
assert out.parent.is_dir(), "the parent folder is not made by the system"
with av.open(str(out), "w", format="mp4") as container:
    stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
    stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
    for index in range(count):
        moved = np.roll(image, index % 3 - 1, axis=0)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(moved), format="rgb24")))
    container.mux(stream.encode(None))
if spec.get("name") and "--" in spec["name"]:
    out.with_name(out.stem + "_concat.mp4").write_bytes(b"driver, source and result side by side")
sys.exit(spec["exit"])
