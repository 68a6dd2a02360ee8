"""GGUF files: the blocks against gguf's own reading of them, and whole models against their quantized values."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import bitorch
import bitorch.hub
from bitorch import LowBitConfig
from bitorch.hub.gguf_files.blocks import BLOCK_TYPES, BlockType, block_type, packed
from bitorch.hub.gguf_files.stored import stored_codes, stored_floats
from bitorch.layers import QLinear
from bitorch.layers.low_bit import WeightQuantized
from bitorch.quantizations import Identity, InputLSQ, WeightAbsMax

gguf = pytest.importorskip("gguf")
transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
WIDE: dict[str, Any] = {**SIZES, "hidden_size": 256, "intermediate_size": 256}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 4.0, "low_freq_factor": 0.1, "high_freq_factor": 2.0,
    "original_max_position_embeddings": 24,
}  # fmt: skip
WEIGHTS_ALONE = LowBitConfig(4, 32, weights="absmax", group_size=32)


def llama(**more: Any) -> nn.Module:
    return randomized(transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**SIZES, **more})))


def qwen2(**more: Any) -> nn.Module:
    return randomized(transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**{**SIZES, **more})))


def qwen3(**more: Any) -> nn.Module:
    return randomized(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**{**SIZES, "head_dim": 32, **more})))


def gpt2(**more: Any) -> nn.Module:
    sizes = {"n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 32, "vocab_size": 48}
    return randomized(
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **more))
    )


def randomized(net: nn.Module) -> nn.Module:
    """Make norms and biases something else than 1 and 0, and weights large enough to tell logits apart."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.08 if parameter.dim() > 1 else noise * 0.1 + ("norm" in name or "ln_" in name))
    return net.eval()


def converted(net: nn.Module, config: Any) -> nn.Module:
    bitorch.quantize_(net, config)
    return net.eval()


def tensors_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the values of a file, outputs first."""
    reader = gguf.GGUFReader(path)
    return {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}


def types_of(saved: bitorch.hub.GgufFile) -> dict[str, str]:
    return {tensor.source: tensor.type for tensor in saved.tensors}


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
def test_blocks_are_those_of_the_format(kind: BlockType) -> None:
    """Random and extreme codes, one scale for two blocks: gguf reads exactly codes times scale."""
    generator = np.random.default_rng(0)
    shape = (5, 4 * kind.size)
    scale = generator.normal(size=(5, 2)).astype(np.float16)
    random = generator.integers(kind.low, kind.high + 1, shape)
    cases = [random, np.full(shape, kind.low), np.full(shape, kind.high), np.arange(kind.low, kind.high + 1)]
    for codes in (*cases[:3], np.resize(cases[3], shape)):
        expected = codes.astype(np.float32) * np.repeat(scale.astype(np.float32), 2 * kind.size, axis=1)
        data = packed(kind, codes.astype(np.float64), scale)
        found = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[kind.name])
        np.testing.assert_array_equal(found, expected)
        block, nbytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind.name]]
        assert (kind.size, data.shape[1]) == (block, 4 * nbytes)


@pytest.mark.parametrize(
    ("low", "high", "shared", "expected"),
    [
        (-1, 1, 256, "TQ2_0"),
        (0, 0, 512, "TQ2_0"),
        (-1, 1, 128, "Q4_0"),
        (-2, 1, 256, "Q4_0"),
        (-8, 7, 32, "Q4_0"),
        (-7, 8, 32, "Q5_0"),
        (-15, 15, 96, "Q5_0"),
        (-17, 0, 32, "Q8_0"),
        (-128, 127, 64, "Q8_0"),
        (-129, 0, 32, None),
        (-1, 1, 48, None),
    ],
)
def test_the_smallest_type_that_fits_is_taken(low: int, high: int, shared: int, expected: str | None) -> None:
    found = block_type(low, high, shared)
    assert (None if found is None else found.name) == expected


def rows_in_pairs(values: Tensor, heads: int) -> Tensor:
    """Row i and row i + half of each head beside each other, by a loop."""
    size = len(values) // heads
    order = [head * size + i + side * (size // 2) for head in range(heads) for i in range(size // 2) for side in (0, 1)]
    return values[order]


def expected_values(net: Any, source: str) -> Tensor:
    """What a tensor of the file stands for, by the model's own quantizers."""
    name, _, part = source.rpartition(".")
    layer = net.get_submodule(name)
    values: Tensor = getattr(layer, part)
    if part == "weight" and isinstance(layer, WeightQuantized):
        values = layer.weight_quantization(layer._quantizer_weight())
    elif part == "weight" and type(layer).__name__ == "Conv1D":
        values = values.t()
    if isinstance(net, transformers.LlamaForCausalLM):
        heads = {"q_proj": net.config.num_attention_heads, "k_proj": net.config.num_key_value_heads}
        return rows_in_pairs(values, heads.get(name.rpartition(".")[2], 0)) if name.endswith(tuple(heads)) else values
    return values


CASES: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "absmean, tokens of 8 bits": (
        lambda: llama(**WIDE),
        LowBitConfig(2, 8, weights="absmean", range="dynamic"),
        "TQ2_0",
    ),
    "one bit": (lambda: qwen2(**WIDE), LowBitConfig(1, 32, weights="absmax", weight_scale="channel"), "TQ2_0"),
    "ternary in groups": (llama, LowBitConfig(2, 32, weights="absmax", group_size=32), "Q4_0"),
    "four bits": (qwen2, WEIGHTS_ALONE, "Q4_0"),
    "learned steps": (qwen3, LowBitConfig(3, 32, weights="lsq", range="dynamic"), "Q4_0"),
    "balanced grid": (gpt2, LowBitConfig(2, 32, weights="seq", range="dynamic"), "Q4_0"),
    "odd codes": (llama, LowBitConfig(4, 32, weights="dorefa", range="dynamic"), "Q5_0"),
    "five bits": (gpt2, LowBitConfig(5, 32, weights="absmax", group_size=32), "Q5_0"),
    "eight bits": (llama, LowBitConfig(8, 32, weights="absmax", group_size=32), "Q8_0"),
    "groups of 16": (llama, LowBitConfig(4, 32, weights="absmax", group_size=16), "F32"),
    "odd codes of 8 bits": (qwen3, LowBitConfig(8, 8, weights="dorefa", range="dynamic"), "F32"),
    "two scales": (llama, LowBitConfig(2, 32, weights="ttq", range="dynamic"), "F32"),
}


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_the_models(case: str, tmp_path: Path) -> None:
    make, config, kind = CASES[case]
    net = converted(make(), config)
    saved = bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    low_bit = [name for name, layer in net.named_modules() if isinstance(layer, QLinear)]
    assert {types_of(saved)[f"{name}.weight"] for name in low_bit} == {kind}
    found = tensors_of(tmp_path / "net.gguf")
    assert list(found) == [tensor.name for tensor in saved.tensors]
    for tensor in saved.tensors:
        expected = expected_values(net, tensor.source).detach().double().numpy()
        values = found[tensor.name].astype(np.float64)
        assert values.shape == expected.shape == tensor.shape
        is_there = expected != 0
        np.testing.assert_array_equal(values[~is_there], 0)
        difference = np.abs(values[is_there] / expected[is_there] - 1).max(initial=0)
        assert difference == pytest.approx(tensor.difference, abs=2e-7)
        assert difference <= (0 if tensor.type == "F32" else 2**-11 + 2**-20)
    assert saved.nbytes == sum(tensor.data.nbytes for tensor in gguf.GGUFReader(saved.path).tensors)


LOADED = {
    "llama": llama,
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "llama, biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "qwen2": qwen2,
    "qwen3": qwen3,
    "gpt2": gpt2,
}


@pytest.mark.parametrize("make", LOADED.values(), ids=LOADED)
def test_transformers_reads_the_same_model(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    """Its loader, which knows nothing of ours, finds the weights of a float model with the low-bit one's logits."""
    loading = pytest.importorskip("transformers.modeling_gguf_pytorch_utils")
    net: Any = converted(make(), WEIGHTS_ALONE)
    bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    again = type(net)(net.config)
    content = loading.load_gguf_checkpoint(str(tmp_path / "net.gguf"), return_tensors=True, model_to_load=again)
    for name in ("num_attention_heads", "num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size"):
        if name in content["config"] and hasattr(net.config, name):
            assert content["config"][name] == getattr(net.config, name)
    assert content["config"]["tie_word_embeddings"] == net.config.tie_word_embeddings
    missing, unexpected = again.load_state_dict(content["tensors"], strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    again.tie_weights()
    tokens = torch.randint(3, 48, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = net(tokens).logits, again.eval()(tokens).logits
    assert (found - expected).norm() / expected.norm() < 1e-3


def test_a_low_bit_table_and_head_that_are_one_are_written_once(tmp_path: Path) -> None:
    config = LowBitConfig(4, 32, weights="absmax", group_size=32, first="same", last="same")
    tied = bitorch.hub.save_gguf(converted(llama(tie_word_embeddings=True), config), tmp_path / "tied.gguf")
    assert types_of(tied)["model.embed_tokens.weight"] == "Q4_0"
    assert "lm_head.weight" not in types_of(tied)
    head_alone = LowBitConfig(4, 32, weights="absmax", group_size=32, last="same")
    net = converted(llama(tie_word_embeddings=True), head_alone)
    types = types_of(bitorch.hub.save_gguf(net, tmp_path / "head.gguf"))
    assert (types["model.embed_tokens.weight"], types["lm_head.weight"]) == ("F32", "Q4_0")


def test_a_float_model_is_written_and_said_to_be_one(tmp_path: Path) -> None:
    net: Any = llama()
    saved = bitorch.hub.save_gguf(net, tmp_path / "net.gguf", floats="F16")
    assert str(saved).endswith("; no layer is low-bit")
    assert {tensor.type for tensor in saved.tensors if len(tensor.shape) > 1} == {"F16"}
    assert {tensor.type for tensor in saved.tensors if len(tensor.shape) == 1} == {"F32"}
    (head,) = (tensor for tensor in saved.tensors if tensor.name == "output.weight")
    expected = net.lm_head.weight.detach().numpy()
    np.testing.assert_array_equal(tensors_of(saved.path)["output.weight"], expected.astype(np.float16))
    assert 0 < head.difference < 2**-4  # small numbers have fewer bits


def test_the_table_tells_types_bytes_and_differences(tmp_path: Path) -> None:
    config = [("*_proj", WEIGHTS_ALONE), ("*.k_proj", LowBitConfig(4, 32, weights="absmax", group_size=16))]
    saved = bitorch.hub.save_gguf(converted(llama(), config), tmp_path / "net.gguf")
    text = str(saved)
    assert re.search(r"blk\.0\.attn_q\.weight +model\.layers\.0\.self_attn\.q_proj\.weight +64×64 +Q4_0 +2,304 ", text)
    assert re.search(r"k_proj\.weight +32×64 +F32 +8,192 +0  values: no type has codes -7 … 7 in groups of 16\n", text)
    assert f"net.gguf, llama: {saved.nbytes:,} bytes (" in text


def test_settings_are_those_of_the_config(tmp_path: Path) -> None:
    bitorch.hub.save_gguf(llama(rope_parameters=LLAMA3, rms_norm_eps=1e-5), tmp_path / "net.gguf")
    fields = {name: field.contents() for name, field in gguf.GGUFReader(tmp_path / "net.gguf").fields.items()}
    expected = {
        "general.architecture": "llama", "llama.context_length": 32, "llama.embedding_length": 64,
        "llama.block_count": 1, "llama.feed_forward_length": 96, "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2, "llama.attention.key_length": 16, "llama.rope.freq_base": 10000.0,
        "llama.vocab_size": 48, "tokenizer.ggml.model": "none", "general.file_type": 0,
    }  # fmt: skip
    assert {name: fields[name] for name in expected} == expected
    assert fields["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_frequencies_of_llama_3_are_those_of_transformers(tmp_path: Path) -> None:
    net: Any = llama(rope_parameters=LLAMA3)
    bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    factors = tensors_of(tmp_path / "net.gguf")["rope_freqs.weight"]
    frequencies = 10000.0 ** (-np.arange(0, 16, 2) / 16) / factors
    np.testing.assert_allclose(frequencies, net.model.rotary_emb.inv_freq.numpy(), rtol=1e-6)
    assert len(set(factors)) > 2  # fast ones, slow ones, and one between


def test_computed_weights_are_written_as_they_are(tmp_path: Path) -> None:
    net: Any = llama()
    parametrizations.weight_norm(net.model.layers[0].mlp.up_proj)
    bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    found = tensors_of(tmp_path / "net.gguf")["blk.0.ffn_up.weight"]
    np.testing.assert_array_equal(found, net.model.layers[0].mlp.up_proj.weight.detach().numpy())


def test_half_precision_is_written(tmp_path: Path) -> None:
    net = converted(llama().to(torch.bfloat16), WEIGHTS_ALONE)
    saved = bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    assert types_of(saved)["model.layers.0.mlp.up_proj.weight"] == "Q4_0"
    # The model's own values are rounded to bfloat16.
    assert max(tensor.difference for tensor in saved.tensors) <= 2**-8


def test_scales_that_float16_lacks_are_errors() -> None:
    quantizer = WeightAbsMax(4, group_size=32)
    weight = torch.ones(2, 64)
    for factor, message in (
        (1e6, "layer has a scale of 142857, and float16"),
        (1e-9, "layer has values of 1e-09 whose scale is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            stored_codes("layer", quantizer, weight * torch.tensor([1, factor]).unsqueeze(1), "F32")
    with pytest.raises(ValueError, match="layer has 1e\\+06, which F16 cannot hold"):
        stored_floats("layer", weight * 1e6, "F16")
    for bad in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match="layer has numbers that are not finite"):
            stored_codes("layer", quantizer, weight * bad, "F32")
    # A group of zeros has the scale 0.
    assert stored_codes("layer", quantizer, weight * 0, "F32").difference == 0


def test_a_quantizer_that_is_watched_is_written_by_its_values() -> None:
    quantizer = WeightAbsMax(4, per_channel=True)
    quantizer.register_forward_hook(lambda _, inputs, output: output * 2)
    weight = torch.randn(2, 32)
    stored = stored_codes("layer", quantizer, weight, "F32")
    assert stored.type == "F32"
    np.testing.assert_array_equal(stored.data, quantizer(weight).numpy())


def refused(net: nn.Module, message: str, tmp_path: Path, error: type[Exception] = ValueError, **more: Any) -> None:
    with pytest.raises(error, match=message):
        bitorch.hub.save_gguf(net, tmp_path / "net.gguf", **more)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            LowBitConfig(4, 4, range="learned"),
            "q_proj.* and 3 more are quantized in a way that llama.cpp does not have",
        ),
        (LowBitConfig(4, 8, range="calibrated"), 'Train with activation_bits=32 or 8, both with range="dynamic"'),
        (LowBitConfig(4, 2, range="dynamic"), "the activations of model.layers.0.self_attn.q_proj, "),
        (LowBitConfig(4, 32, weights="dorefa"), "the activations of"),  # a ReLU
        (LowBitConfig(4, 32, weights="absmax", last=8), "the activations of lm_head are .*last=8 has"),
    ],
)
def test_other_activations_are_refused(config: LowBitConfig, message: str, tmp_path: Path) -> None:
    refused(converted(llama(), config), message, tmp_path)


def test_a_table_whose_rows_are_quantized_again_is_refused(tmp_path: Path) -> None:
    net: Any = converted(llama(), LowBitConfig(4, 32, weights="absmax", group_size=32, first="same"))
    assert isinstance(net.model.embed_tokens.output_quantization, Identity)
    net.model.embed_tokens.output_quantization = InputLSQ(4)
    refused(net, "the activations of model.embed_tokens are", tmp_path)


def test_other_models_are_refused(tmp_path: Path) -> None:
    refused(nn.Linear(3, 3), "Linear is no model class of transformers", tmp_path)
    bert = transformers.BertModel(transformers.BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2))
    refused(bert, "BertModel is none of the models that save_gguf knows: LlamaForCausalLM, Qwen2ForCausalLM", tmp_path)
    refused("net", "model must be a torch.nn.Module, got str", tmp_path, TypeError)  # type: ignore[arg-type]
    refused(llama(), 'floats must be "F32" or "F16", got \'Q4_0\'', tmp_path, floats="Q4_0")
    packed_net = bitorch.deploy(converted(llama(), WEIGHTS_ALONE), partial=True)
    refused(packed_net, "model is packed; pass the model that deploy", tmp_path, TypeError)
    refused(packed_net.model, "the model's layers are packed", tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: llama(hidden_act="gelu"), "config.hidden_act is 'gelu', .* llama.cpp has 'silu' only"),
        (lambda: qwen2(use_sliding_window=True), "config.use_sliding_window is True"),
        (lambda: qwen2(head_dim=32), "config.head_dim is 32"),
        (lambda: gpt2(activation_function="relu"), "'gelu_new' or 'gelu_pytorch_tanh' only"),
        (lambda: gpt2(scale_attn_by_inverse_layer_idx=True), "config.scale_attn_by_inverse_layer_idx is True"),
        (
            lambda: llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}),
            r"config.rope_parameters\[\"rope_type\"\] is 'dynamic', .*'default' or 'linear' or 'llama3' only",
        ),
        (lambda: qwen2(rope_parameters=LLAMA3), "is 'llama3', .*'default' or 'linear' only"),
    ],
)
def test_settings_that_llama_cpp_lacks_are_refused(make: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    refused(make(), message, tmp_path)


def test_tensors_that_llama_cpp_lacks_are_refused(tmp_path: Path) -> None:
    net: Any = qwen2()
    net.model.layers[0].mlp.up_proj.bias = nn.Parameter(torch.zeros(96))
    refused(net, "up_proj has a bias, and a blk.0.ffn_up of architecture qwen2 has none", tmp_path)
    net = llama()
    net.model.layers[0].mlp.adapter = nn.Linear(64, 4)
    refused(net, "no place for model.layers.0.mlp.adapter.* of architecture llama", tmp_path)


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = llama()
    with pytest.raises(FileNotFoundError, match="missing"):
        bitorch.hub.save_gguf(net, tmp_path / "missing" / "net.gguf")
    bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    before = (tmp_path / "net.gguf").read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_padding", fails)
    with pytest.raises(OSError, match="No space left"):
        bitorch.hub.save_gguf(net, tmp_path / "net.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["net.gguf"]
    assert (tmp_path / "net.gguf").read_bytes() == before
