"""Python that a user names in a recipe, by dotted path or by file: rewards, environments, kinds of
stages, losses. Torch-free."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from burnish.errors import UserError

_loaded: dict[str, tuple[tuple[int, int], ModuleType]] = {}
"""Modules that were made of files, by path, each with the time and size of the file that it was
made of."""


def split(path: str) -> tuple[str, str]:
    """(module or file, name in it) of `package.module:name`, `package.module.name` or
    `folder/file.py:name`."""
    place, _, name = path.rpartition(":") if ":" in path else path.rpartition(".")
    return place, name


def own(path: str, *, field: str, fresh: bool = True) -> Any:
    """What stands at `package.module:name`, `package.module.name` or `folder/file.py:name`.

    `fresh`: a file is run again, though it was before. Raises UserError, naming the recipe's
    `field`, that says what could not be found, with the names that there are.
    """
    place, name = split(path)
    if not place or not name:
        raise UserError(
            f'"{path}" names no function.', field=field, hint="Write package.module:function."
        )
    module = module_at(place, field=field, fresh=fresh)
    try:
        return getattr(module, name)
    except AttributeError:
        public = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        problem = f'{place} has no "{name}"; it has {", ".join(public[:12]) or "no functions"}.'
        raise UserError(problem, field=field) from None


def module_at(place: str, *, field: str, fresh: bool = True) -> ModuleType:
    """The module of a dotted path, or of a file. Raises UserError, naming the recipe's `field`, if
    it cannot be had."""
    if not place.endswith(".py"):
        return _module(place, field)
    path = Path(place).expanduser()
    if not path.is_file():
        raise UserError("there is no such file.", file=path, field=field)
    key, stat = str(path.resolve()), path.stat()
    state = (stat.st_mtime_ns, stat.st_size)
    known = _loaded.get(key)
    if fresh or known is None or known[0] != state:
        known = _loaded[key] = (state, _file_module(path))
    return known[1]


def file_of(path: str) -> Path | None:
    """The file that the code at `package.module:name` or `folder/file.py:name` stands in, without
    running it; None: unknown."""
    place, _ = split(path)
    if place.endswith(".py"):
        found = Path(place).expanduser()
    else:
        _find_beside()
        try:
            spec = importlib.util.find_spec(place)
        except (ImportError, ValueError):
            return None
        if spec is None or spec.origin is None:
            return None
        found = Path(spec.origin)
    return found if found.is_file() else None


def in_words(error: BaseException) -> str:
    """What an error of a user's code says, on one line."""
    if isinstance(error, SystemExit):
        return f'exit({error.code!r}): put what a program does behind `if __name__ == "__main__"`'
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _find_beside() -> None:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # as `python -m` does: a module beside the recipe is found


def _module(name: str, field: str) -> ModuleType:
    _find_beside()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        hint = "Run from the folder that holds it, or give path/to/file.py:function."
        raise UserError(f'there is no module "{error.name}".', field=field, hint=hint) from error
    except (Exception, SystemExit) as error:
        raise UserError(f"importing {name} raised {in_words(error)}.", field=field) from error


def _file_module(path: Path) -> ModuleType:
    name = f"burnish_own_{path.stem}_{blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"  # noqa: E501
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("is no Python file that can be imported.", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"importing it raised {in_words(error)}.", file=path) from error
    return module
