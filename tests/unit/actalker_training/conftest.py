from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The tiny system is shared by these tests and by those on Ray.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of untrained encoders of the embedded model, small ones where size is a choice."""
    import torch

    from actalker.conditioning.identity import IResNet
    from actalker.embedded import encoders as embedded

    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    for name, net in (
        ("pose", embedded.SmallHeadPose(embedded.SmallHeadPoseConfig(width=4, hidden=8))),
        ("expression", embedded.SmallHeadExpression(embedded.SmallHeadExpressionConfig(width=4, hidden=8))),
        ("identity", IResNet(embedded.ARCFACE)),
        ("audio", embedded.SmallAudioEncoder(embedded.SmallAudioEncoderConfig())),
    ):
        net.save_pretrained(folder / name, torch.float16)
    return folder
