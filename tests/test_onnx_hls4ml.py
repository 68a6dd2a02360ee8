"""Files of dialect qonnx in hls4ml: read, written as C++, compiled and run."""

from __future__ import annotations

import copy
import shutil
import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("qonnx")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    hls4ml = pytest.importorskip("hls4ml")

import torch
from torch import nn

import bitorch

DENSE = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)), (16,)
IMAGES = (
    nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 5)
    ),
    (3, 8, 8),
)


@pytest.mark.slow  # it compiles for half a minute
@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
@pytest.mark.parametrize(("net", "shape"), [DENSE, IMAGES], ids=["dense", "images"])
def test_a_net_whose_scales_are_powers_of_two(net: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    """Where fixed-point numbers have room for the floats, hls4ml gives the model's bits."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
    from qonnx.util.cleanup import cleanup_model

    torch.manual_seed(0)
    model = copy.deepcopy(net)
    config = bitorch.LowBitConfig(4, 4, range="learned", scale="pow2", first="same", last="same")
    bitorch.quantize_(model, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_((parameter * 2**10).round() / 2**10)
    x = torch.randint(0, 2**10, (8, *shape)) / 2.0**10
    bitorch.calibrate(model, [x])
    export = bitorch.export_onnx(model.eval(), x[:1], path=tmp_path / "net.onnx", dialect="qonnx")
    file = cleanup_model(ModelWrapper(str(export.path)))
    if len(shape) > 1:
        file = cleanup_model(file.transform(ConvertToChannelsLastAndClean()))
    made = hls4ml.utils.config.config_from_onnx_model(
        file, granularity="name", backend="Vitis", default_precision="fixed<48,12>"
    )
    project = hls4ml.converters.convert_from_onnx_model(
        file, output_dir=str(tmp_path / "project"), io_type="io_parallel", backend="Vitis", hls_config=made
    )
    project.compile()
    with torch.no_grad():
        assert torch.equal(torch.from_numpy(project.predict(x.numpy())).view(8, 5), model(x))
