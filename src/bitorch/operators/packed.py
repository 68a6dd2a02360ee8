"""PyTorch operators that run a low-bit layer on bitorch_runtime: `bitorch::packed_linear`, `bitorch::packed_conv2d`.

An operator takes the packed weight as a tensor, like any other, and needs a `bitorch_runtime.Program` made from it. It
finds it by the identity of the weight tensor, held weakly, and the tensor's version counter, so that a program lives
exactly as long as its weight, a weight that was written to gets a new one, and copies, pickles and exported graphs get
theirs at the first call. A data pointer alone may come back with another tensor, and a handle in the arguments would
be a constant in compiled and exported graphs, where it outlives what it stands for.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from bitorch_runtime import Program

#: How many programs are kept for one weight; a convolution needs one for each image size.
KEPT_PROGRAMS = 16

#: What `quantizer` may be. "unit": round(n·clip(x, 0, 1)). "sign": x ≥ 0, "heaviside": x > 0, both to ±1.
QUANTIZERS = ("unit", "sign", "heaviside")

#: What `weight_grid` may be. Codes of k bits are odd, −n … n with n = 2^k − 1, or signed, −2^(k−1) … 2^(k−1) − 1.
WEIGHT_GRIDS = ("odd", "signed")

_LIBRARY = torch.library.Library("bitorch", "FRAGMENT")
_LIBRARY.define(
    "packed_linear(Tensor x, Tensor weight, Tensor scale, Tensor? bias, int weight_bits, int activation_bits, "
    "str quantizer, int zero_point=0, str weight_grid='odd') -> Tensor"
)
_LIBRARY.define(
    "packed_conv2d(Tensor x, Tensor weight, Tensor scale, Tensor? bias, int[2] kernel_size, int[2] stride, "
    "int[4] padding, int[2] dilation, int groups, int weight_bits, int activation_bits, str quantizer, "
    "bool channels_last, int zero_point=0, str weight_grid='odd') -> Tensor"
)


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
) -> Tensor:
    """Quantize x, multiply it with a packed weight exactly, and scale: float32(Σ c·(q − zero_point))·scale + bias.

    Args:
        x: float32 [batch, in_features]. A NaN makes its row NaN, as in PyTorch.
        weight: uint8 [out_features, row_bytes], see `bitorch_runtime.pack_weights`.
        scale: float32, 0-dim or [out].
        bias: float32 [out_features].
        weight_bits, activation_bits: 1 to 8.
        quantizer: one of `QUANTIZERS`; the last two need activation_bits=1.
        zero_point: the code q that means 0, 0 to 2^activation_bits − 1; 0 unless the quantizer is "unit".
        weight_grid: one of `WEIGHT_GRIDS`, the one that the weight was packed with.

    Returns:
        float32 [batch, out_features], without gradient.
    """
    y: Tensor = torch.ops.bitorch.packed_linear.default(
        x, weight, scale, bias, weight_bits, activation_bits, quantizer, zero_point, weight_grid
    )
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
        quantizer: one of `QUANTIZERS`; the last two need activation_bits=1.
        channels_last: the order of x and of the result.
        zero_point, weight_grid: as of `packed_linear`.

    Returns:
        float32, in the order of x, without gradient.
    """
    y: Tensor = torch.ops.bitorch.packed_conv2d.default(
        x,
        weight,
        scale,
        bias,
        kernel_size,
        stride,
        padding,
        dilation,
        groups,
        weight_bits,
        activation_bits,
        quantizer,
        channels_last,
        zero_point,
        weight_grid,
    )
    return y


def runtime() -> ModuleType:
    """Return bitorch_runtime; an ImportError that says how to get it where it is not installed."""
    try:
        import bitorch_runtime
    except ModuleNotFoundError as error:
        if error.name != "bitorch_runtime":
            raise
        raise ImportError(
            "packed layers run on bitorch_runtime, which is not installed; "
            "install it with `pip install ./runtime` in a checkout of bitorch"
        ) from error
    return bitorch_runtime


class _Programs:
    """The programs of one packed weight, the ones used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._programs: OrderedDict[Hashable, Program] = OrderedDict()
        self._stamp: tuple[int, int] | None = None
        self._copy: Tensor | None = None

    def get(self, weight: Tensor, key: Hashable, make: Callable[[], Program]) -> Program:
        with self._lock:
            if not self._are_of(weight):
                self._programs.clear()
                self._remember(weight)
            program = self._programs.pop(key, None)
            if program is None:
                program = make()
                while len(self._programs) >= KEPT_PROGRAMS:
                    self._programs.popitem(last=False)
            self._programs[key] = program  # at the end: used last
            return program

    def _are_of(self, weight: Tensor) -> bool:
        """Whether the weight is what it was."""
        if weight.is_inference():  # has no version, so the bytes are compared
            return self._copy is not None and torch.equal(self._copy, weight)
        return self._stamp == (weight.data_ptr(), weight._version)

    def _remember(self, weight: Tensor) -> None:
        is_inference = weight.is_inference()
        self._copy = weight.clone() if is_inference else None
        self._stamp = None if is_inference else (weight.data_ptr(), weight._version)


_programs = WeakTensorKeyDictionary()
_programs_lock = threading.Lock()


def _program(weight: Tensor, key: Hashable, make: Callable[[], Program]) -> Program:
    with _programs_lock:
        programs = _programs.get(weight)
        if programs is None:
            programs = _programs[weight] = _Programs()
    return programs.get(weight, key, make)  # type: ignore[no-any-return]  # the dictionary holds Any


def kernels_of(weight: Tensor) -> tuple[str, ...]:
    """Return the names of the kernels that have multiplied a packed weight so far; () if none has."""
    programs = _programs.get(weight)
    made = [] if programs is None else list(programs._programs.values())
    products = [row for program in made for row in program.operations() if row["macs"] > 0]
    return tuple(dict.fromkeys(row["kernel"] for row in products))


class _Linear(NamedTuple):
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

    def size(self) -> tuple[int, int]:
        """Return the shape of the result, after a check of all arguments."""
        _check(self, "packed_linear", 2)
        _check_row("packed_linear", self, self.x.shape[1])
        return self.x.shape[0], self.weight.shape[0]

    def make_program(self) -> Program:
        return _make_program(self, {"op": "linear"}, [self.x.shape[1]], "nchw")

    def spread_nan(self, y: Tensor) -> None:
        """Make NaN of the outputs that see a NaN."""
        y.masked_fill_(self.x.isnan().any(dim=1, keepdim=True), torch.nan)


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

    def image(self) -> tuple[int, int, int]:
        """Return channels, height and width of x."""
        first, second, third = self.x.shape[1:]
        return (third, first, second) if self.channels_last else (first, second, third)

    def size(self) -> tuple[int, int, int, int]:
        """Return the shape of the result, in the order of x, after a check of all arguments."""
        _check(self, "packed_conv2d", 4)
        channels, height, width = self.image()
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


_Call: TypeAlias = _Linear | _Conv2d


def _check(call: _Call, operator: str, dimensions: int) -> None:
    """Check dtypes, ranges and what does not depend on the geometry."""
    x, weight, scale, bias = call.x, call.weight, call.scale, call.bias
    if x.dtype != torch.float32 or x.dim() != dimensions:
        raise ValueError(f"{operator}: x must be float32 with {dimensions} dimensions, got {x.dtype} {tuple(x.shape)}")
    if weight.dtype != torch.uint8 or weight.dim() != 2:
        raise ValueError(f"{operator}: weight must be uint8 [out, bytes], got {weight.dtype} {tuple(weight.shape)}")
    if scale.dtype != torch.float32 or scale.shape not in (torch.Size(), weight.shape[:1]):
        raise ValueError(
            f"{operator}: scale must be float32, 0-dim or [{weight.shape[0]}], got {scale.dtype} {tuple(scale.shape)}"
        )
    if bias is not None and (bias.dtype != torch.float32 or bias.shape != weight.shape[:1]):
        raise ValueError(f"{operator}: bias must be float32 [{weight.shape[0]}], got {bias.dtype} {tuple(bias.shape)}")
    for name, value in (("weight_bits", call.weight_bits), ("activation_bits", call.activation_bits)):
        if not 1 <= value <= 8:
            raise ValueError(f"{operator}: {name} must be 1 to 8, got {value}")
    if call.quantizer not in QUANTIZERS:
        known = ", ".join(map(repr, QUANTIZERS))
        raise ValueError(f"{operator}: quantizer must be one of {known}, got {call.quantizer!r}")
    if call.quantizer != "unit" and call.activation_bits != 1:
        raise ValueError(
            f"{operator}: quantizer={call.quantizer!r} needs activation_bits=1, got {call.activation_bits}"
        )
    _check_meaning(operator, call)


def _check_meaning(operator: str, call: _Call) -> None:
    """Check what codes stand for."""
    largest = 2**call.activation_bits - 1 if call.quantizer == "unit" else 0
    if not 0 <= call.zero_point <= largest:
        raise ValueError(
            f"{operator}: zero_point must be 0 to {largest} with quantizer={call.quantizer!r} and "
            f"activation_bits={call.activation_bits}, got {call.zero_point}"
        )
    if call.weight_grid not in WEIGHT_GRIDS:
        known = ", ".join(map(repr, WEIGHT_GRIDS))
        raise ValueError(f"{operator}: weight_grid must be one of {known}, got {call.weight_grid!r}")


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
    channels = call.weight.shape[0]
    # Without a bias −0.0, the number whose sum with any other is that other, bit for bit.
    offset = torch.full((channels,), -0.0) if call.bias is None else call.bias.contiguous()
    arrays = {
        "weight": call.weight.contiguous().numpy(),
        "multiply": call.scale.expand(channels).contiguous().numpy(),
        "offset": offset.numpy(),
    }
    quantize: dict[str, Any] = {"op": "quantize", "input": "x", "output": "codes", "bits": call.activation_bits}
    if call.quantizer != "unit":
        # x ≥ 0 is +1; x > 0 is x ≥ the smallest number above 0.
        threshold = 0.0 if call.quantizer == "sign" else torch.finfo(torch.float32).smallest_normal * 2.0**-23
        arrays["thresholds"] = torch.full((shape[0], 1), threshold).numpy()
        quantize["thresholds"] = "thresholds"
    layer = {
        **operation,
        "input": "codes",
        "weight": "weight",
        "weight_bits": call.weight_bits,
        "out_channels": channels,
        "weight_grid": call.weight_grid,
        "sign_activations": call.quantizer != "unit",
        "zero_point": call.zero_point,
        "multiply": "multiply",
        "offset": "offset",
        "float32": "y",
    }
    image = {"op": "input", "output": "x", "dtype": "float32", "shape": shape, "order": order}
    result = {"op": "output", "input": "y", "order": order}
    program: Program = runtime().Program([image, quantize, layer, result], arrays)
    return program


def _may_hold_nan(x: Tensor) -> bool:
    """Whether x may hold a NaN: one pass over it. Infinities of both signs are a false alarm, which only costs time."""
    return math.isnan(x.sum().item())


def _run(call: _Call) -> Tensor:
    size = call.size()
    bias = None if call.bias is None else call.bias.detach()
    call = call._replace(x=call.x.detach().contiguous(), scale=call.scale.detach(), bias=bias)
    settings = tuple(tuple(value) if isinstance(value, list) else value for value in call[4:])
    # Scale and bias are a few kilobytes, so they are compared by value.
    stages = call.scale.numpy().tobytes(), None if bias is None else bias.numpy().tobytes()
    result = _program(call.weight, (call.x.shape[1:], settings, stages), call.make_program)(call.x.numpy())
    y = torch.from_numpy(result).view(size)  # images of one pixel come as vectors
    if _may_hold_nan(call.x):
        call.spread_nan(y)
    return y


def _register(name: str, arguments: type[_Call]) -> None:
    def kernel(*values: Any) -> Tensor:
        return _run(arguments(*values))

    def fake(*values: Any) -> Tensor:
        call = arguments(*values)
        return call.x.new_empty(call.size())

    _LIBRARY.impl(name, kernel, "CPU")
    # Not differentiable: nothing is recorded, and the result requires no gradient.
    _LIBRARY.impl(name, torch.library.fallthrough_kernel, "Autograd")
    torch.library.register_fake(f"bitorch::{name}", fake, lib=_LIBRARY)


_register("packed_linear", _Linear)
_register("packed_conv2d", _Conv2d)
