"""Overrides, folders and numbers as they are typed: taken, or one line and exit code 2, with
nothing made on the way."""

from __future__ import annotations

import errno
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings

from burnish.cli import main as cli
from burnish.cli import run_commands
from burnish.cli.endings import ending_of
from burnish.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1] / "config"))
from recipe_inputs import overrides

from contract import Tally

TINY = str(Path(__file__).parents[2] / "recipes" / "tiny.yaml")


class Reached(Exception):
    """A run that would have begun."""


def typed(*arguments: str) -> tuple[int, str]:
    """Exit code and what stands on standard error."""
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            typer, "echo", lambda text="", err=False, **_: lines.append(str(text)) if err else None
        )
        try:
            cli.main(list(arguments))
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else 1, "\n".join(lines)
    return 0, "\n".join(lines)


def drawn_overrides(count: int) -> Tally:
    tally, folder = Tally("overrides"), Path(tempfile.mkdtemp())

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=count,
        suppress_health_check=list(HealthCheck),
    )
    @given(overrides())
    def hold(override: str) -> None:
        def attempt() -> None:
            try:
                code, told = typed("run", TINY, "--out", str(folder / "out"), "--", override)
            except Reached:
                return
            assert not (folder / "out").exists(), "a folder was made"
            assert code == 2, f"exit code {code}"
            assert told.startswith("burnish: ")
            raise UserError(told)

        tally.hold(override, attempt, lines=6)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_commands, "run_recipe", _reach)
        hold()
    return tally


def _reach(*_: Any, **__: Any) -> None:
    raise Reached


def test_overrides_are_taken_or_refused_in_a_line(record_property: Callable[[str, object], None]):
    tally = drawn_overrides(300)
    print(tally)
    record_property("rate", str(tally))
    assert tally.broken == []
    assert tally.counts["accepted"] > 10


@pytest.mark.parametrize(
    "out", ["file", "file/below", "/proc/x", "/dev/null/x", "a" * 300, "", " ", "a\nb", "a\0b"]
)
def test_a_folder_that_cannot_be_is_one_line(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    for option in ("--out", "--fork"):
        code, told = typed("run", TINY, option, out, "stages=[sft]", "--quiet")
        assert (code, len(told.splitlines())) == (2, 1), told
        assert told.startswith("burnish: ")
        assert Path("file").read_text() == "kept"
        assert {path.name for path in tmp_path.iterdir()} <= {"file", "runs"}


def test_a_seed_of_21_digits_is_refused_with_the_range(tmp_path: Path):
    code, told = typed("run", TINY, "--out", str(tmp_path / "out"), "seed=100000000000000000000")
    assert code == 2
    assert "from 0 to 9223372036854775807, given 100000000000000000000." in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat", "tiny", "--seed", "100000000000000000000"],
        ["chat", "tiny", "--seed", "-1"],
        ["chat", "tiny", "--temperature", "nan"],
        ["chat", "tiny", "--temperature", "inf"],
        ["chat", "tiny", "--max-new-tokens", "0"],
        ["chat", "tiny", "--max-new-tokens", "99999999999"],
        ["plan", TINY, "--wage", "nan"],
        ["plan", TINY, "--gpu-memory", "inf"],
        ["plan", TINY, "--gpus", "99999999999"],
        ["revise", "x", "y", "--temperature", "nan"],
    ],
)
def test_numbers_of_commands_have_ranges_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
):
    assert typed(*arguments)[0] == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (UserError("no.", file="a"), 2, "burnish: a: no."),
        (KeyboardInterrupt(), 130, "stopped. Run the same command again"),
        (MemoryError(), 1, "the memory is not enough"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            1,
            "the memory is not enough",
        ),
        (RecursionError("maximum recursion depth exceeded"), 1, "--traceback"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "a/b: the system says: No space left on device.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a\nb"),
            2,
            r"a\nb: the system says: Permission denied.",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
            2,
            "x: the system says: No such file",
        ),
    ],
)
def test_what_ends_a_command_is_one_line_and_a_code(error: BaseException, code: int, told: str):
    ending = ending_of(error)
    assert ending is not None
    assert told in ending[0]
    assert ending[1] == code
    assert len(ending[0].strip().splitlines()) == 1


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), RuntimeError("x"), OSError("x"), SystemExit(3)]
)
def test_a_fault_of_ours_keeps_its_traceback(error: BaseException):
    assert ending_of(error) is None


@pytest.mark.parametrize(
    "end",
    [typer.Exit(0), typer.Abort(), MemoryError(), RecursionError(), OSError(errno.ENOSPC, "full")],
)
def test_a_run_that_is_ended_from_inside_never_exits_with_0(
    end: BaseException, monkeypatch: pytest.MonkeyPatch
):
    def run(*_: Any, **__: Any) -> None:
        raise end

    monkeypatch.setattr("burnish.stages.run.run", run)
    code, told = typed("run", TINY, "--quiet")
    assert code in (1, 2)
    assert len(told.strip().splitlines()) == 1
