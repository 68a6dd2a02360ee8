"""Trained weights for the nets of the zoo: a file's, a folder's, a repository's, or those of a version table."""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from ..differences import differences
from ..layers.description import set_quantizers
from ..layers.qconv import _Convolution
from ..state_dict_file import read_state_dict
from .version_table import fetch_weights

NetT = TypeVar("NetT", bound=nn.Module)

#: Of the Hugging Face hub: its owner and its name.
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

#: Of a folder that `bitorch.hub.save` writes.
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
#: Of a repository; what else is in it is for people.
_DOWNLOADED = [CONFIG_FILE, "*.safetensors"]
#: What the file of the config is, and how it is read.
FORMAT = "bitorch hub, 1"
#: What keys of a state dict begin with that was taken of a net which this one is a part of, or the other way around.
_LIGHTNING, _ZOO = "model.", "_model."
_PREFIXES = ("", _LIGHTNING, "module.", "_orig_mod.", f"{_LIGHTNING}module.", f"{_LIGHTNING}_orig_mod.")


def lightning_checkpoint_to_state_dict(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the state dict of the net that a checkpoint of Lightning keeps as `self.model`, "model." taken off.

    Entries of other parts, such as metrics and teachers, are left out.

    Args:
        checkpoint: as torch.load gives it.

    Raises:
        ValueError: it has no "state_dict", or that has no key which begins with "model.".
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping):
        raise ValueError(
            f'a checkpoint of Lightning has a "state_dict"; this one has {", ".join(map(str, checkpoint))}'
        )
    found = {key.removeprefix(_LIGHTNING): value for key, value in state.items() if key.startswith(_LIGHTNING)}
    if not found:
        raise ValueError(f'no key begins with "{_LIGHTNING}", as those of self.model do: {", ".join(list(state)[:4])}')
    return found


def set_pad_value(net: nn.Module, pad_value: float) -> None:
    """Have all low-bit convolutions of a net that pad, and were built without a pad_value, pad with this one, in place.

    Unsigned quantizers such as InputDoReFa pad with 0 here, and did with −1 in BITorch: a net that it has trained needs
    set_pad_value(net, -1).

    Raises:
        ValueError, TypeError: what a layer says of such a pad_value. Layers in front of it have it then.
    """
    for module in net.modules():
        if isinstance(module, _Convolution) and not module._is_pad_value_given and _pads(module):
            module.pad_value = pad_value


def _pads(layer: _Convolution) -> bool:
    return any(width for border in layer._borders() for width in border)


def build_pretrained(
    cls: Callable[..., NetT],
    source: str | os.PathLike[str] | None,
    arguments: Mapping[str, Any],
    *,
    name: str,
    table_url: str,
    pad_value: float | None,
    download_path: str | os.PathLike[str],
) -> NetT:
    """Return a new net of the zoo with trained weights; what `Model.from_pretrained` does, see there.

    Args:
        cls: makes the net of arguments.
        name, table_url: its own; where its weights are, if there is no source.
    """
    if source is None:
        file = fetch_weights(table_url, download_path, {"model_name": name, **arguments}, _defaults(cls))
        return _loaded(cls(**arguments), file, pad_value)
    path = found_source(source)
    if path.is_file():
        return _loaded(cls(**arguments), path, pad_value)
    content = read_config(path)
    if content.get("kind") != "zoo" or content.get("model") != name or "conversion" in content:
        what = content.get("model", f"a net of kind {content.get('kind')}")
        what += ", converted" if "conversion" in content else ""
        raise ValueError(f"{source} holds {what}, and not a plain {name}; bitorch.hub.load reads what is there")
    return build_from_folder(cls, path, content, arguments, pad_value)


def build_from_folder(
    cls: Callable[..., NetT],
    folder: Path,
    content: Mapping[str, Any],
    arguments: Mapping[str, Any],
    pad_value: float | None,
) -> NetT:
    """Return the net of a folder, built by `cls` of its own arguments and those given, which win over them."""
    net = cls(**{**content["arguments"], **arguments})
    set_quantizers(net, content["quantizers"])
    return _loaded(net, folder / WEIGHTS_FILE, pad_value)


def found_source(source: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Return the file or folder that a source is; a name such as "owner/name" is downloaded from the Hugging Face hub.

    Raises:
        FileNotFoundError: it is neither. ImportError: huggingface_hub is not installed.
        OSError: the repository cannot be read.
    """
    path = Path(source)
    if path.exists():
        return path
    if not _REPOSITORY.fullmatch(os.fspath(source)):
        raise FileNotFoundError(f"there is no file or folder {path}, and it is no repository such as owner/name")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError:
        raise ImportError(
            f"there is no file or folder {path}; as a repository of the Hugging Face hub it needs the package "
            'huggingface_hub: pip install "bitorch-lowbit[hub]"'
        ) from None
    try:
        return Path(snapshot_download(os.fspath(source), revision=revision, allow_patterns=_DOWNLOADED))
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise OSError(f"there is no file or folder {path}, and no such repository can be read: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """Return what the config of a folder says; ValueError for one that `bitorch.hub.save` has not written."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise ValueError(f"{folder} has no {CONFIG_FILE}; name a folder that bitorch.hub.save has written")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f'{file} has no "format": "{FORMAT}"; it is another library\'s, or of a newer bitorch')
    return content


def load_weights(net: nn.Module, state: Mapping[str, Tensor], source: object) -> None:
    """Load a state dict strictly, whatever part of a training script its keys begin with.

    Raises:
        ValueError: other keys or shapes than the net's, which the message lists.
    """
    wanted = net.state_dict()
    fitting = _with_keys_of(wanted, state)
    # PyTorch's loader makes up for this one, which older files lack.
    counted = {key for key in wanted if key.endswith("num_batches_tracked") and key not in fitting}
    found = differences({key: value for key, value in wanted.items() if key not in counted}, fitting)
    if found:
        raise ValueError(f"the weights {source} do not fit {type(net).__name__}: {found}")
    net.load_state_dict({**{key: wanted[key] for key in counted}, **fitting})


def _with_keys_of(wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict with the net's keys, where a prefix is all that is between them; else as it is."""
    needed = {key for key in wanted if not key.endswith("num_batches_tracked")}
    for prefix in _PREFIXES:
        part = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        for found in (part, {_ZOO + key: value for key, value in part.items()}):
            if needed <= found.keys() <= wanted.keys():
                return found
    return dict(state)


def _loaded(net: NetT, file: Path, pad_value: float | None) -> NetT:
    if pad_value is not None:
        set_pad_value(net, pad_value)
    load_weights(net, read_state_dict(file), file)
    return net


def _defaults(cls: Callable[..., nn.Module]) -> dict[str, Any]:
    parameters = inspect.signature(cls).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.default is not parameter.empty}
