"""The low-bit layers of any model on packed weights, the rest in PyTorch."""
