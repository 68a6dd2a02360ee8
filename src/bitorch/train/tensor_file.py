"""Reading PyTorch files that hold tensors and plain values, without running code in them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch

#: First bytes of the zip archive, and of the older pickle, that torch.save writes.
_BEGINNINGS = (b"PK", b"\x80")
#: What torch.load raises for files that only begin like one; OSError where it seeks in front of a file that was cut.
_DAMAGED = (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, OSError, struct.error)


def load_tensor_file(path: Path, kind: str) -> Any:
    """Return what torch.save has put into a file, on the CPU.

    Args:
        kind: what the file ought to be, for the message: "not a checkpoint".

    Raises:
        ValueError: it is something else, damaged, or holds more than tensors and plain values.
    """
    with path.open("rb") as file:
        beginning = file.read(2)
    if not beginning.startswith(_BEGINNINGS):
        raise ValueError(f"{path} is {kind}, or a damaged one: it does not begin like a PyTorch file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its text is an advice to run the code in the file
        raise ValueError(
            f"{path} is {kind}, or a damaged one: it holds other objects than tensors and plain values; "
            "model.state_dict() has these alone"
        ) from None
    except _DAMAGED as error:
        reason = f": {str(error).splitlines()[0]}" if str(error) else ""
        raise ValueError(f"{path} is {kind}, or a damaged one{reason}") from None
