"""Architectures of timm and torchvision by name, and what is said where they cannot be had."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import bitorch
from bitorch.models import build_external, external_names


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:resnet18.a1_in1k", "torchvision:squeezenet1_1"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_shapes(name: str, in_channels: int) -> None:
    net = build_external(name, 7, in_channels).eval()
    assert net(torch.rand(2, in_channels, 64, 64)).shape == (2, 7)


def test_the_first_convolution_of_torchvision_keeps_its_settings() -> None:
    nets = [build_external("torchvision:squeezenet1_1", 10, channels) for channels in (3, 1)]
    three, one = (net.get_submodule("features.0") for net in nets)
    assert repr(one) == repr(three).replace("Conv2d(3,", "Conv2d(1,")


def test_options_reach_the_architecture() -> None:
    timm_net = build_external("timm:vit_tiny_patch16_224", 10, img_size=32, depth=1)
    assert timm_net(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    vit = build_external("torchvision:vit_b_16", 10, image_size=32)
    assert vit.get_submodule("conv_proj").weight.shape == (768, 3, 16, 16)


def test_second_heads_are_left_out() -> None:
    logits = build_external("torchvision:googlenet", 10).train()(torch.rand(2, 3, 64, 64))
    assert logits.shape == (2, 10)


def test_one_line_converts_them() -> None:
    net = build_external("timm:resnet10t", 10)
    weights = net.state_dict()
    bitorch.quantize_(net, bitorch.LowBitConfig(1, 2, 6))
    net.load_state_dict(weights, strict=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", r"name must be timm:NAME or torchvision:NAME, got 'resnet18'"),
        ("keras:resnet18", r"name must be timm:NAME or torchvision:NAME, got 'keras:resnet18'"),
        ("timm:", r"timm has no image classifier ''; bitorch.models.external_names\('timm'\) lists them"),
        ("timm:resnet19", r"timm has no image classifier 'resnet19'; near names: resnet18, "),
        ("timm:resnet18.no_such_weights", r"timm has no image classifier 'resnet18.no_such_weights'"),
        ("timm:hf-hub:timm/resnet18.a1_in1k", r"timm has no image classifier 'hf-hub:timm/resnet18.a1_in1k'"),
        ("torchvision:shuffle", r"near names: shufflenet_v2_x0_5, "),
        ("torchvision:fcn_resnet50", r"torchvision has no image classifier 'fcn_resnet50'; near names: .*resnet50"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_external(name, 10)


def test_bad_arguments() -> None:
    with pytest.raises(TypeError, match="name must be a str"):
        build_external(18, 10)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build_external("timm:resnet18", 0)
    with pytest.raises(TypeError, match=r"in_channels must be an int, got 3\.0"):
        build_external("timm:resnet18", 10, 3.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="package must be one of timm, torchvision, got 'keras'"):
        external_names("keras")


def _runs(code: str) -> None:
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_missing_packages_come_with_what_to_install(package: str) -> None:
    # timm needs torchvision, so that without it the answer is the same for both.
    _runs(f"""
import sys
from bitorch.models import build_external
sys.modules[{package!r}] = None
try:
    build_external("timm:resnet18", 10)
except ImportError as error:
    assert str(error).startswith('{package} is missing: pip install ".[models]"'), error
else:
    raise AssertionError
""")


def test_importing_bitorch_imports_none_of_them() -> None:
    packages = {"timm", "torchvision", "transformers"}
    _runs(f"import sys, bitorch.hub, bitorch.models; assert not {packages} & set(sys.modules)")


def test_torchvision_can_be_imported_before_and_after() -> None:
    build = "from bitorch.models import build_external; build_external('torchvision:alexnet', 10); "
    _runs(build + "import torchvision.ops, timm")
    # A torchvision that works, with its operators there already: nothing is declared.
    operators = (
        "import torch; library = torch.library.Library('torchvision', 'DEF'); "
        "[library.define(name + '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor') "
        "for name in ('nms', 'qnms')]; import torchvision.models; "
    )
    nothing = (
        "from bitorch import torchvision_operators; assert torchvision_operators._declare.cache_info().currsize == 0"
    )
    if torch.__version__.endswith("+cpu"):
        _runs(operators + build + nothing)
