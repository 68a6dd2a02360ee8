"""A process that loads one net, calls it with the tokens on its standard input, and prints how many bytes it had.

It imports PyTorch for a float net alone.
"""

from __future__ import annotations

import json
import re
import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def main(file: Path, tokens: list[list[int]]) -> int:
    """Return the most bytes that were in memory."""
    if file.suffix == ".pt":
        import torch

        torch.set_num_threads(1)
        with torch.inference_mode():
            torch.load(file, weights_only=False)(torch.tensor(tokens))
    else:
        import numpy as np

        import bitorch_runtime

        bitorch_runtime.set_num_threads(1)
        bitorch_runtime.load(file)(np.array(tokens))
    return _most()


def _most() -> int:
    # Linux's ru_maxrss begins with what the process had that started this one.
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), json.load(sys.stdin)))
