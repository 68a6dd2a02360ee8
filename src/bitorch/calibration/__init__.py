"""Ranges of activations, from a few batches: the functions are at `bitorch` itself."""
