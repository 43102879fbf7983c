"""Stand-in weights for LivePortrait: its own five networks, and detectors that see one face in the middle."""

import numpy
import yaml
from src.modules.appearance_feature_extractor import AppearanceFeatureExtractor
from src.modules.motion_extractor import MotionExtractor
from src.modules.spade_generator import SPADEDecoder
from src.modules.stitching_retargeting_network import StitchingRetargetingNetwork
from src.modules.warping_network import WarpingNetwork
from standins import ring, save, save_insightface, save_onnx

_NETWORKS = {
    "appearance_feature_extractor": AppearanceFeatureExtractor,
    "motion_extractor": MotionExtractor,
    "spade_generator": SPADEDecoder,
    "warping_module": WarpingNetwork,
}


def make(root):
    """Save everything under pretrained_weights/ as the download does."""
    with open(root / "src" / "config" / "models.yaml") as file:
        sizes = yaml.safe_load(file)["model_params"]
    weights = root / "pretrained_weights"
    for name, network in _NETWORKS.items():
        path = weights / "liveportrait" / "base_models" / (name + ".pth")
        save(path, network(**sizes[name + "_params"]).state_dict())
    parts = sizes["stitching_retargeting_module_params"]
    names = {"retarget_shoulder": "stitching", "retarget_mouth": "lip", "retarget_eye": "eye"}
    save(
        weights / "liveportrait" / "retargeting_models" / "stitching_retargeting_module.pth",
        {key: StitchingRetargetingNetwork(**parts[part]).state_dict() for key, part in names.items()},
    )
    save_insightface(weights / "insightface" / "models" / "buffalo_l", 512)
    # 203 points in units of the crop: the eyes, the lips, and the outline of the face.
    points = ring(203, (0.5, 0.5), 0.4)
    points[:24], points[24:48], points[48:108] = (
        ring(24, (0.35, 0.4), 0.05),
        ring(24, (0.65, 0.4), 0.05),
        ring(60, (0.5, 0.7), 0.1),
    )
    outputs = {"first": numpy.zeros((1, 214)), "second": numpy.zeros((1, 262)), "third": points.reshape(1, 406)}
    save_onnx(
        weights / "liveportrait" / "landmark.onnx",
        {"input": (1, 3, 224, 224)},
        {name: value.astype("float32") for name, value in outputs.items()},
    )
