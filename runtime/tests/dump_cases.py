"""Write random cases as safetensors files, for programs that have no Python: emulated CPUs, sanitizers.

    python dump_cases.py --out DIR --count 500 --seed 0

A file holds the tensors array.NAME, input.NAME and expected.NAME, and in its metadata
    program    the operations, as JSON
    tolerance  {"NAME": atol, …} as JSON: outputs that sums of floats led to, right if |result − expected| ≤ atol +
               1e-4·|expected|, with NaN where NaN is expected. All others are equal to the last bit.
    seed       of `cases.random_case`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from cases import Case, random_case


def dump(case: Case, seed: int, path: Path) -> None:
    """Write one case."""
    names = [operation["output"] for operation in case.operations if operation["op"] == "input"]
    tensors = {f"array.{name}": array for name, array in case.arrays.items()}
    tensors |= {f"input.{name}": array for name, array in zip(names, case.inputs, strict=True)}
    tensors |= {f"expected.{name}": array for name, array in case.expected.items()}
    metadata = {
        "program": json.dumps(case.operations),
        "tolerance": json.dumps(case.tolerance),
        "seed": str(seed),
    }
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path, metadata)


def main() -> None:
    """Write the cases of `count` seeds."""
    parser = argparse.ArgumentParser(description="Write random cases as safetensors files.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--count", type=int, default=500, help="number of cases")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the others count up from it")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for seed in range(arguments.seed, arguments.seed + arguments.count):
        dump(random_case(seed), seed, arguments.out / f"case-{seed:06}.safetensors")
    print(f"{arguments.count} cases in {arguments.out}")


if __name__ == "__main__":
    main()
