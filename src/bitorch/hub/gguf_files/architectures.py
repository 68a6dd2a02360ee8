"""Language models of transformers that llama.cpp computes the same: their settings in its words, and what they lack."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..transformers_nets import class_of

#: Settings of a file behind the architecture's name: numbers, and texts.
Settings = dict[str, int | float | str]
_OF_ATTENTION = frozenset({"attn_q", "attn_k", "attn_v"})
_OF_FEEDFORWARD = frozenset({"ffn_gate", "ffn_up", "ffn_down"})


@dataclass(frozen=True)
class Architecture:
    """How llama.cpp names and computes a class of models.

    Attributes:
        name: llama.cpp's.
        settings: of a model's config; ValueError where llama.cpp would compute something else.
        biases: names of tensors in a block that may have one.
        pairs_rows: whether rows of queries and keys go in the pairs that are rotated together.
    """

    name: str
    settings: Callable[[Any], Settings]
    biases: frozenset[str]
    pairs_rows: bool = False


def architecture_of(model: nn.Module) -> tuple[Architecture, Settings]:
    """Return what llama.cpp makes of a model.

    Raises:
        ValueError: another class, or settings that llama.cpp does not have.
    """
    kind = class_of(model)
    if kind not in ARCHITECTURES:
        raise ValueError(
            f"{kind} is none of the models that save_gguf knows: {', '.join(ARCHITECTURES)}; save_pretrained writes "
            "any model of transformers into a folder"
        )
    found = ARCHITECTURES[kind]
    return found, found.settings(model.config)


def head_size(config: Any) -> int:
    """Return how many numbers a head of a Llama or Qwen has."""
    size = getattr(config, "head_dim", None)
    return int(config.hidden_size // config.num_attention_heads if size is None else size)


def paired_rows(heads: int, rows: int) -> Tensor:
    """Return where the rows of queries or keys come from: llama.cpp rotates neighbours, transformers i and i + half.

    Args:
        heads: of the queries, or of the keys.
        rows: of the weight.
    """
    return torch.arange(rows).reshape(heads, 2, -1).transpose(1, 2).reshape(-1)


def rope_factors(config: Any) -> Tensor | None:
    """Return what each pair's frequency is divided by, [head size / 2], float32, with Llama 3's scaling; else None."""
    rope = config.rope_parameters
    if rope["rope_type"] != "llama3":
        return None
    size, old = head_size(config), rope["original_max_position_embeddings"]
    frequency = rope["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    turns = old * frequency / (2 * math.pi)  # in the length that it was trained with
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # 1 of the fast ones, 0 of the slow
    factors: Tensor = 1 / ((1 - kept) / factor + kept)
    return factors.float()


def _common(config: Any, rope_types: tuple[str, ...] = ("default", "linear")) -> Settings:
    _check(config, "hidden_act", ("silu",))
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()):
        raise _differs("layer_types", config.layer_types, ("full_attention",))
    size = head_size(config)
    return {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "vocab_size": config.vocab_size,
        "rope.dimension_count": size,
        **_rope(config.rope_parameters, rope_types),
    }


def _rope(rope: Mapping[str, Any], known: tuple[str, ...]) -> Settings:
    kind = rope["rope_type"]
    if kind not in known:
        raise _differs('rope_parameters["rope_type"]', kind, known)
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise _differs('rope_parameters["partial_rotary_factor"]', rope["partial_rotary_factor"], (1.0,))
    found: Settings = {"rope.freq_base": float(rope["rope_theta"])}
    if kind == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return found


def _llama(config: Any) -> Settings:
    return _common(config, ("default", "linear", "llama3"))  # the last is a tensor in the file, and no setting


def _qwen2(config: Any) -> Settings:
    _check(config, "use_sliding_window", (False,))
    if head_size(config) * config.num_attention_heads != config.hidden_size:
        raise _differs("head_dim", head_size(config), (config.hidden_size // config.num_attention_heads,))
    return _common(config)


def _qwen3(config: Any) -> Settings:
    _check(config, "use_sliding_window", (False,))
    return _common(config)


def _gpt2(config: Any) -> Settings:
    _check(config, "activation_function", ("gelu_new", "gelu_pytorch_tanh"))
    _check(config, "scale_attn_weights", (True,))
    _check(config, "scale_attn_by_inverse_layer_idx", (False,))
    _check(config, "add_cross_attention", (False,))
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": 4 * config.n_embd if config.n_inner is None else config.n_inner,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
        "vocab_size": config.vocab_size,
    }


def _check(config: Any, name: str, fine: tuple[object, ...]) -> None:
    if getattr(config, name) not in fine:
        raise _differs(name, getattr(config, name), fine)


def _differs(name: str, value: object, fine: tuple[object, ...]) -> ValueError:
    return ValueError(
        f"config.{name} is {value!r}, and for this architecture llama.cpp has {' or '.join(map(repr, fine))} only; "
        "build the model with that, or save it with save_pretrained"
    )


#: By the class of transformers.
ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama", _llama, _OF_ATTENTION | _OF_FEEDFORWARD | {"attn_output"}, True),
    "Qwen2ForCausalLM": Architecture("qwen2", _qwen2, _OF_ATTENTION),
    "Qwen3ForCausalLM": Architecture("qwen3", _qwen3, _OF_ATTENTION),
    "GPT2LMHeadModel": Architecture(
        "gpt2",
        _gpt2,
        frozenset({"attn_norm", "attn_qkv", "attn_output", "ffn_norm", "ffn_up", "ffn_down", "output_norm"}),
    ),
}
