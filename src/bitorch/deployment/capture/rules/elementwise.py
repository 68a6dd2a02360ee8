"""Rules for functions of single numbers: activations, arithmetic, batch norm, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..builder import Reader
from ..problems import PARTIAL, Refusal
from .remedies import constant_per_channel, instead_of_maximum

_Number = int | float | Tensor


def activation(kind: str) -> Callable[..., str]:
    """Return the rule of a function without parameters: "relu", "sigmoid", …"""

    def rule(call: Reader, input: Tensor, inplace: bool = False) -> str:
        return call.add(kind, call.read(input))

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
    name = call.read(x)
    if tuple(call.result.shape) != tuple(x.shape):
        raise Refusal("its bounds have more dimensions than the image", f"Clamp with numbers, {PARTIAL}")
    lower, upper = _bound(call, low, no_bound=-torch.inf), _bound(call, high, no_bound=torch.inf)
    if lower is None and upper is None:
        return call.add("identity", name)
    return call.add("clamp", name, low=lower, high=upper)


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
    name = call.read(input)
    return call.add("leaky_relu", name, slope=_per_channel(call, negative_slope, input))


def prelu(call: Reader, input: Tensor, weight: Tensor) -> str:
    """The rule of F.prelu."""
    name = call.read(input)
    if call.varies(weight):
        raise Refusal("its slope depends on the image", f"Use a slope that is fixed after training, {PARTIAL}")
    return call.add("leaky_relu", name, slope=weight.detach().flatten().expand(_channels(input)).clone())


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
    name = call.read(input)
    if training or running_mean is None or running_var is None:
        raise Refusal(
            "this batch norm takes its statistics from the batch, so an image's result depends on its neighbours",
            "Train with track_running_stats=True, or pass running_mean and running_var and training=False",
        )
    if any(call.varies(t) for t in (running_mean, running_var, weight, bias)):
        raise Refusal("its statistics or weights depend on the image", f"Use fixed ones, {PARTIAL}")
    if not _is_dense(input):
        raise Refusal(
            "this batch norm reads a part of a larger tensor, for which PyTorch computes it with other roundings",
            "Copy the part first: norm(x.contiguous())",
        )
    ones = torch.ones(1, input.shape[1], dtype=torch.float32)
    zeros = torch.zeros_like(ones[0])
    multiply = F.batch_norm(ones, zeros, running_var, weight, None if bias is None else zeros, False, 0.0, eps)[0]
    offset = F.batch_norm(0 * ones, running_mean, running_var, weight, bias, False, 0.0, eps)[0]
    if not bool((multiply.isfinite() & offset.isfinite()).all()):
        raise Refusal(
            "its statistics and weights make a factor or an offset that is NaN or infinite",
            "Load a checkpoint from before it diverged",
        )
    return call.add("batch_norm", name, multiply=multiply.detach(), offset=offset.detach())


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor has a layout that PyTorch's fast batch norm takes."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def softmax(log: bool) -> Callable[..., str]:
    """Return the rule of softmax or log_softmax over channels."""

    def rule(call: Reader, input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> str:
        name = call.read(input)
        implicit = 0 if input.dim() in (0, 1, 3) else 1  # as F.softmax has it
        if (implicit if dim is None else dim % input.dim()) != 1:
            raise Refusal(
                "it is a softmax over another dimension than the channels",
                f"Use dim=1 where channels are meant, {PARTIAL}",
            )
        return call.add("softmax", name, log=log)

    return rule


def add(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.add."""
    _check_alpha(alpha)
    if call.varies(input) and call.varies(other):
        return _add_two(call, input, other)
    if not call.varies(input):
        input, other = other, input
    assert isinstance(input, Tensor)
    name = call.read(input)
    return call.add("plus", name, constant=_per_channel(call, other, input))


def sub(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.sub: x − c is x + (−c), and c − x is (−x) + c, without another rounding."""
    _check_alpha(alpha)
    if isinstance(input, Tensor) and call.varies(input) and not call.varies(other):
        name = call.read(input)
        return call.add("plus", name, constant=-_per_channel(call, other, input))
    assert isinstance(other, Tensor)
    name = call.read(other)
    negative = call.add(
        "times",
        name,
        function=torch.neg,
        shape=tuple(other.shape[1:]),
        step="neg",
        constant=_minus_one(other),
    )
    if call.varies(input):
        assert isinstance(input, Tensor)
        return _sum(call, call.read(input), negative)
    constant = input
    return call.add(
        "plus",
        negative,
        function=lambda v: constant + v,
        constant=_per_channel(call, constant, other),
    )


def rsub(call: Reader, input: _Number, other: _Number, *, alpha: float = 1) -> str:
    """The rule of torch.rsub: other − input."""
    return sub(call, other, input, alpha=alpha)


def _check_alpha(alpha: float) -> None:
    if alpha != 1:
        raise Refusal(f"a sum with alpha={alpha} cannot be deployed", "Multiply first: x + alpha * y")


def _add_two(call: Reader, one: Any, other: Any) -> str:
    return _sum(call, call.read(one), call.read(other))


def _sum(call: Reader, one: str, other: str) -> str:
    return call.add("add", _spread(call, one), _spread(call, other), function=torch.add)


def _spread(call: Reader, name: str) -> str:
    """Return a node of the result's shape: the node itself, or its channel or pixels repeated, as broadcasting does."""
    shape, wanted = call.shape(name), tuple(call.result.shape[1:])
    if shape == wanted:
        return name
    if len(shape) != len(wanted) or len(wanted) < 2:
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
    name = call.read(input)
    return call.add("times", name, constant=_finite(_per_channel(call, other, input)))


def _finite(constant: Tensor) -> Tensor:
    if not bool(constant.isfinite().all()):
        raise Refusal("it multiplies with a constant that is NaN or infinite", "Multiply with finite numbers")
    return constant


def _mul_two(call: Reader, input: Tensor, other: Tensor) -> str:
    one, two = call.read_gate(input), call.read_gate(other)
    shapes = call.shape(one), call.shape(two)
    if tuple(call.result.shape[1:]) == shapes[1] != shapes[0]:
        one, two, shapes = two, one, (shapes[1], shapes[0])
    if shapes[1] == (*shapes[0][:1], *[1] * (len(shapes[0]) - 1)) != shapes[0]:
        return call.add("mul", one, two, function=_gated)
    return call.add("mul", _spread(call, one), _spread(call, two), function=torch.mul)


def _gated(x: Tensor, gate: Tensor) -> Tensor:
    """Multiply with one number per channel, [batch, C] or with ones behind: passes take these for the same."""
    return x * gate.reshape(*x.shape[:2], *[1] * (x.dim() - 2))


def div(call: Reader, input: _Number, other: _Number, *, rounding_mode: str | None = None) -> str:
    """The rule of torch.div by a constant."""
    if rounding_mode is not None:
        raise Refusal("a division that rounds cannot be deployed", "Divide without rounding_mode")
    if not isinstance(input, Tensor) or not call.varies(input) or call.varies(other):
        raise Refusal("it divides by numbers that depend on the image", f"Divide by constants only, {PARTIAL}")
    name = call.read(input)
    constant = _per_channel(call, other, input)
    if bool(((constant == 0) | constant.isnan()).any()):
        raise Refusal("it divides by a constant that is 0 or NaN", "Divide by other numbers")
    return call.add("divide", name, constant=constant)


def reciprocal(call: Reader, input: Tensor, other: _Number = 1) -> str:
    """The rule of constant / x: there is none."""
    raise Refusal("it divides by numbers that depend on the image", f"Divide by constants only, {PARTIAL}")


def neg(call: Reader, input: Tensor) -> str:
    """The rule of torch.neg: times −1."""
    return call.add("times", call.read(input), constant=_minus_one(input))


def _minus_one(x: Tensor) -> Tensor:
    return torch.full((_channels(x),), -1, dtype=torch.float32)


def _channels(x: Tensor) -> int:
    """C of [batch, C, …]; 1 of [batch]."""
    return x.shape[1] if x.dim() > 1 else 1


def pow(call: Reader, input: _Number, exponent: _Number) -> str:
    """The rule of torch.pow: a square is the number times itself, and so rounds as PyTorch's."""
    if not isinstance(input, Tensor) or isinstance(exponent, Tensor) or exponent != 2:
        raise Refusal(
            "powers other than squares cannot be deployed", f"Write powers as products, as x * x * x, {PARTIAL}"
        )
    name = call.read(input)
    return call.add("mul", name, name, function=torch.mul)


def square(call: Reader, input: Tensor) -> str:
    """The rule of torch.square."""
    return pow(call, input, 2)


def _per_channel(call: Reader, value: _Number, x: Tensor) -> Tensor:
    """Return a constant as float32 [C], if it has one number per channel of x or one for all."""
    if tuple(call.result.shape) != tuple(x.shape):
        raise Refusal(
            f"its constant of shape {list(torch.as_tensor(value).shape)} makes the result larger than the image",
            constant_per_channel(x),
        )
    constant = torch.as_tensor(value).detach().to(torch.float32)
    constant = constant.reshape(*[1] * (x.dim() - constant.dim()), *constant.shape)
    if not bool((constant == constant.flatten()[:1]).all()):
        if any(size != 1 for axis, size in enumerate(constant.shape) if axis != 1):
            raise Refusal(
                f"its constant of shape {list(torch.as_tensor(value).shape)} differs from pixel to pixel",
                constant_per_channel(x),
            )
        return constant.flatten().clone()
    return constant.flatten()[:1].expand(_channels(x)).clone()


def _text(call: Reader, name: str) -> str:
    return str(["batch", *call.shape(name)])
