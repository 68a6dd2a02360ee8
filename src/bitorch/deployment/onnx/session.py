"""ONNX Runtime, which only verification needs."""

from __future__ import annotations

from typing import Any

from .require_onnx import helper, onnx

try:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail
except ModuleNotFoundError as error:
    raise ImportError(
        f'to verify an ONNX file bitorch needs {error.name}: pip install ".[onnx]" in a checkout of bitorch',
        name=error.name,
    ) from error


def session(model: Any, name: str, *, as_written: bool) -> Any:
    """Return an onnxruntime.InferenceSession of an onnx.ModelProto, on the CPU.

    Args:
        name: of the file, for messages.
        as_written: compute floats between DequantizeLinear and QuantizeLinear, as the file says, and not with kernels
            of integers instead. Those for CPUs without VNNI cut off the sum of two products of 8 bits at 16 bits.

    Raises:
        ValueError: this ONNX Runtime does not take it; of an opset that is too new, the message says which it takes.
    """
    opset = opset_of(model)
    newest = newest_opset(opset)
    if newest < opset:
        raise ValueError(
            f"{name} is of opset {opset}, and ONNX Runtime {onnxruntime.__version__} takes up to {newest}: export it "
            f"with opset={newest} (--opset {newest}), or install an ONNX Runtime that has opset {opset}"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; what it says of our constants is not for the reader
    if as_written:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Fail as error:
        raise ValueError(f"{name}: ONNX Runtime {onnxruntime.__version__} does not take it: {error}") from error


def opset_of(model: Any) -> int:
    """The opset of ONNX's own operators that an onnx.ModelProto asks for; 0 if it asks for none."""
    return max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), default=0)


def newest_opset(most: int) -> int:
    """Return the newest opset up to one that the installed ONNX Runtime takes, found by trying a net of one node."""
    for opset in range(most, 0, -1):
        if _takes(opset):
            return opset
    return 0


def _takes(opset: int) -> bool:
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "one", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_OF_TRIAL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Fail:
        return False
    return True


#: Of the net that is tried; all ONNX Runtimes take it.
_IR_OF_TRIAL = 8
