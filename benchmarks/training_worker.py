"""One contestant of training.py: prepares a net, then answers each line on standard input, in JSON.

"step" makes a training step; "profile" says where its time goes; at the end comes the memory it took. Runs in the
environment of the library that it measures, because BITorch 0.4.1 has our import name.
"""

from __future__ import annotations

import json
import sys
import time

import torch

from training_memory import peak_allocated, resident_bytes
from training_profile import milliseconds_by_kind
from training_step import batch_of, prepare


def main(name: str, net: str, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images, labels = batch_of(net, batch)
    before = resident_bytes("VmRSS")
    step = prepare(name, net, images, labels)
    for line in sys.stdin:
        if line.strip() == "profile":
            answer = milliseconds_by_kind(step)
        else:
            start = time.perf_counter()
            loss = step()
            answer = {"seconds": time.perf_counter() - start, "loss": loss}
        print(json.dumps(answer), flush=True)
    resident = resident_bytes("VmHWM") - before
    # The gradients of the last step are still held, so parameters, gradients and Adam's two moments are counted apart.
    state = 4 * sum(p.nbytes for p in step.net.parameters())
    step.optimizer.zero_grad()
    print(json.dumps({"resident": resident, "allocated": state + peak_allocated(step) - state // 4}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
