"""An ONNX file that `export_onnx` has written, run by ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.packed_model import TensorSpec
from .dialects import dialect_named
from .metadata import CLASS_NAMES, DIALECT, PREPROCESSING, PROVENANCE, is_sealed
from .require_onnx import onnx
from .session import opset_of, session


class OnnxNet:
    """An ONNX file as a function of torch tensors; of any batch.

    Attributes:
        path: of the file.
        proto: the onnx.ModelProto.
        dialect, opset: what it is written in.
        is_edited: whether it is another one than was exported, by its hash.
        inputs, outputs, class_names, preprocessing, provenance: as of PackedModel.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no ONNX file, none of `export_onnx`, or one that this ONNX Runtime does not take.
            ImportError: onnx or onnxruntime is not installed.
        """
        self.path = Path(path)
        self.proto = _read(self.path)
        notes = {entry.key: entry.value for entry in self.proto.metadata_props}
        sealed = is_sealed(self.proto)
        if DIALECT not in notes or sealed is None:
            raise ValueError(f"{path} was not written by bitorch.export_onnx, or its metadata was taken away")
        self.dialect, self.opset, self.is_edited = notes[DIALECT], opset_of(self.proto), not sealed
        names = _noted(notes, CLASS_NAMES)
        self.class_names: tuple[str, ...] | None = None if names is None else tuple(names)
        self.preprocessing: dict[str, Any] | None = _noted(notes, PREPROCESSING)
        self.provenance: dict[str, Any] | None = _noted(notes, PROVENANCE)
        self.inputs = tuple(map(_spec, self.proto.graph.input))
        self.outputs = tuple(map(_spec, self.proto.graph.output))
        self.sizes: tuple[tuple[tuple[int, int], ...], ...] = ()
        self.smallest_shapes: list[tuple[int, ...]] = []
        dialect = dialect_named(self.dialect)
        if not dialect.runs_in_onnx_runtime:
            raise ValueError(f"{path} is of dialect {self.dialect!r}, whose operators ONNX Runtime has not")
        self._session = session(self.proto, str(path), as_written=not dialect.is_exact)

    def __call__(self, *inputs: Tensor) -> Tensor | dict[str, Tensor]:
        """Run the net; inputs and results as of PackedModel.

        Raises:
            TypeError, ValueError: an input is missing, or of another dtype or shape.
        """
        results = [torch.from_numpy(result) for result in self._session.run(None, self.feed(inputs))]
        if len(results) == 1:
            return results[0]
        return dict(zip((spec.name for spec in self.outputs), results, strict=True))

    def feed(self, inputs: tuple[Tensor, ...]) -> dict[str, NDArray[Any]]:
        """Return inputs as ONNX Runtime takes them."""
        if len(inputs) != len(self.inputs):
            raise TypeError(f"the net takes {len(self.inputs)} tensors, but got {len(inputs)}")
        for spec, x in zip(self.inputs, inputs, strict=True):
            if x.dtype != spec.dtype:
                raise TypeError(f"input {spec.name!r}: the dtype is {x.dtype}, but must be {spec.dtype}")
            if x.dim() == 0 or not spec.takes(x.shape[1:]):
                raise ValueError(f"input {spec.name!r}: the shape is {list(x.shape)}, but must be that of {spec}")
        pairs = zip(self.inputs, inputs, strict=True)
        return {spec.name: np.ascontiguousarray(x.detach().numpy()) for spec, x in pairs}


def _read(path: Path) -> Any:
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path} is no ONNX file: {error}") from None
    return model


def _noted(notes: dict[str, str], key: str) -> Any:
    return json.loads(notes[key]) if key in notes else None


def _spec(port: Any) -> TensorSpec:
    """An input or output of a graph; its first dimension is the batch."""
    tensor = port.type.tensor_type
    dtype = torch.from_numpy(np.empty(0, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))).dtype
    return TensorSpec(port.name, dtype, tuple(one.dim_value for one in tensor.shape.dim[1:]))
