"""Attention with low-bit projections, against PyTorch's attention function on the dequantized weights and inputs."""

from __future__ import annotations

import copy
import importlib.util
import io
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bitorch
from bitorch import Bits, LowBitConfig, calibrate, float_, quantize_, report, set_bits
from bitorch.layers import QLinear, QMultiheadAttention
from bitorch.quantizations import (
    GradientDoReFa,
    Identity,
    InputDoReFa,
    Quantization,
    Sign,
    WeightDoReFa,
    WeightLSQ,
    WeightTTQ,
)
from bitorch.reporting.weight_bytes import weight_bytes

E, HEADS = 8, 2
PROJECTIONS = ("q_projection", "k_projection", "v_projection", "out_proj")


def paper(weight_bits: int, activation_bits: int, gradient_bits: int | None = None) -> dict[str, Any]:
    """Arguments of a layer as the paper has it."""
    return {
        "weight_quantization": WeightDoReFa(weight_bits, variant="paper"),
        "input_quantization": InputDoReFa(activation_bits, variant="paper"),
        "gradient_quantization": None if gradient_bits is None else GradientDoReFa(gradient_bits, noise=False),
        "gradient_cancellation_threshold": 0.0,
    }


def attention(quantization: dict[str, Any] | None = None, **more: Any) -> QMultiheadAttention:
    torch.manual_seed(1)
    layer = QMultiheadAttention(E, HEADS, **more, **(paper(3, 4) if quantization is None else quantization))
    if layer.in_proj_bias is not None:
        nn.init.normal_(layer.in_proj_bias, std=0.3)
        nn.init.normal_(layer.out_proj.bias, std=0.3)
    return layer


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Numbers on both sides of [0, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 0.5


def inputs(layer: Any, queries: int = 5, keys: int = 6, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value in the order of axes that the layer wants."""
    x = (
        numbers(batch, queries, E),
        numbers(batch, keys, layer.kdim, seed=1),
        numbers(batch, keys, layer.vdim, seed=2),
    )
    q, k, v = (t if layer.batch_first else t.transpose(0, 1) for t in x)
    return q, k, v


def reference(layer: Any, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> tuple[Tensor, Tensor | None]:
    """PyTorch's function on the values behind the codes; its output projection is the identity, and ours follows."""
    parts = [layer.q_projection, layer.k_projection, layer.v_projection]
    values = [part.activation(x) for part, x in zip(parts, (query, key, value), strict=True)]
    if layer.batch_first and query.dim() == 3:
        values = [x.transpose(0, 1) for x in values]
    weights = [part.weight_quantization(part.weight) for part in parts]
    attended, attention_weights = F.multi_head_attention_forward(
        values[0],
        values[1],
        values[2],
        E,
        HEADS,
        None,
        layer.in_proj_bias,
        layer.bias_k,
        layer.bias_v,
        layer.add_zero_attn,
        layer.dropout,
        torch.eye(E),
        None,
        training=layer.training,
        use_separate_proj_weight=True,
        q_proj_weight=weights[0],
        k_proj_weight=weights[1],
        v_proj_weight=weights[2],
        **options,
    )
    out = layer.out_proj
    y = F.linear(out.activation(attended), out.weight_quantization(out.weight), out.bias)
    return y.transpose(0, 1) if layer.batch_first and query.dim() == 3 else y, attention_weights


def assert_as_reference(layer: Any, x: tuple[Tensor, Tensor, Tensor], **options: Any) -> None:
    y, weights = layer(*x, **options)
    expected, expected_weights = reference(layer, *x, **options)
    assert y.shape == expected.shape
    if layer.out_proj.input_quantization.max_code is not None:
        # A number that rounds differently can be another level of the quantizer in front of the output projection.
        assert (y - expected).abs().gt(1e-4).float().mean() < 0.02
    else:
        torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert (weights is None) == (expected_weights is None)
    if weights is not None:
        torch.testing.assert_close(weights, expected_weights, rtol=1e-4, atol=1e-6, equal_nan=True)


def plain_output(layer: QMultiheadAttention) -> QMultiheadAttention:
    """Leave the input of the output projection as it is, so that no rounding hides or makes a difference."""
    layer.out_proj.activation.activation_function = Identity()  # type: ignore[union-attr]
    return layer


# Values

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without bias": {"bias": False},
    "batch first": {"batch_first": True},
    "bias for keys and values": {"add_bias_kv": True},
    "zero attention": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True, "batch_first": True},
    "separate": {"kdim": 6, "vdim": 10},
    "separate, batch first": {"kdim": 6, "batch_first": True},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_results(options: str, need_weights: bool, training: bool) -> None:
    layer = attention(**OPTIONS[options]).train(training)
    for one in (layer, plain_output(copy.deepcopy(layer))):
        assert_as_reference(one, inputs(one), need_weights=need_weights)
        assert_as_reference(one, inputs(one), need_weights=need_weights, average_attn_weights=False)


def masks(batch: int, queries: int, keys: int, floating: bool) -> list[dict[str, Tensor]]:
    """Masks of all shapes, alone and together; no query is without a key."""
    generator = torch.Generator().manual_seed(3)

    def mask(*shape: int) -> Tensor:
        hidden = torch.rand(*shape, generator=generator) < 0.3
        hidden[..., 0] = False
        return torch.randn(*shape, generator=generator).masked_fill(hidden, -torch.inf) if floating else hidden

    padding = mask(batch, keys)
    return [
        {"attn_mask": mask(queries, keys)},
        {"attn_mask": mask(batch * HEADS, queries, keys)},
        {"key_padding_mask": padding},
        {"attn_mask": mask(queries, keys), "key_padding_mask": padding},
        {"attn_mask": mask(batch * HEADS, queries, keys), "key_padding_mask": padding},
    ]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("floating", [False, True])
def test_masks(options: str, need_weights: bool, floating: bool) -> None:
    layer = plain_output(attention(**OPTIONS[options]))
    for mask in masks(3, 5, 6, floating):
        assert_as_reference(layer, inputs(layer), need_weights=need_weights, **mask)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("floating", [False, True])
def test_causal(need_weights: bool, padded: bool, floating: bool) -> None:
    layer = plain_output(attention(batch_first=True))
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    options: dict[str, Any] = {"attn_mask": mask if floating else mask < 0, "need_weights": need_weights}
    if padded:
        hidden = torch.zeros(3, 6, dtype=torch.bool)
        hidden[:, -1] = True
        options["key_padding_mask"] = torch.zeros(3, 6).masked_fill(hidden, -torch.inf) if floating else hidden
    x = inputs(layer, 6, 6)
    assert_as_reference(layer, x, is_causal=True, **options)
    hinted, plain = layer(*x, is_causal=True, **options)[0], layer(*x, **options)[0]
    torch.testing.assert_close(hinted, plain)


def test_a_hint_without_its_mask() -> None:
    layer = attention()
    with pytest.raises(ValueError, match="is_causal=True is a hint that attn_mask is the causal mask"):
        layer(*inputs(layer), is_causal=True)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("options", ["plain", "batch first", "both", "separate"])
def test_without_a_batch(need_weights: bool, options: str) -> None:
    layer = plain_output(attention(**OPTIONS[options]))
    x = numbers(5, E), numbers(6, layer.kdim, seed=1), numbers(6, layer.vdim, seed=2)
    assert_as_reference(layer, x, need_weights=need_weights)
    assert_as_reference(layer, x, need_weights=need_weights, average_attn_weights=False)
    for mask in masks(1, 5, 6, False):
        given = {name: m[0] if name == "key_padding_mask" else m for name, m in mask.items()}
        assert_as_reference(layer, x, need_weights=need_weights, **given)


def test_self_attention() -> None:
    layer = plain_output(attention())
    x = numbers(5, 3, E)
    assert_as_reference(layer, (x, x, x))


def test_dropout() -> None:
    layer = plain_output(attention(dropout=0.5))
    x = inputs(layer)
    torch.manual_seed(0)
    y, weights = layer(*x)
    torch.manual_seed(0)
    expected, expected_weights = reference(layer, *x)
    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    assert (weights == 0).any()
    layer.eval()
    assert_as_reference(layer, x)


@pytest.mark.parametrize("bits", range(1, 9))
def test_projections_are_exact(bits: int) -> None:
    """Each is a QLinear on its rows, bit for bit."""
    layer = attention(paper(bits, bits))
    x = numbers(3, 5, E)
    for index, name in enumerate(PROJECTIONS):
        projection: Any = layer.get_submodule(name)
        like = QLinear(E, E, **paper(bits, bits))
        rows = slice(index * E, (index + 1) * E)
        if name == "out_proj":
            like.load_state_dict(layer.out_proj.state_dict())
        else:
            like.load_state_dict({"weight": layer.in_proj_weight[rows], "bias": layer.in_proj_bias[rows]})
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(projection(x), like(x))
        assert torch.equal(projection.weight_codes(), like.weight_codes())


def test_in_precisions() -> None:
    layer, x = attention(batch_first=True), numbers(3, 5, E)
    for need_weights in (False, True):
        expected = layer(x, x, x, need_weights=need_weights)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x, x, x, need_weights=need_weights)[0]
        assert y.dtype == torch.float32  # the output projection is exact
        assert (y - expected).abs().mean() < 0.1
    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert half(x.bfloat16(), x.bfloat16(), x.bfloat16())[0].dtype == torch.bfloat16


# Gradients


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("need_weights", [False, True])
def test_gradients(options: str, need_weights: bool) -> None:
    """Those of PyTorch's function on the quantized values, through the quantizers."""
    layer = plain_output(attention(**OPTIONS[options]))
    x = [t.detach().requires_grad_() for t in inputs(layer)]
    gradients = []
    g = None
    for call in (layer, lambda *a, **o: reference(layer, *a, **o)):
        layer.zero_grad()
        for t in x:
            t.grad = None
        y = call(*x, need_weights=need_weights)[0]
        g = torch.randn(y.shape, generator=torch.Generator().manual_seed(5)) if g is None else g
        y.backward(g)
        gradients.append([t.grad for t in (*x, *layer.parameters())])
    assert all(grad is not None for grad in gradients[0])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_gradient_quantizers_see_each_sample_of_each_projection() -> None:
    layer = attention(paper(3, 4, 1))
    x = numbers(5, 3, E)  # length, batch
    seen: dict[str, Tensor] = {}
    assert len({id(p.gradient_quantization) for p in layer.projections().values()}) == 4
    for name in PROJECTIONS:
        quantizer: Any = layer.get_submodule(name).gradient_quantization
        quantizer.register_full_backward_hook(lambda _, given, __, name=name: seen.__setitem__(name, given[0]))
    layer(x, x, x)[0].square().sum().backward()
    assert set(seen) == set(PROJECTIONS)
    for gradient in seen.values():
        assert gradient.shape == (3, 5, E)  # batch first
        for sample in gradient:
            assert sample.abs().unique().numel() == 1  # one bit: ±m of the sample


def test_gradient_quantizers_share_a_random_generator() -> None:
    generator = torch.Generator().manual_seed(3)
    layer = attention({**paper(2, 2), "gradient_quantization": GradientDoReFa(4, generator=generator)})
    quantizers: list[Any] = [p.gradient_quantization for p in layer.projections().values()]
    assert all(quantizer.generator is generator for quantizer in quantizers)
    quantizers[0].set_bits_(2)
    assert [quantizer.bit_width for quantizer in quantizers] == [2, 4, 4, 4]


def test_training_reduces_the_loss() -> None:
    torch.manual_seed(11)
    layer = attention(paper(2, 4, 6), batch_first=True)
    head = nn.Linear(E, 1)
    x = torch.rand(64, 5, E)
    target = x[:, :, 0].amax(1, keepdim=True)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], 1e-2)
    losses = []
    for _ in range(40):
        loss = F.mse_loss(head(layer(x, x, x, need_weights=False)[0].mean(1)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


# A layer of PyTorch


@pytest.mark.parametrize("options", OPTIONS)
def test_a_drop_in(options: str) -> None:
    torch.manual_seed(3)
    like = nn.MultiheadAttention(E, HEADS, **OPTIONS[options])
    torch.manual_seed(3)
    layer = QMultiheadAttention(E, HEADS, **OPTIONS[options], **paper(2, 3))
    assert list(layer.state_dict()) == list(like.state_dict())
    assert [name for name, _ in layer.named_parameters()] == [name for name, _ in like.named_parameters()]
    for ours, theirs in zip(layer.parameters(), like.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    layer.load_state_dict(like.state_dict(), strict=True)
    like.load_state_dict(layer.state_dict(), strict=True)
    x = inputs(layer)
    assert layer(*x)[0].shape == like(*x)[0].shape
    assert layer(*x)[1].shape == like(*x)[1].shape


@pytest.mark.parametrize("options", ["plain", "separate"])
def test_copies_have_weights_of_their_own(options: str) -> None:
    layer = attention(**OPTIONS[options])
    x = inputs(layer)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    expected = layer(*x)[0]
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        assert torch.equal(other(*x)[0], expected)
        assert repr(other) == repr(layer)
        with torch.no_grad():
            for p in other.parameters():
                p.zero_()
        assert (other.q_projection.weight == 0).all()
        assert torch.equal(layer(*x)[0], expected)


def test_loading_by_assignment() -> None:
    layer, like = attention(), nn.MultiheadAttention(E, HEADS)
    layer.load_state_dict(like.state_dict(), assign=True)
    assert torch.equal(layer.v_projection.weight, like.in_proj_weight[2 * E :])


def test_quantizers_of_their_own() -> None:
    layer = attention({"weight_quantization": WeightLSQ(3), "input_quantization": "inputdorefa"})
    quantizers = [
        getattr(layer.get_submodule(name), kind)
        for name in PROJECTIONS
        for kind in ("weight_quantization", "input_quantization")
    ]
    assert len({id(quantizer) for quantizer in quantizers}) == 8
    for name in PROJECTIONS:
        projection: Any = layer.get_submodule(name)
        fresh = WeightLSQ(3)
        fresh.initialize_(projection.weight)
        assert torch.equal(projection.weight_quantization.step, fresh.step)
    layer.load_state_dict(nn.MultiheadAttention(E, HEADS).state_dict(), strict=True)
    x = inputs(layer)
    layer(*x)[0].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("quantizer", [WeightLSQ(3), WeightLSQ(3, channels=E), WeightTTQ()], ids=repr)
def test_steps_are_those_of_float_weights_that_are_loaded(quantizer: Quantization, separate: bool) -> None:
    sizes = {"kdim": 5, "vdim": 7} if separate else {}
    model = nn.ModuleDict({"attention": attention({**paper(3, 4), "weight_quantization": quantizer}, **sizes)})
    like = nn.ModuleDict({"attention": nn.MultiheadAttention(E, HEADS, **sizes)})
    for weight in like.parameters():
        weight.data.mul_(7).add_(0.3)
    for _ in range(2):
        model.load_state_dict(like.state_dict(), strict=True)
        for name in PROJECTIONS:
            projection: Any = model["attention"].get_submodule(name)
            fresh = copy.deepcopy(quantizer)
            fresh.initialize_(projection.weight)
            for found, expected in zip(projection.weight_quantization.parameters(), fresh.parameters(), strict=True):
                assert torch.equal(found, expected)
                found.data.mul_(3)
    trained = copy.deepcopy(model)
    model.load_state_dict(trained.state_dict())  # one that has steps brings its own
    for tensor, expected in zip(model.parameters(), trained.parameters(), strict=True):
        assert torch.equal(tensor, expected)


def test_defaults() -> None:
    layer = QMultiheadAttention(E, HEADS)
    for name in PROJECTIONS:
        projection: Any = layer.get_submodule(name)
        assert isinstance(projection.weight_quantization, Sign)
        assert isinstance(projection.input_quantization, Sign)
        assert projection.gradient_quantization is None
        assert projection.exact


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("need_weights", [False, True])
def test_compiled(need_weights: bool) -> None:
    layer, x = attention(paper(2, 3, 6), batch_first=True), numbers(2, 5, E)
    torch._dynamo.reset()
    results = []
    for call in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager")):
        layer.zero_grad()
        y = call(x, x, x, need_weights=need_weights)[0]
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in layer.parameters())])
    torch._dynamo.reset()
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(eager, compiled, rtol=1e-5, atol=1e-5)


def test_meta_device() -> None:
    layer = QMultiheadAttention(E, HEADS, device="meta", **paper(1, 2))
    x = torch.rand(5, 3, E, device="meta")
    assert layer(x, x, x)[0].shape == (5, 3, E)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_wrong_arguments() -> None:
    layer = attention()
    q, k, v = inputs(layer)
    with pytest.raises(ValueError, match="must all have 3 axes"):
        layer(q, k[0], v)
    with pytest.raises(ValueError, match="same length and batch"):
        layer(q, k, v[1:])
    with pytest.raises(ValueError, match=r"attn_mask must have shape \[5, 6\] or \[6, 5, 6\], got \[1, 6\]"):
        layer(q, k, v, attn_mask=torch.zeros(1, 6))
    with pytest.raises(ValueError, match=r"key_padding_mask must have shape \[3, 6\], got \[6\]"):
        layer(q, k, v, key_padding_mask=torch.zeros(6))
    with pytest.raises(TypeError, match="attn_mask must be bool"):
        layer(q, k, v, attn_mask=torch.zeros(5, 6, dtype=torch.int64))
    nested = torch.nested.nested_tensor([torch.rand(2, E), torch.rand(3, E)])
    with pytest.raises(TypeError, match="no nested tensors"):
        layer(nested, nested, nested)
    with pytest.raises(ValueError, match="weight_quantization: no quantization is named"):
        QMultiheadAttention(E, HEADS, weight_quantization="dorefa")
    with pytest.raises(ValueError, match="inputs per output is too wide"):
        QMultiheadAttention(E, HEADS, kdim=70_000, device="meta", **paper(8, 8))


# In a model


class Net(nn.Module):
    """An encoder of PyTorch's own layers between two linear layers."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(6)
        layer = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True, **options)
        self.stem = nn.Linear(4, E)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(E, 3)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        scores: Tensor = self.head(self.encoder(self.stem(x), src_key_padding_mask=hidden))
        return scores


CONFIG = LowBitConfig(2, 4, 6, gradient_noise=False)
LOW_BIT = [
    f"encoder.layers.{i}.{part}"
    for i in range(2)
    for part in (*(f"self_attn.{projection}" for projection in PROJECTIONS), "linear1", "linear2")
]


def called(model: nn.Module, *x: Any) -> list[str]:
    """Return the names of the low-bit layers that a call of the model calls, found without hooks on them."""
    seen = []
    names = {id(m): name for name, m in model.named_modules() if isinstance(m, QLinear)}
    forward = QLinear.forward

    def noting(layer: QLinear, x: Tensor) -> Tensor:
        seen.append(names[id(layer)])
        return forward(layer, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QLinear, "forward", noting)
        model(*x)
    return seen


def test_quantize_converts_attention_and_what_is_around_it() -> None:
    model, like = Net(), Net()
    parameters, keys = list(model.parameters()), list(model.state_dict())
    rows = {row.name: row for row in quantize_(model, CONFIG).layers}
    attention_row, out = rows["encoder.layers.0.self_attn"], rows["encoder.layers.0.self_attn.out_proj"]
    assert (attention_row.became, attention_row.shape) == ("QMultiheadAttention", (3 * E, E))
    assert (attention_row.weight_bits, attention_row.activation_bits, attention_row.gradient_bits) == (2, 4, 6)
    assert (out.became, out.note) == ("QLinear", "with 'encoder.layers.0.self_attn'")
    assert rows["encoder.layers.1.linear2"].became == "QLinear"
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert list(model.state_dict()) == keys
    model.load_state_dict(like.state_dict(), strict=True)
    model(torch.rand(2, 5, 4)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    again = quantize_(model, CONFIG)
    assert {row.note for row in again.layers if "self_attn" in row.name and "out" not in row.name} == {
        "low-bit already"
    }
    with pytest.raises(ValueError, match=r"layer 'encoder\.layers\.0\.self_attn' is low-bit already, with other"):
        quantize_(model, LowBitConfig(3, 4, 6))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:enable_nested_tensor is True")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu", nn.GELU()])
def test_encoders_call_their_low_bit_layers_in_eval_mode(norm_first: bool, masked: bool, activation: Any) -> None:
    """PyTorch's fast path, taken in eval mode without gradients, would read the weights in place of that."""
    model = Net(norm_first=norm_first, activation=activation, dropout=0.0)
    x, hidden = torch.rand(2, 5, 4), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    given = (x, hidden) if masked else (x,)
    model.eval()
    with torch.no_grad():
        fast = model(*given)
    quantize_(model, CONFIG)
    with torch.no_grad():
        y = model(*given)
        assert called(model, *given) == LOW_BIT
        assert not torch.allclose(y, fast, atol=1e-3)
        model.train()
        torch.testing.assert_close(model(*given)[:, :3], y[:, :3])
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other.eval()(*given)[:, :3], y[:, :3])
    float_(model.eval())
    with torch.no_grad():
        assert torch.equal(model(*given), fast)


@pytest.mark.parametrize("names", [["encoder.layers.1.linear1"], ["encoder.layers.0.self_attn"]])
def test_encoders_with_one_low_bit_layer(names: list[str]) -> None:
    model = Net()
    quantize_(model, CONFIG, names)
    with torch.no_grad():
        expected = [name for name in LOW_BIT if name.startswith(names[0])]
        assert called(model.eval(), torch.rand(2, 5, 4), torch.zeros(2, 5, dtype=torch.bool)) == expected


def test_a_low_bit_attention_put_there_by_hand() -> None:
    layer = nn.TransformerEncoderLayer(E, HEADS, 16, batch_first=True)
    layer.self_attn = attention(batch_first=True)
    with torch.no_grad():
        assert called(layer.eval(), torch.rand(2, 5, E)) == [f"self_attn.{name}" for name in PROJECTIONS]


@pytest.mark.parametrize("options", OPTIONS)
def test_float_gives_the_attention_back(options: str) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.MultiheadAttention(E, HEADS, **OPTIONS[options]))
    like = copy.deepcopy(model)
    quantize_(model, LowBitConfig(2, 4, first="same"))
    low_bit: Any = model[0]
    assert type(low_bit) is QMultiheadAttention
    float_(model)
    assert type(model[0]) is nn.MultiheadAttention
    assert type(model[0].out_proj) is type(like[0].out_proj)
    assert repr(model) == repr(like)
    assert set(vars(model[0])) == set(vars(like[0]))
    x = inputs(low_bit)
    assert torch.equal(model[0](*x)[0], like[0](*x)[0])
    with torch.no_grad():
        assert torch.equal(model.eval()[0](*x)[0], like.eval()[0](*x)[0])


def test_decoders_and_transformers() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Transformer(E, HEADS, 1, 1, 16, batch_first=True))
    quantize_(model, LowBitConfig(2, 4, first="same", last="same"))
    kinds = [name for name, m in model.named_modules() if isinstance(m, QMultiheadAttention)]
    assert len(kinds) == 3
    source, target = torch.rand(2, 5, E), torch.rand(2, 3, E)
    mask = nn.Transformer.generate_square_subsequent_mask(3)
    with torch.no_grad():
        y = model.eval()[0](source, target, tgt_mask=mask, tgt_is_causal=True)
        assert torch.equal(model[0](source, target[:, :1])[:, 0].round(decimals=4), y[:, 0].round(decimals=4))


def test_rules_name_an_attention() -> None:
    model = Net()
    quantize_(model, [("encoder.layers.0.*", CONFIG), (nn.MultiheadAttention, LowBitConfig(8, 8))])
    layer: Any = model.encoder.layers[0]
    assert isinstance(layer.self_attn, QMultiheadAttention)
    assert layer.self_attn.v_projection.weight_quantization.bit_width == 8
    assert layer.linear1.weight_quantization.bit_width == 2
    with pytest.raises(ValueError, match=r"a part of 'encoder\.layers\.0\.self_attn'"):
        quantize_(Net(), [("encoder.layers.0.self_attn.out_proj", CONFIG)])


def test_set_bits_of_projections() -> None:
    model = Net()
    quantize_(model, CONFIG)
    name = "encoder.layers.0.self_attn"
    set_bits(model, [(name, Bits(weight=4)), (f"{name}.out_proj", Bits(weight=8))])
    layer: Any = model.get_submodule(name)
    assert [p.weight_quantization.bit_width for p in layer.projections().values()] == [4, 4, 4, 8]
    model(torch.rand(2, 5, 4)).sum().backward()


def test_32_bits_leave_attention_float() -> None:
    model = Net()
    quantize_(model, LowBitConfig(32, 32, 32))
    assert type(model.encoder.layers[0].self_attn) is nn.MultiheadAttention


# Deployed


@pytest.mark.parametrize("config", [CONFIG, LowBitConfig(1, 1)])
def test_partial_deployment_packs_the_projections(config: LowBitConfig) -> None:
    pytest.importorskip("bitorch_runtime")
    from bitorch.deployment.partial.pack_layers import pack_layers

    model = Net()
    quantize_(model, config)
    packed = pack_layers(model.eval())
    rows = {row.name: row for row in packed.rows}
    assert all(rows[name].became == "PackedLinear" for name in LOW_BIT)
    assert "the projections have rows of their own" in rows["encoder.layers.0.self_attn"].reason
    x, hidden = torch.rand(2, 5, 4), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    with torch.no_grad():
        assert torch.equal(packed.model(x), model(x))
        assert torch.equal(packed.model(x, hidden), model(x, hidden))
    assert not any("in_proj" in name for name in packed.model.state_dict())
    assert model.encoder.layers[0].self_attn.in_proj_weight is not None


# Reported


def test_reports_show_the_projections() -> None:
    model = Net()
    float_bytes = 4 * sum(p.numel() for p in model.parameters())
    quantize_(model, CONFIG)
    sizes = weight_bytes(model)
    weights = [p.numel() for name, p in model.named_parameters() if "encoder" in name and p.dim() == 2]
    assert sizes.float32 == float_bytes
    assert sizes.packed == float_bytes - sum(4 * n - n // 4 for n in weights) + 4 * len(LOW_BIT)
    rows = {row.name: row for row in report(model.eval(), torch.rand(2, 5, 4)).rows}
    for name in LOW_BIT:
        if "self_attn" in name:
            assert rows[name].weight_shape == (E, E)
            assert rows[name].float_bytes == 4 * (E * E + E)
            assert rows[name].parameters == E * E + E
    assert rows["encoder.layers.0.self_attn"].parameters == 0
    assert sum(row.parameters for row in rows.values()) == float_bytes // 4
    assert sum(row.float_bytes for row in rows.values()) == float_bytes


# All methods of a config


METHODS: list[dict[str, Any]] = [
    {"weight_bits": 1, "activation_bits": 1, "sign": "rsign"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "lsq", "weight_scale": "channel"},
    {"weight_bits": 2, "activation_bits": 2, "weights": "twn"},
    {"weight_bits": 3, "activation_bits": 3, "range": "calibrated"},
    {"weight_bits": 3, "activation_bits": 3, "range": "learned", "learned_by": "lsq+", "weight_scale": "channel"},
    {"weight_bits": 2, "activation_bits": 2, "gradient_bits": 4, "gradients": "luq"},
]


class AllKinds(nn.Module):
    """Embedding, bag of them, encoder, attention between different widths, transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.words, self.tags = nn.Embedding(20, E), nn.EmbeddingBag(10, E)
        self.encoder = nn.TransformerEncoderLayer(E, HEADS, 16, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(E, HEADS, kdim=6, vdim=4, batch_first=True)
        self.up = nn.ConvTranspose1d(E, 6, 4, 2, groups=2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.encoder(self.words(x) + self.tags(x[:, :3] % 10).unsqueeze(1))
        z = self.attention(y, y[..., :6], y[..., :4], need_weights=False)[0]
        scores: Tensor = self.head(self.up(z.transpose(1, 2)).mean(2))
        return scores


@pytest.mark.parametrize("method", METHODS, ids=lambda m: str(list(m.values())))
def test_methods(method: dict[str, Any]) -> None:
    """Each trains, loads what the float model saves, gives it back, and deploys in parts with the same bits."""
    model, like = AllKinds(), AllKinds().eval()
    x = torch.randint(20, (4, 6), generator=torch.Generator().manual_seed(8))
    config = LowBitConfig(first="same", last="same", **method)
    quantize_(model, config)
    if "range" in method:
        calibrate(model, [x])
    model(x).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
    quantize_(model, config)  # which changes nothing
    model.load_state_dict(like.state_dict(), strict=True)
    model.eval()
    if importlib.util.find_spec("bitorch_runtime") is not None:
        packed = bitorch.deploy(model, x, partial=True)
        with torch.no_grad():
            assert torch.equal(packed.model(x), model(x))
    float_(model)
    assert repr(model) == repr(like)
    assert torch.equal(model(x), like(x))
