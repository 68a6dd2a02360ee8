"""Training on JPEG files beside training on tensors in memory; and what a list of many files takes.

Both train the same net on the same pictures, in turn, epoch by epoch, so that a drift of the machine meets both alike;
the ratio is that of the medians. Files are read anew in every epoch: nothing is kept in memory.
"""

from __future__ import annotations

import gc
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image

import bitorch
from bitorch.data import DataOptions, EpochLoader, PictureAugmentation, load, loader, to_float
from bitorch.data.picture_folder import scan
from bitorch.models import ResNet20


@dataclass(frozen=True)
class Options:
    """Measure reading pictures."""

    images: int = 1024
    """JPEG files of 32×32 pixels."""
    batch: int = 64
    """Images per step."""
    rounds: int = 3
    """Epochs of each."""
    workers: int = 2
    """Processes that decode."""
    width: float = 1.0
    """Of ResNet-20, whose weights have 1 bit, activations 2 and gradients 6."""
    augment: bool = False
    """Crop at random and jitter colours, in the worker processes."""
    scan: int = 0
    """In place of training: list so many files, and print seconds and memory."""


def write(folder: Path, count: int) -> None:
    """Write smooth pictures of ten classes; beyond 1000 of them are links to the first."""
    random = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"class{index % 10}" / f"{index:08}.jpg"
        path.parent.mkdir(exist_ok=True)
        if index >= 1000:
            os.link(folder / f"class{index % 10}" / f"{index % 1000:08}.jpg", path)
            continue
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        small.resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=90)


def resident_bytes() -> int:
    """Return the memory that this process keeps."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def scan_files(folder: Path, options: Options) -> None:
    """Print what listing and loading the folder takes."""
    gc.collect()
    before, start = resident_bytes(), time.perf_counter()
    found = scan(folder)
    listed = time.perf_counter() - start
    after = resident_bytes()
    print(f"{len(found.labels):,} files listed in {listed:.1f} s, {(after - before) / 1e6:.1f} MB resident more")
    del found
    start = time.perf_counter()
    data = load("images", folder, options=DataOptions(workers=options.workers, cache="off"))
    print(f"all looked at in {time.perf_counter() - start:.1f} s, {(resident_bytes() - before) / 1e6:.1f} MB more")
    batches = iter(loader(data.train, options.batch, shuffle=True, workers=options.workers))
    start = time.perf_counter()
    for count, (images, _) in enumerate(batches, 1):
        if count % 200 == 0:
            rate = count * len(images) / (time.perf_counter() - start)
            print(
                f"{count * len(images):,} read, {rate:,.0f} a second, {(resident_bytes() - before) / 1e6:.1f} MB more"
            )


def seconds(model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: EpochLoader) -> float:
    """Train an epoch, and return its seconds."""
    start = time.perf_counter()
    for images, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(to_float(images)), labels).backward()
        optimizer.step()
    return time.perf_counter() - start


def train(folder: Path, options: Options) -> None:
    """Print images per second of both, and the ratio."""
    torch.manual_seed(0)
    model = ResNet20(3, 10, round(16 * options.width)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bitorch.quantize_(model, bitorch.LowBitConfig(1, 2, 6))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    transform = PictureAugmentation((0.2, 1), None, (0.4, 0.4, 0.4, 0.1)) if options.augment else None
    contestants = {}
    for name, cache in (("tensors in memory", "auto"), ("JPEG files", "off")):
        data = load("images", folder, options=DataOptions(workers=options.workers, cache=cache, val_share=0.02))  # type: ignore[arg-type]
        changed = transform if cache == "off" else None
        contestants[name] = loader(
            data.train, options.batch, shuffle=True, drop_last=True, workers=options.workers, transform=changed
        )
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(options.rounds + 1):
        for name, batches in contestants.items():
            took = seconds(model, optimizer, batches)
            if turn:  # the first starts the workers
                times[name].append(took)
    count = len(contestants["JPEG files"]) * options.batch
    rates = {name: count / statistics.median(took) for name, took in times.items()}
    for name, rate in rates.items():
        print(f"{name:18}  {rate:8.1f} images a second")
    print(f"JPEG files beside tensors in memory: {rates['JPEG files'] / rates['tensors in memory']:.3f}")


def main(options: Options) -> None:
    """Write the files, measure, and remove them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, options.scan if options.scan else options.images)
        if options.scan:
            scan_files(folder, options)
        else:
            print(f"ResNet-20 of width {options.width:g}, {torch.get_num_threads()} threads, {os.cpu_count()} cores")
            train(folder, options)


if __name__ == "__main__":
    main(tyro.cli(Options))
