"""The backend bitorch_runtime: from a graph to a packed program, and whether both compute the same."""
