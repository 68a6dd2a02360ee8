"""What the contestants of a layer are called: engines give these names, tables compare by them."""

from __future__ import annotations

FLOAT, BFLOAT = "PyTorch float32", "PyTorch bfloat16"
FEW_BITS = {2: "ONNX Runtime, 2-bit weights", 4: "ONNX Runtime, 4-bit weights"}
"""Linear layers, by bits."""
INT8 = ("ONNX Runtime int8", "OpenVINO int8")
OURS_FLOAT = "bitorch-runtime float32"
BINARY, BINARY_ALONE = "OpenVINO binary", "OpenVINO binary, float32 out"
