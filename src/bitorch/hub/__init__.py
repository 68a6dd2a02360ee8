"""Trained nets as folders, and as repositories of the Hugging Face hub: weights, how they are low-bit, and a card."""

from __future__ import annotations

from .gguf_files.saving import save_gguf as save_gguf
from .gguf_files.table import GgufFile as GgufFile
from .gguf_files.table import GgufTensor as GgufTensor
from .loading import load as load
from .loading_pretrained import load_pretrained as load_pretrained
from .pushing import push as push
from .saving import save as save
from .saving_pretrained import save_pretrained as save_pretrained
