"""Programs per second through the sandbox, by tier, cold and warm: `python benchmarks/sandbox.py
[--programs 300]`.

cold      from nothing to the first verdict: the supervisor, the probe of the tier, one program
single    one program at a time, wall clock of each (median): a sandbox is ready, so this is the
    program and its end
warm      many programs at once, as a batch of completions: programs per second, sustained, with the
    pool refilling itself
The stdin form runs one test of each program; the function form loads a program and makes three
calls from its tests.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time

from burnish.errors import UserError
from burnish.sandbox import TIERS, CodeTests, Job, Sandbox, Tier, code_tests

FORMS = {
    "stdin": Job("print(sum(map(int, input().split())))", CodeTests(stdio=(("1 2 3\n", "6\n"),))),
    "function": Job(
        "def add(a, b):\n    return a + b\n",
        code_tests(
            {
                "test_list": [
                    "assert add(1, 2) == 3",
                    "assert add([1], []) == [1]",
                    "assert add('a', 'b') == 'ab'",
                ]
            }
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--parallel", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"{platform.system()} {platform.release()}, {options.parallel} programs at a time, load"
        f" before {load:.1f}"
    )
    print(f"{'tier':12} {'form':10} {'cold s':>7} {'single ms':>10} {'warm /s':>8}")
    for tier in TIERS:
        for form, job in FORMS.items():
            try:
                print(row(tier, form, job, programs=options.programs, parallel=options.parallel))
            except UserError as error:
                print(f"{tier:12} {error}")
                break


def row(tier: Tier, form: str, job: Job, *, programs: int, parallel: int) -> str:
    begun = time.perf_counter()
    with Sandbox(tier, parallel=parallel) as sandbox:
        check(sandbox, job)
        cold = time.perf_counter() - begun
        singles = []
        for _ in range(20):
            time.sleep(0.1)  # the pool fills up again
            begun = time.perf_counter()
            check(sandbox, job)
            singles.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        wrong = [outcome for outcome in sandbox.run([job] * programs) if outcome.kind != "passed"]
        rate = programs / (time.perf_counter() - begun)
    if wrong:
        raise SystemExit(f"{len(wrong)} of {programs} honest programs failed: {wrong[0]}")
    return f"{tier:12} {form:10} {cold:7.2f} {1000 * statistics.median(singles):10.1f} {rate:8.0f}"


def check(sandbox: Sandbox, job: Job) -> None:
    (outcome,) = sandbox.run([job])
    if outcome.kind != "passed":
        raise SystemExit(f"an honest program failed: {outcome}")


if __name__ == "__main__":
    main()
