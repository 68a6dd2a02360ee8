"""The nets of the zoo: structure and sizes as their papers and BITorch have them, and that they train and deploy."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bitorch
import zoo
import zoo_table
from bitorch.layers import QConv2d, QConv2d_NoAct, QLinear
from bitorch.layers.config import config
from bitorch.layers.low_bit import WeightQuantized
from bitorch.models import (
    ZOO_NAMES,
    DenseNet,
    DenseNetFlex,
    LeNet,
    MeliusNet,
    MeliusNetFlex,
    Model,
    QuickNet,
    ReActNetA,
    Resnet,
    Resnet18V1,
    Resnet18V2,
    ResnetE,
    model_from_name,
    model_names,
    models_by_name,
)
from bitorch.models.bireal import BiRealBlock
from bitorch.models.dense_layers import BaseNetDense, BlockMaker, DenseSettings
from bitorch.models.densenet import DenseBlock
from bitorch.models.meliusnet import ImprovementBlock, MeliusBlock
from bitorch.models.quicknet import ResidualBlock, TransitionBlock
from bitorch.models.reactnet import ReActBlock
from bitorch.models.resnet import BasicBlockV1, BasicBlockV2, BottleneckV1, BottleneckV2, ResNetV1, ResNetV2
from bitorch.models.resnet_e import BasicBlock, _ResnetE

slow = pytest.mark.slow
IMAGENET = (1, 3, 224, 224)
#: Parameters for ImageNet, of LeNet for MNIST, as BITorch has them; the last six are counted by hand or in the papers.
PARAMETERS = {
    "LeNet": 1_141_330,
    "Resnet18V1": 11_689_646,
    "Resnet18V2": 11_687_854,
    "Resnet34V1": 21_797_806,
    "Resnet50V1": 25_557_166,
    "ResnetE18": 11_689_640,
    "ResnetE34": 21_797_800,
    "DenseNet28": 5_131_496,
    "DenseNet37": 8_702_248,
    "DenseNet45": 13_889_512,
    "QuickNet": 13_234_088,
    "QuickNetSmall": 12_655_688,
    "QuickNetLarge": 23_342_248,
    "BiRealNet18": 11_689_512,
    "ReActNetA": 29_343_592,
    "Resnet34V2": 21_796_014,
    "Resnet50V2": 25_549_486,
    "Resnet152V1": 60_192_942,
    "Resnet152V2": 60_185_262,
}
#: MiB with binary weights in one bit and others in 32, and operations, 64 binary products for one, of papers' tables.
PAPERS = {
    "MeliusNet22": (3.9, 2.08e8),
    "MeliusNet29": (5.1, 2.14e8),
    "MeliusNet42": (10.1, 3.25e8),
    "MeliusNet59": (17.4, 5.32e8),
    "MeliusNetA": (4.0, 1.62e8),
    "MeliusNetB": (5.0, 1.96e8),
    "MeliusNetC": (4.5, 1.50e8),
    "BiRealNet18": (4.0, 1.63e8),
    "ReActNetA": (7.5, 0.87e8),
}
#: Entries of the state_dict without num_batches_tracked, and quantized layers.
ENTRIES = {
    "Resnet18V2": (98, 19),
    "Resnet34V1": (190, 35),
    "Resnet50V1": (275, 52),
    "ResnetE18": (106, 16),
    "ResnetE34": (186, 32),
    "DenseNet28": (141, 23),
    "DenseNet37": (186, 32),
    "DenseNet45": (226, 40),
    "QuickNet": (115, 16),
    "QuickNetLarge": (195, 32),
    "LeNet": (19, 2),
}


def on_meta(name: str) -> Model:
    """A net without numbers, for its shapes: LeNet for MNIST, others for ImageNet."""
    with torch.device("meta"):
        if name == "LeNet":
            return LeNet((1, 1, 28, 28), 10)
        return model_from_name(name)(IMAGENET, num_classes=1000)


def low_bit_layers(net: nn.Module) -> list[nn.Module]:
    return [layer for layer in net.modules() if isinstance(layer, WeightQuantized)]


def every(name: str, *layers: nn.Module) -> list[Any]:
    """An attribute of each layer."""
    return [getattr(layer, name) for layer in layers]


def test_names() -> None:
    """Every net has the name of its class, and is found under it."""
    assert model_names() == sorted(models_by_name)
    assert {*PARAMETERS, *PAPERS} <= {cls.name for cls in models_by_name.values()}
    for name, cls in models_by_name.items():
        assert cls.name == cls.__name__
        assert name == cls.name.lower()
        assert model_from_name(cls.name) is cls
        assert getattr(bitorch.models, cls.name) is cls


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    assert sum(p.numel() for p in on_meta(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in ("MeliusNetA", "BiRealNet18", "ReActNetA") else slow) for n in PAPERS]
)
def test_sizes_and_operations_of_the_papers(name: str) -> None:
    net = on_meta(name).eval()
    macs = {True: 0, False: 0}

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        macs[isinstance(layer, QConv2d)] += layer.get_parameter("weight")[0].numel() * out.numel()

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    net(torch.zeros(IMAGENET, device="meta"))
    binary = sum(layer.get_parameter("weight").numel() for layer in low_bit_layers(net))
    floats = sum(p.numel() for p in net.parameters()) - binary
    mebibytes, operations = PAPERS[name]
    assert (binary / 8 + floats * 4) / 2**20 == pytest.approx(mebibytes, abs=0.055)
    assert macs[False] + macs[True] / 64 == pytest.approx(operations, rel=0.008)


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_and_low_bit_layers(name: str) -> None:
    net = on_meta(name)
    entries = [key for key in net.state_dict() if not key.endswith("num_batches_tracked")]
    assert (len(entries), len(low_bit_layers(net))) == ENTRIES[name]


@pytest.mark.parametrize(
    ("name", "keys"),
    {
        "Resnet18V1": ("features.6.0.body.0.weight", "output_layer.weight"),
        "Resnet18V2": ("features.5.0.body.0.weight", "features.9.running_var"),
        "ResnetE18": ("features.5.0.body.0.weight", "features.1.weight", "features.4.weight"),
        "DenseNet28": ("features.DenseBlock_1.DenseLayer_1.features.1.weight", "finalize.0.weight", "output.weight"),
        "MeliusNet22": ("features.DenseBlock_1.DenseLayer_1.features.1.weight", "finalize.0.weight", "output.weight"),
        "QuickNet": ("stem.1.weight", "body.ResidualBlocks_4.3.bnorm.weight", "top.3.weight"),
        "LeNet": ("0.weight", "4.weight", "10.weight", "13.bias"),
    }.items(),
)
def test_keys(name: str, keys: Sequence[str]) -> None:
    state = on_meta(name).state_dict()
    assert all(f"_model.{key}" in state for key in keys), list(state)
    if name == "QuickNet":
        assert sum(p.numel() for p in on_meta(name).parameters() if p.requires_grad) == 13_230_056


def test_small_images_have_a_small_stem() -> None:
    """So that the first block comes three numbers earlier."""
    with torch.device("meta"):
        assert "_model.features.3.0.body.0.weight" in Resnet18V1((1, 3, 32, 32), 10).state_dict()
        for shape in (IMAGENET, list(IMAGENET), torch.Size(IMAGENET)):
            assert "_model.features.6.0.body.0.weight" in Resnet18V1(shape, 10).state_dict()
            stem = MeliusNet("22", shape, 10).get_submodule("_model.features")[:10]  # type: ignore[index]
            assert [layer.groups for layer in stem if isinstance(layer, nn.Conv2d)] == [1, 4, 8]


def test_without_classes_a_net_gives_its_features() -> None:
    with torch.device("meta"):
        x = torch.zeros(2, 3, 32, 32)
        for cls, features in ((Resnet18V2, 512), (ReActNetA, 1024), (QuickNet, 512)):
            assert cls((1, 3, 32, 32))(x).shape == (2, features)
        assert LeNet((1, 1, 28, 28))(torch.zeros(2, 1, 28, 28)).shape == (2, 1000)


@pytest.mark.parametrize(
    "name", ["Resnet18V1", "ResnetE18", "DenseNet28", "MeliusNet22", "QuickNet", "BiRealNet18", "ReActNetA"]
)
def test_batch_norms_momentum_has_pytorchs_meaning(name: str) -> None:
    assert {layer.momentum for layer in on_meta(name).modules() if isinstance(layer, nn.BatchNorm2d)} == {0.1}


class TestLeNet:
    def test_versions(self) -> None:
        """One seed gives one first weight; of one bit, WeightDoReFa is the sign, so two versions give one result."""
        nets = []
        for version in (0, 1, 2, 3, 7):
            torch.manual_seed(3)
            nets.append(LeNet((1, 1, 28, 28), 10, version))
        for net in nets[1:]:
            assert torch.equal(next(net.parameters()), next(nets[0].parameters()))
        x = torch.randn(2, 1, 28, 28)
        assert torch.equal(nets[0](x), nets[1](x))
        assert torch.equal(nets[2](x), nets[3](x))

        def quantizers(net: LeNet) -> list[tuple[str, str]]:
            return [
                (layer.weight_quantization.name, layer.input_quantization.name)
                for layer in net.modules()
                if isinstance(layer, QConv2d | QLinear)
            ]

        assert quantizers(nets[1]) == [("weightdorefa", "weightdorefa"), ("weightdorefa", "sign")]
        assert quantizers(nets[2]) == [("sign", "weightdorefa"), ("sign", "sign")]
        assert quantizers(nets[4]) == []

    def test_attributes_and_layers(self) -> None:
        net = LeNet((1, 3, 20, 24), 7)
        assert (net.num_channels_conv, net.num_fc, net.activation_function) == (64, 1000, nn.Tanh)
        assert (net.input_channels, net.num_output) == (3, 7)
        kinds = " ".join(type(layer).__name__ for layer in net.model().children())
        assert kinds == (
            "Conv2d Tanh MaxPool2d BatchNorm2d QConv2d BatchNorm2d MaxPool2d Identity Flatten QActivation QLinear "
            "BatchNorm1d Tanh Linear"
        )
        assert sum(p.numel() for p in LeNet((1, 1, 28, 28), 10, -1).parameters()) == 1_141_394
        assert net(torch.rand(2, 3, 20, 24)).shape == (2, 7)

    def test_too_small_images(self) -> None:
        with pytest.raises(ValueError, match=r"LeNet takes images of at least 16×16, got input_shape=\(1, 1, 15, 28\)"):
            LeNet((1, 1, 15, 28), 10)


class TestResnet:
    @pytest.mark.parametrize("block", [BasicBlockV1, BasicBlockV2, BottleneckV1, BottleneckV2, BasicBlock, BiRealBlock])
    def test_stride_and_shortcut(self, block: type[BasicBlockV1]) -> None:
        x = torch.randn(2, 16, 9, 9)
        for out_channels, stride, expected in ((16, -1, 1), (32, -1, 2), (32, 1, 1), (16, 2, 2)):
            layer = block(16, out_channels, stride).eval()
            assert (layer.stride, layer.in_channels, layer.out_channels) == (expected, 16, out_channels)
            assert layer.shall_downsample == (layer.downsample is not None) == (out_channels != 16 or expected != 1)
            assert layer(x).shape == (2, out_channels, *[-(-9 // expected)] * 2)

    def test_sums(self) -> None:
        torch.manual_seed(0)
        x = torch.randn(2, 8, 6, 6)
        for out in (8, 16):
            v1, v2, bottleneck, e = (
                block(8, out).eval() for block in (BasicBlockV1, BasicBlockV2, BottleneckV2, BasicBlock)
            )
            v2.bn.bias.data.normal_()  # type: ignore[union-attr, operator]
            for layer, y in ((v1, x), (v2, v2.bn(x)), (bottleneck, bottleneck.bn(x).relu()), (e, x)):  # type: ignore[operator]
                shortcut = x if layer.downsample is None else layer.downsample(y)
                assert torch.equal(layer(x), layer.body(y) + shortcut)
            first = BottleneckV1(8, out).eval()
            shortcut = x if first.downsample is None else first.downsample(x)
            assert torch.equal(first(x), (first.body(x) + shortcut).relu())

    def test_stages(self) -> None:
        for kind, block in ((ResNetV1, BasicBlockV1), (ResNetV2, BasicBlockV2), (_ResnetE, BasicBlock)):
            net = kind(block, [1, 2], [8, 8, 16], 5, (16, 16), 1)
            stages = [stage for stage in net.features if isinstance(stage, nn.Sequential)]
            assert [stage[0].stride for stage in stages] == [1, 2]
            assert [len(stage) for stage in stages] == ([2, 4] if kind is _ResnetE else [1, 2])
            assert net(torch.rand(2, 1, 16, 16)).shape == (2, 5)
            with pytest.raises(ValueError, match=r"one for each of the 2 stages, got \(8, 16\)"):
                kind(block, [1, 2], [8, 16], 5)

    def test_wrong_sizes(self) -> None:
        with pytest.raises(ValueError, match="resnet_version must be 1 or 2, got 3"):
            Resnet(3, 18, IMAGENET, 10)
        with pytest.raises(ValueError, match="resnet_num_layers must be one of 18, 34, 50, 101, 152, got 19"):
            Resnet(1, 19, IMAGENET, 10)
        with pytest.raises(ValueError, match="resnete_num_layers must be one of 18, 34, got 50"):
            ResnetE(50, IMAGENET, 10)
        with pytest.raises(ValueError, match=r"input_shape must be \[batch, channels, height, width\] .* got \(3, 8\)"):
            Resnet18V1((3, 8), 10)


FLEX: dict[str, Any] = {"num_init_features": 32, "growth_rate": 32, "flex_block_config": [1, 2, 1, 1]}


class TestDense:
    def test_block(self) -> None:
        net = DenseNetFlex((1, 3, 16, 16), 10, **FLEX).eval()
        block = net.get_submodule("_model.features.DenseBlock_2")
        assert isinstance(block, DenseBlock)
        assert list(block) == ["DenseLayer_1", "DenseLayer_2"]
        x = torch.randn(2, 32, 8, 8)
        one = torch.cat([x, block["DenseLayer_1"](x)], 1)
        assert torch.equal(block(x), torch.cat([one, block["DenseLayer_2"](one)], 1))

    def test_improvement_adds_to_the_last_channels(self) -> None:
        net = MeliusNetFlex((1, 3, 16, 16), 10, **FLEX).eval()
        block = net.get_submodule("_model.features.DenseBlock_2")
        keys = ["DenseLayer_1", "ImprovementBlock_1", "DenseLayer_2", "ImprovementBlock_2"]
        assert list(dict(block.named_children())) == keys
        layer = block.get_submodule("ImprovementBlock_1")
        assert isinstance(layer, ImprovementBlock)
        x = torch.randn(2, 64, 8, 8)
        y = layer(x)
        assert torch.equal(y[:, :32], x[:, :32])
        assert torch.equal(y[:, 32:], x[:, 32:] + layer.body(x))

    def test_dilation_dropout_and_bottleneck(self) -> None:
        net = DenseNetFlex((1, 3, 16, 16), 10, dilated=True, dropout=0.5, bn_size=2, **FLEX)
        features = net.get_submodule("_model.features")
        assert features(torch.rand(1, 3, 16, 16)).shape == (1, 96, 8, 8)
        dilations = every("dilation", *(layer for layer in low_bit_layers(net) if layer.kernel_size == (3, 3)))
        assert dilations == [(1, 1)] * 3 + [(2, 2), (4, 4)]
        layer = features.get_submodule("DenseBlock_1.DenseLayer_1.features")
        kinds = [type(part).__name__ for part in layer.children()]
        assert kinds == ["BatchNorm2d", "QConv2d", "BatchNorm2d", "QConv2d", "Dropout"]
        assert every("out_channels", layer.get_submodule("1")) == [64]

    def test_transitions(self) -> None:
        net = MeliusNetFlex((1, 3, 16, 16), 10, downsample_structure="cs:4,relu,q_conv:2,bn,pool", **FLEX)
        layers = list(net.get_submodule("_model.features.Transition_1").children())
        kinds = [type(layer).__name__ for layer in layers]
        assert kinds == ["ChannelShuffle", "ReLU", "QConv2d", "BatchNorm2d", "AvgPool2d"]
        assert every("groups", layers[0], layers[2]) == [4, 2]
        with torch.device("meta"):
            paper = MeliusNet(23, IMAGENET, 10).get_submodule("_model.features.Transition_1")
        assert [type(layer).__name__ for layer in paper.children()][2:] == ["ReLU", "ChannelShuffle", "Conv2d"]
        assert every("groups", *(paper.get_submodule(i) for i in "34")) == [16, 8]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"num_layers": 29}, "num_layers must be None or one of 28, 37, 45, got 29"),
            ({"num_layers": None}, "flex_block_config must be a list of 4 numbers of layers where num_layers is None"),
            ({"num_layers": None, "flex_block_config": [1, 1]}, r"must be a list of 4 numbers .*, got \[1, 1\]"),
            ({"num_layers": 28, "flex_block_config": [1] * 4}, "flex_block_config goes with num_layers=None, got"),
            ({"num_layers": 28, "reduction": [2, 2]}, r"reduction must be 3 factors above 0, .*, got \(2, 2\)"),
            ({"num_layers": 28, "reduction": [99, 2, 2]}, "reduction 99 leaves none of 448 channels; choose a smaller"),
            ({"num_layers": 28, "dropout": 1.0}, "dropout must be a probability below 1, got 1.0"),
            ({"num_layers": 28, "bn_size": -1}, r"bn_size must be 0 \(no bottleneck\) or a factor on growth_rate"),
            (
                {"num_layers": 28, "downsample_structure": "bn,conv"},
                "downsample_structure must be parts out of bn, relu",
            ),
            ({"num_layers": 28, "downsample_structure": "bn:2,fp_conv"}, "with :GROUPS behind .*, got 'bn:2'"),
            (
                {"num_layers": 28, "downsample_structure": "bn"},
                "must have q_conv or fp_conv, which reduce the channels",
            ),
        ],
    )
    def test_wrong_arguments(self, arguments: dict[str, object], message: str) -> None:
        with torch.device("meta"), pytest.raises(ValueError, match=message):
            DenseNet(input_shape=IMAGENET, num_classes=10, **arguments)  # type: ignore[arg-type]


class TestQuickNet:
    def test_blocks(self) -> None:
        torch.manual_seed(0)
        block = ResidualBlock(8).eval()
        x = torch.randn(2, 8, 6, 6)
        assert torch.equal(block(x), block.bnorm(block.qconv(x).relu()) + x)
        assert (block.qconv.padding, block.qconv.pad_value) == ("same", 1.0)
        transition = TransitionBlock(8, 16, 2)
        assert list(dict(transition.named_children())) == ["relu", "pool", "pad", "depth_conv", "conv", "relu2", "norm"]
        for side in (6, 7):
            assert transition(torch.rand(2, 8, side, side)).shape == (2, 16, side // 2, side // 2)

    def test_blurs_are_binomial_and_frozen(self) -> None:
        net = QuickNet((1, 3, 64, 64), (8, 16), (1, 1), 10)
        blur = net.get_submodule("_model.body.Transition_1").get_parameter("depth_conv.weight")
        expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
        assert torch.equal(blur, expected.expand(8, 1, 3, 3))
        assert not blur.requires_grad

    def test_clipping_after_each_step(self) -> None:
        net = QuickNet((1, 3, 64, 64), (8, 16), (1, 1), 10)
        for parameter in net.parameters():
            parameter.data.fill_(3)
        net.apply(net.on_train_batch_end)
        clipped = {key for key, value in net.named_parameters() if torch.equal(value, torch.full_like(value, 1.25))}
        assert clipped == {f"_model.body.ResidualBlocks_{i}.0.qconv.weight" for i in (1, 2)}
        QuickNet.clip_weights(net.get_submodule("_model.body.ResidualBlocks_1.0"), 0.5)
        assert net.get_parameter("_model.body.ResidualBlocks_1.0.qconv.weight").max() == 0.5

    def test_wrong_sections(self) -> None:
        with pytest.raises(ValueError, match=r"must have a number for each section, got \(8, 16\) and \(4, 4, 4, 4\)"):
            QuickNet((1, 3, 64, 64), (8, 16), None, 10)
        with pytest.raises(ValueError, match=r"section_blocks\[1\] must be at least 1, got 0"):
            QuickNet((1, 3, 64, 64), (8, 16), (1, 0), 10)


class TestReActNet:
    def test_block_is_the_papers_with_two_convolutions_side_by_side(self) -> None:
        torch.manual_seed(0)
        block = ReActBlock(8, 16, 2).eval()
        for parameter in block.parameters():
            parameter.data.add_(0.1 * torch.randn_like(parameter))
        x = torch.randn(2, 8, 6, 6)
        middle = block.spatial_activation(block.spatial(x) + F.avg_pool2d(x, 2))
        conv, norm = block.pointwise
        assert isinstance(conv, QConv2d)
        halves = []
        for half in (slice(0, 8), slice(8, 16)):
            weight = conv.weight_quantization(conv.weight[half])
            y = F.conv2d(conv.input_quantization(middle), weight)
            mean, var = norm.running_mean[half], norm.running_var[half]  # type: ignore[index]
            halves.append(F.batch_norm(y, mean, var, norm.weight[half], norm.bias[half]) + middle)  # type: ignore[index]
        torch.testing.assert_close(block(x), block.pointwise_activation(torch.cat(halves, 1)))

    def test_wrong_channels(self) -> None:
        with pytest.raises(ValueError, match="out_channels must be 8 or twice as many, got 24"):
            ReActBlock(8, 24)


def _tail(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]


def _stem(channels: int) -> list[nn.Module]:
    return [nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]


def _dense(block: BlockMaker, **options: Any) -> nn.Module:
    return BaseNetDense(DenseSettings((1, 2), (2,), 32, 32, **options), block, "small", 3, 4)


#: A small net of each family, for images of 8×8.
SMALL: dict[str, Callable[[], nn.Module]] = {
    "lenet": lambda: LeNet((1, 3, 16, 16), 4),
    "resnet v1": lambda: ResNetV1(BasicBlockV1, [1, 1], [8, 8, 16], 4),
    "resnet v2": lambda: ResNetV2(BasicBlockV2, [1, 1], [8, 8, 16], 4),
    "resnet e": lambda: _ResnetE(BasicBlock, [1, 1], [8, 8, 16], 4),
    "densenet": lambda: _dense(DenseBlock, dilated=True, bn_size=1, dropout=0.1),
    "meliusnet": lambda: _dense(MeliusBlock, downsample_structure="bn,max_pool,relu,cs,fp_conv:8"),
    "quicknet": lambda: QuickNet((1, 3, 8, 8), (8, 16), (1, 1), 4),
    "bireal": lambda: nn.Sequential(*_stem(8), BiRealBlock(8, 8), BiRealBlock(8, 16), *_tail(16)),
    "reactnet": lambda: nn.Sequential(*_stem(8), ReActBlock(8, 16, 2), ReActBlock(16, 16), *_tail(16)),
}


def trained(net: nn.Module) -> tuple[nn.Module, torch.Tensor]:
    """The net in eval mode after three steps, and images."""
    side = 16 if isinstance(net, LeNet) else 8
    x = torch.randn(4, 3, side, side)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(net(x), torch.arange(4)).backward()
        optimizer.step()
    return net.eval(), x


@pytest.mark.parametrize("name", SMALL)
def test_trains_and_deploys_whole(name: str) -> None:
    torch.manual_seed(0)
    net = SMALL[name]()
    before = {key: value.clone() for key, value in net.named_parameters() if value.requires_grad}
    net, x = trained(net)
    still = [key for key, value in net.named_parameters() if key in before and torch.equal(value, before[key])]
    assert still == []
    packed = bitorch.deploy(net, x[:1])
    found = bitorch.verify(net, packed, x[:2])
    assert found, found
    assert bitorch.report(net, x[:1], repeats=1).totals.packed_bytes == packed.nbytes


@pytest.mark.parametrize("block", [BottleneckV1, BottleneckV2])
def test_bottlenecks_say_why_they_do_not_deploy(block: type[BottleneckV1]) -> None:
    kind = ResNetV1 if block is BottleneckV1 else ResNetV2
    net, x = trained(kind(block, [1, 1], [8, 16, 32], 4))
    assert all(isinstance(layer, QConv2d_NoAct) for layer in low_bit_layers(net))
    found = bitorch.can_deploy(net, x[:1])
    assert not found
    where = r"features\.\d\.0\.body\.0, .* and \d+ more"
    assert [p for p in str(found).splitlines() if "multiplied by floats" in p]
    with pytest.raises(
        ValueError, match=rf"its low-bit weights are multiplied by floats \({where}\).* Use QConv1d, QCo"
    ):
        bitorch.deploy(net, x[:1])


@pytest.mark.parametrize("version", [1, 3])
def test_lenet_with_statistics_of_a_batch_says_why_it_does_not_deploy(version: int) -> None:
    found = bitorch.can_deploy(LeNet((1, 3, 16, 16), 4, version).eval(), torch.rand(1, 3, 16, 16))
    assert "_model.4 (QConv2d), called from " in str(found)
    assert "WeightDoReFa scales by statistics of a whole tensor" in str(found)


def test_quantizers_are_those_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "input_quantization", "swishsign")
    layers = low_bit_layers(ResNetV1(BasicBlockV1, [1, 1], [8, 8, 16], 4, (16, 16)))
    assert {layer.input_quantization.name for layer in layers if isinstance(layer, QConv2d)} == {"swishsign"}


#: Options, and the arguments of the constructor that they become.
OPTIONS: dict[str, tuple[list[str], dict[str, object]]] = {
    "LeNet": (["--version", "2"], {"lenet_version": 2}),
    "Resnet": (["--version", "2", "--num-layers", "34"], {"resnet_version": 2, "resnet_num_layers": 34}),
    "ResnetE": (["--num-layers", "34"], {"resnete_num_layers": 34}),
    "DenseNet": (
        ["--num-layers", "37", "--reduction", "2,2.5,3", "--init-features", "32", "--growth-rate", "32"],
        {
            "num_layers": "37",
            "reduction": [2.0, 2.5, 3.0],
            "num_init_features": 32,
            "growth_rate": 32,
            "downsample_structure": None,
        },
    ),
    "MeliusNet": (
        ["--num-layers", "a", "--downsample-structure", "bn,pool,q_conv"],
        {
            "num_layers": "a",
            "reduction": None,
            "num_init_features": 64,
            "growth_rate": 64,
            "downsample_structure": "bn,pool,q_conv",
        },
    ),
    "MeliusNetFlex": (
        ["--block-config", "[1, 2, 1, 1]"],
        {
            "flex_block_config": [1, 2, 1, 1],
            "reduction": None,
            "num_init_features": 64,
            "growth_rate": 64,
            "downsample_structure": None,
        },
    ),
    "Resnet18V1": ([], {}),
    "DenseNet28": ([], {}),
    "QuickNetLarge": ([], {}),
    "ReActNetA": ([], {}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_arguments_of_the_constructor(name: str) -> None:
    arguments, expected = OPTIONS[name]
    cls = model_from_name(name)
    parser = argparse.ArgumentParser()
    cls.add_argparse_arguments(parser)
    parsed = vars(parser.parse_args(arguments))
    assert parsed == expected
    with torch.device("meta"):
        net = cls(input_shape=IMAGENET, num_classes=10, **parsed)
        assert net(torch.zeros(2, *IMAGENET[1:])).shape == (2, 10)


def _shapes() -> list[tuple[str, tuple[int, ...], int]]:
    mnist, cifar = (1, 28, 28), (3, 32, 32)
    fixed = [name for name in PARAMETERS if name not in ("LeNet",)] + [
        name for name in PAPERS if name not in PARAMETERS
    ]
    cases: list[tuple[str, tuple[int, ...], int]] = [("LeNet", mnist, 10)]
    for name in [*fixed, "MeliusNet23"]:
        cases.append((name, IMAGENET[1:], 1000))
        if not name.startswith("QuickNet"):
            cases.append((name, cifar, 10))
        if name.startswith(("Resnet1", "Resnet3", "Resnet5", "DenseNet", "MeliusNet")):
            cases.append((name, mnist, 10))
    return cases


@slow
@pytest.mark.parametrize(("name", "shape", "classes"), _shapes())
def test_every_shape(name: str, shape: tuple[int, ...], classes: int) -> None:
    with torch.device("meta"):
        net = model_from_name(name)((1, *shape), num_classes=classes)
        for batch in (2, 10):
            assert net(torch.empty(batch, *shape)).shape == (batch, classes)
        assert net.eval()(torch.empty(1, *shape)).shape == (1, classes)


class TestRecipe:
    def test_a_net_that_deploys(self) -> None:
        costs, about = zoo.measured("LeNet version 0", zoo.Options(side=16, repeats=1))
        assert (costs.side, costs.parameters, costs.problem) == (16, 181_330, "")
        assert costs.macs == 144 * 64 * 25 + 4 * 64 * 64 * 25 + 64 * 1000 + 10_000
        assert costs.float_bytes > costs.packed_bytes > 64_000 / 8
        assert costs.packed_seconds is not None
        assert min(costs.packed_seconds, costs.float_seconds) > 0
        text = zoo_table.page([costs], about)
        assert zoo_table.line(costs) in text
        assert "| LeNet version 0 | 16×16 | 181,330 | 714,000 |" in text
        assert "Why" not in text

    def test_one_that_does_not(self) -> None:
        costs, about = zoo.measured("LeNet version 1", zoo.Options(side=16, repeats=1))
        text = zoo_table.page([costs], about)
        assert "- LeNet version 1: _model.4 (QConv2d): WeightDoReFa scales by statistics of a whole tensor" in text
        assert re.search(r"\| no \| – \| [\d.]+ \| – \|$", zoo_table.line(costs))

    def test_names(self) -> None:
        """All of one size are in the table."""
        assert {name.lower() for name in zoo.NAMES if not name.startswith("LeNet")} == {*ZOO_NAMES} - {"lenet"}
        with pytest.raises(ValueError, match="unknown names Resnet19; there are LeNet version 0, "):
            zoo.main(zoo.Options(names=("Resnet19",)))
        with pytest.raises(ValueError, match="--repeats must be at least 1, got 0"):
            zoo.main(zoo.Options(repeats=0))
