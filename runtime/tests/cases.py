"""Random programs with random inputs, and what they must give.

A case is built operation by operation and evaluated by the reference as it grows, so that thresholds can be drawn from
the numbers that they are compared with: equality is where a comparison goes wrong. Everything follows from the seed.

Floats whose sums do not depend on the order of summation are called dyadic: small multiples of 1/16. A tensor that
depends on other sums of float layers, or on exponentials, is inexact; it is compared with a tolerance, and never
becomes codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime import reference
from open_size_cases import open_case

Array: TypeAlias = NDArray[Any]

CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 96, 127, 128, 129)
SIDES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17)
KERNELS = ((1, 1), (2, 2), (3, 3), (3, 3), (3, 3), (5, 5), (7, 7), (1, 3), (3, 1), (1, 5), (7, 1), (2, 3))
BATCHES = (0, 1, 1, 2, 3, 5, 9)
#: Multiply-adds of one convolution, over the batch: what keeps a case within milliseconds.
MOST_MACS = 1_000_000
INT32 = np.iinfo(np.int32)


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
        signs = all(operation.get("op") != "max_pool" for operation in self.operations)
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
        wrong = _other_bits(result, expected, signs_of_zero)
    else:
        wrong = ~np.isclose(result, expected, rtol=1e-4, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    where = np.argwhere(wrong)
    first = tuple(int(i) for i in where[0])
    return (
        f"{name}: {len(where)} of {wrong.size} differ, first at {first}: {result[first]} instead of {expected[first]}"
    )


def _other_bits(result: Array, expected: Array, signs_of_zero: bool) -> NDArray[np.bool_]:
    """Where numbers are not the same to the last bit; NaN is NaN whatever its bits."""
    wrong: NDArray[np.bool_] = result != expected
    if result.dtype.kind == "f":
        if signs_of_zero:
            wrong |= np.signbit(result) != np.signbit(expected)
        wrong &= ~(np.isnan(result) & np.isnan(expected))
    return wrong


@dataclass
class _Known:
    """What the builder knows of a tensor."""

    bits: int | None = None  # of codes
    integers: bool = False  # an int32 tensor: it can only leave
    exact: bool = True
    dyadic: bool = False


@dataclass
class _Builder:
    """A program in the making."""

    rng: np.random.Generator
    batch: int
    operations: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, Array] = field(default_factory=dict)
    inputs: list[Array] = field(default_factory=list)
    most_macs: int = MOST_MACS
    tensors: dict[str, reference.Tensor] = field(default_factory=dict)
    known: dict[str, _Known] = field(default_factory=dict)

    # Drawing

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def choose(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def fresh(self) -> str:
        return f"t{len(self.known)}"

    def array(self, kind: str, values: Array) -> str:
        name = f"{kind}{len(self.arrays)}"
        self.arrays[name] = values
        return name

    # Looking

    def shape(self, name: str) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.tensors[name].values.shape[1:]
        return height, width, channels

    def names(self, codes: bool | None = None, exact: bool = False) -> list[str]:
        """Tensors that an operation can read, in order of definition."""
        return [
            name
            for name, known in self.known.items()
            if not known.integers
            and (codes is None or codes == (known.bits is not None))
            and (known.exact or not exact)
        ]

    # Growing

    def add(self, operation: dict[str, Any], **defined: _Known) -> None:
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
        self.known[name] = _Known(bits)
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
        last = list(self.known)[-1]
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


# Parts of operations


def _sample(b: _Builder, x: Array, channels: int, count: int) -> Array:
    """Values of x [.., C] and near it, [C, count], unsorted: where thresholds make a difference."""
    flat = x.reshape(-1, channels)
    flat = flat[np.isfinite(flat).all(axis=1)]
    if len(flat) == 0:
        return b.rng.integers(-20, 20, (channels, count)).astype(x.dtype)
    rows = b.rng.integers(0, len(flat), (channels, count))
    return flat[rows, np.arange(channels)[:, np.newaxis]]


def _sorted(thresholds: Array, descending: Array | None) -> Array:
    """Sorted along the levels: upwards, downwards where descending."""
    rows = np.sort(thresholds, axis=1)
    return rows if descending is None else np.where(descending[:, np.newaxis].astype(bool), rows[:, ::-1], rows)


def _int_thresholds(b: _Builder, d: Array, count: int, descending: Array | None) -> Array:
    """int32 [N, n] thresholds of D [.., N]."""
    channels = d.shape[-1]
    style = b.choose(("sample", "sample", "near", "affine", "affine", "extreme", "wide"))
    if style == "affine":
        # What a staircase round(n·(slope·D + offset)) gives: evenly spaced, constant where the slope is zero.
        slope = b.rng.choice([0.0, 0.3, 1.0, 2.5, 17.0], (channels, 1))
        middle = _sample(b, d, channels, 1)
        steps = np.ceil(middle + slope * (np.arange(count) - count / 2))
        constant = np.where(b.rng.random((channels, 1)) < 0.5, INT32.min, INT32.max)
        thresholds = np.where(slope == 0, constant, steps).astype(np.int64)
    elif style == "wide":
        thresholds = b.rng.integers(INT32.min, INT32.max, (channels, count), endpoint=True)
    else:
        thresholds = _sample(b, d, channels, count)
        if style == "near":
            thresholds = thresholds + b.rng.integers(-2, 3, thresholds.shape)
        if style == "extreme":
            extremes = np.array([INT32.min, INT32.min + 1, -1, 0, 1, INT32.max - 1, INT32.max])
            thresholds = np.where(
                b.rng.random(thresholds.shape) < 0.5, b.rng.choice(extremes, thresholds.shape), thresholds
            )
    return _sorted(np.clip(thresholds, INT32.min, INT32.max), descending).astype(np.int32)


def _float_thresholds(b: _Builder, y: Array, count: int, descending: Array | None) -> Array:
    """float32 [C, n] thresholds of y [.., C], the last ones perhaps NaN, which nothing reaches."""
    thresholds = _sample(b, y, y.shape[-1], count).astype(np.float32)
    style = b.choose(("sample", "sample", "near", "extreme", "never"))
    if style == "near":
        thresholds = np.nextafter(thresholds, b.rng.choice(np.array([-np.inf, np.inf], np.float32), thresholds.shape))
    if style == "extreme":
        extremes = np.array([-np.inf, np.inf, -0.0, 0.0, 1e-45, -3e38], np.float32)
        thresholds = np.where(
            b.rng.random(thresholds.shape) < 0.3, b.rng.choice(extremes, thresholds.shape), thresholds
        )
    rows = _sorted(thresholds, descending).astype(np.float32)
    if style == "never":
        rows[np.arange(count) >= b.rng.integers(0, count + 1, (len(rows), 1))] = np.nan
    return rows


def _code_stage(b: _Builder, y: Array | None, d: Array | None) -> dict[str, Any]:
    """The keys that make codes of D [.., N] or y [.., N], whichever are there."""
    options = [name for name, x in (("int", d), ("float", y), ("unit", y)) if x is not None]
    style = b.choose(options)
    bits = int(b.choose((1, 2, 2, 3, 4, 5, 6, 7, 8)))
    if style == "unit":
        return {"bits": bits}
    x: Array = d if style == "int" else y  # type: ignore[assignment]  # it was an option
    descending = None
    if b.chance(0.5):
        descending = b.rng.random(x.shape[-1]) < b.choose((0.0, 0.5, 1.0))
    draw = _int_thresholds if style == "int" else _float_thresholds
    keys: dict[str, Any] = {"bits": bits}
    keys["thresholds"] = b.array("thresholds", draw(b, x, reference.levels(bits), descending))
    if descending is not None:
        keys["descending"] = b.array("descending", descending)
    return keys


def _float_keys(b: _Builder, sums: Array) -> dict[str, Any]:
    """multiply and offset that bring sums [.., N] to about [-1, 2], negative and zero slopes among them."""
    channels = sums.shape[-1]
    spread = float(np.std(sums[np.isfinite(sums)], dtype=np.float64)) if np.isfinite(sums).any() else 1.0
    slope = b.rng.normal(0, 1 / max(spread, 1e-3), (channels,))
    slope[b.rng.random(channels) < 0.05] = 0
    offset = b.rng.normal(0.5, 0.5, (channels,))
    return {
        "multiply": b.array("multiply", slope.astype(np.float32)),
        "offset": b.array("offset", offset.astype(np.float32)),
    }


def _norm_keys(b: _Builder, channels: int, exact: bool) -> dict[str, Any]:
    """norm_multiply and norm_offset [N] that leave numbers about [-1, 2] there; special values where they are exact."""
    slope, offset = b.rng.normal(0, 1, channels), b.rng.normal(0.5, 0.5, channels)
    if exact and b.chance(0.2):
        slope[b.rng.integers(channels)] = b.choose((0.0, -0.0, np.inf, np.nan, 1e-40, 3e38))
        offset[b.rng.integers(channels)] = b.choose((0.0, -0.0, -np.inf, np.nan, 1e-45, -3e38))
    return {
        "norm_multiply": b.array("norm_multiply", slope.astype(np.float32)),
        "norm_offset": b.array("norm_offset", offset.astype(np.float32)),
    }


def _residual(b: _Builder, shape: tuple[int, ...], new: float = 0.0) -> str | None:
    """An earlier float tensor of that shape, [B, H, W, C], if there is one; else, with probability `new`, an input."""
    options = [name for name in b.names(codes=False) if b.tensors[name].values.shape == shape]
    if not options and b.chance(new):
        options = [b.float_input([shape[3], *shape[1:3]])]
    return b.choose(options) if options else None


def _finish_layer(b: _Builder, operation: dict[str, Any], sums: Array, known: _Known, low_bit: bool) -> None:
    """Choose what follows the sums [B, Ho, Wo, N] of a convolution or linear layer, and append it."""
    operation = dict(operation)
    exact, stage = known.exact, b.chance(0.6)
    with np.errstate(all="ignore"):
        if stage:
            operation |= _float_keys(b, sums)
        y = None
        if stage or not low_bit:
            if b.chance(0.35):
                operation |= _norm_keys(b, sums.shape[-1], exact)
            residual = _residual(b, sums.shape, new=0.3) if b.chance(0.6) else None
            if residual is not None:
                operation["residual"] = residual
                exact = exact and b.known[residual].exact
            if b.chance(0.4):
                operation["relu"] = True
            y = reference.apply_float_stage(operation, b.tensors, b.arrays, sums)
    # Inexact y never become codes; D always may.
    codes_y = y if exact else None
    kinds = [kind for kind, there in (("int32", low_bit), ("float32", y is not None)) if there]
    if low_bit or codes_y is not None:
        kinds.append("codes")
    leaving = [kind for kind in kinds if b.chance(0.4)]
    staged = {"residual", "relu", "multiply", "norm_multiply"} & operation.keys()
    if "float32" not in leaving and staged and b.chance(0.7):
        leaving.append("float32")
    if not leaving:
        leaving = ["codes" if "codes" in kinds and b.chance(0.7) else b.choose(kinds)]
    defined = {}
    if "codes" in leaving:
        operation |= _code_stage(b, codes_y, sums if low_bit else None)
    for number, kind in enumerate(leaving):
        operation[kind] = f"t{len(b.known) + number}"
        if kind == "codes":
            defined[kind] = _Known(operation["bits"])
        else:
            defined[kind] = _Known(None, kind == "int32", kind == "int32" or exact)
    b.add(operation, **defined)


def _geometry(b: _Builder, height: int, width: int, channels: int) -> dict[str, Any]:
    """Kernel, stride, padding, dilation and groups that fit an image."""
    kernel = [int(k) for k in b.choose(KERNELS)]
    dilation = [int(b.choose((1, 1, 1, 2, 3))) for _ in kernel]
    stride = [int(b.choose((1, 1, 1, 2, 3))) for _ in kernel]
    style = b.choose(("none", "same", "same", "random", "random", "wide"))
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if style == "none":
        padding = [0, 0, 0, 0]
    elif style == "same":
        padding = [reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2]
    elif style == "random":
        padding = [int(b.rng.integers(0, 4)) for _ in range(4)]
    else:
        padding = [int(b.rng.integers(0, r + 3)) for r in (*reach, *reach)]
    for axis, size in enumerate((height, width)):
        missing = reach[axis] + 1 - size - padding[axis] - padding[axis + 2]
        padding[axis + 2] += max(missing, 0)
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    groups = 1 if b.chance(0.65) else b.choose((channels, b.choose(divisors)))
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": int(groups)}


def _out_channels(b: _Builder, groups: int, macs_per_channel: int) -> int:
    """A number of output channels that the groups divide and the budget allows."""
    if groups > 1:
        multiples = [groups * m for m in (1, 1, 1, 2, 3, 5, 8, 9, 16, 33) if m == 1 or groups * m <= 200]
        wanted = int(b.choose(multiples))
    else:
        wanted = int(b.choose(CHANNELS))
    affordable = b.most_macs // max(macs_per_channel, 1)
    return max(groups, min(wanted, affordable) // groups * groups)


def _weight_codes(b: _Builder, shape: Sequence[int], bits: int, grid: str) -> Array:
    n = reference.levels(bits)
    style = b.choose(("uniform", "uniform", "uniform", "max", "min", "ends"))
    m = b.rng.integers(0, n + 1, shape)
    if style == "max":
        m[:] = n
    elif style == "min":
        m[:] = 0
    elif style == "ends":
        m = np.where(m > n // 2, n, 0)
    step, lowest = reference.code_line(bits, grid)
    return step * m + lowest


def _meaning_keys(b: _Builder, bits: int) -> dict[str, Any]:
    """What codes of weights and of `bits`-bit activations stand for: ``weight_grid?``, and signs or a zero point."""
    keys: dict[str, Any] = {}
    if b.chance(0.5):
        keys["weight_grid"] = "signed" if b.chance(0.8) else "odd"
    n = reference.levels(bits)
    style = b.choose(("none", "none", "sign" if bits == 1 else "none", "zero", "zero", "zero"))
    if style == "sign" or b.chance(0.1):
        keys["sign_activations"] = style == "sign"
    if style == "zero":
        keys["zero_point"] = int(b.choose((0, 1, (n + 1) // 2, n, b.rng.integers(0, n + 1))))
    return keys


def _meaning(operation: dict[str, Any]) -> dict[str, Any]:
    """Those of `_meaning_keys` that `reference.conv2d_codes` takes."""
    return {key: operation[key] for key in ("sign_activations", "zero_point") if key in operation}


def _geometry_for(b: _Builder, op: str, name: str) -> tuple[dict[str, Any], dict[str, Any], int]:
    """(keys of the description, arguments of the reference, multiply-adds per output channel)."""
    height, width, channels = b.shape(name)
    if op.startswith("linear"):
        geometry: dict[str, Any] = {"kernel_size": [1, 1], "groups": 1}
        return {}, geometry, b.batch * channels
    geometry = _geometry(b, height, width, channels)
    kernel, padding = geometry["kernel_size"], geometry["padding"]
    pixels = 1
    for axis, size in enumerate((height, width)):
        arguments = kernel[axis], geometry["stride"][axis], padding[axis], padding[axis + 2], geometry["dilation"][axis]
        pixels *= reference.output_size(size, *arguments)
    return geometry, geometry, b.batch * pixels * kernel[0] * kernel[1] * channels // geometry["groups"]


def low_bit_layer(b: _Builder, op: str, name: str, weight_bits: int | None = None) -> None:
    """Append a conv2d or linear of the codes `name`."""
    bits = b.known[name].bits
    assert bits is not None
    keys, geometry, macs = _geometry_for(b, op, name)
    kernel, groups = geometry["kernel_size"], geometry["groups"]
    outputs = _out_channels(b, groups, macs)
    shape = (outputs, *kernel, b.shape(name)[2] // groups)
    if weight_bits is None:
        weight_bits = int(b.choose((1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8)))
    operation = {"op": op, "input": name, "weight_bits": weight_bits, "out_channels": outputs, **keys}
    operation |= _meaning_keys(b, bits)
    grid = operation.get("weight_grid", "odd")
    codes = _weight_codes(b, shape, weight_bits, grid)
    operation["weight"] = b.array("weight", reference.pack_weights(codes, weight_bits, grid))
    arguments = {key: value for key, value in geometry.items() if key != "kernel_size"}
    d = reference.conv2d_codes(b.tensors[name].values, codes, **arguments, **_meaning(operation))
    _finish_layer(b, operation, d, _Known(), low_bit=True)


def float_layer(b: _Builder, op: str, name: str) -> None:
    """Append a conv2d_float or linear_float of the floats `name`."""
    known = b.known[name]
    keys, geometry, macs = _geometry_for(b, op, name)
    kernel, groups = geometry["kernel_size"], geometry["groups"]
    outputs = _out_channels(b, groups, macs)
    shape = (outputs, *kernel, b.shape(name)[2] // groups)
    dyadic = known.dyadic and b.chance(0.8)
    inputs = int(np.prod(shape[1:]))
    weight = b.rng.integers(-8, 9, shape) / 8 if dyadic else b.rng.normal(0, inputs**-0.5, shape)
    weight = weight.astype(np.float32)
    stored = weight.reshape(outputs, -1) if op == "linear_float" else weight
    operation = {"op": op, "input": name, "out_channels": outputs, **keys, "weight": b.array("weight", stored)}
    arguments = {key: value for key, value in geometry.items() if key != "kernel_size"}
    with np.errstate(all="ignore"):
        sums = reference.conv2d_float(b.tensors[name].values, weight, **arguments)
    _finish_layer(b, operation, sums, _Known(exact=dyadic), low_bit=False)


def _code_results(b: _Builder, operation: dict[str, Any], y: Array, exact: bool) -> None:
    """Let y leave an add or affine as floats, as codes, or as both."""
    leaving = ["float32", "codes"] if exact and b.chance(0.3) else ["codes" if exact and b.chance(0.4) else "float32"]
    defined = {}
    if "codes" in leaving:
        operation |= _code_stage(b, y, None)
        defined["codes"] = _Known(operation["bits"])
    if "float32" in leaving:
        defined["float32"] = _Known(exact=exact)
    for number, kind in enumerate(leaving):
        operation[kind] = f"t{len(b.known) + number}"
    b.add(operation, **{kind: defined[kind] for kind in leaving})


def affine(b: _Builder, name: str) -> None:
    """Append an affine of the floats `name`, of any of its parts."""
    x, known = b.tensors[name].values, b.known[name]
    channels = x.shape[3]
    operation: dict[str, Any] = {"op": "affine", "input": name}
    if b.chance(0.3):
        divide = b.rng.uniform(0.3, 6, channels) * b.rng.choice([-1, 1], channels)
        if known.exact and b.chance(0.2):
            divide[b.rng.integers(channels)] = b.choose((0.0, -0.0, np.inf, np.nan, 1e-40, 2.0))
        operation["divide"] = b.array("divide", divide.astype(np.float32))
    if b.chance(0.4):
        operation |= _norm_keys(b, channels, known.exact)
    residual = _residual(b, x.shape) if b.chance(0.3) else None
    if residual is not None:
        operation["residual"] = residual
    if b.chance(0.4):
        operation["low"] = float(b.choose((0.0, -0.25, 0.1)))
    if b.chance(0.4):
        operation["high"] = float(b.choose((1.0, 6.0, 0.7)))
    if len(operation) == 2 or b.chance(0.5):
        operation |= _float_keys(b, x)
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    _code_results(b, operation, trial, known.exact and (residual is None or b.known[residual].exact))


def addition(b: _Builder, name: str) -> None:
    """Append the sum of the floats `name` and others of its shape, perhaps itself, or repeated along axes."""
    other = _residual(b, b.tensors[name].values.shape) if b.chance(0.5) else _repeated(b, name)
    assert other is not None
    operation: dict[str, Any] = {"op": "add", "inputs": [name, other] if b.chance(0.7) else [other, name]}
    if b.chance(0.5):
        operation["relu"] = b.chance(0.7)
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    _code_results(b, operation, trial, b.known[name].exact and b.known[other].exact)


def quantize(b: _Builder, name: str) -> None:
    """Append a quantize of the floats `name`."""
    keys = _code_stage(b, b.tensors[name].values, None)
    b.add({"op": "quantize", "input": name, "output": b.fresh(), **keys}, output=_Known(keys["bits"]))


def lookup(b: _Builder, name: str) -> None:
    """Append a lookup of the codes `name`."""
    bits, out_bits = b.known[name].bits, int(b.rng.integers(1, 9))
    assert bits is not None
    shape = (2**bits,) if b.chance(0.5) else (b.shape(name)[2], 2**bits)
    table = b.array("table", b.rng.integers(0, 2**out_bits, shape).astype(np.uint8))
    operation = {"op": "lookup", "input": name, "output": b.fresh(), "bits": out_bits, "table": table}
    b.add(operation, output=_Known(out_bits))


def dequantize(b: _Builder, name: str) -> None:
    """Append a dequantize of the codes `name`."""
    operation: dict[str, Any] = {"op": "dequantize", "input": name, "output": b.fresh()}
    bits = b.known[name].bits
    assert bits is not None
    if b.chance(0.3):
        dyadic = b.chance(0.5)
        shape = (2**bits,) if b.chance(0.5) else (b.shape(name)[2], 2**bits)
        values = b.rng.integers(-24, 25, shape) / 16 if dyadic else b.rng.normal(0, 1, shape)
        b.add({**operation, "table": b.array("table", values.astype(np.float32))}, output=_Known(dyadic=dyadic))
        return
    sign = bits == 1 and b.chance(0.5)
    if sign or b.chance(0.3):
        operation["sign"] = sign
    if b.chance(0.4):
        operation["scale"] = float(b.choose((0.25, 0.1, 1.7)))
    dyadic = bits == 1 and operation.get("scale", 0.25) == 0.25
    b.add(operation, output=_Known(dyadic=dyadic))


def pool(b: _Builder, name: str) -> None:
    """Append a max_pool, avg_pool, global_avg_pool or adaptive_avg_pool."""
    known, (height, width, _) = b.known[name], b.shape(name)
    op = b.choose(("max_pool", "max_pool", "avg_pool", "global_avg_pool"))
    operation: dict[str, Any] = {"op": op, "input": name, "output": b.fresh()}
    if op == "global_avg_pool" and known.bits is None and b.chance(0.5):
        pixels = [int(b.choose((1, 2, 3, extent, 2 * extent))) for extent in (height, width)]
        b.add({**operation, "op": "adaptive_avg_pool", "output_size": pixels}, output=_Known(exact=known.exact))
        return
    if op != "global_avg_pool":
        kernel = [int(b.choose((1, 2, 2, 3, 3, 4))) for _ in range(2)]
        padding = [int(b.rng.integers(0, k)) for k in (*kernel, *kernel)] if b.chance(0.5) else [0, 0, 0, 0]
        dilation = [int(b.choose((1, 2, 2, 3))) for _ in kernel] if op == "max_pool" and b.chance(0.6) else [1, 1]
        for axis, size in enumerate((height, width)):
            fits = (size + padding[axis] + padding[axis + 2] - 1) // dilation[axis] + 1
            kernel[axis] = min(kernel[axis], fits)
            padding[axis] = min(padding[axis], kernel[axis] - 1)
            padding[axis + 2] = min(padding[axis + 2], kernel[axis] - 1)
            fits = (size + padding[axis] + padding[axis + 2] - 1) // dilation[axis] + 1
            if kernel[axis] > fits:
                kernel[axis], padding[axis], padding[axis + 2] = 1, 0, 0
        operation |= {
            "kernel_size": kernel,
            "stride": [int(b.choose((1, 2, 2, 3))) for _ in kernel],
            "padding": padding,
        }
        if dilation != [1, 1]:
            operation["dilation"] = dilation
    if op == "avg_pool":
        operation["count_include_pad"] = b.chance(0.5)
    if op != "max_pool" and known.bits is not None and b.chance(0.4):
        operation["scale"] = float(b.choose((0.25, 0.1, 1.0)))
    result = _Known(exact=known.exact)
    if op == "max_pool":
        result = _Known(known.bits, False, known.exact, known.dyadic)
    b.add(operation, output=result)


def concat(b: _Builder, name: str) -> None:
    """Append a concat of `name` and others like it, perhaps itself."""
    height, width, _ = b.shape(name)
    bits = b.known[name].bits
    options = [
        other
        for other in b.names(codes=bits is not None)
        if b.shape(other)[:2] == (height, width) and b.known[other].bits == bits
    ]
    parts = [name, *(b.choose(options) for _ in range(b.choose((1, 1, 2))))]
    b.rng.shuffle(parts)
    known = [b.known[part] for part in parts]
    result = _Known(bits, False, all(k.exact for k in known), all(k.dyadic for k in known))
    b.add({"op": "concat", "inputs": parts, "output": b.fresh()}, output=result)


def flatten(b: _Builder, name: str) -> None:
    """Append a flatten."""
    known = b.known[name]
    operation = {"op": "flatten", "input": name, "output": b.fresh(), "order": b.choose(("chw", "hwc"))}
    b.add(operation, output=_Known(known.bits, False, known.exact, known.dyadic))


def _is_tame(b: _Builder, *names: str) -> bool:
    """Whether tensors are exact, or so small that a smooth function of them stays within the tolerance."""
    exact = all(b.known[name].exact for name in names)
    return exact or all(bool(np.all(np.abs(b.tensors[name].values) <= 16)) for name in names)  # no NaN then


def activation(b: _Builder, name: str) -> None:
    """Append an activation of the floats `name`."""
    known = b.known[name]
    smooth = ["sigmoid", "logsigmoid", "tanh", "silu", "mish", "gelu", "gelu_tanh", "erf", "selu"]
    inexact = ["elu", "celu", "softplus", *smooth]
    plain = ["hardswish", "hardsigmoid", "softsign", "abs", "softshrink"]
    options = [*plain, *inexact] if _is_tame(b, name) else []
    if known.exact:  # they jump, so that last bits count
        options += ["sign", "threshold", "hardshrink"]
    function = b.choose(["leaky_relu", *options])
    operation: dict[str, Any] = {"op": "activation", "input": name, "output": b.fresh(), "function": function}
    exact, dyadic = known.exact and function not in inexact, False
    if function in ("leaky_relu", "elu"):
        channels = b.shape(name)[2]
        dyadic = function == "leaky_relu" and known.dyadic and b.chance(0.5)
        slope = b.rng.integers(-1, 2, channels) if dyadic else b.rng.normal(0, 0.5, channels)
        operation["slope"] = b.array("slope", slope.astype(np.float32))
    numbers = {"celu": ["alpha"], "softplus": ["beta", "threshold"], "threshold": ["threshold", "value"]}
    for key in numbers.get(function, ["lambda"] if function.endswith("shrink") else []):
        operation[key] = float(np.float32(b.rng.uniform(0.1, 2.0)))
    b.add(operation, output=_Known(exact=exact, dyadic=dyadic))


def softmax(b: _Builder, name: str) -> None:
    """Append a softmax of the floats `name`."""
    operation: dict[str, Any] = {"op": "softmax", "input": name, "output": b.fresh()}
    if b.chance(0.6):
        operation["log"] = b.chance(0.7)
    b.add(operation, output=_Known(exact=False))


def normalize(b: _Builder, name: str) -> None:
    """Append a normalisation of the floats `name`, which are exact."""
    height, width, channels = b.shape(name)
    rows = int(b.choose((0, 0, 0, 1, 2, 7)))
    operation: dict[str, Any] = {"op": "normalize", "input": name, "by": b.choose(("deviation", "deviation", "norm"))}
    operation |= {"eps": float(b.choose((1e-5, 1e-6, 1e-12, 0, 1)))} | ({"rows": rows} if rows > 0 else {})
    if b.chance(0.2):
        operation["by"] = "root_mean_square"
    if b.chance(0.3):
        operation["groups"] = b.choose([g for g in range(1, channels + 1) if channels % g == 0])
    places = 1 if rows == 0 else width if rows == 1 else height * width
    for key in ("weight", "bias"):
        if b.chance(0.6):
            shape = (places, channels) if b.chance(0.3) else (channels,)
            operation[key] = b.array(key, b.rng.normal(0.5, 0.5, shape).astype(np.float32))
    trial = reference.apply({**operation, "float32": "y"}, b.tensors, b.arrays)["y"].values
    _code_results(b, operation, trial, True)


def reduction(b: _Builder, name: str) -> None:
    """Append a reduction of the codes or exact floats `name`."""
    known = b.known[name]
    adding, extreme, placing = ["sum", "mean"], ["amax", "amin"], ["argmax", "argmin"]
    function = b.choose([*adding, *extreme, *placing, *(["norm", "var", "std"] if known.bits is None else [])])
    axes = (
        [b.choose((0, -1, -2))] if function in placing else b.choose(([0], [-1], [-2], [0, -1], [-2, -1], [-1, 0, -2]))
    )
    operation: dict[str, Any] = {"op": "reduce", "input": name, "output": b.fresh(), "function": function}
    operation["axes"] = axes
    if function in ("var", "std") and b.chance(0.5):
        operation["correction"] = b.choose((0, 1, 2))
    if function in adding and known.bits is not None and b.chance(0.5):
        operation["scale"] = 0.3
    bits = known.bits if function in extreme else None
    b.add(operation, output=_Known(bits, integers=function in placing))


def _repeated(b: _Builder, name: str) -> str:
    """Floats of the shape of `name`, or with one place along some of its axes: a mean of it, channels, a constant."""
    height, width, channels = b.shape(name)
    style = b.choose(("like", "gate", "constant", "select"))
    made, exact = b.fresh(), b.known[name].exact
    if style == "gate":
        b.add({"op": "global_avg_pool", "input": name, "output": made}, output=_Known(exact=exact))
    elif style == "select":
        channel = b.array("channels", np.array([b.rng.integers(channels)], np.int32))
        b.add({"op": "select", "input": name, "output": made, "channels": channel}, output=_Known(exact=exact))
    elif style == "constant":
        shape = [b.choose((1, size)) for size in (height, width, channels)]
        numbers = b.rng.normal(0, 2, shape)
        if exact and b.chance(0.3):
            numbers.flat[b.rng.integers(numbers.size)] = b.choose((0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40))
        values = b.array("values", numbers.astype(np.float32))
        b.add({"op": "constant", "output": made, "values": values}, output=_Known())
    options = [
        other
        for other in b.names(codes=False)
        if all(size in (1, whole) for size, whole in zip(b.shape(other), (height, width, channels), strict=True))
        and _is_tame(b, name, other)
    ]
    if not options:  # beside numbers so large that even they themselves are too much
        nothing = b.fresh()
        b.add(
            {"op": "constant", "output": nothing, "values": b.array("nothing", np.zeros((1, 1, 1), np.float32))},
            output=_Known(),
        )
        return nothing
    return options[-1] if b.chance(0.5) else b.choose(options)


def pair(b: _Builder, name: str) -> None:
    """Append a function of the floats `name` and of others, in either order, each perhaps repeated along axes."""
    exact = b.known[name].exact
    functions = ["sub", "mul", "minimum", "maximum", *["div", "where"] * exact]
    function = b.choose(functions)
    others = [_repeated(b, name) for _ in range(2 if function == "where" else 1)]
    if function in ("div", "where") and not all(b.known[other].exact for other in others):
        function, others = "mul", others[:1]
    inputs = [name, others[0]] if b.chance(0.7) else [others[0], name]
    operation: dict[str, Any] = {"op": function, "inputs": inputs, "output": b.fresh()}
    if function == "where":
        operation["condition"] = others[1]
    b.add(operation, output=_Known(exact=exact and all(b.known[other].exact for other in others)))


def select(b: _Builder, name: str) -> None:
    """Append a select: a slice, a channel shuffle, or any channels in any order."""
    known, channels = b.known[name], b.shape(name)[2]
    style = b.choose(("slice", "slice", "shuffle", "any"))
    if style == "slice":
        step = b.choose((1, 1, 8)) if channels >= 8 else 1
        first = int(b.rng.integers(0, (channels - 1) // step + 1)) * step
        chosen = np.arange(first, channels if b.chance(0.5) else int(b.rng.integers(first + 1, channels + 1)))
    elif style == "shuffle":
        groups = b.choose([g for g in range(1, channels + 1) if channels % g == 0])
        chosen = np.arange(channels).reshape(groups, -1).T.ravel()
    else:
        chosen = b.rng.integers(0, channels, int(b.rng.integers(1, min(channels, 200) + 9)))
    channel_array = b.array("channels", chosen.astype(np.int32))
    operation = {"op": "select", "input": name, "output": b.fresh(), "channels": channel_array}
    b.add(operation, output=_Known(known.bits, False, known.exact, known.dyadic))
    _follow_with_layer(b, operation["output"])


def _follow_with_layer(b: _Builder, name: str) -> None:
    """Append a layer that may prefer bit planes, half of the time, where `name` holds codes."""
    if b.known[name].bits is not None and b.chance(0.5):
        low_bit_layer(b, "conv2d", name, int(b.choose((1, 1, 2))))


def pad(b: _Builder, name: str) -> None:
    """Append a pad."""
    known, (height, width, _) = b.known[name], b.shape(name)
    mode = b.choose(("constant", "constant", "reflect", "replicate", "circular"))
    room = {"reflect": (height - 1, width - 1), "circular": (height, width)}.get(mode, (3, 3))
    padding = [int(b.rng.integers(0, min(most, 3) + 1)) for most in (*room, *room)]
    operation: dict[str, Any] = {"op": "pad", "input": name, "output": b.fresh(), "padding": padding, "mode": mode}
    value = 0.0
    if mode == "constant":
        if b.chance(0.5):
            value = b.choose((-1.25, 0.5, 0.1, 7)) if known.bits is None else int(b.rng.integers(0, 2**known.bits))
            operation["value"] = value
        if b.chance(0.3):
            operation["channels"] = [int(b.choose((0, 1, 3, 8))), int(b.choose((0, 1, 5, 8)))]
    b.add(operation, output=_Known(known.bits, False, known.exact, known.dyadic and value != 0.1))
    _follow_with_layer(b, operation["output"])


def _matrix(b: _Builder, name: str, turned: int) -> tuple[int, int]:
    """Rows and columns of the matrices of a tensor."""
    _, width, channels = b.shape(name)
    return (channels, width) if turned else (width, channels)


def _meets(b: _Builder, name: str, other: str) -> bool:
    return b.shape(other)[0] in (1, b.shape(name)[0]) or b.shape(name)[0] == 1


def product(b: _Builder, name: str) -> None:
    """Append a matmul of floats, or a matmul_codes, of `name` and a tensor that fits, perhaps itself."""
    bits = b.known[name].bits
    found = [
        (pair, turned)
        for other in b.names(codes=bits is not None)
        for pair in ((name, other), (other, name))
        for turned in ((0, 0), (0, 1), (1, 0), (1, 1))
        if _matrix(b, pair[0], turned[0])[1] == _matrix(b, pair[1], turned[1])[0]
        and _meets(b, *pair)
        and (bits is not None or _is_tame(b, *pair))
    ]
    found = [(pair, turned) for pair, turned in found if _product_size(b, pair, turned) <= b.most_macs]
    if not found:
        return flatten(b, name)
    pair, turned = b.choose(found) if len(found) > 1 else found[0]
    operation: dict[str, Any] = {"inputs": list(pair), **({"transposed": list(turned)} if any(turned) else {})}
    if bits is None:
        scale = {"scale": float(b.choose((0.5, -0.25, 0.125)))} if b.chance(0.5) else {}
        return b.add({"op": "matmul", **operation, **scale, "output": b.fresh()}, output=_Known(exact=False))
    widths = [b.known[one].bits or 0 for one in pair]
    signs = [int(width == 1 and b.chance(0.5)) for width in widths]
    zeros = [0 if sign else int(b.rng.integers(0, 2**width)) for width, sign in zip(widths, signs, strict=True)]
    operation |= {"zero_points": zeros} if b.chance(0.7) else {}
    operation |= {"signs": signs} if any(signs) else {}
    if any(signs) and "zero_points" not in operation:
        operation["zero_points"] = [0, 0]
    style = b.choose(("int32", "float32", "both"))
    leaves: dict[str, _Known] = {}
    if style != "float32":
        operation["int32"] = b.fresh()
        leaves["int32"] = _Known(integers=True)
    if style != "int32":
        operation |= {"float32": f"t{len(b.known) + len(leaves)}", "scale": float(b.choose((0.1, 0.01, 1.0)))}
        leaves["float32"] = _Known()
    return b.add({"op": "matmul_codes", **operation}, **leaves)


def _product_size(b: _Builder, pair: Sequence[str], turned: Sequence[int]) -> int:
    (rows, depth), (_, columns) = (_matrix(b, one, turn) for one, turn in zip(pair, turned, strict=True))
    return max(b.batch, 1) * max(b.shape(pair[0])[0], b.shape(pair[1])[0]) * rows * columns * max(depth, 8)


def attention(b: _Builder, name: str) -> None:
    """Append an attention with the floats `name` as queries, and what fits as keys, values and bias."""
    height, width, channels = b.shape(name)

    def fits(one: str, rows: int | None, wanted: int | None) -> bool:
        own_height, own_width, own = b.shape(one)
        is_shape = rows in (None, own_width) and wanted in (None, own)
        return is_shape and height % own_height == 0 and _is_tame(b, one)

    floats = b.names(codes=False)
    key = b.choose([name, *(one for one in floats if fits(one, None, channels))])
    keys = b.shape(key)[1]
    value = b.choose([key, *(one for one in floats if fits(one, keys, None))])
    inputs = [name, key, value]
    biases = [
        one
        for one in floats
        if b.shape(one)[2] == keys and b.shape(one)[0] in (1, height) and b.shape(one)[1] in (1, width)
    ]
    biases = [one for one in biases if _is_tame(b, one)]
    if biases and b.chance(0.7):
        inputs.append(b.choose(biases))
    operation: dict[str, Any] = {"op": "attention", "inputs": inputs, "output": b.fresh()}
    operation |= {"scale": float(b.choose((0.125, 0.5, 1.0)))} if b.chance(0.8) else {}
    operation |= {"causal": b.chance(0.7)} if b.chance(0.5) else {}
    b.add(operation, output=_Known(exact=False))


# Programs


def _grow(b: _Builder) -> None:
    """Append a random operation to a random tensor, the latest ones most often."""
    names = b.names()
    name = names[-1] if b.chance(0.7) else b.choose(names)
    known = b.known[name]
    vector = b.shape(name)[:2] == (1, 1)
    options = ["pool", "concat", "select"]
    if b.shape(name)[0] * b.shape(name)[1] * b.shape(name)[2] < 3000:
        options += ["flatten", "pad"]
    if known.bits is not None:
        options += ["conv", "conv", "conv", "conv", "lookup", "dequantize", "product"] + ["linear"] * 4 * vector
    else:
        options += ["affine", "add", "conv_float", "activation"] + ["softmax", "pair", "pair"] * _is_tame(b, name)
        small = b.shape(name)[0] * b.shape(name)[1] ** 2 * (b.shape(name)[2] + 8) * max(b.batch, 1) < b.most_macs
        options += ["product", "attention"] * (_is_tame(b, name) and small)
        options += ["linear_float"] * 2 * vector + ["quantize"] * 4 * known.exact
    options += ["normalize"] * 2 * (known.exact and known.bits is None) + ["reduce"] * known.exact
    if b.shape(name)[2] > 300:
        options = [option for option in options if option not in ("concat", "pad")]
    option = b.choose(options)
    if option in ("conv", "linear"):
        low_bit_layer(b, "conv2d" if option == "conv" else "linear", name)
    elif option in ("conv_float", "linear_float"):
        float_layer(b, "conv2d_float" if option == "conv_float" else option, name)
    else:
        grow = {"pool": pool, "concat": concat, "flatten": flatten, "lookup": lookup, "dequantize": dequantize}
        grow |= {"product": product, "attention": attention}
        grow |= {"affine": affine, "add": addition, "quantize": quantize}
        grow |= {"activation": activation, "softmax": softmax, "pair": pair, "select": select, "pad": pad}
        grow |= {"normalize": normalize, "reduce": reduction}
        grow[option](b, name)


def _image(b: _Builder, most: int = 40_000, sides: Sequence[int] = SIDES) -> list[int]:
    """A random [C, H, W] whose batch has at most that many values."""
    channels, height, width = (int(b.choose(sizes)) for sizes in (CHANNELS, sides, sides))
    while max(b.batch, 1) * channels * height * width > most:
        height, width = max(height // 2, 1), max(width // 2, 1)
        b.batch = max(b.batch // 2, 1) if b.batch > 0 else 0
        channels = channels // 2 if height * width == 1 and b.batch <= 1 else channels
    return [channels, height, width]


def _builder(rng: np.random.Generator) -> _Builder:
    return _Builder(rng, int(BATCHES[rng.integers(len(BATCHES))]))


def single_layer(rng: np.random.Generator, weight_bits: int | None = None, activation_bits: int | None = None) -> Case:
    """One conv2d or linear layer of codes, with whatever may follow it."""
    b = _builder(rng)
    bits = int(rng.integers(1, 9)) if activation_bits is None else activation_bits
    weight_bits = int(rng.integers(1, 9)) if weight_bits is None else weight_bits
    if b.chance(0.15):
        name = b.codes_input([int(b.choose((*CHANNELS, 200, 257, 1000)))], bits)
        low_bit_layer(b, "linear", name, weight_bits)
    else:
        shape = _image(b)
        name = b.codes_input(shape, bits)
        if b.chance(0.15):  # something to add
            b.float_input([int(b.choose(CHANNELS)), *shape[1:]])
        low_bit_layer(b, "conv2d", name, weight_bits)
    return b.finish()


def chain(rng: np.random.Generator) -> Case:
    """Any operations in any order, on one to three inputs."""
    b = _builder(rng)
    return _chain(b, _image(b, most=15_000))


def _chain(b: _Builder, shape: list[int]) -> Case:
    for _ in range(int(b.choose((1, 1, 2, 3)))):
        if b.chance(0.5):
            b.codes_input(shape, int(b.choose((1, 2, 2, 3, 4, 8))))
        else:
            b.float_input(shape if b.chance(0.9) else [shape[0]])
        if b.chance(0.3):
            shape = [int(b.choose(CHANNELS)), *shape[1:]]
    for _ in range(int(b.rng.integers(1, 9))):
        _grow(b)
    return b.finish()


def residual_net(rng: np.random.Generator) -> Case:
    """Pre-activation blocks of one width: quantize, conv, quantize in its epilogue, conv, add the shortcut."""
    b = _builder(rng)
    channels = int(b.choose((3, 8, 16, 17, 32, 40, 64)))
    side = int(b.choose((1, 4, 7, 8)))
    stream = b.float_input([channels, side, side])
    for _ in range(int(b.choose((1, 2, 3)))):
        bits, out_bits, weight_bits = (int(b.choose((1, 1, 2, 2, 3, 4))) for _ in range(3))
        codes = b.fresh()
        b.add({"op": "quantize", "input": stream, "output": codes, "bits": bits}, output=_Known(bits))
        for half in (0, 1):
            operation: dict[str, Any] = {"op": "conv2d", "input": codes, "weight_bits": weight_bits, "groups": 1}
            operation |= _meaning_keys(b, bits if half == 0 else out_bits)
            grid = operation.get("weight_grid", "odd")
            weight = _weight_codes(b, (channels, 3, 3, channels), weight_bits, grid)
            d = reference.conv2d_codes(b.tensors[codes].values, weight, padding=(1, 1, 1, 1), **_meaning(operation))
            operation |= {"out_channels": channels, "kernel_size": [3, 3], "stride": [1, 1], "dilation": [1, 1]}
            operation |= {"padding": [1, 1, 1, 1], **_float_keys(b, d)}
            operation["weight"] = b.array("weight", reference.pack_weights(weight, weight_bits, grid))
            if b.chance(0.35):
                operation |= _norm_keys(b, channels, exact=True)
            result = b.fresh()
            if half == 0:
                b.add({**operation, "codes": result, "bits": out_bits}, codes=_Known(out_bits))
                codes = result
            else:
                b.add({**operation, "residual": stream, "float32": result}, float32=_Known())
                stream = result
    if b.chance(0.5):
        b.add({"op": "global_avg_pool", "input": stream, "output": b.fresh()}, output=_Known())
    return b.finish()


def bound(rng: np.random.Generator) -> Case:
    """A layer whose sums reach ±K·c·n_a, c the largest weight code, up to the largest K that int32 allows."""
    b = _builder(rng)
    b.batch = min(b.batch, 2)
    weight_bits, bits = int(rng.integers(1, 9)), int(rng.integers(1, 9))
    grid, n = str(b.choose(("odd", "signed"))), reference.levels(bits)
    step, lowest = reference.code_line(weight_bits, grid)
    most = (2**31 - 1) // (-lowest * n)
    inputs = int(min(most, b.choose((129, 4000, 33025, 150_001))))  # the last: more than 16 bits can count
    outputs = int(b.choose((1, 2, 33))) if inputs <= 33025 else 2
    ends = np.array([lowest, lowest + step * reference.levels(weight_bits)])
    row = ends[b.rng.integers(0, 2, (outputs, 1))]
    weight = np.broadcast_to(row, (outputs, inputs))
    code, zero_point = b.choose(((n, 0), (n, 0), (n, n), (0, n), (n, n // 2), (0, n // 2)))
    name = b.add_input([inputs], bits, np.full((b.batch, inputs), code, np.uint8))
    operation = {"op": "linear", "input": name, "weight_bits": weight_bits, "out_channels": outputs}
    operation |= {"weight_grid": grid, "zero_point": zero_point}
    operation["weight"] = b.array("weight", reference.pack_weights(weight, weight_bits, grid))
    if bits == 1 and code == 1 and zero_point == 0:
        operation["sign_activations"] = b.chance(0.5)  # code 1 is +1 then: the sums are the same
    d = np.broadcast_to(row.T * inputs * (code - zero_point), (b.batch, 1, 1, outputs))
    _finish_layer(b, operation, d, _Known(), low_bit=True)
    return b.finish()


def any_size(rng: np.random.Generator) -> Case:
    """A program whose sizes are open, at one of them."""
    operations, arrays, x = open_case(rng)
    expected = reference.run(operations, arrays, x)
    assert isinstance(expected, dict)  # it has two outputs
    return Case(operations, arrays, [x], {name: np.ascontiguousarray(y) for name, y in expected.items()}, {})


def indexed(rng: np.random.Generator) -> Case:
    """Rows of a table, of floats or of packed codes, and a layer on them."""
    b = _builder(rng)
    rows, channels, bits = (int(b.choose(options)) for options in ((1, 2, 33, 300), CHANNELS, range(1, 9)))
    shape = [int(b.choose(SIDES)) for _ in range(int(b.choose((1, 1, 2))))]
    name, dtype = b.fresh(), str(b.choose(("int32", "int64")))
    port = {"op": "input", "output": name, "dtype": dtype, "below": rows, "shape": [1, *shape], "order": "nhwc"}
    b.inputs.append(rng.integers(0, rows, (b.batch, *shape, 1)).astype(dtype))
    b.operations.append(port)
    b.tensors[name], b.known[name] = reference.read_input(port, b.inputs[0]), _Known(integers=True)
    embedding: dict[str, Any] = {"op": "embedding", "input": name, "output": b.fresh()}
    if b.chance(0.4):
        embedding["table"] = b.array("table", rng.normal(size=(rows, channels)).astype(np.float32))
    else:
        grid = str(b.choose(("odd", "signed")))
        step, lowest = reference.code_line(bits, grid)
        codes = lowest + step * rng.integers(0, 2**bits, (rows, channels))
        scale = rng.normal(size=rows if b.chance(0.5) else 1).astype(np.float32)
        embedding |= {"table": b.array("table", reference.pack_weights(codes, bits, grid)), "weight_bits": bits}
        embedding |= {"channels": channels, "weight_grid": grid, "scale": b.array("scale", scale)}
        if b.chance(0.4):
            embedding["levels"] = b.array("levels", rng.normal(size=2**bits).astype(np.float32))
    b.add(embedding, output=_Known())
    quantized = b.fresh()
    b.add({"op": "quantize", "input": embedding["output"], "output": quantized, "bits": bits}, output=_Known(bits))
    return b.finish()


def large_case(seed: int) -> Case:
    """The large case of a seed: enough work that several threads share each operation, along pixels and channels."""
    rng = np.random.default_rng(seed)
    b = _Builder(rng, int(rng.integers(1, 5)), most_macs=20 * MOST_MACS)
    shape = _image(b, most=120_000, sides=(9, 14, 17, 28, 32, 56))
    if seed % 2 == 1:
        return _chain(b, shape)
    name = b.codes_input(shape, int(b.choose((1, 1, 2, 2, 3, 4, 8))))
    low_bit_layer(b, "conv2d", name)
    return b.finish()


def random_case(seed: int) -> Case:
    """The case of a seed: half of them single layers, the rest whole programs.

    Any 128 seeds in a row, from a multiple of 128 on, have a single layer for each pair of bit widths.
    """
    rng = np.random.default_rng(seed)
    group, kind = divmod(seed, 16)
    if kind < 8:
        return single_layer(rng, weight_bits=1 + kind, activation_bits=1 + group % 8)
    if kind < 14:
        return chain(rng)
    if kind == 14:
        return residual_net(rng)
    return bound(rng) if group % 2 == 0 else any_size(rng) if group % 4 == 1 else indexed(rng)
