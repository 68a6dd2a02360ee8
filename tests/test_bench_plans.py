"""benchmarks/plans.py: what it prints of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bitorch_runtime

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "plans.py"
SIDE = {"sum": [[4, "side"], [8]]}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="it asks Linux what is resident")
def test_a_line_for_each_size(tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    pool = {"kernel_size": [2, 2], "stride": [2, 2], "padding": [0] * 4}
    operations: list[dict[str, Any]] = [
        {"op": "input", "output": "x", "dtype": "float32", "shape": [3, SIDE, SIDE], "order": "nchw"},
        {"op": "max_pool", "input": "x", "output": "y", **pool},
        {"op": "global_avg_pool", "input": "y", "output": "z"},
        {"op": "output", "input": "z", "array_shape": [3]},
    ]
    bitorch_runtime.save(path, operations, {})
    command = [sys.executable, str(SCRIPT), "--file", str(path), "--sizes", "16", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, loaded, first, second = (line.split() for line in done.stdout.splitlines())
    assert (loaded[0], first[:3], second[:3]) == ("loaded", ["and", "at", "16×16"], ["and", "at", "20×20"])
    kept = [int(line[-2].replace(",", "")) for line in (loaded, first, second)]
    assert 0 < kept[0] < kept[1] < kept[2]
