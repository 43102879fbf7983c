"""Check the embedded networks against their acceptance thresholds on three evaluation seeds; run as a script.

python tests/performance/synthetic_validity.py [seed ...]     (about two minutes of one CPU core per seed)
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import torch

from bench.synthetic import evaluate

AT_LEAST = {
    "offset_0_found": 0.97,
    "offset_5_found": 0.97,
    "offset_-5_found": 0.97,
    "sync_auc_wrong_audio": 0.99,
    "csim_auc": 0.99,
    "csim_top1": 0.90,
    "r2_opening": 0.95,
    "r2_smile": 0.93,
    "r2_blink_left": 0.88,
    "r2_blink_right": 0.88,
    "r2_brow": 0.88,
    "r2_furrow": 0.8,
    "r2_gaze_x": 0.8,
    "r2_gaze_y": 0.6,
}
AT_MOST = {"pose_mae_yaw": 0.07, "pose_mae_pitch": 0.05, "pose_mae_roll": 0.04}


def failures(found: dict) -> list[str]:
    """Return what does not hold."""
    wrong = [f"{k} {found[k]:.3f} < {v}" for k, v in AT_LEAST.items() if found[k] < v]
    wrong += [f"{k} {found[k]:.3f} > {v}" for k, v in AT_MOST.items() if found[k] > v]
    if found["sync_c"] - found["sync_c_wrong_audio"] < 4:
        wrong.append("Sync-C of true and wrong sound are closer than 4")
    if found["sync_c_frozen"] > 0.15 * found["sync_c"]:
        wrong.append("Sync-C of a frozen face is above 15 % of the true clip's")
    if found["csim_same"] - found["csim_other"] < 0.6:
        wrong.append("CSIM of same and other identity are closer than 0.6")
    for key, values in found.items():
        if key.startswith(("fid_", "fvd_", "expr_towards")) and not all(a < b for a, b in pairwise(values)):
            wrong.append(f"{key} does not rise: {[round(v, 2) for v in values]}")
    if found["fvd_hold_frames"][1] < 10 * found["fvd_hold_frames"][0]:
        wrong.append("FVD of frames held twice is below ten times the floor")
    if found["expr_other_identity"][0] > found["expr_towards_other"][2]:
        wrong.append("another face changes the expression error more than half a performance")
    return wrong


def main(arguments: list[str]) -> int:
    """Print figures and failures; arguments are seeds, or JSON files written by `bench.synthetic.evaluate`."""
    torch.set_num_threads(1)
    bad = 0
    for argument in arguments or ["0", "1", "2"]:
        if argument.endswith(".json"):
            found = json.loads(Path(argument).read_text())
        else:
            found = evaluate.figures("test", int(argument))
            print(json.dumps(found, indent=1))
        wrong = failures(found)
        print(f"{argument}: {'all thresholds hold' if not wrong else '; '.join(wrong)}")
        bad += bool(wrong)
    return bad


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
