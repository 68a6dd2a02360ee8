"""Other names for the tensors of a program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bitorch_runtime.operations import OPERATIONS


def renamed(operation: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return an operation with the new names of its tensors; those that `names` lacks stay."""
    row = OPERATIONS[operation["op"]]
    tensors = {*row.reads, *row.gives}

    def new(value: Any) -> Any:
        return [names.get(name, name) for name in value] if isinstance(value, list) else names.get(value, value)

    return {key: new(value) if key in tensors else value for key, value in operation.items()}
