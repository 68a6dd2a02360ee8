"""The C of one operation in the making: a function that its emitter fills with calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operations import read_names

from .constants import Constants, float_text
from .names import identifier
from .places import Places
from .tensors import CTensor

_C_BYTES = {"float": 4, "int32_t": 4, "uint32_t": 4, "int16_t": 2, "double": 8}


@dataclass(frozen=True)
class Argument:
    """A parameter of an operation's function.

    Attributes:
        declaration: in C.
        buffer: the name of a tensor, or of working memory.
    """

    declaration: str
    buffer: str


class Body:
    """What an emitter writes to.

    Attributes:
        operation: the operation, as the program has it.
        arguments: what its function is called with.
        scratch: bytes of its working memory, by buffer.
        fragments: which functions of C it calls.
        may_fail: whether its function returns 1 where an input is wrong.
    """

    def __init__(
        self,
        index: int,
        operation: Mapping[str, Any],
        tensors: Mapping[str, CTensor],
        arrays: Mapping[str, NDArray[Any]],
        constants: Constants,
        places: Places,
    ) -> None:
        self.index, self.operation = index, operation
        self.arguments: list[Argument] = []
        self.scratch: dict[str, int] = {}
        self.fragments: list[str] = []
        self.may_fail = False
        self.places = places
        self._tensors, self._arrays, self._constants = tensors, arrays, constants
        self._names: set[str] = set()
        self._lines: list[str] = []
        self._depth = 1

    # What there is

    def tensor(self, key: str) -> CTensor:
        """The tensor that a key of the operation names."""
        return self._tensors[self.operation[key]]

    def inputs(self) -> list[CTensor]:
        """The tensors that the key "inputs" names."""
        return [self._tensors[name] for name in self.operation["inputs"]]

    def named(self, key: str) -> NDArray[Any]:
        """The array that a key of the operation names."""
        return self._arrays[self.operation[key]]

    def constant(self, name: str) -> NDArray[Any]:
        """An array of the program."""
        return self._arrays[name]

    # What it uses

    def read(self, tensor: CTensor, name: str) -> str:
        """Return a parameter that reads a tensor."""
        return self._argument(f"const {tensor.c_type} *", tensor.name, name)

    def give(self, tensor: CTensor, name: str) -> str:
        """Return a parameter that writes a tensor."""
        return self._argument(f"{tensor.c_type} *", tensor.name, name)

    def working(self, c_type: str, count: int, name: str) -> str:
        """Return a parameter of memory that only this operation needs."""
        buffer = f"working memory {self.index} {name}"
        self.scratch[buffer] = count * _C_BYTES[c_type]
        return self._argument(f"{c_type} *", buffer, name)

    def _argument(self, c_type: str, buffer: str, name: str) -> str:
        assert name not in self._names, name
        self._names.add(name)
        self.arguments.append(Argument(f"{c_type}{name}", buffer))
        return name

    def array(self, values: NDArray[Any], c_type: str, what: str) -> str:
        """Return the name of constants; `what` says what they are."""
        return self._constants.add(values, c_type, f"{identifier(self.title)}_{what}")

    def floats(self, key: str) -> str:
        """Return the name of the array that a key names, of floats."""
        return self._constants.add(self.named(key), "float", self.operation[key])

    def optional_words(self, words: NDArray[np.uint32] | None, what: str) -> str:
        """Return the name of constants, or 0 where there are none."""
        return "0" if words is None else self.array(words, "uint32_t", what)

    def other(self, declaration: str, buffer: str, name: str) -> str:
        """Return a parameter for what the caller gave, of a type such as "const float *"."""
        return self._argument(declaration, buffer, name)

    def overwrite(self, result: CTensor, source: CTensor) -> bool:
        """Make two tensors one memory where nobody else needs the source; else both have their own."""
        reads = [name for name in read_names(self.operation) if self.places.key(name) == self.places.key(source.name)]
        return len(reads) == 1 and self.places.overwrite(result.name, source.name)

    def scalar(self, value: float) -> str:
        """Return a float32 in C."""
        return float_text(value)

    # What it says

    def use(self, *fragments: str) -> None:
        """Take functions of C along."""
        self.fragments.extend(fragments)

    def line(self, text: str) -> None:
        """Write a line."""
        self._lines.append("    " * self._depth + text)

    def call(self, fragment: str, *arguments: object) -> None:
        """Call the function of a fragment of the same name."""
        self.use(fragment)
        self.line(f"net_{fragment}({', '.join(map(_text, arguments))});")

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write lines within braces."""
        self.line(f"{head} {{")
        self._depth += 1
        yield
        self._depth -= 1
        self.line("}")

    @contextmanager
    def loop(self, variable: str, count: int) -> Iterator[None]:
        """Write lines that are done `count` times."""
        with self.block(f"for (uint32_t {variable} = 0; {variable} < {count}; {variable}++)"):
            yield

    # What comes of it

    @property
    def title(self) -> str:
        """What the operation's function is called by: the tensor that it gives first."""
        keys = ("output", "codes", "float32", "int32", "input")
        return str(next(self.operation[key] for key in keys if key in self.operation))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self._lines

    @property
    def text(self) -> str:
        """The lines of the function."""
        return "\n".join(self._lines)


def _text(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    return float_text(value) if isinstance(value, float) else str(value)
