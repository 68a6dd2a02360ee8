"""What is exact on which road out of PyTorch: small nets on each of them, as a table of docs/export.md.

`python tests/export_roads.py` writes the table into the page again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bitorch
from bitorch.models import LeNet8
from bitorch_runtime import Program
from bitorch_runtime.c_source import c_source
from bitorch_runtime.c_source.standalone import executable, execute
from controller_runs import with_all_codes
from onnx_dialect_runs import outputs_of

PAGE = Path(__file__).parent.parent / "docs" / "export.md"
_BEGIN, _END = "<!-- roads: begin -->\n", "<!-- roads: end -->\n"
IMAGES = 4
#: What a cell says, from the strongest on.
BITS, CODES, CLOSE, REFUSED = "bits", "codes", "close", "–"


class Tokens(nn.Module):
    """A block of a transformer behind patches, its attention by PyTorch's own layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.attention, self.second = nn.MultiheadAttention(16, 2, batch_first=True), nn.LayerNorm(16)
        self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        z = self.first(y)
        y = y + self.attention(z, z, z, need_weights=False)[0]
        y = y + self.down(nn.functional.gelu(self.up(self.second(y))))
        scores: Tensor = self.head(y.mean(1))
        return scores


class Embedded(nn.Module):
    """Words, their mean, and two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.hidden, self.head = nn.Embedding(30, 16), nn.Linear(16, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.relu(self.hidden(self.table(x).mean(1))))
        return scores


def _residual() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.inner, self.after = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.norm(self.first(x)))
            y = torch.relu(self.after(self.inner(y)) + y)
            scores: Tensor = self.head(y.mean((2, 3)))
            return scores

    return Net()


def _unet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU(),
        nn.ConvTranspose2d(8, 8, 2, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1),
    )  # fmt: skip


def _volume() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d(2),
        nn.Conv3d(8, 8, 3), nn.BatchNorm3d(8), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5),
    )  # fmt: skip


@dataclass(frozen=True)
class Net:
    """A net of the table: its name there, how it is made, one input, and the arguments of LowBitConfig."""

    name: str
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    config: dict[str, Any] = field(default_factory=dict)
    words: int = 0
    """Below which the numbers of an input of words are; 0: it takes floats."""

    def inputs(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if self.words:
            return torch.randint(0, self.words, (count, *self.shape), generator=generator)
        return torch.rand(count, *self.shape, generator=generator)


def _bits(weights: int, activations: int, **more: Any) -> dict[str, Any]:
    return {"weight_bits": weights, "activation_bits": activations, **more}


_LENET = (LeNet8, (1, 8, 8))
NETS = (
    Net("LeNet, W1A1 of ±1", *_LENET, _bits(1, 1, sign="sign")),
    Net("LeNet, W1A2", *_LENET, _bits(1, 2)),
    Net("LeNet, W1A2, scales per channel", *_LENET, _bits(1, 2, weight_scale="channel")),
    Net("LeNet, W2A2, ends W8A8", *_LENET, _bits(2, 2, first=8, last=8)),
    Net("LeNet, W4A4, learned ranges", *_LENET, _bits(4, 4, range="learned")),
    Net("LeNet, W2A3, learned powers of two", *_LENET, _bits(2, 3, range="learned", scale="pow2")),
    Net("a residual net, W1A2", _residual, (3, 8, 8), _bits(1, 2)),
    Net("a UNet with transposed convolutions, W2A2", _unet, (3, 8, 8), _bits(2, 2)),
    Net("a volume net, W1A2", _volume, (1, 8, 8, 8), _bits(1, 2)),
    Net("a transformer, W2A4", Tokens, (3, 16, 16), _bits(2, 4, range="learned", learned_by="lsq+")),
    Net("its attention on codes, too", Tokens, (3, 16, 16), _bits(2, 4, range="learned", attention_bits=4)),
    Net("words, W2A2", Embedded, (6,), _bits(2, 2), words=30),
)


def trained(net: Net) -> nn.Module:
    """The net in low bits, with statistics and ranges of some inputs."""
    torch.manual_seed(0)
    model, inputs = net.make(), net.inputs(64)
    bitorch.quantize_(model, bitorch.LowBitConfig(**net.config))
    if net.config.get("range", "unit") != "unit":
        bitorch.calibrate(model, [inputs])
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def _said(verification: bitorch.Verification) -> str:
    """What is equal by construction: on another CPU float sums may happen to have other last bits."""
    assert verification, str(verification)
    return BITS if all(comparison.exact for comparison in verification.comparisons) else CODES


def _packed(model: nn.Module, x: Tensor, folder: Path) -> str:
    return _said(bitorch.verify(model, bitorch.deploy(model, x[:1]), x))


def _c(model: nn.Module, x: Tensor, folder: Path) -> str:
    """Beside the packed net, whose float sums have another order."""
    packed = bitorch.deploy(model, x[:1])
    said = _said(bitorch.verify(model, packed, x))
    operations, arrays = packed.program()
    program = Program(with_all_codes(operations), arrays)
    header = c_source(with_all_codes(operations), arrays, "net").text
    run = executable(header, "net", program, folder / "net", ("gcc", "-O1"))
    found, wanted = execute([str(run)], program, [x.numpy()]), program(x.numpy())
    given = wanted if isinstance(wanted, dict) else {program.outputs[0]["name"]: wanted}
    for name, expected in given.items():
        if said == BITS or expected.dtype != np.float32:
            assert np.array_equal(found[name], expected), name
        else:
            np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5)
    return said


def _integer(model: nn.Module, x: Tensor, folder: Path) -> str:
    if not bitorch.can_export(model, x[:1]):
        return REFUSED
    written = bitorch.export_onnx(model, x[:1], path=folder / "net.onnx")
    return _said(bitorch.verify_onnx(model, written.path, x))


def _float_dialect(dialect: str) -> Callable[[nn.Module, Tensor, Path], str]:
    def road(model: nn.Module, x: Tensor, folder: Path) -> str:
        if not bitorch.can_export(model, x[:1], dialect=dialect):
            return REFUSED
        written = bitorch.export_onnx(model, x[:1], path=folder / f"{dialect}.onnx", dialect=dialect)
        (scores,) = outputs_of(written, [x])
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(scores.argmax(1), expected.argmax(1))
        return CLOSE

    return road


ROADS: dict[str, Callable[[nn.Module, Tensor, Path], str]] = {
    "packed file": _packed,
    "header in C": _c,
    "`integer`": _integer,
    "`qcdq`": _float_dialect("qcdq"),
    "`qonnx`": _float_dialect("qonnx"),
}


def cells(net: Net, folder: Path, roads: Sequence[str] = tuple(ROADS)) -> dict[str, str]:
    """What becomes of a net on each road."""
    model, x = trained(net), net.inputs(IMAGES)
    return {road: ROADS[road](model, x, folder) for road in roads}


def row(net: Net, found: dict[str, str]) -> str:
    """A line of the table."""
    return f"| {net.name} | {' | '.join(found.values())} |"


def listed() -> list[str]:
    """The lines of the table that stands in the page."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(f"{re.escape(_BEGIN)}(.*?){re.escape(_END)}", text, re.DOTALL)
    assert found is not None, "docs/export.md has no marks for the table"
    return found[1].splitlines()[2:]


def write() -> None:
    """Write the table into the page."""
    lines = [f"| | {' | '.join(ROADS)} |", f"|---{'|---' * len(ROADS)}|"]
    for net in NETS:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row(net, cells(net, Path(folder))))
            print(lines[-1], flush=True)
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    PAGE.write_text(before + _BEGIN + "\n".join(lines) + "\n" + _END + after, encoding="utf-8")


if __name__ == "__main__":
    write()
