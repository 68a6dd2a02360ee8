"""The other engines, each process with instructions of its own: this one is told which contestant takes a sample.

oneDNN, which OpenVINO and PyTorch compute with, reads ONEDNN_MAX_CPU_ISA once, when it starts. So engines without AMX
run in a second process. Both wait on their standard input while somebody else takes a sample.

    python networks_rivals.py FILE     a pickled `Job`; then a line with a contestant's number for each sample
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

from layers_timing import Contestant, Sample
from networks_graph import Graph
from networks_models import TOKENS
from networks_names import NO_AMX

Engine = Literal["torch", "onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = ("torch", "onnxruntime", "openvino")
Instructions = Literal["own", "no-amx"]
#: The most that oneDNN may use. Zen 4 and Zen 5 have this: dot products of bytes and of bfloat16, no tiles.
NO_AMX_LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


@dataclass(frozen=True)
class Job:
    """Which contestants a process holds."""

    net: str
    graph: Graph
    engines: tuple[Engine, ...]
    instructions: Instructions
    threads: int


def has_amx() -> bool:
    """Whether this CPU multiplies tiles of bytes."""
    path = Path("/proc/cpuinfo")
    return path.exists() and " amx_int8 " in path.read_text()


def contestants(job: Job) -> list[Contestant]:
    """
    Raises:
        ImportError: an engine is not installed.
        RuntimeError: an engine's scores are wrong, or it did not run what it was meant to.
    """
    found: list[Contestant] = []
    own = job.instructions == "own"  # without AMX float32 would be the same
    if "torch" in job.engines:
        import networks_torch

        found += networks_torch.contestants(job.net, job.graph, job.threads, own)
    # ONNX Runtime has no such limit, and uses no AMX for these networks.
    if "onnxruntime" in job.engines and own and job.net not in TOKENS:
        import networks_onnxruntime

        found += networks_onnxruntime.contestants(job.graph, job.threads)
    if "openvino" in job.engines and job.net in TOKENS:
        import networks_openvino_tokens

        found += networks_openvino_tokens.contestants(job.net, job.graph, job.threads, own)
    elif "openvino" in job.engines:
        import networks_openvino

        found += networks_openvino.contestants(job.graph, job.threads, own)
    wrong = [each.kernel for each in found if not own and "amx" in each.kernel]
    if wrong:
        raise RuntimeError(f"without AMX, OpenVINO ran {wrong}")
    return found


@dataclass
class Remote:
    """A contestant in another process."""

    name: str
    kernel: str
    number: int
    process: subprocess.Popen[str]

    def sample(self) -> Sample:
        """
        Raises:
            RuntimeError: the process has ended.
        """
        sending, receiving = _pipes(self.process)
        sending.write(f"{self.number}\n")
        sending.flush()
        return Sample(**_answer(receiving))


@contextmanager
def rivals(job: Job) -> Iterator[list[Contestant]]:
    """The job's contestants, in a process that ends with the block.

    Raises:
        RuntimeError: the process could not make them; it has said why on its standard error.
    """
    environment = os.environ | (NO_AMX_LIMIT if job.instructions == "no-amx" else {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job"
        path.write_bytes(pickle.dumps(job))
        command = [sys.executable, __file__, str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as process:
            sending, receiving = _pipes(process)
            suffix = NO_AMX if job.instructions == "no-amx" else ""
            names = _answer(receiving)
            yield [
                Remote(name + suffix, kernel, number, process) for number, (name, kernel) in enumerate(names.items())
            ]
            sending.close()


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


def _answer(receiving: IO[str]) -> dict[str, Any]:
    """The next line that is JSON: engines print, too."""
    for line in receiving:
        if line.startswith("{"):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError("the other engines' process has ended, see above")


def main(path: Path) -> None:
    job: Job = pickle.loads(path.read_bytes())
    everybody = contestants(job)
    print(json.dumps({each.name: each.kernel for each in everybody}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(everybody[int(line)].sample())), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
