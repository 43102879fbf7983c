"""Stand-in weights for EDTalk: its own generators and audio encoder, as its scripts size them by default."""

from networks.audio_encoder import Audio2Lip
from networks.generator import Generator
from networks.generator_lip_pose import Generator as LipPose
from standins import save


def make(root):
    """Save the three under the scripts' default names."""
    folder = root / "ckpts"
    save(folder / "EDTalk.pt", {"gen": Generator(256).state_dict()})
    save(folder / "EDTalk_lip_pose.pt", {"gen": LipPose(256).state_dict()})
    save(folder / "Audio2Lip.pt", {"audio2lip": Audio2Lip().state_dict()})
