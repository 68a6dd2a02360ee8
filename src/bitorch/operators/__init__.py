"""Operators that PyTorch calls by name, `torch.ops.bitorch.…`, with their shapes for tracing."""
