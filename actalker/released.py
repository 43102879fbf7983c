"""The authors' released files: reading them strictly, and converting them to one model folder.

Files (paper's repository, commit 109de52): `unet-*.pth`, `adapter_module-*.pth`, `pose_guider-*.pth`,
`audio_linear-*.pth`, `id_proj_model-*.pth`, `vasa_linear-*.pth`, the motion encoders `MX31c_32k.ckpt`, and
ArcFace's `backbone.pth`. All are pickles; only tensors are unpickled from them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from actalker.attention import ADAPTERS
from actalker.checkpoints import load_strictly
from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.identity import IdentityProjection, IResNet
from actalker.conditioning.motion import HeadExpression, HeadPose, MotionProjection
from actalker.conditioning.portrait import PortraitConditioner, PortraitConditionerConfig
from actalker.conditioning.pose_guider import PoseGuider
from actalker.config import Configured
from actalker.control import cast
from actalker.errors import CheckpointError
from actalker.pipeline import INDEX_FILE, PipelineConfig
from actalker.unet import ACTalkerUNet

State = Mapping[str, Tensor]

_EXPRESSION_PREFIX = "expression_model."
_WHISPER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")


def read_state(path: str | Path) -> dict[str, Any]:
    """Tensors of a `.safetensors` file or of a pickled state dict, memory-mapped where the format allows.

    Raises:
        CheckpointError: not a file, not a state dict, or a pickle with more than tensors in it.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of plain tensors: {error}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, not a state dict")
    return state


def adapter_names(unet: ACTalkerUNet) -> dict[str, str]:
    """Key in `adapter_module-*.pth` -> key in the UNet, for every adapter weight.

    The file counts the cross-attentions of the down blocks, the up blocks and then the mid block, in each
    transformer the spatial one before the temporal one.
    """
    transformers = [
        (f"{stages}.{i}.attentions.{j}", attention)
        for stages in ("down_blocks", "up_blocks")
        for i, stage in enumerate(getattr(unet, stages))
        for j, attention in enumerate(stage.attentions or ())
    ]
    transformers += [(f"mid_block.attentions.{j}", a) for j, a in enumerate(unet.mid_block.attentions or ())]
    names = {}
    count = 0
    for prefix, _ in transformers:
        for block in ("transformer_blocks", "temporal_transformer_blocks"):
            for kind in ("to_k_ip", "to_v_ip"):
                for adapter in range(ADAPTERS):
                    weight = f"{kind}.{adapter}.weight"
                    names[f"{count}.{weight}"] = f"{prefix}.{block}.0.attn2.processor.{weight}"
            count += 1
    return names


def load_released_adapters(unet: ACTalkerUNet, state: State, source: str) -> None:
    """Overwrite the UNet's adapters with those of `adapter_module-*.pth`.

    The released script loads this file before the UNet's, which contains the same keys and therefore wins.

    Raises:
        CheckpointError: keys or shapes that do not fit.
    """
    names = adapter_names(unet)
    adapters = _Named({key: unet.get_parameter(name) for key, name in names.items()})
    load_strictly(adapters, state, source)
    with torch.no_grad():
        for key, name in names.items():
            parameter = unet.get_parameter(name)
            parameter.copy_(adapters.state_dict()[key].to(parameter))


def motion_states(checkpoint: Mapping[str, Any], source: str) -> tuple[State, State]:
    """Expression and head-pose state dicts inside `MX31c_32k.ckpt`; its renderer is not used.

    Raises:
        CheckpointError: not such a file.
    """
    missing = [key for key in ("generator", "pose_model") if key not in checkpoint]
    if missing:
        raise CheckpointError(f"{source} has no {' and no '.join(missing)}; it is not the motion checkpoint")
    expression = {
        key.removeprefix(_EXPRESSION_PREFIX): value
        for key, value in checkpoint["generator"].items()
        if key.startswith(_EXPRESSION_PREFIX)
    }
    return expression, checkpoint["pose_model"]


def initialise_from_svd(unet: ACTalkerUNet, state: State, source: str) -> None:
    """Give the UNet Stable Video Diffusion's weights, and its adapters copies of their layer's keys and values.

    Control layers keep their own initialisation.

    Raises:
        CheckpointError: keys or shapes that do not fit.
    """
    own = {key: value for key, value in unet.state_dict().items() if not _is_added(key)}
    load_strictly(_Named(own), state, source)
    merged = dict(unet.state_dict())
    for key, value in state.items():
        merged[key] = value.to(merged[key].dtype)
    for key in merged:
        if ".processor.to_" in key:
            layer, _, weight = key.partition("processor.")
            merged[key] = merged[layer + weight.split("_ip")[0] + ".weight"].clone()
    unet.load_state_dict(merged)


def convert(
    checkpoints: str | Path | None,
    *,
    motion: str | Path,
    arcface: str | Path,
    svd: str | Path,
    whisper: str | Path,
    out: str | Path,
    dtype: torch.dtype = torch.float16,
    report: Callable[[str], None] = lambda message: None,
) -> None:
    """Write a model folder for `ACTalkerPipeline.from_pretrained` from the released files.

    Args:
        checkpoints: folder of the six trained files; None makes a model to train instead, whose UNet starts
            from Stable Video Diffusion and whose projections start from scratch.
        motion: `MX31c_32k.ckpt`.
        arcface: `backbone.pth` (iResNet-50).
        svd: folder of stable-video-diffusion-img2vid-xt-1-1, of which `vae` is used, and `unet` without
            `checkpoints`.
        whisper: folder of whisper-tiny.
        out: the model folder; must not exist yet.
        dtype: of the stored UNet; the small networks stay in float32.
        report: called with a sentence per file.

    Raises:
        CheckpointError: a file is missing or does not fit; nothing is left at `out` then.
    """
    out = Path(out)
    if out.exists():
        raise CheckpointError(f"{out} exists already", "Choose another folder, or remove it.")
    files = {}
    if checkpoints is not None:
        files = {name: _only(Path(checkpoints), f"{name}-*.pth") for name in _TRAINED}
    for path, name in ((Path(svd) / "vae", "vae/config.json"), (Path(whisper), "config.json")):
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{path.parent if path.name == 'vae' else path} holds no {name}")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        conditioner = partial / "conditioner"
        for name, (cls, target) in _TRAINED.items():
            module = _trained(cls, files.get(name), Path(svd))
            report(f"{files[name].name if name in files else 'start'} -> {target}")
            cast(module, dtype if cls is ACTalkerUNet else torch.float32, round_scan=False)
            module.save_pretrained(partial / target)
        expression, pose = motion_states(read_state(motion), str(motion))
        identity = read_state(arcface)
        for cls, state, source, part in (
            (HeadExpression, expression, f"{motion} (generator)", "expression"),
            (HeadPose, pose, f"{motion} (pose_model)", "pose"),
            (IResNet, identity, str(arcface), "identity"),
        ):
            report(f"{source} -> conditioner/{part}")
            encoder = _on_meta(cls)
            load_strictly(encoder, state, source)
            encoder.save_pretrained(conditioner / part, torch.float32)
        report(f"{svd}/vae -> codec")
        shutil.copytree(Path(svd) / "vae", partial / "codec")
        report(f"{whisper} -> conditioner/audio_encoder")
        (conditioner / "audio_encoder").mkdir()
        for name in _WHISPER_FILES:
            if (Path(whisper) / name).is_file():
                shutil.copy(Path(whisper) / name, conditioner / "audio_encoder" / name)
        stored = {**asdict(PortraitConditionerConfig()), "parts": dict(_PARTS)}
        (conditioner / "config.json").write_text(json.dumps(stored, indent=2) + "\n")
        index = {
            "_class_name": "ACTalkerPipeline",
            "config": asdict(PipelineConfig()),
            "components": dict(_COMPONENTS),
        }
        (partial / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


_TRAINED: dict[str, tuple[type[Configured], str]] = {
    "unet": (ACTalkerUNet, "unet"),
    "pose_guider": (PoseGuider, "conditioner/pose_guider"),
    "audio_linear": (AudioProjection, "conditioner/audio_projection"),
    "id_proj_model": (IdentityProjection, "conditioner/identity_projection"),
    "vasa_linear": (MotionProjection, "conditioner/motion_projection"),
}

_COMPONENTS = {
    "unet": "actalker.unet:ACTalkerUNet",
    "codec": "actalker.codec:SVDCodec",
    "conditioner": f"{PortraitConditioner.__module__}:{PortraitConditioner.__qualname__}",
}

_PARTS = {
    "audio_encoder": "actalker.conditioning.whisper:WhisperEncoder",
    "audio_projection": "actalker.conditioning.audio:AudioProjection",
    "identity": "actalker.conditioning.identity:IResNet",
    "identity_projection": "actalker.conditioning.identity:IdentityProjection",
    "expression": "actalker.conditioning.motion:HeadExpression",
    "pose": "actalker.conditioning.motion:HeadPose",
    "motion_projection": "actalker.conditioning.motion:MotionProjection",
    "pose_guider": "actalker.conditioning.pose_guider:PoseGuider",
}


class _Named(nn.Module):
    """Tensors under names that may contain dots, so that `load_strictly` can compare them."""

    def __init__(self, tensors: State) -> None:
        super().__init__()
        self._tensors = dict(tensors)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return dict(self._tensors)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        self._tensors = dict(state_dict)


def _on_meta(cls: type[Configured]) -> Any:
    with torch.device("meta"):
        return cls(cls.Config())


def _trained(cls: type[Configured], file: Path | None, svd: Path) -> Configured:
    """A trained network with its released weights, or as training starts."""
    if file is not None:
        module: Configured = _on_meta(cls)
        load_strictly(module, read_state(file), str(file))
        return module
    module = cls(cls.Config())
    if isinstance(module, ACTalkerUNet):
        # Full precision where it is there, else the fp16 variant.
        source = max((svd / "unet").glob("diffusion_pytorch_model*.safetensors"), key=_size, default=None)
        if source is None:
            raise CheckpointError(f"{svd / 'unet'} holds no diffusion_pytorch_model*.safetensors")
        initialise_from_svd(module, read_state(source), str(source))
    return module


def _size(path: Path) -> int:
    return path.stat().st_size


def _is_added(key: str) -> bool:
    return ".mamba_blocks." in key or ".processor." in key


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise CheckpointError(f"{folder} must hold exactly one {pattern}; found: {names}")
    return found[0]
