"""Models of the package transformers: which class one is, and how it is built again from its config alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..differences import shortened
from ..models.pretrained import CONFIG_FILE
from ..short_repr import short_repr
from ..torchvision_operators import import_torchvision_if_installed


def package() -> Any:
    """Return transformers; ImportError, with what to install, where it is missing."""
    import_torchvision_if_installed()  # which transformers imports
    try:
        return import_module("transformers")
    except ModuleNotFoundError:
        raise ImportError(
            'models of Hugging Face need the package transformers: pip install "bitorch-lowbit[hf]"'
        ) from (None)


def class_of(net: nn.Module) -> str:
    """Return the name by which transformers has a net's class.

    Raises:
        ValueError: it is none of that package's, so that a folder cannot say how it is built.
    """
    name = type(net).__name__
    if getattr(package(), name, None) is not type(net) or not isinstance(net, package().PreTrainedModel):
        raise ValueError(
            f"{name} is no model class of transformers, so a folder cannot say how it is built; "
            "bitorch.hub.save(net, folder, config=config) writes it, and its load takes the float net"
        )
    return name


def class_named(name: object, folder: Path) -> Any:
    """Return a model class of transformers; ValueError where it has none of this name."""
    found = getattr(package(), name, None) if isinstance(name, str) else None
    if not (isinstance(found, type) and issubclass(found, package().PreTrainedModel)):
        raise ValueError(
            f"{folder} holds a {short_repr(name)}, which transformers {package().__version__} does not have; "
            "install the version that it was saved with"
        )
    return found


def built(kind: Any, config: Any) -> nn.Module:
    """Return a model of random weights; the random generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        net: nn.Module = kind(config)
    return net


def read_model_config(kind: Any, folder: Path) -> Any:
    """Return the config of a folder; ValueError for a file that is missing, or holds something else."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"{folder} has no {CONFIG_FILE}, which says how the model is built; copy the whole folder")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    expected = kind.config_class.model_type
    found = content.get("model_type") if isinstance(content, dict) else None
    if found != expected:
        raise ValueError(f"{file} is for a model of type {short_repr(found)}, and {kind.__name__} is {expected!r}")
    return kind.config_class.from_dict(content)


def float_tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the floating-point parameters and buffers of a net, those among them that no state_dict has."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        if tensor.is_floating_point():
            yield name, tensor


def dtypes_of(net: nn.Module) -> dict[str, str]:
    """Return the dtypes of a net's floating-point tensors: that of most of them as "", and others by name."""
    found = {name: _spelled(tensor.dtype) for name, tensor in float_tensors(net)}
    names = list(found.values())
    most = max(names, key=names.count, default="float32")
    return {"": most, **{name: dtype for name, dtype in found.items() if dtype != most}}


def dtype_in(dtypes: Mapping[str, str], name: str) -> torch.dtype:
    """Return a tensor's dtype in what `dtypes_of` has returned."""
    found = getattr(torch, str(dtypes.get(name, dtypes[""])), None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"there is no dtype {short_repr(dtypes.get(name, dtypes['']))}")
    return found


def set_dtypes(net: nn.Module, dtypes: Mapping[str, str]) -> None:
    """Give a net's floating-point tensors these dtypes, in place; Parameters stay the same objects."""
    for name, tensor in float_tensors(net):
        tensor.data = tensor.data.to(dtype_in(dtypes, name))


def names_of_same(net: nn.Module) -> list[list[str]]:
    """Return the names of each Parameter or buffer that a state_dict of the net has several times."""
    groups: dict[int, list[str]] = {}
    for name, tensor in net.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor):
            groups.setdefault(id(tensor), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def check_same_shared(net: nn.Module, again: nn.Module) -> None:
    """Raise a ValueError if a net shares other tensors than the one that its config builds."""
    here, there = (set(map(tuple, names_of_same(one))) for one in (net, again))
    for names in here - there:
        raise ValueError(
            f"{shortened(list(names))} are one tensor, and in the {type(net).__name__} that its config builds they are "
            "not: set config.tie_word_embeddings=True if that is what ties them, or give each its own by a clone"
        )
    for names in there - here:
        raise ValueError(
            f"{shortened(list(names))} are one tensor in the {type(net).__name__} that its config builds, and here "
            "they are not: set config.tie_word_embeddings=False"
        )


def _spelled(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
