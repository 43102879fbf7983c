"""SCRFD decoding and ArcFace alignment against InsightFace, on small ONNX files made here."""

from __future__ import annotations

import numpy as np
import pytest

from bench.metrics.geometry import suppress
from bench.metrics.networks import arcface

SIDES = (8, 16, 32)


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    """Write a detector with SCRFD's nine outputs, each a fixed function of the picture, and a recogniser."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("pack")
    generator = np.random.default_rng(0)
    nodes, constants, outputs = [], [], []
    for kind, width in (("score", 1), ("bbox", 4), ("kps", 10)):
        for stride in SIDES:
            name = f"{kind}_{stride}"
            weight = generator.normal(0, 4 if kind == "score" else 1, (2 * width, 3, 1, 1)).astype(np.float32)
            bias = generator.normal(-4 if kind == "score" else 2, 0.3, 2 * width).astype(np.float32)
            constants += [numpy_helper.from_array(weight, name + "w"), numpy_helper.from_array(bias, name + "b")]
            shape = numpy_helper.from_array(np.array([-1, width]), name + "s")
            constants.append(shape)
            nodes += [
                helper.make_node(
                    "AveragePool", ["input"], [name + "p"], kernel_shape=[stride] * 2, strides=[stride] * 2
                ),
                helper.make_node("Conv", [name + "p", name + "w", name + "b"], [name + "c"]),
                helper.make_node("Transpose", [name + "c"], [name + "t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [name + "t", name + "s"], [name + "r"]),
                helper.make_node("Sigmoid" if kind == "score" else "Relu", [name + "r"], [name]),
            ]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]))
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])
    save(onnx, helper, folder / "det_10g.onnx", nodes, [picture], outputs, constants)

    weight = generator.normal(0, 0.02, (512, 3 * 16 * 16)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["input"], ["p"], kernel_shape=[7, 7], strides=[7, 7]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["out"], transB=1),
    ]
    picture = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 112, 112])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 512])
    save(onnx, helper, folder / "w600k_r50.onnx", nodes, [picture], [out], [numpy_helper.from_array(weight, "w")])
    return folder


def save(onnx, helper, path, nodes, inputs, outputs, constants):
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(path))


@pytest.fixture
def embedder(pack, monkeypatch):
    place = {
        name: pack / arcface.weights.entry(name).file for name in ("buffalo_l_det_10g", "buffalo_l_w600k_r50")
    }
    monkeypatch.setattr(arcface.weights, "locate", place.__getitem__)
    monkeypatch.setattr(arcface.weights, "opened", lambda name: place[name].open("rb"))
    return arcface.Embedder()


def pictures(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height)
    cells = generator.integers(0, 256, (-(-height // 40), -(-width // 40), 3)).astype(np.uint8)
    return cells.repeat(40, 0).repeat(40, 1)[:height, :width]


@pytest.mark.parametrize(("height", "width"), [(512, 512), (300, 640), (700, 400)])
def test_detection_and_embedding_equal_insightface(height, width, embedder, pack):
    zoo = pytest.importorskip("insightface.model_zoo")
    align = pytest.importorskip("insightface.utils.face_align")
    picture = pictures(height, width)
    detector = zoo.get_model(str(pack / "det_10g.onnx"), providers=["CPUExecutionProvider"])
    detector.prepare(-1, input_size=(640, 640), det_thresh=0.5)
    boxes, landmarks = detector.detect(picture[..., ::-1].copy(), input_size=(640, 640))
    ours = embedder.detect(picture)
    assert len(ours) == len(boxes) > 3
    assert np.abs(np.array([f.box for f in ours]) - boxes[:, :4]).max() < 1e-2
    assert np.abs(np.array([f.landmarks for f in ours]) - landmarks).max() < 1e-2
    recogniser = zoo.get_model(str(pack / "w600k_r50.onnx"), providers=["CPUExecutionProvider"])
    points = arcface.TEMPLATE * 2.2 + [60, 20]
    try:
        aligned = align.norm_crop(picture[..., ::-1].copy(), points.astype(np.float32))
    except AttributeError:
        pytest.skip("this InsightFace cannot align with this scikit-image")
    theirs = recogniser.get_feat(aligned).ravel()
    theirs /= np.linalg.norm(theirs)
    mine = embedder.embed([picture], [points])[0]
    assert float(mine @ theirs) > 0.9999
    assert np.linalg.norm(mine) == pytest.approx(1)


def test_the_central_large_face_is_chosen():
    def face(x, y, side, score):
        return arcface.Face(np.array([x, y, x + side, y + side], float), np.zeros((5, 2)), score)

    centre, corner = face(200, 200, 100, 0.6), face(0, 0, 110, 0.9)
    assert arcface.central([corner, centre], 500, 500) == 1
    assert arcface.central([corner], 500, 500) == 0


def test_a_close_up_is_tried_again_with_a_border(monkeypatch):
    embedder = object.__new__(arcface.Embedder)
    seen = []

    def detect(picture):
        seen.append(picture.shape)
        return [arcface.Face(np.array([1, 1, 5, 5.0]), np.zeros((5, 2)), 0.9)] if picture.shape[0] > 100 else []

    embedder.detect = detect
    shown, _, padded = embedder.find(np.full((50, 40, 3), 7, np.uint8))
    assert padded and seen == [(50, 40, 3), (150, 120, 3)]
    assert (shown[50:100, 40:80] == 7).all() and not shown[:50].any()
    embedder.detect = lambda picture: []
    assert embedder.find(np.zeros((50, 40, 3), np.uint8)) is None


def test_suppression_counts_corner_pixels_in_as_scrfd_does():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 3]], float)  # 10x10 and 10x4 pixels: IoU 0.4
    assert suppress(boxes, np.array([0.9, 0.8]), 0.4, pixel=1.0) == [0, 1]
    assert suppress(boxes, np.array([0.9, 0.8]), 0.399, pixel=1.0) == [0]
