"""Honest programs are scored correct, and near misses wrong."""

from __future__ import annotations

import dataclasses

import pytest
from honest import DOUBLED, HONEST
from opening import open_or_skip

from burnish.sandbox import TIERS, Job, Limits, Sandbox, Tier, code_tests


def test_honest_programs_pass(sandbox: Sandbox) -> None:
    jobs = [Job(program, code_tests(columns)) for program, columns in HONEST.values()]
    outcomes = dict(zip(HONEST, sandbox.run(jobs), strict=True))
    assert {name: (o.kind, o.detail) for name, o in outcomes.items() if o.kind != "passed"} == {}
    assert all(
        o.passed == o.total == job.tests.count
        for o, job in zip(outcomes.values(), jobs, strict=True)
    )


def test_a_file_may_be_written_in_the_first_tier(sandbox: Sandbox) -> None:
    program = "open('/tmp/n', 'w').write(input())\nprint(2 * int(open('/tmp/n').read()))"
    (outcome,) = sandbox.run([Job(program, code_tests(DOUBLED))])
    assert outcome.kind == ("passed" if sandbox.tier == "bubblewrap" else "failed")


def test_without_disk_nothing_can_be_written() -> None:
    program = "try:\n    open('/tmp/n', 'w')\nexcept OSError:\n    print(2 * int(input()))"
    with open_or_skip("bubblewrap", limits=Limits(disk_mb=0, seconds=20), parallel=1) as sandbox:
        assert sandbox.run([Job(program, code_tests(DOUBLED))])[0].kind == "passed"


def test_programs_do_not_see_each_other(sandbox: Sandbox) -> None:
    """A file, a module attribute, a process: nothing of one program's is there for the next."""
    leave = (
        "import os, builtins\nbuiltins.left = 1\ntry: open('/tmp/left', 'w').write('42')\nexcept"
        " OSError: pass\nprint('ok')"
    )
    look = "import os, builtins\nprint(os.path.exists('/tmp/left'), hasattr(builtins, 'left'))"
    leave_test, look_test = (
        {"tests": [{"input": "", "output": out}]} for out in ("ok", "False False")
    )
    for _ in range(3):
        outcomes = sandbox.run(
            [Job(leave, code_tests(leave_test))] * 4 + [Job(look, code_tests(look_test))] * 4
        )
        assert [o.kind for o in outcomes] == ["passed"] * 8


def test_partial_counts_every_test(sandbox: Sandbox) -> None:
    """Worked by hand: of -1, 0, 1, 2 doubled, `abs` is right for 0 alone, and x * x for 0 and 2."""
    pairs = code_tests({"tests": [{"input": str(n), "output": str(2 * n)} for n in (-1, 0, 1, 2)]})
    checks = code_tests({"test_list": [f"assert f({n}) == {2 * n}" for n in (-1, 0, 1, 2)]})
    body = "".join(f"    assert candidate({n}) == {2 * n}\n" for n in (-1, 0, 1, 2))
    check = code_tests({"entry_point": "f", "test": f"def check(candidate):\n{body}", "prompt": ""})
    jobs = [
        Job("print(abs(int(input())))", pairs, partial=True),
        Job("print(int(input()) ** 2)", pairs, partial=True),
        Job("def f(x): return abs(x)", checks, partial=True),
        Job("def f(x): return x * x", checks, partial=True),
        Job("def f(x): return x * x", check, partial=True),
        Job(
            "def f(x):\n    if x == 1: import os; os._exit(0)\n    return 2 * x",
            check,
            partial=True,
        ),
        Job("n = int(input())\nif n == 0: raise SystemExit(1)\nprint(2 * n)", pairs, partial=True),
    ]
    outcomes = sandbox.run(jobs)
    assert [(o.passed, o.total) for o in outcomes] == [
        (1, 4),
        (2, 4),
        (1, 4),
        (2, 4),
        (2, 4),
        (2, 4),
        (3, 4),
    ]
    assert {o.kind for o in outcomes} == {"failed"}
    without = sandbox.run([dataclasses.replace(job, partial=False) for job in jobs])
    assert [(o.passed, o.total) for o in without] == [
        (0, 4),
        (0, 4),
        (0, 4),
        (0, 4),
        (0, 1),
        (0, 1),
        (1, 4),
    ]


@pytest.mark.parametrize("tier", TIERS)
def test_a_time_out_in_one_test_spares_the_others_when_all_count(tier: Tier) -> None:
    columns = {"tests": [{"input": str(n), "output": str(n)} for n in (1, 2, 3)]}
    program = "n = int(input())\nwhile n == 2: pass\nprint(n)"
    with open_or_skip(tier, limits=Limits(cpu_seconds=1, seconds=20), parallel=1) as sandbox:
        (outcome,) = sandbox.run([Job(program, code_tests(columns), partial=True)])
    assert (outcome.kind, outcome.passed, outcome.total) == ("timeout", 2, 3)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"test_list": ["assert f(1) == undefined_name.x"]}, "NameError"),
        ({"test_list": ["import no_such_module\nassert f(1)"]}, "ModuleNotFoundError"),
        ({"test_list": ["assert True or f(1)"]}, "never calls"),
        ({"entry_point": "f", "test": "def check(candidate):\n    assert True\n"}, "never calls"),
        ({"test_list": ["assert f(lambda: 1) == 1"]}, "cannot be handed into the sandbox"),
        ({"test_list": ["assert f(1)"], "test_setup_code": "1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_broken_tests_are_no_verdict_on_the_program(
    sandbox: Sandbox, columns: dict[str, object], says: str
) -> None:
    (outcome,) = sandbox.run([Job("def f(x): return x", code_tests(columns))])
    assert outcome.kind == "infrastructure"
    assert says in outcome.detail


@pytest.mark.parametrize(
    ("test", "program"),
    [
        (
            "try:\n    r = f(1)\nexcept ValueError:\n    pass\nassert r == 2",
            "def f(n): raise ValueError",
        ),
        ("for r in f(1):\n    pass\nassert r == 2", "def f(n): return []"),
        ("if f(1):\n    r = 2\nassert r == 2", "def f(n): return False"),
    ],
)
def test_a_name_that_the_program_left_without_meaning_is_its_own_fault(
    sandbox: Sandbox, test: str, program: str
) -> None:
    assert sandbox.run([Job(program, code_tests({"test_list": [test]}))])[0].kind == "failed"


@pytest.mark.parametrize(
    ("test", "program"),
    [
        ("assert sum(f(3)) == 6", "def f(n): return range(10 ** 15)"),
        ("import re\nassert re.fullmatch(r'(a+)+b', f(3))", "def f(n): return 'a' * 40"),
    ],
)
def test_tests_have_as_long_for_what_a_program_returned_as_the_program_had(
    test: str, program: str
) -> None:
    """Of their own time, whatever else the machine does: processor time and sleep."""
    with open_or_skip("bubblewrap", limits=Limits(seconds=1, cpu_seconds=2), parallel=1) as sandbox:
        (outcome,) = sandbox.run([Job(program, code_tests({"test_list": [test]}))])
    assert outcome.kind == "timeout"
    assert "no answer within" in outcome.detail
    assert "wall clock" not in outcome.detail


@pytest.mark.parametrize("program", ["import time\ntime.sleep(60)", "input()\nwhile True: pass"])
def test_sleeping_and_computing_cost_the_same(program: str) -> None:
    with open_or_skip("bubblewrap", limits=Limits(seconds=1, cpu_seconds=5), parallel=1) as sandbox:
        (outcome,) = sandbox.run([Job(program, code_tests(DOUBLED))])
    assert (outcome.kind, outcome.detail) == ("timeout", "no answer within 1 s")


def test_the_load_of_the_machine_decides_no_verdict() -> None:
    """Half a second of computing passes with a limit of one and a half, though four others want
    each processor."""
    import subprocess
    import sys

    program = "import time\nwhile time.process_time() < 0.5: pass\nprint(2 * int(input()))"
    count = 4 * len(__import__("os").sched_getaffinity(0))
    others = [
        subprocess.Popen([sys.executable, "-I", "-c", "while True: pass"]) for _ in range(count)
    ]
    try:
        with open_or_skip(
            "bubblewrap", limits=Limits(seconds=1.5, cpu_seconds=2), parallel=1
        ) as sandbox:
            (outcome,) = sandbox.run(
                [Job(program, code_tests({"tests": [{"input": "1", "output": "2"}]}))]
            )
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert outcome.kind == "passed", outcome.detail
