"""Does an ONNX file compute what the model computes? Tensor by tensor, in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...wrappers import unwrapped
from ..capture.capture import listing
from ..graph.graph import Graph
from ..runtime.same_network import as_floats
from ..runtime.subnormals import subnormals_kept
from ..runtime.verification import Verification, compared_outputs
from ..runtime.walk import Comparison, Found, Walk, compared
from .build import understood, written
from .dialects import dialect_named
from .onnx_net import OnnxNet
from .require_onnx import onnx
from .session import session


@dataclass(frozen=True)
class OnnxVerification(Verification):
    """What `verify_onnx` found. True if nothing differs, and the file is the one that was exported.

    Attributes:
        is_edited: whether the file's content is not that of its hash.
    """

    is_edited: bool = False

    def __bool__(self) -> bool:
        return super().__bool__() and not self.is_edited

    @classmethod
    def of_batches(cls, verifications: Iterable[Verification]) -> OnnxVerification:
        """Sum up what `verify_onnx_batches` found."""
        batches = list(verifications)
        summed = Verification.of_batches(batches)
        is_edited = any(isinstance(batch, OnnxVerification) and batch.is_edited for batch in batches)
        return cls(summed.comparisons, is_edited)

    def __str__(self) -> str:
        found = super().__str__()
        return (
            f"was edited after it was exported: its hash is not that of its content; {found}"
            if self.is_edited
            else found
        )


def verify_onnx(model: nn.Module, path: str | os.PathLike[str], *inputs: Tensor) -> OnnxVerification:
    """Run a model, and an ONNX file that was exported of it, on the same inputs, and compare every tensor of both.

    ONNX Runtime runs the file, once as it is and once with every tensor of the model's among its outputs. Tensors are
    compared as `verify` does: integers and codes with equality.

    Args:
        model: in eval mode.
        path: of the file.
        inputs: as the file takes them, float32 or uint8 pixels, [batch, …].

    Raises:
        OSError, ValueError: the file cannot be read, is none of `export_onnx`, is of another network, or is of an opset
            that the installed ONNX Runtime does not take; the message says which it takes.
        TypeError: inputs are missing, too many or of another dtype.
        ImportError: onnx or onnxruntime is not installed.
    """
    (verification,) = verify_onnx_batches(model, OnnxNet(path), [inputs])
    return verification


def verify_onnx_batches(
    model: nn.Module, net: OnnxNet, batches: Iterable[Sequence[Tensor]]
) -> Iterator[OnnxVerification]:
    """Verify batch by batch, as `verify_onnx` does; the model is captured once."""
    model = unwrapped(model)
    beside: _Beside | None = None
    for inputs in batches:
        feed = net.feed(tuple(inputs))
        if beside is None:
            beside = _Beside(model, net, inputs)
        with subnormals_kept():
            results = net(*inputs)
            given = results if isinstance(results, dict) else {net.outputs[0].name: results}
            comparisons = beside.compare(model, feed, given, inputs)
        yield OnnxVerification(tuple(comparisons), net.is_edited)


class _Beside:
    """A file of which every tensor leaves, beside the graph of the model."""

    def __init__(self, model: nn.Module, net: OnnxNet, inputs: Sequence[Tensor]) -> None:
        dialect = dialect_named(net.dialect)
        pixels = any(x.dtype == torch.uint8 for x in inputs)
        understanding = understood(model, [*map(as_floats, inputs)], dialect, net.opset, pixels=pixels)
        if understanding.problems:
            raise ValueError(listing(understanding.problems))
        values = written(understanding, dialect, net.opset).values
        self._is_exact = dialect.is_exact
        self._graph: Graph = understanding.graph
        self._makers = {name: node.op_type for node in net.proto.graph.node for name in node.output}
        self._values = self._found_in_file(values, net)
        self._plus_one = dialect.plus_one
        shown = onnx.ModelProto()
        shown.CopyFrom(net.proto)
        outputs = {output.name for output in shown.graph.output}
        new = [name for name in dict.fromkeys(self._values.values()) if name not in outputs]
        shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in new)
        self._session = session(shown, str(net.path), as_written=not dialect.is_exact)

    def _found_in_file(self, values: Mapping[str, str], net: OnnxNet) -> dict[str, str]:
        """The tensors of nodes, by name; sums need not be there, since some become codes in one operator.

        Raises:
            ValueError: one is missing, or the file has other inputs or outputs.
        """
        for node, value in values.items():
            kind = self._graph[node].kind
            if value not in self._makers and kind not in ("input", "product") and self._graph[node].inputs:
                raise ValueError(
                    f"{net.path} is of another network: it has no tensor {value!r}, which the model would have"
                )
        ports = [port.name for port in net.proto.graph.input]
        wanted = [values[node.name] for node in self._graph.inputs]
        if ports != wanted or len(net.outputs) != len(self._graph.outputs):
            raise ValueError(f"{net.path} is of another network: it takes {ports}, and the model {wanted}")
        return {node: value for node, value in values.items() if value in self._makers}

    def compare(
        self,
        model: nn.Module,
        feed: Mapping[str, NDArray[Any]],
        results: Mapping[str, Tensor],
        inputs: Sequence[Tensor],
    ) -> list[Comparison]:
        """Compare every tensor of an exact dialect, and the results of every one."""
        if self._is_exact:
            comparisons, values = Walk(self._found(feed), inputs).compare()
            return comparisons + compared_outputs(model, self._graph, results, values, inputs)
        values = self._graph.replay(inputs)
        return [
            compared(f"{name} (result)", "output", "floats", values[node], result, exact=False)
            for (name, result), node in zip(results.items(), self._graph.outputs, strict=True)
        ]

    def _found(self, feed: Mapping[str, NDArray[Any]]) -> Found:
        """Run the file on inputs."""
        names = [output.name for output in self._session.get_outputs()]
        results = dict(zip(names, self._session.run(names, feed), strict=True))
        of_nodes = {node: results[value] for node, value in self._values.items()}
        operations = {node: self._makers[value] for node, value in self._values.items()}
        return Found(self._graph, of_nodes, operations, self._plus_one)
