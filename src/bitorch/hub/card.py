"""The card of a net: what is in the folder, and how it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from ..deployment.runtime.packed_model import PackedModel
from ..layers.low_bit import WeightQuantized
from ..quantizations.bits import FLOAT_BITS
from .content import PACKED_FILE

#: Where the card shows the folder's name, until it is pushed.
_HERE = "FOLDER"


def card_of(
    net: nn.Module | PackedModel, content: Mapping[str, Any], text: str | None, license: str | None, place: str = _HERE
) -> str:
    """Return README.md of a net's folder.

    Args:
        text: what else there is to say: data, accuracies, limits.
        license: as the hub names it, such as "mit".
        place: the repository, or where the folder is.
    """
    fields: dict[str, object] = {"library_name": "bitorch", "tags": ["bitorch", "low-bit", "quantization"]}
    if license is not None:
        fields["license"] = license
    front = "\n".join(f"{name}: {json.dumps(value)}" for name, value in fields.items())  # JSON is YAML too
    parts = [f"---\n{front}\n---", f"# {_title(content)}", _facts(net), _usage(content, place)]
    return "\n\n".join([*parts, *([text.strip()] if text else [])]) + "\n"


def _title(content: Mapping[str, Any]) -> str:
    names = {"zoo": content.get("model"), "converted": content.get("class"), "packed": "A packed net"}
    return str(names[content["kind"]])


def _facts(net: nn.Module | PackedModel) -> str:
    if isinstance(net, PackedModel):
        lines = [f"- `{PACKED_FILE}`: {net.nbytes:,} bytes, runs on bitorch_runtime, without PyTorch."]
        lines += [f"- takes `{spec}`" for spec in net.inputs] + [f"- gives `{spec}`" for spec in net.outputs]
        return "\n".join(lines)
    layers = [module for module in net.modules() if isinstance(module, WeightQuantized)]
    bits: dict[int, int] = {}
    for layer in layers:
        width = layer.weight_quantization.bit_width
        bits[width] = bits.get(width, 0) + layer.weight.numel()
    rows = [f"- {count:,} weights of {_width(width)}" for width, count in sorted(bits.items())]
    total = sum(parameter.numel() for parameter in net.parameters())
    return "\n".join([f"- {total:,} parameters, {len(layers)} low-bit layers", *rows])


def _width(bits: int) -> str:
    return "float" if bits == FLOAT_BITS else f"{bits} bit{'s' if bits > 1 else ''}"


def _usage(content: Mapping[str, Any], place: str) -> str:
    arguments = f"{place!r}, model" if content["kind"] == "converted" else repr(place)
    made = "  # model: the float net, as it was built" if content["kind"] == "converted" else ""
    return f"```python\nimport bitorch.hub\n\nnet = bitorch.hub.load({arguments}){made}\n```"
