"""Whether the hardware that was asked for is there."""

from __future__ import annotations

import torch


def device_type(accelerator: str) -> str:
    """Return the type of the devices that an accelerator of the settings is on this machine: "cpu", "cuda", "mps"."""
    has_gpu, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if accelerator == "cpu" or not (has_gpu or has_mps):
        return "cpu"
    return "cuda" if has_gpu and accelerator != "mps" else "mps"


def check_hardware(accelerator: str, devices: int) -> None:
    """Raise a ValueError that names the field if this machine lacks the accelerator or has too few devices.

    On the CPU devices are processes, of which there may be any number.
    """
    has_gpu, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (accelerator == "gpu" and not has_gpu) or (accelerator == "mps" and not has_mps):
        raise ValueError(
            f"accelerator is {accelerator!r}, but PyTorch finds none here (`bitorch doctor` shows what it finds); "
            "use auto or cpu"
        )
    if accelerator == "cpu" or not (has_gpu or has_mps):
        return
    available = torch.cuda.device_count() if has_gpu and accelerator != "mps" else 1
    if devices > available:
        raise ValueError(f"devices must be at most {available}, the number of devices of this machine, got {devices}")
