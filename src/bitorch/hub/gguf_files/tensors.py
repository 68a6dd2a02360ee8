"""The tensors of a model, by the names that llama.cpp has for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn

from ...deployment.partial.partial_file import packed_layers
from ...deployment.weight_only import leaves_inputs
from ...differences import shortened
from ...layers import QEmbedding, QLinear
from ...layers.input_quantizer import gives_its_quantizers_values
from ...layers.low_bit import Converted, LowBit, WeightQuantized
from ...layers.qtransposed_linear import QTransposedLinear, is_transposed_linear
from ...layers.weight_sources import refresh
from ...quantizations import Identity, InputDynamic, Quantization
from ...quantizations.bits import FLOAT_BITS
from ...quantizations.own_values import is_as_made
from .architectures import Architecture, paired_rows, rope_factors
from .stored import Floats, Stored, stored_codes, stored_floats

#: Exact types: a subclass may compute something else.
_LOW_BIT = (QLinear, QTransposedLinear, QEmbedding)


class Named(NamedTuple):
    """A tensor of the file: its name there, where it comes from, and what is written."""

    name: str
    source: str
    stored: Stored


def check_layers(model: nn.Module) -> None:
    """Raise a ValueError where llama.cpp would compute a low-bit layer with other numbers than the model does."""
    if packed_layers(model):
        raise ValueError("the model's layers are packed; pass the model that deploy(…, partial=True) was called with")
    modules = list(model.named_modules())
    others = [name for name, module in modules if isinstance(module, Converted) and type(module) not in _LOW_BIT]
    if others:
        raise ValueError(
            f"{shortened(others)} are low-bit layers that llama.cpp has nothing for; make them float again with "
            "bitorch.float_(model, [names])"
        )
    rounded = [name for name, module in modules if type(module) in _LOW_BIT and not _has_inputs_of_llama(module)]
    if rounded:
        raise ValueError(
            f"the activations of {shortened(rounded)} are quantized in a way that llama.cpp does not have: it takes 8 "
            "bits with a scale for each block of a token, whatever the model was trained with. Train with "
            'activation_bits=32 or 8, both with range="dynamic"; last=8 has 8 bits of activations, too'
        )


def _has_inputs_of_llama(layer: nn.Module) -> bool:
    """Say whether a layer takes floats, or 8 bits with a step for each token, which blocks are finer than."""
    if isinstance(layer, QEmbedding):
        return _leaves(layer.output_quantization)
    assert isinstance(layer, LowBit)
    if leaves_inputs(layer):
        return True
    quantizer = layer.input_quantization
    is_dynamic = type(quantizer) is InputDynamic and quantizer.bit_width in (8, FLOAT_BITS)
    return (
        is_dynamic
        and gives_its_quantizers_values(layer.activation)
        and all(is_as_made(quantizer, InputDynamic, name) for name in ("quantize", "forward"))
    )


def _leaves(quantizer: Quantization) -> bool:
    is_plain = type(quantizer) is Identity
    return is_plain and all(is_as_made(quantizer, Identity, name) for name in ("quantize", "forward"))


def named_tensors(model: Any, architecture: Architecture, names: Any, floats: Floats) -> Iterator[Named]:
    """Yield all tensors of the file.

    Args:
        model: that `check_layers` has found fine.
        names: from `gguf.get_tensor_name_map`.
    """
    layers = {name: layer for name, layer in model.named_modules() if _weight_of(layer) is not None}
    lost = [name for name, _ in model.named_parameters() if not any(name.startswith(f"{one}.") for one in layers)]
    unknown = [name for name in layers if names.get_name(name) is None]
    if lost or unknown:
        raise ValueError(
            f"llama.cpp has no place for {shortened([*unknown, *lost])} in a model of architecture "
            f"{architecture.name}; take out what was added to the model"
        )
    if _has_head_of_table(model):
        del layers["lm_head"]  # llama.cpp takes the table, as there is no tensor of this name
    factors = rope_factors(model.config) if architecture.pairs_rows else None
    if factors is not None:
        yield Named("rope_freqs.weight", "config.rope_parameters", stored_floats("rope_freqs", factors, "F32"))
    for name, layer in layers.items():
        place = names.get_name(name)
        yield Named(
            f"{place}.weight", f"{name}.weight", _paired(_stored(name, layer, floats), place, model, architecture)
        )
        bias = _bias_of(layer)
        if bias is None:
            continue
        if re.sub(r"blk\.\d+\.", "", place) not in architecture.biases:
            raise ValueError(
                f"{name} has a bias, and a {place} of architecture {architecture.name} has none in llama.cpp; build "
                "the model without it"
            )
        stored = stored_floats(f"{name}.bias", bias, "F32")
        yield Named(f"{place}.bias", f"{name}.bias", _paired(stored, place, model, architecture))


def _weight_of(layer: nn.Module) -> Tensor | None:
    """Return the weight of a layer that has one, as its next call will see it."""
    refresh(layer, "weight")
    weight = getattr(layer, "weight", None)
    return weight if isinstance(weight, Tensor) else None


def _bias_of(layer: nn.Module) -> Tensor | None:
    refresh(layer, "bias")
    bias = getattr(layer, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _has_head_of_table(model: Any) -> bool:
    """Say whether the head has the numbers of the embedding: the same Parameter, quantized by the same quantizer."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is not table.weight:
        return False
    of_head, of_table = (
        layer.weight_quantization if isinstance(layer, WeightQuantized) else None for layer in (head, table)
    )
    return of_head is of_table


def _stored(name: str, layer: nn.Module, floats: Floats) -> Stored:
    """Return a layer's weight, with the outputs first."""
    if isinstance(layer, WeightQuantized):
        return stored_codes(name, layer.weight_quantization, layer._current_weight(), floats)
    weight = _weight_of(layer)
    assert weight is not None  # it is asked for layers that have one
    return stored_floats(name, weight.t() if is_transposed_linear(type(layer)) else weight, floats)


def _paired(stored: Stored, place: str, model: Any, architecture: Architecture) -> Stored:
    """Return queries and keys with rows in the pairs that llama.cpp rotates together, and all else as it is."""
    config = model.config
    heads = (
        {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads} if architecture.pairs_rows else {}
    )
    part = place.rpartition(".")[2]
    if part not in heads:
        return stored
    order = paired_rows(heads[part], len(stored.data)).numpy()
    return Stored(stored.type, stored.data[order], stored.shape, stored.difference, stored.note)
