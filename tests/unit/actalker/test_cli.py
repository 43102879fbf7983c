"""The command line: help, generation, and errors as one paragraph."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from actalker import cli, media
from actalker.errors import InputError
from actalker.pipeline import ACTalkerPipeline

run = CliRunner().invoke


@pytest.mark.parametrize("command", ["generate", "convert"])
def test_help_names_the_options(command):
    result = run(cli.app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0
    assert "--out" in result.output


def test_generate_writes_a_clip_with_sound(tiny_pipeline, portrait, speech, tmp_path, monkeypatch):
    from PIL import Image

    asked = {}

    def load(folder, device, dtype):
        asked["model"] = folder
        return tiny_pipeline

    monkeypatch.setattr(ACTalkerPipeline, "from_pretrained", load)
    Image.fromarray(portrait).save(tmp_path / "face.png")
    media.write_video(tmp_path / "speech.mp4", [portrait] * 25, 25.0, speech)
    out = tmp_path / "made" / "clip.mp4"
    result = run(
        cli.app,
        ["generate", "--image", str(tmp_path / "face.png"), "--audio", str(tmp_path / "speech.mp4"),
         "--model", "m", "--out", str(out), "--frames", "6", "--masks", "none", "--face", "5,5,35,40"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "6 frames of 32x32 at 12.5 fps" in result.output
    assert str(asked["model"]) == "m"
    assert media.video_length(out, 12.5) == 6
    assert np.abs(media.read_audio(out)).max() > 0.1
    assert [p.name for p in out.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", ""])
def test_bad_face_box(text):
    with pytest.raises(InputError, match="is not four numbers"):
        cli.parse_box(text)


def test_an_expected_failure_is_one_paragraph(tmp_path, monkeypatch, capsys):
    words = ["generate", "--image", "x.png", "--audio", "x.wav", "--out", "y.mp4", "--model"]
    monkeypatch.setattr(sys, "argv", ["actalker", *words, str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "holds no model_index.json" in said and "Traceback" not in said


def test_unknown_mask_mode(tmp_path, monkeypatch, tiny_pipeline):
    monkeypatch.setattr(ACTalkerPipeline, "from_pretrained", lambda *a: tiny_pipeline)
    result = run(
        cli.app, ["generate", "--image", "x", "--audio", "y", "--out", "z.mp4", "--model", "m", "--masks", "soft"]
    )
    assert isinstance(result.exception, InputError)
    assert "paper, overlap, released, none" in str(result.exception)


@pytest.mark.parametrize("name", ["clip.xyz", "clip"])
def test_a_file_name_of_an_unknown_kind_is_refused(name, portrait, tmp_path):
    with pytest.raises(InputError, match=r"Choose one of: \.mp4, \.mov, \.mkv"):
        media.write_video(tmp_path / name, [portrait], 25.0)
    assert not list(tmp_path.iterdir())
