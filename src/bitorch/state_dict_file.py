"""A state dict in a file: safetensors, or what torch.save has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .short_repr import short_repr
from .tensor_file import load_tensor_file, why_no_plain_tensor

#: Keys that files put their state dict under.
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a file, on the CPU. No code in it is run.

    Args:
        path: *.safetensors, or a PyTorch file that holds a state dict, alone or under "state_dict", "model_state_dict"
            or "model".

    Raises:
        FileNotFoundError: no such file. ImportError: a safetensors file without the package.
        ValueError: no such file format, or a damaged file.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no ordinary file; name a file of weights")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of weights {path}")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = state_dict_of(load_tensor_file(path, "no PyTorch file of tensors alone"), path)
    for name, tensor in state.items():
        if why := why_no_plain_tensor(tensor):
            raise ValueError(f"{path} holds no weights that can be copied: {short_repr(name)}: {why}")
    return state


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ModuleNotFoundError:
        raise ImportError(f"{path} needs the package safetensors: pip install safetensors") from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or a damaged one: {error}") from None


def state_dict_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the state dict that a file holds, alone or under "state_dict", "model_state_dict" or "model"."""
    for key in ("", *_WRAPPERS):
        state = content if key == "" else content.get(key) if isinstance(content, Mapping) else None
        if (
            isinstance(state, Mapping)
            and state
            and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items())
        ):
            return dict(state)
    held = "no mapping"
    if isinstance(content, Mapping):
        held = (
            f"a mapping with {', '.join(short_repr(key).strip(chr(39)) for key in list(content)[:4])}"
            if content
            else "an empty mapping"
        )
    raise ValueError(f"{path} holds {held}, and no state dict; save model.state_dict() alone")
