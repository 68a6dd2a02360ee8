"""What follows D in a single layer: the arguments that `Conv2d` and `Linear` share, checked once for both."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.arguments import Array, check_array, check_bits, check_bool


@dataclass(frozen=True, eq=False)
class Stages:
    """The float stage and the code stage of a layer; see `bitorch_runtime.Conv2d` for the arguments.

    `check` returns them with arrays of their own, which cannot be written, and with the bits that thresholds imply.
    """

    multiply: NDArray[np.float32] | None
    offset: NDArray[np.float32] | None
    norm_multiply: NDArray[np.float32] | None
    norm_offset: NDArray[np.float32] | None
    relu: bool
    thresholds: Array | None
    descending: NDArray[np.bool_] | None
    bits: int | None

    def check(self, channels: int) -> Stages:
        """Return what a program may be made of, later and more than once.

        Raises:
            TypeError: an argument of another type or dtype.
            ValueError: an argument that is out of range or does not fit the others, or the number of channels.
        """
        bits = self._check_codes(channels, has_floats=self._check_floats(channels))
        return replace(self, relu=bool(self.relu), bits=bits, **{name: own(a) for name, a in self.arrays.items()})

    @property
    def arrays(self) -> dict[str, Array]:
        """Those that there are, by their names in an operation."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, np.ndarray)}

    @property
    def keys(self) -> dict[str, str | int | bool]:
        """Of the operation; arrays are called as their keys are, and the result is "result"."""
        keys: dict[str, str | int | bool] = {name: name for name in self.arrays}
        if self.relu:
            keys["relu"] = True
        if self.bits is not None:
            return keys | {"bits": self.bits, "codes": "result"}
        return keys | {"int32" if self.multiply is None else "float32": "result"}

    def __str__(self) -> str:
        """The arguments that were given, each after a comma: what the repr of a layer ends with."""
        parts = [f", {name}={array.dtype} {list(array.shape)}" for name, array in self.arrays.items()]
        if self.relu:
            parts.append(", relu=True")
        if self.bits is not None:
            parts.append(f", bits={self.bits}")
        return "".join(parts)

    def _check_floats(self, channels: int) -> bool:
        """Whether there is a float stage."""
        has_floats = self.multiply is not None
        pairs = {
            "multiply": (self.multiply, self.offset, "offset"),
            "norm_multiply": (self.norm_multiply, self.norm_offset, "norm_offset"),
        }
        for name, (factor, term, term_name) in pairs.items():
            if (factor is None) != (term is None):
                raise ValueError(f"{name} and {term_name}: the float stage needs both, or neither")
            if factor is None or term is None:
                continue
            if not has_floats:
                raise ValueError(f"{name} and {term_name}: need the float stage, multiply and offset")
            check_array(name, factor, ["float32"], (channels,))
            check_array(term_name, term, ["float32"], (channels,))
        if check_bool("relu", self.relu) and not has_floats:
            raise ValueError("relu=True: needs the float stage, multiply and offset")
        return has_floats

    def _check_codes(self, channels: int, has_floats: bool) -> int | None:
        """The bits of the codes that leave, None where none do."""
        bits = None if self.bits is None else check_bits("bits", self.bits)
        if self.thresholds is None:
            if bits is not None and not has_floats:
                raise ValueError(f"bits={bits}: codes need thresholds, or the float stage, multiply and offset")
            if self.descending is not None:
                raise ValueError("descending: has a meaning only beside thresholds")
            return bits
        array = check_array("thresholds", self.thresholds, ["int32", "float32"])
        if array.dtype == np.float32 and not has_floats:
            raise ValueError(
                "thresholds: float32 ones are compared with y, which needs multiply and offset; those of D are int32"
            )
        bits = _bits_of(array, channels, bits)
        falls = np.zeros(channels, np.bool_)
        if self.descending is not None:
            falls = check_array("descending", self.descending, ["bool"], (channels,))
        _check_order(array, falls)
        return bits


def own(array: Array) -> Array:
    """Return a contiguous copy that cannot be written."""
    copy: Array = array.copy(order="C")
    copy.flags.writeable = False
    return copy


def _bits_of(thresholds: Array, channels: int, bits: int | None) -> int:
    """The bits of the codes that these thresholds give."""
    for k in range(1, 9) if bits is None else [bits]:
        if thresholds.shape == (channels, 2**k - 1):
            return k
    columns = "2^bits − 1" if bits is None else str(2**bits - 1)
    raise ValueError(f"thresholds: the shape is {thresholds.shape}, but must be ({channels}, {columns})")


def _check_order(thresholds: Array, falls: NDArray[np.bool_]) -> None:
    """Raise a ValueError unless rows never fall, or never rise where `falls` says so, NaN behind all others."""
    before, after = thresholds[:, :-1], thresholds[:, 1:]
    behind_nan = np.argwhere(np.isnan(before) & ~np.isnan(after))
    if len(behind_nan) > 0:
        channel, j = _position(behind_nan)
        raise ValueError(
            f"thresholds: {after[channel, j]} at {(channel, j + 1)} comes after NaN, which no number reaches, and "
            "which must therefore be the last"
        )
    wrong = np.argwhere(np.where(falls[:, np.newaxis], before < after, before > after))
    if len(wrong) == 0:
        return
    channel, j = _position(wrong)
    rule = "must never rise where descending is set" if falls[channel] else "must never fall, unless descending is set"
    raise ValueError(
        f"thresholds: {thresholds[channel, j + 1]} at {(channel, j + 1)} comes after {thresholds[channel, j]}, but "
        f"those of a channel {rule}"
    )


def _position(places: NDArray[np.int64]) -> tuple[int, int]:
    """The first of what np.argwhere found."""
    return int(places[0, 0]), int(places[0, 1])
