"""A process of its own, because its kernels are chosen once: how packed files are planned, and what they compute.

Usage: BITORCH_KERNEL=NAME python golden_plans.py FOLDER. Prints as JSON, by the name of each file FOLDER/NAME.packed,
``plan``, what `Program.operations` says; and where there are inputs FOLDER/NAME.npz, ``results``: of each output all
numbers. It needs the runtime only.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import bitorch_runtime


def results(model: bitorch_runtime.Model, inputs: list[Any]) -> dict[str, list[float]]:
    found = model(*inputs)
    names = [port["name"] for port in model.outputs]
    by_name = found if isinstance(found, dict) else {names[0]: found}
    return {name: by_name[name].ravel().tolist() for name in names}


def main(folder: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.packed")):
        model = bitorch_runtime.load(file)
        found[file.stem] = {"plan": model.operations()}
        arrays = file.with_suffix(".npz")
        if arrays.exists():
            with np.load(arrays) as inputs:
                found[file.stem]["results"] = results(model, [inputs[name] for name in inputs.files])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
