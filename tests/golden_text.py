"""A packed program as text that can be read in a diff: operations, arrays, and how each table of kernels plans it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitorch import PackedModel

#: Keys of operations that say which tensors come and go; the others are shown as they are.
_ENDS = ("op", "input", "inputs", "output", "float32", "int32", "codes", "residual")
_PLANNED = "planned by "
_RESULTS = "results"


def program_text(title: str, packed: PackedModel) -> str:
    """The title, the operations, and the arrays that they name."""
    operations, arrays = packed.program()
    users: dict[str, list[str]] = {name: [] for name in arrays}
    rows = []
    for operation, planned in zip(operations, packed.operations(), strict=True):
        keys = []
        for key in sorted(operation.keys() - set(_ENDS)):
            value = operation[key]
            if isinstance(value, str) and value in arrays:
                users[value].append(f"{key} of {_subject(planned)}")
                keys.append(key)
            else:
                keys.append(f"{key}={_setting(value)}")
        if "residual" in operation:
            keys.append(f"residual={operation['residual']}")
        # A residual stands beside the keys, as the stage that adds it.
        reads = operation["inputs"] if "inputs" in operation else [operation.get("input", "")]
        rows.append((operation["op"], ", ".join(reads), "→", ", ".join(_gives(operation, planned)), " ".join(keys)))
    kept = [
        (name, arrays[name].dtype.name, _times(arrays[name].shape), ", ".join(users[name])) for name in sorted(arrays)
    ]
    return "\n\n".join([title, _table("operations", rows), _table("arrays", kept)])


def plan_text(kernels: str, plan: Sequence[Mapping[str, Any]]) -> str:
    """How a table of kernels computes each operation, and how it stores what the operation gives."""
    rows = [
        (
            _subject(operation),
            operation["kernel"],
            f"{operation['weight_bytes']} bytes" if operation["weight_bytes"] else "",
            ", ".join(_stored(tensor) for tensor in operation["outputs"]),
        )
        for operation in plan
    ]
    return _table(f"{_PLANNED}{kernels}", rows)


def results_text(results: Mapping[str, Sequence[float]]) -> str:
    """Every number of every output, in as many digits as tell it from its neighbours."""
    rows = []
    for name, values in results.items():
        numbers: NDArray[np.float32] = np.asarray(values, np.float32)
        rows += [(name if i == 0 else "", *map(str, numbers[i : i + 5])) for i in range(0, len(numbers), 5)]
    return _table(_RESULTS, rows)


def blocks(text: str) -> dict[str, str]:
    """The parts of a file by their first lines; the title's part and the program's are "program"."""
    found: dict[str, str] = {}
    for block in text.rstrip("\n").split("\n\n"):
        first = block.partition("\n")[0]
        name = first if first == _RESULTS or first.startswith(_PLANNED) else "program"
        found[name] = f"{found[name]}\n\n{block}" if name in found else block
    return found


def planned_by(kernels: str) -> str:
    """The first line of a plan's block."""
    return f"{_PLANNED}{kernels}"


def _subject(planned: Mapping[str, Any]) -> str:
    """The tensor that an operation is called after: its first output, or what leaves."""
    outputs = planned["outputs"]
    return str(outputs[0]["name"]) if outputs else f"output of {planned['inputs'][0]}"


def _gives(operation: Mapping[str, Any], planned: Mapping[str, Any]) -> Iterator[str]:
    for tensor in planned["outputs"]:
        values = f"{tensor['bits']}-bit codes" if tensor["dtype"] == "codes" else tensor["dtype"]
        yield f"{tensor['name']} [{_times(tensor['shape'])}] {values}"


def _stored(tensor: Mapping[str, Any]) -> str:
    halo = f" halo {','.join(map(str, tensor['halo']))}" if any(tensor["halo"]) else ""
    return f"{tensor['layout']}{halo}"


def _setting(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _table(title: str, rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns below a title."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([title, *(f"  {line}" for line in lines)])
