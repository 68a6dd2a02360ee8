"""Writing a net into a folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from torch import Tensor, nn

from ..atomic_file import write_and_rename, write_text
from ..conversion.layer_configs import Configs
from ..deployment.runtime.packed_model import PackedModel
from ..models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from ..quantizations.spelling import Quantizers
from .card import card_of
from .content import PACKED_FILE, as_text, content_of

NO_QUANTIZERS: Quantizers = MappingProxyType({})


def save(
    net: nn.Module | PackedModel,
    folder: str | os.PathLike[str],
    *,
    config: Configs | None = None,
    quantizers: Quantizers = NO_QUANTIZERS,
    card: str | None = None,
    license: str | None = None,
) -> None:
    """Write a net into a folder: its weights, config.json, which says how it is built again, and a card, README.md.

    Args:
        net: one of `bitorch.models`' zoo, or one of your own; any net that `quantize_` has converted; or a packed net.
        folder: made if it is not there. Files of these names in it are replaced.
        config: that `quantize_` got, a LowBitConfig or rules; of a zoo net that was not converted, and of a packed one,
            None.
        quantizers: names of quantizer classes of your own, as for `save_rules`.
        card: what else the card says: data, accuracies, limits.
        license: as the hub names it, such as "mit".

    Raises:
        TypeError: a net that is none. ImportError: the package safetensors is missing.
        ValueError: what `load` could not build again; the message says why.
        OSError: the folder cannot be written to.
    """
    save_as(net, Path(folder), config=config, quantizers=quantizers, card=card, license=license, place=str(folder))


def save_as(
    net: nn.Module | PackedModel,
    folder: Path,
    *,
    config: Configs | None,
    quantizers: Quantizers,
    card: str | None,
    license: str | None,
    place: str,
) -> None:
    """Write a net into a folder whose card says another place; as `save`."""
    content = content_of(net, config, quantizers)
    readme = card_of(net, content, card, license, place)
    if isinstance(net, PackedModel):
        folder.mkdir(parents=True, exist_ok=True)
        net.save(folder / PACKED_FILE)
    else:
        weights = safetensors_bytes(net.state_dict())
        folder.mkdir(parents=True, exist_ok=True)

        def write(file: IO[bytes]) -> None:
            file.write(weights)

        write_and_rename(folder / WEIGHTS_FILE, write)
    write_text(folder / "README.md", readme)
    write_text(folder / CONFIG_FILE, as_text(content))  # last: without it there is no net


def safetensors_bytes(state: Mapping[str, Any]) -> bytes:
    """Return a state dict as safetensors has it; tensors that share memory are written for each name."""
    try:
        from safetensors.torch import save as to_bytes
    except ModuleNotFoundError:
        raise ImportError('saving weights needs the package safetensors: pip install "bitorch-lowbit[hub]"') from None
    others = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(f"the net's state_dict holds more than tensors: {', '.join(others[:4])}")
    return to_bytes({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()})
