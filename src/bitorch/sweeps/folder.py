"""The folder of a sweep: which sweep it holds, and where its runs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..structured_text import parse_yaml, read_text
from ..train.files import check_writable, write_atomically
from .plan import Plan

_NAME = "sweep.yaml"


def take_folder(folder: Path, plan: Plan) -> None:
    """Make a folder that of a sweep, or see that it is.

    Raises:
        ValueError: it holds another sweep, or a damaged file. OSError: it cannot be written.
    """
    path = folder / _NAME
    text = yaml.safe_dump(plan.identity(), sort_keys=False, allow_unicode=True)
    wanted = parse_yaml(text, yaml)
    if path.is_file():
        try:
            before = parse_yaml(read_text(path), yaml)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}; choose another folder with --out") from None
        if before != wanted:
            raise ValueError(
                f"{folder} holds another sweep, whose {_difference(before, wanted)} differs; choose another folder "
                "with --out, or delete it to train anew"
            )
        return
    check_writable(folder, bytes_needed=0)
    write_atomically(path, lambda file: file.write(text.encode()))


def is_of_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep, and is seen."""
    return (folder / _NAME).is_file()


def run_name(number: int, seed: int | None) -> str:
    """Return the name of a point's run: "point-3", and of several seeds "point-3-seed-0".

    Args:
        number: of the point, from 1.
        seed: of the run, None where each point has one.
    """
    return f"point-{number}" if seed is None else f"point-{number}-seed-{seed}"


def _difference(before: Any, wanted: Any) -> str:
    """Return the first key, or key of a key, that two sweeps say in different ways."""
    if not (isinstance(before, dict) and isinstance(wanted, dict)):
        return "content"
    for key in [*wanted, *before]:
        one, other = before.get(key), wanted.get(key)
        if one != other or (key in before) != (key in wanted):
            inner = isinstance(one, dict) and isinstance(other, dict)
            return f"{key}.{_difference(one, other)}" if inner else str(key)
    return "order"  # which dicts do not differ by
