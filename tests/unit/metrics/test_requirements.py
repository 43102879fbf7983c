"""What a run says before it starts when a metric lacks its files."""

import numpy as np
import pytest
import tests_toys as toys

from bench.catalogue import choose_metrics, metrics, require_available, unavailable
from bench.cli import invoke
from bench.core.errors import MissingError
from bench.core.spec import Reason
from bench.media.encode import write_clip
from bench.metrics import coefficients
from bench.metrics.precision import Precision


@pytest.fixture
def nothing_here(tmp_path, monkeypatch):
    """No weight and no coefficient anywhere."""
    monkeypatch.delenv(coefficients.VARIABLE, raising=False)
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path / "none"))
    monkeypatch.setenv("BENCH_WEIGHTS_LOCK", "")


@pytest.mark.parametrize(("name", "model"), [("expr/emoca_cos", "emoca"), ("expr/aed_deep3d", "deep3d")])
def test_coefficients_asked_for_by_name_must_be_there(name, model, nothing_here, tmp_path, monkeypatch, capsys):
    videos = tmp_path / "videos"
    videos.mkdir()
    write_clip(videos / "a.mp4", toys.frames(0))
    command = ["score", str(videos), "--home", str(tmp_path / "home"), "--metrics", name]
    assert invoke(command) == 4
    assert (
        f"{name}: {model} coefficients come from files. Run: export BENCH_COEFFICIENTS=" in capsys.readouterr().err
    )
    folder = tmp_path / "coefficients" / model
    folder.mkdir(parents=True)
    monkeypatch.setenv(coefficients.VARIABLE, str(folder.parent))
    assert invoke(command) == 4
    assert f"no .npy or .npz file in {folder}" in capsys.readouterr().err
    np.save(folder / "a.npy", np.zeros((12, 64)))
    assert unavailable(metrics()[name]) is None


def test_of_a_family_one_protocol_that_can_run_is_enough(nothing_here, tmp_path, monkeypatch):
    (tmp_path / "coefficients" / "emoca").mkdir(parents=True)
    np.save(tmp_path / "coefficients" / "emoca" / "a.npy", np.zeros((12, 64)))
    monkeypatch.setenv(coefficients.VARIABLE, str(tmp_path / "coefficients"))
    require_available(choose_metrics("real", ["expr"]), ["expr"])
    with pytest.raises(MissingError, match="expr/aed_deep3d"):
        require_available(choose_metrics("real", ["expr", "expr/aed_deep3d"]), ["expr", "expr/aed_deep3d"])


@pytest.mark.parametrize("precision", Precision)
def test_a_family_of_which_nothing_can_run_names_everything(precision, nothing_here):
    with pytest.raises(MissingError) as caught:
        require_available(choose_metrics("real", ["fvd", "psnr"], precision), ["fvd", "psnr"])
    for name in ("disco_i3d", "disco_res50", "i3d_ts_16f_first"):
        assert f"fvd/{name}{precision.suffix}: " in caught.value.message
    assert "bench prepare --metrics" in caught.value.message and "psnr" not in caught.value.message


def test_by_default_they_are_rows_without_a_value(nothing_here):
    reasons = {i: unavailable(m) for i, m in metrics().items() if "real" in m.spec.domains and m.spec.default}
    missing = {i: u.reason for i, u in reasons.items() if u is not None}
    assert missing["sync/longest_track"] == Reason.MISSING_WEIGHTS
    assert "psnr/rgb_float64" not in missing
