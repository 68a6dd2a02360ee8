"""Models of transformers: converted, trained, packed, generating, and in folders. Tiny ones, of random weights."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import bitorch
import bitorch.hub
from bitorch import LowBitConfig
from bitorch.deployment.partial.packed_layers import PackedLinear
from bitorch.layers import QEmbedding, QLinear
from bitorch.layers.qtransposed_linear import QTransposedLinear, is_transposed_linear
from bitorch.quantizations import GradientDoReFa, InputLSQ, WeightLSQ

transformers = pytest.importorskip("transformers")
_SIZES: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 100, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 32,
}  # fmt: skip
_GROUPED: dict[str, Any] = {**_SIZES, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
CONFIG = LowBitConfig(4, 4, last=8, range="learned")


def llama(**more: Any) -> nn.Module:
    net: nn.Module = transformers.LlamaForCausalLM(transformers.LlamaConfig(**_GROUPED, **more))
    return net


def gpt2(**more: Any) -> nn.Module:
    sizes = {"n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 32, "vocab_size": 100}
    net: nn.Module = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **more)
    )
    return net


def bert() -> nn.Module:
    net: nn.Module = transformers.BertForSequenceClassification(transformers.BertConfig(**_SIZES, num_labels=3))
    return net


NETS: dict[str, Callable[[], nn.Module]] = {
    "llama": llama,
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "gpt2": gpt2,
    "bert": bert,
    "qwen2": lambda: transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**_GROUPED)),
}


def batch_for(net: nn.Module, length: int = 8) -> Any:
    """Return what a tokenizer gives, and labels."""
    tokens = torch.randint(3, 100, (4, length))
    labels = torch.randint(0, 3, (4,)) if "Bert" in type(net).__name__ else tokens
    return transformers.BatchEncoding(
        {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}
    )


def inputs_of(batch: Any) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name != "labels"}


def trained(net: nn.Module, batch: Any) -> list[float]:
    """Make three steps, and return the losses."""
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    losses = []
    for _ in range(3):
        loss = net(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    net.eval()
    return losses


def low_bit(make: Callable[[], nn.Module] = gpt2, config: LowBitConfig = CONFIG) -> tuple[nn.Module, Any]:
    """Return a converted and calibrated net in eval mode, and a batch."""
    net = make()
    batch = batch_for(net)
    bitorch.quantize_(net, config)
    bitorch.calibrate(net, [inputs_of(batch)])
    return net.eval(), batch


@torch.no_grad()
def logits(net: nn.Module, batch: Any) -> torch.Tensor:
    found: torch.Tensor = net(**inputs_of(batch)).logits
    return found


def generated(net: Any, batch: Any) -> torch.Tensor:
    found: torch.Tensor = net.generate(**inputs_of(batch), max_new_tokens=4, do_sample=False, use_cache=True)
    return found


def linear_weights(net: nn.Module) -> tuple[int, int]:
    """Return the numbers of weights in low-bit and in all linear layers."""
    layers = [m for m in net.modules() if isinstance(m, nn.Linear) or is_transposed_linear(type(m))]
    sizes = [(m.weight.numel(), isinstance(m, QLinear)) for m in layers if isinstance(m.weight, torch.Tensor)]
    return sum(size for size, is_low_bit in sizes if is_low_bit), sum(size for size, _ in sizes)


@pytest.mark.parametrize("name", NETS)
def test_the_whole_way(name: str, tmp_path: Path) -> None:
    net = NETS[name]()
    batch, places = batch_for(net), dict(net.named_parameters(remove_duplicate=False))
    table = bitorch.quantize_(net, CONFIG)
    low, all_of_them = linear_weights(net)
    assert low >= 0.95 * all_of_them
    now = dict(net.named_parameters(remove_duplicate=False))
    assert all(now[key] is parameter for key, parameter in places.items())  # tied ones stay tied
    assert (table.layers[-1].note, table.layers[-1].weight_bits) == ("last layer", 8)
    assert str(table).splitlines()[-1] == str(table.share)
    assert len(bitorch.calibrate(net, [batch]).ranges) == sum(isinstance(m, QLinear) for m in net.modules())
    losses = trained(net, batch)
    assert losses[2] < losses[0]
    assert not bitorch.check(net, batch).findings
    packed = bitorch.deploy(net, partial=True)
    assert sum(isinstance(m, PackedLinear) for m in packed.modules()) == sum(
        isinstance(m, QLinear) for m in net.modules()
    )
    assert torch.equal(logits(packed, batch), logits(net, batch))
    bitorch.hub.save_pretrained(net, tmp_path / "net", config=CONFIG)
    bitorch.hub.save_pretrained(packed, tmp_path / "packed", config=CONFIG, max_shard_bytes=20_000)
    again, packed_again = (bitorch.hub.load_pretrained(tmp_path / kind) for kind in ("net", "packed"))
    assert torch.equal(logits(again, batch), logits(net, batch))
    assert torch.equal(logits(packed_again, batch), logits(net, batch))
    if name != "bert":
        tokens = generated(net, batch)
        for other in (packed.model, again, packed_again.model):
            assert torch.equal(generated(other, batch), tokens)
    if "tied" in name:
        assert again.lm_head.weight is again.model.embed_tokens.weight  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [llama, gpt2])
def test_what_deploys_whole(make: Callable[[], nn.Module]) -> None:
    net, batch = low_bit(make)
    packed = bitorch.deploy(net, batch["input_ids"])
    with torch.no_grad():
        expected = net(batch["input_ids"]).logits
    torch.testing.assert_close(packed(batch["input_ids"]), expected, rtol=1e-4, atol=1e-4)


class Tables(nn.Module):
    """Rows of the tokens, in an order of its own."""

    def __init__(self, order: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.table, self.body, self.head = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.order = order

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.head(self.body(self.table(self.order(tokens))))
        return y


def test_token_ids_may_be_reshaped_but_not_reordered() -> None:
    """Also where all tokens of the example are one, so that their order cannot be seen in it."""
    tokens = torch.full((3, 3), 4)
    config = LowBitConfig(2, 2, first="same", last="same")
    net = Tables(lambda x: x.view(-1, x.shape[-1])).eval()
    bitorch.quantize_(net, config)
    packed, other = bitorch.deploy(net, tokens), torch.randint(0, 9, (5, 3))
    found = packed(other)
    assert isinstance(found, torch.Tensor)
    assert torch.equal(found, net(other))
    for order in (lambda x: x.flip(1), lambda x: x.view(3, 3).t(), lambda x: x.roll(1, 1)):
        net = Tables(order).eval()
        bitorch.quantize_(net, config)
        assert not bitorch.can_deploy(net, tokens)


# Conv1D, the layer of GPT-2


@pytest.mark.parametrize("inputs", [63, 64, 65])
@pytest.mark.parametrize("bits", range(1, 9))
def test_transposed_weights_are_those_of_qlinear(bits: int, inputs: int) -> None:
    """QLinear is held against its oracles elsewhere; here is that of the transposed weight, with all gradients."""
    quantizers: list[dict[str, Any]] = [
        {
            "input_quantization": InputLSQ(bits),
            "weight_quantization": WeightLSQ(bits, channels=5),
            "gradient_quantization": GradientDoReFa(6, noise=False),
        }
        for _ in range(2)
    ]
    transposed = QTransposedLinear(5, inputs, **quantizers[0])
    plain = QLinear(inputs, 5, **quantizers[1])
    with torch.no_grad():
        plain.weight.copy_(transposed.weight.t())
        plain.bias.copy_(transposed.bias.normal_())
        plain.weight_quantization.load_state_dict(transposed.weight_quantization.state_dict())
    x = torch.randn(2, 3, inputs)
    bitorch.calibrate(nn.Sequential(transposed), [x])
    bitorch.calibrate(nn.Sequential(plain), [x])
    results = []
    for layer in (transposed, plain):
        given = x.clone().requires_grad_()
        y = layer.train()(given)
        y.square().sum().backward()
        results.append([y, given.grad, layer.weight.grad, layer.bias.grad])
    results[0][2] = results[0][2].t()
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert torch.equal(transposed.weight_codes(), plain.weight_codes())
    with torch.no_grad():  # in eval mode the codes of a weight are kept until it changes
        for _ in range(2):
            assert torch.equal(transposed.eval()(x), plain.eval()(x))
            transposed.weight.data[0, 0] += 3
            plain.weight.data[0, 0] += 3
    w = transposed.weight_quantization(transposed.weight.t()).double()
    expected = transposed.input_quantization(x).double() @ w.t() + transposed.bias.double()
    torch.testing.assert_close(transposed(x).double(), expected, rtol=1e-5, atol=1e-5)


def test_conv1d_is_converted_back_by_rules_and_in_modes(tmp_path: Path) -> None:
    net = gpt2()
    kind: Any = transformers.pytorch_utils.Conv1D
    bitorch.save_rules(tmp_path / "rules.json", [(kind, CONFIG)])
    rules = bitorch.load_rules(tmp_path / "rules.json")
    table = bitorch.quantize_(net, rules)
    assert [row.became for row in table.layers if row.layer == "Conv1D"] == ["QTransposedLinear"] * 4
    bitorch.set_bits(net, [(kind, (2, 2))])
    layer = net.get_submodule("transformer.h.0.mlp.c_fc")
    assert isinstance(layer, QTransposedLinear)
    assert layer.weight_quantization.bit_width == 2
    bitorch.calibrate(net, [batch_for(net)])
    net.eval()
    bitorch.convert(net, bitorch.RuntimeMode.CPU)
    assert isinstance(net.get_submodule("transformer.h.0.mlp.c_fc"), PackedLinear)
    bitorch.convert(net, bitorch.RuntimeMode.DEFAULT)
    bitorch.float_(net)
    back = net.get_submodule("transformer.h.0.mlp.c_fc")
    assert type(back) is kind
    assert back.weight is layer.weight


def test_without_transformers_no_class_is_taken_for_conv1d(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = transformers.pytorch_utils.Conv1D
    assert is_transposed_linear(kind)
    monkeypatch.delitem(sys.modules, "transformers.pytorch_utils")
    assert not is_transposed_linear(kind)
    assert not is_transposed_linear(nn.Linear)


# The share of low-bit weights


class Own(nn.Module):
    """A layer that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(20, 20))


def test_less_than_half_is_a_warning() -> None:
    with pytest.warns(
        UserWarning, match=r"low-bit: 64 of 912 weights \(7.0%\), less than half. Float stay '3' with 400 "
    ) as seen:
        table = bitorch.quantize_(
            nn.Sequential(nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 8), Own()), LowBitConfig(2, 2)
        )
    text = str(seen[0].message)
    assert "Own is not supported: put a layer in its place" in text
    assert "'0' with 384 weights, first layer: first=8 or first=\"same\" converts it" in text
    assert seen[0].filename == __file__
    assert str(table.share) == "low-bit: 64 of 912 weights (7.0%)"


def test_what_is_left_out_by_name_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net = nn.Sequential(nn.Linear(48, 8), nn.Linear(8, 8), nn.Linear(8, 48))
        table = bitorch.quantize_(net, LowBitConfig(2, 2), filter_fn=["1"])
        bitorch.quantize_(nn.Sequential(nn.Linear(48, 8), nn.Linear(8, 8)), [("*", None), ("1", LowBitConfig(2, 2))])
        bitorch.quantize_(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), LowBitConfig(32, 4, last="same"))
    assert table.share is not None
    assert (table.share.low_bit, table.share.weights) == (64, 832)


def test_a_tied_weight_counts_once_and_as_float_where_one_use_is() -> None:
    net = llama(tie_word_embeddings=True)
    share = bitorch.quantize_(net, CONFIG).share
    assert share is not None
    assert share.weights - share.low_bit == 100 * 64
    both = bitorch.quantize_(llama(tie_word_embeddings=True), LowBitConfig(4, 4, first=8, last=8)).share
    assert both is not None
    assert both.low_bit == both.weights == share.weights


# Batches


def test_tables_on_what_cannot_be_passed_by_position() -> None:
    """GPT-2's attention_mask stands behind its cache."""
    net, batch = low_bit()
    found = bitorch.report(net, batch, repeats=1)
    assert found.model == "GPT2LMHeadModel"
    assert next(row.macs for row in found.rows if row.name == "transformer.h.0.mlp.c_fc") == 8 * 64 * 256
    allocated = bitorch.allocate(net, [batch], bitorch.Budget(bytes=10**6), [4], layers=["*c_fc"])
    assert [row.layer for row in allocated.layers] == ["transformer.h.0.mlp.c_fc"]
    assert type(net) is transformers.GPT2LMHeadModel


def test_accuracy_is_that_of_the_next_token() -> None:
    net, batch = low_bit()
    batch["labels"] = batch["labels"].clone()
    batch["labels"][0, :5] = -100
    found = bitorch.sensitivity(net, [batch], [(2, 2)], layers=["lm_head"])
    right = (logits(net, batch)[:, :-1].argmax(-1) == batch["labels"][:, 1:])[batch["labels"][:, 1:] != -100]
    assert found.accuracy == pytest.approx(float(right.float().mean()))
    assert found.loss_is == "the model's own"


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (0, r"the batch is empty: its shape is \[4, 0\]; leave it out \(an empty prompt, say\), or fill it"),
        (33, r"sequences of 33 tokens, and the model has 32 positions \(config.max_position_embeddings\); cut them"),
    ],
)
def test_prompts_that_no_model_takes(length: int, message: str) -> None:
    net, _ = low_bit()
    with pytest.raises(ValueError, match=message.replace("the batch", "batch")):
        bitorch.check(net, {"input_ids": torch.zeros(4, length, dtype=torch.int64)})


# Folders


#: How this version of transformers calls it.
CACHE = "cache" if "cache" in inspect.signature(transformers.LlamaForCausalLM.forward).parameters else "past_key_values"


def packed_llama() -> nn.Module:
    net = llama()
    bitorch.quantize_(net, LowBitConfig(2, 8, weights="absmean", range="dynamic"))
    return bitorch.deploy(net.eval(), partial=True).model


def test_a_packed_model_says_what_is_wrong_with_a_call() -> None:
    net: Any = packed_llama()
    empty, tokens = torch.zeros(1, 0, dtype=torch.int64), torch.randint(3, 100, (1, 8))
    message = r"the prompt is empty: input_ids is \[1, 0\]; give each text one token"
    with pytest.raises(ValueError, match=message):
        net(empty)
    with pytest.raises(ValueError, match=message):
        net.generate(empty, max_new_tokens=1)
    cache = transformers.StaticCache(config=net.config, max_cache_len=6)
    with pytest.raises(
        ValueError, match=r"\(block 0\) has room for 6 tokens, and 8 more follow 0; make it with max_cache_"
    ):
        net(tokens, **{CACHE: cache})
    roomy = transformers.StaticCache(config=net.config, max_cache_len=10)
    net(tokens, **{CACHE: roomy})
    net(tokens[:, :2], **{CACHE: roomy})  # which fills it
    with pytest.raises(ValueError, match=r"\(block 0\) has room for 10 tokens, and 1 more follow 10"):
        net(tokens[:, :1], **{CACHE: roomy})


def test_a_packed_model_refuses_a_cache_of_another_dtype() -> None:
    net: Any = copy.deepcopy(packed_llama())  # copies check, too
    tokens, cache = torch.randint(3, 100, (1, 8)), transformers.DynamicCache(config=packed_llama().config)
    net(tokens, **{CACHE: cache})
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.bfloat16(), layer.values.bfloat16()
    with pytest.raises(ValueError, match=r"\(block 0\) holds torch.bfloat16, and the model computes in torch.float32"):
        net(tokens[:, :1], **{CACHE: cache})


def test_half_precision_is_kept_or_converted_knowingly(tmp_path: Path) -> None:
    made: Any = low_bit()
    net, batch = made[0].bfloat16(), made[1]
    net.set_attn_implementation("eager")  # whose sums are in another order
    packed = bitorch.deploy(net, partial=True)
    bitorch.hub.save_pretrained(packed, tmp_path, config=CONFIG)
    assert torch.equal(logits(bitorch.hub.load_pretrained(tmp_path), batch), logits(net, batch))
    with pytest.raises(ValueError, match="holds a packed model, whose numbers are fixed; leave dtype out"):
        bitorch.hub.load_pretrained(tmp_path, dtype=torch.float32)
    bitorch.hub.save_pretrained(net, tmp_path, config=CONFIG)
    again = bitorch.hub.load_pretrained(tmp_path)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    assert torch.equal(logits(again, batch), logits(net, batch))
    wide = bitorch.hub.load_pretrained(tmp_path, dtype=torch.float32)
    assert all(p.dtype is torch.float32 for p in wide.parameters())
    torch.testing.assert_close(logits(wide, batch), logits(net, batch).float(), rtol=0.1, atol=0.2)
    with pytest.raises(TypeError, match=r"dtype must be a floating-point torch\.dtype"):
        bitorch.hub.load_pretrained(tmp_path, dtype="float32")  # type: ignore[arg-type]  # the mistake


def _state(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "bitorch.safetensors")
    change(state)
    save_file(state, folder / "bitorch.safetensors")


def _said(folder: Path, **changed: object) -> None:
    file = folder / "bitorch.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def _to_half(state: dict[str, torch.Tensor]) -> None:
    state.update({name: tensor.half() for name, tensor in state.items()})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "bitorch.json").unlink(), "has no bitorch.json, which says how a model is low-bit"),
        (lambda f: (f / "bitorch.json").write_text("{"), "bitorch.json is no JSON"),
        (lambda f: (f / "config.json").unlink(), "has no config.json, which says how the model is built"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "for a model of type 'bert', and GPT2LM"),
        (lambda f: (f / "bitorch.safetensors").unlink(), "has neither bitorch.safetensors nor bitorch.safetensors.ind"),
        (lambda f: _state(f, lambda s: s.pop("transformer.wpe.weight")), "it lacks transformer.wpe.weight"),
        (lambda f: _state(f, lambda s: s.update(more=torch.ones(2))), "it has besides more"),
        (lambda f: _state(f, _to_half), r"not of the dtype that bitorch.json says, float32: .* \(float16\)"),
        (lambda f: _said(f, **{"class": "GPT9"}), "holds a 'GPT9', which transformers .* does not have"),
        (lambda f: _said(f, **{"class": "GPT2Config"}), "holds a 'GPT2Config', which transformers .* does not have"),
        (lambda f: _said(f, kind="zoo"), "is of a net of kind 'zoo'"),
        (lambda f: _said(f, format="other"), 'has no "format"'),
        (lambda f: _said(f, conversion=3), "lacks conversion"),
        (lambda f: _said(f, dtypes={}), "lacks the dtype of the weights"),
        (lambda f: _said(f, dtypes={"": "float7"}), "there is no dtype 'float7'"),
    ],
)
def test_a_folder_that_is_not_whole(saved: Path, tmp_path: Path, harm: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    harm(folder)
    with pytest.raises(ValueError, match=message):
        bitorch.hub.load_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    bitorch.hub.save_pretrained(low_bit()[0], folder, config=CONFIG)
    return folder


def test_shards_of_which_one_is_missing(tmp_path: Path) -> None:
    net, batch = low_bit()
    bitorch.hub.save_pretrained(net, tmp_path, config=CONFIG, max_shard_bytes=60_000)
    assert torch.equal(logits(bitorch.hub.load_pretrained(tmp_path), batch), logits(net, batch))
    files = sorted(tmp_path.glob("bitorch-*.safetensors"))
    assert len(files) > 2
    files[1].unlink()
    with pytest.raises(ValueError, match=f"lacks {files[1].name} of the {len(files)} files that bitorch.safetensors"):
        bitorch.hub.load_pretrained(tmp_path)
    index = tmp_path / "bitorch.safetensors.index.json"
    index.write_text(index.read_text().replace(files[1].name, "../other.safetensors"))
    with pytest.raises(ValueError, match='has no "weight_map" from names of tensors to names of files'):
        bitorch.hub.load_pretrained(tmp_path)
    bitorch.hub.save_pretrained(net, tmp_path, config=CONFIG)  # over it, as one file
    assert torch.equal(logits(bitorch.hub.load_pretrained(tmp_path), batch), logits(net, batch))


def test_transformers_itself_does_not_take_the_weights_for_float_ones(saved: Path) -> None:
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.GPT2LMHeadModel.from_pretrained(saved)


def test_what_cannot_be_built_again(tmp_path: Path) -> None:
    net, _ = low_bit()
    save: Any = bitorch.hub.save_pretrained
    with pytest.raises(ValueError, match=r"was not converted by this config alone|is not what its config builds"):
        save(net, tmp_path, config=LowBitConfig(4, 4, first=8, last=8))
    with pytest.raises(ValueError, match="has no low-bit layer; convert it with quantize_"):
        save(gpt2(), tmp_path, config=CONFIG)
    with pytest.raises(ValueError, match="Sequential is no model class of transformers"):
        save(nn.Sequential(net), tmp_path, config=CONFIG)
    untied: Any = copy.deepcopy(net)
    untied.lm_head.weight = nn.Parameter(untied.lm_head.weight.detach().clone())
    with pytest.raises(ValueError, match=r"here they are not: set config.tie_word_embeddings=False"):
        save(untied, tmp_path, config=CONFIG)
    tied: Any = low_bit(llama)[0]
    tied.lm_head.weight = tied.model.embed_tokens.weight
    with pytest.raises(
        ValueError, match=r"are one tensor, and in the LlamaForCausalLM that .* config.tie_word_embeddings=True if"
    ):
        save(tied, tmp_path, config=CONFIG)
    with pytest.raises(TypeError, match="max_shard_bytes must be an int"):
        save(net, tmp_path, config=CONFIG, max_shard_bytes="5GB")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        bitorch.hub.load_pretrained(tmp_path / "none")
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")
def test_the_trainer_takes_their_batches() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    from bitorch.train import Task, Trainable

    net, batch = low_bit(llama)
    training = Trainable(net.train(), Task.of(lambda output, labels: output.loss))
    loader: DataLoader[Any] = DataLoader([batch], batch_size=None)  # type: ignore[arg-type]  # a list will do
    trainer = pl.Trainer(fast_dev_run=True, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.fit(training, loader, loader)
    assert trainer.callback_metrics["train/loss"].isfinite()
    with torch.no_grad():
        assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(float(net.eval()(**batch).loss))


def test_positions_have_bits_unless_they_are_named() -> None:
    net = gpt2()
    ends = ("transformer.wte", "transformer.wpe")
    bitorch.quantize_(net, LowBitConfig(2, 2, last=8, first_layers=ends))
    assert not any(isinstance(module, QEmbedding) for module in net.modules())
