"""Reading a low-bit model of transformers from a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..deployment.partial.pack_layers import PartialDeployment, packed_from
from ..deployment.partial.partial_file import PARTIAL_FORMAT, PartialFile
from ..differences import differences, shortened
from ..layers.low_bit import LowBit
from ..models.pretrained import FORMAT
from ..quantizations.spelling import Quantizers
from .content import convert_again, converted
from .saving import NO_QUANTIZERS
from .saving_pretrained import DESCRIPTION_FILE, GENERATION_FILE, LOW_BIT, PACKED
from .shards import read_state
from .transformers_nets import (
    built,
    class_named,
    dtype_in,
    float_tensors,
    names_of_same,
    package,
    read_model_config,
    set_dtypes,
)

_KEYS = {LOW_BIT: ("class", "conversion", "dtypes", "quantizers"), PACKED: ("class", "conversion", "dtypes", "layers")}


def load_pretrained(
    folder: str | os.PathLike[str], *, dtype: torch.dtype | None = None, quantizers: Quantizers = NO_QUANTIZERS
) -> nn.Module:
    """Return the model that `save_pretrained` has written, in eval mode. No code in it is run.

    Nothing is downloaded. The class is built from config.json, converted as bitorch.json says, and gets the weights:
    what is missing, or there besides, is an error.

    Args:
        folder: of `save_pretrained`.
        dtype: None: that of the model that was saved. torch.float32 makes one of float32 of a model in half precision.
        quantizers: quantizer classes of your own by the names that `save_pretrained` got.

    Returns:
        The low-bit model, which can be trained on; or a PartialDeployment, with the model as its `model`.

    Raises:
        FileNotFoundError: no such folder. ImportError: transformers, or safetensors, is missing.
        ValueError: a folder without its description, such as one that transformers has written; a file of weights that
            is missing; weights of another dtype than the description says, missing ones, or ones too many; a packed
            model with dtype, whose bits are what they are.
        TypeError: dtype is none.
    """
    place = Path(folder)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype such as torch.float32, got {dtype!r}")
    content = _description(place)
    if content["kind"] == PACKED and dtype is not None:
        raise ValueError(f"{place} holds a packed model, whose numbers are fixed; leave dtype out")
    kind = class_named(content["class"], place)
    config = read_model_config(kind, place)
    config._attn_implementation = content.get("attention")  # their sums are in other orders
    net = built(kind, config)
    saved = content["dtypes"]
    wanted = saved if dtype is None else {"": str(dtype).removeprefix("torch.")}
    set_dtypes(net, wanted)
    if (place / GENERATION_FILE).is_file():
        net.generation_config = package().GenerationConfig.from_pretrained(place, local_files_only=True)
    state = read_state(place)
    if content["kind"] == PACKED:
        return _packed(net, content, state, quantizers, place)
    converted(net, content, quantizers)
    set_dtypes(net, wanted)  # of the quantizers, too
    _check_dtypes(state, saved, place)
    _fill(net, state, place)
    return net.eval()


def _packed(
    net: nn.Module, content: Mapping[str, Any], state: dict[str, Tensor], quantizers: Quantizers, place: Path
) -> PartialDeployment:
    convert_again(net, content["conversion"], quantizers)
    _take_dtypes(net, state, "")  # of quantizers in layers that are not packed
    for name, layer in net.named_modules():
        if name in content["layers"] and isinstance(layer, LowBit):
            _take_dtypes(layer.input_quantization, state, f"{name}.input_quantization.")
    held = {"format": PARTIAL_FORMAT, "layers": content["layers"], "state": state, "hash": content.get("hash")}
    return packed_from(PartialFile(place, held), net.eval())


def _take_dtypes(module: nn.Module, state: Mapping[str, Tensor], prefix: str) -> None:
    """Give a module's tensors the dtypes that they have in a state dict, in place."""
    for name, tensor in float_tensors(module):
        if prefix + name in state:
            tensor.data = tensor.data.to(state[prefix + name].dtype)


def _check_dtypes(state: Mapping[str, Tensor], saved: Mapping[str, str], place: Path) -> None:
    """Raise a ValueError for weights that somebody has converted since they were saved."""
    other = [
        f"{name} ({str(tensor.dtype).removeprefix('torch.')})"
        for name, tensor in state.items()
        if tensor.is_floating_point() and tensor.dtype != dtype_in(saved, name)
    ]
    if other:
        raise ValueError(
            f"the weights of {place} are not of the dtype that {DESCRIPTION_FILE} says, {saved['']}: "
            f"{shortened(other)}; save the model by bitorch.hub.save_pretrained in the dtype that it is to have"
        )


def _fill(net: nn.Module, state: dict[str, Tensor], place: Path) -> None:
    """Load a state dict strictly, in which a tensor with several names has one of them."""
    complete = dict(state)
    for names in names_of_same(net):
        known = [name for name in names if name in state]
        if known:
            complete.update({name: state[known[0]] for name in names if name not in state})
    found = differences(net.state_dict(), complete)
    if found:
        raise ValueError(f"the weights of {place} do not fit {type(net).__name__}, and nothing is loaded: {found}")
    net.load_state_dict(complete)


def _description(place: Path) -> dict[str, Any]:
    if not place.is_dir():
        if place.exists():
            raise ValueError(f"{place} is a file; name the folder that bitorch.hub.save_pretrained has written")
        raise FileNotFoundError(f"there is no folder {place}; nothing is downloaded here")
    file = place / DESCRIPTION_FILE
    if not file.is_file():
        raise ValueError(
            f"{place} has no {DESCRIPTION_FILE}, which says how a model is low-bit; bitorch.hub.save_pretrained writes "
            "it. A folder of transformers holds a float model: load it with from_pretrained, and call quantize_"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'{file} has no "format": "{FORMAT}"; it is damaged, or of a newer bitorch')
    kind = content.get("kind")
    if kind not in _KEYS:
        raise ValueError(f"{file} is of a net of kind {kind!r}, which is none of {', '.join(map(repr, _KEYS))}")
    wrong = [key for key in _KEYS[kind] if not isinstance(content.get(key), str if key == "class" else dict)]
    if wrong or not isinstance(content["dtypes"].get(""), str):
        raise ValueError(f"{file} lacks {shortened(wrong) or 'the dtype of the weights'}, or has something else there")
    return content
