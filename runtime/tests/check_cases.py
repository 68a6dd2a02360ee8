"""Check random cases with the kernels that BITORCH_KERNEL names; the choice is made once per process.

    BITORCH_KERNEL=avx2 python check_cases.py --first 0 --count 1000

Each program runs on 1, 2, 3 and 8 threads, again after other inputs, and image by image: the results must be those of
the reference, whatever the workspace held before and however the work was cut. Exits with 1 at the first that are not,
and prints the program.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np

import bitorch_runtime
from cases import Array, Case, large_case, random_case


def other_inputs(case: Case, seed: int) -> list[Array]:
    """Inputs of the same shapes that leave other numbers behind in the workspace."""
    rng = np.random.default_rng(seed)
    return [np.ascontiguousarray(array[rng.permutation(len(array))][..., ::-1]) for array in case.inputs]


def image_by_image(program: bitorch_runtime.Program, case: Case) -> dict[str, Array]:
    """The results of running each image of the batch alone."""
    parts = []
    for i in range(len(case.inputs[0])):
        results = program(*(array[i : i + 1] for array in case.inputs))
        parts.append(results if isinstance(results, dict) else dict.fromkeys(case.expected, results))
    return {name: np.concatenate([part[name] for part in parts]) for name in case.expected}


def failures(case: Case, seed: int) -> Iterator[tuple[str, list[str]]]:
    """(circumstance, differences) of each way to run a case."""
    program = bitorch_runtime.Program(case.operations, case.arrays)
    for threads in (1, 2, 3, 8):
        bitorch_runtime.set_num_threads(threads)
        yield f"{threads} threads", case.differences(program(*case.inputs))
        program(*other_inputs(case, seed))
    yield "again", case.differences(program(*case.inputs))
    if len(case.inputs[0]) > 1:
        yield "image by image", case.differences(image_by_image(program, case))


def check(case: Case, seed: int) -> bool:
    """Whether a case is right; prints what is not."""
    try:
        for circumstance, differences in failures(case, seed):
            if differences:
                print(f"seed {seed}, {circumstance}: {differences}\n{case.describe()}")
                return False
    except (ValueError, TypeError, MemoryError) as error:
        print(f"seed {seed}: refused with {type(error).__name__}: {error}\n{case.describe()}")
        return False
    return True


def main() -> None:
    """Check the cases of a range of seeds."""
    parser = argparse.ArgumentParser(description="Check random cases against the reference.")
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=200, help="number of seeds")
    parser.add_argument("--large", action="store_true", help="large cases, which threads share")
    parser.add_argument("--keep-going", action="store_true", help="report all that fail")
    arguments = parser.parse_args()
    start = time.perf_counter()
    failed = 0
    for seed in range(arguments.first, arguments.first + arguments.count):
        if not check(large_case(seed) if arguments.large else random_case(seed), seed):
            failed += 1
            if not arguments.keep_going:
                sys.exit(1)
    kernel, seconds = bitorch_runtime.cpu()["kernel"], time.perf_counter() - start
    print(f"{kernel}: {arguments.count} cases, {failed} failed, {seconds:.1f} s")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
