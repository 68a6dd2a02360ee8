"""Files of dialect qonnx in hls4ml: read, written as C++, compiled and run."""

from __future__ import annotations

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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_a_net_whose_scales_are_powers_of_two(tmp_path: Path) -> None:
    """Numbers of 16 bits behind the point hold every product; only the input is rounded to them."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5))
    config = bitorch.LowBitConfig(4, 4, range="learned", scale="pow2", first="same", last="same")
    bitorch.quantize_(model, config)
    x = torch.randint(0, 2**10, (64, 16)) / 2.0**10
    bitorch.calibrate(model, [x])
    export = bitorch.export_onnx(model.eval(), x[:1], path=tmp_path / "net.onnx", dialect="qonnx")
    net = cleanup_model(ModelWrapper(str(export.path)))
    options = {"backend": "Vitis", "default_precision": "fixed<32,16>"}
    made = hls4ml.utils.config.config_from_onnx_model(net, granularity="name", **options)
    project = hls4ml.converters.convert_from_onnx_model(
        net, output_dir=str(tmp_path / "project"), io_type="io_parallel", backend="Vitis", hls_config=made
    )
    project.compile()
    found = torch.from_numpy(project.predict(x.numpy())).view(64, 5)
    with torch.no_grad():
        expected = model(x)
    # Biases are rounded to 16 bits behind the point, too.
    torch.testing.assert_close(found, expected, rtol=0, atol=3 * 2.0**-16)
    assert torch.equal(found.argmax(1), expected.argmax(1))
