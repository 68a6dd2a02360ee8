"""Embeddings, of float and of low-bit tables."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ....layers import QEmbedding
from ....layers.bembedding import BEmbedding
from ....quantizations import Identity
from ...asked_arithmetic import arithmetic_of
from ...packable import packed_codes
from ..problems import PARTIAL, Refusal
from ..reader import Reader
from .asked import computed
from .low_bit_settings import quantizer_settings


def embedding(
    call: Reader,
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> str:
    """F.embedding of a fixed table. What padding_idx names is a row like any other; the rest is for training."""
    if call.varies(weight):
        raise Refusal("its table depends on the input", f"Use a table of parameters, {PARTIAL}")
    _check_norm(max_norm)
    x = call.read_indices(input)
    return call.add("embedding", x, channels_at=call.result.dim() - 1, table=weight.detach())


def low_bit_embedding(call: Reader, input: Tensor, module: QEmbedding) -> str:
    """A QEmbedding: its quantized table, and the quantizer of its output."""
    _check_norm(module.max_norm)
    x = call.read_indices(input)
    with torch.no_grad():
        table = module.weight_quantization(module.weight.detach())
    quantizer, channels = module.output_quantization, call.result.dim() - 1

    def rows(indices: Tensor) -> Tensor:
        return F.embedding(indices, table).movedim(-1, 1)

    settings = {"table": table, **_codes(module, table)}
    step = "" if isinstance(quantizer, Identity) else "rows"
    shape = call.shape_along(channels)
    name = call.add("embedding", x, function=rows, shape=shape, step=step, channels_at=channels, **settings)
    if isinstance(quantizer, Identity):
        return name
    arithmetic = computed(arithmetic_of(quantizer))
    numbers = [n for n in (arithmetic.divide, arithmetic.plus) if n is not None and n.dim() > 1]
    if numbers:
        raise Refusal(f"{quantizer} divides another axis than the channels", f"Use one number for all, {PARTIAL}")

    def quantized(values: Tensor) -> Tensor:
        return torch.as_tensor(quantizer(values.movedim(1, -1))).movedim(-1, 1)

    return call.add(
        "quantizer", name, function=quantized, shape=shape, channels_at=channels, **quantizer_settings(arithmetic)
    )


def _codes(module: QEmbedding, table: Tensor) -> dict[str, Any]:
    """The settings of a table of codes; none where floats say it exactly, and codes and a scale do not."""
    quantizer = module.weight_quantization
    if quantizer.exact_max_code is None:
        return {}
    with torch.no_grad():
        found = packed_codes(quantizer, module.weight.detach())
        scale = quantizer.scale(module.weight.detach())
    if not isinstance(found, tuple) or scale.numel() not in (1, len(table)):
        return {}
    codes, bits = found
    step, lowest = (2, 1 - 2**bits) if quantizer.grid == "odd" else (1, -(2 ** (bits - 1)))
    places = ((codes - lowest) / step).long()
    scale = scale.reshape(-1).to(torch.float32)
    levels = lowest + step * torch.arange(2**bits, dtype=torch.float32)
    if len(scale) == 1:  # what each code became, with all roundings
        levels = levels * scale
        levels[places] = table
        scale = torch.ones(1)
    if not torch.equal(levels[places] * scale.view(-1, 1), table):
        return {}
    of_codes = {"codes": codes, "weight_bits": bits, "weight_grid": quantizer.grid}
    return {**of_codes, "levels": levels, "scale": scale}


def table_of_bits(call: Reader, input: Tensor, module: BEmbedding) -> str:
    """A BEmbedding: bits, and what they stand for; the padding's zeros take a second bit where bits are signs."""
    x = call.read_indices(input)
    bits = module.weight.detach()
    with torch.no_grad():
        table = module.select_unique_vectors(torch.arange(len(bits))).to(torch.float32)
    has_zeros = module.sign_bool and module.padding_idx is not None
    settings: dict[str, Any] = {
        "codes": table if has_zeros else bits.to(torch.float32) * 2 - 1,
        "weight_bits": 2 if has_zeros else 1,
        "weight_grid": "signed" if has_zeros else "odd",
        "levels": torch.tensor([-2.0, -1.0, 0.0, 1.0] if has_zeros else [-1.0 if module.sign_bool else 0.0, 1.0]),
        "scale": torch.ones(1),
    }
    if module.padding_idx is not None and not has_zeros:
        settings["codes"][module.padding_idx] = -1  # whose bits are not read, stands for 0

    def rows(indices: Tensor) -> Tensor:
        return F.embedding(indices, table).movedim(-1, 1)

    channels = call.result.dim() - 1
    shape = call.shape_along(channels)
    return call.add("embedding", x, function=rows, shape=shape, channels_at=channels, table=table, **settings)


def changing_table(max_norm: float | None) -> Refusal:
    """Why an embedding that limits the norms of the rows it reads has no counterpart."""
    return Refusal(
        f"max_norm={max_norm} changes the table while it is read",
        "Limit the rows of the table once, after training, and set max_norm = None",
    )


def _check_norm(max_norm: float | None) -> None:
    if max_norm is not None:
        raise changing_table(max_norm)
