"""From a trained model to a packed program for bitorch_runtime."""
