"""A random program in the making, evaluated by the reference as it grows, and the case that it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import reference

Array: TypeAlias = NDArray[Any]

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 96, 127, 128, 129)
#: Multiply-adds of one convolution, over the batch: what keeps a case within milliseconds.
MOST_MACS = 1_000_000


@dataclass(frozen=True)
class Case:
    """A program, its inputs in order, and the arrays that it must give, by tensor name."""

    operations: list[dict[str, Any]]
    arrays: dict[str, Array]
    inputs: list[Array]
    expected: dict[str, Array]
    #: Absolute tolerance of the inexact ones among `expected`; the others are equal to the last bit, but for the sign
    #: of zeros behind a maximum pool.
    tolerance: dict[str, float]

    def differences(self, results: Array | Mapping[str, Array]) -> list[str]:
        """What is wrong with the results of `Program(operations, arrays)(*inputs)`, one line per output."""
        if isinstance(results, np.ndarray):
            results = dict.fromkeys(self.expected, results) if len(self.expected) == 1 else {}
        if results.keys() != self.expected.keys():
            return [f"outputs {list(results)} instead of {list(self.expected)}"]
        # A maximum pool may take either zero, and no operation makes different numbers of the two.
        signs = all(operation.get("op") not in ("max_pool", "adaptive_max_pool") for operation in self.operations)
        lines = (_difference(n, results[n], e, self.tolerance.get(n), signs) for n, e in self.expected.items())
        return [line for line in lines if line]

    def describe(self) -> str:
        """The program as JSON, and the shapes of all arrays."""
        shapes = {name: f"{a.dtype}{list(a.shape)}" for name, a in self.arrays.items()}
        inputs = [f"{a.dtype}{list(a.shape)}" for a in self.inputs]
        lines = "\n".join(json.dumps(operation) for operation in self.operations)
        return f"{lines}\narrays {shapes}\ninputs {inputs}"


def _difference(name: str, result: Array, expected: Array, tolerance: float | None, signs_of_zero: bool) -> str:
    if result.dtype != expected.dtype or result.shape != expected.shape:
        return f"{name}: {result.dtype}{result.shape} instead of {expected.dtype}{expected.shape}"
    if tolerance is None:
        wrong = other_bits(result, expected, signs_of_zero)
    else:
        wrong = ~np.isclose(result, expected, rtol=1e-4, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    where = np.argwhere(wrong)
    first = tuple(int(i) for i in where[0])
    return (
        f"{name}: {len(where)} of {wrong.size} differ, first at {first}: {result[first]} instead of {expected[first]}"
    )


def other_bits(result: Array, expected: Array, signs_of_zero: bool) -> NDArray[np.bool_]:
    """Where numbers are not the same to the last bit; NaN is NaN whatever its bits."""
    wrong: NDArray[np.bool_] = result != expected
    if result.dtype.kind == "f":
        if signs_of_zero:
            wrong |= np.signbit(result) != np.signbit(expected)
        wrong &= ~(np.isnan(result) & np.isnan(expected))
    return wrong


@dataclass
class Known:
    """What the builder knows of a tensor."""

    bits: int | None = None  # of codes
    integers: bool = False  # an int32 tensor: it can only leave
    exact: bool = True
    dyadic: bool = False


@dataclass
class Builder:
    """A program in the making."""

    rng: np.random.Generator
    batch: int
    operations: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    inputs: list[Array] = field(default_factory=list)
    most_macs: int = MOST_MACS
    tensors: dict[str, reference.Tensor] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)

    # Drawing

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def fresh(self) -> str:
        return f"t{len(self.known)}"

    def last(self) -> str:
        """The tensor that was defined last."""
        return list(self.known)[-1]

    def array(self, kind: str, values: Array) -> str:
        name = f"{kind}{len(self.arrays)}"
        self.arrays[name] = values
        return name

    # Looking

    def shape(self, name: str) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.tensors[name].values.shape[1:]
        return height, width, channels

    def rows(self, name: str) -> tuple[int, ...]:
        """Places along each axis of rows."""
        return self.tensors[name].values.shape[1:-1]

    def names(self, codes: bool | None = None, exact: bool = False, axes: int = 2) -> list[str]:
        """Tensors with so many axes of rows that an operation can read, in order of definition."""
        return [
            name
            for name, known in self.known.items()
            if not known.integers
            and len(self.rows(name)) == axes
            and (codes is None or codes == (known.bits is not None))
            and (known.exact or not exact)
        ]

    # Growing

    def add(self, operation: dict[str, Any], **defined: Known) -> None:
        """Append an operation; `defined` says what is known of its results, by the key that names them."""
        self.operations.append(operation)
        self.tensors |= reference.apply(operation, self.tensors, self.arrays)
        self.known |= {operation[key]: known for key, known in defined.items()}

    def add_input(self, shape: Sequence[int], bits: int | None, values: Array) -> str:
        """values: [B, *shape], codes for bits."""
        name = self.fresh()
        operation: dict[str, Any] = {"op": "input", "output": name, "shape": list(shape)}
        operation |= {"dtype": "float32"} if bits is None else {"dtype": "uint8", "bits": bits}
        operation["order"] = self.choose(("nchw", "nhwc"))
        if len(shape) == 3 and operation["order"] == "nhwc":
            values = np.ascontiguousarray(values.transpose(0, 2, 3, 1))
        values = values.reshape(len(values), *self.shape_outside(operation, values.shape[1:]))
        self.operations.append(operation)
        self.inputs.append(values)
        self.tensors[name] = reference.read_input(operation, values)
        self.known[name] = Known(bits)
        return name

    def shape_outside(self, operation: dict[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one image of an array, now and then another one than it would have, by a key of its port."""
        if not self.chance(0.2):
            return shape
        count = int(np.prod(shape))
        others: list[tuple[int, ...]] = [(count,), (1, count), (count, 1, 1), (shape[0], count // shape[0])]
        chosen: tuple[int, ...] = () if count == 1 else self.choose(others)
        operation["array_shape"] = list(chosen)
        return chosen

    def random_codes(self, shape: Sequence[int], bits: int) -> Array:
        n = reference.levels(bits)
        style = self.choose(("uniform", "uniform", "uniform", "max", "ends", "low"))
        codes = self.rng.integers(0, n + 1, (self.batch, *shape))
        if style == "max":
            codes[:] = n
        elif style == "ends":
            codes = np.where(codes > n // 2, n, 0)
        elif style == "low":
            codes = np.minimum(codes, self.rng.integers(0, n + 1, codes.shape))
        return codes.astype(np.uint8)

    def codes_input(self, shape: Sequence[int], bits: int) -> str:
        return self.add_input(shape, bits, self.random_codes(shape, bits))

    def float_input(self, shape: Sequence[int]) -> str:
        dyadic = self.chance(0.6)
        full = (self.batch, *shape)
        values = self.rng.integers(-24, 25, full) / 16 if dyadic else self.rng.normal(0.5, 1, full)
        values = values.astype(np.float32)
        if self.chance(0.15) and values.size > 0:
            specials = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 100.0, 0.5, 1.0], np.float32)
            values.reshape(-1)[self.rng.integers(0, values.size, 4)] = self.rng.choice(specials, 4)
            dyadic = False
        name = self.add_input(shape, None, values)
        self.known[name].dyadic = dyadic
        return name

    def finish(self) -> Case:
        """Add outputs, the last tensor among them, and inputs for them if none leads there."""
        last = self.last()
        extra = [name for name in self.known if name != last and self.chance(0.25)]
        expected, tolerance = {}, {}
        for name in [*extra, last]:
            operation = {"op": "output", "input": name, "order": self.choose(("nchw", "nhwc"))}
            self.shape_outside(operation, reference.write_output(operation, self.tensors[name]).shape[1:])
            self.operations.append(operation)
            expected[name] = np.ascontiguousarray(reference.write_output(operation, self.tensors[name]))
            if not self.known[name].exact:
                finite = np.abs(expected[name][np.isfinite(expected[name])])
                tolerance[name] = 1e-4 * (1 + float(finite.max(initial=0)))
        return Case(self.operations, self.arrays, self.inputs, expected, tolerance)
