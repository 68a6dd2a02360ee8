"""The Lightning callback that schedules quantizers: where it is, what it leaves, and resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bitorch
from bitorch.layers import QConv2d, QLinear
from bitorch.quantizations import Identity, ScheduledQuantizer, Sign, WeightDoReFa, WeightLSQ
from bitorch.train import QuantizationSchedule

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning's own use of a PyTorch name
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:.*Checkpoint directory"),
]
BATCHES = 4


class Regression(pl.LightningModule):
    """Nothing of ours but the layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), QLinear(8, 3))

    def training_step(self, batch: Any, index: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.net(x), y)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 0.05)


class Factors(Callback):
    """The factor of every batch, and of each validation."""

    def __init__(self, schedule: QuantizationSchedule) -> None:
        self.schedule, self.seen = schedule, list[float]()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object) -> None:
        self.seen.append(self.schedule.factor)


def loader() -> DataLoader[Any]:
    """All batches are the same: Lightning does not say from which one it resumes."""
    generator = torch.Generator().manual_seed(1)
    data = [torch.randn(4, size, generator=generator).repeat(BATCHES, 1) for size in (6, 3)]
    return DataLoader(TensorDataset(*data), batch_size=4)


def fit(module: Regression, schedule: QuantizationSchedule, epochs: int, *more: Callback, **options: Any) -> Factors:
    factors = Factors(schedule)
    path = options.pop("ckpt_path", None)
    trainer = pl.Trainer(
        max_epochs=epochs,
        callbacks=[schedule, factors, *more],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in more),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, loader(), ckpt_path=path)
    factors.logged = dict(trainer.logged_metrics)  # type: ignore[attr-defined]
    return factors


def test_with_every_step() -> None:
    module = Regression()
    found = fit(module, QuantizationSchedule([Identity(), Sign()], epochs=2), 3)
    assert found.seen == [0, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1, 1, 1, 1]
    assert found.logged == {"schedule/factor": 1}  # type: ignore[attr-defined]
    layer: Any = module.net[1]
    assert isinstance(layer.weight_quantization, Sign)
    assert isinstance(layer.input_quantization, Sign)


def test_from_epoch_to_epoch_and_with_accumulated_gradients() -> None:
    found = fit(Regression(), QuantizationSchedule([Identity(), Sign()], "step", epochs=2, every="epoch"), 3)
    assert found.seen == [0] * 4 + [0.5] * 4 + [1] * 4
    schedule = QuantizationSchedule([Identity(), Sign()], epochs=1)
    found = fit(Regression(), schedule, 2, accumulate_grad_batches=2)
    assert found.seen == [0, 0, 0.5, 0.5, 1, 1, 1, 1]


def test_only_places_that_are_there() -> None:
    module = Regression()
    layer: Any = module.net[1]
    layer.input_quantization = ScheduledQuantizer()
    weight = layer.weight_quantization = WeightDoReFa(2)
    fit(module, QuantizationSchedule([Identity(), Sign()], epochs=1, schedule_all=False), 2)
    assert layer.weight_quantization is weight
    assert isinstance(layer.input_quantization, Sign)
    module = Regression()
    layer = module.net[1]
    before = layer.weight_quantization
    schedule = QuantizationSchedule([Identity(), Sign()], epochs=1, exclude_layers=[QLinear, QConv2d])
    with pytest.warns(UserWarning, match="no quantizer to schedule"):
        fit(module, schedule, 2)
    assert layer.weight_quantization is before


def test_a_run_that_is_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    """In the midst of an epoch, with a quantizer that learns."""

    def schedule() -> QuantizationSchedule:
        return QuantizationSchedule([Identity(), WeightLSQ(2)], epochs=2, exclude_layers=[nn.Tanh])

    def module() -> Regression:
        made = Regression()
        layer: Any = made.net[1]
        layer.activation = nn.Tanh()
        return made

    def saving() -> ModelCheckpoint:
        return ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)

    whole = module()
    fit(whole, schedule(), 3, saving())
    resumed = module()
    found = fit(resumed, schedule(), 3, saving(), ckpt_path=tmp_path / "step=6.ckpt")
    assert found.seen == [3 / 4, 7 / 8, 1, 1, 1, 1]
    layer: Any = resumed.net[1]
    assert isinstance(layer.weight_quantization, WeightLSQ)
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_trained_net_deploys() -> None:
    module = Regression()
    fit(module, QuantizationSchedule([Identity(), Sign()], epochs=1), 2)
    x = torch.randn(5, 6)
    packed: Any = bitorch.deploy(module.net.eval(), x)
    assert torch.equal(packed(x), module.net(x))


def test_errors_before_training() -> None:
    with pytest.raises(ValueError, match="the schedule takes 2 epochs and the run 2, which leaves none for the last"):
        fit(Regression(), QuantizationSchedule([Sign()], epochs=2), 2)
    with pytest.raises(ValueError, match="epochs must be at least 1, got 0"):
        QuantizationSchedule([Sign()], epochs=0)
    with pytest.raises(TypeError, match=r"epochs must be an int, got 1\.5"):
        QuantizationSchedule([Sign()], epochs=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='every must be "step" or "epoch", got \'batch\''):
        QuantizationSchedule([Sign()], epochs=1, every="batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantizations is empty"):
        QuantizationSchedule([], epochs=1)
    with pytest.raises(ValueError, match="scheduling_procedure must be one of"):
        QuantizationSchedule([Sign()], "jump", epochs=1)
