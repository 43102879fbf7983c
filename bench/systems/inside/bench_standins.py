"""Makes stand-in weights: `python bench_standins.py RECIPE CHECKOUT`, in the system's environment.

A recipe is a script with a function `make(root)`; `root` is the folder of the repository, which is also the
working folder (or `run.cwd` inside it) and the first place that imports are looked for. It instantiates the
repository's own modules, whose parameters are random, and saves them where the code looks for them. Detectors,
whose random forms would find no face, get a constant answer. The functions here are imported from `standins`.
"""

import os
import pathlib
import runpy
import sys


def save(path, content):
    """Write what `torch.load` will read, making the folder."""
    import torch

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, str(path))


def save_safetensors(path, state):
    """Write a state as safetensors; tensors that share memory are written twice."""
    from safetensors.torch import save_file

    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.detach().clone().contiguous() for name, value in state.items()}, str(path))


def save_onnx(path, inputs, outputs):
    """Write an ONNX network that answers the same whatever it is shown.

    Args:
        path: of the file.
        inputs: shape by name; None is a free dimension. float32.
        outputs: array by name.
    """
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def described(name, kind, shape):
        free = ["%s_%d" % (name, i) if side is None else side for i, side in enumerate(shape)]
        return helper.make_tensor_value_info(name, kind, free)

    nodes, results = [], []
    for name, value in outputs.items():
        value = numpy.asarray(value)
        nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value)))
        results.append(described(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    given = [described(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "constant", given, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def save_insightface(folder, side, detector="det_10g.onnx"):
    """Write the detector and the 106 landmarks of InsightFace's `buffalo_l`: one face in the middle.

    Args:
        folder: `models/buffalo_l` or what the system calls it.
        side: of the square that faces are looked for in.
        detector: its file name.
    """
    import numpy

    outputs = {}
    for kind, width in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            cells = side // stride
            values = numpy.zeros((cells * cells * 2, width), numpy.float32)
            if stride == 32:
                # One anchor, that of the middle cell; distances are in strides.
                index = (cells // 2 * cells + cells // 2) * 2
                reach = 0.3 * side / stride
                if kind == "score":
                    values[index] = 0.9
                elif kind == "box":
                    values[index] = reach
                else:
                    face = numpy.array([[-0.4, -0.3], [0.4, -0.3], [0, 0.1], [-0.3, 0.5], [0.3, 0.5]])
                    values[index] = (face * reach).ravel()
            outputs["%s_%d" % (kind, stride)] = values
    save_onnx(pathlib.Path(folder) / detector, {"input.1": (1, 3, None, None)}, outputs)
    points = ring(106, (0.0, 0.0), 0.6)
    points[33:43], points[87:97], points[52:72] = (
        ring(10, (-0.25, -0.2), 0.1),
        ring(10, (0.25, -0.2), 0.1),
        ring(20, (0, 0.3), 0.15),
    )
    save_onnx(
        pathlib.Path(folder) / "2d106det.onnx", {"data": (None, 3, 192, 192)}, {"fc1": points.reshape(1, 212)}
    )


def ring(count, centre, radius):
    """Return points around a centre, (count, 2), float32."""
    import numpy

    angle = numpy.linspace(0, 2 * numpy.pi, count, endpoint=False)
    return (numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1) * radius + numpy.asarray(centre)).astype(
        "float32"
    )


def constant(layer, values):
    """Make a convolution or linear layer answer `values`, one per output channel, whatever it is shown."""
    import torch

    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.as_tensor(values, dtype=layer.bias.dtype).expand_as(layer.bias))


def main():
    """Run a recipe."""
    recipe, root = sys.argv[1], pathlib.Path(sys.argv[2])
    sys.path[:0] = [os.getcwd(), str(root)]
    sys.modules["standins"] = sys.modules[__name__]
    make = runpy.run_path(recipe, run_name="recipe")["make"]  # a word: TorchScript names classes after it
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    make(root)


if __name__ == "__main__":
    main()
