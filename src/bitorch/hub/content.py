"""What a folder says of a net, beside its weights: all that building it again takes, in types that JSON has."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from ..config.low_bit_config import LowBitConfig
from ..conversion.layer_configs import Configs, rules_or_config
from ..conversion.plan import plan_conversion
from ..conversion.quantize import carry_out
from ..conversion.rules_file import entries_of, rules_from
from ..deployment.runtime.packed_model import PackedModel, TensorSpec
from ..differences import differences
from ..layers.description import describe_quantizers, set_quantizers
from ..models import Model
from ..models.pretrained import FORMAT
from ..quantizations.spelling import Quantizers

#: Of a packed net.
PACKED_FILE = "net.bit.safetensors"


def content_of(net: nn.Module | PackedModel, config: Configs | None, quantizers: Quantizers) -> dict[str, Any]:
    """Return what the config of a folder says of a net; errors as `bitorch.hub.save`."""
    if isinstance(net, PackedModel):
        if config is not None:
            raise ValueError("a packed net is low-bit as it is, and takes no config; leave it out")
        ports = {"inputs": net.inputs, "outputs": net.outputs}
        return {"format": FORMAT, "kind": "packed", **{name: list(map(_port, specs)) for name, specs in ports.items()}}
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module or a PackedModel, got {type(net).__name__}")
    conversion = None if config is None else spelled_conversion(config, quantizers)
    if isinstance(net, Model):
        return _of_zoo(net, conversion, quantizers)
    if conversion is None:
        raise ValueError(
            f"{type(net).__name__} is none of bitorch.models' zoo, so a folder must say how it was made low-bit: pass "
            "config, the LowBitConfig or the rules that quantize_ got"
        )
    described = describe_quantizers(net, quantizers)
    if not described:
        raise ValueError(f"{type(net).__name__} has no low-bit layer; convert it with quantize_ and the config first")
    return {
        "format": FORMAT,
        "kind": "converted",
        "class": type(net).__name__,
        "conversion": conversion,
        "quantizers": described,
    }


def converted(net: nn.Module, content: Mapping[str, Any], quantizers: Quantizers) -> nn.Module:
    """Make a net low-bit as a folder says, in place, and return it."""
    conversion = content.get("conversion")
    if conversion is not None:
        convert_again(net, conversion, quantizers)
    set_quantizers(net, content["quantizers"], quantizers)
    return net


def convert_again(net: nn.Module, conversion: Mapping[str, Any], quantizers: Quantizers) -> None:
    """Convert a net as a folder says, in place; how much of it becomes low-bit was told when it was done first."""
    rules = conversion.get("rules")
    if rules is None:
        config: Configs = LowBitConfig.from_dict(conversion["config"], quantizers)
    else:
        config = rules_from(rules, quantizers)
    carry_out(net, plan_conversion(net, config, None))


def spelled_conversion(config: Configs, quantizers: Quantizers) -> dict[str, Any]:
    """Return a config or rules in types that JSON has, for `convert_again`."""
    checked = rules_or_config(config)
    if isinstance(checked, LowBitConfig):
        return {"config": checked.to_dict(quantizers)}
    return {"rules": entries_of(checked, quantizers)}


def _of_zoo(net: Model, conversion: dict[str, Any] | None, quantizers: Quantizers) -> dict[str, Any]:
    content = {
        "format": FORMAT,
        "kind": "zoo",
        "model": net.name,
        "arguments": _arguments(net),
        "quantizers": describe_quantizers(net, quantizers),
    }
    if conversion is not None:
        content["conversion"] = conversion
    _check_built_again(net, content, quantizers)
    return content


def _arguments(net: Model) -> dict[str, Any]:
    def plain(value: object) -> object:
        if isinstance(value, list | tuple):
            return list(map(plain, value))
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise ValueError(f"{net.name} was built with {value!r}, which a file cannot hold; build it with plain values")

    return {name: plain(value) for name, value in net._arguments.items()}


def _check_built_again(net: Model, content: Mapping[str, Any], quantizers: Quantizers) -> None:
    """Raise a ValueError where a net that is built again, without memory, would not take the weights."""
    make: Callable[..., Model] = type(net)
    with torch.device("meta"):
        again = make(**net._arguments)
        try:
            converted(again, content, quantizers)
        except ValueError as error:
            raise ValueError(
                f"{net.name} is not as it was built: {error}; of one that quantize_ has converted, pass its config"
            ) from None
    found = differences(again.state_dict(), net.state_dict())
    if found:
        raise ValueError(
            f"{net.name} is not as it was built: {found}. Only what its arguments say can be built again: save "
            "net.state_dict() of a net with other layers"
        )


def _port(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": str(spec.dtype).removeprefix("torch."), "shape": list(spec.shape)}


def as_text(content: Mapping[str, Any]) -> str:
    """Return the config as its file has it."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
