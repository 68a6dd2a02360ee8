"""Checks of arguments, shared by layers and packing: each error names the argument, its value and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch_runtime.operation_keys import MOST_EXTENT

Array = NDArray[Any]


def check_integer(name: str, value: object, low: int, high: int) -> int:
    """Return `value` as an int; a bool is none.

    Raises:
        TypeError: `value` is no integer.
        ValueError: `value` is not in [low, high].
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}={value!r}: must be an int from {low} to {high}, not {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{name}={value}: must be an int from {low} to {high}")
    return int(value)


def check_bits(name: str, value: object) -> int:
    """Return a number of bits, 1 to 8."""
    return check_integer(name, value, 1, 8)


def check_bool(name: str, value: object) -> bool:
    """Return `value` as a bool.

    Raises:
        TypeError: `value` is no bool.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}: must be True or False")
    return bool(value)


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """Return `value`, one of these texts.

    Raises:
        TypeError: `value` is no str.
        ValueError: `value` is another text.
    """
    expected = " or ".join(map(repr, choices))
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r}: must be {expected}, not {type(value).__name__}")
    if value not in choices:
        raise ValueError(f"{name}={value!r}: must be {expected}")
    return value


def check_numbers(name: str, value: object, low: int, counts: Sequence[int]) -> tuple[int, ...]:
    """Return one int for all axes, or a sequence of as many ints as one of `counts` says, as a tuple.

    Raises:
        TypeError: neither an int nor a sequence of ints.
        ValueError: a wrong number of ints, or one that is not in [low, 2^20].
    """
    if isinstance(value, (int, np.integer)):
        return (check_integer(name, value, low, MOST_EXTENT),)
    expected = " or ".join(str(count) for count in counts)
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name}={value!r}: must be an int, or {expected} of them")
    if len(value) not in counts:
        raise ValueError(f"{name}={value!r}: must be an int, or {expected} of them")
    return tuple(check_integer(name, item, low, MOST_EXTENT) for item in value)


def check_pair(name: str, value: object, low: int) -> tuple[int, int]:
    """Return an int, or (vertical, horizontal), as such a pair; errors as `check_numbers`."""
    numbers = check_numbers(name, value, low, [2])
    return numbers[0], numbers[-1]


def check_padding(name: str, value: object) -> tuple[int, int, int, int]:
    """Return an int, (vertical, horizontal) or (top, left, bottom, right) as the last of these.

    Errors as `check_numbers`.
    """
    numbers = check_numbers(name, value, 0, [2, 4])
    if len(numbers) == 4:
        return numbers[0], numbers[1], numbers[2], numbers[3]
    return numbers[0], numbers[-1], numbers[0], numbers[-1]


def check_array(name: str, value: object, dtypes: Sequence[str], shape: tuple[int, ...] | None = None) -> Array:
    """Return an array of one of these dtypes and, where given, this shape.

    Raises:
        TypeError: no array, or another dtype.
        ValueError: another shape.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name}: must be a NumPy array, not {type(value).__name__}")
    if value.dtype.name not in dtypes or not value.dtype.isnative:
        raise TypeError(
            f"{name}: the dtype is {value.dtype.str} ({value.dtype}), but must be {' or '.join(dtypes)}; use astype"
        )
    if shape is not None and value.shape != shape:
        raise ValueError(f"{name}: the shape is {value.shape}, but must be {shape}")
    return value
