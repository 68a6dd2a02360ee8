"""Which low-bit layers bitorch_runtime's kernels compute on integers in training, and what keeps the others from it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor, nn

from ..quantizations import GradientDoReFa, GradientSigned, InputDoReFa, Quantization
from ..quantizations.bits import FLOAT_BITS
from ..quantizations.gradients import codes_are_gradients
from ..quantizations.own_values import is_as_made
from ..quantizations.ranges import RangeQuantization
from .exact import INT32_LIMIT, base_of_sums
from .input_quantizer import quantizer_of
from .watched import is_watched

#: What a layer computes with. "auto": with integers where it can, else with floats.
Kernels = Literal["auto", "float", "integer"]
#: Gradient grids of the kernels: that of GradientDoReFa, and that of GradientSigned.
Grid = Literal["odd", "signed"]
#: How many levels above the lowest one a byte can tell apart.
_MOST_LEVELS = 255
#: Of a call without a backward, for which the kernels are worth while.
_FEWEST_PRODUCTS = 2**22


class InputForm(NamedTuple):
    """How activations become codes.

    Attributes:
        bits: of the codes, 1 to 8.
        low: the least code, where the quantizer makes them; None where the kernels do, as InputDoReFa.
        clips: whether the kernels leave out the gradient outside 0 … 1.
    """

    bits: int
    low: int | None
    clips: bool


class GradientForm(NamedTuple):
    """How the kernels make codes of gradients."""

    bits: int
    grid: Grid

    @property
    def largest(self) -> int:
        """The largest code, in the kernels' sums."""
        return (1 << self.bits) - 1


class Ways(NamedTuple):
    """How a layer computes on integers.

    Attributes:
        form: how activations become codes.
        max_codes: the largest absolute codes of input and weight.
    """

    form: InputForm
    max_codes: tuple[int, int]


class TrainingKernels(NamedTuple):
    """What a layer computes its training steps with.

    Attributes:
        forward, backward: "integer" or "float".
        why: what keeps one of them from integers, a sentence; "" where nothing does.
    """

    forward: Literal["integer", "float"]
    backward: Literal["integer", "float"]
    why: str


class Layer(Protocol):
    """What is asked of a low-bit layer here."""

    @property
    def kernels(self) -> Kernels: ...
    @property
    def activation(self) -> nn.Module: ...
    @property
    def weight(self) -> Tensor: ...
    @property
    def weight_quantization(self) -> Quantization: ...
    @property
    def gradient_quantization(self) -> Quantization | None: ...
    def _max_codes(self) -> tuple[int, int] | None: ...
    def _inputs_per_output(self) -> int: ...
    def _group_size(self) -> int | None: ...
    def _quantizer_weight(self) -> Tensor: ...
    def _border_code(self, grid: int) -> int: ...
    def _pixels(self, x: Tensor) -> int: ...
    def _geometry_obstacle(self) -> str | None: ...


def check_kernels(kernels: object) -> Kernels:
    """Return a choice of kernels; ValueError where it is none."""
    if kernels not in get_args(Kernels):
        raise ValueError(f"kernels must be one of {', '.join(map(repr, get_args(Kernels)))}, got {kernels!r}")
    return kernels  # type: ignore[return-value]  # just checked


def training_kernels(layer: Layer) -> TrainingKernels:
    """Return what a layer computes with on this machine, by what is known before a call: for tables."""
    if layer.kernels == "float":
        return TrainingKernels("float", "float", 'kernels="float"')
    ways = layer_ways(layer)
    why = ways if isinstance(ways, str) else machine_obstacle()
    if why is not None:
        return TrainingKernels("float", "float", why)
    assert not isinstance(ways, str)  # nothing is in the way
    backward = gradient_form(layer, ways)
    return TrainingKernels("integer", *("float", backward) if isinstance(backward, str) else ("integer", ""))


def static_obstacle(layer: Layer) -> str | None:
    """Return why a layer cannot compute on integers whatever the machine, backward among it, or None."""
    ways, quantizer = layer_ways(layer), layer.gradient_quantization
    if isinstance(ways, str):
        return ways
    if quantizer is None or quantizer.bit_width == FLOAT_BITS:
        return None
    gradient = gradient_form(layer, ways)
    return gradient if isinstance(gradient, str) else None


def call_ways(layer: Layer, x: Tensor) -> Ways | str:
    """Return how a layer computes this call on integers, or why it cannot. Backward may still have to take floats."""
    why: str | None = machine_obstacle()
    if why is not None:
        return why
    weight = layer.weight
    if not x.is_cpu or not weight.is_cpu:
        return f"the input is on {x.device}"
    if x.dtype == torch.float64 or weight.dtype == torch.float64:
        return "numbers are float64"
    if x.numel() == 0:
        return "the input is empty"
    if is_traced():
        return "a tracer wants operators of PyTorch"
    if is_watched(layer.activation, quantizer_of(layer.activation), layer.weight_quantization):
        return "there are hooks on its quantizers"
    if layer.kernels == "auto" and _is_small(layer, x):
        return "floats are faster for so few products"
    return layer_ways(layer)


def _is_small(layer: Layer, x: Tensor) -> bool:
    """Say whether a call without a backward is so small that calling the kernels takes longer than what they save."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():  # which would take a size for a constant
        return False
    return layer.weight.numel() * layer._pixels(x) * x.shape[0] < _FEWEST_PRODUCTS


def layer_ways(layer: Layer) -> Ways | str:
    """Return how a layer computes on integers where the machine can, or why it cannot."""
    max_codes = layer._max_codes()
    if max_codes is None:
        return "it multiplies values, not codes"
    if quantizer_of(layer.activation).is_by_row:
        return "each row of its input has a scale of its own"
    if layer._group_size() is not None:
        return "each group of inputs of its weight has a scale of its own"
    form = _input_form(layer)
    if form is None:
        return f"{quantizer_of(layer.activation)} has more than {_MOST_LEVELS + 1} levels around 0"
    if ((1 << form.bits) - 1) * max_codes[1] * layer._inputs_per_output() >= INT32_LIMIT:
        return "its sums may leave 32 bits"
    why = layer._geometry_obstacle()
    return Ways(form, max_codes) if why is None else why


def gradient_form(layer: Layer, ways: Ways, x: Tensor | None = None) -> GradientForm | str:
    """Return how a layer that multiplies integers goes backward on them, or why it cannot.

    Args:
        x: the input of a call; None for what holds for all.
    """
    quantizer = layer.gradient_quantization
    if quantizer is None or quantizer.bit_width == FLOAT_BITS:
        return "gradients are floats"
    grid = _gradient_grid(quantizer)
    if grid is None:
        return f"the codes of {type(quantizer).__name__} are not the kernels'"
    form = GradientForm(quantizer.bit_width, grid)
    weight = layer._quantizer_weight()
    terms = weight.shape[0] * math.prod(weight.shape[2:])
    is_too_wide = base_of_sums(terms, ways.max_codes[1], form.largest) is None
    if x is not None:
        if is_watched(quantizer):
            return "there are hooks on its quantizer of gradients"
        # A sample has as many outputs as inputs, with borders, at most.
        is_too_wide |= layer._pixels(x) * _MOST_LEVELS * form.largest >= INT32_LIMIT
    return "the sums of its gradients may leave 32 bits" if is_too_wide else form


def _input_form(layer: Layer) -> InputForm | None:
    """Return how a layer's activations become codes; None where they do not fit a byte."""
    quantizer = quantizer_of(layer.activation)
    largest = quantizer.max_code
    assert largest is not None  # it has codes
    border = layer._border_code(largest)
    if isinstance(quantizer, InputDoReFa) and is_as_made(quantizer, InputDoReFa, "codes") and 0 <= border <= largest:
        return InputForm(quantizer.bit_width, None, quantizer.variant == "paper")
    low, high = _range_of_codes(quantizer, largest)
    low, high = min(low, border), max(high, border)
    return InputForm((high - low).bit_length(), low, False) if high - low <= _MOST_LEVELS else None


def _range_of_codes(quantizer: Quantization, largest: int) -> tuple[int, int]:
    """Return the least and the greatest code."""
    if isinstance(quantizer, RangeQuantization):
        if not quantizer._is_offset:
            return 0, largest
        if not quantizer._is_set or torch.compiler.is_compiling():  # which has no numbers of tensors
            return -largest, largest
        return -quantizer.zero_point(), largest - quantizer.zero_point()
    return 0 if quantizer.unsigned else -largest, largest


def _gradient_grid(quantizer: Quantization) -> Grid | None:
    """Return the kernels' name of the codes that a gradient quantizer makes; None where they do not know them."""
    if not codes_are_gradients(quantizer):
        return None
    cls = type(quantizer)
    grids: tuple[tuple[type[GradientDoReFa | GradientSigned], Grid], ...] = (
        (GradientDoReFa, "odd"),
        (GradientSigned, "signed"),
    )
    for known, grid in grids:
        if cls._rounded is known._rounded and cls._grid is known._grid and cls._axes is known._axes:
            return grid
    return None


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def machine_obstacle() -> str | None:
    """Return why no layer can compute on integers here, a sentence; None where they can."""
    return _machine_obstacle()


def _machine_obstacle() -> str | None:
    try:
        from bitorch_runtime import training

        obstacles = training.obstacles()
    except ModuleNotFoundError as error:
        return (
            f"{error.name} is not installed, which the integer kernels need (pip install ./runtime in a checkout of "
            "bitorch)"
        )
    except (ImportError, ValueError) as error:  # it does not run here
        return str(error)
    return obstacles[0] if obstacles else None


def is_traced() -> bool:
    """Say whether a tracer is at work that wants PyTorch's own operators; torch.compile takes others, too."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined]  # not in its __all__
