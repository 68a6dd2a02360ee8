"""A packed file or an ONNX file, as it is compared with its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from torch import Tensor, nn

from ..deployment.deployed_net import DeployedNet
from ..deployment.runtime.packed_model import PackedModel
from ..deployment.runtime.verification import Verification, verify_batches


def load_net(path: str | Path) -> DeployedNet:
    """Read a file: one called NAME.onnx as ONNX, and any other as a packed net.

    Raises:
        OSError, ValueError: see PackedModel and OnnxNet.
        ImportError: onnx or onnxruntime is not installed.
    """
    if Path(path).suffix.lower() != ".onnx":
        return PackedModel.load(path)
    from ..deployment.onnx.onnx_net import OnnxNet  # only here: it needs onnxruntime

    return OnnxNet(path)


def compared_batches(model: nn.Module, net: DeployedNet, batches: Iterable[Sequence[Tensor]]) -> Iterator[Verification]:
    """Verify what `load_net` has read, batch by batch."""
    if isinstance(net, PackedModel):
        return verify_batches(model, net, batches)
    from ..deployment.onnx.onnx_net import OnnxNet
    from ..deployment.onnx.verification import verify_onnx_batches

    if not isinstance(net, OnnxNet):
        raise TypeError(f"net must be a PackedModel or an OnnxNet, got {type(net).__name__}")
    return verify_onnx_batches(model, net, batches)
