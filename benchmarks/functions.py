"""How long functions of floats and softmax take as operations of a program, in nanoseconds a number.

    python benchmarks/functions.py [--function NAME ...] [--spread 1.0] [--numbers 16384]

Numbers in cache, drawn from a normal distribution of a standard deviation of `--spread`; the least of some runs, with
each kernel table of this CPU (in a process each, since the table is chosen when the runtime is loaded).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

import bitorch_runtime
from bitorch_runtime.operations import OPERATIONS

_NUMBERS: dict[str, dict[str, float]] = {
    "celu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "threshold": {"threshold": 0.0, "value": 0.0},
    "hardshrink": {"lambda": 0.5},
    "softshrink": {"lambda": 0.5},
}
_REPEATS = 50
_CHANNELS = 64


def main() -> None:
    arguments = _arguments()
    if arguments.worker:
        print(json.dumps(_measured(arguments)))
        return
    tables = {}
    for kernel in bitorch_runtime.cpu()["kernels"]:
        command = [sys.executable, __file__, "--worker", *sys.argv[1:]]
        environment = os.environ | {"BITORCH_KERNEL": kernel}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        tables[kernel] = json.loads(done.stdout)
    print(f"{'':<14}" + "".join(f"{kernel:>18}" for kernel in tables))
    for name in next(iter(tables.values())):
        print(f"{name:<14}" + "".join(f"{table[name]:>18.3f}" for table in tables.values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--function", action="append", default=[])
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--numbers", type=int, default=16384)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measured(arguments: argparse.Namespace) -> dict[str, float]:
    names = [choice.value for choice in OPERATIONS["activation"]["function"].choices]
    operations: dict[str, dict[str, Any]] = {
        name: {"op": "activation", "function": name, **_NUMBERS.get(name, {})} for name in names
    }
    for name in ("leaky_relu", "elu"):
        operations[name]["slope"] = "slope"
    operations |= {"softmax": {"op": "softmax"}, "log_softmax": {"op": "softmax", "log": True}}
    wanted = arguments.function or [*operations]
    return {name: _nanoseconds(operations[name], arguments) for name in wanted}


def _nanoseconds(operation: dict[str, Any], arguments: argparse.Namespace) -> float:
    """Of one number, as the program's own profile has it: the least of some runs."""
    pixels = -(-arguments.numbers // _CHANNELS)
    x = np.random.default_rng(0).normal(0, arguments.spread, (1, 1, pixels, _CHANNELS)).astype(np.float32)
    arrays = {"slope": np.full(_CHANNELS, 0.3, np.float32)} if "slope" in operation else {}
    port = {"op": "input", "output": "x", "dtype": "float32", "shape": [_CHANNELS, 1, pixels], "order": "nhwc"}
    end = {"op": "output", "input": "y", "order": "nhwc"}
    program = bitorch_runtime.Program([port, {**operation, "input": "x", "output": "y"}, end], arrays)
    seconds: float = program.profile(x, repeats=_REPEATS)[1]["seconds"]
    return seconds / x.size * 1e9


if __name__ == "__main__":
    main()
