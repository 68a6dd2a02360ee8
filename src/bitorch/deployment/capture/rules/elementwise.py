"""Rules for functions of single numbers: activations, arithmetic with constants, batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....same_numbers import same_numbers
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .remedies import constant_per_channel, instead_of_maximum

_Number = int | float | Tensor


def activation(kind: str) -> Callable[..., str]:
    """Return the rule of a function without parameters: "relu", "sigmoid", …"""

    def rule(call: Reader, input: Tensor, inplace: bool = False) -> str:
        channels = call.channel_axis(input)
        return call.add(kind, call.read(input, channels), channels_at=channels)

    return rule


def relu6(call: Reader, input: Tensor, inplace: bool = False) -> str:
    """The rule of F.relu6."""
    return _clamp(call, input, 0.0, 6.0)


def hardtanh(call: Reader, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> str:
    """The rule of F.hardtanh."""
    return _clamp(call, input, min_val, max_val)


def clamp(call: Reader, input: Tensor, min: _Number | None = None, max: _Number | None = None) -> str:
    """The rule of torch.clamp; tensors as bounds must be all one number."""
    return _clamp(call, input, min, max)


def clamp_min(call: Reader, input: Tensor, min: _Number) -> str:
    """The rule of torch.clamp_min."""
    return _clamp(call, input, min, None)


def clamp_max(call: Reader, input: Tensor, max: _Number) -> str:
    """The rule of torch.clamp_max."""
    return _clamp(call, input, None, max)


def minimum(call: Reader, input: Tensor, other: Any = None, **rest: Any) -> str:
    """The rule of torch.minimum, and of torch.min with two tensors: with a constant."""
    x, bound = _with_constant(call, input, other, "a minimum")
    return _clamp(call, x, None, bound)


def maximum(call: Reader, input: Tensor, other: Any = None, **rest: Any) -> str:
    """The rule of torch.maximum, and of torch.max with two tensors: with a constant."""
    x, bound = _with_constant(call, input, other, "a maximum")
    return _clamp(call, x, bound, None)


def _with_constant(call: Reader, one: Tensor, other: Any, what: str) -> tuple[Tensor, Tensor]:
    told = f"{what} of several numbers of an image cannot be deployed"
    if not isinstance(other, Tensor):
        raise Refusal(told, instead_of_maximum(one))
    if call.varies(one) and call.varies(other):
        instead = "b + relu(a - b)" if what == "a maximum" else "a - relu(a - b)"
        raise Refusal(told, f"Use {instead}, which is {what} but for rounding, or clamp with numbers, {PARTIAL}")
    return (one, other) if call.varies(one) else (other, one)


def _clamp(call: Reader, x: Tensor, low: _Number | None, high: _Number | None) -> str:
    channels = call.channel_axis(x)
    name = call.read(x, channels)
    if tuple(call.result.shape) != tuple(x.shape):
        raise Refusal("its bounds have more dimensions than the image", f"Clamp with numbers, {PARTIAL}")
    lower, upper = _bound(call, low, no_bound=-torch.inf), _bound(call, high, no_bound=torch.inf)
    if lower is None and upper is None:
        return call.add("identity", name, channels_at=channels)
    return call.add("clamp", name, channels_at=channels, low=lower, high=upper)


def _bound(call: Reader, bound: _Number | None, no_bound: float) -> float | None:
    """Return a bound, None where there is none: also for the infinity that limits nothing."""
    if bound is None:
        return None
    if isinstance(bound, Tensor):
        if call.varies(bound):
            raise Refusal("it clamps to bounds that depend on the image", f"Clamp with numbers, {PARTIAL}")
        values = bound.detach().flatten()
        if not bool((values == values[0]).all() | values.isnan().any()):
            raise Refusal("it clamps to bounds that differ from channel to channel", f"Clamp with numbers, {PARTIAL}")
        bound = values[0]
    number = float32(bound)
    if number == no_bound:
        return None
    if not math.isfinite(number):
        raise Refusal(f"it clamps to {number}, which no file can hold", f"Clamp with finite numbers, {PARTIAL}")
    return number


def float32(number: float | Tensor) -> float:
    """Return a number as PyTorch takes it into arithmetic with float32 tensors."""
    return float(torch.as_tensor(number).to(torch.float32))


def leaky_relu(call: Reader, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> str:
    """The rule of F.leaky_relu."""
    slope, channels = _per_channel(call, negative_slope, input)
    return call.add("leaky_relu", call.read(input, channels), channels_at=channels, slope=slope)


def prelu(call: Reader, input: Tensor, weight: Tensor) -> str:
    """The rule of F.prelu."""
    name = call.read(input)
    if call.varies(weight):
        raise Refusal("its slope depends on the image", f"Use a slope that is fixed after training, {PARTIAL}")
    return call.add("leaky_relu", name, slope=weight.detach().flatten().expand(_channels(input, 1)).clone())


def elu(call: Reader, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> str:
    """The rule of F.elu."""
    numbers, channels = _per_channel(call, alpha, input)
    return call.add("elu", call.read(input, channels), channels_at=channels, alpha=_finite(numbers))


def gelu(call: Reader, input: Tensor, approximate: str = "none") -> str:
    """The rule of F.gelu."""
    channels = call.channel_axis(input)
    kind = {"none": "gelu", "tanh": "gelu_tanh"}[approximate]  # PyTorch takes no other
    return call.add(kind, call.read(input, channels), channels_at=channels)


def batch_norm(
    call: Reader,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | None = 0.1,
    eps: float = 1e-5,
) -> str:
    """The rule of F.batch_norm. PyTorch computes x·multiply + offset, and rounds once.

    Its two numbers per channel are what it gives for 1 without mean and bias, and for 0.
    """
    if training or running_mean is None or running_var is None:
        raise Refusal(
            "this batch norm takes its statistics from the batch, so an image's result depends on its neighbours",
            "Train with track_running_stats=True, or pass running_mean and running_var and training=False",
        )
    if any(call.varies(t) for t in (running_mean, running_var, weight, bias)):
        raise Refusal("its statistics or weights depend on the image", f"Use fixed ones, {PARTIAL}")
    if not _has_no_gaps(input):
        raise Refusal(
            "this batch norm reads a part of a larger tensor, for which PyTorch computes it with other roundings",
            "Copy the part first: norm(x.contiguous())",
        )
    if not _is_dense(input):
        return _batch_norm_in_steps(call, input, running_mean, running_var, weight, bias, eps)
    name = call.read(input)
    ones = torch.ones(1, input.shape[1], dtype=torch.float32)
    zeros = torch.zeros_like(ones[0])
    multiply = F.batch_norm(ones, zeros, running_var, weight, None if bias is None else zeros, False, 0.0, eps)[0]
    offset = F.batch_norm(0 * ones, running_mean, running_var, weight, bias, False, 0.0, eps)[0]
    _check_factors(multiply, offset)
    return call.add("batch_norm", name, multiply=multiply.detach(), offset=offset.detach())


def _check_factors(*factors: Tensor) -> None:
    if not all(bool(factor.isfinite().all()) for factor in factors):
        raise Refusal(
            "its statistics and weights make a factor or an offset that is NaN or infinite",
            "Load a checkpoint from before it diverged",
        )


def _batch_norm_in_steps(
    call: Reader, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> str:
    """((x − mean) · 1/√(var + eps)) · weight + bias, each rounded: what PyTorch computes of a tensor with strides.

    That is one of tokens [batch, rows, C] as it is transposed for BatchNorm1d, [batch, C, rows].
    """
    factor = 1 / (var.detach() + eps).sqrt()
    steps: list[tuple[str, str, Callable[[Tensor, Tensor], Tensor], Tensor]]
    steps = [("mean", "plus", torch.add, -mean.detach()), ("std", "times", torch.mul, factor)]
    if weight is not None:
        steps.append(("weight", "times", torch.mul, weight.detach()))
    if bias is not None:
        steps.append(("bias", "plus", torch.add, bias.detach()))
    _check_factors(*(constant for _, _, _, constant in steps))
    name = call.read(x)
    for step, kind, function, constant in steps:
        is_last = step == steps[-1][0]
        name = call.add(
            kind, name, function=_with_channels(function, constant), step="" if is_last else step, constant=constant
        )
    return name


def _with_channels(function: Callable[[Tensor, Tensor], Tensor], constant: Tensor) -> Callable[[Tensor], Tensor]:
    """Of a node's value [batch, C, *rows] and a constant [C]."""
    return lambda v: function(v, constant.view(-1, *[1] * (v.dim() - 2)))


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor has a layout that PyTorch's fast batch norm takes."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _has_no_gaps(x: Tensor) -> bool:
    """Whether a tensor is contiguous, its axes in whatever order."""
    strides = x.stride()
    return x.permute(sorted(range(x.dim()), key=lambda axis: -strides[axis])).is_contiguous()


def add(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.add."""
    _check_alpha(alpha)
    if call.varies(input) and call.varies(other):
        return _add_two(call, input, other)
    if not call.varies(input):
        input, other = other, input
    assert isinstance(input, Tensor)
    constant, channels = _per_channel(call, other, input)
    return call.add("plus", call.read(input, channels), channels_at=channels, constant=constant)


def sub(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.sub: x − c is x + (−c), and c − x is (−x) + c, without another rounding."""
    _check_alpha(alpha)
    if isinstance(input, Tensor) and call.varies(input) and not call.varies(other):
        constant, channels = _per_channel(call, other, input)
        return call.add("plus", call.read(input, channels), channels_at=channels, constant=-constant)
    assert isinstance(other, Tensor)
    if call.varies(input):
        assert isinstance(input, Tensor)
        channels = _common_axis(call, input, other)
        return _sum(call, call.read(input, channels), _negative(call, other, channels), channels)
    constant, channels = _per_channel(call, input, other)
    whole = input
    negative = _negative(call, other, channels)
    function = _with_channels(torch.add, constant) if channels != 1 else lambda v: whole + v
    return call.add("plus", negative, function=function, channels_at=channels, constant=constant)


def _negative(call: Reader, x: Tensor, channels: int) -> str:
    name = call.read(x, channels)
    constant = _minus_one(_channels(x, channels))
    return call.add(
        "times",
        name,
        function=torch.neg,
        shape=call.shape(name),
        step="neg",
        channels_at=channels,
        constant=constant,
    )


def rsub(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.rsub: other − input."""
    return sub(call, other, input, alpha=alpha)


def _check_alpha(alpha: float) -> None:
    if alpha != 1:
        raise Refusal(f"a sum with alpha={alpha} cannot be deployed", "Multiply first: x + alpha * y")


def _add_two(call: Reader, one: Any, other: Any) -> str:
    channels = _common_axis(call, one, other)
    return _sum(call, call.read(one, channels), call.read(other, channels), channels)


def _common_axis(call: Reader, one: Tensor, other: Tensor) -> int:
    """The axis that two tensors are read along: that of the first one, unless it is of fewer dimensions."""
    return call.channel_axis(one) if one.dim() == other.dim() == call.result.dim() else 1


def _sum(call: Reader, one: str, other: str, channels: int) -> str:
    wanted = call.shape_along(channels)
    inputs = _spread(call, one, wanted, channels), _spread(call, other, wanted, channels)
    return call.add("add", *inputs, function=torch.add, channels_at=channels)


def _spread(call: Reader, name: str, wanted: tuple[int, ...], channels: int) -> str:
    """Return a node of the result's shape: the node itself, or its channel or pixels repeated, as broadcasting does."""
    shape = call.shape(name)
    if shape == wanted:
        return name
    if len(shape) != len(wanted) or not 2 <= len(wanted) <= 3:
        raise Refusal(
            f"it broadcasts {_text(call, name)} to {['batch', *wanted]}",
            f"Give both tensors as many dimensions, {PARTIAL}",
        )
    if shape[0] != wanted[0]:
        one_image = (wanted[0], *shape[1:])
        name = call.add(
            "select",
            name,
            function=lambda v: v.expand(-1, *one_image).contiguous(),
            shape=one_image,
            step="channels",
            channels_at=channels,
            channels=(0,) * wanted[0],
        )
    if shape[1:] == wanted[1:]:
        return name
    return call.add(
        "adaptive_avg_pool",
        name,
        function=lambda v: v.expand(-1, *wanted).contiguous(),
        shape=wanted,
        step="pixels",
        channels_at=channels,
        output_size=wanted[1:],
    )


def mul(call: Reader, input: _Number, other: _Number) -> str:
    """The rule of torch.mul: with a constant, of two tensors, or of an image with one number per channel."""
    if call.varies(input) and call.varies(other):
        assert isinstance(input, Tensor)
        assert isinstance(other, Tensor)
        return _mul_two(call, input, other)
    if not call.varies(input):
        input, other = other, input
    assert isinstance(input, Tensor)
    constant, channels = _per_channel(call, other, input)
    return call.add("times", call.read(input, channels), channels_at=channels, constant=_finite(constant))


def _finite(constant: Tensor) -> Tensor:
    if not bool(constant.isfinite().all()):
        raise Refusal("it multiplies with a constant that is NaN or infinite", "Multiply with finite numbers")
    return constant


def _mul_two(call: Reader, input: Tensor, other: Tensor) -> str:
    channels = _common_axis(call, input, other)
    if channels == 1:
        one, two = call.read_gate(input), call.read_gate(other)
    else:
        one, two = call.read(input, channels), call.read(other, channels)
    wanted, shapes = call.shape_along(channels), (call.shape(one), call.shape(two))
    if wanted == shapes[1] != shapes[0]:
        one, two, shapes = two, one, (shapes[1], shapes[0])
    if shapes[1] == (*shapes[0][:1], *[1] * (len(shapes[0]) - 1)) != shapes[0]:
        return call.add("mul", one, two, function=_gated, channels_at=channels)
    inputs = _spread(call, one, wanted, channels), _spread(call, two, wanted, channels)
    return call.add("mul", *inputs, function=torch.mul, channels_at=channels)


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply with one number per channel, [batch, C] or with ones behind: passes take these for the same."""
    return x * gate.reshape(*x.shape[:2], *[1] * (x.dim() - 2))


def div(call: Reader, input: _Number, other: _Number, *, rounding_mode: str | None = None) -> str:
    """The rule of torch.div by a constant."""
    if rounding_mode is not None:
        raise Refusal("a division that rounds cannot be deployed", "Divide without rounding_mode")
    if not isinstance(input, Tensor) or not call.varies(input) or call.varies(other):
        raise Refusal("it divides by numbers that depend on the image", f"Divide by constants only, {PARTIAL}")
    constant, channels = _per_channel(call, other, input)
    if bool(((constant == 0) | constant.isnan()).any()):
        raise Refusal("it divides by a constant that is 0 or NaN", "Divide by other numbers")
    return call.add("divide", call.read(input, channels), channels_at=channels, constant=constant)


def neg(call: Reader, input: Tensor) -> str:
    """The rule of torch.neg: times −1."""
    channels = call.channel_axis(input)
    constant = _minus_one(_channels(input, channels))
    return call.add("times", call.read(input, channels), channels_at=channels, constant=constant)


def _minus_one(channels: int) -> Tensor:
    return torch.full((channels,), -1, dtype=torch.float32)


def _channels(x: Tensor, axis: int) -> int:
    """How many channels x has along an axis; 1 of [batch]."""
    return x.shape[axis] if x.dim() > 1 else 1


def _per_channel(call: Reader, value: _Number, x: Tensor) -> tuple[Tensor, int]:
    """Return a constant as float32 [C], and the axis of x that has these channels.

    The constant has one number for all of x, or one for each place along an axis.
    """
    if tuple(call.result.shape) != tuple(x.shape):
        raise Refusal(
            f"its constant of shape {list(torch.as_tensor(value).shape)} makes the result larger than the image",
            constant_per_channel(x),
        )
    constant = torch.as_tensor(value).detach().to(torch.float32)
    constant = constant.reshape(*[1] * (x.dim() - constant.dim()), *constant.shape)
    first = constant.flatten()[:1]
    if bool(same_numbers(constant, first).all()):
        channels = call.channel_axis(x)
        return first.expand(_channels(x, channels)).clone(), channels
    axes = [axis for axis, size in enumerate(constant.shape) if size != 1]
    if len(axes) != 1 or axes[0] == 0:
        raise Refusal(
            f"its constant of shape {list(torch.as_tensor(value).shape)} differs from pixel to pixel",
            constant_per_channel(x),
        )
    return constant.flatten().clone(), axes[0]


def _text(call: Reader, name: str) -> str:
    return str(["batch", *call.shape(name)])
