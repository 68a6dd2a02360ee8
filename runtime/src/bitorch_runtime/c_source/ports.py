"""What a header's function takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .names import Names, identifier
from .places import input_buffer, output_buffer
from .tensors import CTensor

_INPUT_TYPES = {"float32": "float", "uint8": "uint8_t", "int32": "int32_t", "int64": "int64_t"}
_WORDS = {"in": "input", "out": "output"}


@dataclass(frozen=True)
class Port:
    """A parameter of the header's function.

    Attributes:
        side: whether the caller gives it or gets it.
        tensor: what it is in the program.
        c_type: of an element.
        name: of the parameter.
        macro: what the names of its constants begin with.
        shape: of one image in the caller's memory, the last axis fastest.
        says: what its numbers are.
    """

    side: Literal["in", "out"]
    tensor: CTensor
    c_type: str
    name: str
    macro: str
    shape: tuple[int, ...]
    says: str

    @property
    def declaration(self) -> str:
        """The parameter in C."""
        return f"{'const ' if self.side == 'in' else ''}{self.c_type} *{self.name}"

    @property
    def buffer(self) -> str:
        """The name of its memory."""
        return (input_buffer if self.side == "in" else output_buffer)(self.tensor.name)


def ports_of(operations: Sequence[Mapping[str, Any]], tensors: Mapping[str, CTensor], planned: Any) -> list[Port]:
    """Return what a program takes, then what it gives, in its order.

    Args:
        planned: the program, which knows shapes.
    """
    names = Names("in", "out")
    inputs = [operation for operation in operations if operation["op"] == "input"]
    outputs = [operation for operation in operations if operation["op"] == "output"]
    found = []
    for side, some, known in (("in", inputs, planned.inputs), ("out", outputs, planned.outputs)):
        for operation, port in zip(some, known, strict=True):
            tensor = tensors[operation["output" if side == "in" else "input"]]
            name = side if len(some) == 1 else names.new(f"{side}_{identifier(tensor.name)}")
            macro = _WORDS[side] if len(some) == 1 else f"{_WORDS[side]}_{name.removeprefix(f'{side}_')}"
            c_type = _INPUT_TYPES[operation["dtype"]] if side == "in" else _given_type(tensor)
            says = _says(operation, tensor)
            found.append(Port(side, tensor, c_type, name, f"NET_{macro.upper()}", tuple(port["shape"]), says))  # type: ignore[arg-type]
    return found


def _given_type(tensor: CTensor) -> str:
    return "uint8_t" if tensor.bits else tensor.c_type


def _says(operation: Mapping[str, Any], tensor: CTensor) -> str:
    if tensor.bits:
        return f"codes from 0 to {2**tensor.bits - 1}"
    if "below" in operation:
        return f"indices from 0 to {operation['below'] - 1}"
    return "floats" if tensor.dtype == "float32" else "integers"
