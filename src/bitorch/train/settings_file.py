"""Settings as a YAML or JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..structured_text import parse_yaml, read_text
from .fields import reject_unknown
from .files import write_atomically
from .settings import Settings


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the fields that a settings file holds, as they stand there; `Settings.from_dict` checks the values.

    The file is YAML, of which JSON is a part: one mapping from field names to values. An empty file has no fields.

    Raises:
        FileNotFoundError: no such file. IsADirectoryError: a folder.
        ValueError: not UTF-8, not YAML, no mapping, a key twice, a key that is no field of Settings, or more and deeper
            values than settings have.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; it must be a YAML or JSON file, such as a run's settings.yaml")
    try:
        fields = parse_yaml(read_text(path), yaml)
    except ValueError as error:
        raise ValueError(f"{path} is not YAML or JSON that settings can be read from: {error}") from None
    if fields is None:
        return {}
    if not isinstance(fields, Mapping):
        raise ValueError(f"{path} must hold a mapping like `epochs: 30`, got {type(fields).__name__}")
    try:
        reject_unknown(fields, list(Settings.__dataclass_fields__))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return dict(fields)


def write_settings(settings: Settings, path: Path) -> None:
    """Write all fields to a YAML file that `read_settings` reads."""
    text = yaml.safe_dump(settings.to_dict(), sort_keys=False, allow_unicode=True)
    write_atomically(path, lambda file: file.write(text.encode()))
