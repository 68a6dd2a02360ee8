"""Reading PyTorch files that hold tensors and plain values, without running code in them."""

from __future__ import annotations

import argparse
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import safe_globals

from .seal import check_seal

#: First bytes of the zip archive, and of the older pickle, that torch.save writes.
_ARCHIVE, _PICKLE = b"PK", b"\x80"
#: What torch.load and zipfile raise for files that only begin like one.
_DAMAGED = (
    RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, ArithmeticError,
    MemoryError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
_LONGEST_REASON = 200
#: Of parameters and buffers.
_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.bool,
)  # fmt: skip


def _what_it_is(beginning: bytes) -> str:
    """Say what a file is that begins so."""
    if beginning[8:] == b"{":
        return "it is a safetensors file, such as a packed net; name the checkpoint that it was deployed from"
    return "it does not begin like a PyTorch file"


def load_tensor_file(path: Path, kind: str) -> Any:
    """Return what torch.save has put into a file, on the CPU. Its hash, or its checksums, are compared first.

    Args:
        kind: what the file ought to be, for the message: "not a checkpoint".

    Raises:
        OSError: it cannot be read, or is no ordinary file.
        ValueError: it is something else, damaged, or holds more than tensors and plain values.
    """
    with path.open("rb") as file:
        beginning = file.read(2)
        if not beginning.startswith((_ARCHIVE, _PICKLE)):
            raise ValueError(f"{path} is {kind}, or a damaged one: {_what_it_is(beginning + file.read(7))}")
        try:
            if beginning == _ARCHIVE:
                check_seal(file)
            file.seek(0)
            # Lightning keeps the options of a training script, which are plain values too.
            with warnings.catch_warnings(), safe_globals([argparse.Namespace]):
                warnings.simplefilter("ignore")  # about how the file was written
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # its text is an advice to run the code in the file
            raise ValueError(
                f"{path} is {kind}, or a damaged one: it holds other objects than tensors and plain values; "
                "model.state_dict() has these alone"
            ) from None
        except _DAMAGED as error:
            reason = f": {str(error).splitlines()[0][:_LONGEST_REASON]}" if str(error) else ""
            raise ValueError(f"{path} is {kind}, or a damaged one{reason}") from None


def why_no_plain_tensor(value: object) -> str:
    """Return what keeps a value from being numbers in memory that can be copied; "" if nothing does."""
    if not isinstance(value, Tensor):
        return f"it is {type(value).__name__}, and no tensor"
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
        return "it is not a dense tensor of plain numbers"
    if value.dtype not in _DTYPES:
        return f"it holds {value.dtype}, which no layer here takes"
    # An expanded tensor claims to be larger than what it is kept in.
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f"it claims the shape {list(value.shape)}, and the file has fewer numbers; save tensor.clone()"
    return ""
