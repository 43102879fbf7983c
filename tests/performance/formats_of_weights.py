"""Weights and what is around them, as a stranger may send them; reading these loads PyTorch."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
from damage import Case, case, cli

# Weights


@case
def weights_lock(folder: Path) -> Case:
    lock = folder / "weights.lock"
    lock.write_text(
        '[net]\nfile = "net.bin"\nurls = ["https://example.org/net.bin"]\nlicence = "MIT"\nmetrics = ["psnr"]\n'
        "size = 3\n"
        f'sha256 = "{"0" * 64}"\nneeds_acceptance = false\n'
    )

    def read() -> None:
        os.environ["BENCH_WEIGHTS_LOCK"] = str(lock)
        try:
            os.utime(lock, ns=(0, int.from_bytes(os.urandom(6), "big")))  # read again
            cli("list", "weights", "--home", folder / "home")
        finally:
            del os.environ["BENCH_WEIGHTS_LOCK"]

    return Case(lock, read)


@case
def digest_memory(folder: Path) -> Case:
    from bench.weights import digests

    os.environ["BENCH_HOME"] = str(folder / "home")
    (folder / "net.bin").write_bytes(b"abc")
    (folder / "home" / "weights").mkdir(parents=True)
    digests.content(folder / "net.bin")

    def read() -> None:
        digests._digests.clear()
        os.environ["BENCH_HOME"] = str(folder / "home")
        digests.content(folder / "net.bin")

    return Case(folder / "home" / "weights" / ".digests.json", read)


@case
def metric_safetensors(folder: Path) -> Case:
    import torch
    from safetensors.torch import save_file

    from bench.metrics.networks.loading import read_state

    save_file({"a.weight": torch.zeros(2, 3), "b": torch.ones(4)}, folder / "net.safetensors")

    def read() -> None:
        with (folder / "net.safetensors").open("rb") as file:
            read_state(file)

    return Case(folder / "net.safetensors", read)


@case
def metric_checkpoint(folder: Path) -> Case:
    import torch

    from bench.metrics.networks.loading import read_state

    torch.save({"state_dict": {"module.a": torch.zeros(2, 3)}}, folder / "net.pth")

    def read() -> None:
        with (folder / "net.pth").open("rb") as file:
            read_state(file)

    return Case(folder / "net.pth", read)


@case
def coefficients(folder: Path) -> Case:
    from bench.metrics.coefficients import _read

    np.savez(folder / "a.npz", expression=np.zeros((3, 64)))
    return Case(folder / "a.npz", lambda: _read(folder / "a.npz", "deep3d"))


# The model


def model_part(folder: Path, part: str, file: str) -> Case:
    """A file of the embedded model's part."""
    from actalker.cli import embedded_model
    from actalker.storage import load_component

    shutil.copytree(embedded_model(), folder / "model")
    index = json.loads((folder / "model" / "model_index.json").read_text())["components"]
    target = index[part]
    return Case(folder / "model" / part / file, lambda: load_component(folder / "model" / part, target))


@case
def unet_config(folder: Path) -> Case:
    return model_part(folder, "unet", "config.json")


@case
def codec_config(folder: Path) -> Case:
    return model_part(folder, "codec", "config.json")


@case
def codec_safetensors(folder: Path) -> Case:
    return model_part(folder, "codec", "model.safetensors")


@case
def model_index(folder: Path) -> Case:
    from actalker.cli import embedded_model
    from actalker.pipeline import ACTalkerPipeline

    shutil.copytree(embedded_model(), folder / "model")
    return Case(
        folder / "model" / "model_index.json", lambda: ACTalkerPipeline.from_pretrained(folder / "model", "cpu")
    )


@case
def scheduler_config(folder: Path) -> Case:
    from diffusers import EulerDiscreteScheduler

    from actalker.storage import load_scheduler

    EulerDiscreteScheduler().save_pretrained(folder / "s")
    return Case(folder / "s" / "scheduler_config.json", lambda: load_scheduler(folder / "s"))


@case
def train_toml(folder: Path) -> Case:
    from actalker.training.config import load_config

    (folder / "train.toml").write_text(
        f'model = "{folder}/m"\n[data]\ntrain = "{folder}/train.jsonl"\n[run]\nout = "{folder}/out"\nseed = 1\n'
        "[gates]\naudio = 1.0\n[optimiser]\nbetas = [0.9, 0.99]\n[[phases]]\nsteps = 10\nframes = 5\nlr = 1e-4\n"
    )
    return Case(folder / "train.toml", lambda: load_config(folder / "train.toml"))


@case
def train_manifest(folder: Path) -> Case:
    from actalker.training.data import Manifest
    from actalker.training.features import FileDigests

    np.savez(folder / "a.npz", frames=np.zeros((2, 8, 8, 3), np.uint8), audio=np.zeros(1280, np.int16))
    lines = [{"clip": "a.npz", "identity": "x", "seconds": 2.0}] * 3
    (folder / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def read() -> None:
        found = Manifest(folder / "train.jsonl")
        for index in range(len(found)):
            found.digest(index, FileDigests(folder / "files.json"))
            found[index]

    return Case(folder / "train.jsonl", read)


def _features(folder: Path, ending: str) -> Case:
    import torch

    from actalker.training.features import FeatureStore

    store = FeatureStore(folder / "cache", ["a.0", "b.0"])
    for index in range(2):
        store.add(index, {"x": torch.zeros(3), "frames": torch.tensor(2)})
    store.flush()

    def read() -> None:
        found = FeatureStore(folder / "cache", ["a.0", "b.0"])
        if not found.missing():
            with contextlib.suppress(KeyError):  # a tensor that is not there
                [found[n]["x"].sum() for n in range(2)]

    return Case(next((folder / "cache").glob(f"*{ending}")), read)


@case
def feature_listing(folder: Path) -> Case:
    return _features(folder, ".json")


@case
def feature_shard(folder: Path) -> Case:
    return _features(folder, ".safetensors")


@case
def file_digests(folder: Path) -> Case:
    from actalker.training.features import FileDigests

    (folder / "a").write_bytes(b"x")
    memory = FileDigests(folder / "files.json")
    memory.digest(folder / "a")
    memory.save()
    return Case(folder / "files.json", lambda: FileDigests(folder / "files.json").digest(folder / "a"))


# Slow


@case
def scored_votes(folder: Path) -> Case:
    from formats_of_reports import make_votes

    make_votes(folder)
    return Case(folder / "votes" / "votes.jsonl", lambda: cli("vote", "score", folder / "votes"))


@case
def scored_study(folder: Path) -> Case:
    from formats_of_reports import make_votes

    make_votes(folder)
    return Case(folder / "votes" / "study.json", lambda: cli("vote", "score", folder / "votes"))
