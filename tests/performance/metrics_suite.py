"""Time the network metrics per stage: ours, the reference tool, and the bare forward of our own networks.

    python tests/performance/metrics_suite.py CLIP [CLIP ...] [--stages fid,sync] [--methods 8]

Every clip stands for a generated one and, shifted by a frame, for its own ground truth. Weights are random and the
same on all sides (the detector's find one face in the middle of 512x512 frames). Times are CPU seconds of this
process and its children, so that a busy machine does not decide; run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench.metrics.lane import lane

from bench.media.clip import Clip
from bench.media.encode import write_clip
from bench.metrics import csim, fid, frechet, fvd, lpips, references, sync
from bench.spec import Unscored

WEIGHTS = {
    "sync": ("syncnet_v2", "sfd_face"),
    "fid": ("inception_fid",),
    "fvd": ("i3d_kinetics400",),
    "lpips": ("alexnet", "lpips_alex"),
}


def cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages)


def timed(function: Callable[[], Any]) -> float:
    start = cpu()
    function()
    return cpu() - start


@contextmanager
def silenced(log: Path) -> Iterator[None]:
    """Send what this process and its children print to a file."""
    sys.stdout.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with log.open("a") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            yield
        finally:
            sys.stdout.flush()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)


def opened(path: Path) -> Clip:
    extractors = {
        e.spec.name: e for module in (sync, fid, fvd, csim) for e in (kind() for kind in module.EXTRACTORS)
    }
    return Clip(path, extractors=extractors)


# --- ours -------------------------------------------------------------------------------------------------


def our_stages(pairs: list[tuple[Path, Path]]) -> dict[str, Callable[[], None]]:
    """Each stage opens its own clips, so decoding is counted in every one of them."""

    def sets(metric: Any) -> Callable[[], None]:
        return lambda: print(set_distance(metric, [(opened(a), opened(b)) for a, b in pairs]))

    def clips(metric: Any) -> Callable[[], None]:
        return lambda: [print(metric.score(opened(a), opened(b))) for a, b in pairs] and None

    return {
        "sync": clips(sync.Short()),
        "fid": sets(fid.AllFrames()),
        "fvd": sets(fvd.DiscoI3d()),
        "lpips": clips(lpips.Alex()),
    }


def set_distance(metric: Any, pairs: list[tuple[Clip, Clip]]) -> Any:
    """Value of a set metric, without the repeated halves that a run adds for its spread."""
    return metric.compute(*(metric.merge([metric.state(pair[side]) for pair in pairs]) for side in (0, 1)))


def whole_suite(generated: list[Path], truths: list[Path]) -> Callable[[], None]:
    """All stages on shared decoded clips, as a run does."""
    metrics = [sync.Short(), lpips.Alex()]
    sets = [fid.AllFrames(), fvd.DiscoI3d()]

    def run() -> None:
        pairs = [(opened(a), opened(b)) for a, b in zip(generated, truths, strict=True)]
        for metric in metrics:
            for ours, truth in pairs:
                metric.score(ours, truth)
        for metric in sets:
            set_distance(metric, pairs)

    return run


# --- the networks alone -----------------------------------------------------------------------------------


def bare_stages(pairs: list[tuple[Path, Path]]) -> dict[str, Callable[[], None]]:
    """Forward passes on tensors that are ready, for as many frames as the stage sees."""
    import torch

    from bench.metrics.networks import i3d, inception, syncnet, video
    from bench.metrics.networks import lpips as lpips_network
    from bench.metrics.networks.s3fd import Detector

    frames = sum(opened(a).frames for a, _ in pairs)
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        x = torch.rand(*shape, generator=generator)
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    kind = torch.bfloat16 if lane() else torch.float32
    full = opened(pairs[0][0])

    def repeat(function: Callable[[torch.Tensor], Any], batch: torch.Tensor, count: int, size: int) -> None:
        with torch.inference_mode():
            for _ in range(-(-count // size)):
                function(batch)

    def run_sync() -> None:
        embedder, detector = syncnet.Embedder(), Detector()
        picture = noise(8, 3, full.height // 4, full.width // 4).to(kind)
        repeat(detector.network, picture, frames, 8)
        windows, speech = noise(16, 15, 224, 224).to(kind), noise(64, 1, 13, 20).to(kind)
        repeat(lambda x: embedder._lips_head(embedder._lips(x).flatten(1)), windows, frames, 16)
        repeat(lambda x: embedder._voice_head(embedder._voice(x).flatten(1)), speech, frames, 64)

    def run_fvd() -> None:
        clips = video.WholeClip()
        piece = (noise(1, 16, i3d.SIDE, i3d.SIDE, 3).to(kind) - 0.5).permute(0, 4, 1, 2, 3)
        with torch.inference_mode():
            clips.network([piece] * (2 * frames // 16), 2 * frames // 16 * 16)

    def run_fid() -> None:
        repeat(inception.FrameFeatures().network, noise(8, 3, 299, 299).to(kind), 2 * frames, 8)

    def run_lpips() -> None:
        trunk = lpips_network.Distance("alex").network.trunk
        repeat(lambda x: list(trunk(x)), noise(8, 3, full.height, full.width).to(kind), 2 * frames, 8)

    return {"sync": run_sync, "fid": run_fid, "fvd": run_fvd, "lpips": run_lpips}


# --- the tools, as their READMEs say ----------------------------------------------------------------------


def tool_stages(pairs: list[tuple[Path, Path]], weights: Path, work: Path) -> dict[str, Callable[[], None]]:
    """Reference packages; a missing one raises `Unscored` when its stage is run."""
    ffmpeg = work / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir(parents=True, exist_ok=True)
    try:
        import imageio_ffmpeg

        ffmpeg.symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        os.environ["PATH"] = f"{ffmpeg.parent}:{os.environ['PATH']}"
    except (ImportError, FileExistsError):
        pass

    def run_sync() -> None:
        pipeline = references.module("syncnet_python").SyncNetPipeline(
            {"s3fd_weights": str(weights / "sfd_face.pth"), "syncnet_weights": str(weights / "syncnet_v2.model")},
            device="cpu",
        )
        for generated, _ in pairs:
            print(pipeline.inference(str(generated))[:5])

    def extracted(path: Path, side: str) -> None:
        folder = work / side
        folder.mkdir(exist_ok=True)
        command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(path), str(folder / f"{path.stem}_%05d.png")]
        subprocess.run(command, check=True)

    def run_fid() -> None:
        references.module("pytorch_fid.inception")
        for generated, truth in pairs:
            extracted(generated, "generated")
            extracted(truth, "truth")
        checkpoints = work / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        name = "pt_inception-2015-12-05-6726825d.pth"
        if not (checkpoints / name).exists():
            (checkpoints / name).symlink_to(weights / name)
        program = [
            sys.executable,
            "-W",
            "ignore",
            __file__,
            "--pytorch-fid",
            str(work / "generated"),
            str(work / "truth"),
        ]
        subprocess.run(program, check=True, env={**os.environ, "TORCH_HOME": str(work), "OMP_NUM_THREADS": "1"})

    def run_fvd() -> None:
        import torch

        from bench.metrics.networks.video import squash

        module = references.module("cdfvd.third_party.i3d.pytorch_i3d")
        network = module.InceptionI3d(400, in_channels=3)
        network.load_state_dict(torch.load(weights / "i3d_pretrained_400.pt", weights_only=True))
        network.eval()
        rows = []
        with torch.inference_mode():
            for path in (p for pair in pairs for p in pair):
                frames = torch.cat([squash(chunk, 224) for chunk in Clip(path).chunks()])
                rows.append(network((frames / 127.5 - 1)[None].permute(0, 4, 1, 2, 3)).numpy())
        if len(pairs) > 1:
            print(frechet.distance(*(frechet.state(np.concatenate(rows[i::2])) for i in (0, 1))))

    def run_lpips() -> None:
        import torch

        package = references.module("lpips")
        network = package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        for generated, truth in pairs:
            for ours, theirs in zip(Clip(generated).chunks(), Clip(truth).chunks(), strict=False):
                for a, b in zip(ours, theirs, strict=False):
                    pair = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (a, b))
                    network(*pair)

    return {"sync": run_sync, "fid": run_fid, "fvd": run_fvd, "lpips": run_lpips}


def shifted(path: Path, target: Path, frames: int) -> tuple[Path, Path]:
    """Cut the clip to `frames` frames, and again from its second frame on."""
    clip = Clip(path)
    pixels = np.concatenate(list(clip.chunks()))[: frames + 1]
    audio = clip.audio()
    made = []
    for side, part in (("generated", pixels[:-1]), ("truth", pixels[1:])):
        made.append(target / f"{path.stem}_{side}.mp4")
        sound = None if audio is None else audio[: len(part) * 640]
        write_clip(made[-1], part, audio=sound)
    return made[0], made[1]


def rows(arguments: argparse.Namespace, work: Path) -> Iterator[tuple[str, float, float, float]]:
    weights = work / "weights"
    stages = [stage for stage in arguments.stages.split(",") if stage]
    names = [name for stage in (WEIGHTS if arguments.suite else stages) for name in WEIGHTS[stage]]
    os.environ["BENCH_WEIGHTS_LOCK"] = str(references.write_random_weights(weights, names))
    os.environ["BENCH_WEIGHTS"] = str(weights)
    os.environ["BENCH_HOME"] = str(work / "home")
    pairs = [shifted(path, work, arguments.frames) for path in arguments.clips]
    ours, bare, tools = our_stages(pairs), bare_stages(pairs), tool_stages(pairs, weights, work)
    for stage in stages:
        with silenced(work / "log"):
            mine, forward = timed(ours[stage]), timed(bare[stage])
            try:
                theirs = timed(tools[stage]) if arguments.tools else float("nan")
            except Unscored as missing:
                theirs = float("nan")
                print(missing)
        yield stage, mine, theirs, forward
    if arguments.suite:
        with silenced(work / "log"):
            everything = timed(whole_suite([a for a, _ in pairs], [b for _, b in pairs]))
        yield "suite, decoded once", everything, float("nan"), float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="at least two, 512x512")
    parser.add_argument("--stages", default="sync,fid,fvd,lpips")
    parser.add_argument("--frames", type=int, default=120, help="frames per clip; more than 50")
    parser.add_argument("--no-tools", dest="tools", action="store_false", help="time only our side")
    parser.add_argument("--suite", action="store_true", help="also time all stages on clips decoded once")
    parser.add_argument("--pytorch-fid", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pytorch_fid:
        references.module("pytorch_fid.inception")
        sys.argv = ["pytorch_fid", *arguments.pytorch_fid, "--device", "cpu", "--num-workers", "0"]
        runpy.run_module("pytorch_fid", run_name="__main__")
        return
    print(f"{'stage':22}{'ours':>9}{'tool':>9}{'ratio':>7}{'bare':>9}{'ours/bare':>11}   CPU seconds{lane()}")
    totals = np.zeros(3)
    with tempfile.TemporaryDirectory() as folder:
        for stage, *seconds in rows(arguments, Path(folder)):
            mine, theirs, forward = seconds
            print(
                f"{stage:22}{mine:9.1f}{theirs:9.1f}{theirs / mine:7.2f}{forward:9.1f}{mine / forward:11.2f}",
                flush=True,
            )
            if not np.isnan(forward):
                totals += seconds
    mine, theirs, forward = totals
    print(f"{'sum of stages':22}{mine:9.1f}{theirs:9.1f}{theirs / mine:7.2f}{forward:9.1f}{mine / forward:11.2f}")


if __name__ == "__main__":
    main()
