"""What `import bench` offers a script or a notebook."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import tests_toys as toys

import bench
from bench.media.encode import write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two talking videos of 32 pixels, with sound."""
    split = toys.make_split(tmp_path / "made", 2)
    found = tmp_path / "clips"
    found.mkdir()
    for sample in split.samples:
        assert sample.video is not None and sample.audio is not None
        write_clip(found / f"{sample.id}.mp4", (f for c in bench.chunks(sample.video) for f in c), 25.0)
    return found


def run(folder: Path, home: Path, **options: object) -> bench.Run:
    chosen = {"methods": ["ground-truth", toys.Copy], "metrics": ["psnr", "flicker/mae"], "home": home}
    return bench.run(f"folder:{folder}", **(chosen | options))


def test_a_run_in_python_is_the_run_of_the_verb(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "home")
    assert done.outcome is not None and done.outcome.failed == 0
    assert set(done.rows["method"]) == {"ground-truth", "copy"}
    again = run(folder, tmp_path / "home")
    assert again.folder == done.folder, "the same question finds its answer"
    command = [
        sys.executable,
        "-m",
        "bench",
        "report",
        str(done.folder),
        "--format",
        "csv",
        "--out",
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert "copy" in (tmp_path / "out" / "report.csv").read_text(encoding="utf-8")
    assert bench.load(done.folder).rows.equals(done.rows)


def test_comparing_and_playing(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "home")
    same = done.compare(done, metrics=["psnr/*"])
    assert same and all(d.identical for d in same)
    sample = done.rows["sample"].iloc[0]
    clip = done.clip("copy", sample)
    assert clip.path.is_file()
    assert "<video" in clip._repr_html_()
    with pytest.raises(bench.UsageError, match="Name method, sample"):
        done.clip("nobody", sample)


class Outline(HTMLParser):
    """Collects which elements are open when text comes, and refuses what was not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_tables_are_html_in_a_notebook_and_text_in_a_terminal(folder: Path, tmp_path: Path) -> None:
    done = run(folder, tmp_path / "home")
    outline = Outline()
    outline.feed(done._repr_html_())
    assert outline.open == []
    assert "copy" in outline.texts and any("PSNR" in t for t in outline.texts)
    assert "PSNR" in str(done.tables)


def test_scoring_a_folder(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    (folder / "notes.txt").write_text("x")
    done = bench.score(folder, metrics=["flicker/mae"], home=tmp_path / "home", say=said.append)
    assert done.outcome is not None and done.outcome.made == 2
    assert any("notes.txt" in line for line in said)


def test_a_class_of_a_script_is_a_method_and_its_source_its_identity(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "study.py"
    text = f"""
import bench, numpy as np
class Grey:
    spec = bench.MethodSpec("grey", "1", ("audio", "visual"), "classical", seeded=False)
    def generate(self, sample, gate, seed):
        return bench.Video(np.full((32, 32, 3), 90 + t, np.uint8) for t in range(sample.frames))
done = bench.run("folder:{folder}", methods=[Grey], metrics=["flicker/mae"], home="{tmp_path / "home"}")
print(done.outcome.made, sorted(set(done.rows["clip_sha256"])))
"""
    outputs = []
    for source in (text, text.replace("90 + t", "80 + t")):
        script.write_text(source, encoding="utf-8")
        ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
        outputs.append(ran.stdout.splitlines()[-1])
    assert outputs[0][0] == outputs[1][0] != "0"
    assert outputs[0] != outputs[1], "another source makes other clips"


def test_objects_do_not_travel(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(bench.UsageError, match="in this process"):
        run(folder, tmp_path / "home", how=bench.Execution("ray"))


def test_every_public_name_can_be_had_and_nothing_heavy_comes_with_the_package() -> None:
    code = "import sys, bench; print([m for m in ('numpy', 'torch', 'ray', 'av', 'pandas') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    for name in bench.__all__:
        assert getattr(bench, name) is not None
    assert callable(bench.run)
    with pytest.raises(AttributeError, match="no attribute 'rum'"):
        bench.rum  # noqa: B018


def test_the_examples_of_the_page_run(folder: Path, tmp_path: Path) -> None:
    page = Path(__file__).resolve().parents[3] / "docs" / "python.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 2
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks), encoding="utf-8")
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=folder.parent)
    assert ran.returncode == 0, ran.stderr
    assert "PSNR" in ran.stdout
