"""What an ONNX file says of itself: dialect, classes, preprocessing, bits, versions, and a hash that edits change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .require_onnx import onnx

#: The keys of the metadata; all but the first two hold JSON.
DIALECT, SHA256 = "bitorch.dialect", "bitorch.sha256"
CLASS_NAMES, PREPROCESSING, PROVENANCE = "bitorch.class_names", "bitorch.preprocessing", "bitorch.provenance"


def metadata(
    dialect: str,
    class_names: Sequence[str] | None,
    preprocessing: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
) -> dict[str, str]:
    """Return the texts that a file holds, but for its hash; what is None is left out.

    Raises:
        TypeError: something is of a type that JSON has not.
    """
    notes = {CLASS_NAMES: class_names, PREPROCESSING: preprocessing, PROVENANCE: provenance}
    return {DIALECT: dialect, **{key: _as_json(key, note) for key, note in notes.items() if note is not None}}


def _as_json(key: str, note: object) -> str:
    try:
        return json.dumps(note, ensure_ascii=False, sort_keys=True)
    except TypeError as error:
        raise TypeError(f"{key.removeprefix('bitorch.')} must be of types that JSON has: {error}") from None


def seal(model: Any) -> None:
    """Write the hash of an onnx.ModelProto into its metadata."""
    model.metadata_props.append(onnx.StringStringEntryProto(key=SHA256, value=content_hash(model)))


def is_sealed(model: Any) -> bool | None:
    """Whether a model is as `seal` left it; None: it has no hash."""
    given = [entry.value for entry in model.metadata_props if entry.key == SHA256]
    return given == [content_hash(model)] if given else None


def content_hash(model: Any) -> str:
    """Return the SHA-256 of all of an onnx.ModelProto but its hash."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in [entry for entry in copy.metadata_props if entry.key == SHA256]:
        copy.metadata_props.remove(entry)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).hexdigest()
