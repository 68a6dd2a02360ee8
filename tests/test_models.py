"""The architectures: shapes, sizes, and that they train, compile, convert and load."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bitorch
from bitorch.models import (
    MODEL_NAMES,
    AlexNet,
    LeNet8,
    LeNet28,
    MobileNetV2,
    ResNet18,
    ResNet20,
    SVHNNet,
    SVHNVariant,
    build,
)

#: name: side of the image, parameters with 3 channels and 10 classes
MODELS = {
    "svhn-a": (40, 2_082_474),
    "svhn-b": (40, 523_354),
    "svhn-c": (40, 132_210),
    "svhn-d": (40, 33_742),
    "lenet-28": (28, 327_274),
    "lenet-8": (8, 189_098),
    "resnet-20": (32, 269_722),
    "resnet-18": (32, 11_181_642),
    "mobilenet-v2": (28, 99_946),
    "alexnet": (224, 56_925_386),
}
#: Of nets that are slow at width 1.
WIDTHS = {"alexnet": 1 / 16}


def small(name: str, channels: int, classes: int) -> nn.Module:
    return build(name, channels, classes, WIDTHS.get(name, 1.0))


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def bodies(net: ResNet20) -> list[nn.Sequential]:
    """Return the two-convolution chains of the residual blocks."""
    return [body for name, body in net.named_modules() if name.endswith(".body") and isinstance(body, nn.Sequential)]


def test_names() -> None:
    assert tuple(MODELS) == MODEL_NAMES


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match=r"model must be one of svhn-a, .*mobilenet-v2, .*got 'svhn'"):
        build("svhn", 3, 10)


@pytest.mark.parametrize("name", MODEL_NAMES)
class TestEveryModel:
    def test_shapes(self, name: str) -> None:
        side, _ = MODELS[name]
        for channels, classes in ((3, 10), (1, 7)):
            net = small(name, channels, classes)
            assert net(torch.rand(2, channels, side, side)).shape == (2, classes)
            assert net.eval()(torch.rand(1, channels, side, side)).shape == (1, classes)
            assert net(torch.rand(0, channels, side, side)).shape == (0, classes)

    def test_parameter_count(self, name: str) -> None:
        with torch.device("meta"):
            assert parameters(build(name, 3, 10)) == MODELS[name][1]

    def test_first_and_last_layer(self, name: str) -> None:
        layers = [m for m in small(name, 3, 10).modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert isinstance(layers[0], nn.Conv2d)
        assert layers[0].in_channels == 3
        assert isinstance(layers[-1], nn.Linear)
        assert layers[-1].out_features == 10
        # Batch norm has its own offset: a bias in front of it would never get a gradient.
        assert all(layer.bias is None for layer in layers[1:-1])

    @pytest.mark.parametrize("bits", [32, 2])
    def test_every_parameter_gets_a_gradient(self, name: str, bits: int) -> None:
        torch.manual_seed(0)
        side, _ = MODELS[name]
        net = small(name, 1, 10)
        bitorch.quantize_(net, bitorch.LowBitConfig(weight_bits=bits, activation_bits=bits))
        nn.functional.cross_entropy(net(torch.rand(8, 1, side, side)), torch.arange(8)).backward()
        for key, parameter in net.named_parameters():
            assert parameter.grad is not None, key
            # The first bias of the SVHN nets is the exception: batch norm subtracts it.
            assert key == "layers.0.bias" or parameter.grad.abs().max() > 0, key

    def test_conversion_leaves_only_the_ends_float(self, name: str) -> None:
        net = small(name, 3, 10)
        rows = bitorch.quantize_(net, bitorch.LowBitConfig(weight_bits=1, activation_bits=2)).layers
        bits = [row.weight_bits for row in rows if row.layer in ("Conv2d", "Linear")]
        assert bits == [None, *[1] * (len(bits) - 2), None]

    def test_absorb_relu_leaves_the_result_alone(self, name: str) -> None:
        torch.manual_seed(0)
        side, _ = MODELS[name]
        net, absorbed = small(name, 1, 10), small(name, 1, 10)
        absorbed.load_state_dict(net.state_dict())
        bitorch.quantize_(net, bitorch.LowBitConfig(1, 2))
        bitorch.quantize_(absorbed, bitorch.LowBitConfig(1, 2, absorb_relu=True))
        relus = [sum(isinstance(m, nn.ReLU) for m in x.modules()) for x in (net, absorbed)]
        low_bit = sum(type(m).__name__ in ("QConv2d", "QLinear") for m in net.modules())
        # The ReLUs of resnet-18 stand in forward, where some of them are read by a shortcut too; a ReLU6 stays.
        assert relus[0] - relus[1] == (0 if name in ("resnet-18", "mobilenet-v2") else low_bit)
        x = torch.rand(2, 1, side, side)
        assert torch.equal(net.eval()(x), absorbed.eval()(x))

    @pytest.mark.one_in(3)
    def test_compiles_without_graph_breaks(self, name: str) -> None:
        side, _ = MODELS[name]
        net = small(name, 3, 10).eval()
        x = torch.rand(2, 3, side, side)
        assert torch.equal(torch.compile(net, fullgraph=True, backend="eager")(x), net(x))

    def test_state_dict_round_trip(self, name: str) -> None:
        side, _ = MODELS[name]
        net, other = small(name, 3, 10).eval(), small(name, 3, 10).eval()
        x = torch.rand(2, 3, side, side)
        assert not torch.equal(net(x), other(x))
        other.load_state_dict(net.state_dict(), strict=True)
        assert torch.equal(net(x), other(x))

    def test_wrong_images(self, name: str) -> None:
        side, _ = MODELS[name]
        net = small(name, 3, 10)
        # These take any height and width.
        sizes = [] if name in ("resnet-18", "mobilenet-v2") else [(1, 3, side, side + 1), (1, 3, side - 1, side)]
        for shape in (*sizes, (1, 1, side, side), (3, side, side)):
            with pytest.raises(ValueError, match=r"takes images of shape \[batch, 3, .*got \[.*resize or pad"):
                net(torch.rand(shape))

    def test_wrong_arguments(self, name: str) -> None:
        for arguments, argument in (((0, 10), "in_channels"), ((3, 0), "num_classes"), ((-1, 10), "in_channels")):
            with pytest.raises(ValueError, match=f"{argument} must be at least 1"):
                build(name, *arguments)
        with pytest.raises(TypeError, match=r"num_classes must be an int, got 2\.5"):
            build(name, 3, 2.5)  # type: ignore[arg-type]


class TestSVHNNet:
    def test_channels_of_the_variants(self) -> None:
        def channels(variant: SVHNVariant) -> list[int]:
            return [m.out_channels for m in SVHNNet(variant).modules() if isinstance(m, nn.Conv2d)]

        assert channels("A") == [48, 64, 64, 128, 128, 128, 512]
        for variant, divisor in (("B", 2), ("C", 4), ("D", 8)):
            assert channels(variant) == [c // divisor for c in channels("A")]  # type: ignore[arg-type]

    def test_sizes_on_the_way(self) -> None:
        sides = []
        x = torch.rand(2, 3, 40, 40)
        for layer in list(SVHNNet("D").layers)[:-2]:
            x = layer(x)
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                sides.append(x.shape[-1])
        assert sides == [36, 18, 18, 18, 9, 7, 7, 5, 1]

    def test_first_convolution_has_a_bias_and_batch_norm_the_papers_eps(self) -> None:
        net = SVHNNet()
        assert next(m for m in net.modules() if isinstance(m, nn.Conv2d)).bias is not None
        assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-4}

    def test_unknown_variant(self) -> None:
        with pytest.raises(ValueError, match="variant must be one of A, B, C, D, got 'E'"):
            SVHNNet("E")  # type: ignore[arg-type]


class TestAlexNet:
    def test_size_is_that_of_the_paper(self) -> None:
        with torch.device("meta"):
            net = AlexNet()
        assert parameters(net) == 60_981_416
        layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert [layer.weight.shape[0] for layer in layers] == [96, 256, 384, 384, 256, 4096, 4096, 1000]
        assert [layer.groups for layer in layers if isinstance(layer, nn.Conv2d)] == [1, 2, 1, 2, 2]

    def test_sizes_on_the_way(self) -> None:
        sides = []
        x = torch.rand(2, 3, 224, 224)
        for layer in list(AlexNet(width=1 / 16).layers)[:-8]:
            x = layer(x)
            if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
                sides.append(x.shape[-1])
        assert sides == [54, 54, 27, 27, 14, 14, 14, 6]

    def test_width_keeps_two_groups(self) -> None:
        net = AlexNet(width=1 / 48)
        assert all(m.out_channels % m.groups == 0 for m in net.modules() if isinstance(m, nn.Conv2d))
        with pytest.raises(ValueError, match=r"width must be finite and leave at least one of 48 channels, got 0\.01"):
            AlexNet(width=0.01)


@pytest.mark.parametrize("net", [LeNet28, LeNet8])
class TestLeNet:
    def test_size(self, net: type[LeNet28 | LeNet8]) -> None:
        assert parameters(net()) == {LeNet28: 325_674, LeNet8: 188_522}[net]

    def test_hidden_linear_layer_has_batch_norm(self, net: type[LeNet28 | LeNet8]) -> None:
        hidden, norm, relu, last = list(net().layers)[-4:]
        assert [type(m) for m in (hidden, norm, relu, last)] == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
        assert hidden.bias is None

    def test_width(self, net: type[LeNet28 | LeNet8]) -> None:
        def channels(width: float) -> list[int]:
            return [
                m.num_features for m in net(width=width).modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))
            ]

        for width in (0.5, 2.0):
            assert channels(width) == [round(c * width) for c in channels(1.0)]

    @pytest.mark.parametrize("width", [0.0, -1.0, 0.01, float("inf"), float("nan")])
    def test_wrong_width(self, net: type[LeNet28 | LeNet8], width: float) -> None:
        with pytest.raises(ValueError, match="width must be finite and leave at least one of 32 channels"):
            net(width=width)

    def test_width_of_another_type(self, net: type[LeNet28 | LeNet8]) -> None:
        with pytest.raises(TypeError, match="width must be a number, got '1'"):
            net(width="1")  # type: ignore[arg-type]


class TestResNet20:
    def test_has_19_convolutions_and_a_linear_layer(self) -> None:
        kinds = [type(m) for m in ResNet20().modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
        assert kinds == [nn.Conv2d] * 19 + [nn.Linear]

    def test_stages(self) -> None:
        x = ResNet20(width=8).stem(torch.rand(2, 3, 32, 32))
        shapes = []
        for block in ResNet20(width=8).blocks:
            x = block(x)
            shapes.append(tuple(x.shape[1:]))
        assert shapes == [(8, 32, 32)] * 3 + [(16, 16, 16)] * 3 + [(32, 8, 8)] * 3

    def test_shortcuts_without_their_bodies(self) -> None:
        net = ResNet20()
        for body in bodies(net):
            for parameter in body[-1].parameters():
                nn.init.zeros_(parameter)
        x = torch.rand(2, 3, 32, 32)
        stem = net.stem(x)
        out = net.blocks(stem)
        torch.testing.assert_close(out[:, :16], nn.functional.avg_pool2d(stem, 4))
        assert out.shape == (2, 64, 8, 8)
        assert not out[:, 16:].any()

    def test_low_bit_layers_stand_behind_batch_norm_and_relu(self) -> None:
        for body in bodies(ResNet20()):
            assert [type(m) for m in body] == [nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * 2

    def test_other_sizes_and_width(self) -> None:
        assert ResNet20(1, 5, width=3)(torch.rand(2, 1, 28, 36)).shape == (2, 5)
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            ResNet20(width=0)


class TestResNet18:
    def test_size_and_stages(self) -> None:
        net = ResNet18().eval()
        assert parameters(net) == 11_689_512
        shapes = []
        x = torch.rand(1, 3, 64, 96)
        with torch.no_grad():
            for name in ("conv1", "maxpool", "layer1", "layer2", "layer3", "layer4"):
                x = net.get_submodule(name)(x)
                shapes.append(tuple(x.shape[1:]))
        assert shapes == [(64, 32, 48), (64, 16, 24), (64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]

    def test_keys_are_those_of_its_checkpoints(self) -> None:
        norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
        keys = ["conv1.weight", *(f"bn1.{n}" for n in norm)]
        for stage in range(1, 5):
            for block in range(2):
                layers = [("conv1", "bn1"), ("conv2", "bn2")]
                layers += [("downsample.0", "downsample.1")] if stage > 1 and block == 0 else []
                for conv, bn in layers:
                    place = f"layer{stage}.{block}"
                    keys += [f"{place}.{conv}.weight", *(f"{place}.{bn}.{n}" for n in norm)]
        assert list(ResNet18(width=4).state_dict()) == [*keys, "fc.weight", "fc.bias"]

    def test_block_is_the_papers(self) -> None:
        """ReLU comes after the sum, and the shortcut of a halving block is a strided convolution with batch norm."""
        torch.manual_seed(0)
        block = ResNet18(width=4).eval().get_submodule("layer2.0")
        x = torch.randn(2, 4, 9, 9)
        parts: dict[str, torch.Tensor] = {}
        for name in ("bn2", "downsample"):
            block.get_submodule(name).register_forward_hook(lambda m, i, out, n=name: parts.update({n: out}))
        out = block(x)
        assert out.shape == (2, 8, 5, 5)
        assert torch.equal(out, (parts["bn2"] + parts["downsample"]).clamp(min=0))
        assert (parts["bn2"] < 0).any()

    def test_he_initialization(self) -> None:
        torch.manual_seed(0)
        conv = ResNet18().layer3[1].get_submodule("conv1")
        assert isinstance(conv, nn.Conv2d)
        assert conv.weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ValueError, match="width must be at least 1, got 0"):
            ResNet18(width=0)
        with pytest.raises(
            ValueError, match=r"width must be above 0\.0078125, .* resnet-18's first stage is left, got 0\.001"
        ):
            build("resnet-18", 3, 10, 0.001)


class TestBuildWidth:
    def test_width_scales_the_channels(self) -> None:
        for name, first in (("resnet-20", 8), ("resnet-18", 32), ("lenet-28", 16), ("lenet-8", 16)):
            net = build(name, 3, 10, 0.5)
            assert next(net.parameters()).shape[0] == first

    def test_svhn_nets_take_none(self) -> None:
        with pytest.raises(
            ValueError, match=r"take no width, got 0\.5; svhn-b, -c and -d have 1/2, 1/4, 1/8 of svhn-a"
        ):
            build("svhn-a", 3, 10, 0.5)


def test_mobilenet_reads_negative_numbers_and_keeps_shortcuts() -> None:
    net = MobileNetV2(1, 10)
    assert sum(isinstance(m, nn.Conv2d) and m.groups > 1 for m in net.modules()) == 7
    assert sum(bool(block.has_shortcut) for block in net.blocks) == 4
    x = net.stem(torch.rand(8, 1, 28, 28))
    assert net.blocks[0](x).min() < 0


def test_mobilenet_wants_images() -> None:
    with pytest.raises(
        ValueError, match=r"MobileNetV2 takes images of shape \[batch, 3, height, width\], got \[2, 1, 28, 28\]"
    ):
        MobileNetV2()(torch.rand(2, 1, 28, 28))
