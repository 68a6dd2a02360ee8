"""What a packed file for images of any size keeps in memory: at one size, and at two.

    python benchmarks/plans.py [--net resnet18] [--bits W1A2] [--sizes 224 320] [--file net.bit.safetensors]

The network is one of networks.py's, of random weights; with --file that of a file, which is written where it is not
there yet. `kept` is what the runtime says (weights in the kernels' order, tables, arrays of the file), `resident` what
the system says of the process since the file was loaded, workspaces included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import numpy as np

import bitorch_runtime
from layers_cases import Bits


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--net", default="resnet18")
    parser.add_argument("--bits", type=Bits.parse, default="W1A2")
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 320])
    parser.add_argument("--file", type=Path, help="written where it is not there yet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.bit.safetensors") if arguments.file is None else arguments.file
        if not path.is_file():
            deploy_elsewhere(arguments.net, arguments.bits, path)
        measure(path, arguments.sizes)


def deploy_elsewhere(net: str, bits: Bits, path: Path) -> None:
    """In a process of its own, whose memory would hide what is measured."""
    process = multiprocessing.get_context("spawn").Process(target=deploy, args=(net, bits, path))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{net} was not deployed")


def deploy(net: str, bits: Bits, path: Path) -> None:
    """Write the network as a packed file for images of any size."""
    import torch

    import bitorch
    from networks_models import float_model, low_bit_config

    model = float_model(net)
    bitorch.quantize_(model, low_bit_config(net, bits.weight, bits.activation))
    sizes = [(side, side) for side in (64, 96)]  # small ones, which are verified soon
    bitorch.deploy(model.eval(), torch.rand(1, 3, 64, 64), sizes=sizes).save(path)


def measure(path: Path, sizes: list[int]) -> None:
    """Load the file, run it at one size after the other, and say what is kept."""
    bitorch_runtime.set_num_threads(1)
    before = resident_bytes()
    net = bitorch_runtime.load(path)
    print(f"{'':<24}{'kept':>14}{'resident':>14}")
    print(f"{'loaded':<24}{net.kept_bytes():>14,}{resident_bytes() - before:>14,}")
    for size in sizes:
        net(np.zeros((1, 3, size, size), np.float32))
        print(f"{f'and at {size}×{size}':<24}{net.kept_bytes():>14,}{resident_bytes() - before:>14,}")


def resident_bytes() -> int:
    """Memory of this process, as Linux says."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
