"""Single layers: a program of one operation, for weights that come from anywhere."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.arguments import (
    Array,
    check_array,
    check_bits,
    check_bool,
    check_integer,
    check_padding,
    check_pair,
)
from bitorch_runtime.packing import pack_named
from bitorch_runtime.program import Program

#: How many image sizes a convolution keeps programs for.
KEPT_SIZES = 16


class Conv2d:
    """A convolution of codes with low-bit weights, NHWC, exact.

    D[b, y, x, o] = Σ c·q, the sum over the kernel window and the input channels of weight code times activation code,
    as int32. A float stage makes y = float32(D)·multiply + offset of it, rounded after the product and after the sum,
    then ``relu``. A code stage makes codes of D or of y. A call returns what the last stage gives.
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
        sign_activations: bool = False,
        multiply: NDArray[np.float32] | None = None,
        offset: NDArray[np.float32] | None = None,
        relu: bool = False,
        thresholds: Array | None = None,
        descending: NDArray[np.bool_] | None = None,
        bits: int | None = None,
    ) -> None:
        """Check and pack the weights.

        Args:
            weight_codes: integers [out_channels, in_channels/groups, kernel_h, kernel_w], as ``weight_codes()`` of
                bitorch's layers gives them: odd, from −n to n, n = 2^weight_bits − 1 (±1 at one bit).
            weight_bits: 1 to 8.
            activation_bits: of the input's codes, 1 to 8.
            stride: an int or (vertical, horizontal).
            padding: an int, (vertical, horizontal), or (top, left, bottom, right). Padding is code 0, and contributes
                nothing where `sign_activations` is set.
            dilation: an int or (vertical, horizontal).
            groups: divides both numbers of channels.
            sign_activations: the codes 0 and 1 mean −1 and +1; needs activation_bits=1.
            multiply: float32 [out_channels]; makes y of D together with `offset`.
            offset: float32 [out_channels].
            relu: y becomes max(y, 0).
            thresholds: [out_channels, 2^bits − 1], rising in each row; int32, compared with D, or float32, compared
                with y. The code is the number of thresholds that are reached.
            descending: bool [out_channels]: in these channels the code is the number of thresholds that D or y does not
                exceed, and they fall.
            bits: of the codes that leave, 1 to 8. Without thresholds the code is round((2^bits − 1)·clip(y, 0, 1)),
                half to even; with thresholds it may be left out.

        Raises:
            TypeError: an argument of another type or dtype.
            ValueError: an argument that is out of range or does not fit the others.
        """
        weight_bits = check_bits("weight_bits", weight_bits)
        if isinstance(weight_codes, np.ndarray) and weight_codes.ndim != 4:
            raise ValueError(
                f"weight_codes: the shape is {weight_codes.shape}, but must be "
                "[out_channels, in_channels/groups, kernel_h, kernel_w]"
            )
        packed = pack_named("weight_codes", weight_codes, weight_bits)
        _check_not_empty(weight_codes)
        self.out_channels, per_group = weight_codes.shape[:2]
        self.kernel_size: tuple[int, int] = (weight_codes.shape[2], weight_codes.shape[3])
        self.stride = check_pair("stride", stride, 1)
        self.padding = check_padding("padding", padding)
        self.dilation = check_pair("dilation", dilation, 1)
        self.groups = check_integer("groups", groups, 1, 2**24)
        if self.out_channels % self.groups != 0:
            raise ValueError(f"groups={groups}: must divide the {self.out_channels} output channels of weight_codes")
        self.in_channels = per_group * self.groups
        self._operation = {
            **_low_bit(weight_bits, activation_bits, sign_activations, weight_codes),
            "op": "conv2d",
            "out_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }
        self.activation_bits = int(self._operation.pop("activation_bits"))
        self._stages = _Stages.check(self.out_channels, multiply, offset, relu, thresholds, descending, bits)
        self._arrays = {"weight": packed, **self._stages.arrays}
        self._program = functools.lru_cache(maxsize=KEPT_SIZES)(self._make)

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
        result = _alone(self._program(height, width)(array))
        size = ((p - span) // s + 1 for p, span, s in zip(padded, spans, self.stride, strict=True))
        return result.reshape(len(array), *size, self.out_channels)  # a program gives images of one pixel as vectors

    def program(self, height: int, width: int) -> Program:
        """Return the program that runs images of this size, to look at it or to time it."""
        return self._program(check_integer("height", height, 1, 2**20), check_integer("width", width, 1, 2**20))

    def __repr__(self) -> str:
        return (
            f"Conv2d({self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"weight_bits={self._operation['weight_bits']}, activation_bits={self.activation_bits})"
        )

    def _make(self, height: int, width: int) -> Program:
        shape = [self.in_channels, height, width]
        return _program(self._operation, self._stages, self._arrays, shape, self.activation_bits)


class Linear:
    """A linear layer of codes with low-bit weights, exact: D[b, o] = Σ c·q; the stages are those of `Conv2d`."""

    def __init__(
        self,
        weight_codes: Array,
        *,
        weight_bits: int,
        activation_bits: int,
        sign_activations: bool = False,
        multiply: NDArray[np.float32] | None = None,
        offset: NDArray[np.float32] | None = None,
        relu: bool = False,
        thresholds: Array | None = None,
        descending: NDArray[np.bool_] | None = None,
        bits: int | None = None,
    ) -> None:
        """Check and pack the weights.

        Args:
            weight_codes: integers [out_features, in_features], odd, from −n to n, n = 2^weight_bits − 1.
            weight_bits: 1 to 8.
            activation_bits: of the input's codes, 1 to 8.
            sign_activations: as of `Conv2d`, like the arguments that follow.
            multiply: float32 [out_features].
            offset: float32 [out_features].
            relu: y becomes max(y, 0).
            thresholds: int32 or float32 [out_features, 2^bits − 1].
            descending: bool [out_features].
            bits: of the codes that leave.

        Raises:
            TypeError: an argument of another type or dtype.
            ValueError: an argument that is out of range or does not fit the others.
        """
        weight_bits = check_bits("weight_bits", weight_bits)
        if isinstance(weight_codes, np.ndarray) and weight_codes.ndim != 2:
            raise ValueError(
                f"weight_codes: the shape is {weight_codes.shape}, but must be [out_features, in_features]"
            )
        packed = pack_named("weight_codes", weight_codes, weight_bits)
        _check_not_empty(weight_codes)
        self.out_features, self.in_features = weight_codes.shape
        operation = {
            **_low_bit(weight_bits, activation_bits, sign_activations, weight_codes),
            "op": "linear",
            "out_channels": self.out_features,
        }
        self.weight_bits = weight_bits
        self.activation_bits = int(operation.pop("activation_bits"))
        stages = _Stages.check(self.out_features, multiply, offset, relu, thresholds, descending, bits)
        arrays = {"weight": packed, **stages.arrays}
        self.program = _program(operation, stages, arrays, [self.in_features], self.activation_bits)

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
        return _alone(self.program(array))

    def __repr__(self) -> str:
        return (
            f"Linear({self.in_features}, {self.out_features}, weight_bits={self.weight_bits}, "
            f"activation_bits={self.activation_bits})"
        )


@dataclass(frozen=True)
class _Stages:
    """What follows D: keys of the operation, the arrays that they name, and the key of the result."""

    keys: dict[str, Any]
    arrays: dict[str, Array]
    result: str  # "int32", "float32" or "codes"

    @classmethod
    def check(
        cls,
        channels: int,
        multiply: Array | None,
        offset: Array | None,
        relu: bool,
        thresholds: Array | None,
        descending: Array | None,
        bits: int | None,
    ) -> _Stages:
        keys: dict[str, Any] = {}
        arrays: dict[str, Array] = {}
        if (multiply is None) != (offset is None):
            raise ValueError("multiply and offset: the float stage needs both, or neither")
        has_floats = multiply is not None
        for name, array in (("multiply", multiply), ("offset", offset)):
            if array is not None:
                arrays[name] = check_array(name, array, ["float32"], (channels,))
        if check_bool("relu", relu):
            if not has_floats:
                raise ValueError("relu=True: needs the float stage, multiply and offset")
            keys["relu"] = True
        if bits is not None:
            keys["bits"] = check_bits("bits", bits)
        if thresholds is not None:
            keys["bits"] = _check_thresholds(channels, thresholds, bits, has_floats)
            arrays["thresholds"] = thresholds
        elif bits is not None and not has_floats:
            raise ValueError(f"bits={bits}: codes need thresholds, or the float stage, multiply and offset")
        if descending is not None:
            if thresholds is None:
                raise ValueError("descending: has a meaning only beside thresholds")
            arrays["descending"] = check_array("descending", descending, ["bool"], (channels,))
        # Programs are made later, one per image size: what the caller does to the arrays meanwhile must not reach them.
        arrays = {name: array.copy() for name, array in arrays.items()}
        keys |= {name: name for name in arrays}
        return cls(keys, arrays, "codes" if "bits" in keys else "float32" if has_floats else "int32")


def _check_thresholds(channels: int, thresholds: Array, bits: int | None, has_floats: bool) -> int:
    """Return the bits of the codes that these thresholds give."""
    array = check_array("thresholds", thresholds, ["int32", "float32"])
    if array.dtype == np.float32 and not has_floats:
        raise ValueError(
            "thresholds: float32 ones are compared with y, which needs multiply and offset; those of D are int32"
        )
    allowed = range(1, 9) if bits is None else [bits]
    for k in allowed:
        if array.shape == (channels, 2**k - 1):
            return k
    columns = "2^bits − 1" if bits is None else str(2**bits - 1)
    raise ValueError(f"thresholds: the shape is {array.shape}, but must be ({channels}, {columns})")


def _check_not_empty(weight_codes: Array) -> None:
    if weight_codes.size == 0:
        raise ValueError(
            f"weight_codes: the shape is {weight_codes.shape}, but there must be one or more channels and taps"
        )


def _low_bit(weight_bits: int, activation_bits: int, sign_activations: bool, weight_codes: Array) -> dict[str, Any]:
    """The keys of a low-bit operation, and "activation_bits", after a check that D fits in int32."""
    activation_bits = check_bits("activation_bits", activation_bits)
    if check_bool("sign_activations", sign_activations) and activation_bits != 1:
        raise ValueError(f"sign_activations=True: needs activation_bits=1, not {activation_bits}")
    weights = weight_codes[0].size
    largest = weights * (2**weight_bits - 1) * (1 if sign_activations else 2**activation_bits - 1)
    if largest >= 2**31:
        raise ValueError(
            f"weight_codes: {weights} weights per output can sum up to {largest} with weights of {weight_bits} and "
            f"activations of {activation_bits} bits, but int32 needs less than 2^31; use fewer bits"
        )
    return {
        "weight_bits": weight_bits,
        "activation_bits": activation_bits,
        "sign_activations": bool(sign_activations),
    }


def _program(
    operation: dict[str, Any], stages: _Stages, arrays: dict[str, Array], shape: list[int], activation_bits: int
) -> Program:
    layer = {**operation, "input": "codes", "weight": "weight", **stages.keys, stages.result: "result"}
    image = {
        "op": "input",
        "output": "codes",
        "dtype": "uint8",
        "bits": activation_bits,
        "shape": shape,
        "order": "nhwc",
    }
    return Program([image, layer, {"op": "output", "input": "result", "order": "nhwc"}], arrays)


def _alone(result: Array | dict[str, Array]) -> Array:
    """The result of a program with one output."""
    assert isinstance(result, np.ndarray)
    return result
