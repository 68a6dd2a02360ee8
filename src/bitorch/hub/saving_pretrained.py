"""Writing a low-bit model of transformers into a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic_file import write_text
from ..conversion.layer_configs import Configs
from ..deployment.partial.pack_layers import PartialDeployment
from ..deployment.partial.partial_file import packed_layers, partial_content
from ..differences import differences
from ..layers.description import describe_quantizers
from ..layers.low_bit import Converted
from ..models.pretrained import CONFIG_FILE, FORMAT
from ..quantizations.spelling import Quantizers
from .content import as_text, convert_again, spelled_conversion
from .saving import NO_QUANTIZERS
from .shards import write_state
from .transformers_nets import built, check_same_shared, class_of, dtypes_of, names_of_same

#: What says how the weights are low-bit; config.json beside it is that of transformers.
DESCRIPTION_FILE = "bitorch.json"
GENERATION_FILE = "generation_config.json"
LOW_BIT, PACKED = "transformers", "transformers, packed"
#: Where several files begin: 5 GB, as Hugging Face has it.
_SHARD_BYTES = 5 * 10**9


def save_pretrained(
    net: nn.Module,
    folder: str | os.PathLike[str],
    *,
    config: Configs,
    quantizers: Quantizers = NO_QUANTIZERS,
    max_shard_bytes: int = _SHARD_BYTES,
) -> None:
    """Write a low-bit model of transformers, or its packed form, into a folder that `load_pretrained` reads.

    The folder has config.json and generation_config.json, as transformers writes them, bitorch.json, which says how the
    model is low-bit, and the weights in bitorch.safetensors. That is not the name that transformers' `from_pretrained`
    looks for: it would take the weights for those of a float model. A tensor with several names is written once.

    Args:
        net: a model of a class of transformers that `quantize_` has converted, or what `deploy(net, partial=True)` has
            made of it.
        folder: made if it is not there. Files of these names in it are replaced.
        config: that `quantize_` got, a LowBitConfig or rules.
        quantizers: names of quantizer classes of your own, as for `save_rules`.
        max_shard_bytes: of tensors in one file; more of them get several files and an index.

    Raises:
        TypeError: net is no module, or max_shard_bytes no int. ImportError: transformers or safetensors is missing.
        ValueError: what `load_pretrained` could not build again: a class that transformers does not have, no low-bit
            layer, another config than that of the conversion, tensors that are shared in another way.
        OSError: the folder cannot be written to.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {type(net).__name__}")
    if isinstance(max_shard_bytes, bool) or not isinstance(max_shard_bytes, int):
        raise TypeError(f"max_shard_bytes must be an int, got {max_shard_bytes!r}")
    if max_shard_bytes < 1:
        raise ValueError(f"max_shard_bytes must be at least 1, got {max_shard_bytes}")
    model: Any = net.model if isinstance(net, PartialDeployment) else net
    content: dict[str, Any] = {"format": FORMAT, "kind": LOW_BIT, "class": class_of(model)}
    content["conversion"] = spelled_conversion(config, quantizers)
    content["dtypes"] = dtypes_of(model)
    content["attention"] = model.config._attn_implementation  # "sdpa", "eager" and so on; config.json has it not
    if isinstance(net, PartialDeployment):
        state = _packed_state(model, content)
    else:
        state = _low_bit_state(model, content, quantizers)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    (place / DESCRIPTION_FILE).unlink(missing_ok=True)  # until all is there, there is no model
    write_state(place, state, max_shard_bytes)
    write_text(place / CONFIG_FILE, _config_text(model))
    if model.can_generate():
        write_text(place / GENERATION_FILE, model.generation_config.to_json_string())
    write_text(place / DESCRIPTION_FILE, as_text(content))


def _packed_state(model: nn.Module, content: dict[str, Any]) -> dict[str, Tensor]:
    held = partial_content(model)
    content |= {"kind": PACKED, "layers": held["layers"], "hash": held["hash"]}
    # Of the weights before they were packed, which the results still have.
    of_weights = {name: str(layer.output_dtype) for name, layer in packed_layers(model).items()}
    content["dtypes"] |= {f"{name}.weight": dtype.removeprefix("torch.") for name, dtype in of_weights.items()}
    state: dict[str, Tensor] = held["state"]
    return state


def _low_bit_state(model: Any, content: dict[str, Any], quantizers: Quantizers) -> dict[str, Tensor]:
    name = type(model).__name__
    if not any(isinstance(module, Converted) for module in model.modules()):
        raise ValueError(
            f"{name} has no low-bit layer; convert it with quantize_ and the config first, or save a float model with "
            "its own save_pretrained"
        )
    content["quantizers"] = describe_quantizers(model, quantizers)
    _check_built_again(model, content, quantizers)
    others = {name for names in names_of_same(model) for name in names[1:]}
    return {key: tensor for key, tensor in model.state_dict().items() if key not in others}


def _check_built_again(model: Any, content: dict[str, Any], quantizers: Quantizers) -> None:
    """Raise a ValueError where a model that is built again, without memory, would not take the weights."""
    name = type(model).__name__
    with torch.device("meta"):
        again = built(type(model), type(model.config).from_dict(model.config.to_dict()))
    try:
        convert_again(again, content["conversion"], quantizers)
    except ValueError as error:
        raise ValueError(f"{name} was not converted by this config alone: {error}") from None
    found = differences(again.state_dict(), model.state_dict())
    if not found and list(describe_quantizers(again, quantizers)) != list(content["quantizers"]):
        found = "other layers are low-bit"
    if found:
        raise ValueError(
            f"{name} is not what its config builds and this conversion makes of it: {found}. Pass the config that "
            "quantize_ got, and say by rules what filter_fn said"
        )
    check_same_shared(model, again)


def _config_text(model: Any) -> str:
    config = json.loads(model.config.to_json_string(use_diff=True))
    return json.dumps({**config, "architectures": [type(model).__name__]}, indent=2, sort_keys=True) + "\n"
