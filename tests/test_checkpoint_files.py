"""Checkpoints and weights from anywhere: damaged and crafted ones are refused with a sentence that names the file."""

from __future__ import annotations

import copy
import io
import random
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import bitorch
import bitorch_runtime
from bitorch.cli import main
from bitorch.models import build
from bitorch.seal import seal
from bitorch.train import Settings, fit, load_model, prepare, read_checkpoint
from bitorch.train.weights_file import load_weights_file

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # Lightning's own use of a PyTorch name

SMALL: dict[str, Any] = {"width": 0.1, "epochs": 1, "batch_size": 700, "accelerator": "cpu", "range": "learned"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run of a small net, with learned ranges and a step of Adam."""
    folder = tmp_path_factory.mktemp("checkpoints") / "run"
    fit(Settings(**{**SMALL, "out": folder}), show=False)
    return folder


@pytest.fixture(scope="module")
def content(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(run / "last.ckpt", weights_only=True)
    return loaded


def write(path: Path, content: object, *, sealed: bool = True) -> Path:
    archive = io.BytesIO()
    torch.save(content, archive)
    if sealed:
        seal(archive)
    path.write_bytes(archive.getvalue())
    return path


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_every_changed_bit_of_a_checkpoint_is_seen(run: Path, tmp_path: Path) -> None:
    data = (run / "last.ckpt").read_bytes()
    assert data[-79:-64] == b"bitorch sha256 "
    path = tmp_path / "flipped.ckpt"
    near_the_end = range(8 * (len(data) - 110), 8 * len(data), 7)
    for bit in [*random.Random(0).sample(range(8 * len(data)), 60), *near_the_end]:
        path.write_bytes(flipped(data, bit))
        with pytest.raises(ValueError, match=r"flipped\.ckpt is not a checkpoint, or a damaged one") as raised:
            read_checkpoint(path)
        assert "\n" not in str(raised.value)
    for length in (0, 1, 5, len(data) // 2, len(data) - 79, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="is not a checkpoint, or a damaged one"):
            read_checkpoint(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(ValueError, match=r"its end is not that of a file which torch.save has written"):
        read_checkpoint(path)


def test_a_changed_bit_of_a_file_without_a_hash_is_seen_or_harmless(content: dict[str, Any], tmp_path: Path) -> None:
    """As the checkpoints of a Trainer of one's own, and weights from elsewhere, are."""
    path = write(tmp_path / "own.ckpt", content, sealed=False)
    assert read_checkpoint(path).epoch == 1
    data = path.read_bytes()
    refused = 0
    for bit in random.Random(1).sample(range(8 * len(data)), 60):
        path.write_bytes(flipped(data, bit))
        try:
            read_checkpoint(path)
        except ValueError as error:
            assert "own.ckpt" in str(error)  # noqa: PT017  # both are right
            refused += 1
        else:  # in what lies between the parts
            assert equal(torch.load(path, weights_only=True), content)
    assert refused > 30


def test_a_changed_bit_of_weights_is_seen_or_harmless(tmp_path: Path) -> None:
    model = build("lenet-8", 1, 10, 0.1)
    path = tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    data = path.read_bytes()
    for bit in random.Random(2).sample(range(8 * len(data)), 40):
        path.write_bytes(flipped(data, bit))
        other = build("lenet-8", 1, 10, 0.1)
        try:
            load_weights_file(other, path, 10)
        except ValueError as error:
            assert "weights.pt" in str(error)  # noqa: PT017
        else:
            assert equal(other.state_dict(), model.state_dict())


def test_a_changed_bit_of_a_packed_net_is_seen(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.bit.safetensors"
    bitorch.deploy(load_model(run / "last.ckpt"), torch.rand(1, 1, 8, 8)).save(path)
    data = path.read_bytes()
    for bit in random.Random(3).sample(range(8 * len(data)), 40):
        path.write_bytes(flipped(data, bit))
        for load in (bitorch_runtime.load, bitorch_runtime.format.read):
            with pytest.raises(ValueError, match=r"net\.bit\.safetensors"):
                load(path)


def test_files_without_checksums_are_read(content: dict[str, Any], tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = write(tmp_path / "own.ckpt", content, sealed=False)
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_checkpoint(path).epoch == 1


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    archive = io.BytesIO()
    torch.save({"a": torch.zeros(10**6)}, archive)
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(archive) as parts, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in parts.infolist():
            packed.writestr(part.filename, parts.read(part))
    with pytest.raises(ValueError, match=r"bomb\.pt .* it claims to hold more than it has bytes, or is compressed"):
        load_weights_file(nn.Linear(2, 2), bomb, 2)


CRAFTED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no state_dict": (lambda c: c.pop("state_dict"), "it lacks state_dict"),
    "no loops": (lambda c: c.update(loops={}), r"it lacks loops\.fit_loop"),
    "loops of text": (lambda c: c.update(loops="loops"), "loops must be a mapping"),
    "no num_classes": (lambda c: c["bitorch"].pop("num_classes"), r"it lacks bitorch\.num_classes"),
    "one class": (lambda c: c["bitorch"].update(num_classes=1), "num_classes must be a whole number from 2 to"),
    "many classes": (
        lambda c: (c["bitorch"].update(num_classes=10**6), c["bitorch"]["info"].pop("class_names", None)),
        "no weight is for 1 channels and 1000000",
    ),
    "integer keys": (lambda c: c["state_dict"].update({3: torch.zeros(1)}), "state_dict must be a mapping with texts"),
    "own of text": (lambda c: c.update(bitorch="x"), "bitorch must be a mapping"),
    "expanded": (
        lambda c: c["state_dict"].update({"model.layers.0.weight": torch.zeros(1).expand(10**6, 10**6)}),
        r"layers\.0\.weight: it claims the shape \[1000000, 1000000\], and the file has fewer numbers",
    ),
    "meta": (lambda c: c["state_dict"].update({"model.a": torch.zeros(9, device="meta")}), "not a dense tensor"),
    "sparse": (lambda c: c["state_dict"].update({"model.a": torch.zeros(9, 9).to_sparse()}), "not a dense tensor"),
    "a number as weight": (lambda c: c["state_dict"].update({"model.a": 3}), "it is int, and no tensor"),
    "other width": (lambda c: c["bitorch"]["info"]["settings"].update(width=9.0), "its weights are not of the model"),
    "huge width": (lambda c: c["bitorch"]["info"]["settings"].update(width=1e9), "width must be at most 64"),
    "other images": (
        lambda c: c["bitorch"]["info"].update(input_shape=[1, 60_000, 60_000]),
        r"LeNet8 takes images of shape \[batch",
    ),
    "padded": (lambda c: c["bitorch"]["info"]["settings"].update(pad_to=999), "pad images to 999"),
    "two sides": (lambda c: c["bitorch"]["info"].update(input_shape=[1, 8]), "input_shape must be a list of 3"),
    "bits": (lambda c: c["bitorch"].update(bits={"layers.3": [1, 2]}), r"bits\.layers\.3 must be a list of 3"),
    "bits of no layer": (lambda c: c["bitorch"].update(bits={"nowhere": [1, 2, 3]}), "nowhere"),
    "unknown setting": (lambda c: c["bitorch"]["info"]["settings"].update(x=1), r"settings: unknown setting 'x'"),
    "settings of text": (lambda c: c["bitorch"]["info"].update(settings="a"), "settings: must be a mapping, got str"),
    "rules": (lambda c: c["bitorch"]["info"].update(rules=[{"match": 3}]), "rules: entry 1: match must be a text"),
}
NOT_RESUMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no optimizer": (lambda c: c.update(optimizer_states=[]), "optimizer_states must be a list of 1, got list of 0"),
    "no states at all": (lambda c: c.pop("optimizer_states"), "it lacks optimizer_states"),
    "empty state": (
        lambda c: c["optimizer_states"][0].update(state={}), r"optimizer_states\[0\]\.state lacks parameters \[0, 1,"
    ),
    "one parameter": (lambda c: c["optimizer_states"][0]["state"].pop(0), r"state lacks parameters \[0\]"),
    "another shape": (
        lambda c: c["optimizer_states"][0]["state"][0].update(exp_avg=torch.zeros(3)),
        r"state\[0\]\.exp_avg has the shape \[3\], and must have",
    ),
    "nan": (
        lambda c: c["optimizer_states"][0]["state"][0]["exp_avg"].mul_(torch.nan), "is not made of finite numbers"
    ),
    "no groups": (lambda c: c["optimizer_states"][0].update(param_groups=[]), "param_groups must be a list of 1"),
    "other betas": (
        lambda c: c["optimizer_states"][0]["param_groups"][0].update(betas=(5, 5)), r"betas must be \(0\.9, 0\.999\)"
    ),
    "no history": (lambda c: c.update(callbacks={}), r"it lacks callbacks\.RunRecorder"),
    "short history": (lambda c: c["callbacks"]["RunRecorder"].update(history=[]), "it has 0 rows of history after 1"),
    "no generators": (lambda c: c["bitorch"]["ranks"][0].pop("generators"), "it lacks .*generators"),
    "metric": (lambda c: c["bitorch"]["ranks"][0].update(train_loss={"x": 1}), "must be a mapping with mean_value"),
    "half a loop": (lambda c: c["loops"]["fit_loop"].pop("epoch_loop.batch_progress"), "it lacks .*batch_progress"),
    "late batch": (
        lambda c: c["loops"]["fit_loop"]["state_dict"]["combined_loader"][0].update(batch=9),
        r"batch must be a whole number from 0 to 2, got 9",
    ),
    "other generators": (
        lambda c: c["bitorch"]["ranks"][0].update(generators={"x": torch.zeros(1)}), "the states of the generators in"
    ),
    "processes": (lambda c: c["bitorch"].update(ranks=[]), "it is of 0 processes, and this run has 1"),
    "schedulers": (lambda c: c.update(lr_schedulers=[{}]), "lr_schedulers must be a list of 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted_checkpoints_are_refused_by_every_reader(name: str, content: dict[str, Any], tmp_path: Path) -> None:
    change, message = CRAFTED[name]
    crafted = copy.deepcopy(content)
    change(crafted)
    path = write(tmp_path / "crafted.ckpt", crafted)
    readers: list[Callable[[], object]] = [
        lambda: load_model(path),
        lambda: prepare(Settings(**{**SMALL, "epochs": 2, "resume": path, "out": tmp_path / "run"})),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=rf"crafted\.ckpt .*{message}") as raised:
            read()
        assert len(str(raised.value)) < 1000
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", NOT_RESUMED)
def test_a_run_does_not_resume_from_less_than_it_needs(name: str, content: dict[str, Any], tmp_path: Path) -> None:
    change, message = NOT_RESUMED[name]
    crafted = copy.deepcopy(content)
    change(crafted)
    path = write(tmp_path / "crafted.ckpt", crafted)
    with pytest.raises(ValueError, match=rf"crafted\.ckpt is not a whole checkpoint: .*{message}"):
        prepare(Settings(**{**SMALL, "epochs": 2, "resume": path, "out": tmp_path / "run"}))


def test_commands_say_it_in_one_line(
    content: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = copy.deepcopy(content)
    crafted["loops"] = {}
    path = str(write(tmp_path / "crafted.ckpt", crafted))
    net = str(tmp_path / "net.bit.safetensors")
    for command in (
        ["train", "--resume", path], ["train", "--init", path], ["train", "--distil", path], ["eval", path],
        ["deploy", path], ["verify", path, net], ["report", path], ["check", path],
    ):  # fmt: skip
        assert main(command) == 2
        printed = capsys.readouterr()
        assert printed.err.startswith("error: ")
        assert printed.err.count("\n") == 1
        assert "crafted.ckpt" in printed.err or "net.bit" in printed.err


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    children: list[tuple[Any, object]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list):
        children = list(enumerate(value))
    for key, child in children:
        yield from places(child, (*path, key))


def replaced(content: object, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> object:
    """A copy in which the parent of what stands at a path was changed."""
    if not path:
        return {}
    whole: Any = copy.deepcopy(content)
    parent = whole
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return whole


SCALARS = st.one_of(st.none(), st.integers(), st.text(max_size=3))
TENSORS = [
    torch.zeros(2),
    torch.zeros(1).expand(10**5, 10**6),
    torch.tensor(float("nan")),
    torch.zeros(2, dtype=torch.complex64),
]
JUNK = st.one_of(
    st.sampled_from([None, True, -1, 0, 10**30, float("nan"), "", "x", {3: 4}, {"a": {"b": 1}}, *TENSORS]),
    st.recursive(
        SCALARS,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), inner, max_size=3),
        ),
        max_leaves=5,
    ),
)


def try_all(path: Path, folder: Path, *, train: bool = False) -> None:
    """Read, build and resume: each works or raises a ValueError of one line that names the file."""

    def resume() -> None:
        run = prepare(Settings(**{**SMALL, "epochs": 2, "resume": path, "out": folder / "run"}))
        if train:
            run.train(show=False)

    for read in (lambda: read_checkpoint(path), lambda: load_model(path), resume):
        try:
            read()
        except ValueError as error:
            assert "junk.ckpt" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 2000  # noqa: PT017


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), junk=JUNK, is_removed=st.booleans())
def test_junk_anywhere_is_refused(
    place: int, junk: object, is_removed: bool, content: dict[str, Any], tmp_path: Path
) -> None:
    paths = list(places(content))

    def change(parent: Any, key: Any) -> None:
        if is_removed:
            del parent[key]
        else:
            parent[key] = copy.deepcopy(junk)  # of which the strategy keeps the original

    crafted = replaced(content, paths[place % len(paths)], change)
    try_all(write(tmp_path / "junk.ckpt", crafted), tmp_path)


@pytest.mark.slow
def test_every_part_taken_away_or_replaced(content: dict[str, Any], tmp_path: Path) -> None:
    def remove(parent: Any, key: Any) -> None:
        del parent[key]

    def replace(parent: Any, key: Any) -> None:
        parent[key] = {"x": [1, "y"]} if not isinstance(parent[key], dict) else "x"

    for number, path in enumerate(places(content)):
        for change in (remove, replace):
            folder = tmp_path / f"{number}{change.__name__}"
            folder.mkdir()
            try_all(write(folder / "junk.ckpt", replaced(content, path, change)), folder, train=True)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(junk=JUNK, key=st.sampled_from(["", "state_dict", "layers.0.weight"]))
def test_junk_as_weights_is_refused(junk: object, key: str, tmp_path: Path) -> None:
    model = build("lenet-8", 1, 10, 0.1)
    state: object = {**model.state_dict(), key: junk} if key.startswith("layers") else {key: junk} if key else junk
    path = tmp_path / "junk.pt"
    torch.save(state, path)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"junk\.pt") as raised:
        load_weights_file(model, path, 10)
    assert len(str(raised.value)) < 2000
    assert equal(model.state_dict(), before)


@pytest.mark.parametrize(
    "fields", [{"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.0}, {"bits": (32, 32, 32)}]
)
def test_what_fit_writes_can_be_resumed(fields: dict[str, Any], tmp_path: Path) -> None:
    common = {**SMALL, "range": "unit", **fields}
    done = fit(Settings(**{**common, "out": tmp_path / "run"}), show=False)
    again = fit(Settings(**{**common, "epochs": 2, "resume": done.last_checkpoint}), show=False)
    assert again.epochs == 2


def test_a_momentum_that_is_missing(tmp_path: Path) -> None:
    common = {**SMALL, "optimizer": "sgd", "range": "unit"}
    done = fit(Settings(**{**common, "out": tmp_path / "run"}), show=False)
    content = torch.load(done.last_checkpoint, weights_only=True)
    del content["optimizer_states"][0]["state"][2]["momentum_buffer"]
    path = write(tmp_path / "crafted.ckpt", content)
    with pytest.raises(ValueError, match=r"it lacks optimizer_states\[0\]\.state\[2\]\.momentum_buffer"):
        prepare(Settings(**{**common, "epochs": 2, "resume": path, "out": tmp_path / "other"}))
