"""Training with weights that are shared out to processes: its numbers are those of DistributedDataParallel."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

import bitorch
from bitorch.data import load, loader
from bitorch.train import Classifier, NonFiniteError, Settings, Stage, WarmStart, load_model, prepare
from bitorch.train.checkpoint import read_checkpoint
from bitorch.train.checkpoint_io import AtomicCheckpointIO
from bitorch.train.progress import quiet_lightning
from bitorch.train.run import _optimizer
from bitorch.train.schedule import Schedule
from bitorch.train.sharded_strategy import Sharded
from bitorch.train.sharding import class_of, is_sharded, shard_, slices_and_others, whole_parameters
from processes import together

METHODS: dict[str, dict[str, Any]] = {
    "dorefa": {"weight_bits": 1, "activation_bits": 2, "gradient_bits": 6},
    "lsq": {"weight_bits": 2, "activation_bits": 3, "range": "learned", "weights": "lsq"},
}
MORE_METHODS: dict[str, dict[str, Any]] = {
    "float": {"weight_bits": 32, "activation_bits": 32},
    "two bits": {"weight_bits": 2, "activation_bits": 2},
    "channels": {
        "weight_bits": 3, "activation_bits": 3, "range": "learned", "learned_by": "lsq+", "weight_scale": "channel",
    },
    "pact": {"weight_bits": 2, "activation_bits": 2, "range": "learned", "learned_by": "pact"},
    "ttq": {"weight_bits": 2, "activation_bits": 2, "weights": "ttq"},
    "rsign": {"weight_bits": 1, "activation_bits": 1, "sign": "rsign"},
}  # fmt: skip


class Scaled(nn.Module):
    """Has a parameter that is a single number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
        self.head = nn.Linear(64, 10)
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.factor * self.head(self.layers(x))
        return logits


class Watched(Classifier):
    """Remembers the loss of each step."""

    losses: list[Tensor]

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.losses = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.losses.append(loss.detach())
        return loss


def net(method: dict[str, Any], *, norm: bool = True) -> nn.Module:
    """A net with sizes that two processes cannot share evenly."""
    torch.manual_seed(0)
    norms = [nn.BatchNorm2d(n) if norm else nn.Identity() for n in (8, 9)]
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), norms[0], nn.ReLU(), nn.Conv2d(8, 9, 3, padding=1), norms[1]),
        nn.ReLU(), nn.Flatten(), nn.Linear(576, 33), nn.LayerNorm(33), nn.ReLU(), nn.Linear(33, 10),
    )  # fmt: skip
    bitorch.quantize_(model, bitorch.LowBitConfig(**method))
    if method.get("range") == "learned":
        bitorch.calibrate(model, [load("digits").train.images[:64].float() / 255])
    return model


def sgd(parameters: Iterable[nn.Parameter], lr: float = 0.02) -> torch.optim.Optimizer:
    """Round each element alike, wherever in a tensor it stands, as the fused kernels do not."""
    groups = [{"params": alike} for alike in slices_and_others(parameters)]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, foreach=False)


def train(
    method: dict[str, Any], processes: int, strategy: str, *, batch: int = 60, steps: int = 6, norm: bool = True,
    adam: bool = False, epochs: int = 1, start: Path | None = None, out: Path | None = None, warm: bool = False,
    lr: float = 0.02,
) -> tuple[Tensor, dict[str, Tensor], dict[str, float]]:  # fmt: skip
    """Return the losses of the steps, on the first process the state that a checkpoint gets, and the last metrics."""
    warnings.simplefilter("ignore")  # of Lightning, on loaders and workers
    data = load("digits")
    optimizer = partial(_optimizer, settings=Settings(optimizer="adam")) if adam else partial(sgd, lr=lr)
    module = Watched(net(method, norm=norm), 10, optimizer=optimizer, schedule=Schedule("constant"))
    of_processes = Sharded if strategy == "fsdp" else DDPStrategy
    trainer = pl.Trainer(
        max_epochs=epochs, limit_train_batches=steps, accelerator="cpu", devices=processes,
        strategy="auto" if processes == 1 else of_processes(timeout=timedelta(seconds=60)), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        use_distributed_sampler=False, plugins=[AtomicCheckpointIO()],
        callbacks=[WarmStart([Stage(1, 4, 4)])] if warm else [],
    )  # fmt: skip
    with quiet_lightning():
        trainer.fit(
            module,
            loader(data.train, batch // processes, shuffle=True, drop_last=True),
            loader(data.test, 90, shuffle=False),
            ckpt_path=start,
        )
    assert is_sharded(module.model) == (strategy == "fsdp" and processes > 1)
    if out is not None:
        trainer.save_checkpoint(out)
    losses = trainer.strategy.reduce(torch.stack(module.losses), reduce_op="mean")
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert isinstance(losses, Tensor)
    return losses, trainer.strategy.lightning_module_state_dict(), metrics


def both(methods: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    return [(train(method, 2, "ddp"), train(method, 2, "fsdp")) for method in methods]


def assert_sharded_is_ddp(methods: dict[str, dict[str, Any]]) -> None:
    of_first, _ = together(2, both, list(methods.values()))
    for name, (ddp, sharded) in zip(methods, of_first, strict=True):
        assert torch.equal(ddp[0], sharded[0]), name
        assert ddp[1].keys() == sharded[1].keys(), name
        assert all(torch.equal(tensor, sharded[1][key]) for key, tensor in ddp[1].items()), name
        assert ddp[2] == sharded[2], name


def test_sharded_training_is_that_of_ddp_bit_for_bit() -> None:
    assert_sharded_is_ddp(METHODS)


@pytest.mark.slow
def test_sharded_training_is_that_of_ddp_with_each_method() -> None:
    assert_sharded_is_ddp(MORE_METHODS)


def without_norm(processes: int) -> Any:
    return train(METHODS["lsq"], processes, "fsdp" if processes > 1 else "auto", norm=False)


@pytest.mark.slow
def test_two_processes_are_one_but_for_sums_of_floats() -> None:
    two, _ = together(2, without_norm, 2)
    (one,) = together(1, without_norm, 1)
    torch.testing.assert_close(two[0], one[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(two[1], one[1], rtol=0, atol=1e-5)
    assert two[2]["val/acc"] == one[2]["val/acc"]


def stopped_and_resumed(folder: Path, adam: bool) -> list[tuple[Any, Any]]:
    """The state and metrics of a run that was resumed, of one at once, and of one that was resumed with DDP."""
    options: dict[str, Any] = {"warm": True, "adam": adam, "epochs": 3}
    method, first = METHODS["lsq"], folder / "first.ckpt"
    train(method, 2, "fsdp", **options | {"epochs": 2}, out=first)
    resumed = train(method, 2, "fsdp", **options, start=first, out=folder / "resumed.ckpt")
    straight = train(method, 2, "fsdp", **options, out=folder / "straight.ckpt")
    changed = train(method, 2, "ddp", **options, start=first, out=folder / "ddp.ckpt")
    return [run[1:] for run in (resumed, straight, changed)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Any, Any]]]:
    folder = tmp_path_factory.mktemp("sharded")
    return folder, together(2, stopped_and_resumed, folder, False)[0]


def assert_same(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    assert one[0].keys() == other[0].keys()
    assert [key for key, tensor in one[0].items() if not torch.equal(tensor, other[0][key])] == []
    assert one[1] == other[1]


@pytest.mark.slow
def test_a_resumed_run_equals_a_straight_one_and_may_go_on_with_ddp(checkpoints: tuple[Path, Any]) -> None:
    resumed, straight, changed = checkpoints[1]
    assert_same(resumed, straight)
    assert_same(resumed, changed)


@pytest.mark.slow
def test_a_resumed_run_equals_a_straight_one_with_adam(tmp_path: Path) -> None:
    resumed, straight, _ = together(2, stopped_and_resumed, tmp_path, True)[0]
    assert_same(resumed, straight)


@pytest.mark.slow
def test_checkpoints_are_those_of_whole_nets(checkpoints: tuple[Path, Any]) -> None:
    ours, theirs = (torch.load(checkpoints[0] / f"{name}.ckpt", weights_only=True) for name in ("straight", "ddp"))
    assert ours.keys() == theirs.keys()
    (own,), (ddp,) = ours["optimizer_states"], theirs["optimizer_states"]
    assert own["param_groups"] == ddp["param_groups"]
    assert own["state"].keys() == ddp["state"].keys()
    for index, state in ddp["state"].items():
        assert all(torch.equal(tensor, own["state"][index][name]) for name, tensor in state.items())
    read = read_checkpoint(checkpoints[0] / "straight.ckpt")
    assert {type(tensor) for tensor in read.state_dict.values()} == {Tensor}
    model = load_model(checkpoints[0] / "straight.ckpt", model=partial(net, METHODS["lsq"]))
    assert torch.equal(model.get_parameter("0.3.weight"), ours["state_dict"]["model.0.3.weight"])


def too_fast() -> str:
    with pytest.raises(NonFiniteError) as caught:
        train(METHODS["dorefa"], 2, "fsdp", lr=1e38)
    return str(caught.value)


@pytest.mark.slow
def test_what_is_not_finite_is_found_in_the_sharded_net() -> None:
    first, second = together(2, too_fast)
    assert first == second
    assert re.search(r"The first layer whose output is not finite is 0\.[03] \(Q?Conv2d\)", first)


def test_a_run_is_refused_before_it_starts_if_a_parameter_has_no_slices(tmp_path: Path) -> None:
    settings = Settings(strategy="fsdp", devices=2, accelerator="cpu", batch_size=32, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"^parameter factor is a single number, which strategy fsdp cannot"):
        prepare(settings, model=Scaled)
    assert not (tmp_path / "run").exists()


def blocks_of_a_sharded_model() -> None:
    torch.distributed.init_process_group("gloo")
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = net(METHODS["lsq"])
    whole = whole_parameters(model)
    assert len(whole) == 4  # a step of weights and one of activations in each of two layers
    model.get_submodule("6").weight = model.get_parameter("3.weight")  # a parameter in common
    before = [class_of(module) for module in model.modules()]
    shard_(model, mesh)
    sharded = [name for name, module in model.named_modules() if is_sharded(module)]
    assert sharded == ["", "0.0", "0.1", "0.3", "0.4", "4"]
    assert [class_of(module) for module in model.modules()] == before
    assert whole_parameters(model) == whole
    shard_(model, mesh)  # once more changes nothing
    single = nn.Sequential(nn.Linear(2, 2), nn.Module())
    single[1].factor = nn.Parameter(torch.tensor(1.0))
    with pytest.raises(ValueError, match=r"^parameter 1\.factor is a single number, which strategy fsdp cannot"):
        shard_(single, mesh)


def test_blocks_gather_their_weights_and_quantizers_keep_theirs() -> None:
    together(1, blocks_of_a_sharded_model)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "strategy fsdp shares out the weights to several processes, and there is one; give devices or num_nodes"),
        ({"devices": 2, "fuse": True}, "fuse computes a BatchNorm in the layer behind it, and strategy fsdp gathers"),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Settings(strategy="fsdp", **options)
