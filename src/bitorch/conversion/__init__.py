"""From a float model to a low-bit one, and back: the functions are at `bitorch` itself."""
