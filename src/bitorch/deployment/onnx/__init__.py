"""The backend that writes ONNX files."""
