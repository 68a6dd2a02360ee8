"""Several threads, several processes and a changing number of workers: the results stay the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import bitorch_runtime
from cases import Case, random_case

SEEDS = range(9, 400, 16)  # whole programs
#: Seconds until a test that hangs fails; each takes a few at most.
PATIENCE = 60


@pytest.fixture(autouse=True)
def _restore_threads() -> Iterator[None]:
    before = bitorch_runtime.get_num_threads()
    yield
    bitorch_runtime.set_num_threads(before)


def build(seed: int) -> tuple[bitorch_runtime.Program, Case]:
    case = random_case(seed)
    return bitorch_runtime.Program(case.operations, case.arrays), case


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_share_a_program(workers: int) -> None:
    bitorch_runtime.set_num_threads(workers)
    for seed in SEEDS:
        program, case = build(seed)
        start = threading.Barrier(4, timeout=PATIENCE)

        def call(
            program: bitorch_runtime.Program = program, case: Case = case, start: threading.Barrier = start
        ) -> list[str]:
            start.wait()
            return [line for _ in range(5) for line in case.differences(program(*case.inputs))]

        with ThreadPoolExecutor(4) as pool:
            results = [pool.submit(call) for _ in range(4)]
            assert [result.result(PATIENCE) for result in results] == [[]] * 4, f"seed {seed}"


def test_threads_with_programs_of_their_own() -> None:
    bitorch_runtime.set_num_threads(2)

    def work(seed: int) -> list[str]:
        program, case = build(seed)
        return [line for _ in range(3) for line in case.differences(program(*case.inputs))]

    with ThreadPoolExecutor(4) as pool:
        assert [line for lines in pool.map(work, range(64), timeout=PATIENCE) for line in lines] == []


def test_the_number_of_threads_changes_while_programs_run() -> None:
    program, case = build(14)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for count in (1, 3, 2, 5):
                bitorch_runtime.set_num_threads(count)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(100):
            assert case.differences(program(*case.inputs)) == []
    finally:
        stop.set()
        changer.join(PATIENCE)
    assert not changer.is_alive()


def run_again(seed: int) -> list[str]:
    program, case = build(seed)
    return case.differences(program(*case.inputs))


def in_forked_child(check: Callable[[], list[str]]) -> int:
    """The exit status of a child that runs this: 0 where nothing is wrong, minus a signal's number where one ended it.

    Whatever happens, the child does not come back into the tests, and does not outlive them: an alarm ends one that
    hangs.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            wrong = check()
            print(*wrong, sep="\n", file=sys.stderr, flush=True)
            status = int(len(wrong) > 0)
        except (AssertionError, RuntimeError, TypeError, ValueError, MemoryError, OSError):
            traceback.print_exc()
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # that is the test
def test_a_child_that_fails_is_noticed() -> None:
    def fail() -> list[str]:
        raise SystemExit(0)  # which no handler of the child names

    assert in_forked_child(fail) == 1
    assert in_forked_child(lambda: ["a difference"]) == 1
    assert in_forked_child(list) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # that is the test
def test_a_forked_child_runs_programs() -> None:
    """The pool's threads do not survive a fork, and its locks must not be left taken."""
    bitorch_runtime.set_num_threads(2)
    program, case = build(14)
    assert case.differences(program(*case.inputs)) == []
    assert in_forked_child(lambda: case.differences(program(*case.inputs)) + run_again(30)) == 0
    assert case.differences(program(*case.inputs)) == []


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # that is the test
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(method: str) -> None:
    bitorch_runtime.set_num_threads(2)
    assert run_again(14) == []
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(run_again, range(14, 62, 16)).get(PATIENCE) == [[]] * 3


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    """Bit for bit, sums of floats included."""
    for seed in (*SEEDS, *range(10, 400, 16)):
        program, case = build(seed)
        results = []
        for threads in (1, 2, 3, 7):
            bitorch_runtime.set_num_threads(threads)
            result = program(*case.inputs)
            results.append(list(result.values()) if isinstance(result, dict) else [result])
        for others in results[1:]:
            for a, b in zip(results[0], others, strict=True):
                np.testing.assert_array_equal(a, b)
