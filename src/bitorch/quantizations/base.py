"""What every quantizer is: few-bit values, and behind them integer codes and one scale.

A quantizer maps a float tensor to a few levels. On a fixed grid each level is an integer code times a scale, and a
quantized layer computes on the codes, which float32 holds exactly, and multiplies by the scales once at the end.

Three conventions hold everywhere in this package:

- Internal arithmetic is float32 (float64 for float64 input); `quantize` returns the input's dtype, `codes` and `scale`
  the internal one.
- `codes` is differentiable, and the gradient that arrives at a codes tensor is the gradient with respect to the *value*
  `codes * scale`. So no gradient is ever divided by a scale, and an all-zero weight, whose scale is 0, still learns. A
  learned step gets its own gradient there, too: `scale` itself has none.
- Inside an autograd Function, and nowhere else, a tensor that the Function itself made a moment ago may be changed in
  place: neither the caller nor autograd can see it. A new tensor for each step of a chain costs more than the
  arithmetic on a CPU, because new memory has to be mapped page by page.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.autograd import Function

from ..giving_way import gives_way
from . import own_values
from .arithmetic import Arithmetic
from .bits import check_bits
from .levels import divide
from .own_arguments import arguments_of

if TYPE_CHECKING:
    from typing_extensions import Self

#: Which integers weight codes are: "odd" −n, −n + 2, …, n, n = 2^bits − 1; or "signed" −2^(bits−1) … 2^(bits−1) − 1.
Grid = Literal["odd", "signed"]


#: Methods that an instance may have others for, but no numbers, where its class has them.
_CALLED = ("quantize", "forward", "codes", "scale", "zero_point")


class STE(Function):
    """Straight-through estimator: a base class whose backward passes the gradient unchanged."""

    @staticmethod
    def forward(ctx: Any, input_tensor: Tensor) -> Tensor:
        """Quantize; the subclass defines it."""
        raise NotImplementedError("a straight-through function defines its own forward(ctx, input_tensor)")

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> Any:
        """Return the gradient unchanged."""
        return output_gradient


class _DeprecatedBitwidth:
    """`bitwidth`, the documented old name of `bit_width`, readable on the class and on an instance."""

    def __get__(self, instance: Quantization | None, owner: type[Quantization]) -> int:
        warnings.warn("bitwidth is deprecated, use bit_width", DeprecationWarning, stacklevel=2)
        return owner.bit_width if instance is None else instance.bit_width


class Quantization(own_values.Remembering):
    """Base class of all quantizers. It holds no parameters or buffers, so most quantizers add no state_dict keys.

    A subclass sets `name` and `bit_width` and defines `quantize`. If its values lie on a fixed grid it also defines
    `max_code`, `codes` and `scale`; quantized layers then compute on the integers. Quantizers with a learned or
    observed range hold it in parameters or buffers of their own; a state_dict without them loads with strict=True.

    Layers use what a call gives. Where `quantize` or `forward` is overridden below the class that defines `codes`, or
    replaced on an instance, the codes do not stand for that any more, and layers compute on the values.

    A parameter, buffer or submodule may be called `scale`, `zero_point` or `codes`, unless a base class has such a
    method of its own. The other names of this class are reserved.
    """

    name: ClassVar[str] = "None"
    bit_width: int = -1
    bitwidth = _DeprecatedBitwidth()
    #: True if the codes are 0 … max_code less the zero point, so that 0.0, and zero padding, is a level; False for ±1.
    unsigned: bool = False
    #: Of weight quantizers.
    grid: Grid = "odd"
    #: Whether a number's code depends on that number alone, and on what is learned; False with statistics of tensors.
    is_pointwise: bool = True
    #: Whether codes depend on the numbers of a row, the last axis, and `scale` has one for each: [..., 1].
    is_by_row: bool = False
    #: Why there are no codes, where `max_code` is None.
    no_grid: str = "has no fixed grid"
    #: Whether what is learned, or was observed, has been set: by the weight, by calibration or by a state_dict.
    _is_set: bool = False

    if TYPE_CHECKING:

        @property
        def max_code(self) -> int | None:
            """Largest absolute code, or None while the values do not lie on a fixed grid."""
            return None

        @property
        def clips_negative(self) -> bool:
            """Whether every x < 0 gives what 0 gives, so that a ReLU in front changes nothing."""
            return False

    else:  # no properties, so that an instance of a subclass may say its own
        max_code = None
        clips_negative = False

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _CALLED and isinstance(value, nn.Module):
            nn.Module.__setattr__(self, name, value)
            self.__dict__[name] = value  # the class's method would be found first
            return
        if name in _CALLED and not callable(value):
            self._check_free(name)
        super().__setattr__(name, value)

    @property
    def exact_max_code(self) -> int | None:
        """`max_code` where codes times scale are the values that a call gives, so that layers may compute on the codes.

        None where there is no fixed grid, or where `quantize` or `forward` was overridden and the codes were not.
        """
        largest = self.max_code
        return largest if largest is not None and own_values.codes_are_values(self) else None

    @property
    def why_no_codes(self) -> str:
        """What follows the quantizer's name in messages, where `exact_max_code` is None."""
        if self.max_code is None:
            return self.no_grid
        if not own_values.has_codes(self):
            return "has a max_code, but not all of the methods codes, scale and zero_point"
        return "has a quantize or forward of its own, which its codes do not follow"

    @gives_way
    def zero_point(self) -> int:
        """Return the stored code, 0 … 2^bits − 1, that stands for 0.0: `codes` are the stored ones less this."""
        return 0

    def arithmetic(self) -> Arithmetic | None:
        """Return what the codes of activations are, in numbers, as they are now: deployment needs no more of a class.

        It is asked whether the codes are these, at every step and on both sides of it. None: the class does not say it,
        or has no codes; deployment then tries what it knows, round(n·clip(x, 0, 1)) and the signs.
        """
        return None

    def not_ready(self) -> tuple[str, str] | None:
        """Return why the codes are of no use yet, such as a range that is not set, and what to do; None if they are."""
        return None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make a new quantizer like this one, as it is now; without those that are defaults.

        Read off the attributes with the names of `__init__`'s parameters, the bits off `bit_width`. A class that keeps
        one elsewhere defines the method; without either it is a TypeError.
        """
        return arguments_of(self)

    def for_layer(self, layer: nn.Module) -> Self:
        """Return a new quantizer with the arguments of this one, for a layer, float or low-bit; it has learned nothing.

        What has something for each channel takes their number from the layer.
        """
        return type(self)(**self.arguments())

    def set_bits_(self, bits: int) -> None:
        """Change the bits in place; a range is kept, and parameters stay the same objects.

        Raises:
            ValueError, TypeError: bits outside 1…8 and 32, or a quantizer whose bits are part of what it is.
        """
        if check_bits(bits) != self.bit_width:
            raise ValueError(f"{type(self).__name__} always has {self.bit_width} bits, so it cannot get {bits}")

    def initialize_(self, weight: Tensor) -> None:
        """Set learned steps from the weight, shape [C_out, …]; quantizers without any do nothing.

        Called by the layer when it gets the quantizer, and when a state_dict without the steps is loaded.
        """

    def _loaded(self) -> None:
        """React to parameters and buffers that came out of a state_dict."""

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *rest: Any,
    ) -> None:
        """Load what there is; a state_dict with none of the keys is that of a float model, and they are not missing."""
        if any(prefix + name in state_dict for name in (*self._parameters, *self._buffers)):
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *rest)
            self._loaded()

    def quantize(self, x: Tensor) -> Tensor:
        """Quantize x, any shape, any floating dtype, to the same shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} does not define quantize(x)")

    @gives_way
    def codes(self, x: Tensor) -> Tensor:
        """Return the integers behind `quantize(x)`: same shape, float32 (float64 for float64 input), differentiable.

        The gradient that arrives here counts as the gradient of the value `codes * scale`.
        """
        raise TypeError(f"{type(self).__name__} {self.no_grid}, so it has no codes; use quantize(x)")

    @gives_way
    def scale(self, x: Tensor) -> Tensor:
        """Return what one code is worth, float32 (float64 for float64 input), without gradient.

        A 0-dim tensor; of weight quantizers with a scale per output channel [C_out, 1, …], which broadcasts against x;
        of activations with a scale for each row [..., 1].
        """
        raise TypeError(f"{type(self).__name__} {self.no_grid}, so it has no scale; use quantize(x)")

    def forward(self, x: Tensor) -> Tensor:
        """Quantize x."""
        return self.quantize(x)

    def extra_repr(self) -> str:
        return f"bits={self.bit_width}"


class CodeValue(Function):
    """Codes to values: `codes / divisor`, or `codes * step` where a step is given. Backward: g, see the module."""

    @staticmethod
    def forward(ctx: Any, codes: Tensor, divisor: int, step: Tensor | None = None) -> Tensor:
        return divide(codes, divisor) if step is None else codes * step

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None, None]:
        return output_gradient, None, None


class _CodesOf(Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, codes: Tensor) -> Tensor:
        ctx.dtype = value.dtype
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, None]:
        return output_gradient.to(ctx.dtype), None


def codes_of(value: Tensor, codes: Tensor) -> Tensor:
    """Return the codes behind values, whose gradient is that of the values: the convention of this module.

    So a quantizer can write its values down in PyTorch, with the gradients that autograd finds, and its codes beside
    them, which need none.
    """
    behind: Tensor = _CodesOf.apply(value, codes)
    return behind


def as_internal(x: Tensor, quantizer: str) -> Tensor:
    """Return x in the internal dtype: float32, or float64 for float64. Integer and complex input is a TypeError."""
    if not x.is_floating_point():
        remedy = (
            "pass pixels/255, as bitorch.data.to_float does" if x.dtype == torch.uint8 else "convert it with .float()"
        )
        raise TypeError(f"{quantizer}: the input must be a floating-point tensor, got {x.dtype}; {remedy}")
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def gradient_inside(gradient: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """Return g·1[low ≤ x ≤ high] for float32 or float64 x, in one pass.

    The operator is hardtanh's backward, whose interval is open, so the bounds move outwards to the next representable
    numbers. Comparing, combining and multiplying instead is far slower in PyTorch's CPU kernels.
    """
    inclusive: Tensor = torch.ops.aten.hardtanh_backward(gradient, x, -_just_above(-low, x), _just_above(high, x))
    return inclusive


def _just_above(bound: float, x: Tensor) -> float:
    """Return the next number above a bound ≥ 0 in the precision of x, or one that rounds to it."""
    precision = torch.finfo(x.dtype)
    if bound == 0:
        return precision.tiny * precision.eps
    if x.dtype == torch.float64:
        return math.nextafter(bound, math.inf)
    # Veltkamp's splitting rounds the bound to float32's 24 bits. Then ¾ of the relative spacing is between ¾ and 1½ of
    # the spacing there, and so rounds to 1.
    split = bound * (2.0**29 + 1)
    return (split - (split - bound)) * (1 + 0.75 * precision.eps)
