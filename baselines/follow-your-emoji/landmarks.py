"""Face landmarks of every driving frame, in the list the system's `--lmk_path` expects.

Written from the description of the repository's notebook (one MediaPipe result per frame, with the frame's
size added); the repository ships no script for it. Not run.
"""

import argparse
import pathlib
import sys

import cv2
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--checkout", required=True)
parser.add_argument("--frames", required=True, help="folder of numbered jpg files")
parser.add_argument("--out", required=True)
arguments = parser.parse_args()

sys.path.insert(0, arguments.checkout)
from media_pipe.mp_utils import LMKExtractor  # noqa: E402

extractor = LMKExtractor()
results = []
for path in sorted(pathlib.Path(arguments.frames).iterdir()):
    frame = cv2.imread(str(path))
    face = extractor(frame)
    if face is None:
        raise SystemExit("no face in driving frame " + path.name)
    face["height"], face["width"] = frame.shape[:2]
    results.append(face)
np.save(arguments.out, results)
