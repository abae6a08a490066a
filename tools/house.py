"""The size and the style of the package, as one table: `python tools/house.py [FOLDER]`. `make
check` prints it.

It counts what the house rules speak of (docs/architecture.md, "The house in figures"), so that a
change for the worse is seen.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "src" / "burnish"
LONG_FUNCTION, LONG_LINE = 60, 100
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Module(NamedTuple):
    """A file of the package, read and parsed."""

    path: Path
    lines: list[str]
    tree: ast.Module


def modules(folder: Path) -> list[Module]:
    """The Python files below a folder, in order of their names."""
    texts = ((path, path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py")))
    return [Module(path, text.splitlines(), ast.parse(text)) for path, text in texts]


def rows(found: list[Module]) -> Iterator[tuple[str, str]]:
    """(what is counted, how much of it there is)."""
    lengths = [len(module.lines) for module in found]
    nodes = [node for module in found for node in ast.walk(module.tree)]
    thousands = sum(lengths) / 1000
    largest = max(found, key=lambda module: len(module.lines))
    long_functions = [
        node for node in nodes if isinstance(node, _FUNCTIONS) and _length(node) > LONG_FUNCTION
    ]
    long_lines = sum(len(line) > LONG_LINE for module in found for line in module.lines)
    conditional = sum(isinstance(node, ast.IfExp) for node in nodes)
    comprehensions = sum(isinstance(node, _COMPREHENSIONS) for node in nodes)
    yield "files", f"{len(found)}"
    yield "lines", f"{sum(lengths):,}"
    yield "median file, lines", f"{median(lengths):.0f}"
    yield "largest file, lines", f"{len(largest.lines)} ({largest.path.stem})"
    yield f"functions over {LONG_FUNCTION} lines", f"{len(long_functions)}"
    yield f"lines over {LONG_LINE} columns", f"{long_lines:,}"
    yield "conditional expressions, a thousand lines", f"{conditional / thousands:.0f}"
    yield "comprehensions, a thousand lines", f"{comprehensions / thousands:.0f}"
    yield "public class names that occur twice", f"{len(_twice(found))}"


def _length(node: ast.AST) -> int:
    return (getattr(node, "end_lineno", None) or 0) - getattr(node, "lineno", 0) + 1


def _twice(found: list[Module]) -> list[str]:
    """Names of public classes that stand in more than one file."""
    names = Counter(
        node.name
        for module in found
        for node in module.tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    return sorted(name for name, count in names.items() if count > 1)


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    for what, figure in rows(modules(folder)):
        print(f"{what:44}{figure}")


if __name__ == "__main__":
    main()
