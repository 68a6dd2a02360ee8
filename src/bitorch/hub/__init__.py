"""Trained nets as folders, and as repositories of the Hugging Face hub: weights, how they are low-bit, and a card."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .loading import load as load
from .loading_pretrained import load_pretrained as load_pretrained
from .pushing import push as push
from .saving import save as save
from .saving_pretrained import save_pretrained as save_pretrained

if TYPE_CHECKING:
    from .gguf_files.saving import save_gguf as save_gguf
    from .gguf_files.table import GgufFile as GgufFile
    from .gguf_files.table import GgufTensor as GgufTensor

#: Imported when asked for: folders need none of it.
_HOMES = {"save_gguf": "gguf_files.saving", "GgufFile": "gguf_files.table", "GgufTensor": "gguf_files.table"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
