"""Stand-in weights for FOMM: its own generator and keypoint detector, as `config/vox-256.yaml` sizes them."""

import yaml
from modules.generator import OcclusionAwareGenerator
from modules.keypoint_detector import KPDetector
from standins import save


def make(root):
    """Save both under the names that demo.py reads."""
    with open(root / "config" / "vox-256.yaml") as file:
        sizes = yaml.safe_load(file)["model_params"]
    common = sizes["common_params"]
    parts = {
        "generator": OcclusionAwareGenerator(**sizes["generator_params"], **common),
        "kp_detector": KPDetector(**sizes["kp_detector_params"], **common),
    }
    save(root / "checkpoints" / "vox-cpk.pth.tar", {name: part.state_dict() for name, part in parts.items()})
