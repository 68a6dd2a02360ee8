"""How checkpoints reach the disk."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..seal import seal
from ..tensor_file import load_tensor_file
from .files import write_atomically


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes next to the target and renames, with a SHA-256, which it compares when it reads, running no code.

    Lightning's own writer goes through the system's temporary folder, which may be on another disk, and a move between
    disks can stop half-way.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. OSError names the path; the file that was there stays as it was."""
        if storage_options is not None:
            raise TypeError(f"AtomicCheckpointIO takes no storage_options, got {storage_options!r}")
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Into memory first: torch.save turns the OSError of a full disk into a RuntimeError that does not say so.
            buffer = io.BytesIO()
            torch.save(checkpoint, buffer)
            seal(buffer)
            write_atomically(path, lambda file: file.write(buffer.getbuffer()))
        except OSError as error:
            kept = " The one written before it is complete." if path.exists() else ""
            raise OSError(f"cannot write the checkpoint {path}: {error.strerror}.{kept}") from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint, tensors on the CPU; ValueError for one that is damaged."""
        return load_tensor_file(Path(path), "not a checkpoint")  # type: ignore[no-any-return]
