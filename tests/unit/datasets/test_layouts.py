"""What the owners publish, with its quirks, becomes candidates and reasons."""

import json

import pytest

from bench.core.errors import UsageError
from bench.data import celebv_hq, hdtf, ravdess, vfhq
from bench.data.candidates import BadAnnotation, Box, Mismatch, centre_square, face_square, fraction_pixels
from bench.data.fetch import classify


@pytest.mark.parametrize(
    ("values", "size", "pixels", "crop"),
    [
        ((0.1, 0.7, 0.3, 0.62), (1920, 1080), (86, 778, 538, 1229), (538, 86, 690, 690)),
        ((0.0, 0.8815, 0.1964, 0.6922), (1280, 720), (0, 649, 226, 912), (244, 0, 648, 648)),
        ((0.05, 0.9, 0.55, 1.0), (1280, 720), (22, 662, 678, 1280), (678, 40, 602, 602)),
        ((0.2134, 0.7777, 0.3111, 0.5999), (1920, 1080), (209, 862, 559, 1190), (558, 220, 630, 630)),
    ],
)
def test_celebv_box_is_the_owners(values, size, pixels, crop):
    assert fraction_pixels(values, *size) == pixels
    assert Box("fraction", values).resolve(*size) == crop


def test_boxes_outside_are_refused_and_never_clamped():
    with pytest.raises(BadAnnotation):
        Box("window", (2000, 0, 8, 8), (0, 720)).resolve(1280, 720)
    with pytest.raises(BadAnnotation):
        Box("fraction", (0.9, 0.1, 0.3, 0.7)).resolve(1280, 720)
    with pytest.raises(Mismatch, match="1080"):
        Box("window", (0, 500, 0, 500), (0, 720)).resolve(1920, 1080)
    assert Box("window", (411, 3, 703, 703), (0, 720)).resolve(1280, 720) == (410, 2, 702, 702)


def test_vfhq_box_scales_with_the_frame():
    box = Box("corners", (585, 13, 1365, 793), (1920, 1080))
    assert box.resolve(1920, 1080) == (584, 12, 780, 780)
    x, y, side, _ = box.resolve(1280, 720)  # 390 8 910 528
    assert (x, y, side) == (390, 8, 520)
    with pytest.raises(Mismatch):
        box.resolve(1440, 1080)


def test_squares():
    assert centre_square(1280, 720) == (280, 0, 720, 720)
    assert face_square([(600, 200, 700, 340)], 1280, 720) == (510, 130, 280, 280)
    assert face_square([(0, 0, 100, 300)] * 3, 640, 360) == (0, 0, 360, 360)


def test_celebv_candidates(celebv_folder):
    found = {c.clip_id: c for c in celebv_hq.candidates(celebv_folder / "celebvhq_info.json")}
    usable = {k for k, c in found.items() if not c.problem}
    assert usable == {"AAAAAAAAAAA_0", "AAAAAAAAAAA_1", "-DDDDDDDDDD_0", "CCCCCCCCCCC_2_0", "b_-dEfGhIjK_0"}
    reasons = {k[:11]: c.problem for k, c in found.items() if c.problem}
    assert reasons["SINGING____"] == "labelled sing" and reasons["MASKED_____"] == "labelled wearing_mask"
    assert reasons["SILENTMAN__"] == "not labelled as talking" and reasons["NO_LABELS__"] == "no attribute labels"
    assert found["BAD_TIME_00_0"].problem.startswith("bad times") and found["BAD_TIME_00_1"].problem
    assert found["BRIEF_CLIP__0"].problem.startswith("too short")
    assert found["BAD_BOX_000_0"].problem and found["BAD_BOX_000_1"].problem
    dashed = found["-DDDDDDDDDD_0"]
    assert dashed.url == "https://www.youtube.com/watch?v=-DDDDDDDDDD" and dashed.source_id == "-DDDDDDDDDD"
    assert found["b_-dEfGhIjK_0"].source_id == "b_-dEfGhIjK", "ids hold _ and -, keys are never split"
    assert found["AAAAAAAAAAA_0"].end == 5.5, "five seconds at most"


def test_celebv_file_of_another_kind(tmp_path):
    path = tmp_path / "celebvhq_info.json"
    for text in ("[]", "{}", '{"clips": {}}', "not json", json.dumps({"clips": {}, "meta_info": 3})):
        path.write_text(text)
        with pytest.raises(UsageError, match="not CelebV-HQ's annotation file"):
            celebv_hq.candidates(path)


def test_hdtf_candidates(hdtf_folder):
    found = {c.clip_id: c for c in hdtf.candidates(hdtf_folder)}
    assert "WDA_Carolyn2_000" in found, "the byte-order mark hid the first url"
    first = found["WDA_Carolyn2_000"]
    assert (first.start, first.end, first.source_id, first.problem) == (1.0, 6.0, "AAAAAAAAAAA", "")
    assert found["WDA_Carolyn2_001"].problem == "no crop"
    odd = found["WDA_Carolyn2_002"]  # indices are kept when one is skipped
    assert odd.problem == "" and odd.box.resolve(1280, 720) == (412, 0, 702, 702)
    assert found["WDA_JohnDoe0_000"].problem == "bad times: 00:33-00:20"
    assert found["WDA_JohnDoe1_000"].problem == "unusable height: 0"
    assert found["WDA_WhipJim_000"].problem.startswith("bad crop: ")
    assert found["WDA_Mary-Ann_000"].problem == "" and found["WDA_Mary-Ann_000"].source_id == "-EEEEEEEEEE"
    assert found["RD_Radio1_000"].problem == "no identity label"
    # One video under two names is one speaker; the least name leads.
    assert found["WRA_JimClyburn1_000"].identity == found["WDA_WhipJim_000"].identity == "JimClyburn"
    assert found["WDA_JohnDoe0_000"].identity == found["WDA_JohnDoe1_000"].identity == "JohnDoe"


def test_hdtf_without_a_file(hdtf_folder):
    (hdtf_folder / "WRA_resolution.txt").unlink()
    with pytest.raises(UsageError, match=r"WRA_resolution\.txt"):
        hdtf.candidates(hdtf_folder)


def test_vfhq_names():
    name = vfhq.parse_name("Clip+AbCd_fGh-jK+P2+C1+F1537-1825")
    assert (name.video, name.person, name.crop, name.first, name.last) == ("AbCd_fGh-jK", 2, 1, 1538, 1824)
    assert name.last - name.first + 1 == 287
    for wrong in ("Clip+short+P2+C1+F1-9", "Clip+AbCdEfGhIjK+P2+C1+F5-6", "other"):
        with pytest.raises(BadAnnotation):
            vfhq.parse_name(wrong)


META = """Video ID: AbCdEfGhIjK
H: 1080
W: 1920
FPS: 29.97

FRAME INDEX X0 Y0 W H [Landmarks (5 Points)]

00001537 00000002 811.25 203.10 402.66 551.31 921.4 402.8 1101.9 399.0 1013.2 512.7 940.1 600.3 1089.0 598.8
00001538 00000002 811.90 202.77 402.10 550.90
CROP: 585 13 1365 793
"""


@pytest.mark.parametrize("text", [META, META.replace(" ", "\t"), META.replace("H:", "HEIGHT:", 1)])
def test_vfhq_meta(tmp_path, text):
    path = tmp_path / "Clip+AbCdEfGhIjK+P2+C1+F1537-1825.txt"
    path.write_text(text)
    made = vfhq.train_candidate(path)
    assert made.problem == "" and made.fps == 29.97 and made.frames == (1538, 1637)
    assert made.box == Box("corners", (585.0, 13.0, 1365.0, 793.0), (1920, 1080))


@pytest.mark.parametrize("gone", ["CROP", "FPS", "H:"])
def test_vfhq_meta_without_a_field(tmp_path, gone):
    path = tmp_path / "Clip+AbCdEfGhIjK+P2+C1+F1537-1825.txt"
    path.write_text("\n".join(line for line in META.splitlines() if not line.startswith(gone)))
    assert "incomplete meta file" in vfhq.train_candidate(path).problem


def test_vfhq_test_pack(vfhq_folder):
    clips, refused = vfhq.find_test_clips(vfhq_folder)
    assert [c.clip_id for c in clips] == [
        "Clip+AAAAAAAAAAA+P0+C0+F100-201",
        "Clip+BBBB_B-BBBB+P1+C0+F5-110",
        "Clip+CCCCCCCCCCC+P0+C2+F0-102",
    ]
    assert clips[1].files[0].name == "00000001.png", "numbers may start anywhere"
    reasons = dict(refused)
    assert "missing" in reasons["Clip+EEEEEEEEEEE+P0+C0+F0-110"]
    assert "too short" in reasons["Clip+FFFFFFFFFFF+P0+C0+F0-60"]
    assert "Clip+DDDDDDDDDDD+P0+C0+F0-102" not in reasons, "low-quality twins are no error"


def test_ravdess_files(ravdess_zips, tmp_path):
    files = ravdess.Files(ravdess_zips)
    assert len(files.found) == 7
    reasons = dict(files.refused)
    assert "neutral is never strong" in reasons.values() and "unsafe path" in reasons.values()
    assert any("actor 12 in folder Actor_11" in r for r in reasons.values())
    assert "not a readable zip" in reasons["Video_Speech_Actor_03.zip"]
    path = files.open("01-01-02-01-02-01-07", tmp_path)
    assert path.parent == tmp_path and path.stat().st_size > 1000
    assert files.open("01-01-02-01-02-01-01", tmp_path) is None
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("ERROR: [youtube] x: Video unavailable", ("dead", "unavailable")),
        ("ERROR: Private video. Sign in if you've been granted access", ("dead", "private")),
        ("ERROR: This video has been removed by the uploader", ("dead", "removed")),
        ("ERROR: Video unavailable. This content isn't available, try again later.", ("retry", "rate")),
        ("ERROR: HTTP Error 429: Too Many Requests", ("retry", "rate")),
        ("ERROR: HTTP Error 403: Forbidden", ("retry", "network")),
        ("ERROR: Sign in to confirm your age", ("blocked", "age")),
        ("ERROR: Sign in to confirm you're not a bot", ("blocked", "bot-check")),
        ("ERROR: something never seen", ("retry", "network")),
    ],
)
def test_a_rate_limit_is_never_a_dead_video(text, outcome):
    assert classify(text) == outcome
