"""The commands of `bitorch`: each module has a function `run` from arguments to an exit code."""
