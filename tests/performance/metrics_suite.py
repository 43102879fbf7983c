"""Time the metrics per stage: ours, the reference tool, and the bare forward of our own networks.

    python tests/performance/metrics_suite.py CLIP [CLIP ...] [--stages fid,sync] [--methods 8] [--precision bf16]

Every clip stands for a ground truth and, shifted by a frame per method and encoded again, for what the methods
made of it. Our side is what `bench score` does for each method in turn, on one store: planning, decoding,
features, records, spreads. The tools are run for each method as their READMEs say. Weights are random and the
same on all sides (the detector's find one face in the middle of 512x512 frames). Times are CPU seconds of this
process and its children, so that a busy machine does not decide; run with OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import resource
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from bench import catalogue
from bench.core.keys import file_digest
from bench.core.spec import Sample, Split, Unscored
from bench.media.clip import Clip
from bench.media.encode import write_clip
from bench.metrics import frechet, references
from bench.metrics.precision import Precision
from bench.run.drive import Execution, execute
from bench.run.plan import plan_ingestion
from bench.store.home import Home

PROTOCOLS = {
    "sync": ["sync/short"],
    "fid": ["fid/pytorch_fid_allframes"],
    "fvd": ["fvd/disco_i3d"],
    "lpips": ["lpips/alex_v0.1"],
    "ssim": ["psnr/rgb_float64", "ssim/gaussian11"],
}
WEIGHTS = {
    "sync": ("syncnet_v2", "sfd_face"),
    "fid": ("inception_fid",),
    "fvd": ("i3d_kinetics400",),
    "lpips": ("alexnet", "lpips_alex"),
    "ssim": (),
}


class Material:
    """Ground-truth clips, and one generated clip of each for every method."""

    def __init__(self, sources: list[Path], folder: Path, methods: int, frames: int) -> None:
        self.methods, self.folder = methods, folder
        self.truths: list[Path] = []
        self.generated: list[list[Path]] = [[] for _ in range(methods)]
        for source in sources:
            clip = Clip(source)
            pixels = np.concatenate(list(clip.chunks()))[: frames + methods]
            if len(pixels) < frames + methods:
                raise SystemExit(f"{source} has {len(pixels)} frames; {frames + methods} are needed")
            audio = clip.audio()
            for i in range(methods + 1):
                name = f"method{i}" if i < methods else "truth"
                path = folder / name / f"{source.stem}.mp4"
                path.parent.mkdir(exist_ok=True)
                write_clip(path, pixels[i : i + frames], audio=None if audio is None else audio[: frames * 640])
                (self.generated[i] if i < methods else self.truths).append(path)
        self.frames = frames * len(sources)

    def first(self, methods: int) -> Material:
        """The same for fewer methods."""
        part = copy.copy(self)
        part.methods, part.generated = methods, self.generated[:methods]
        return part

    @property
    def pairs(self) -> list[tuple[Path, Path]]:
        """(generated, truth) of every method in turn."""
        return [pair for clips in self.generated for pair in zip(clips, self.truths, strict=True)]

    def split(self) -> Split:
        samples = []
        for path in self.truths:
            digests = dict.fromkeys(("audio", "video", "reference"), file_digest(path))
            frames = Clip(path).frames
            samples.append(
                Sample("timing", "test", path.stem, path.stem, path, path, path, path, frames, digests=digests)
            )
        return Split("timing", "real", tuple(samples))


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


# --- ours -------------------------------------------------------------------------------------------------


def scored(material: Material, stages: list[str], precision: Precision) -> None:
    """Score every method's clips under the stages' protocols, as `bench score` does, on a store of their own."""
    wanted = [protocol for stage in stages for protocol in PROTOCOLS[stage]]
    plain = [p for p in wanted if p + Precision.BF16.suffix not in catalogue.metrics()]
    metrics = catalogue.choose_metrics("real", wanted, Precision.FP32 if plain == wanted else precision)
    split = material.split()
    with tempfile.TemporaryDirectory(dir=material.folder) as home:
        for clips in material.generated:
            files = {path.stem: path for path in clips}
            plan = plan_ingestion(split, clips[0].parent.name, files, "audio+visual")
            result = execute(plan, metrics, Home(Path(home)), Execution("inline"), name=clips[0].parent.name)
            rows = pandas.read_parquet(result.folder / "rows.parquet")
            print(rows.groupby(["method", "protocol", "column"])["value"].mean())
            lost = rows[rows["status"] != "ok"]
            if len(lost) or result.failures:
                raise SystemExit(f"not scored: {result.failures} {set(lost['detail'])}")


# --- the networks alone -----------------------------------------------------------------------------------


def bare_stages(material: Material, precision: Precision) -> dict[str, Callable[[], None]]:
    """Forward passes on tensors that are ready, for one method's share of the frames that have to pass once."""
    import torch

    from bench.metrics.networks import i3d, inception, syncnet, video
    from bench.metrics.networks import lpips as lpips_network
    from bench.metrics.networks.s3fd import Detector

    made = material.frames
    both = made + made // material.methods  # the ground truth once for all methods
    generator = torch.Generator().manual_seed(0)
    kind = torch.float32 if precision is Precision.FP32 else torch.bfloat16
    full = Clip(material.truths[0])

    def noise(*shape: int) -> torch.Tensor:
        x = torch.rand(*shape, generator=generator)
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x

    def repeat(function: Callable[[torch.Tensor], Any], batch: torch.Tensor, count: int, size: int) -> None:
        with torch.inference_mode():
            for _ in range(-(-count // size)):
                function(batch)

    def run_sync() -> None:
        embedder, detector = syncnet.Embedder(precision=precision), Detector(precision=precision)
        picture = noise(8, 3, full.height // 4, full.width // 4).to(kind)
        repeat(detector.network, picture, made, 8)
        windows, speech = noise(16, 15, 224, 224).to(kind), noise(64, 1, 13, 20).to(kind)
        repeat(lambda x: embedder._lips_head(embedder._lips(x).flatten(1)), windows, made, 16)
        repeat(lambda x: embedder._voice_head(embedder._voice(x).flatten(1)), speech, made, 64)

    def run_fvd() -> None:
        clips = video.WholeClip(precision=precision)
        piece = (noise(1, 16, i3d.SIDE, i3d.SIDE, 3).to(kind) - 0.5).permute(0, 4, 1, 2, 3)
        with torch.inference_mode():
            clips.network([piece] * (both // 16), both // 16 * 16)

    def run_fid() -> None:
        network = inception.FrameFeatures(precision=precision).network
        repeat(network, noise(8, 3, 299, 299).to(kind), both, 8)

    def run_lpips() -> None:
        # Pairs: activations of the ground truth are too large to keep, so they are computed for every method.
        trunk = lpips_network.Distance("alex", precision=precision).network.trunk
        repeat(lambda x: list(trunk(x)), noise(8, 3, full.height, full.width).to(kind), 2 * made, 8)

    return {"sync": run_sync, "fid": run_fid, "fvd": run_fvd, "lpips": run_lpips, "ssim": lambda: None}


# --- the tools, as their READMEs say ----------------------------------------------------------------------


def tool_stages(material: Material, weights: Path, work: Path) -> dict[str, Callable[[], None]]:
    """Reference packages; a missing one raises `Unscored` when its stage is run."""
    ffmpeg = work / "bin" / "ffmpeg"
    ffmpeg.parent.mkdir(parents=True, exist_ok=True)
    with suppress(Unscored):  # there may be an ffmpeg on the path
        ffmpeg.symlink_to(references.module("imageio_ffmpeg").get_ffmpeg_exe())
        os.environ["PATH"] = f"{ffmpeg.parent}:{os.environ['PATH']}"

    def run_sync() -> None:
        pipeline = references.module("syncnet_python").SyncNetPipeline(
            {"s3fd_weights": str(weights / "sfd_face.pth"), "syncnet_weights": str(weights / "syncnet_v2.model")},
            device="cpu",
        )
        for generated, _ in material.pairs:
            print(pipeline.inference(str(generated))[:5])

    def extracted(path: Path, side: str) -> Path:
        folder = work / "png" / path.parent.name / side
        folder.mkdir(parents=True, exist_ok=True)
        command = ["ffmpeg", "-loglevel", "error", "-y", "-i", str(path), str(folder / f"{path.stem}_%05d.png")]
        subprocess.run(command, check=True)
        return folder

    def run_fid() -> None:
        references.module("pytorch_fid.inception")
        checkpoints = work / "hub" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        name = "pt_inception-2015-12-05-6726825d.pth"
        if not (checkpoints / name).exists():
            (checkpoints / name).symlink_to(weights / name)
        for clips in material.generated:
            for generated, truth in zip(clips, material.truths, strict=True):
                made, true = extracted(generated, "generated"), extracted(truth, clips[0].parent.name)
            program = [sys.executable, "-W", "ignore", __file__, "--pytorch-fid", str(made), str(true)]
            environment = {**os.environ, "TORCH_HOME": str(work), "OMP_NUM_THREADS": "1"}
            subprocess.run(program, check=True, env=environment)

    def run_fvd() -> None:
        import torch

        from bench.metrics.networks.video import squash

        module = references.module("cdfvd.third_party.i3d.pytorch_i3d")
        network = module.InceptionI3d(400, in_channels=3)
        network.load_state_dict(torch.load(weights / "i3d_pretrained_400.pt", weights_only=True))
        network.eval()

        def squashed(path: Path) -> torch.Tensor:
            return torch.cat([squash(chunk, 224) for chunk in Clip(path).chunks()])

        with torch.inference_mode():
            for clips in material.generated:
                rows = [
                    network((squashed(path) / 127.5 - 1)[None].permute(0, 4, 1, 2, 3)).numpy()
                    for paths in (clips, material.truths)
                    for path in paths
                ]
                if len(clips) > 1:
                    sides = np.concatenate(rows[: len(clips)]), np.concatenate(rows[len(clips) :])
                    print(frechet.distance(*map(frechet.state, sides)))

    def run_lpips() -> None:
        import torch

        package = references.module("lpips")
        network = package.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
        for generated, truth in material.pairs:
            for ours, theirs in zip(Clip(generated).chunks(), Clip(truth).chunks(), strict=False):
                for a, b in zip(ours, theirs, strict=False):
                    pair = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (a, b))
                    network(*pair)

    def run_ssim() -> None:
        package = references.module("skimage.metrics")
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
        for generated, truth in material.pairs:
            for ours, theirs in zip(Clip(generated).chunks(), Clip(truth).chunks(), strict=False):
                for a, b in zip(ours, theirs, strict=False):
                    package.peak_signal_noise_ratio(b, a, data_range=255)
                    package.structural_similarity(a, b, data_range=255, **options)

    return {"sync": run_sync, "fid": run_fid, "fvd": run_fvd, "lpips": run_lpips, "ssim": run_ssim}


def rows(arguments: argparse.Namespace, work: Path) -> Iterator[tuple[str, float, float, float]]:
    """Yield stage, and the CPU seconds of our side, of the tool and of the networks alone."""
    weights = work / "weights"
    stages = arguments.stages.split(",")
    names = [name for stage in stages for name in WEIGHTS[stage]]
    os.environ["BENCH_WEIGHTS_LOCK"] = str(references.write_random_weights(weights, names))
    os.environ["BENCH_WEIGHTS"] = str(weights)
    os.environ["BENCH_HOME"] = str(work / "home")
    material = Material(arguments.clips, work, arguments.methods, arguments.frames)
    precision = Precision(arguments.precision)
    bare = bare_stages(material, precision)
    some = arguments.tool_methods or arguments.methods
    tools = tool_stages(material.first(some), weights, work)
    for stage in stages:
        with silenced(arguments.log or work / "log"):
            ours = timed(lambda stage=stage: scored(material, [stage], precision))
            forward = timed(bare[stage]) * arguments.methods
            theirs = math.nan
            if arguments.tools:
                with suppress(Unscored):
                    theirs = timed(tools[stage]) * arguments.methods / some
        yield stage, ours, theirs, forward
    if arguments.suite:
        with silenced(arguments.log or work / "log"):
            everything = timed(lambda: scored(material, stages, precision))
        yield "all, decoded once", everything, math.nan, math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="*", type=Path, help="at least two, 512x512")
    parser.add_argument("--stages", default=",".join(PROTOCOLS))
    parser.add_argument(
        "--methods", type=int, default=1, help="how many methods are scored against the same truth"
    )
    parser.add_argument("--frames", type=int, default=120, help="frames per clip; more than 50")
    parser.add_argument("--precision", default="fp32", choices=[str(p) for p in Precision])
    parser.add_argument(
        "--tool-methods",
        type=int,
        help="run the tools for so many methods and scale; they share nothing (default: all)",
    )
    parser.add_argument("--no-tools", dest="tools", action="store_false", help="time only our side")
    parser.add_argument("--suite", action="store_true", help="also time all stages on clips decoded once")
    parser.add_argument("--log", type=Path, help="where the values and the tools' output go")
    parser.add_argument("--pytorch-fid", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.pytorch_fid:
        references.module("pytorch_fid.inception")
        sys.argv = ["pytorch_fid", *arguments.pytorch_fid, "--device", "cpu", "--num-workers", "0"]
        runpy.run_module("pytorch_fid", run_name="__main__")
        return
    unit = f"CPU seconds, {arguments.methods} method(s), {arguments.precision}"
    if arguments.tool_methods:
        unit += f"; tools timed for {arguments.tool_methods} and scaled"
    print(f"{'stage':22}{'ours':>9}{'tool':>9}{'ratio':>7}{'bare':>9}{'ours/bare':>11}   {unit}")
    totals = np.zeros(3)
    with tempfile.TemporaryDirectory() as folder:
        for stage, *seconds in rows(arguments, Path(folder)):
            print(line(stage, *seconds), flush=True)
            if not math.isnan(seconds[2]):
                totals += seconds
    print(line("sum of stages", *totals))


def line(stage: str, mine: float, theirs: float, forward: float) -> str:
    over = mine / forward if forward > 0.01 else math.nan
    return f"{stage:22}{mine:9.1f}{theirs:9.1f}{theirs / mine:7.2f}{forward:9.1f}{over:11.2f}"


if __name__ == "__main__":
    main()
