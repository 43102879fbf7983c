"""Stand-in weights for DaGAN: its own generator, keypoint detector and depth networks."""

import depth
import yaml
from modules import generator as generators
from modules.keypoint_detector import KPDetector
from standins import save


def make(root):
    """Save all four under the names that demo.py reads."""
    with open(root / "config" / "vox-adv-256.yaml") as file:
        sizes = yaml.safe_load(file)["model_params"]
    common = dict(sizes["common_params"], num_kp=15)
    generator = generators.DepthAwareGenerator(**sizes["generator_params"], **common)
    # The keypoint detector sees the depth as a fourth channel.
    detector = KPDetector(**sizes["kp_detector_params"], **dict(common, num_channels=4))
    save(
        root / "checkpoints" / "DaGAN_vox_adv_256.pth.tar",
        {"generator": generator.state_dict(), "kp_detector": detector.state_dict()},
    )
    encoder = depth.ResnetEncoder(18, False)
    decoder = depth.DepthDecoder(num_ch_enc=encoder.num_ch_enc, scales=range(4))
    folder = root / "depth" / "models" / "weights_19"
    save(folder / "encoder.pth", dict(encoder.state_dict(), height=256, width=256, use_stereo=False))
    save(folder / "depth.pth", decoder.state_dict())
