"""Small named repairs for code that is older than the libraries it meets; a contract names those it needs.

Each takes effect when the library it belongs to is imported, and changes nothing where the old behaviour is
still there. Nothing of a system's own files is touched.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

PATCHES = {
    "numpy-aliases": "numpy.float, .int, .bool ... and VisibleDeprecationWarning, removed in 1.24 and 2.0",
    "yaml-loader": "yaml.load without a Loader, which PyYAML 6 demands",
    "librosa-positions": "positional arguments of librosa.filters.mel, feature.melspectrogram, load and resample",
    "torch-load-pickles": "torch.load of checkpoints that hold more than tensors, refused by default since 2.6",
    "torchvision-operators": "a torchvision built for CUDA beside a torch without: nms and its kin in plain torch",
    "torchvision-functional-tensor": "torchvision.transforms.functional_tensor, removed in 0.17",
    "torchvision-video": "torchvision.io.read_video and write_video, removed in 0.26; needs av",
    "torchaudio-load": "torchaudio without its compiled part, and load() without torchcodec: reads with soundfile",
    "pillow-antialias": "PIL.Image.ANTIALIAS, LINEAR and CUBIC, removed in Pillow 10",
    "cuda-on-cpu": "code that asks for CUDA by name on a machine without: everything stays on the CPU",
}


def apply(names):
    """Arrange for patches; unknown names are an error."""
    hooks = {}
    for name in names:
        if name not in _HOOKS:
            raise SystemExit("unknown patch %r" % name)
        for module, function in _HOOKS[name].items():
            hooks.setdefault(module, []).append(function)
    sys.meta_path.insert(0, _Finder(hooks))


class _Finder(importlib.abc.MetaPathFinder):
    """Runs functions on modules when they are imported, and supplies those that are gone."""

    def __init__(self, hooks):
        self.hooks = hooks
        self.looking = set()

    def find_spec(self, name, path=None, target=None):
        if name not in self.hooks or name in self.looking:
            return None
        self.looking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        finally:
            self.looking.discard(name)
        if spec is None or spec.loader is None:
            if name not in _GONE:
                return None
            spec = importlib.machinery.ModuleSpec(name, _Gone())
        spec.loader = _Patched(spec.loader, self.hooks[name])
        return spec


class _Patched(importlib.abc.Loader):
    def __init__(self, loader, functions):
        self.loader, self.functions = loader, functions

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        before = [f for f in self.functions if getattr(f, "first", False)]
        for function in before:
            function(module)
        self.loader.exec_module(module)
        for function in self.functions:
            if function not in before:
                function(module)


class _Gone(importlib.abc.Loader):
    """An empty module in place of one that a library no longer has; a patch fills it."""

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        return None


def _numpy(np):
    for name, kind in (
        ("float", float),
        ("int", int),
        ("bool", bool),
        ("object", object),
        ("complex", complex),
        ("str", str),
    ):
        if name not in np.__dict__:
            setattr(np, name, kind)
    for name, new in (
        ("Inf", "inf"),
        ("NaN", "nan"),
        ("infty", "inf"),
        ("product", "prod"),
        ("float_", "float64"),
    ):
        if name not in np.__dict__ and hasattr(np, new):
            setattr(np, name, getattr(np, new))
    if "VisibleDeprecationWarning" not in np.__dict__:
        found = getattr(getattr(np, "exceptions", None), "VisibleDeprecationWarning", DeprecationWarning)
        np.VisibleDeprecationWarning = found


def _yaml(yaml):
    load = yaml.load

    def with_loader(stream, Loader=None):
        return load(stream, Loader or yaml.SafeLoader)

    yaml.load = with_loader


def _by_name(module, function, names):
    inner = getattr(module, function)

    def named(*arguments, **options):
        return inner(**dict(zip(names, arguments)), **options)

    setattr(module, function, named)


def _librosa_filters(filters):
    _by_name(filters, "mel", ("sr", "n_fft", "n_mels", "fmin", "fmax"))


def _librosa_spectral(spectral):
    _by_name(spectral, "melspectrogram", ("y", "sr"))


def _librosa_audio(audio):
    _by_name(audio, "resample", ("y", "orig_sr", "target_sr"))
    _by_name(audio, "load", ("path", "sr", "mono"))


def _torch_load(torch):
    load = torch.load

    def trusting(*arguments, **options):
        options.setdefault("weights_only", False)
        return load(*arguments, **options)

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6):
        torch.load = trusting


def _operators(module):
    import torch

    with open(os.path.join(module.__path__[0], "version.py")) as file:
        built_for_cuda = "+cu" in file.read()
    if torch.version.cuda is not None or not built_for_cuda:
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

    def nms(boxes, scores, limit):
        order, kept = scores.argsort(descending=True), []
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        while order.numel():
            first, order = order[0], order[1:]
            kept.append(first)
            low = torch.maximum(boxes[first, :2], boxes[order, :2])
            high = torch.minimum(boxes[first, 2:], boxes[order, 2:])
            shared = (high - low).clamp(min=0).prod(1)
            order = order[shared / (area[first] + area[order] - shared) <= limit]
        return torch.stack(kept) if kept else scores.new_zeros(0, dtype=torch.long)

    library.impl("nms", nms, "CPU")
    module.__bench_library__ = library


_operators.first = True


def _boxes(boxes):
    """Let the plain operators above count as the compiled ones."""
    if not boxes.torchvision.extension._has_ops():
        boxes._assert_has_ops = lambda: None


def _functional_tensor(module):
    functional = importlib.import_module("torchvision.transforms.functional")
    for name in dir(functional):
        if not name.startswith("__") and not hasattr(module, name):
            setattr(module, name, getattr(functional, name))


def _video(io):
    if hasattr(io, "write_video"):
        return

    def read_video(filename, start_pts=0, end_pts=None, pts_unit="pts", output_format="THWC"):
        import av
        import numpy
        import torch

        with av.open(filename) as container:
            rate = float(container.streams.video[0].average_rate)
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        pictures = torch.from_numpy(numpy.stack(frames))
        pictures = pictures.permute(0, 3, 1, 2) if output_format == "TCHW" else pictures
        return pictures, torch.zeros(1, 0), {"video_fps": rate}

    def write_video(filename, video_array, fps, video_codec="libx264", options=None, **sound):
        from fractions import Fraction

        import av

        with av.open(filename, "w") as container:
            rate = Fraction(fps).limit_denominator(1000)
            stream = container.add_stream(video_codec, rate=rate, options=options or {})
            stream.height, stream.width = video_array.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for picture in video_array.cpu().numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))

    io.read_video, io.write_video = read_video, write_video


def _torchaudio(torchaudio):
    if importlib.util.find_spec("torchcodec") is not None:
        return

    def load(uri, *arguments, **options):
        import soundfile
        import torch

        samples, rate = soundfile.read(str(uri), dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    torchaudio.load = load


def _torchaudio_library(utils):
    inner = utils._load_lib

    def load_lib(name):
        try:
            return inner(name)
        except OSError:  # built for CUDA, beside a torch without
            return False

    utils._load_lib = load_lib


def _pillow(image):
    for old, new in (("ANTIALIAS", "LANCZOS"), ("LINEAR", "BILINEAR"), ("CUBIC", "BICUBIC")):
        if not hasattr(image, old):
            setattr(image, old, getattr(image, new))


def _on_cpu(torch):
    if torch.cuda.is_available():
        return
    from torch.overrides import TorchFunctionMode

    def local(value):
        if isinstance(value, torch.device) and value.type == "cuda":
            return torch.device("cpu")
        return "cpu" if isinstance(value, str) and value.split(":")[0] == "cuda" else value

    class Here(TorchFunctionMode):
        """Every function of torch is called with the CPU where its caller said CUDA."""

        def __torch_function__(self, function, types, arguments=(), options=None):
            name = getattr(function, "__name__", "")
            if name == "cuda":
                return arguments[0]
            options = dict(options or {})
            if "device" in options:
                options["device"] = "cpu" if isinstance(options["device"], int) else local(options["device"])
            if name == "to":
                number = (
                    len(arguments) > 1 and isinstance(arguments[1], int) and not isinstance(arguments[1], bool)
                )
                if len(arguments) > 1:
                    arguments = (arguments[0], "cpu" if number else local(arguments[1]), *arguments[2:])
            return function(*arguments, **options)

    # Kept alive here: leaving it would end it.
    _KEPT.append(Here())
    _KEPT[-1].__enter__()

    def stay(self, *arguments, **options):
        return self

    move = torch.nn.Module.to

    def to(self, *arguments, **options):
        arguments = ["cpu" if type(a) is int else local(a) for a in arguments]
        return move(self, *arguments, **{k: local(v) for k, v in options.items()})

    torch.nn.Module.to = to
    torch.nn.Module.cuda = stay
    generator = torch.Generator

    class Kind(type):
        def __instancecheck__(cls, value):
            return isinstance(value, generator)

    class Generator(metaclass=Kind):
        def __new__(cls, device="cpu"):
            return generator(local(device))

    torch.Generator = Generator
    load = torch.load

    def load_here(file, map_location=None, *arguments, **options):
        return load(file, map_location if callable(map_location) else "cpu", *arguments, **options)

    torch.load = load_here
    for name in ("synchronize", "empty_cache", "set_device", "manual_seed", "manual_seed_all", "ipc_collect"):
        setattr(torch.cuda, name, lambda *arguments, **options: None)  # one object each: dynamo tells them apart


_KEPT = []
_GONE = {"torchvision.transforms.functional_tensor"}
_HOOKS = {
    "numpy-aliases": {"numpy": _numpy},
    "yaml-loader": {"yaml": _yaml},
    "librosa-positions": {
        "librosa.filters": _librosa_filters,
        "librosa.feature.spectral": _librosa_spectral,
        "librosa.core.audio": _librosa_audio,
    },
    "torch-load-pickles": {"torch": _torch_load},
    "torchvision-operators": {"torchvision": _operators, "torchvision.ops.boxes": _boxes},
    "torchvision-functional-tensor": {"torchvision.transforms.functional_tensor": _functional_tensor},
    "torchvision-video": {"torchvision.io": _video},
    "torchaudio-load": {"torchaudio": _torchaudio, "torchaudio._extension.utils": _torchaudio_library},
    "pillow-antialias": {"PIL.Image": _pillow},
    "cuda-on-cpu": {"torch": _on_cpu},
}
