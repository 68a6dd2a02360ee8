"""Which bytes of a packed file are a layer's: arrays, what makes the codes of its input, and what describes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..reporting.parts import part_of

if TYPE_CHECKING:
    from ..deployment.runtime.packed_model import PackedModel

#: What an operation says of the codes that it makes.
_OF_CODES = frozenset({"bits", "codes"})


def bytes_by_layer(packed: PackedModel, layers: Sequence[str]) -> dict[str, int]:
    """Return the bytes of each layer: its share of the arrays and of the header.

    The layer that reads codes has the thresholds that make them, or from 5 bits on what takes their place: scales and
    BatchNorm, where they have no other use. It has an operation without a weight that makes them, too. What belongs to
    no layer is left out.

    Args:
        packed: as `deploy` returns it.
    """
    from bitorch_runtime.operations import array_names, given_names

    operations, arrays = packed.program()
    assert packed.owners is not None  # of deploy
    owners = packed.owners
    found, left = dict.fromkeys(layers, 0), dict(arrays)
    makers = operation_layers(packed, layers)
    for operation, maker, reader in zip(operations, makers, owners.readers, strict=True):
        reader = part_of(reader, layers)
        is_for_reader = reader is not None and given_names(operation).keys() == {"codes"}
        named = array_names(operation)
        for key, value in operation.items():
            size = _described(key, value)
            owner = reader if key in _OF_CODES else maker
            if key in named:
                made_from = part_of(owners.arrays[value], layers)
                # The weight belongs to what computes with it; other arrays may belong to the codes that they make.
                is_readers = key != "weight" and (made_from is None or is_for_reader)
                owner = reader if is_readers else made_from
                size += _stored(value, left)
            if owner is not None:
                found[owner] += size
    return found


def operation_layers(packed: PackedModel, layers: Sequence[str]) -> list[str | None]:
    """Return the layer that each operation computes, or else the one whose codes it makes; None for others.

    Args:
        packed: as `deploy` returns it.
    """
    assert packed.owners is not None  # of deploy
    operations, owners = packed.program()[0], packed.owners
    paths = (
        layer if "weight" in operation else reader
        for operation, layer, reader in zip(operations, owners.operations, owners.readers, strict=True)
    )
    return [part_of(path, layers) for path in paths]


def _described(key: str, value: object) -> int:
    """Return the bytes of one entry of an operation: JSON in a text of JSON, with a comma for the braces."""
    return len(json.dumps(json.dumps({key: value}, separators=(",", ":")))) - 3


def _stored(name: str, left: dict[str, Any]) -> int:
    """Return the bytes of an array and of its entry in the header, once; its offsets have about so many digits."""
    array = left.pop(name, None)
    if array is None:
        return 0
    entry = {name: {"dtype": "F32", "shape": list(array.shape), "data_offsets": [array.nbytes, array.nbytes]}}
    return int(array.nbytes) + len(json.dumps(entry, separators=(",", ":"))) - 1
