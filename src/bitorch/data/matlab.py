"""MATLAB's .mat files, by SciPy."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the variables of these names.

    Raises:
        ValueError: no .mat file of version 7 or below, a damaged one, or one without these variables.
        OSError: it cannot be read. ImportError: SciPy is not installed.
    """
    try:
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    except ImportError as error:
        raise ImportError('.mat files need SciPy: pip install ".[train]" in a checkout of bitorch') from error
    try:
        found: dict[str, Any] = loadmat(path, variable_names=names, squeeze_me=False)
    except (
        MatReadError, NotImplementedError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError,
        MemoryError, AttributeError, struct.error, zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is no .mat file that can be read, or a damaged one: {error}") from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"{path} is a damaged .mat file: {error}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"{path} has no {' and no '.join(missing)}")
    return found
