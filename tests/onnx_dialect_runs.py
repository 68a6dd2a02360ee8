"""Files of the dialects of floats, run: qcdq in ONNX Runtime, qonnx by the package of that name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import bitorch
from bitorch.deployment.graph.graph import Node
from bitorch.deployment.onnx.export import OnnxExport

Arrays = dict[str, NDArray[Any]]


def every_tensor(export: OnnxExport, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """All values of a file, by name; what does not depend on the inputs is of a batch of 1."""
    model = onnx.load(export.path)
    feed: Arrays = {name: x.numpy() for name, x in zip(export.inputs, inputs, strict=True)}
    values = _by_runtime(model, feed) if export.dialect == "qcdq" else _by_qonnx(model, feed)
    constants: Arrays = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    return {name: torch.from_numpy(np.array(value)) for name, value in (constants | values | feed).items()}


def _by_runtime(model: onnx.ModelProto, feed: Arrays) -> Arrays:
    outputs = {output.name for output in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name not in outputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # CPUs without VNNI cut sums of int8 off
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _by_qonnx(model: onnx.ModelProto, feed: Arrays) -> Arrays:
    """Image by image."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx

    net, count = ModelWrapper(model), len(next(iter(feed.values())))
    images = [{name: x[index : index + 1] for name, x in feed.items()} for index in range(count)]
    found = [execute_onnx(net, image, return_full_exec_context=True) for image in images]
    names = [name for node in model.graph.node for name in node.output]
    return {name: np.concatenate([values[name] for values in found]) for name in names}


def outputs_of(export: OnnxExport, inputs: Sequence[Tensor]) -> list[Tensor]:
    """What leaves a file."""
    values = every_tensor(export, inputs)
    return [values[name] for name in export.outputs]


def node_by_node(
    model: nn.Module, inputs: Sequence[Tensor], dialect: str, path: Path
) -> Iterator[tuple[Node, Tensor, Tensor]]:
    """Yield each node of a model, what PyTorch makes of the file's own values of its inputs, and the file's value.

    So no difference is handed on.
    """
    export = bitorch.export_onnx(model, *inputs, path=path, dialect=dialect)
    values, batch = every_tensor(export, inputs), len(inputs[0])
    for node in export.graph:
        if node.kind in ("input", "constant"):
            continue
        read = [values[export.values[name]].expand(batch, *export.graph[name].shape) for name in node.inputs]
        with torch.no_grad():
            yield node, node.value(batch, *read), values[export.values[node.name]]
