"""A checkpoint of the trainer as an ONNX file, which is compared with the model before it is there."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic_file import write_and_rename
from ..deployment.deploy import DeploymentError
from ..deployment.onnx.dialects import dialect_named
from ..deployment.onnx.export import OnnxExport, export_onnx
from .from_checkpoint import prepared


@dataclass(frozen=True)
class Exported:
    """What was written, and what comparing it with the model has found."""

    written: OnnxExport
    verified: str


def export_checkpoint(
    checkpoint: Path, path: Path, dialect: str = "integer", opset: int | None = None, **options: Any
) -> Exported:
    """Export a checkpoint, with its class names, preprocessing and provenance.

    A file that ONNX Runtime runs is verified, on random images or on the first samples of the user's own data.

    Args:
        checkpoint: written by the trainer.
        path: of the ONNX file.
        dialect, opset: as of `export_onnx`.
        options: as of `prepared`.

    Raises:
        FileNotFoundError, ValueError, OSError: see `prepared` and `export_onnx`.
        ImportError: onnx, or onnxruntime, is not installed.
        DeploymentError: the file computes something else than the model.
    """
    is_run = dialect_named(dialect).runs_in_onnx_runtime
    made = prepared(checkpoint, **options)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "net.onnx"
        written = export_onnx(
            made.trained.model,
            *made.example,
            path=trial,
            dialect=dialect,
            opset=opset,
            pixels=made.pixels,
            class_names=made.class_names,
            preprocessing=made.preprocessing,
            provenance=made.provenance,
        )
        verified = "not run: ONNX Runtime has no operators of this dialect"
        if is_run:
            from ..deployment.onnx.verification import verify_onnx  # only here: it needs onnxruntime

            found = verify_onnx(made.trained.model, trial, *made.tried)
            if not found:
                raise DeploymentError(f"the ONNX file {found}")
            verified = str(found)
        content = trial.read_bytes()
    write_and_rename(path, lambda file: file.write(content))
    return Exported(replace(written, path=path), verified)
