"""Each kernel computes whole programs: those that costs never choose here, too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import bitorch_runtime

#: The fused kernels of a table; and what it has of the table before.
FUSED = {
    "portable": set(),
    "avx2": {"tables4 avx2", "linear avx2"},
    "avx512": {
        "bytes64 avx512-vnni",
        "depthwise8 avx512",
        "depthwise4 avx512-vnni",
        "linear avx512-vnni",
        "stem avx512",
    },
    "neon": set(),
    "neon-dotprod": {"linear neon-dotprod"},
}
FUSED["avx512-vpopcntdq"] = FUSED["avx512"] | {
    *(f"popcount{which} avx512-vpopcntdq" for which in ("8", "16", "32", "-few")),
    *("tables9 avx512-vbmi", "tables16 avx512-vbmi", "depthwise planes avx512-vbmi"),
}
FUSED["avx512-amx"] = FUSED["avx512-vpopcntdq"] | {"bytes amx-int8", "linear amx"}


@pytest.mark.parametrize("table", bitorch_runtime.cpu()["kernels"])
def test_every_kernel_computes_programs(table: str) -> None:
    environment = os.environ | {"BITORCH_KERNEL": table, "BITORCH_FUSED": "1"}
    command = [sys.executable, "forced_kernels.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stderr
    ran = set(json.loads(done.stdout))
    assert FUSED[table] <= ran
    assert ran - FUSED[table]  # the staged path
