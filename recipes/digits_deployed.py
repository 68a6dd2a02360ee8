"""The demo's last part: the trained W1A2G6 net as a packed file, beside itself in PyTorch and beside the float net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from bitorch.commands.from_checkpoint import deploy_checkpoint
from bitorch.commands.packed_benchmark import using_threads
from bitorch.commands.packed_evaluation import scores_of
from bitorch.commands.rivals import Call, in_pytorch
from bitorch.commands.timing import seconds_per_call
from bitorch.data import Images, digits, to_float
from bitorch.train import load_model

_ROUNDS = 15


@dataclass(frozen=True)
class _Net:
    """One line of the table.

    Attributes:
        scores: from uint8 images.
        calls: of one image; the fastest counts.
        nbytes: of a file that holds it.
    """

    name: str
    scores: Callable[[Tensor], Tensor]
    calls: dict[str, Call]
    nbytes: int


def deploy_and_compare(float_checkpoint: Path, low_bit_checkpoint: Path, out: Path, console: Console) -> bool:
    """Deploy a net, write its file, print it beside the others, and return whether it predicts what it did before.

    Raises:
        DeploymentError, ValueError, OSError: see `deploy_checkpoint` and `PackedModel.save`.
    """
    deployed = deploy_checkpoint(low_bit_checkpoint)
    packed, test = deployed.packed, digits().test
    packed.save(out)
    image = test.images[:1]
    trained = _in_pytorch("W1A2G6, PyTorch", deployed.model, image)
    ours = _Net("W1A2G6, packed", lambda x: scores_of(packed, x), {"": lambda: packed(image)}, out.stat().st_size)
    console.print(_table([_in_pytorch("float, PyTorch", load_model(float_checkpoint), image), trained, ours], test))
    console.print(f"packed net: {out}")
    console.print(f"verified: {deployed.verification}", highlight=False, markup=False)
    different = int((ours.scores(test.images).argmax(1) != trained.scores(test.images).argmax(1)).sum())
    if different or not deployed.verification:
        console.print(
            f"[bold red]THE PACKED NET IS NOT THE TRAINED ONE: another class in {different} of {len(test)} images[/]"
        )
        return False
    return True


def _in_pytorch(name: str, model: nn.Module, image: Tensor) -> _Net:
    def scores(x: Tensor) -> Tensor:
        with torch.inference_mode():
            result: Tensor = model(to_float(x))
        return result

    return _Net(name, scores, in_pytorch(model, to_float(image)), sum(t.nbytes for t in model.state_dict().values()))


def _table(nets: Sequence[_Net], test: Images) -> Table:
    table = Table(title=f"best epochs of seed 0, {len(test)} test images; one image at a time, one thread")
    for header in ("net", "accuracy", "correct", "bytes of file", "ms per image", "speed"):
        table.add_column(header, justify="left" if header == "net" else "right")
    with using_threads(1):
        seconds = seconds_per_call({f"{n.name}{v}": call for n in nets for v, call in n.calls.items()}, _ROUNDS)
    fastest = {net.name: min(seconds[f"{net.name}{variant}"] for variant in net.calls) for net in nets}
    for net in nets:
        correct = int((net.scores(test.images).argmax(1) == test.labels).sum())
        table.add_row(
            net.name,
            f"{correct / len(test):.2%}",
            str(correct),
            f"{net.nbytes:,}",
            f"{1e3 * fastest[net.name]:.3f}",
            f"{fastest[nets[0].name] / fastest[net.name]:.3g}×",
        )
    return table
