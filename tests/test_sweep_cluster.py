"""Sweeps on a Ray cluster of two machines, which are both this one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bitorch.cli import main
from bitorch.sweeps.folder import take_folder
from bitorch.sweeps.node_check import missing_on_node
from bitorch.sweeps.sweep_file import read_sweep
from bitorch.sweeps.trial import Ended, Failure
from bitorch.train.sweep import Outcome
from bitorch.version import __version__
from dying import die_always, die_once, nothing

#: Of Ray: processes that are as important as others, and wait for machines that are busy. It reads them when imported.
_PATIENT = {"RAY_raylet_start_wait_time_s": "200", "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}

THREE = """
settings: {data: digits, model: lenet-8, width: 0.25, epochs: 2, batch_size: 256}
grid: {lr: [1.0e-3, 1.0e-2, 1.0e+38]}
"""

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # Lightning's own use of a PyTorch name
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster with two machines of one core each."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _PATIENT.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # the workers import `dying`
        cluster_utils = pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed")
        cluster: Any = cluster_utils.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        try:
            cluster.add_node(num_cpus=1)
            yield cluster.address
        finally:
            cluster.shutdown()


@pytest.mark.slow
def test_a_cluster_gives_the_table_of_this_machine(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also for the run that fails, whose error is in a row; and here a sweep of the cluster is read."""
    (tmp_path / "three.yaml").write_text(THREE, encoding="utf-8")
    command = ["sweep", str(tmp_path / "three.yaml"), "--out"]
    assert main([*command, str(tmp_path / "here"), "--jobs", "2"]) == 1
    printed = capsys.readouterr().out
    assert main([*command, str(tmp_path / "there"), "--address", address]) == 1
    assert sorted(printed.splitlines()[3:-1]) == sorted(capsys.readouterr().out.splitlines()[3:-1])
    for name in ("results.csv", "results.json"):
        here, there = ((tmp_path / folder / name).read_text() for folder in ("here", "there"))
        assert here.replace(str(tmp_path / "here"), "") == there.replace(str(tmp_path / "there"), "")
    assert not (tmp_path / "there" / ".ray").exists()
    assert not [*(tmp_path / "there").glob(".seen-*")]
    (tmp_path / "there" / "results.csv").unlink()
    assert main([*command, str(tmp_path / "there"), "--jobs", "1"]) == 1
    assert (tmp_path / "there" / "results.csv").read_text() == there_again(tmp_path)


def there_again(folder: Path) -> str:
    """Return the table of this machine with the paths of the cluster's folder."""
    text = (folder / "here" / "results.csv").read_text()
    return text.replace(str(folder / "here"), str(folder / "there"))


@pytest.mark.slow
def test_a_run_whose_process_dies_is_taken_up_again(address: str, tmp_path: Path) -> None:
    from bitorch.sweeps.cluster import RayRunner
    from bitorch.sweeps.ray_cluster import connected

    (tmp_path / "three.yaml").write_text(THREE, encoding="utf-8")
    plan = read_sweep(tmp_path / "three.yaml")
    take_folder(tmp_path, plan)
    points = plan.points
    assert points is not None
    (settings,) = plan.runs(points[1])
    ends: dict[str, Ended] = {}
    with connected(address):
        for name, death in (("once", die_once), ("always", die_always)):
            prepare = partial(death, tmp_path / name)
            RayRunner(tmp_path, None, 1, 0, 1, prepare)({name: settings}, ends.__setitem__)
        with pytest.raises(
            ValueError, match="a run takes 2 cpus and 0 gpus, and no machine of the cluster has so many"
        ):
            RayRunner(tmp_path, None, 2, 0, 1, nothing)({"more": settings}, ends.__setitem__)
    assert (tmp_path / "once.died").exists()
    once, always = ends["once"], ends["always"]
    assert isinstance(once, Outcome)
    assert len(once.history) == 2
    assert isinstance(always, Failure)
    assert not always.is_of_the_run
    assert always.error.startswith("its process or machine died 2 times: ")


def test_an_address_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    (tmp_path / "three.yaml").write_text(THREE, encoding="utf-8")
    command = ["sweep", str(tmp_path / "three.yaml"), "--out", str(tmp_path / "out"), "--address"]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        assert main([*command, f"127.0.0.1:{port}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: no Ray cluster answers at 127.0.0.1:{port} (")
        assert "start one with `ray start --head`" in said
        listening.listen()
        monkeypatch.setattr("bitorch.sweeps.ray_cluster._SECONDS_TO_ANSWER", 1)
        assert main([*command, f"127.0.0.1:{port}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: no Ray cluster answers at 127.0.0.1:{port} within 1 seconds; start one with")
    assert main([*command, "somewhere"]) == 2
    assert "address must be HOST:PORT, such as 10.0.0.1:6379, or auto, got 'somewhere'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_machine_lacks(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert "does not see" in missing_on_node(marker, "a", tmp_path, __version__)
    marker.write_text("b")
    assert "has another folder" in missing_on_node(marker, "a", tmp_path, __version__)
    marker.write_text("a")
    assert "where the command was called" in missing_on_node(marker, "a", tmp_path / "none", __version__)
    assert f"has bitorch {__version__}, and here it is 0.0" in missing_on_node(marker, "a", tmp_path, "0.0")
    assert missing_on_node(marker, "a", tmp_path, __version__) == ""
