"""One contestant of train_step.py: builds a net, then times a training step for every line on standard input.

Runs in the environment of the library that it measures, because BITorch 0.4.1 has our import name.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from svhn_a import IMAGE_SIZE, svhn_a


@dataclass(frozen=True)
class Variant:
    """What is measured: bits (None: float), autocast to bfloat16, and other fields of LowBitConfig."""

    bits: tuple[int, int, int] | None = None
    bf16: bool = False
    config: dict[str, Any] = field(default_factory=dict)


OURS = {
    "float": Variant(),
    "W1A2G6": Variant((1, 2, 6)),
    "W1A2G6, ReLUs kept": Variant((1, 2, 6), config={"absorb_relu": False}),
    "W1A2": Variant((1, 2, 32)),
    "float, bf16": Variant(bf16=True),
    "W1A2G6, bf16": Variant((1, 2, 6), bf16=True),
    "W1A2G6, bf16, exact=False": Variant((1, 2, 6), bf16=True, config={"exact": False}),
}
#: Every method, at the bits that it is for.
METHODS = {
    "DoReFa W2A2": Variant((2, 2, 32)),
    "DoReFa W1A2 per channel": Variant((1, 2, 32), config={"weight_scale": "channel"}),
    "calibrated W2A2": Variant((2, 2, 32), config={"range": "calibrated"}),
    "PACT W2A2": Variant((2, 2, 32), config={"range": "learned", "learned_by": "pact"}),
    "LSQ W2A2": Variant((2, 2, 32), config={"range": "learned"}),
    "LSQ W4A4 per channel": Variant((4, 4, 32), config={"range": "learned", "weight_scale": "channel"}),
    "LSQ+ W4A4": Variant((4, 4, 32), config={"range": "learned", "learned_by": "lsq+"}),
    "TWN A2": Variant((2, 2, 32), config={"weights": "twn"}),
    "TTQ A2": Variant((2, 2, 32), config={"weights": "ttq"}),
    "ApproxSign W1A1": Variant((1, 1, 32), config={"sign": "approxsign"}),
    "RSign W1A1": Variant((1, 1, 32), config={"sign": "rsign"}),
    "DoReFa W1A2G4": Variant((1, 2, 4)),
    "signed gradients W1A2G4": Variant((1, 2, 4), config={"gradients": "signed"}),
    "LUQ W1A2G4": Variant((1, 2, 4), config={"gradients": "luq"}),
}
OURS |= METHODS
THEIRS = "BITorch 0.4.1, W1A2"


def build(name: str) -> nn.Module:
    """Return the net of that name."""
    if name == THEIRS:
        from bitorch.layers import QConv2d
        from bitorch.quantizations import InputDoReFa, WeightDoReFa

        def quantized(inputs: int, outputs: int, kernel: int, padding: int) -> nn.Module:
            bits = {"input_quantization": InputDoReFa(2), "weight_quantization": WeightDoReFa(1)}
            return QConv2d(inputs, outputs, kernel, padding=padding, **bits)  # type: ignore[arg-type]  # theirs

        return svhn_a(quantized, relu=False)  # its activation quantizer clips
    variant = OURS[name]
    relu = "sign" not in variant.config  # behind a ReLU all signs are +1
    net = svhn_a(lambda i, o, kernel, padding: nn.Conv2d(i, o, kernel, padding=padding, bias=False), relu=relu)
    if variant.bits is not None:
        from bitorch import LowBitConfig, calibrate, quantize_

        config = LowBitConfig(*variant.bits, **{"absorb_relu": True, **variant.config})
        quantize_(net, config)
        if config.range != "unit":
            calibrate(net, [torch.rand(4, 3, IMAGE_SIZE, IMAGE_SIZE)])
    return net


def resident_bytes(field: str) -> int:
    """Return VmRSS (now) or VmHWM (peak) of this process, which Linux counts."""
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))


def peak_allocated(step: Callable[[], float]) -> int:
    """Return the most bytes that PyTorch's allocator holds during a step, over what it held before."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    # profiler.events() leaves out the allocations that belong to an operator, so the records behind it are read.
    assert profiler.profiler is not None
    records = profiler.profiler.kineto_results.events()
    changes = sorted((r.start_ns(), r.nbytes()) for r in records if r.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def main(name: str, batch: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(batch, 3, IMAGE_SIZE, IMAGE_SIZE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    before = resident_bytes("VmRSS")
    net = build(name)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # its overloads lack the memory format
    optimizer = torch.optim.Adam(net.parameters(), 1e-3, eps=1e-5)

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=name in OURS and OURS[name].bf16):
            loss = nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in sys.stdin:
        start = time.perf_counter()
        loss = step()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": loss}), flush=True)
    resident = resident_bytes("VmHWM") - before
    # The gradients of the last step are still held, so parameters, gradients and Adam's two moments are counted apart.
    state = 4 * sum(p.nbytes for p in net.parameters())
    optimizer.zero_grad()
    print(json.dumps({"resident": resident, "allocated": state + peak_allocated(step) - state // 4}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
