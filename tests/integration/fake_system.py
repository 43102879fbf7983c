"""A badly behaved system, run as a program: `--mode` says how it misbehaves. Only numpy and PyAV."""

import argparse
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write(path, frames=10, fps=25, columns=1, cut=None):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64 * columns, 64, "yuv420p"
        for index in range(frames):
            good = np.full((64, 64, 3), 60 + 4 * index, np.uint8)
            picture = np.concatenate([good, *[np.zeros_like(good)] * (columns - 1)], axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    if cut:
        data = Path(path).read_bytes()
        Path(path).write_bytes(data[: int(len(data) * cut)])


def sleeper(ignore=False, escape=False):
    """A grandchild that would outlive everything, marked so that the test can find it."""
    code = "import signal, time\n"
    if ignore:
        code += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "time.sleep(300)"
    return subprocess.Popen([sys.executable, "-c", code, os.environ["MARK"]], start_new_session=escape)


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--image", "--audio", "--out", "--mode"):
        parser.add_argument(flag, required=True)
    options = parser.parse_args()
    mode, out = options.mode, options.out
    assert Path(options.image).is_file() and Path(options.audio).is_file()
    if mode == "junk":
        print('\x1b[31m{"id": 1, "ok": true}\x1b[0m \x00\xff', flush=True)
        sys.stdout.buffer.write(os.urandom(4096))
    if mode == "flood":
        line = "progress 50%\r" * 800 + "\n"
        for _ in range(2000):
            sys.stderr.write(line)
        print("the last words", file=sys.stderr)
    if mode == "asks":
        print("overwrite? [y/N]", flush=True)
        sys.exit(0 if input() == "y" else 1)
    if mode == "hang":
        sleeper()
        time.sleep(300)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sleeper(ignore=True, escape=True)
        print("I never stop", flush=True)
        time.sleep(300)
    if mode == "forks":
        sleeper(ignore=True, escape=True)
        sleeper()
    if mode == "empty":
        print("Can't get the coeffs of the input")
        sys.exit(0)
    if mode == "oom":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
    if mode == "imports":
        import a_module_that_is_not_there  # noqa: F401
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "network":
        import urllib.request

        urllib.request.urlopen("https://weights.example/model.bin", timeout=20)
    if mode == "wrong-name":
        out = str(Path(out).with_name("final.mp4"))
    if mode == "writes-beside":
        Path(options.image).with_suffix(".pkl").write_bytes(b"x")
        Path("temp").mkdir(exist_ok=True)
        Path("temp/result.avi").write_bytes(b"x")
    frames, fps, columns, cut = 10, 25, 1, None
    if mode == "truncated":
        cut = 0.6
    if mode == "two-panels":
        columns = 2
    if mode == "24fps":
        frames, fps = 10, 24
    if mode == "short":
        frames = 4
    if mode == "text":
        Path(out).write_text("not a video")
        return
    write(out, frames, fps, columns, cut)
    if mode == "lies":
        sys.exit(3)
    if mode == "hangs-after":
        time.sleep(300)


if __name__ == "__main__":
    main()
