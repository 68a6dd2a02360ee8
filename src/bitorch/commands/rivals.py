"""What a packed net is timed against: its float twin in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conversion.restore import float_
from ..deployment.runtime.packed_model import PackedModel
from ..known_names import MAX_WIDTH, MODEL_NAMES
from ..layers.low_bit import LowBit
from ..model_copy import copied
from ..own_code import is_own
from ..train.net_source import named_source

Call = Callable[[], object]

_ONNX_PACKAGES = ("onnx", "onnxruntime")
_OPSET = 17


def float_twin(packed: PackedModel, model: str | None = None) -> nn.Module:
    """Return the float net that the packed one was quantized from, with random weights.

    Args:
        packed: whose file says how it is built.
        model: what makes it, in place of what the file says; code of the user's own is run only if it is named here.

    Raises:
        ValueError: nobody says it, or what is said does not fit the net.
    """
    provenance = {} if packed.provenance is None else packed.provenance
    run, shape, classes = (provenance.get(key) for key in ("run", "input_shape", "num_classes"))
    name = run.get("model") if isinstance(run, dict) else None
    if model is None and isinstance(name, str) and is_own(name):
        raise ValueError(f"the net is made by {name}, and what a file names is not run; say it with --model {name}")
    if not (
        isinstance(run, dict) and (model is not None or name in MODEL_NAMES) and isinstance(shape, list) and classes
    ):
        raise ValueError("the file does not say how its net is built; those that `bitorch deploy` writes do")
    width = run.get("width", 1.0)
    # The file may say anything: what it says is built, and so must be of the size of the net in it.
    takes, gives = [list(spec.shape) for spec in packed.inputs], [list(spec.shape) for spec in packed.outputs]
    if (takes, gives) != ([shape], [[classes]]) or type(width) not in (int, float) or not 0 < width <= MAX_WIDTH:
        raise ValueError("what the file says of how its net is built does not fit the net")
    with torch.random.fork_rng(devices=[]):
        twin = named_source(run["model"] if model is None else model, width).build(shape, classes)
    if any(isinstance(module, LowBit) for module in twin.modules()):  # as it came
        float_(twin)
    return twin.eval()


def in_pytorch(twin: nn.Module, images: Tensor) -> dict[str, Call]:
    """Return calls of the twin on float images, in both memory layouts: which is faster depends on the net."""
    layouts = {"": torch.contiguous_format, ", channels_last": torch.channels_last}
    return {f"PyTorch float32{name}": _pytorch_call(twin, images, layout) for name, layout in layouts.items()}


def _pytorch_call(twin: nn.Module, images: Tensor, layout: torch.memory_format) -> Call:
    # A copy of its own, as parameters have one layout; the overloads of `to` lack the memory format.
    model: nn.Module = copied(twin).to(memory_format=layout)  # type: ignore[call-overload]
    x = images.to(memory_format=layout)

    def call() -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(x)
        return result

    return call


def missing_for_onnx() -> str:
    """Return why ONNX Runtime cannot be measured, "" if it can."""
    missing = [name for name in _ONNX_PACKAGES if find_spec(name) is None]
    return f'needs {", ".join(missing)}: pip install ".[bench]" in a checkout of bitorch' if missing else ""


def in_onnxruntime(twin: nn.Module, images: Tensor, threads: int) -> dict[str, Call]:
    """Return a call of the twin, exported to ONNX, in ONNX Runtime.

    Raises:
        RuntimeError: its result is not the twin's.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its threads are quiet while others are timed
    session = onnxruntime.InferenceSession(_exported(twin, images), options, providers=["CPUExecutionProvider"])
    inputs: dict[str, Any] = {session.get_inputs()[0].name: images.numpy()}
    (result,) = session.run(None, inputs)
    with torch.inference_mode():
        expected = twin(images)
    if not torch.allclose(torch.from_numpy(result), expected, rtol=1e-3, atol=1e-3):
        raise RuntimeError("ONNX Runtime does not compute what PyTorch computes")
    return {"ONNX Runtime float32": lambda: session.run(None, inputs)}


def _exported(twin: nn.Module, images: Tensor) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter's remarks on itself, and on the checks of shapes in our nets.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python boolean")
        path = Path(folder) / "twin.onnx"
        # The newer exporter, dynamo=True, would need onnxscript besides.
        torch.onnx.export(twin, (images,), path, dynamo=False, opset_version=_OPSET)
        return path.read_bytes()
