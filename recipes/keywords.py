"""Keyword spotting: which of ten synthetic words a clip holds; in float, in few bits, and deployed.

    python recipes/keywords.py                 # convolutions with ELU, which deploy whole
    python recipes/keywords.py --net gru       # a GRU, whose matrices are packed and whose gates stay in PyTorch

Trains the float net, goes on with its low-bit copy, deploys that, and prints accuracy and time of each.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from keywords_tones import WORDS, clips


@dataclass(frozen=True)
class Options:
    """Train, deploy and compare."""

    net: Literal["conv", "gru"] = "conv"
    """Convolutions, deployed whole, or a GRU, deployed in part."""
    weight_bits: int = 2
    """Of the low-bit layers."""
    activation_bits: int = 2
    """Of the low-bit layers."""
    clips: int = 3000
    """Sounds to train on."""
    tests: int = 1000
    """Sounds to test on."""
    epochs: int = 6
    """Passes over the sounds, in float and again in few bits."""
    seed: int = 0
    """Of the sounds, the weights and the order."""


@dataclass(frozen=True)
class Result:
    """What is known of a net: the share of clips that it understands, and seconds for one clip, on one thread."""

    name: str
    accuracy: float
    seconds: float


class ConvNet(nn.Module):
    """Convolutions over time with ELU; the mean over all times decides."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 32, 8, 12), nn.BatchNorm1d(width), nn.ELU())
        blocks: list[nn.Module] = []
        for stride in (2, 4, 2):
            blocks += [nn.Conv1d(width, width, 9, stride, 4), nn.BatchNorm1d(width), nn.ELU()]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(width, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        """Sounds [batch, 1, LENGTH] to logits [batch, WORDS]."""
        logits: Tensor = self.head(self.blocks(self.stem(x)).mean(2))
        return logits


class RecurrentNet(nn.Module):
    """A GRU over windows of sound; its last state decides."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, width, 32, 8, 12), nn.BatchNorm1d(width), nn.ELU())
        self.windows = nn.Sequential(nn.Conv1d(width, width, 9, 8, 4), nn.BatchNorm1d(width), nn.ELU())
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, WORDS)

    def forward(self, x: Tensor) -> Tensor:
        """Sounds [batch, 1, LENGTH] to logits [batch, WORDS]."""
        _, last = self.gru(self.windows(self.stem(x)).transpose(1, 2))
        logits: Tensor = self.head(last[-1])
        return logits


def train(model: nn.Module, sounds: Tensor, words: Tensor, epochs: int, rate: float) -> None:
    """Train with Adam and a rate that falls to 0."""
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), rate)
    steps = epochs * -(-len(sounds) // 50)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(sounds)).split(50):
            optimizer.zero_grad()
            F.cross_entropy(model(sounds[batch]), words[batch]).backward()
            optimizer.step()
            schedule.step()
    model.eval()


def measured(name: str, call: Callable[[Tensor], Any], sounds: Tensor, words: Tensor) -> Result:
    """Count what a net understands, clip by clip in batches of 100, and time single clips."""
    with torch.inference_mode():
        found = torch.cat([torch.as_tensor(call(batch)).argmax(1) for batch in sounds.split(100)])
        times = []
        for clip in sounds[:50].split(1):
            start = time.perf_counter()
            call(clip)
            times.append(time.perf_counter() - start)
    return Result(name, float((found == words).float().mean()), min(times))


def compare(options: Options) -> list[Result]:
    """Train, deploy, and return what is known of the float net, the low-bit net and the deployed one.

    Raises:
        RuntimeError: the deployed net is not the low-bit net.
    """
    torch.manual_seed(options.seed)
    sounds, words = clips(options.clips, options.seed)
    tests, answers = clips(options.tests, options.seed + 1)
    model: nn.Module = ConvNet() if options.net == "conv" else RecurrentNet()
    train(model, sounds, words, options.epochs, 0.005)
    results = [measured("float", model, tests, answers)]
    net = copy.deepcopy(model)
    config = bitorch.LowBitConfig(options.weight_bits, options.activation_bits, range="learned", learned_by="lsq+")
    bitorch.quantize_(net, config)
    bitorch.calibrate(net, list(sounds[:200].split(50)))
    train(net, sounds, words, options.epochs, 0.002)
    results.append(measured("low-bit", net, tests, answers))
    return [*results, _deployed(net, options.net == "conv", tests, answers)]


def _deployed(net: nn.Module, is_whole: bool, tests: Tensor, answers: Tensor) -> Result:
    if not is_whole:
        partial = bitorch.deploy(net, tests[:2], partial=True)
        with torch.inference_mode():
            if not torch.equal(partial(tests), net(tests)):
                raise RuntimeError("the packed GRU gives other numbers than the low-bit one")
        return measured("matrices packed", partial, tests, answers)
    packed = bitorch.deploy(net, tests[:2])
    verification = bitorch.verify(net, packed, tests[:20])
    if not verification:
        raise RuntimeError(f"the packed file is not the low-bit net: {verification}")
    with tempfile.TemporaryDirectory() as folder:
        packed.save(Path(folder) / "keywords.bit.safetensors")
        file = bitorch_runtime.load(Path(folder) / "keywords.bit.safetensors")
        return measured("packed file", lambda x: file(x.numpy()), tests, answers)


def main(arguments: list[str] | None = None) -> None:
    """Print a table."""
    options = tyro.cli(Options, args=arguments)
    torch.set_num_threads(1)
    bitorch_runtime.set_num_threads(1)
    bits = f"W{options.weight_bits}A{options.activation_bits}"
    table = Table(title=f"Ten words, {options.net}, {bits}: {options.tests} clips, one at a time on one thread")
    for column in ("net", "accuracy", "µs a clip"):
        table.add_column(column, justify="left" if column == "net" else "right")
    for result in compare(options):
        table.add_row(result.name, f"{result.accuracy:.1%}", f"{result.seconds * 1e6:.0f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
