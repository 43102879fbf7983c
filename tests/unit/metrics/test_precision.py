"""`--precision`: which protocols it replaces, and that the two arithmetics never share a row."""

import pandas as pd
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, find_method, match_metrics
from bench.cli import invoke
from bench.core.errors import UsageError
from bench.media.encode import write_clip
from bench.metrics import lpips, references
from bench.metrics.networks import LPIPS_FILES
from bench.metrics.precision import Precision, cpu_note
from bench.run.drive import Execution, execute
from bench.run.plan import plan_generation
from bench.store.home import Home

BF16 = Precision.BF16


def ids(domain, wanted, precision):
    return [m.spec.id for m in choose_metrics(domain, wanted, precision)]


def test_bf16_replaces_what_has_a_variant_and_keeps_the_rest():
    assert ids("real", ["fid/facecrop", "psnr"], BF16) == ["fid/facecrop+bf16", "psnr/rgb_float64"]
    defaults = ids("real", None, Precision.FP32)
    assert [i.removesuffix("+bf16") for i in ids("real", None, BF16)] == defaults
    assert not any("+" in i for i in defaults)


def test_patterns_and_families_mean_float32_unless_the_suffix_is_written():
    assert match_metrics(["fid/facecrop*"]) == {"fid/facecrop*": ["fid/facecrop"]}
    assert all("+" not in i for i in match_metrics(["sync"])["sync"])
    assert match_metrics(["fvd/*_i3d+bf16"])["fvd/*_i3d+bf16"] == ["fvd/disco_i3d+bf16"]


def test_both_can_be_asked_for_at_once():
    assert ids("real", ["lpips/alex_v0.1", "lpips/alex_v0.1+bf16"], Precision.FP32) == [
        "lpips/alex_v0.1",
        "lpips/alex_v0.1+bf16",
    ]


def test_written_twice_it_is_computed_once():
    both = ["lpips/alex_v0.1", "lpips/alex_v0.1+bf16"]
    assert ids("real", both, BF16) == ids("real", both[1:], BF16) == ["lpips/alex_v0.1+bf16"]


def test_a_precision_without_effect_is_refused():
    with pytest.raises(UsageError, match="psnr/rgb_float64") as caught:
        choose_metrics("real", ["psnr"], BF16)
    assert "--precision" in caught.value.hint


@pytest.mark.parametrize("arguments", [["--precision", "fp8"], ["--precision", "bf16", "--metrics", "flicker"]])
def test_the_command_line_refuses_it_too(arguments, tmp_path, capsys):
    assert invoke(["score", str(toys_folder(tmp_path)), "--home", str(tmp_path / "home"), *arguments]) == 2
    assert "bf16" in capsys.readouterr().err


@pytest.mark.parametrize(("factor", "said"), [(8.0, "8.0 times"), (0.6, "")])
def test_bf16_without_hardware_is_said_before_hours_are_spent(factor, said, monkeypatch):
    import time

    import torch

    clock = [0.0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def convolved(picture, kernel):
        clock[0] += factor if picture.dtype is torch.bfloat16 else 1.0

    monkeypatch.setattr(torch.nn.functional, "conv2d", convolved)
    note = cpu_note(BF16)
    assert (said in note and "no hardware" in note) if said else note == ""
    assert cpu_note(Precision.FP32) == ""


def toys_folder(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_clip(folder / "a.mp4", toys.frames(8))
    return folder


def test_rows_of_the_two_precisions_are_computed_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", "")
    weights = tmp_path / "weights"
    lock = references.write_random_weights(weights, LPIPS_FILES["alex"])
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", str(lock))
    monkeypatch.setattr(lpips, "SMALLEST", 32)
    plan = plan_generation(toys.make_split(tmp_path / "split"), [find_method(toys.target("Still"))])
    monkeypatch.setenv("BENCH_WEIGHTS", str(weights))
    how = Execution("inline")
    values = []
    for precision in (Precision.FP32, BF16):
        metrics = choose_metrics("real", ["lpips/alex_v0.1"], precision)
        result = execute(plan, metrics, Home(tmp_path / "home"), how, name=precision)
        rows = pd.read_parquet(result.folder / "rows.parquet").query("column == 'lpips'")
        assert set(rows["protocol"]) == {f"lpips/alex_v0.1{precision.suffix}"}
        assert set(rows["detail"]) == {""}
        values.append(rows["value"].to_numpy())
    exact, rough = values
    assert (exact != rough).any() and rough == pytest.approx(exact, rel=0.05)
