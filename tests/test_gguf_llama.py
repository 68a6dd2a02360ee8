"""llama.cpp on files of save_gguf: float models to its rounding, low-bit ones to its 8-bit activations, and texts."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitorch
import bitorch.hub
from bitorch import LowBitConfig
from test_gguf import LLAMA3, WEIGHTS_ALONE, WIDE, converted, gpt2, llama, qwen2, qwen3
from test_gguf_tokenizers import SPLITS, TEXT, trained

pytest.importorskip("gguf")
llama_cpp = pytest.importorskip("llama_cpp")
_F32, _NO_FLASH_ATTENTION = 0, 0
#: What it logs about a model goes nowhere; a function that ctypes has made must be kept.
_SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)


@contextlib.contextmanager
def loaded(path: Path) -> Iterator[Any]:
    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    assert model, "llama.cpp did not load the file"
    yield model
    llama_cpp.llama_model_free(model)


def logits_of(path: Path, tokens: Tensor) -> Tensor:
    """Return llama.cpp's logits of all tokens, with one thread and a cache of float32."""
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_threads, settings.n_threads_batch = 32, 1, 1
    settings.type_k, settings.type_v, settings.flash_attn_type = _F32, _F32, _NO_FLASH_ATTENTION
    with loaded(path) as model:
        context = llama_cpp.llama_init_from_model(model, settings)
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens.tolist()):
            batch.token[i], batch.pos[i], batch.logits[i] = token, i, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        assert llama_cpp.llama_decode(context, batch) == 0
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        rows = [np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (size,)) for i in range(len(tokens))]
        found = torch.from_numpy(np.stack(rows))
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
    return found


def difference(net: nn.Module, path: Path) -> float:
    """Return how far llama.cpp's logits are from the model's, as a share of these."""
    tokens = torch.randint(3, 48, (24,), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = net(tokens.unsqueeze(0)).logits[0]
    return float((logits_of(path, tokens) - expected).norm() / expected.norm())


LINEAR = {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}
FLOAT_NETS: dict[str, Callable[[], nn.Module]] = {
    "llama": lambda: llama(num_hidden_layers=2),
    "llama, no groups": lambda: llama(num_key_value_heads=4),
    "llama, head of its own size": lambda: llama(head_dim=32),
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama 3's frequencies": lambda: llama(rope_parameters=LLAMA3),
    "llama, linear frequencies": lambda: llama(rope_parameters=LINEAR),
    "qwen2": lambda: qwen2(num_hidden_layers=2),
    "qwen2, linear frequencies": lambda: qwen2(rope_parameters=LINEAR),
    "qwen3": lambda: qwen3(tie_word_embeddings=True),
    "gpt2": gpt2,
}


@pytest.mark.parametrize("make", FLOAT_NETS.values(), ids=FLOAT_NETS)
def test_a_float_model_gives_the_same_logits(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """So names, settings, and the order of rows are right. GPT-2's GELU is a table of float16 in llama.cpp."""
    net = make()
    bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    assert difference(net, tmp_path / "net.gguf") < (1e-3 if make is gpt2 else 1e-5)


LOW_BIT: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "absmean": (lambda: llama(**WIDE), LowBitConfig(2, 32, weights="absmean", range="dynamic"), "TQ2_0"),
    "absmean, tokens of 8 bits": (
        lambda: llama(**WIDE),
        LowBitConfig(2, 8, weights="absmean", range="dynamic"),
        "TQ2_0",
    ),
    "four bits": (qwen2, WEIGHTS_ALONE, "Q4_0"),
    "table and head": (
        lambda: llama(tie_word_embeddings=True),
        LowBitConfig(4, 32, weights="absmax", group_size=32, first="same", last="same"),
        "Q4_0",
    ),
    "ternary table": (
        lambda: llama(**WIDE, tie_word_embeddings=True),
        LowBitConfig(2, 32, weights="absmax", weight_scale="channel", first="same", last="same"),
        "TQ2_0",
    ),
    "odd codes": (qwen3, LowBitConfig(4, 32, weights="dorefa", range="dynamic"), "Q5_0"),
    "eight bits": (gpt2, LowBitConfig(8, 32, weights="absmax", group_size=32), "Q8_0"),
    "values": (llama, LowBitConfig(2, 32, weights="ttq", range="dynamic"), "F32"),
}


@pytest.mark.parametrize("case", LOW_BIT)
def test_a_low_bit_model_gives_near_logits(case: str, tmp_path: Path) -> None:
    """llama.cpp rounds activations to 8 bits. Other codes, or rows in another order, give a difference of about 1."""
    make, config, kind = LOW_BIT[case]
    net = converted(make(), config)
    saved = bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    assert kind in {tensor.type for tensor in saved.tensors}
    assert difference(net, tmp_path / "net.gguf") < (1e-5 if kind == "F32" else 0.03)


@pytest.mark.parametrize("pre", SPLITS)
def test_texts_have_the_tokenizers_tokens(pre: str, tmp_path: Path) -> None:
    tokenizer = trained(SPLITS[pre](), ignore_merges=pre == "llama-bpe")
    bitorch.hub.save_gguf(llama(vocab_size=410), tmp_path / "net.gguf", tokenizer=tokenizer)
    text = TEXT.encode()
    found = (ctypes.c_int32 * 400)()
    with loaded(tmp_path / "net.gguf") as model:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        number = llama_cpp.llama_tokenize(vocabulary, text, len(text), found, 400, True, True)
    assert list(found[:number]) == tokenizer(TEXT)["input_ids"]
