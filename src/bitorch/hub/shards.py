"""A state dict in safetensors: one file, or several with an index, as Hugging Face has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from torch import Tensor

from ..atomic_file import write_and_rename, write_text
from ..differences import shortened
from ..state_dict_file import read_state_dict
from .saving import safetensors_bytes

#: Not the name that transformers looks for: it would load low-bit weights as float ones, without a word.
WEIGHTS = "bitorch.safetensors"
INDEX = "bitorch.safetensors.index.json"


def write_state(folder: Path, state: Mapping[str, Tensor], max_shard_bytes: int) -> None:
    """Write tensors into one file, or into several of at most so many bytes of tensors each, and an index."""
    shards = _shards(state, max_shard_bytes)
    names = [WEIGHTS] if len(shards) == 1 else [_name(number, len(shards)) for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        content = safetensors_bytes(shard)

        def write(file: IO[bytes], content: bytes = content) -> None:
            file.write(content)

        write_and_rename(folder / name, write)
    if len(shards) == 1:
        (folder / INDEX).unlink(missing_ok=True)  # of a larger net, which was here before
        return
    places = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    size = sum(map(_size, state.values()))
    write_text(folder / INDEX, json.dumps({"metadata": {"total_size": size}, "weight_map": places}, indent=1) + "\n")
    (folder / WEIGHTS).unlink(missing_ok=True)


def read_state(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder.

    Raises:
        ValueError: a file of weights is missing, damaged, or lacks tensors that the index has in it.
    """
    index = folder / INDEX
    if not index.is_file():
        if not (folder / WEIGHTS).is_file():
            raise ValueError(f"{folder} has neither {WEIGHTS} nor {INDEX}; copy the whole folder")
        return read_state_dict(folder / WEIGHTS)
    places = _read_index(index)
    names = sorted(set(places.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} lacks {shortened(missing)} of the {len(names)} files that {INDEX} names; copy the whole folder"
        )
    state: dict[str, Tensor] = {}
    for name in names:
        state.update(read_state_dict(folder / name))
    lost = [key for key in places if key not in state]
    if lost:
        raise ValueError(f"the files of {folder} lack {shortened(lost)}, which {INDEX} has; copy the whole folder")
    return state


def _read_index(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    # A name of a file beside the index, and no path to somewhere else.
    is_map = isinstance(places, dict) and all(
        isinstance(name, str) and Path(name).name == name for name in places.values()
    )
    if not isinstance(places, dict) or not is_map:
        raise ValueError(f'{file} has no "weight_map" from names of tensors to names of files')
    return places


def _shards(state: Mapping[str, Tensor], most: int) -> list[dict[str, Tensor]]:
    """Return the tensors in their order, cut where a file would get too large; one alone may be larger."""
    shards: list[dict[str, Tensor]] = [{}]
    used = 0
    for key, tensor in state.items():
        if shards[-1] and used + _size(tensor) > most:
            shards.append({})
            used = 0
        shards[-1][key] = tensor
        used += _size(tensor)
    return shards


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _name(number: int, count: int) -> str:
    return f"bitorch-{number:05}-of-{count:05}.safetensors"
