"""A system that takes a list: every entry of a JSON configuration, one after another. `mode` says how it fails."""

import json
import os
import sys
import time
import wave
from fractions import Fraction
from pathlib import Path

config = json.loads(Path(sys.argv[1]).read_text())
tasks = [value for key, value in sorted(config.items()) if key.startswith("task_")]
with Path(os.environ["STARTS"]).open("a") as file:
    file.write(f"{len(tasks)} ")

# After the note of the start: on a busy machine these take as long as the limit of a test.
import av  # noqa: E402
import numpy as np  # noqa: E402

for number, task in enumerate(tasks):
    bad = Path(task["audio"]).read_bytes() == Path(os.environ["BAD"]).read_bytes()
    if bad and config["mode"] == "skips":
        print("cannot use", task["audio"])
        continue
    if bad and config["mode"] == "crashes":
        sys.exit("Segmentation fault")
    if bad and config["mode"] == "hangs":
        time.sleep(300)
    with wave.open(task["audio"]) as sound:
        count = round(sound.getnframes() / sound.getframerate() * 25)
    name = f"{Path(task['image']).stem}_{Path(task['audio']).stem}.mp4"
    if config["mode"] == "renames":
        name = f"result{number}.mp4"
    with av.open(str(Path(sys.argv[2]) / name), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        level = 60 + sum(Path(task["audio"]).read_bytes()) % 150  # tells whose clip it is
        for _ in range(count):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
