"""Batches as loaders give them: tensors, pairs, several inputs, dicts, named tuples, dataclasses; and any output."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import bitorch
from bitorch import LowBitConfig
from bitorch.batches import Batch, read_batch


class Two(nn.Module):
    """Two inputs [B, 4] and [B, 6], three classes; `result` makes what it returns."""

    def __init__(self, result: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 8), nn.Linear(6, 8)
        self.norm, self.body, self.head = nn.BatchNorm1d(16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.result = result

    def forward(self, u: Tensor, v: Tensor) -> Any:
        x = self.norm(torch.cat([self.left(u), self.right(v)], 1)).relu()
        return self.result(self.head(self.body(x).relu()))


class Tokens(nn.Module):
    """Signature and output of a classifier of Hugging Face: it computes its own loss where it gets labels."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.body, self.norm = nn.Embedding(11, 8), nn.Linear(8, 8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        self.got: list[bool] = []

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> ModelOutput:
        self.got.append(labels is not None)
        x = self.table(input_ids)
        if attention_mask is not None:
            x = x * attention_mask.unsqueeze(-1)
        logits = self.head(self.norm(self.body(x.mean(1)).relu()))
        loss = None if labels is None else 10 * F.cross_entropy(logits, labels)
        return ModelOutput(loss=loss, logits=logits, cache=Cache())


class Cache:
    """What is no container of tensors."""


class ModelOutput(OrderedDict[str, Any]):
    """As Hugging Face has it: entries that are None are left out, and entries are attributes."""

    def __init__(self, **entries: Any) -> None:
        super().__init__({name: value for name, value in entries.items() if value is not None})
        self.__dict__.update(entries)


@dataclass(frozen=True)
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...] = ()
    name: str = "net"
    cache: Any = None


class Pair(NamedTuple):
    u: Tensor
    v: Tensor


class Sample(NamedTuple):
    labels: Tensor
    u: Tensor
    v: Tensor


@dataclass
class Record:
    u: Tensor
    v: Tensor
    target: Tensor
    name: str = "a"


def converted(build: Callable[[], nn.Module] = Two) -> nn.Module:
    torch.manual_seed(0)
    net = build()
    bitorch.quantize_(net, LowBitConfig(4, 4, range="calibrated"))
    return net


def tensors(count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    u, v = torch.randn(count, 4, generator=generator), torch.randn(count, 6, generator=generator)
    return u, v, torch.arange(count) % 3


U, V, Y = tensors()

#: One and the same batch of two inputs and labels.
BATCHES: dict[str, Any] = {
    "nested tuple": ((U, V), Y),
    "nested list, as the default collate gives it": [[U, V], Y],
    "flat tuple": (U, V, Y),
    "flat list, as a TensorDataset of three gives it": [U, V, Y],
    "with an index behind the labels": (U, V, Y, torch.arange(16)),
    "named tuple of inputs": (Pair(U, V), Y),
    "dict of inputs": ({"v": V, "u": U}, Y),
    "dict with labels": {"u": U, "v": V, "labels": Y},
    "dict with a label": {"label": Y, "v": V, "u": U},
    "dict with targets": {"u": U, "targets": Y, "v": V},
    "dict with things beside": {"u": U, "v": V, "target": Y, "id": ["a"] * 16, "path": "x.png", "none": None, "n": 3},
    "UserDict": UserDict(u=U, v=V, labels=Y),
    "named tuple with labels": Sample(Y, U, V),
    "dataclass": Record(U, V, Y),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_two_inputs_in_every_form(name: str) -> None:
    batch = BATCHES[name]
    expected = bitorch.calibrate(converted(), [((U, V), Y)])
    model = converted()
    assert bitorch.calibrate(model, iter([batch])) == expected
    check = bitorch.check(model, batch)
    assert check.findings == bitorch.check(model, ((U, V), Y)).findings
    assert check.loss == "cross-entropy"
    found = bitorch.sensitivity(model, [batch], bits=[(2, 2)], renew_statistics=False)
    with torch.no_grad():
        logits = model.eval()(U, V)
    assert found.loss == pytest.approx(float(F.cross_entropy(logits.double(), Y)), abs=1e-6)
    assert found.accuracy == float((logits.argmax(1) == Y).double().mean())
    assert found.images == 16


@pytest.mark.parametrize("name", ["nested list, as the default collate gives it", "flat tuple", "dict with labels"])
def test_deployment_gets_the_inputs_in_order(name: str) -> None:
    batch, model = BATCHES[name], converted()
    bitorch.calibrate(model, [batch])
    budget = bitorch.Budget(bytes=100_000)
    assert bitorch.allocate(model, [batch], budget, bits=[(2, 2), (4, 4)]).accuracy is not None
    report = bitorch.report(model, batch, repeats=1)
    assert report.rows[0].name == bitorch.report(model, U, V, repeats=1).rows[0].name
    assert [x.data_ptr() for x in read_batch(batch, model, "batch").in_order(model, "batch")] == [
        x.data_ptr() for x in (U, V)
    ]


def test_what_deployment_cannot_pass_by_position() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = Two()

        def forward(self, u: Tensor, *, v: Tensor) -> Any:
            return self.two(u, v)

    model = converted(Named)
    bitorch.calibrate(model, [{"u": U, "v": V}])
    named = {"u": U, "v": V}
    with pytest.raises(ValueError, match="the example passes 'v' by name; for deployment all inputs must be tensors"):
        read_batch(named, model, "the example").in_order(model, "the example")
    assert bitorch.report(model, named, repeats=1).deployment == "whole"  # of a copy that passes them on by name
    found = bitorch.allocate(model, [{**named, "labels": Y}], bitorch.Budget(bytes=100_000), [2, 4])
    assert found.costs_are == "those of the packed file"
    assert type(model) is Named


def test_inputs_without_labels() -> None:
    model = converted()
    for batch in (((U, V),), (U, V), Pair(U, V), {"u": U, "v": V}, {"u": U, "v": V, "labels": None}):
        assert len(bitorch.calibrate(model, [batch]).ranges) == 2
        assert bitorch.check(model, batch).loss == "a random direction of the outputs"


class Dicts(Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"u": U[index], "v": V[index], "label": int(Y[index]), "id": f"image {index}"}


def test_loaders_with_the_default_collate() -> None:
    model = converted()
    expected = bitorch.calibrate(model, [((U, V), Y)])
    for data in (TensorDataset(U, V, Y), [((U[i], V[i]), Y[i]) for i in range(16)], Dicts()):
        loader: Any = DataLoader(data, batch_size=16)  # type: ignore[arg-type]  # a list will do
        assert bitorch.calibrate(model, loader) == expected
        assert bitorch.check(model, next(iter(loader))).loss == "cross-entropy"


def test_labels_go_to_a_model_that_takes_them() -> None:
    model = converted(Tokens)
    assert isinstance(model, Tokens)
    tokens = torch.arange(32).view(16, 2) % 11
    mask = torch.ones(16, 2, dtype=torch.int64)
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": Y}
    bitorch.calibrate(model, [UserDict(batch)])
    check = bitorch.check(model, batch)
    assert check.loss == "the model's own"
    assert model.got == [True]  # check runs a copy
    with torch.no_grad():
        output = model.eval()(**batch)
    for same in (batch, (tokens, Y), ((tokens, mask), Y)):
        found = bitorch.sensitivity(model, [same], bits=[(2, 2)], renew_statistics=False)
        assert found.loss == pytest.approx(float(output.loss), rel=1e-6)
        assert found.accuracy == float((output.logits.argmax(1) == Y).double().mean())
    without = bitorch.check(model, {"input_ids": tokens, "attention_mask": mask})
    assert without.loss == "a random direction of the outputs"
    own = bitorch.sensitivity(model, [batch], [(2, 2)], renew_statistics=False, loss=lambda out, y: out.logits.sum())
    assert own.loss == pytest.approx(float(output.logits.sum()), rel=1e-5)


#: What a model may return, and whether its logits can be told.
OUTPUTS: dict[str, Callable[[Tensor], Any]] = {
    "dict": lambda logits: {"logits": logits, "hidden": logits * 2, "count": 3},
    "dict of one": lambda logits: {"scores": logits, "name": "net", "none": None},
    "torchvision's segmentation": lambda logits: OrderedDict(out=logits, aux=logits * 2),
    "dataclass": lambda logits: Output(logits, (logits * 2, logits * 3)),
    "model output": lambda logits: ModelOutput(logits=logits, cache=Cache(), hidden=(logits, logits)),
    "named tuple": lambda logits: GoogLeNetOutputs(logits, logits * 2),
    "tuple of one and a scalar": lambda logits: (logits, None, logits.sum(), torch.tensor(3)),
    "subclass": lambda logits: logits.as_subclass(Subclass),
}


class GoogLeNetOutputs(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


class Subclass(Tensor):
    """A tensor of a class of its own."""


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_logits_of_every_output(name: str) -> None:
    plain, model = converted(), converted(lambda: Two(OUTPUTS[name]))
    for net in (plain, model):
        bitorch.calibrate(net, [(U, V)])
    assert bitorch.check(model, (U, V, Y)).loss == "cross-entropy"
    assert bitorch.check(model, (U, V)).loss == "a random direction of the outputs"
    found, expected = (bitorch.sensitivity(net, [(U, V, Y)], bits=[(2, 2)]) for net in (model, plain))
    assert found == expected


def test_outputs_without_logits_ask_for_a_loss() -> None:
    model = converted(lambda: Two(lambda logits: {"first": logits, "second": logits * 2}))
    bitorch.calibrate(model, [(U, V)])
    message = r"returns a dict with 'first' \[16, 3\] and 'second' \[16, 3\], none of them 'logits'; pass loss="
    with pytest.raises(TypeError, match=message):
        bitorch.check(model, (U, V, Y))
    with pytest.raises(TypeError, match=message):
        bitorch.sensitivity(model, [(U, V, Y)])
    found = bitorch.sensitivity(model, [(U, V, Y)], loss=lambda out, y: F.cross_entropy(out["second"], y))
    assert found.loss > 0
    assert found.accuracy is None


def test_one_tensor_of_a_dict_is_the_input_of_a_model_with_one() -> None:
    model = converted(
        lambda: nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)
        )
    )
    expected = bitorch.calibrate(model, [U])
    assert bitorch.calibrate(model, [{"image": U, "label": Y, "id": ["a"] * 16}]) == expected
    assert bitorch.check(model, {"image": U, "label": Y}).loss == "cross-entropy"


def test_a_list_is_one_argument_where_forward_takes_one() -> None:
    class Listed(nn.Module):
        def forward(self, inputs: list[Tensor]) -> Tensor:
            return inputs[0].sum() + inputs[1].sum()

    batch = read_batch([[U, V], Y], Listed(), "batch")
    assert (len(batch.args), batch.labels is Y) == (1, True)
    assert float(batch.run(Listed())) == float(U.sum() + V.sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own, when it is compiled
def test_a_compiled_or_parallel_model_takes_what_is_inside() -> None:
    model = Two()
    for wrapped in (nn.DataParallel(model), torch.compile(model)):
        batch = read_batch((U, V, Y), wrapped, "batch")  # type: ignore[arg-type]  # compile returns a module
        assert [len(batch.args), batch.labels is Y] == [2, True]


def test_a_batch_moves_and_copies_with_everything_in_it() -> None:
    record = Record(U, V, Y)
    nested = {"u": [U, (V, None)], "name": "x", "record": record, "pair": Pair(U, V), "user": UserDict(u=U)}
    batch = Batch((U,), {"more": nested}, Y).to(torch.device("meta"))
    assert [x.device.type for x in batch.tensors()] == ["meta"] * len(batch.tensors())
    more: Any = batch.kwargs["more"]
    assert more["u"][0].is_meta
    assert more["u"][1][0].is_meta
    assert more["user"]["u"].is_meta
    assert type(more["record"]) is Record
    assert more["record"].u.is_meta
    assert type(more["pair"]) is Pair
    assert more["name"] == "x"
    assert U.device.type == "cpu"
    assert record.u is U
    assert isinstance(batch.labels, Tensor)
    assert batch.labels.is_meta


ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        3,
        TypeError,
        r"batch 0 must be a tensor, inputs and labels such as \(x, y\) or \(\(u, v\), y\), or a dict, got int",
    ),
    ("text", TypeError, "batch 0 must be a tensor, .* got str"),
    (U.numpy(), TypeError, r"got ndarray; torch\.as_tensor"),
    ((U.numpy(), Y), TypeError, r"got a tuple of ndarray, Tensor; torch\.as_tensor"),
    ((), TypeError, "got an empty tuple"),
    (U, ValueError, r"batch 0 has 1 input, but forward\(u, v\) needs 2"),
    ((U,), ValueError, r"batch 0 has 1 input, but forward\(u, v\) needs 2"),
    ({"u": U}, ValueError, r"batch 0 lacks 'v', which forward\(u, v\) needs; it has 'u'"),
    ({}, ValueError, r"batch 0 lacks 'u' and 'v'"),
    ({"u": U, "v": V, "w": V}, ValueError, r"batch 0 has 'w', which forward\(u, v\) does not take; leave it out"),
    (({"u": U, "w": V}, Y), ValueError, "batch 0 has 'w'"),
    ((U.to(torch.uint8), V, Y), TypeError, r"batch 0 has an input of torch\.uint8; pass what the model takes"),
    ((U[:0], V[:0]), ValueError, r"batch 0 is empty: it has an input of shape \[0, 4\]"),
]


@pytest.mark.parametrize(("batch", "error", "message"), ERRORS)
def test_what_is_no_batch(batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bitorch.calibrate(converted(), [batch])
    loaded = converted()
    bitorch.calibrate(loaded, [(U, V)])
    with pytest.raises(error, match=message.replace("batch 0", "batch")):
        bitorch.check(loaded, batch)
    with pytest.raises(error, match=message.replace("batch 0", "data: batch 0")):
        bitorch.sensitivity(loaded, [batch])
