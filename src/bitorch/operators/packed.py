"""PyTorch operators that run a low-bit layer on bitorch_runtime: `bitorch::packed_linear`, `bitorch::packed_conv2d`.

An operator takes the packed weight as a tensor, like any other, and needs a `bitorch_runtime.Program` made from it:
input, range, quantizer, product, scale and bias, computed by one call. It finds it by the identity of the weight
tensor, held weakly, and the tensor's version counter, so that a program lives exactly as long as its weight, a weight
that was written to gets a new one, and copies, pickles and exported graphs get theirs at the first call. A data pointer
alone may come back with another tensor, and a handle in the arguments would be a constant in compiled and exported
graphs, where it outlives what it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kept import Kept
from ..quantizations.levels import LEAST_OF_ROW
from .last_call import LastCall, is_plain
from .packed_programs import LayerProgram, Stages, WeightPrograms, programs_of, runtime
from .registration import register

if TYPE_CHECKING:
    from typing_extensions import Self

    from bitorch_runtime import Program

#: What `quantizer` may be. "unit": round(n·clip(x, 0, 1)). "sign": x ≥ 0, "heaviside": x > 0, both to ±1. "rows", of
#: packed_linear: round(x/s) + zero_point, s = `row_step` of each row, which multiplies behind.
QUANTIZERS = ("unit", "sign", "heaviside", "rows")

#: What `weight_grid` may be. Codes of k bits are odd, −n … n with n = 2^k − 1, or signed, −2^(k−1) … 2^(k−1) − 1.
WEIGHT_GRIDS = ("odd", "signed")

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define(
    "packed_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias, int weight_bits, int activation_bits, "
    "str quantizer, int zero_point=0, str weight_grid='odd', Tensor? input_range=None) -> Tensor"
)
_LIBRARY.define(
    "packed_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor? bias, int[2] kernel_size, int[2] stride, "
    "int[4] padding, int[2] dilation, int groups, int weight_bits, int activation_bits, str quantizer, "
    "bool channels_last, int zero_point=0, str weight_grid='odd', Tensor? input_range=None) -> Tensor"
)
_PACKED_LINEAR = torch.ops.bitorch.packed_linear.default
_PACKED_CONV2D = torch.ops.bitorch.packed_conv2d.default


def packed_linear(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    weight_bits: int,
    activation_bits: int,
    quantizer: str,
    zero_point: int = 0,
    weight_grid: str = "odd",
    input_range: Tensor | None = None,
    *,
    last_call: Kept[LastCall] | None = None,
) -> Tensor:
    """Quantize x, multiply it with a packed weight exactly, and scale: float32(Σ c·(q − zero_point))·scale + bias.

    Args:
        x: float32 [..., in_features]. A NaN makes its row NaN, as in PyTorch.
        weight: uint8 [out_features, row_bytes], see `bitorch_runtime.pack_weights`.
        scale: float32, 0-dim or [out]; or [out, groups], of each group of in_features / groups inputs: y is the sum of
            float32(Σ c·(q − zero_point))·scale of one group after the other, and bias.
        bias: float32 [out_features].
        weight_bits, activation_bits: 1 to 8.
        quantizer: one of `QUANTIZERS`; "sign" and "heaviside" need activation_bits=1.
        zero_point: the code q that means 0, 0 to 2^activation_bits − 1; 0 of signs, 2^(activation_bits − 1) of "rows".
        weight_grid: one of `WEIGHT_GRIDS`, the one that the weight was packed with.
        input_range: float32 [2], or [2, in_features], of divisors above 0 and of what is added: x/divisor + added is
            quantized in the place of x, with a rounding for each.
        last_call: what is kept of the last call with these arguments; what is emptied where they change, tensors aside.

    Returns:
        float32 [..., out_features], without gradient.
    """
    arguments = (
        x, weight, scale, bias, weight_bits, activation_bits, quantizer, zero_point, weight_grid, input_range
    )  # fmt: skip
    if last_call is not None and is_plain(x):
        return _plain_call(PackedLinearCall, arguments, last_call, None)
    y: Tensor = _PACKED_LINEAR(*arguments)
    return y


def packed_conv2d(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    weight_bits: int,
    activation_bits: int,
    quantizer: str,
    channels_last: bool,
    zero_point: int = 0,
    weight_grid: str = "odd",
    input_range: Tensor | None = None,
    *,
    last_call: Kept[LastCall] | None = None,
) -> Tensor:
    """Quantize x, convolve it with a packed weight exactly, and scale: float32(Σ c·(q − zero_point))·scale + bias.

    Args:
        x: float32 [batch, in_channels, H, W], or [batch, H, W, in_channels] with channels_last. A NaN makes every
            output that sees it NaN, as in PyTorch.
        weight: uint8 [out_channels, row_bytes], see `bitorch_runtime.pack_weights`.
        scale: float32, 0-dim or [out].
        bias: float32 [out_channels].
        kernel_size, stride, dilation: (vertical, horizontal).
        padding: (top, left, bottom, right); padding contributes 0.
        groups: divides both numbers of channels.
        weight_bits, activation_bits: 1 to 8.
        quantizer: one of `QUANTIZERS` but "rows"; "sign" and "heaviside" need activation_bits=1.
        channels_last: the order of x and of the result.
        zero_point, weight_grid, input_range: as of `packed_linear`; the last for each of the in_channels.
        last_call: as of `packed_linear`.

    Returns:
        float32, in the order of x, without gradient.
    """
    arguments = (
        x, weight, scale, bias, kernel_size, stride, padding, dilation, groups, weight_bits, activation_bits, quantizer,
        channels_last, zero_point, weight_grid, input_range,
    )  # fmt: skip
    if last_call is not None and is_plain(x):
        return _plain_call(_Conv2d, arguments, last_call, channels_last)
    y: Tensor = _PACKED_CONV2D(*arguments)
    return y


class PackedLinearCall(NamedTuple):
    """The arguments of packed_linear, in its order."""

    x: Tensor
    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    weight_bits: int
    activation_bits: int
    quantizer: str
    zero_point: int = 0  # PyTorch leaves arguments out that are as the operator's schema has them
    weight_grid: str = "odd"
    input_range: Tensor | None = None

    def stages(self) -> Stages:
        return self.scale, self.bias, self.input_range

    def of_stages(self, stages: Stages) -> PackedLinearCall:
        scale, bias, input_range = stages
        assert scale is not None  # there is one always
        return self._replace(scale=scale, bias=bias, input_range=input_range)

    def axes(self) -> int:
        """Return how many axes one input has."""
        return 1

    def settings(self) -> Hashable:
        """Return what the program depends on, tensors aside."""
        return self.x.dtype, self.x.shape[-1:], self.scale.shape[1:], self[4:9]

    def size(self) -> tuple[int, ...]:
        """Return the shape of the result, after a check of all arguments."""
        if self.x.dim() == 0:
            raise ValueError("packed_linear: x must have the shape [..., in_features], but is 0-dim")
        _check(self, "packed_linear", self.x.shape[-1])
        _check_groups(self)
        _check_row("packed_linear", self, self.x.shape[-1])
        return *self.x.shape[:-1], self.weight.shape[0]

    def make_program(self) -> Program:
        return _make_program(self, {"op": "linear"}, [self.x.shape[-1]], "nchw")

    def spread_nan(self, y: Tensor) -> None:
        """Make NaN of the outputs that see a NaN."""
        y.masked_fill_(self.x.isnan().any(dim=-1, keepdim=True), torch.nan)


class _Conv2d(NamedTuple):
    """The arguments of packed_conv2d, in its order."""

    x: Tensor
    weight: Tensor
    scale: Tensor
    bias: Tensor | None
    kernel_size: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    groups: int
    weight_bits: int
    activation_bits: int
    quantizer: str
    channels_last: bool
    zero_point: int = 0
    weight_grid: str = "odd"
    input_range: Tensor | None = None

    def stages(self) -> Stages:
        return self.scale, self.bias, self.input_range

    def of_stages(self, stages: Stages) -> _Conv2d:
        scale, bias, input_range = stages
        assert scale is not None  # there is one always
        return self._replace(scale=scale, bias=bias, input_range=input_range)

    def axes(self) -> int:
        """Return how many axes one input has."""
        return 3

    def settings(self) -> Hashable:
        """Return what the program depends on, tensors aside."""
        geometry = self[4:8]  # lists, where PyTorch hands them over
        return self.x.dtype, self.x.shape[1:], *map(tuple, geometry), self[8:15]

    def image(self) -> tuple[int, int, int]:
        """Return channels, height and width of x."""
        first, second, third = self.x.shape[1:]
        return (third, first, second) if self.channels_last else (first, second, third)

    def size(self) -> tuple[int, int, int, int]:
        """Return the shape of the result, in the order of x, after a check of all arguments."""
        if self.x.dim() != 4:
            raise ValueError(f"packed_conv2d: x must have 4 dimensions, got {tuple(self.x.shape)}")
        channels, height, width = self.image()
        _check(self, "packed_conv2d", channels)
        out = self.weight.shape[0]
        for name in ("kernel_size", "stride", "dilation", "padding"):
            least = 0 if name == "padding" else 1
            if min(getattr(self, name)) < least:
                raise ValueError(f"packed_conv2d: {name} must be at least {least}, got {tuple(getattr(self, name))}")
        if self.groups < 1 or channels % self.groups or out % self.groups:
            raise ValueError(
                f"packed_conv2d: groups={self.groups} must divide the {channels} input and the {out} output channels"
            )
        _check_row("packed_conv2d", self, self.kernel_size[0] * self.kernel_size[1] * (channels // self.groups))
        sizes = []
        for axis, size in enumerate((height, width)):
            padded = size + self.padding[axis] + self.padding[axis + 2]
            span = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            if padded < span:
                raise ValueError(
                    f"packed_conv2d: the image of {height} by {width} pixels, with its padding, is smaller than the "
                    f"kernel: {padded} < {span}"
                )
            sizes.append((padded - span) // self.stride[axis] + 1)
        batch = self.x.shape[0]  # len() would not stay symbolic
        if self.channels_last:
            return batch, sizes[0], sizes[1], out
        return batch, out, sizes[0], sizes[1]

    def make_program(self) -> Program:
        operation = {
            "op": "conv2d",
            "kernel_size": list(self.kernel_size),
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
        }
        return _make_program(self, operation, list(self.image()), "nhwc" if self.channels_last else "nchw")

    def spread_nan(self, y: Tensor) -> None:
        """Make NaN of the outputs that see a NaN."""
        x = self.x
        if self.channels_last:
            x, y = x.permute(0, 3, 1, 2), y.permute(0, 3, 1, 2)
        top, left, bottom, right = self.padding
        marks = F.pad(x.isnan().float(), (left, right, top, bottom))
        ones = torch.ones(self.groups, x.shape[1] // self.groups, *self.kernel_size)
        sums = F.conv2d(marks, ones, None, tuple(self.stride), 0, tuple(self.dilation), self.groups)
        seen = sums > 0.5  # [batch, groups, H, W]
        y.masked_fill_(seen.repeat_interleave(y.shape[1] // self.groups, dim=1), torch.nan)


_Call: TypeAlias = PackedLinearCall | _Conv2d


def _check(call: _Call, operator: str, channels: int) -> None:
    """Check dtypes, ranges and what does not depend on the geometry."""
    x, weight, scale, bias, input_range = call.x, call.weight, call.scale, call.bias, call.input_range
    if x.dtype != torch.float32:
        raise ValueError(f"{operator}: x must be float32, got {x.dtype}")
    if weight.dtype != torch.uint8 or weight.dim() != 2:
        raise ValueError(f"{operator}: weight must be uint8 [out, bytes], got {weight.dtype} {tuple(weight.shape)}")
    is_grouped = operator == "packed_linear" and scale.dim() == 2 and scale.shape[:1] == weight.shape[:1]
    if scale.dtype != torch.float32 or not (is_grouped or scale.shape in (torch.Size(), weight.shape[:1])):
        of_groups = f", or [{weight.shape[0]}, groups]" if operator == "packed_linear" else ""
        raise ValueError(
            f"{operator}: scale must be float32, 0-dim or [{weight.shape[0]}]{of_groups}, got {scale.dtype} "
            f"{tuple(scale.shape)}"
        )
    if bias is not None and (bias.dtype != torch.float32 or bias.shape != weight.shape[:1]):
        raise ValueError(f"{operator}: bias must be float32 [{weight.shape[0]}], got {bias.dtype} {tuple(bias.shape)}")
    if input_range is not None and (
        input_range.dtype != torch.float32 or tuple(input_range.shape) not in ((2,), (2, channels))
    ):
        raise ValueError(
            f"{operator}: input_range must be float32 [2] or [2, {channels}], got {input_range.dtype} "
            f"{tuple(input_range.shape)}"
        )
    for name, value in (("weight_bits", call.weight_bits), ("activation_bits", call.activation_bits)):
        if not 1 <= value <= 8:
            raise ValueError(f"{operator}: {name} must be 1 to 8, got {value}")
    if call.quantizer not in QUANTIZERS:
        known = ", ".join(map(repr, QUANTIZERS))
        raise ValueError(f"{operator}: quantizer must be one of {known}, got {call.quantizer!r}")
    if call.quantizer == "rows" and (operator != "packed_linear" or call.activation_bits == 1):
        raise ValueError(
            f'{operator}: quantizer="rows" is for packed_linear with activation_bits of 2 to 8, got '
            f"{call.activation_bits}"
        )
    if call.quantizer in ("sign", "heaviside") and call.activation_bits != 1:
        raise ValueError(
            f"{operator}: quantizer={call.quantizer!r} needs activation_bits=1, got {call.activation_bits}"
        )
    _check_meaning(operator, call)


def _check_meaning(operator: str, call: _Call) -> None:
    """Check what codes stand for."""
    largest = 2**call.activation_bits - 1 if call.quantizer == "unit" else 0
    least = 0
    if call.quantizer == "rows":
        least = largest = 2 ** (call.activation_bits - 1)
    if not least <= call.zero_point <= largest:
        raise ValueError(
            f"{operator}: zero_point must be {least} to {largest} with quantizer={call.quantizer!r} and "
            f"activation_bits={call.activation_bits}, got {call.zero_point}"
        )
    if call.weight_grid not in WEIGHT_GRIDS:
        known = ", ".join(map(repr, WEIGHT_GRIDS))
        raise ValueError(f"{operator}: weight_grid must be one of {known}, got {call.weight_grid!r}")


def _check_groups(call: PackedLinearCall) -> None:
    """Check that the scales are those of groups that fill the inputs, where there are several of a channel."""
    inputs, groups = call.x.shape[-1], math.prod(call.scale.shape[1:])
    if groups == 0 or inputs % groups != 0:
        raise ValueError(
            f"packed_linear: a scale of [out, groups] needs as many groups as divide the {inputs} inputs, got {groups}"
        )


def _check_row(operator: str, call: _Call, count: int) -> None:
    """Check that a row of the packed weight holds `count` codes."""
    expected = -(-count * call.weight_bits // 8)
    if call.weight.shape[1] != expected:
        raise ValueError(
            f"{operator}: a row of weight holds {call.weight.shape[1]} bytes, but {count} weights of "
            f"{call.weight_bits} bits are {expected}; the input has another number of channels or features than the "
            "weight"
        )


def _make_program(call: _Call, operation: dict[str, Any], shape: list[int], order: str) -> Program:
    """Make the program input → quantize → `operation`, whose own keys are its name and geometry → output."""
    arrays: dict[str, Any] = {}
    image = {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": order}
    quantize = _quantize(call, shape[0], "codes", arrays)
    layer = _layer(call, operation, order, "", "codes", arrays)
    program: Program = runtime().Program([image, *quantize, *layer], arrays)
    return program


def _layer(
    call: _Call, operation: dict[str, Any], order: str, tag: str, codes: str, arrays: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the operations from codes to an output; their names end in a tag, and their arrays join the others."""
    channels, is_by_row = call.weight.shape[0], call.quantizer == "rows"
    arrays[f"weight{tag}"] = call.weight.contiguous().numpy()
    layer = {
        **operation,
        "input": codes,
        "weight": f"weight{tag}",
        "weight_bits": call.weight_bits,
        "out_channels": channels,
        "weight_grid": call.weight_grid,
        "sign_activations": call.quantizer in ("sign", "heaviside"),
        "zero_point": call.zero_point,
    }
    layer |= _scaled_by_groups(call, tag, arrays) if call.scale.dim() > 1 else _scaled(call, tag, arrays)
    if not is_by_row:
        return [layer, {"op": "output", "input": f"y{tag}", "order": order}]
    scaled = {"op": "mul", "inputs": [f"y{tag}", f"{codes} step"], "output": f"scaled{tag}"}
    if call.bias is None:
        return [layer, scaled, {"op": "output", "input": f"scaled{tag}", "order": order}]
    arrays[f"one{tag}"], arrays[f"bias{tag}"] = torch.ones(channels).numpy(), call.bias.contiguous().numpy()
    plus = {
        "op": "affine", "input": f"scaled{tag}", "multiply": f"one{tag}", "offset": f"bias{tag}", "float32": f"z{tag}",
    }  # fmt: skip
    return [layer, scaled, plus, {"op": "output", "input": f"z{tag}", "order": order}]


def _scaled(call: _Call, tag: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a product that multiply its sum, and add to it."""
    channels = call.weight.shape[0]
    # Without a bias −0.0, the number whose sum with any other is that other, bit for bit.
    bias = None if call.quantizer == "rows" else call.bias  # behind the steps
    offset = torch.full((channels,), -0.0) if bias is None else bias.contiguous()
    arrays[f"multiply{tag}"] = call.scale.expand(channels).contiguous().numpy()
    arrays[f"offset{tag}"] = offset.numpy()
    return {"multiply": f"multiply{tag}", "offset": f"offset{tag}", "float32": f"y{tag}"}


def _scaled_by_groups(call: _Call, tag: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a product that multiply the sums of groups of inputs, and add to their sum."""
    arrays[f"scale{tag}"] = call.scale.contiguous().numpy()
    keys: dict[str, Any] = {"op": "linear_groups", "scale": f"scale{tag}", "output": f"y{tag}"}
    if call.bias is None or call.quantizer == "rows":
        return keys
    arrays[f"bias{tag}"] = call.bias.contiguous().numpy()
    return keys | {"bias": f"bias{tag}"}


def _quantize(call: _Call, channels: int, codes: str, arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the operations from x to codes; their arrays, whose names begin as that of the codes, join the others."""
    if call.quantizer == "rows":
        return _quantize_rows(call, codes, arrays)
    quantize: dict[str, Any] = {"op": "quantize", "input": "x", "output": codes, "bits": call.activation_bits}
    if call.input_range is not None:
        quantize = {"op": "affine", "input": "x", "codes": codes, "bits": call.activation_bits}
        divide, plus = call.input_range.reshape(2, -1).expand(2, channels)
        steps = {"divide": divide, "multiply": torch.ones(channels), "offset": plus}
        for name in ("divide", "multiply", "offset") if bool(plus.any()) else ("divide",):
            arrays[f"{codes} {name}"] = steps[name].contiguous().numpy()
            quantize[name] = f"{codes} {name}"
    if call.quantizer != "unit":
        # x ≥ 0 is +1; x > 0 is x ≥ the smallest number above 0.
        threshold = 0.0 if call.quantizer == "sign" else torch.finfo(torch.float32).smallest_normal * 2.0**-23
        arrays[f"{codes} thresholds"] = torch.full((channels, 1), threshold).numpy()
        quantize["thresholds"] = f"{codes} thresholds"
    return [quantize]


def _quantize_rows(call: _Call, codes: str, arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the operations from x to codes of its rows, and to the rows' steps; see `_quantize`."""
    arrays[f"{codes} levels"] = torch.full((1,), float(call.zero_point - 1)).numpy()
    magnitude, largest, bounded, step, rows = (
        f"{codes} {name}" for name in ("magnitude", "largest", "bounded", "step", "rows")
    )
    bounds = {"low": LEAST_OF_ROW, "high": torch.finfo(torch.float32).max}
    return [
        {"op": "activation", "function": "abs", "input": "x", "output": magnitude},
        {"op": "reduce", "function": "amax", "axes": [0], "input": magnitude, "output": largest},
        {"op": "affine", **bounds, "input": largest, "float32": bounded},
        {"op": "affine", "divide": f"{codes} levels", "input": bounded, "float32": step},
        {"op": "div", "inputs": ["x", step], "output": rows},
        {
            "op": "quantize", "input": rows, "output": codes, "bits": call.activation_bits,
            "zero_point": call.zero_point,
        },
    ]  # fmt: skip


def program_of_several(calls: Sequence[PackedLinearCall]) -> Program:
    """Make a program of one x, that of the calls, and an output for each call; equal quantizers are there once."""
    features = calls[0].x.shape[-1]
    arrays: dict[str, Any] = {}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [features], "order": "nchw"}
    ]
    codes: dict[Hashable, str] = {}
    for number, call in enumerate(calls):
        call.size()  # which checks all
        of_range = None if call.input_range is None else call.input_range.numpy().tobytes()
        quantizer = call.activation_bits, call.quantizer, of_range
        if quantizer not in codes:
            codes[quantizer] = f"codes{number}"
            operations += _quantize(call, features, codes[quantizer], arrays)
        operations += _layer(call, {"op": "linear"}, "nchw", str(number), codes[quantizer], arrays)
    program: Program = runtime().Program(operations, arrays)
    return program


class Call(Protocol):
    """The arguments of an operator on a packed weight."""

    @property
    def x(self) -> Tensor:
        """The input, float32."""

    @property
    def weight(self) -> Tensor:
        """Packed."""

    def stages(self) -> Stages:
        """Return the small tensors that the program is made of, the scale among them."""

    def of_stages(self, stages: Stages) -> Self:
        """Return the call with others."""

    def axes(self) -> int:
        """Return how many axes one input has."""

    def settings(self) -> Hashable:
        """Return what the program depends on, tensors aside."""

    def size(self) -> tuple[int, ...]:
        """Return the shape of the result, after a check of all arguments."""

    def make_program(self) -> Program:
        """Return a program from x to the result."""

    def spread_nan(self, y: Tensor) -> None:
        """Make NaN of the outputs that see a NaN."""


def run_call(call: Call) -> Tensor:
    """Compute a call, by a program that is there for its weight, or by a new one."""
    stages, settings, programs = call.stages(), call.settings(), programs_of(call.weight)
    program = programs.find(call.weight, settings, stages)
    y = None if program is None else _computed(program, call, stages)
    return _computed_anew(programs, call, settings) if y is None else y


def _plain_call(kind: type[_Call], arguments: tuple[Any, ...], last_call: Kept[LastCall], order: object) -> Tensor:
    """Compute a call without PyTorch's dispatcher, and keep its program for the next one."""
    x, weight, scale, bias = arguments[:4]
    stages = scale, bias, arguments[-1]
    last = last_call.made
    found = None if last is None else last.run(x, weight, stages, order)
    if found is None:
        call = kind(*arguments)
        y = run_call(call)
        programs = programs_of(weight)
        generation = programs.generation  # first: a write from elsewhere after that is another one
        program = programs.find(weight, call.settings(), stages)
        last_call.made = None if program is None else LastCall(program, programs, generation, x, order)
        return y
    y, holds_nan = found
    if holds_nan:
        kind(*arguments).spread_nan(y)
    return y


def _computed(program: LayerProgram, call: Call, stages: Stages) -> Tensor | None:
    """Return the result; None where the program is one of other stages."""
    x = call.x if call.x.is_contiguous() else call.x.contiguous()
    images = x.shape[: x.dim() - program.input_axes]
    y = x.new_empty((*images, *program.output_shape))
    holds_nan = program.run(x, images.numel(), (y,), stages)
    if holds_nan is None:
        return None
    if holds_nan:
        call.spread_nan(y)
    return y


def _computed_anew(programs: WeightPrograms, call: Call, settings: Hashable) -> Tensor:
    """Return the result of a call that is not like one before: check all, and make a program where there is none."""
    size = call.size()
    stages = call.stages()
    plain = tuple(None if stage is None else stage.detach().contiguous() for stage in stages)
    made_of = call.of_stages(plain)

    def make() -> LayerProgram:
        axes = call.axes()
        return LayerProgram(made_of.make_program(), settings, plain, axes, size[call.x.dim() - axes :])

    y = _computed(programs.make(call.weight, settings, stages, plain, make), call, plain)
    assert y is not None  # nobody else has these stages
    return y


def _register(name: str, arguments: type[_Call]) -> None:
    def kernel(*values: Any) -> Tensor:
        return run_call(arguments(*values))

    def fake(*values: Any) -> Tensor:
        call = arguments(*values)
        return call.x.new_empty(call.size())

    register(_LIBRARY, name, kernel, fake)


_register("packed_linear", PackedLinearCall)
_register("packed_conv2d", _Conv2d)
