"""Tables of trained weights: a file of comma-separated values, at a URL or in a folder, and the files it leads to."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import urlopen

from torch import Tensor

from ..atomic_file import write_and_rename
from ..state_dict_file import read_state_dict

_SECONDS = 30
_CHUNK = 1 << 20
_SCHEMES = ("http", "https", "file")
_NAME, _URL, _DIGEST = "model_name", "model_hub_url", "model_digest"

#: A row of a table, by its columns.
Row = dict[str, str]


def convert_dtypes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row, or arguments, with what texts stand for: numbers, True, False, None, tuples; other texts stay.

    An empty text is None, and a list is a tuple, so that a row can be compared with arguments of a constructor.
    """
    return {name: _value(value) for name, value in values.items()}


def _value(value: Any) -> Any:
    if isinstance(value, str):
        text = value.strip()
        if not text:
            return None
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return text
    return tuple(map(_value, value)) if isinstance(value, list | tuple) else value


def get_matching_row(
    table: Sequence[Mapping[str, str]],
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Mapping[str, str] | None:
    """Return the first row whose columns say what the arguments do; None for none.

    A column that there is not is empty, and an empty one is None. The name of the model has any case, and the batch
    axis of input_shape, its first entry, may differ.

    Args:
        table: as `download_version_table` gives it.
        arguments: "model_name", and those of the constructor.
        defaults: of those that are not given. They fit an empty column too.
    """
    wanted, left = _comparable(arguments), _comparable(defaults)
    for row in table:
        found = _comparable(row)
        says = all(found.get(name) == value for name, value in wanted.items())
        if says and all(found.get(name) in (None, value) for name, value in left.items() if name not in wanted):
            return row
    return None


def _comparable(values: Mapping[str, Any]) -> dict[str, Any]:
    found = convert_dtypes(values)
    if isinstance(found.get(_NAME), str):
        found[_NAME] = found[_NAME].lower()
    if isinstance(found.get("input_shape"), tuple):
        found["input_shape"] = found["input_shape"][1:]
    return found


def get_model_path(
    table: Sequence[Mapping[str, str]],
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[str, str]:
    """Return URL and digest, the MD5 in base64, of the weights that `get_matching_row` finds.

    Raises:
        RuntimeError: there are none; the message lists the rows of that model. Or the row lacks one of both.
    """
    row = get_matching_row(table, arguments, defaults)
    if row is None:
        raise RuntimeError(
            f"the version table has no weights for {_shown(arguments)}; {_of_this_model(table, arguments)}"
        )
    for column in (_URL, _DIGEST):
        if not row.get(column):
            raise RuntimeError(f"the row of the version table for {_shown(arguments)} has no {column}")
    return row[_URL], row[_DIGEST]


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _of_this_model(table: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]) -> str:
    wanted = _comparable(arguments).get(_NAME)
    rows = [row for row in table if _comparable(row).get(_NAME) == wanted]
    if not rows:
        names = sorted({row[_NAME] for row in table if row.get(_NAME)})
        return f"it has {', '.join(names)}" if names else "it is empty"
    said = [{name: row[name] for name in row if row[name] and name not in (_NAME, _URL, _DIGEST)} for row in rows]
    return f"it has {wanted} with {'; or '.join(map(_shown, said))}"


def download_version_table(url: str | os.PathLike[str], no_exception: bool = False) -> list[Row]:
    """Return the rows of a version table.

    Args:
        url: http, https or file, or a path: of a CSV file with a line of column names (model_name, arguments of the
            constructor, model_hub_url, model_digest), or of a folder that holds one.
        no_exception: True gives an empty table, and a warning, where it cannot be read.

    Raises:
        RuntimeError: it cannot be read, or is no such file.
    """
    try:
        return _rows(_read(_table_url(url)).decode(), url)
    except (RuntimeError, UnicodeDecodeError, csv.Error) as error:
        what = str(error) if isinstance(error, RuntimeError) else f"{url} is no table: {error}"
        if not no_exception:
            raise RuntimeError(what) from error
        warnings.warn(f"{what}; going on with an empty version table", stacklevel=2)
        return []


def _rows(text: str, url: object) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restval="", skipinitialspace=True)
    missing = {_NAME, _URL, _DIGEST} - set(reader.fieldnames or ())
    if missing:
        raise RuntimeError(f"{url} is no version table: it has no column {', '.join(sorted(missing))}")
    return [{name: value for name, value in row.items() if name is not None} for row in reader]


def load_from_hub(
    table_url: str | os.PathLike[str], download_path: str | os.PathLike[str] = "bitorch_models", **arguments: Any
) -> dict[str, Tensor]:
    """Return the state dict of the weights that a version table has for a model. No code in the file is run.

    A file that was downloaded before is used if its MD5 is that of the table, and is else replaced by a new one.

    Args:
        table_url: as of `download_version_table`. URLs in the table may be relative to it.
        download_path: folder that files are kept in; made if it is not there.
        arguments: model_name, and those of the constructor, as of `get_matching_row`.

    Raises:
        RuntimeError: no table, no row, no file, or one whose MD5 is not that of the table.
        ValueError: the file holds no state dict. OSError: the folder cannot be written to.
    """
    return read_state_dict(fetch_weights(table_url, download_path, arguments))


def fetch_weights(
    table_url: str | os.PathLike[str],
    download_path: str | os.PathLike[str],
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Return the file of the weights that a version table has for a model, downloaded; as `load_from_hub`."""
    if not os.fspath(table_url):
        raise RuntimeError(f"there is no version table for {_shown(arguments)}; name one, or a file of weights")
    url, digest = get_model_path(download_version_table(table_url), arguments, defaults)
    source = urljoin(_table_url(table_url), url)
    name = PurePosixPath(unquote(urlsplit(source).path)).name
    if not name:
        raise RuntimeError(f"the URL {source} of the version table names no file")
    file = Path(download_path) / name
    if not (file.is_file() and _digest(file.read_bytes()) == digest):
        _download(source, file, digest)
    return file


def _download(source: str, file: Path, digest: str) -> None:
    content = _read(source)
    found = _digest(content)
    if found != digest:
        raise RuntimeError(
            f"{source} has the MD5 {found}, and not {digest} as the version table says; it is damaged or another "
            "file, and was not kept"
        )
    file.parent.mkdir(parents=True, exist_ok=True)

    def write(opened: IO[bytes]) -> None:
        opened.write(content)

    write_and_rename(file, write)


def _digest(content: bytes) -> str:
    """Return the MD5 in base64, as object stores have it. It tells damage, and no attack: nothing in a file is run."""
    return base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()


def _table_url(url: str | os.PathLike[str]) -> str:
    """Return the URL of a table; of a path that of the file, or of the only table in the folder."""
    text = os.fspath(url)
    scheme = urlsplit(text).scheme
    if "://" in text and scheme not in _SCHEMES:
        raise RuntimeError(f"{text} begins with {scheme}, but must with {', '.join(_SCHEMES)}, or be a path")
    if "://" in text and scheme != "file":
        return text
    path = Path(unquote(urlsplit(text).path)) if "://" in text else Path(text)
    if path.is_dir():
        tables = sorted(path.glob("*.csv"))
        if len(tables) != 1:
            raise RuntimeError(f"the folder {path} has {len(tables)} files *.csv, but must have one: the version table")
        path = tables[0]
    return path.resolve().as_uri()


def _read(url: str) -> bytes:
    """Return what is at a URL; RuntimeError, in a sentence, where that cannot be read."""
    if urlsplit(url).scheme not in _SCHEMES:
        raise RuntimeError(f"{url} cannot be read: it must begin with {', '.join(_SCHEMES)}")
    try:
        with urlopen(url, timeout=_SECONDS) as response:
            return b"".join(iter(lambda: response.read(_CHUNK), b""))
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise RuntimeError(f"{url} cannot be read: {reason}") from error
