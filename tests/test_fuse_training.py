"""Chains in front of low-bit convolutions, joined with them, give the numbers of separate modules."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import bitorch
from bitorch import fuse_training_, unfuse_training_
from bitorch.layers import QConv2d
from bitorch.layers.absorbed import AbsorbedReLU
from bitorch.layers.deferred_norm import DeferredNorm
from bitorch.layers.integer_kernels import machine_obstacle
from bitorch.quantizations import GradientDoReFa, GradientSigned, InputDoReFa, WeightDoReFa

#: Of a node's operators: they are not differentiable, and bytes that are nobody's may be any.
CHECKS = ("test_schema", "test_faketensor")
pytestmark = pytest.mark.skipif(machine_obstacle() is not None, reason=str(machine_obstacle()))


def layer(**more: Any) -> QConv2d:
    arguments: dict[str, Any] = {
        "kernel_size": 3,
        "padding": 1,
        "weight_quantization": WeightDoReFa(1, variant="paper"),
        "input_quantization": InputDoReFa(2, variant="paper"),
        "gradient_quantization": GradientDoReFa(6),
        "gradient_cancellation_threshold": 0.0,
    }
    return QConv2d(6, 6, **{**arguments, **more})


def chain(*between: nn.Module, norm: dict[str, Any] | None = None, **more: Any) -> nn.Sequential:
    """A BatchNorm whose output is about as far as the quantizer reaches, what follows, and a layer."""
    torch.manual_seed(0)
    of = nn.BatchNorm2d(6, **({} if norm is None else norm))
    if of.affine:
        nn.init.uniform_(of.weight, -0.2, 0.8)
        nn.init.uniform_(of.bias, 0, 0.6)
        of.bias.data[0] = 0
    return nn.Sequential(of, *between, layer(**more))


def fused(model: nn.Sequential) -> nn.Sequential:
    other = copy.deepcopy(model)
    assert any(row.is_fused for row in fuse_training_(other).layers)
    return other


def images(channels_last: bool = True, seed: int = 1) -> Tensor:
    torch.manual_seed(seed)
    x = 3 * torch.randn(5, 6, 9, 7) + 2
    x[:, 0] = 0  # where gradients pass through a quantizer, but not through a ReLU
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """All numbers of a training step."""
    leaf = x.clone().requires_grad_()
    model.zero_grad()
    y = model(leaf)
    torch.manual_seed(2)
    y.backward(torch.randn(y.shape))
    assert leaf.grad is not None
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"y": y.detach(), "x": leaf.grad, **gradients, **{name: b.clone() for name, b in model.named_buffers()}}


def check_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Within rounding. A number within rounding of a threshold has another code; with these seeds there is none."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        difference = (found[name].double() - tensor.double()).norm()
        assert difference <= 3e-6 * tensor.double().norm() + 1e-12, name
    assert torch.equal(found["y"], expected["y"])
    assert found["y"].stride() == expected["y"].stride()


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("relu", [None, nn.ReLU, AbsorbedReLU])
def test_a_step_of_a_chain(channels_last: bool, pool: bool, relu: type[nn.Module] | None) -> None:
    model = chain(*([nn.MaxPool2d(2)] if pool else []), *([] if relu is None else [relu()]), bias=True)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = images(channels_last)
    check_close(step(fused(model), x), step(model, x))


@pytest.mark.parametrize(
    ("norm", "more"),
    [
        ({"affine": False, "momentum": None}, {}),
        ({"track_running_stats": False}, {"gradient_quantization": GradientSigned(8)}),
        ({"momentum": 0.3, "eps": 0.5}, {"stride": 2, "input_quantization": InputDoReFa(8, variant="paper")}),
        ({}, {"kernel_size": (4, 3), "padding": 0}),  # as large as what is pooled
        (
            {"affine": False},
            {"padding": 0, "kernels": "integer", "weight_quantization": WeightDoReFa(3, variant="paper")},
        ),
    ],
)
def test_settings_of_norm_and_layer(norm: dict[str, Any], more: dict[str, Any]) -> None:
    model = chain(nn.ReLU(inplace=True), nn.MaxPool2d((2, 2)), norm=norm, **more)
    other = fused(model)
    for seed in (1, 2, 3):  # what running statistics depend on
        check_close(step(other, images(seed=seed)), step(model, images(seed=seed)))


def test_threads_do_not_matter() -> None:
    model = fused(chain(nn.MaxPool2d(2), nn.ReLU()))
    assert torch.get_num_threads() == 1
    one = step(copy.deepcopy(model), images())
    torch.set_num_threads(2)
    try:
        two = step(copy.deepcopy(model), images())
    finally:
        torch.set_num_threads(1)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_fused_steps_keep_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Input, codes, a bit for each, winners: and so the node is what runs, and no BatchNorm of PyTorch's."""

    def kept(model: nn.Module) -> int:
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.__setitem__(t.data_ptr(), t.nbytes) or t,  # type: ignore[func-returns-value]
            lambda t: t,
        ):
            model(images().requires_grad_())
        return sum(sizes.values())

    model = chain(nn.ReLU(), norm={"affine": True})
    other = fused(model)
    plain, joined = kept(model), kept(other)
    numbers = images().numel()
    assert joined < numbers * (4 + 2) + 4000
    assert plain > numbers * (4 + 4 + 1)
    monkeypatch.setattr(F, "batch_norm", None)
    other(images())


def test_keys_copies_and_the_way_back() -> None:
    model = chain(nn.MaxPool2d(2), nn.ReLU())
    other = fused(model)
    assert list(other.state_dict()) == list(model.state_dict())
    other.load_state_dict(model.state_dict())
    for copied in (copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        norm, last = copied[0], copied[3]
        assert norm._followers.layer is last  # type: ignore[union-attr]
        check_close(step(copied, images()), step(copy.deepcopy(model), images()))
    assert [type(m).__name__ for m in other] == ["FusedBatchNorm2d", "FusedMaxPool2d", "FusedReLU", "QConv2d"]
    assert fuse_training_(other).layers[0].is_fused  # again
    unfuse_training_(other)
    assert [type(m) for m in other] == [type(m) for m in model]
    assert [sorted(vars(m)) for m in other] == [sorted(vars(m)) for m in model]
    found, expected = step(other, images()), step(model, images())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def check_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_takes_the_plain_path() -> None:
    """In eval mode, with a frozen norm, under autocast, on floats, of doubles; and errors are PyTorch's."""
    model = chain(nn.ReLU())
    other = fused(model)
    step(model, images())
    other.load_state_dict(model.state_dict())
    for frozen in (slice(0, 3), slice(0, 1), slice(2, 3)):
        for m in (model, other):
            m.train()
            m[frozen].eval()
        check_same(step(other, images()), step(model, images()))
    for m in (model, other):
        m.train()
    with torch.autocast("cpu"):
        check_same(step(other, images()), step(model, images()))
    for m in (model, other):
        m[2].kernels = "float"  # type: ignore[assignment]
    check_same(step(other, images()), step(model, images()))
    check_same(step(other.double(), images().double()), step(model.double(), images().double()))
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        other.float()(torch.ones(1, 6, 1, 1))
    with pytest.raises(ValueError, match="expected 4D input"):
        other(torch.ones(6, 3, 3))


def test_hooks_see_what_they_saw() -> None:
    model = chain(nn.MaxPool2d(2), nn.ReLU())
    other = fused(model)
    for place in range(4):
        seen: list[list[Tensor]] = [[], []]
        for m, numbers in zip((model, other), seen, strict=True):

            def see(_: nn.Module, inputs: Any, outputs: Any, into: list[Tensor] = numbers) -> None:
                into.extend([*inputs, *(outputs if isinstance(outputs, tuple) else (outputs,))])

            handles = [m[place].register_forward_hook(see), m[place].register_full_backward_hook(see)]
            step(m, images())
            for handle in handles:
                handle.remove()
        assert len(seen[0]) == 4
        for a, b in zip(*seen, strict=True):
            assert type(b) is Tensor
            torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-6)
    assert not torch_module._global_forward_hooks


def test_numbers_that_are_none_and_those_too_large() -> None:
    for special in (float("nan"), float("inf"), 3e38):
        x = images()
        x[1, 2, 3, 4] = special
        model = chain(nn.ReLU())
        other = fused(model)
        found, expected = other(x), model(x)
        assert torch.equal(found.isnan(), expected.isnan())
        torch.testing.assert_close(found, expected, equal_nan=True)
        found.sum().backward()
        expected.sum().backward()
        for a, b in zip(other.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, equal_nan=True, rtol=1e-4, atol=1e-4)


def deferred(model: nn.Module, x: Tensor) -> DeferredNorm:
    y = model(x)
    assert type(y) is DeferredNorm
    return y


def test_a_deferred_norm_is_the_tensor_for_whom_it_may_concern() -> None:
    """For any function, also in gradients: as where a model was changed behind `fuse_training_`."""
    model = chain(nn.MaxPool2d(2), nn.ReLU())
    other = fused(model)
    x, leaf = images().requires_grad_(), images().requires_grad_()
    expected = model[:3](x)
    y = deferred(other[:3], leaf)
    assert (y.shape, y.dtype, len(y)) == (expected.shape, torch.float32, 5)
    torch.testing.assert_close(F.dropout(y, 0.0) + y, 2 * expected)
    (3 * torch.cat([y, y.relu()])).square().sum().backward()
    (3 * torch.cat([expected, expected.relu()])).square().sum().backward()
    torch.testing.assert_close(leaf.grad, x.grad)
    assert torch.equal(other[3](y), model[3](expected))  # it has been computed, so that the layer gets numbers
    torch.testing.assert_close(deferred(other[:1], leaf).relu_(), model[:1](x).relu_())
    torch.testing.assert_close(nn.MaxPool2d(3)(other[0](leaf)), nn.MaxPool2d(3)(model[0](x)))
    assert "grad_fn" in repr(deferred(other[:2], leaf))


def test_what_would_be_wrong_is_an_error() -> None:
    other = fused(chain(nn.ReLU()))

    class Own(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Tensor) -> Tensor:
            return g

    y: Tensor = Own.apply(deferred(other[:2], images().requires_grad_()))  # type: ignore[no-untyped-call]
    with pytest.raises(RuntimeError, match="got the input of a BatchNorm in place of its output"):
        y.sum().backward()
    x = images()
    y = deferred(other[:2], x)
    x.mul_(2)
    with pytest.raises(RuntimeError, match="was changed in place before its output was used"):
        other[2](y)


class Functional(nn.Module):
    def __init__(self, way: str) -> None:
        super().__init__()
        self.norm, self.layer, self.way = nn.BatchNorm2d(6), layer(), way
        self.relu, self.drop, self.pool = nn.ReLU(), nn.Dropout(), nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor) -> Any:
        x = self.norm(x)
        if self.way == "function":
            return self.layer(F.relu(x))
        if self.way == "twice":
            return x + self.layer(x)
        if self.way == "normed again":
            return self.layer(self.norm(self.relu(x)))
        if self.way == "again":
            return self.layer(self.relu(self.relu(x)))
        if self.way == "branch":
            return self.layer(x) if x.sum() > 0 else x
        return self.layer(getattr(self, self.way)(x))


def test_the_table_says_why_not() -> None:
    for way, why in {
        "function": "its input comes from relu(), which is no module",
        "twice": "what BatchNorm2d 'norm' gives is used more than once",
        "again": "ReLU 'relu' is the second of its kind",
        "normed again": "BatchNorm2d 'norm' is called more than once",
        "drop": "its input comes from Dropout 'drop'; a BatchNorm2d, MaxPool2d(2) and ReLU may stand before it",
        "pool": "MaxPool2d 'pool' is no max-pooling of windows of 2×2, two apart",
    }.items():
        table = fuse_training_(Functional(way))
        assert [(row.name, row.before, row.why) for row in table.layers] == [("layer", (), why)]
        assert not table.untraceable
    reasons: list[tuple[dict[str, Any], str]] = [
        ({"kernels": "float"}, 'it computes on floats: kernels="float"'),
        ({"gradient_quantization": None}, "it computes on floats: gradients are floats"),
        ({"gradient_cancellation_threshold": 1.0}, "its activation cancels gradients by a threshold"),
        ({"input_quantization": InputDoReFa(2)}, "its input quantizer is InputDoReFa(bits=2"),
        ({"pad_value": 1.0}, "its borders are not zeros"),
    ]
    for more, why in reasons:
        (row,) = fuse_training_(chain(**more)).layers
        assert row.why.startswith(why)
        assert not row.is_fused
    assert "2      0 → 1" in str(fuse_training_(chain(nn.ReLU())))
    assert fuse_training_(nn.Linear(2, 2)).layers == ()


class Block(nn.Module):
    """A residual block, whose ReLU serves twice, as in ResNets everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.layer = chain()
        self.last, self.relu = nn.BatchNorm2d(6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.last(self.layer(self.relu(self.norm(x)))) + x)
        return y


def test_a_relu_that_serves_twice() -> None:
    model = Block()
    other = copy.deepcopy(model)
    assert [row.before for row in fuse_training_(other).layers] == [("norm", "relu")]
    assert type(other.relu(other.norm(images()))) is DeferredNorm
    assert type(other.relu(images())) is Tensor
    other = copy.deepcopy(model)
    fuse_training_(other)
    check_close(step(other, images()), step(model, images()))


def test_what_cannot_be_traced() -> None:
    with pytest.raises(
        ValueError, match=r"'Functional'|Functional cannot be traced by torch.fx \(.*test_fuse_training"
    ):
        fuse_training_(Functional("branch"))
    model = nn.Sequential(Functional("branch"), chain(nn.ReLU()))
    model[0].inner = chain(nn.MaxPool2d(2))
    table = fuse_training_(model)
    assert {row.name: row.before for row in table.layers if row.is_fused} == {
        "0.inner.2": ("0.inner.0", "0.inner.1"),
        "1.2": ("1.0", "1.1"),
    }
    assert list(table.untraceable) == ["", "0"]
    assert "return self.layer(x) if x.sum() > 0 else x" in table.untraceable["0"]
    with pytest.raises(TypeError, match="fuse_training_ works in place"):
        fuse_training_(table)  # type: ignore[arg-type]


def test_the_operators_and_their_fakes() -> None:
    y, gamma = images(), torch.rand(6)
    mean, variance = torch.ops.bitorch.channel_moments(y)
    torch.testing.assert_close(mean, y.double().mean((0, 2, 3)))
    torch.library.opcheck(torch.ops.bitorch.channel_moments.default, (y,), test_utils=CHECKS)
    one, c = torch.tensor(0.5), torch.randint(0, 2, (7, 6, 3, 3)).mul(2).sub(1).float()
    for pool, save in ((True, True), (False, True), (True, False)):
        product = torch.ops.bitorch.norm_product.default
        call = (y, gamma, gamma, True, pool, c, None, one, one, 1, 2, [1, 1], [1, 1], save, pool)
        torch.library.opcheck(product, call, test_utils=CHECKS)
        winners = product(*call)[3]
        if save:
            g = torch.rand(5, 6, *((4, 3) if pool else (9, 7))).contiguous(memory_format=torch.channels_last)
            back = (g, y, winners, mean, variance, gamma) if pool else (g, y, mean, variance, gamma)
            back_of = torch.ops.bitorch.norm_pool_backward if pool else torch.ops.bitorch.norm_backward_
            torch.library.opcheck(back_of.default, back, test_utils=CHECKS)


def test_the_gradient_of_a_norm_takes_the_place_of_that_of_its_output() -> None:
    """Whatever the layout: the kernels want channels last, of memory that is not so there is a copy."""
    y, gamma = images(), torch.rand(6)
    mean, variance = torch.ops.bitorch.channel_moments(y)
    y64 = y.double().requires_grad_()
    g = torch.rand(y.shape)
    weight = gamma.double().requires_grad_()
    F.batch_norm(y64, None, None, weight, None, True, 0.0, 1e-5).backward(g.double())
    for memory_format in (torch.channels_last, torch.contiguous_format):
        of_y = g.clone(memory_format=memory_format)
        inverse = (variance + 1e-5).rsqrt()
        of_gamma, of_beta = torch.ops.bitorch.norm_backward_(of_y, y, mean, inverse, gamma)
        torch.testing.assert_close(of_y.double(), y64.grad, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(of_gamma.double(), weight.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(of_beta, g.sum((0, 2, 3)))


def test_a_net_trains() -> None:
    """Deeper nets part, as a code that flips changes what follows; but they learn alike."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *chain(nn.MaxPool2d(2), nn.ReLU()), *chain(nn.ReLU()))
    model.extend([nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)])
    other = fused(model)
    x, labels = torch.rand(32, 3, 8, 8), torch.arange(32) % 2
    x[labels == 1, 0] += 0.3
    for m in (model, other):
        optimizer = torch.optim.Adam(m.parameters(), 0.01)
        losses = []
        for _ in range(30):
            optimizer.zero_grad()
            loss = F.cross_entropy(m(x), labels)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]
    packed = bitorch.deploy(other.eval(), x)
    torch.testing.assert_close(packed(x), other(x), rtol=1e-5, atol=1e-5)


def test_memory_of_parameters_can_still_be_taken_back() -> None:
    """As FSDP does it after each call; PyTorch fixes the size of what NumPy has seen."""
    model = chain(nn.ReLU(), bias=True)
    for net in (model, fused(model)):
        step(net, images())
        assert all(p.untyped_storage().resizable() for p in net.parameters())
