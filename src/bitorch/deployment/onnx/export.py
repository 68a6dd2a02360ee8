"""From a trained model to an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...atomic_file import takes_stream, write_and_rename
from ...wrappers import unwrapped
from ..can_deploy import Deployability
from ..capture.capture import Capture, listing
from ..graph.graph import Graph
from ..provenance import provenance_of
from .build import understood, written
from .dialect import Dialect
from .dialects import dialect_named
from .metadata import metadata, seal
from .require_onnx import onnx


@dataclass(frozen=True)
class OnnxExport:
    """What `export_onnx` has written.

    Attributes:
        path: of the file.
        dialect, opset: what it is written in.
        nbytes: of the file.
        inputs, outputs: their names, in order.
        values: of each node of `graph` that has a tensor in the file, its name there.
        graph: what the file computes, behind the dialect's passes.
    """

    path: Path
    dialect: str
    opset: int
    nbytes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, str]
    graph: Graph

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the exact sums of the graph, a low-bit layer each; none in dialects that write layers of floats."""
        return tuple(node.name for node in self.graph if node.kind in ("product", "group_product", "code_matmul"))

    @property
    def on_lines(self) -> tuple[str, ...]:
        """Those of them that one operator turns into the codes behind them, by a line that was proved."""
        return tuple(name for name in self.layers if name not in self.values)


def export_onnx(
    model: nn.Module,
    *example: Tensor,
    path: str | os.PathLike[str],
    dialect: str = "integer",
    opset: int | None = None,
    pixels: bool = False,
    class_names: Sequence[str] | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> OnnxExport:
    """Write a trained low-bit model as an ONNX file, of any batch.

    What `deploy` takes whole can be written, but for what the dialect has no words for: `can_export` tells. The file is
    checked by onnx, shapes and types too, and stands there as a whole or not at all. The model is not changed.

    Args:
        model, example: as of `deploy`.
        path: of the file; its name should end in .onnx.
        dialect: "integer", stock operators, every integer that of the packed net; "qcdq", layers of floats between
            QuantizeLinear and DequantizeLinear, which toolchains for 8 bits read; "qonnx", for FINN and hls4ml.
        opset: of ONNX's operators; None: the dialect's own, which ONNX Runtime has had for long.
        pixels: the net takes uint8 pixels q where the model takes floats q/255.
        class_names, preprocessing, provenance: as of `deploy`; kept in the file's metadata, with the versions, the bits
            of each layer and a hash of all of it.

    Raises:
        ValueError: what `can_export` finds, all of it; an opset or a dialect that there is not.
        TypeError: no module, no tensors; notes of types that JSON has not.
        OSError: the file cannot be written. One that was there before is then still there.
        ImportError: onnx is not installed.
    """
    model = unwrapped(model)
    chosen = dialect_named(dialect)
    version = _checked_opset(chosen, opset)
    takes_stream(path)  # raises, before any work is done
    found = understood(model, example, chosen, version, pixels=pixels)
    if found.problems:
        raise ValueError(listing(found.problems))
    notes = metadata(chosen.name, class_names, preprocessing, _provenance(model, found.captured, provenance))
    made = written(found, chosen, version)
    proto = made.writer.model(type(model).__name__, notes)
    if chosen.finish is not None:
        chosen.finish(proto)
    seal(proto)
    onnx.checker.check_model(proto, full_check=True)
    content = proto.SerializeToString()
    write_and_rename(Path(path), lambda file: file.write(content))
    inputs, outputs = (tuple(value.name for value in ends) for ends in (proto.graph.input, proto.graph.output))
    return OnnxExport(Path(path), chosen.name, version, len(content), inputs, outputs, made.values, found.graph)


def can_export(model: nn.Module, *example: Tensor, dialect: str = "integer", opset: int | None = None) -> Deployability:
    """Say whether `export_onnx` takes a model, and all that has to change if it does not; arguments as there.

    Raises:
        TypeError: no module, no tensors.
        ValueError: an opset or a dialect that there is not.
        ImportError: onnx is not installed.
    """
    chosen = dialect_named(dialect)
    found = understood(unwrapped(model), example, chosen, _checked_opset(chosen, opset), pixels=False)
    return Deployability(found.problems, found.captured.left_out)


def _provenance(model: nn.Module, captured: Capture, given: Mapping[str, Any] | None) -> dict[str, Any]:
    own = {**provenance_of(model, captured), "onnx": onnx.__version__}
    return own if given is None else {**own, **given}


def _checked_opset(dialect: Dialect, opset: int | None) -> int:
    if opset is None:
        return dialect.opset
    newest = onnx.defs.onnx_opset_version()
    if type(opset) is not int or not dialect.least_opset <= opset <= newest:
        raise ValueError(
            f"opset must be {dialect.least_opset} to {newest} with dialect={dialect.name!r} and "
            f"onnx {onnx.__version__}, got {opset!r}; leave it out for {dialect.opset}"
        )
    return opset
