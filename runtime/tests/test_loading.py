"""What loading costs: a ResNet-18 with 1-bit weights, first and last layer of 8 bits, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bitorch_runtime

Array = np.ndarray[Any, Any]

#: Loads the file, calls it, and prints what that took: CPU seconds, and resident bytes beyond those before the load.
MEASURE = """
import json, sys, time
import numpy as np
import bitorch_runtime as rt

def resident():
    # Without pages of files, such as the library's own code.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) * 1024

def timed(work):
    start = time.process_time()
    result = work()
    return result, time.process_time() - start

threads = int(sys.argv[2])
rt.set_num_threads(threads)
image = np.random.default_rng(0).integers(0, 256, (1, 3, 224, 224), dtype=np.uint8)
before = resident()
model, load = timed(lambda: rt.load(sys.argv[1]))
first = timed(lambda: model(image))[1]
calls = sorted(timed(lambda: model(image))[1] for _ in range(9))
after = resident()
needed = sum(operation["weight_bytes"] for operation in model.operations()) + model.workspace_bytes(1)
print(json.dumps({"load": load, "first": first, "call": calls[4], "resident": after - before, "needed": needed}))
"""


class ResNet18:
    """The operations and arrays of the network, with random weights."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.arrays: dict[str, Array] = {}
        self.operations: list[dict[str, Any]] = [
            {"op": "input", "output": "image", "dtype": "uint8", "bits": 8, "shape": [3, 224, 224], "order": "nchw"}
        ]
        self.conv("conv1", "image", (3, 64), kernel=7, stride=2, weight_bits=8, float32="conv1.y")
        pool = {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1, 1, 1]}
        self.operations.append({"op": "max_pool", "input": "conv1.y", "output": "x", **pool})
        self.operations.append({"op": "quantize", "input": "x", "output": "q", "bits": 2})
        x, q, channels = "x", "q", 64
        for stage in range(4):
            for block in range(2):
                name = f"layer{stage + 1}.{block}"
                x, q, channels = self.block(name, x, q, channels, 64 << stage, 1 + (stage > 0 and block == 0))
        self.operations.append({"op": "global_avg_pool", "input": x, "output": "features"})
        self.operations.append({"op": "quantize", "input": "features", "output": "features.q", "bits": 8})
        self.stage("fc", 1000, 512, 8)
        self.operations.append(
            {"op": "linear", "input": "features.q", "weight": "fc.weight", "weight_bits": 8, "out_channels": 1000}
            | {"multiply": "fc.multiply", "offset": "fc.offset", "float32": "scores"}
        )
        self.operations.append({"op": "output", "input": "scores"})

    def stage(self, name: str, out: int, inputs: int, bits: int) -> None:
        """Weights and scales; every row of these layers is whole bytes, so that any bytes are weights."""
        self.arrays[f"{name}.weight"] = self.rng.integers(0, 256, (out, inputs * bits // 8), dtype=np.uint8)
        self.arrays[f"{name}.multiply"] = np.full(out, 1 / inputs / 2**bits, np.float32)
        self.arrays[f"{name}.offset"] = self.rng.standard_normal(out).astype(np.float32)

    def conv(
        self,
        name: str,
        source: str,
        channels: tuple[int, int],
        *,
        kernel: int,
        stride: int,
        weight_bits: int = 1,
        **more: Any,
    ) -> None:
        """A convolution that keeps the size of the image, but for its stride."""
        self.stage(name, channels[1], channels[0] * kernel**2, weight_bits)
        window = {"kernel_size": [kernel] * 2, "stride": [stride] * 2, "padding": [kernel // 2] * 4, "groups": 1}
        self.operations.append(
            {
                "op": "conv2d",
                "input": source,
                "weight": f"{name}.weight",
                "weight_bits": weight_bits,
                "dilation": [1, 1],
            }
            | {"out_channels": channels[1], **window, "multiply": f"{name}.multiply", "offset": f"{name}.offset"}
            | more
        )

    def block(self, name: str, x: str, q: str, channels: int, out: int, stride: int) -> tuple[str, str, int]:
        """Two convolutions beside a connection that skips them."""
        codes: dict[str, Any] = {"relu": True, "bits": 2}
        self.conv(f"{name}.a", q, (channels, out), kernel=3, stride=stride, codes=f"{name}.h", **codes)
        if channels != out:
            self.conv(f"{name}.skip", q, (channels, out), kernel=1, stride=stride, float32=f"{name}.x")
            x = f"{name}.x"
        results: dict[str, Any] = {"float32": f"{name}.y", "codes": f"{name}.q", "residual": x, **codes}
        self.conv(f"{name}.b", f"{name}.h", (out, out), kernel=3, stride=1, **results)
        return f"{name}.y", f"{name}.q", out


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    resnet = ResNet18()
    path = tmp_path_factory.mktemp("resnet") / "resnet18.bit.safetensors"
    bitorch_runtime.save(path, resnet.operations, resnet.arrays)
    assert 1.9e6 < path.stat().st_size < 2.1e6
    return path


def measure(network: Path, threads: int, **variables: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(network), str(threads)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("threads", [1, 2])
def test_memory_of_a_loaded_network(network: Path, threads: int) -> None:
    """The weights once, what one image is worked on in, and little else; so about the file, and 8 MB per thread."""
    measured = measure(network, threads)
    assert measured["resident"] <= measured["needed"] + 1e6 * threads
    if bitorch_runtime.cpu()["kernel"] != "avx512":  # which has 1-bit weights in bytes
        assert measured["resident"] <= network.stat().st_size + 8.3e6 * threads


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kernel", bitorch_runtime.cpu()["kernels"])
def test_fused_kernels_take_no_more_memory(network: Path, kernel: str) -> None:
    fused, staged = (measure(network, 1, BITORCH_KERNEL=kernel, BITORCH_FUSED=value) for value in "10")
    assert fused["resident"] <= 1.05 * staged["resident"]


def test_time_of_loading(network: Path) -> None:
    """The best of three, since other processes are at work; of those, CPU time."""
    runs = [measure(network, 1) for _ in range(3)]
    assert min(run["load"] for run in runs) < 0.05
    assert min(run["first"] / run["call"] for run in runs) < 3


@pytest.mark.parametrize("kernel", bitorch_runtime.cpu()["kernels"])
def test_fused_kernels_take_little_time_to_prepare(network: Path, kernel: str) -> None:
    runs = [[measure(network, 1, BITORCH_KERNEL=kernel, BITORCH_FUSED=value)["load"] for value in "10"] for _ in "123"]
    fused, staged = (min(loads) for loads in zip(*runs, strict=True))
    assert fused <= 2.5 * staged  # about 1.4 at most; other processes are at work
