"""The networks as `bitorch.deploy` makes them, with random weights: packed files, verified against their models."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

import bitorch
import networks_models
from layers_cases import Bits
from networks_models import float_model, image_size, low_bit_config, settle

FOLDER = Path(__file__).parents[1] / "build" / "benchmarks"
"""Deploying and verifying all networks takes minutes, so files are kept; what they depend on is in their names."""


def deployed(net: str, bits: Bits) -> Path:
    """The packed network's file. It takes uint8 pixels, NCHW.

    Raises:
        bitorch.DeploymentError: its numbers are not the model's.
    """
    path = FOLDER / f"{net}-{bits}-{_version()}.bit.safetensors"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        model = float_model(net)
        bitorch.quantize_(model, low_bit_config(net, bits.weight, bits.activation))
        settle(model, image_size(net))
        packed = bitorch.deploy(model, torch.rand(1, 3, image_size(net), image_size(net)), pixels=True)
        packed.save(path)
    return path


def _version() -> str:
    """Of everything that a packed network comes from: the package's sources and the networks' settings."""
    assert bitorch.__file__ is not None
    sources = sorted(Path(bitorch.__file__).parent.rglob("*.py"))
    digest = hashlib.sha256()
    for source in (*sources, Path(networks_models.__file__), Path(__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
