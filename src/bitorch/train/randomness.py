"""Randomness as a pure function of the place in the run.

Dropout, augmentation and gradient noise draw from PyTorch's global generators. Before every training step these are
seeded from (seed, rank, step). So a run that is stopped anywhere and resumed draws the same numbers as one that is
not, on any number of processes, without a stored generator state, and whatever validation or the user draws in between.
Explicit generators, as GradientDoReFa takes them, have a history of their own: their states go into the checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def step_seed(seed: int, rank: int, step: int, batch: int) -> int:
    """Return a 63-bit seed. The batch tells apart the batches that one optimizer step may accumulate."""
    digest = hashlib.blake2b(f"{seed} {rank} {step} {batch}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the global generators of the CPU and of the device.

    torch.manual_seed does the same for every backend that exists, and takes a hundred times as long.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def explicit_generators(model: nn.Module) -> dict[str, torch.Generator]:
    """Return the generators that modules hold as their attribute `generator`, by module name; a shared one once."""
    found: dict[str, torch.Generator] = {}
    seen: set[int] = set()
    for name, module in model.named_modules():
        generator = getattr(module, "generator", None)
        if isinstance(generator, torch.Generator) and id(generator) not in seen:
            seen.add(id(generator))
            found[name] = generator
    return found


def generator_states(model: nn.Module) -> dict[str, Tensor]:
    """Return the states of the explicit generators, uint8 each."""
    return {name: generator.get_state() for name, generator in explicit_generators(model).items()}


def restore_generators(model: nn.Module, states: dict[str, Tensor]) -> None:
    """Set the states of the explicit generators; ValueError if the model has others than the checkpoint."""
    generators = explicit_generators(model)
    if generators.keys() != states.keys():
        raise ValueError(
            f"the checkpoint has generator states for {sorted(states) or 'no module'}, the model has generators in "
            f"{sorted(generators) or 'no module'}; build the model as it was built for the first run"
        )
    for name, generator in generators.items():
        generator.set_state(states[name].cpu())


@contextmanager
def exact_operations(is_exact: bool) -> Iterator[None]:
    """Use deterministic operations inside, and restore the choice that was made before."""
    if not is_exact:
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    was_warning = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    was_filling = memory.fill_uninitialized_memory
    was_benchmarking = torch.backends.cudnn.benchmark
    # cuBLAS reads it when its first handle is made; without it PyTorch refuses matrix products.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # only hides bugs, and costs time
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=was_warning)
        memory.fill_uninitialized_memory = was_filling
        torch.backends.cudnn.benchmark = was_benchmarking
