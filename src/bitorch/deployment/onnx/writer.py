"""What collects the parts of an ONNX model: nodes, initializers, inputs and outputs, under names that occur once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .require_onnx import helper, numpy_helper

#: The batch, in the shapes of inputs and outputs.
BATCH = "batch"
#: Who made the file.
_PRODUCER = "bitorch"


class Writer:
    """An ONNX model in the making.

    A value is the name of a tensor. That of a graph's node is [batch, C, *rows], as in PyTorch and in ONNX.

    Attributes:
        opset: the version of the operators, of ONNX's own domain.
        batch: of inputs and outputs: a number, or the name of any.
        domains: versions of further domains, by name; a dialect sets them.
    """

    def __init__(self, opset: int, batch: int | str = BATCH) -> None:
        self.opset = opset
        self.batch = batch
        self.domains: dict[str, int] = {}
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._names: set[str] = set()
        self._reserved: set[str] = set()
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._place = ""

    def reserve(self, names: Iterable[str]) -> None:
        """Keep names for values that get them as they are, such as those of a graph's nodes."""
        self._reserved.update(names)

    @contextmanager
    def inside(self, place: str) -> Iterator[None]:
        """Let the names that are made inside begin with a place, such as the name of a graph's node."""
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def node(
        self, op_type: str, inputs: Sequence[str], output: str | None = None, *, domain: str = "", **attributes: Any
    ) -> str:
        """Add a node of one output.

        Args:
            op_type: of ONNX, such as "Add".
            inputs: values; "" for an optional one that is left out.
            output: the name of its output, which must be new; None: the place and the operator.
            domain: of the operator, "" for ONNX's own.
            attributes: as `onnx.helper.make_node` takes them; those that are None are left out.

        Returns:
            The name of the output.
        """
        return self.nodes(op_type, inputs, [output], domain=domain, **attributes)[0]

    def nodes(
        self,
        op_type: str,
        inputs: Sequence[str],
        outputs: Sequence[str | None],
        *,
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Add a node of several outputs; the rest as of `node`."""
        names = [self._new(op_type if output is None else output, is_given=output is not None) for output in outputs]
        given = {key: value for key, value in attributes.items() if value is not None}
        self._nodes.append(helper.make_node(op_type, list(inputs), names, domain=domain, **given))
        return names

    def constant(self, stem: str, array: NDArray[Any]) -> str:
        """Keep an array in the file, once for all that ask for the same numbers.

        Args:
            stem: what it is, such as "bias"; the place stands before it.
            array: of a dtype that ONNX has; of fewer than 8 bits it is one of ml_dtypes, such as int4.

        Returns:
            Its name.
        """
        array = np.asarray(array, order="C")  # which leaves a number without axes as it is
        key = array.dtype.name, array.shape, array.tobytes()
        if key not in self._shared:
            name = self._new(stem, is_given=False)
            self._initializers.append(numpy_helper.from_array(array, name))
            self._shared[key] = name
        return self._shared[key]

    def is_constant(self, name: str) -> bool:
        """Say whether a value is one of the constants, which are the same for every image."""
        return name in self._shared.values()

    def input(self, name: str, dtype: str, shape: Sequence[int]) -> str:
        """Add an input of any batch.

        Args:
            dtype: "float32", "uint8", "int32" or "int64".
            shape: of one image.
        """
        self._inputs.append(_value_info(self._new(name, is_given=True), dtype, (self.batch, *shape)))
        return name

    def output(self, name: str, value: str, dtype: str, shape: Sequence[int]) -> None:
        """Let a value leave as an output of this name; the rest as of `input`."""
        if name != value:
            self.node("Identity", [value], name)
        self._outputs.append(_value_info(name, dtype, (self.batch, *shape)))

    def model(self, name: str, metadata: Mapping[str, str]) -> Any:
        """Return the onnx.ModelProto.

        Args:
            name: of its graph.
            metadata: texts, by their keys.
        """
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        versions = {"": self.opset, **self.domains}
        imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        model = helper.make_model(
            graph,
            opset_imports=imports,
            producer_name=_PRODUCER,
            ir_version=helper.find_min_ir_version_for(imports, True),
        )
        helper.set_model_props(model, dict(metadata))
        return model

    def _new(self, name: str, *, is_given: bool) -> str:
        """Return a name that was not there before, with the place before it unless it is given as it is to be."""
        if is_given:
            if name in self._names:
                raise RuntimeError(f"two values are called {name!r}: this is a fault of bitorch, please report it")
            self._names.add(name)
            return name
        stem = f"{self._place}/{name}" if self._place else name
        unique, count = stem, 1
        while unique in self._names or unique in self._reserved:
            count += 1
            unique = f"{stem} {count}"
        self._names.add(unique)
        return unique


def _value_info(name: str, dtype: str, shape: Sequence[int | str]) -> Any:
    elements = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, elements, [*shape])
