"""Small media in the layouts of the data sets' owners."""

import dataclasses
import json
import shutil
import wave
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bench.run import drawing
from bench.store.home import Home


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home").ready()


def prepare(name, source, home, **options):
    """Prepare with the terms accepted."""
    return drawing.prepare(name, source, home, accept_terms=True, **options)


def ledger(home, name):
    """Return the ledger's lines by clip id."""
    lines = (home.data / name / "ledger.jsonl").read_text().splitlines()
    return {line["clip_id"]: line for line in map(json.loads, lines)}


def code_frame(number, width, height):
    """A picture that carries its number as eight bright or dark blocks, over a moving texture."""
    rng = np.random.default_rng(7)
    columns = rng.integers(60, 180, (1, width // 16, 3), dtype=np.uint8)
    stripes = np.repeat(np.repeat(columns, 16, axis=1), height, axis=0)
    picture = np.roll(np.pad(stripes, ((0, 0), (0, width - stripes.shape[1]), (0, 0)), "edge"), 2 * number, axis=1)
    side = height // 16
    for bit in range(8):
        level = 230 if number >> bit & 1 else 20
        x = width // 2 - 4 * side + bit * side
        picture[height // 2 - side // 2 : height // 2 + side // 2, x : x + side] = level
    return picture


def read_code(frame):
    """Return the number a picture carries, wherever the square crop was centred."""
    height, width = frame.shape[:2]
    side = height // 16
    number = 0
    for bit in range(8):
        x = width // 2 - 4 * side + bit * side + side // 2
        number |= int(frame[height // 2, x].mean() > 125) << bit
    return number


def write_video(
    path,
    frames,
    fps=25,
    sound=True,
    rate=48000,
    width=320,
    height=180,
    level=0.3,
    red_then_blue=False,
    delay=0.0,
    vary=False,
):
    """Write a coded mp4 with a tone that starts `delay` seconds late; `vary` makes frame times uneven."""
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        video.options = {"preset": "ultrafast", "crf": "18", "g": "12"}
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        tone = container.add_stream("aac", rate=rate, layout="mono") if sound else None
        for number in range(frames):
            picture = code_frame(number, width, height)
            if red_then_blue:
                picture[:] = (220, 20, 20) if number < frames // 2 else (20, 20, 220)
            shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if vary:
                shown.pts, shown.time_base = 40 * number + 15 * (number % 2), Fraction(1, 1000)
            container.mux(video.encode(shown))
        container.mux(video.encode(None))
        if tone is not None:
            count = int(frames / float(fps) * rate)
            samples = (level * np.sin(np.arange(count) * 2 * np.pi * 440 / rate)).astype(np.float32)
            for begin in range(0, count, 1024):
                piece = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], "fltp", "mono")
                piece.sample_rate, piece.pts = rate, begin + round(delay * rate)
                container.mux(tone.encode(piece))
            container.mux(tone.encode(None))
    return path


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    """Ready-made videos by kind; made once."""
    folder = tmp_path_factory.mktemp("media")
    ntsc = Fraction(30000, 1001)
    write_video(folder / "good.mp4", 63, ntsc)
    write_video(folder / "long.mp4", 200, 25)
    write_video(folder / "mute.mp4", 63, ntsc, sound=False)
    write_video(folder / "silent.mp4", 63, ntsc, level=0.0)
    write_video(folder / "short.mp4", 40, ntsc)
    write_video(folder / "cut.mp4", 200, 25, red_then_blue=True)
    data = (folder / "good.mp4").read_bytes()
    (folder / "corrupt.mp4").write_bytes(data[: len(data) // 2])
    return folder


class Faces:
    """A face finder that reports what the test says; boxes are x0, y0, x1, y1."""

    def __init__(self, boxes=((150.0, 120.0, 350.0, 390.0),), yaw=0.0):
        self.answer, self.yaw = list(boxes), yaw

    def boxes(self, frame):
        scale = frame.shape[0] / 512
        return [tuple(v * scale for v in box) for box in self.answer]

    def read(self, frames):
        from bench.media.faces import FaceTrack

        count = len(frames)
        c, s = np.cos(np.radians(self.yaw)), np.sin(np.radians(self.yaw))
        matrix = [[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]]
        none = np.zeros((count, 0), np.float32)
        return FaceTrack(
            none, none, np.tile(np.float32(matrix), (count, 1, 1)), np.ones(count, bool), np.ones(count, int), 0
        )


@pytest.fixture
def small(monkeypatch):
    """Normalise to 128 pixels: what is tested does not depend on the size, and the codec's time does."""
    from bench.data import declared

    full = declared.declared
    monkeypatch.setattr(declared, "declared", lambda name: dataclasses.replace(full(name), size=128))


@pytest.fixture
def no_models(monkeypatch):
    """Prepare as on a machine without face finder and SyncNet."""
    from bench.data.normalise import Tools

    monkeypatch.setattr(drawing, "available_tools", lambda dataset: Tools())


@pytest.fixture
def with_faces(monkeypatch):
    """Return a function that makes every picture hold the given faces."""
    from bench.data import normalise
    from bench.data.normalise import Tools

    def use(*boxes):
        monkeypatch.setattr(drawing, "available_tools", lambda dataset: Tools(faces=dataset.faces))
        monkeypatch.setattr(normalise, "_finder", lambda: Faces(boxes))

    return use


@pytest.fixture
def networks(monkeypatch):
    """Return a function that stands in for every optional network: what each answers, as the test says.

    `person` is a function of a looked-at frame to the angle (degrees) of its embedding in a plane.
    """
    from bench.data import normalise
    from bench.data.normalise import Tools

    class Embedder:
        def __init__(self, person):
            self.person = person

        def embeddings(self, frames):
            angles = np.radians([self.person(frame) for frame in frames])
            return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    class Sync:
        def __init__(self, answer):
            self.answer = answer

        def measure(self, clip):
            assert clip.is_file()
            return self.answer

    def use(yaw=0.0, person=lambda frame: 0.0, speech=1.0, sync=(0.0, 7.0), missing=()):
        tools = {name: name not in missing for name in ("faces", "identity", "speech", "sync")}
        needs = {name: f"no {name} network; run: bench prepare" for name in missing}
        monkeypatch.setattr(drawing, "available_tools", lambda dataset: Tools(**tools, needs=needs))
        monkeypatch.setattr(normalise, "_finder", lambda: Faces(yaw=yaw))
        monkeypatch.setattr(normalise, "_embedder", lambda: Embedder(person))
        monkeypatch.setattr(normalise, "_speech", lambda sound: speech)
        monkeypatch.setattr(normalise, "_checker", lambda: Sync(sync))

    return use


@pytest.fixture
def ravdess_zips(tmp_path, media):
    """Two actors' zips with a few clips; everything else is missing."""
    folder = tmp_path / "zips"
    folder.mkdir()
    clips = {
        "07": {
            "01-01-02-01-02-01-07": "good",
            "01-01-06-01-01-01-07": "mute",
            "01-01-01-01-02-01-07": "short",
            "01-01-08-01-01-01-07": "corrupt",
        },
        "22": {"01-01-04-02-02-02-22": "good", "01-01-07-02-02-02-22": "silent", "01-01-05-02-01-02-22": "good"},
    }
    for actor, names in clips.items():
        with zipfile.ZipFile(folder / f"Video_Speech_Actor_{actor}.zip", "w") as zipped:
            for name, kind in names.items():
                zipped.write(media / f"{kind}.mp4", f"Actor_{actor}/{name}.mp4")
                zipped.writestr(f"Actor_{actor}/02{name[2:]}.mp4", b"the silent twin")
            zipped.writestr(f"Actor_{actor}/01-01-01-02-02-01-{actor}.mp4", b"neutral is never strong")
            zipped.writestr("Actor_11/01-01-02-01-02-01-12.mp4", b"actor and folder differ")
            zipped.writestr("../evil/01-01-03-01-01-01-09.mp4", b"climbs out")
            zipped.writestr(f"Actor_{actor}/01-02-02-01-02-01-{actor}.mp4", b"a song")
    (folder / "Video_Speech_Actor_03.zip").write_bytes(b"PK\x03\x04 cut short")
    return folder


@pytest.fixture
def hdtf_folder(tmp_path):
    """The fifteen files, with the quirks of the real ones."""
    folder = tmp_path / "HDTF_dataset"
    folder.mkdir()
    files = {
        "WDA_video_url.txt": "\ufeffCarolyn2 https://www.youtube.com/watch?v=AAAAAAAAAAA&t=5s\n"
        "JohnDoe0 https://www.youtube.com/watch?v=BBBBBBBBBBB\n"
        "JohnDoe1 https://www.youtube.com/watch?v=CCCCCCCCCCC\n"
        "WhipJim https://www.youtube.com/watch?v=DDDDDDDDDDD\n"
        "Mary-Ann https://www.youtube.com/watch?v=-EEEEEEEEEE",
        "WDA_resolution.txt": "Carolyn2.mp4 720\nJohnDoe0.mp4 720\nJohnDoe1.mp4 0\nWhipJim.mp4 1080\n"
        "Mary-Ann.mp4 720",
        "WDA_annotion_time.txt": "Carolyn2.mp4 00:00-00:07 00:07-00:20 00:30-00:50 \nJohnDoe0.mp4 00:33-00:20\n"
        "JohnDoe1.mp4 00:10-00:40\nWhipJim.mp4 0:01:00-0:02:00\nMary-Ann.mp4 00:10-00:40",
        "WDA_crop_wh.txt": "Carolyn2_0.mp4 4 176 2 176\nCarolyn2_2.mp4 412 703 0 703\nJohnDoe0_0.mp4 0 400 0 400\n"
        "JohnDoe1_0.mp4 0 400 0 400\nWhipJim_0.mp4 100 1100 0 1100\nMary-Ann_0.mp4 100 500 10 500",
        "WDA_crop_ratio.txt": "Carolyn2_0.mp4 1.2\n",
        "WRA_video_url.txt": "JimClyburn1 https://youtu.be/DDDDDDDDDDD\n",
        "WRA_resolution.txt": "JimClyburn1.mp4 1080\n",
        "WRA_annotion_time.txt": "JimClyburn1.mp4 00:05-00:15 \n",
        "WRA_crop_wh.txt": "JimClyburn1_0.mp4 200 600 10 600\n",
        "WRA_crop_ratio.txt": "",
        "RD_video_url.txt": "Radio1 https://www.youtube.com/watch?v=FFFFFFFFFFF\n",
        "RD_resolution.txt": "Radio1.mp4 720\n",
        "RD_annotion_time.txt": "Radio1.mp4 00:00-01:00\n",
        "RD_crop_wh.txt": "Radio1_0.mp4 0 700 0 700\n",
        "RD_crop_ratio.txt": "",
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def celebv_clip(video, start=0.0, end=6.0, box=(0.1, 0.9, 0.3, 0.75), actions=("talk",), appearances=()):
    """One entry of the JSON; label positions are not those of the real file, on purpose."""
    return {
        "ytb_id": video,
        "duration": {"start_sec": start, "end_sec": end},
        "bbox": dict(zip(("top", "bottom", "left", "right"), box, strict=True)),
        "attributes": {
            "appearance": [int(name in appearances) for name in APPEARANCES],
            "action": [int(name.lower() in actions) for name in ACTIONS],
            "emotion": {"sep_flag": False, "labels": "neutral"},
        },
        "version": "v0.1",
    }


ACTIONS = ["Talk", "eat", "SING"]
APPEARANCES = ["wearing_mask", "blurry"]


@pytest.fixture
def celebv_folder(tmp_path, media):
    """The JSON and some of its videos."""
    folder = tmp_path / "celebv"
    folder.mkdir()
    clips = {
        "AAAAAAAAAAA_0": celebv_clip("AAAAAAAAAAA", 0.5, 6.5),
        "AAAAAAAAAAA_1": celebv_clip("AAAAAAAAAAA", 1.0, 6.0),
        "-DDDDDDDDDD_0": celebv_clip("-DDDDDDDDDD", 0.0, 5.5),
        "CCCCCCCCCCC_2_0": celebv_clip("CCCCCCCCCCC", 0.0, 5.0),
        "b_-dEfGhIjK_0": celebv_clip("b_-dEfGhIjK", 0.0, 5.0),
        "BAD_TIME_00_0": celebv_clip("BAD_TIME_00", 5.0, 4.0),
        "BAD_TIME_00_1": celebv_clip("BAD_TIME_00", 5.0, 5.0),
        "BAD_BOX_000_0": celebv_clip("BAD_BOX_000", box=(0.9, 0.1, 0.3, 0.7)),
        "BAD_BOX_000_1": celebv_clip("BAD_BOX_000", box=(0.1, 1.2, 0.3, 0.7)),
        "BRIEF_CLIP__0": celebv_clip("BRIEF_CLIP_", 0.0, 3.9),
        "SINGING____ _0": celebv_clip("SINGING____", actions=("talk", "sing")),
        "SILENTMAN___0": celebv_clip("SILENTMAN__", actions=()),
        "MASKED______0": celebv_clip("MASKED_____", appearances=("wearing_mask",)),
    }
    clips["NO_LABELS___0"] = celebv_clip("NO_LABELS__")
    del clips["NO_LABELS___0"]["attributes"]
    meta = {"appearance_mapping": APPEARANCES, "action_mapping": ACTIONS}
    (folder / "celebvhq_info.json").write_text(json.dumps({"mete_info": meta, "clips": clips}))
    shutil.copy(media / "long.mp4", folder / "AAAAAAAAAAA.mp4")
    shutil.copy(media / "cut.mp4", folder / "-DDDDDDDDDD.mp4")
    return folder


@pytest.fixture
def vfhq_folder(tmp_path):
    """The test pack in both known layouts, with what must be passed over."""
    from PIL import Image

    folder = tmp_path / "VFHQ-Test"
    picture = Image.fromarray(np.full((512, 512, 3), 120, np.uint8))
    small = picture.resize((64, 64))

    def write(where, numbers, image=picture):
        where.mkdir(parents=True)
        image.save(where / "first.png")
        for number in numbers:
            shutil.copy(where / "first.png", where / f"{number:08d}.png")
        (where / "first.png").unlink()

    nested = folder / "GT" / "Interval1_512x512_LANCZOS4"
    write(nested / "Clip+AAAAAAAAAAA+P0+C0+F100-201", range(100))
    write(nested / "Clip+BBBB_B-BBBB+P1+C0+F5-110", range(1, 105))
    write(folder / "Clip+CCCCCCCCCCC+P0+C2+F0-102", range(101))
    write(folder / "LR" / "Clip+DDDDDDDDDDD+P0+C0+F0-102", range(101), small)
    write(folder / "Clip+EEEEEEEEEEE+P0+C0+F0-110", [*range(50), *range(51, 110)])
    write(folder / "Clip+FFFFFFFFFFF+P0+C0+F0-60", range(60))
    return folder


@pytest.fixture(scope="session")
def tree():
    """The helpers above, for test modules that cannot import a conftest."""

    class Tree:
        pass

    Tree.write_video, Tree.read_code, Tree.celebv_clip = map(staticmethod, (write_video, read_code, celebv_clip))
    return Tree


@pytest.fixture
def wav_frames():
    """Return a function that counts the samples of a WAV file."""

    def count(path: Path) -> int:
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16000, 1, 2)
            return file.getnframes()

    return count
