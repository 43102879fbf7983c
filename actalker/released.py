"""The authors' released files: reading them strictly, and converting them to one model folder.

Files (paper's repository, commit 109de52): `unet-*.pth`, `adapter_module-*.pth`, `pose_guider-*.pth`,
`audio_linear-*.pth`, `id_proj_model-*.pth`, `vasa_linear-*.pth`, the motion encoders `MX31c_32k.ckpt`, and
ArcFace's `backbone.pth`. All are pickles; only tensors are unpickled from them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from actalker.attention import ADAPTERS
from actalker.checkpoints import load_strictly, read_state
from actalker.conditioning.audio import AudioProjection
from actalker.conditioning.blendshapes import Blendshapes, HeadMatrix
from actalker.conditioning.identity import IdentityProjection, IResNet, OnnxIdentity
from actalker.conditioning.motion import HeadExpression, HeadPose, MotionProjection
from actalker.conditioning.portrait import PortraitConditioner, PortraitConditionerConfig
from actalker.conditioning.pose_guider import PoseGuider
from actalker.config import Configured
from actalker.control import cast
from actalker.errors import CheckpointError
from actalker.hub import resolve
from actalker.pipeline import INDEX_FILE, PipelineConfig
from actalker.reading import read_json
from actalker.unet import ACTalkerUNet
from actalker.writing import write_json

State = Mapping[str, Tensor]

_EXPRESSION_PREFIX = "expression_model."
_WHISPER_FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "pytorch_model.bin")


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
    """Give the UNet Stable Video Diffusion's weights, so that it computes what that model computes.

    Adapters copy their layer's keys; their values start at zero, so that what they add to the cross-attention
    starts at nothing. Control layers keep their own initialisation, which with `ControlConfig.residual` is the
    identity.

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
            start = merged[layer + weight.split("_ip")[0] + ".weight"]
            merged[key] = torch.zeros_like(start) if weight.startswith("to_v") else start.clone()
    unet.load_state_dict(merged)


Motion = Literal["blendshapes"]


def convert(
    checkpoints: str | Path | None,
    *,
    motion: str | Path | Motion = "blendshapes",
    arcface: str | Path,
    svd: str | Path,
    whisper: str | Path,
    out: str | Path,
    dtype: torch.dtype = torch.float16,
    image_size: int | None = None,
    offline: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> None:
    """Write a model folder for `ACTalkerPipeline.from_pretrained`: the released model, or one to train.

    Args:
        checkpoints: folder of the six trained files; None makes a model to train instead, whose UNet starts
            from Stable Video Diffusion and computes the same as it, and whose projections start from scratch.
        motion: `blendshapes` reads MediaPipe's blendshapes and head matrix, which needs no file; else the
            released `MX31c_32k.ckpt`, without which the six trained files are of no use.
        arcface: iResNet-50: `backbone.pth` or safetensors, or insightface's `.onnx`.
        svd: folder or hub id of stable-video-diffusion-img2vid-xt-1-1, of which `vae` is used, and
            `unet` without `checkpoints`. Its `config.json` decides the sizes of a model to train.
        whisper: folder or hub id of whisper-tiny.
        out: the model folder; must not exist yet.
        dtype: of the stored UNet; the small networks stay in float32.
        image_size: shorter side of the output in pixels; default 576.
        offline: look hub ids up in the local cache only.
        report: called with a sentence per file.

    Raises:
        CheckpointError: a file is missing or does not fit; nothing is left at `out` then.
    """
    out = Path(out)
    if out.exists():
        raise CheckpointError(f"{out} exists already", "Choose another folder, or remove it.")
    files = {} if checkpoints is None else _newest(Path(checkpoints), report)
    if checkpoints is not None and motion == "blendshapes":
        raise CheckpointError(
            "the released files were trained with the released motion encoders, not with blendshapes",
            "Give --motion MX31c_32k.ckpt, or leave --checkpoints out to make a model to train.",
        )
    svd = resolve(
        svd, ("vae/*", "scheduler/*", "unet/*" if checkpoints is None else "unet/*.json"), offline=offline
    )
    whisper = resolve(whisper, _WHISPER_FILES, offline=offline)
    for path, name in ((svd / "vae", "vae/config.json"), (whisper, "config.json")):
        if not (path / "config.json").is_file():
            raise CheckpointError(f"{path.parent if path.name == 'vae' else path} holds no {name}")
    sizes = released_sizes() if checkpoints is not None else start_sizes(svd, whisper, motion == "blendshapes")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        conditioner = partial / "conditioner"
        for name, (cls, target) in _TRAINED.items():
            module = _trained(cls, files.get(name), svd, sizes.get(cls), report)
            report(f"{files[name].name if name in files else 'start'} -> {target}")
            cast(module, dtype if cls is ACTalkerUNet else torch.float32, round_scan=False)
            module.save_pretrained(partial / target)
        parts = dict(_PARTS)
        for part, encoder, source in _encoders(motion, arcface, report):
            report(f"{source} -> conditioner/{part}")
            encoder.save_pretrained(conditioner / part, torch.float32)
            parts[part] = f"{type(encoder).__module__}:{type(encoder).__qualname__}"
        report(f"{svd}/vae -> codec")
        shutil.copytree(svd / "vae", partial / "codec")
        report(f"{whisper} -> conditioner/audio_encoder")
        (conditioner / "audio_encoder").mkdir()
        for name in _WHISPER_FILES:
            if (whisper / name).is_file():
                shutil.copy(whisper / name, conditioner / "audio_encoder" / name)
        working = PortraitConditionerConfig()
        if image_size is not None:
            working = replace(working, image_size=image_size)
        if checkpoints is None:
            working = replace(working, multiple=_multiple(svd, sizes))
        stored = {**asdict(working), "parts": parts}
        write_json(conditioner / "config.json", stored)
        config = PipelineConfig() if checkpoints is not None else PipelineConfig(masks="paper")
        index = {"_class_name": "ACTalkerPipeline", "config": asdict(config), "components": dict(_COMPONENTS)}
        write_json(partial / INDEX_FILE, index)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def released_sizes() -> dict[type[Configured], Any]:
    """Configs of the released files: every class's defaults."""
    return {}


def start_sizes(svd: Path, whisper: Path, blendshapes: bool) -> dict[type[Configured], Any]:
    """Configs of a model to train that fits these public models; control layers have a residual.

    Args:
        svd, whisper: folders; what their `config.json` does not say is as released.
        blendshapes: motion comes from blendshapes.
    """
    unet, vae = _config_file(svd / "unet"), _config_file(svd / "vae")
    speech = _config_file(whisper)
    config = ACTalkerUNet.Config()
    known: dict[str, Any] = {
        ours: tuple(unet[theirs]) if isinstance(unet[theirs], list) else unet[theirs]
        for ours, theirs in _SVD_NAMES.items()
        if theirs in unet
    }
    if "down_block_types" in unet:
        known["attention"] = tuple("CrossAttn" in kind for kind in unet["down_block_types"])
    if "projection_class_embeddings_input_dim" in unet:
        known["time_ids"] = unet["projection_class_embeddings_input_dim"] // unet["addition_time_embed_dim"]
    config = replace(config, **known, control=replace(config.control, residual=True))
    condition = config.condition
    audio = AudioProjection.Config(condition=condition)
    if "encoder_layers" in speech:
        audio = replace(audio, layers=speech["encoder_layers"] + 1, features=speech["d_model"])
    motion = MotionProjection.Config(condition=condition)
    if blendshapes:
        motion = replace(motion, features=Blendshapes.Config().features, rotation_scale=_ROTATION_SCALE)
    guider = PoseGuider.Config(outputs=config.channels[0])
    if "block_out_channels" in vae:
        guider = replace(guider, widths=guider.widths[: len(vae["block_out_channels"])])
    return {
        ACTalkerUNet: config,
        AudioProjection: audio,
        MotionProjection: motion,
        IdentityProjection: IdentityProjection.Config(condition=condition),
        PoseGuider: guider,
    }


_SVD_NAMES = {
    "in_channels": "in_channels",
    "out_channels": "out_channels",
    "channels": "block_out_channels",
    "layers": "layers_per_block",
    "heads": "num_attention_heads",
    "condition": "cross_attention_dim",
    "time_id_channels": "addition_time_embed_dim",
}
"""Our name of a size -> diffusers' name."""

_ROTATION_SCALE = 0.05
"""Turns of 20 degrees are about 1 in a token whose other numbers are normalised."""

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


def _trained(
    cls: type[Configured], file: Path | None, svd: Path, config: Any, report: Callable[[str], None]
) -> Configured:
    """A trained network with its released weights, or as training starts."""
    if file is not None:
        module: Configured = _on_meta(cls)
        load_strictly(module, read_state(file, report), str(file))
        return module
    module = cls(config or cls.Config())
    if isinstance(module, ACTalkerUNet):
        # Full precision where it is there, else the fp16 variant.
        source = max((svd / "unet").glob("diffusion_pytorch_model*.safetensors"), key=_size, default=None)
        if source is None:
            raise CheckpointError(f"{svd / 'unet'} holds no diffusion_pytorch_model*.safetensors")
        initialise_from_svd(module, read_state(source, report), str(source))
    return module


def _encoders(
    motion: str | Path, arcface: str | Path, report: Callable[[str], None]
) -> list[tuple[str, Any, str]]:
    """Frozen encoders: name of the part, the module, where it comes from."""
    made: list[tuple[str, Any, str]] = []
    if motion == "blendshapes":
        made += [("expression", Blendshapes(), "blendshapes"), ("pose", HeadMatrix(), "head matrix")]
    else:
        expression, pose = motion_states(read_state(motion, report), str(motion))
        for part, cls, state, source in (
            ("expression", HeadExpression, expression, f"{motion} (generator)"),
            ("pose", HeadPose, pose, f"{motion} (pose_model)"),
        ):
            made.append((part, _loaded(cls, state, source), source))
    if Path(arcface).suffix == ".onnx":
        made.append(("identity", OnnxIdentity(arcface), str(arcface)))
    else:
        made.append(("identity", _loaded(IResNet, read_state(arcface, report), str(arcface)), str(arcface)))
    return made


def _loaded(cls: type[Configured], state: State, source: str) -> Configured:
    encoder: Configured = _on_meta(cls)
    load_strictly(encoder, state, source)
    return encoder


def _config_file(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    return read_json(path) if path.is_file() else {}


def _multiple(svd: Path, sizes: Mapping[type[Configured], Any]) -> int:
    """Pixels both sides of a picture must be a multiple of, so that every level halves evenly."""
    levels = len(_config_file(svd / "vae").get("block_out_channels", range(4)))
    return int(2 ** (levels - 1) * 2 ** (len(sizes[ACTalkerUNet].channels) - 1))


def _size(path: Path) -> int:
    return path.stat().st_size


def _is_added(key: str) -> bool:
    return ".mamba_blocks." in key or ".processor." in key


def _newest(folder: Path, report: Callable[[str], None]) -> dict[str, Path]:
    """The trained files in a folder, of the latest step that all of them have."""
    found: dict[str, dict[str, Path]] = {}
    for name in _TRAINED:
        found[name] = {path.stem.rpartition("-")[2]: path for path in sorted(folder.glob(f"{name}-*.pth"))}
        if not found[name]:
            raise CheckpointError(f"{folder} must hold exactly one {name}-*.pth; found: none")
    steps = set.intersection(*(set(paths) for paths in found.values()))
    if not steps:
        listed = ", ".join(sorted(path.name for paths in found.values() for path in paths.values()))
        raise CheckpointError(f"{folder} has no step of which all files are there; found: {listed}")
    latest = max(steps, key=lambda step: (int(step) if step.isdigit() else -1, step))
    others = {step for paths in found.values() for step in paths} - {latest}
    if others:
        report(f"{folder}: took step {latest}; also there: {', '.join(sorted(others))}")
    return {name: paths[latest] for name, paths in found.items()}
