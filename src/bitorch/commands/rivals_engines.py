"""The float twin in other engines, in float32 and in 8 bits: ONNX Runtime and OpenVINO, where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..signal_stack import kept_signal_stack
from .rivals import Call
from .rivals_exported import exported, in_8_bits

#: How far the scores of 8 bits may be from the float ones, as a share of the largest: no accuracy, but a wrong net.
_INT8_ERROR = 0.25
#: What OpenVINO gets in 8 bits; it adds and pools in what its kernels give. With all that ONNX Runtime quantizes, it
#: refuses nets whose shortcuts pad channels.
_OPENVINO_INT8 = ("Conv", "Gemm", "MatMul")
_INT8_KERNELS = ("_i8", "_u8")


@dataclass(frozen=True)
class Twin:
    """A float net, the images that it is timed on, float32, and how many threads it gets."""

    model: nn.Module
    images: Tensor
    threads: int

    @cached_property
    def expected(self) -> Tensor:
        """What PyTorch computes."""
        with torch.inference_mode():
            scores: Tensor = self.model(self.images)
        return scores

    @cached_property
    def onnx(self) -> bytes:
        """The net as ONNX."""
        return exported(self.model, self.images)

    def check(self, scores: Any, most: float) -> None:
        """Raise a RuntimeError unless scores are those of the twin, but for a share of the largest."""
        largest = float(self.expected.abs().max())
        error = float((torch.from_numpy(scores) - self.expected).abs().max())
        if not error <= most * largest:
            raise RuntimeError(f"it does not compute what PyTorch computes: scores differ by {error / largest:.2g}")


@dataclass(frozen=True)
class Engine:
    """An engine: its name in tables, the packages that it needs, and what makes a call of it.

    `call` raises RuntimeError where the engine cannot run the net, or computes something else.
    """

    name: str
    packages: tuple[str, ...]
    call: Callable[[Twin], Call] = field(repr=False)

    def missing(self) -> str:
        """Return why it cannot be measured, "" if it can."""
        missing = [name for name in self.packages if find_spec(name) is None]
        return f'needs {", ".join(missing)}: pip install ".[bench]" in a checkout of bitorch' if missing else ""


def _onnxruntime(twin: Twin) -> Call:
    return _session(twin, twin.onnx, 1e-3)


def _onnxruntime_int8(twin: Twin) -> Call:
    return _session(twin, in_8_bits(twin.onnx, twin.images, None), _INT8_ERROR)


def _session(twin: Twin, model: bytes, most: float) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = twin.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")  # its threads are quiet while others are timed
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs: dict[str, Any] = {session.get_inputs()[0].name: twin.images.numpy()}
    (scores,) = session.run(None, inputs)
    twin.check(scores, most)
    return lambda: session.run(None, inputs)


def _openvino(twin: Twin) -> Call:
    request = _request(twin, twin.onnx, precision="f32")
    twin.check(request.get_output_tensor().data, 1e-3)
    return lambda: request.infer(share_outputs=True)


def _openvino_int8(twin: Twin) -> Call:
    model = in_8_bits(twin.onnx, twin.images, _OPENVINO_INT8)
    counting = _request(twin, model, count=True)
    twin.check(counting.get_output_tensor().data, _INT8_ERROR)
    kernels = {node.exec_type for node in counting.get_profiling_info() if node.node_type == "Convolution"}
    others = [kernel for kernel in kernels if not kernel.lower().endswith(_INT8_KERNELS)]
    if others:
        raise RuntimeError(f"it ran convolutions in other than 8 bits: {', '.join(others)}")
    request = _request(twin, model)
    return lambda: request.infer(share_outputs=True)


def _request(twin: Twin, model: bytes, *, precision: str | None = None, count: bool = False) -> Any:
    """An inference request that has run once; without a precision OpenVINO takes what it likes on this CPU."""
    import openvino

    properties: dict[str, object] = {
        "INFERENCE_NUM_THREADS": twin.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": count,
        **({} if precision is None else {"INFERENCE_PRECISION_HINT": precision}),
    }
    with kept_signal_stack():
        core = openvino.Core()
        request = core.compile_model(core.read_model(model), "CPU", properties).create_infer_request()
        request.set_input_tensor(openvino.Tensor(twin.images.numpy()))
        request.infer()
    return request


_ONNX = ("onnx", "onnxruntime")
#: Besides PyTorch.
ENGINES = (
    Engine("ONNX Runtime float32", _ONNX, _onnxruntime),
    Engine("ONNX Runtime int8", _ONNX, _onnxruntime_int8),
    Engine("OpenVINO float32", (*_ONNX, "openvino"), _openvino),
    Engine("OpenVINO int8", (*_ONNX, "openvino"), _openvino_int8),
)


def in_engines(twin: Twin) -> tuple[dict[str, Call], dict[str, str]]:
    """Return calls by the engines' names, and of engines that cannot be measured the reasons."""
    calls: dict[str, Call] = {}
    reasons: dict[str, str] = {}
    for engine in ENGINES:
        if missing := engine.missing():
            reasons[engine.name] = missing
            continue
        try:
            calls[engine.name] = engine.call(twin)
        except RuntimeError as error:
            reasons[engine.name] = _last_sentence(str(error))
    return calls, reasons


def _last_sentence(text: str) -> str:
    """What an engine says at the end of a list of its source lines."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it raised an error without a word"
