"""BITorch's zoo: names, structure and sizes of its nets, that they train, and that their packed files say the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import bitorch
from bitorch.known_names import ZOO_NAMES, wrong_model
from bitorch.layers import QConv2d, QConv2d_NoAct, QLinear
from bitorch.models import (
    Model,
    QuickNet,
    build,
    model_from_name,
    model_names,
    models_by_name,
    register_custom_model,
)
from bitorch.models.common_layers import get_initial_layers
from bitorch.train import Classifier, Settings
from bitorch.train.already_low_bit import make_low_bit
from bitorch.train.net_source import NetSource


class Ends(Model):
    """A stem, a low-bit layer of each kind, and a classifier."""

    name = "Ends"

    def __init__(self, input_shape: tuple[int, ...] | list[int], num_classes: int = 0) -> None:
        super().__init__(input_shape, num_classes)
        self._model = nn.Sequential(
            nn.Conv2d(3, 8, 7, padding=3),
            QConv2d(8, 8, 7, bias=True),
            QConv2d_NoAct(8, 8, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            QLinear(8, num_classes),
        )


@pytest.fixture
def names() -> object:
    before = dict(models_by_name)
    yield
    models_by_name.clear()
    models_by_name.update(before)


class TestRegistry:
    @pytest.mark.usefixtures("names")
    def test_a_net_of_ones_own_is_found_in_any_case(self) -> None:
        register_custom_model(Ends)
        register_custom_model(Ends)
        assert model_from_name("ends") is model_from_name("ENDS") is Ends

    @pytest.mark.usefixtures("names")
    def test_a_class_that_is_defined_again_takes_the_place(self) -> None:
        again = type("Ends", (Model,), {"name": "Ends", "__module__": __name__})
        register_custom_model(Ends)
        register_custom_model(again)
        assert model_from_name("Ends") is again

    @pytest.mark.usefixtures("names")
    def test_what_cannot_be_registered(self) -> None:
        with pytest.raises(TypeError, match=r"takes a subclass of bitorch\.models\.Model, got <class 'torch.nn"):
            register_custom_model(nn.Linear)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match='Nameless needs a class attribute `name` of its own, such as name = "Nam'):
            register_custom_model(type("Nameless", (Ends,), {}))
        register_custom_model(Ends)
        with pytest.raises(ValueError, match="the name 'ends' belongs to Ends; choose another"):
            register_custom_model(type("Other", (Model,), {"name": "ends"}))

    def test_unknown_names(self) -> None:
        with pytest.raises(ValueError, match="no model is named 'resnet19v1'; known names: "):
            model_from_name("resnet19v1")
        with pytest.raises(TypeError, match="name must be a str such as 'Resnet18V1', got 18"):
            model_from_name(18)  # type: ignore[arg-type]


class TestModel:
    def test_keys_and_call(self) -> None:
        net = Ends([1, 3, 16, 16], 5)
        assert net.model() is net._model
        assert all(key.startswith("_model.") for key in net.state_dict())
        assert net(torch.rand(2, 3, 16, 16)).shape == (2, 5)
        assert Ends(tuple(np.array([1, 3, 16, 16])), 5)._input_shape == (1, 3, 16, 16)

    def test_initialize(self) -> None:
        """He's normal for the stem of kernel 7, Xavier's for all others, zeros for biases of convolutions."""
        torch.manual_seed(0)
        net = Ends((1, 3, 16, 16), 50)
        before = {key: value.clone() for key, value in net.named_parameters()}
        net.initialize()
        layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
        stem, low_bit, no_act, last = layers
        for layer, variance in (
            (stem, 2 / (3 * 49)),
            (low_bit, 2 / (16 * 49)),
            (no_act, 2 / (16 * 9)),
            (last, 2 / (8 + 50)),
        ):
            assert layer.weight.std().item() == pytest.approx(variance**0.5, rel=0.1), layer
            assert abs(layer.weight.mean().item()) < 0.05
        after = dict(net.named_parameters())
        assert not after["_model.0.bias"].any()
        assert not after["_model.1.bias"].any()
        assert torch.equal(after["_model.5.bias"], before["_model.5.bias"])
        assert not torch.equal(low_bit.weight, before["_model.1.weight"])

    def test_convert_is_that_of_the_layers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[tuple[object, ...]] = []
        monkeypatch.setattr("bitorch.models.base.convert", lambda *args, **options: calls.append((args, options)))
        net = Ends((1, 3, 16, 16), 5)
        assert net.convert(bitorch.RuntimeMode.CPU, device="cpu", verbose=True) is net
        assert calls == [((net, bitorch.RuntimeMode.CPU), {"device": "cpu", "verbose": True})]

    @pytest.mark.parametrize("shape", [7, "1333", (1, 3, 16.0, 16), (True, 3, 16, 16)])
    def test_shape_of_another_type(self, shape: object) -> None:
        with pytest.raises(TypeError, match="input_shape must be a tuple or list of ints such as"):
            Ends(shape, 5)  # type: ignore[arg-type]

    def test_wrong_count(self) -> None:
        with pytest.raises(ValueError, match="num_classes must be at least 0, got -1"):
            Ends((1, 3, 16, 16), -1)
        with pytest.raises(TypeError, match=r"num_classes must be an int, got 2\.0"):
            Ends((1, 3, 16, 16), 2.0)  # type: ignore[arg-type]


def kinds(layers: list[nn.Module]) -> list[str]:
    return [type(layer).__name__ for layer in layers]


class TestStems:
    def test_large_images_as_tuple_list_or_name(self) -> None:
        for variant in ((224, 224), [224, 224], torch.Size([224, 224]), "imagenet"):
            layers = get_initial_layers(variant, 3, 64)
            assert kinds(layers) == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]
            assert nn.Sequential(*layers)(torch.rand(1, 3, 224, 224)).shape == (1, 64, 56, 56)

    def test_other_images(self) -> None:
        for variant in ((32, 32), [28, 28], (224, 192), "small", None):
            (conv,) = get_initial_layers(variant, 1, 8)
            assert conv(torch.rand(1, 1, 28, 28)).shape == (1, 8, 28, 28)

    def test_grouped_stem(self) -> None:
        layers = get_initial_layers("grouped_stem", 3, 64)
        convolutions = [(m.in_channels, m.out_channels, m.groups) for m in layers if isinstance(m, nn.Conv2d)]
        assert convolutions == [(3, 32, 1), (32, 32, 4), (32, 64, 8)]
        assert nn.Sequential(*layers)(torch.rand(1, 3, 224, 224)).shape == (1, 64, 56, 56)

    def test_quicknet_stem(self) -> None:
        layers = get_initial_layers("quicknet_stem", 3, 64)
        convolutions = [(m.in_channels, m.out_channels, m.groups) for m in layers if isinstance(m, nn.Conv2d)]
        assert convolutions == [(3, 16, 1), (16, 16, 16), (16, 64, 1)]
        assert nn.Sequential(*layers)(torch.rand(1, 3, 224, 224)).shape == (1, 64, 56, 56)

    @pytest.mark.parametrize("variant", ["imagenet", "grouped_stem", "quicknet_stem", "small"])
    def test_momentum_has_pytorchs_meaning_and_nothing_has_a_bias(self, variant: str) -> None:
        layers = get_initial_layers(variant, 3, 64)
        assert {m.momentum for m in layers if isinstance(m, nn.BatchNorm2d)} <= {0.1}
        assert all(m.bias is None for m in layers if isinstance(m, nn.Conv2d))

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ValueError, match=r"variant must be one of imagenet, grouped_stem, .*, got 'image'"):
            get_initial_layers("image", 3, 64)
        with pytest.raises(ValueError, match=r"variant must be \(height, width\) or one of .*, got \(3, 224, 224\)"):
            get_initial_layers((3, 224, 224), 3, 64)
        with pytest.raises(ValueError, match="output_channels of a quicknet_stem must be a multiple of 4, got 6"):
            get_initial_layers("quicknet_stem", 3, 6)
        with pytest.raises(ValueError, match="of a grouped_stem must be a multiple of 16 for its groups, got 24"):
            get_initial_layers("grouped_stem", 3, 24)


class TestByNameOnly:
    """What `bitorch train --model` takes."""

    def test_names_are_those_of_all_nets_of_one_size(self) -> None:
        sizeless = {"resnet", "resnete", "densenet", "densenetflex", "meliusnet", "meliusnetflex"}
        assert set(ZOO_NAMES) == set(model_names()) - sizeless - {"dlrm"}  # which takes no images
        assert all(wrong_model(name) == "" for name in ZOO_NAMES)

    def test_stem_follows_the_images(self) -> None:
        with torch.device("meta"):
            for size, first in (((224, 224), 7), ((32, 32), 3)):
                net = build("birealnet18", 1, 10, image_size=size)
                assert next(net.parameters()).shape == (64, 1, first, first)
            assert NetSource("birealnet18").build((3, 32, 32), 7)(torch.zeros(2, 3, 32, 32)).shape == (2, 7)

    def test_what_a_net_does_not_take(self) -> None:
        with pytest.raises(ValueError, match="resnete18 takes no width, got 2; choose another of the zoo's nets"):
            build("resnete18", 3, 10, 2, (32, 32))
        with pytest.raises(ValueError, match="resnete18 needs image_size, the height and width of the images"):
            build("resnete18", 3, 10)
        with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
            build("resnete18", 3, 0, image_size=(32, 32))
        with pytest.raises(ValueError, match=r"or a net of the zoo such as resnet18v1, .* did you mean resnet18v1\?"):
            build("Resnet18V1", 3, 10, image_size=(32, 32))

    def test_bits_stay_as_they_are(self) -> None:
        settings = Settings(model="lenet")
        net = NetSource("lenet").build((1, 16, 16), 10)
        rows = {row.name: (row.weight_bits, row.activation_bits) for row in make_low_bit(net, settings, None).layers}
        assert rows == {"_model.0": (None, None), "_model.4": (1, 1), "_model.10": (1, 1), "_model.13": (None, None)}
        with pytest.raises(
            ValueError, match=r"model lenet has low-bit layers already \(_model\.4, _model\.10\), which"
        ):
            make_low_bit(net, Settings(model="lenet", bits=(2, 2, 32)), None)

    def test_what_a_net_does_after_a_step_is_done(self) -> None:
        net = QuickNet((1, 3, 8, 8), (8, 16), (1, 1), 10)
        weight = net.get_parameter("_model.body.ResidualBlocks_1.0.qconv.weight")
        weight.data.fill_(3)
        Classifier(nn.Sequential(nn.Identity(), net), 10).on_train_batch_end(None, None, 0)
        assert weight.max() == 1.25
