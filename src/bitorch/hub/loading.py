"""Reading a net from a folder, or from a repository of the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..deployment.runtime.packed_model import PackedModel
from ..model_copy import copied
from ..models import model_from_name
from ..models.pretrained import WEIGHTS_FILE, found_source, load_weights, read_config
from ..quantizations.spelling import Quantizers
from ..state_dict_file import read_state_dict
from .content import PACKED_FILE, converted
from .saving import NO_QUANTIZERS

_KINDS = ("zoo", "converted", "packed")
_KEYS = {"zoo": ("model", "arguments", "quantizers"), "converted": ("class", "conversion", "quantizers"), "packed": ()}


def load(
    source: str | os.PathLike[str],
    model: nn.Module | None = None,
    *,
    revision: str | None = None,
    quantizers: Quantizers = NO_QUANTIZERS,
) -> nn.Module | PackedModel:
    """Return the net that `save` or `push` has written: a PackedModel, or a module in eval mode. No code is run.

    Args:
        source: the folder, or the name of a repository "owner/name" of the Hugging Face hub.
        model: of a net that `quantize_` has converted, the float net, as it was built; it is copied. Else None: nets of
            the zoo are built by their names, those of your own after `register_custom_model`.
        revision: branch, tag or commit of the repository.
        quantizers: quantizer classes of your own by the names that `save` got.

    Raises:
        FileNotFoundError: there is no such source. OSError: it cannot be read.
        ImportError: a repository without the package huggingface_hub, weights without safetensors.
        ValueError: no such folder; a net that is not known here; a model that is missing, needless, or another one.
        TypeError: a model that is none.
    """
    folder = found_source(source, revision)
    if not folder.is_dir():
        raise ValueError(f"{source} is a file; name the folder that bitorch.hub.save has written")
    content = read_config(folder)
    kind = _kind(folder, content)
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if (model is None) == (kind == "converted"):
        raise ValueError(
            f"{source} holds a {content['class']} that was converted: pass model, the float net as it was built"
            if model is None
            else f"{source} holds a net of kind {kind}, which is built without a model; leave it out"
        )
    if kind == "packed":
        return PackedModel.load(folder / PACKED_FILE)
    built = _built(folder, content) if model is None else copied(model)
    net = converted(built, content, quantizers)
    load_weights(net, read_state_dict(folder / WEIGHTS_FILE), folder)
    return net.eval()


def _built(folder: Path, content: Mapping[str, Any]) -> nn.Module:
    try:
        return model_from_name(content["model"])(**content["arguments"])
    except TypeError as error:
        raise ValueError(
            f"the config of {folder} has arguments that {content['model']} does not take: {error}"
        ) from None


def _kind(folder: Path, content: Mapping[str, Any]) -> str:
    kind = content.get("kind")
    if kind not in _KINDS:
        raise ValueError(f"{folder} holds a net of kind {kind!r}, which is none of {', '.join(_KINDS)}")
    missing = [key for key in _KEYS[kind] if key not in content]
    if missing:
        raise ValueError(f"the config of {folder} has no {', '.join(missing)}")
    wrong = [key for key in ("arguments", "quantizers", "conversion") if not isinstance(content.get(key, {}), dict)]
    if wrong:
        raise ValueError(f"the config of {folder} has something else than a mapping for {', '.join(wrong)}")
    return str(kind)
