"""The package onnx, which only this backend needs."""

from __future__ import annotations

try:
    import onnx as onnx
    from onnx import helper as helper
    from onnx import numpy_helper as numpy_helper
except ModuleNotFoundError as error:
    raise ImportError(
        f'bitorch.export_onnx needs {error.name}: pip install ".[onnx]" in a checkout of bitorch', name=error.name
    ) from error
