"""Every code block of README and docs, verbatim: Python is run, recipes are loaded, command lines
are read by the real CLI.

A block that cannot be run is marked in the source by a comment on the line before it, `<!-- not
run: why -->`, and counted.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command

import burnish
from burnish.cli.main import app, main

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^\n]+?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _blocks(language: str | None = None) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("text"))
            found.append(Block(page.name, line, match["language"], match["text"], match["reason"]))
    return [block for block in found if language in (None, block.language)]


def test_every_block_says_its_language_and_few_are_not_run():
    blocks = _blocks()
    assert len(blocks) >= 12
    assert {block.language for block in blocks} <= {"python", "sh", "toml", "yaml"}
    assert len([block for block in blocks if block.reason]) <= 1
    fences = sum(page.read_text(encoding="utf-8").count("\n```") for page in PAGES)
    assert fences == 2 * len(blocks)  # none escapes the pattern


@pytest.mark.parametrize("block", _blocks("python"), ids=str)
def test_python_runs(block: Block, tmp_path: Path):
    compile(block.text, str(block), "exec")
    if block.reason:
        return
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(burnish.__file__).parents[1]),
        },
    )
    last = (done.stderr.splitlines() or [""])[-1]
    if "the tier " in last and "is not available" in last:
        pytest.skip(last)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("block", _blocks("toml"), ids=str)
def test_tables_are_read(block: Block):
    assert tomllib.loads(block.text)


@pytest.mark.parametrize("block", _blocks("yaml"), ids=str)
def test_recipes_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for other in _blocks("python"):
        named = re.match(r"# (\w+\.py)\n", other.text)
        if named and other.page == block.page:  # a recipe names the files that its page shows
            (tmp_path / named[1]).write_text(other.text, encoding="utf-8")
    for number, text in enumerate(block.text.split("---\n")):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text, encoding="utf-8")
        burnish.load(path)


def _commands() -> list[tuple[str, list[str]]]:
    found = []
    for block in _blocks("sh"):
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            if words:
                found.append((f"{block.page}: {line.split('#')[0].strip()}", words))
    return found


@pytest.mark.parametrize(
    "words", [words for _, words in _commands()], ids=[name for name, _ in _commands()]
)
def test_command_lines_are_read(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(ROOT)
    program, *arguments = words
    if program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "burnish"
    command = get_command(app)
    context = command.make_context("burnish", list(arguments), resilient_parsing=False)
    rest = [*context._protected_args, *context.args]
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, rest)  # type: ignore[attr-defined]
        context = command.make_context(name, rest, parent=context)
        rest = [*context._protected_args, *context.args]
    if arguments[0] == "run":
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "--dry-run"])
        assert not ended.value.code
        assert "stages:" in capsys.readouterr().out
