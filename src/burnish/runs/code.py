"""What code a stage can reach, from the package's own import statements, and a hash of it that
comments do not change.

Nobody keeps a list: a module's reach is what it imports, what that imports, and so on, lazy imports
included, and what it names in a text of its own ("burnish.rewards.maths_worker"), as one does to
run a module in another process. Imports for type checkers only are left out, since they never run.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

_UNSEEN = ("_version",)
"""Modules whose lines change no number."""


class Code:
    """The sources of one package, each read once.

    Args:
        package: the package's folder.
    """

    def __init__(self, package: Path) -> None:
        self._package = package
        self._direct: dict[str, frozenset[str]] = {}
        self._hashes: dict[str, str] = {}

    @cached_property
    def modules(self) -> Mapping[str, Path]:
        """Every module by its dotted name within the package ("runs.code"); a package's own module
        is named as its folder."""
        found = {}
        for path in sorted(self._package.rglob("*.py")):
            parts = path.relative_to(self._package).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            if name:  # the root hands names on, and importing it would reach everything
                found[name] = path
        return found

    def reach(self, module: str) -> frozenset[str]:
        """`module` and everything of the package that it imports, however far down. Raises KeyError
        for an unknown module."""
        reached, waiting = {module}, [module]
        while waiting:
            new = self.imports(waiting.pop()) - reached
            reached |= new
            waiting += new
        return frozenset(reached)

    def imports(self, module: str) -> frozenset[str]:
        """What of the package a module imports, or names to run it, itself."""
        self._read(module)
        return self._direct[module]

    def hash_of(self, module: str) -> str:
        """SHA-256 of what a module does: of its syntax tree without comments, docstrings and
        layout."""
        self._read(module)
        return self._hashes[module]

    def hashes(self, module: str) -> dict[str, str]:
        """The hash of every module that `module` reaches, by name."""
        return {name: self.hash_of(name) for name in sorted(self.reach(module))}

    def hashes_from(self, path: Path) -> dict[str, str]:
        """The hash of every module that a file outside of the package reaches, by name."""
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {name for node in _running(tree) for name in self._named(node, "")} - set(_UNSEEN)
        reached = frozenset[str]().union(*(self.reach(name) for name in named))
        return {name: self.hash_of(name) for name in sorted(reached)}

    def _read(self, module: str) -> None:
        if module in self._hashes:
            return
        tree = ast.parse(self.modules[module].read_text(encoding="utf-8"))
        named = {name for node in _running(tree) for name in self._named(node, module)}
        self._direct[module] = frozenset(named - {module, *_UNSEEN})
        self._hashes[module] = hashlib.sha256(ast.dump(_without_strings(tree)).encode()).hexdigest()

    def _named(self, node: ast.AST, module: str) -> Iterator[str]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from self._inside(node.value)
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from self._inside(alias.name)
        if isinstance(node, ast.ImportFrom):
            place = self._absolute(node, module)
            for alias in node.names:
                whole = list(self._inside(f"{place}.{alias.name}"))
                yield from whole or self._inside(place)

    def _absolute(self, node: ast.ImportFrom, module: str) -> str:
        """The dotted name behind `from`, with the dots of a relative import resolved."""
        if not node.level or not module:
            return node.module or ""
        is_package = self.modules[module].name == "__init__.py"
        parts = [self._package.name, *module.split(".")]
        above = parts[: len(parts) - node.level + is_package]
        return ".".join([*above, *([node.module] if node.module else [])])

    def _inside(self, name: str) -> Iterator[str]:
        root, _, inner = name.partition(".")
        if root == self._package.name and inner in self.modules:
            yield inner


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a module but those that only a type checker sees."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)


def _without_strings(tree: ast.AST) -> ast.AST:
    """The tree without statements that are a text alone: docstrings of modules, classes, functions
    and attributes."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list):
                setattr(node, name, [one for one in statements if not _is_text(one)])
    return tree


def _is_text(statement: ast.AST) -> bool:
    constant = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)
