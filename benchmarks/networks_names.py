"""What the contestants of a network are called: engines give these names, tables compare by them."""

from __future__ import annotations

OURS = "bitorch-runtime"
TORCH_FLOAT, TORCH_BFLOAT = "PyTorch float32", "PyTorch bfloat16"
OPENVINO_FLOAT, OPENVINO_INT8 = "OpenVINO float32", "OpenVINO int8"
ONNXRUNTIME_INT8 = "ONNX Runtime int8"
INT8 = (OPENVINO_INT8, ONNXRUNTIME_INT8)
NO_AMX = ", no AMX"
"""Behind the name of an engine that was kept from using it."""
