"""Stand-in weights for Wav2Lip: its own generator, and its own S3FD made to see one face everywhere."""

from face_detection.detection.sfd.net_s3fd import s3fd
from models import Wav2Lip
from standins import constant, save


def make(root):
    """Save both; the detector's coarsest level alone answers, with anchors shrunk to half their size."""
    save(root / "checkpoints" / "wav2lip_gan.pth", {"state_dict": Wav2Lip().state_dict()})
    detector = s3fd()
    for name, layer in detector.named_modules():
        if name.endswith("_conf"):
            # The first of four channels is the best of three kinds of background.
            last = name.startswith("conv7_2")
            constant(layer, [-6.0, 6.0] if last else [6.0, -6.0] if layer.out_channels == 2 else [6, 6, 6, -6.0])
        elif name.endswith("_loc"):
            constant(layer, [0.0, 0.0, -3.5, -3.5])
    save(root / "face_detection" / "detection" / "sfd" / "s3fd.pth", detector.state_dict())
