"""What all of the reference is written with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Integers: TypeAlias = NDArray[np.int64]


Floats: TypeAlias = NDArray[np.float32]


Operation: TypeAlias = Mapping[str, Any]


def levels(bits: int) -> int:
    """n = 2^bits − 1, the largest code."""
    return (1 << bits) - 1
