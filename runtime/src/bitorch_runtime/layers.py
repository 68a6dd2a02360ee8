"""Single layers: a program of one operation, for weights that come from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.arguments import (
    Array,
    check_array,
    check_bits,
    check_bool,
    check_choice,
    check_integer,
    check_padding,
    check_pair,
)
from bitorch_runtime.operation_keys import MOST_CHANNELS, MOST_EXTENT
from bitorch_runtime.packing import GRIDS, pack_named
from bitorch_runtime.program import Program, program_of_frozen
from bitorch_runtime.reference import code_line
from bitorch_runtime.stages import Stages, own

#: How many image sizes a convolution keeps programs for.
KEPT_SIZES = 16


@dataclass(frozen=True, eq=False)
class _Recipe:
    """What the programs of a layer are made of: one for each size of image, all with the same arrays."""

    operation: dict[str, Any]
    arrays: dict[str, Array]  # frozen
    activation_bits: int

    def program(self, *shape: int) -> Program:
        """The program for images of this shape, [C, H, W] or [F]."""
        image = {"op": "input", "output": "codes", "dtype": "uint8", "bits": self.activation_bits}
        return program_of_frozen(
            [
                {**image, "shape": shape, "order": "nhwc"},
                {**self.operation, "input": "codes", "weight": "weight"},
                {"op": "output", "input": "result", "order": "nhwc"},
            ],
            self.arrays,
        )


class _Layer:
    """What convolutions and linear layers have in common: bits, weights, stages, and programs of one operation.

    Everything but the compiled programs is state, so that layers can be pickled and copied.
    """

    def __init__(
        self,
        weight_codes: Array,
        shape: str,
        weight_bits: int,
        activation_bits: int,
        weight_grid: str,
        sign_activations: bool,
        zero_point: int,
        stages: Stages,
    ) -> None:
        """Check and pack what both have; `shape` of the weights is for errors, and says how many dimensions."""
        self.weight_bits = check_bits("weight_bits", weight_bits)
        self.weight_grid = check_choice("weight_grid", weight_grid, GRIDS)
        if isinstance(weight_codes, np.ndarray) and weight_codes.ndim != len(shape.split(",")):
            raise ValueError(f"weight_codes: the shape is {weight_codes.shape}, but must be {shape}")
        packed = pack_named("weight_codes", weight_codes, self.weight_bits, self.weight_grid)
        if weight_codes.size == 0:
            raise ValueError(
                f"weight_codes: the shape is {weight_codes.shape}, but there must be one or more channels and taps"
            )
        self.activation_bits = check_bits("activation_bits", activation_bits)
        self.sign_activations = check_bool("sign_activations", sign_activations)
        if self.sign_activations and self.activation_bits != 1:
            raise ValueError(f"sign_activations=True: needs activation_bits=1, not {self.activation_bits}")
        self.zero_point = check_integer("zero_point", zero_point, 0, 2**self.activation_bits - 1)
        if self.sign_activations and self.zero_point != 0:
            raise ValueError(f"zero_point={zero_point}: must be 0 beside sign_activations=True, where codes mean ±1")
        self._check_sums(weight_codes[0].size)
        stages = stages.check(len(weight_codes))
        self.bits = stages.bits
        self._stages = stages
        self._weight = own(packed)

    def _check_sums(self, weights: int) -> None:
        _, lowest = code_line(self.weight_bits, self.weight_grid)
        largest = weights * -lowest * (2**self.activation_bits - 1)
        if largest >= 2**31:
            raise ValueError(
                f"weight_codes: {weights} weights per output can sum up to {largest} with {self.weight_bits}-bit "
                f"weights and {self.activation_bits}-bit activations, but int32 needs less than 2^31; use fewer bits"
            )

    def _plan(self, op: str, channels: int, **geometry: Any) -> None:
        """Say what operation it is, before the first call."""
        operation = {
            "op": op,
            "out_channels": channels,
            **geometry,
            "weight_bits": self.weight_bits,
            "sign_activations": self.sign_activations,
            **self._stages.keys,
        }
        if self.weight_grid != "odd":
            operation["weight_grid"] = self.weight_grid
        if self.zero_point != 0:
            operation["zero_point"] = self.zero_point
        self._recipe = _Recipe(operation, {"weight": self._weight, **self._stages.arrays}, self.activation_bits)
        self._program = lru_cache(maxsize=KEPT_SIZES)(self._recipe.program)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_program"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._program = lru_cache(maxsize=KEPT_SIZES)(self._recipe.program)

    def _bits_and_stages(self) -> str:
        """The end of a repr."""
        text = f"weight_bits={self.weight_bits}, activation_bits={self.activation_bits}"
        if self.weight_grid != "odd":
            text += f", weight_grid={self.weight_grid!r}"
        if self.sign_activations:
            text += ", sign_activations=True"
        if self.zero_point != 0:
            text += f", zero_point={self.zero_point}"
        return f"{text}{self._stages}"


class Conv2d(_Layer):
    """A convolution of codes with low-bit weights, NHWC, exact.

    D[b, y, x, o] = Σ c·(q − zero_point), the sum over the kernel window and the input channels of weight code times
    activation code, as int32. A float stage makes y = float32(D)·multiply + offset of it, rounded after the product and
    after the sum, then y·norm_multiply + norm_offset, rounded once, then ``relu``. A code stage makes codes of D or of
    y. A call returns what the last stage gives.

    The attributes ``in_channels``, ``out_channels``, ``kernel_size``, ``stride``, ``padding`` (all four), ``dilation``,
    ``groups``, ``weight_bits``, ``activation_bits``, ``weight_grid``, ``sign_activations``, ``zero_point`` and ``bits``
    (of the codes that leave, None where none do) say what it was made of. It never changes, may be called from several
    threads at once, and can be pickled and copied.
    """

    def __init__(
        self,
        weight_codes: Array,
        *,
        weight_bits: int,
        activation_bits: int,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        weight_grid: str = "odd",
        sign_activations: bool = False,
        zero_point: int = 0,
        multiply: NDArray[np.float32] | None = None,
        offset: NDArray[np.float32] | None = None,
        norm_multiply: NDArray[np.float32] | None = None,
        norm_offset: NDArray[np.float32] | None = None,
        relu: bool = False,
        thresholds: Array | None = None,
        descending: NDArray[np.bool_] | None = None,
        bits: int | None = None,
    ) -> None:
        """Check and pack the weights.

        Args:
            weight_codes: integers [out_channels, in_channels/groups, kernel_h, kernel_w], as ``weight_codes()`` of
                bitorch's layers gives them.
            weight_bits: 1 to 8.
            activation_bits: of the input's codes, 1 to 8.
            stride: an int or (vertical, horizontal).
            padding: an int, (vertical, horizontal), or (top, left, bottom, right). Padding contributes nothing.
            dilation: an int or (vertical, horizontal).
            groups: divides both numbers of channels.
            weight_grid: "odd": weight codes are the odd integers from −n to n, n = 2^weight_bits − 1 (±1 at one bit);
                "signed": the integers from −2^(weight_bits − 1) to 2^(weight_bits − 1) − 1.
            sign_activations: the codes 0 and 1 mean −1 and +1; needs activation_bits=1.
            zero_point: the code that means 0, from 0 to 2^activation_bits − 1; 0 beside sign_activations.
            multiply: float32 [out_channels]; makes y of D together with `offset`.
            offset: float32 [out_channels].
            norm_multiply: float32 [out_channels]; beside multiply and offset, and together with `norm_offset`: a
                batch normalisation that has not been folded into them.
            norm_offset: float32 [out_channels].
            relu: y becomes max(y, 0).
            thresholds: [out_channels, 2^bits − 1], never falling within a row; int32, compared with D, or float32,
                compared with y. The code is the number of thresholds that are reached; nothing reaches NaN, which may
                stand behind all others.
            descending: bool [out_channels]: in these channels the code is the number of thresholds that D or y does not
                exceed, and they never rise.
            bits: of the codes that leave, 1 to 8. Without thresholds the code is round((2^bits − 1)·clip(y, 0, 1)),
                half to even; with thresholds it may be left out.

        Raises:
            TypeError: an argument of another type or dtype.
            ValueError: an argument that is out of range or does not fit the others.
        """
        super().__init__(
            weight_codes,
            "[out_channels, in_channels/groups, kernel_h, kernel_w]",
            weight_bits,
            activation_bits,
            weight_grid,
            sign_activations,
            zero_point,
            Stages(multiply, offset, norm_multiply, norm_offset, relu, thresholds, descending, bits),
        )
        self.out_channels, per_group = weight_codes.shape[:2]
        self.kernel_size: tuple[int, int] = (weight_codes.shape[2], weight_codes.shape[3])
        self.stride = check_pair("stride", stride, 1)
        self.padding = check_padding("padding", padding)
        self.dilation = check_pair("dilation", dilation, 1)
        self.groups = check_integer("groups", groups, 1, MOST_CHANNELS)
        if self.out_channels % self.groups != 0:
            raise ValueError(f"groups={groups}: must divide the {self.out_channels} output channels of weight_codes")
        self.in_channels = per_group * self.groups
        self._plan(
            "conv2d",
            self.out_channels,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def __call__(self, codes: NDArray[np.uint8]) -> Array:
        """Run the layer.

        The first call with images of a size plans for it; plans of the last 16 sizes are kept.

        Args:
            codes: uint8 [batch, H, W, in_channels], each code from 0 to 2^activation_bits − 1.

        Returns:
            [batch, H_out, W_out, out_channels]: D as int32, y as float32, or codes as uint8.

        Raises:
            TypeError: `codes` is no array of uint8.
            ValueError: its shape does not fit, the kernel is larger than the padded image, or a code is too large.
        """
        array = check_array("codes", codes, ["uint8"])
        if array.ndim != 4 or array.shape[3] != self.in_channels:
            raise ValueError(f"codes: the shape is {array.shape}, but must be (batch, H, W, {self.in_channels})")
        _, height, width, _ = array.shape
        spans = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))
        top, left, bottom, right = self.padding
        padded = (height + top + bottom, width + left + right)
        if height < 1 or width < 1 or padded[0] < spans[0] or padded[1] < spans[1]:
            raise ValueError(
                f"codes: images of {height} by {width} pixels, {padded[0]} by {padded[1]} with their padding, are "
                f"smaller than the kernel, which spans {spans[0]} by {spans[1]}"
            )
        result = _alone(self._program(self.in_channels, height, width)(array))
        size = ((p - span) // s + 1 for p, span, s in zip(padded, spans, self.stride, strict=True))
        return result.reshape(len(array), *size, self.out_channels)  # a program gives images of one pixel as vectors

    def program(self, height: int, width: int) -> Program:
        """Return the program that runs images of this size, to look at it or to time it.

        Raises:
            TypeError: a size is no int.
            ValueError: the kernel is larger than the padded image.
        """
        height, width = (
            check_integer(name, size, 1, MOST_EXTENT) for name, size in (("height", height), ("width", width))
        )
        return self._program(self.in_channels, height, width)

    def __repr__(self) -> str:
        return (
            f"Conv2d({self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, {self._bits_and_stages()})"
        )


class Linear(_Layer):
    """A linear layer of codes with low-bit weights, exact: D[b, o] = Σ c·(q − zero_point); stages as of `Conv2d`.

    The attributes ``in_features``, ``out_features``, ``weight_bits``, ``activation_bits``, ``weight_grid``,
    ``sign_activations``, ``zero_point`` and ``bits`` (of the codes that leave, None where none do) say what it was made
    of. It never changes, may be called from several threads at once, and can be pickled and copied.
    """

    def __init__(
        self,
        weight_codes: Array,
        *,
        weight_bits: int,
        activation_bits: int,
        weight_grid: str = "odd",
        sign_activations: bool = False,
        zero_point: int = 0,
        multiply: NDArray[np.float32] | None = None,
        offset: NDArray[np.float32] | None = None,
        norm_multiply: NDArray[np.float32] | None = None,
        norm_offset: NDArray[np.float32] | None = None,
        relu: bool = False,
        thresholds: Array | None = None,
        descending: NDArray[np.bool_] | None = None,
        bits: int | None = None,
    ) -> None:
        """Check and pack the weights.

        Args:
            weight_codes: integers [out_features, in_features].
            weight_bits: 1 to 8.
            activation_bits: of the input's codes, 1 to 8.
            weight_grid: "odd" or "signed", as of `Conv2d`, like the arguments that follow.
            sign_activations: the codes 0 and 1 mean −1 and +1.
            zero_point: the code that means 0.
            multiply: float32 [out_features].
            offset: float32 [out_features].
            norm_multiply: float32 [out_features].
            norm_offset: float32 [out_features].
            relu: y becomes max(y, 0).
            thresholds: int32 or float32 [out_features, 2^bits − 1].
            descending: bool [out_features].
            bits: of the codes that leave.

        Raises:
            TypeError: an argument of another type or dtype.
            ValueError: an argument that is out of range or does not fit the others.
        """
        super().__init__(
            weight_codes,
            "[out_features, in_features]",
            weight_bits,
            activation_bits,
            weight_grid,
            sign_activations,
            zero_point,
            Stages(multiply, offset, norm_multiply, norm_offset, relu, thresholds, descending, bits),
        )
        self.out_features, self.in_features = weight_codes.shape
        self._plan("linear", self.out_features)

    def __call__(self, codes: NDArray[np.uint8]) -> Array:
        """Run the layer.

        Args:
            codes: uint8 [batch, in_features], each code from 0 to 2^activation_bits − 1.

        Returns:
            [batch, out_features]: D as int32, y as float32, or codes as uint8.

        Raises:
            TypeError: `codes` is no array of uint8.
            ValueError: its shape does not fit, or a code is too large.
        """
        array = check_array("codes", codes, ["uint8"])
        if array.ndim != 2 or array.shape[1] != self.in_features:
            raise ValueError(f"codes: the shape is {array.shape}, but must be (batch, {self.in_features})")
        return _alone(self.program()(array))

    def program(self) -> Program:
        """Return the program that runs the layer, to look at it or to time it."""
        return self._program(self.in_features)

    def __repr__(self) -> str:
        return f"Linear({self.in_features}, {self.out_features}, {self._bits_and_stages()})"


def _alone(result: Array | dict[str, Array]) -> Array:
    """The result of a program with one output."""
    assert isinstance(result, np.ndarray)
    return result
