"""Rewards that are a user's Python function, named by dotted path or by file."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from burnish.errors import UserError


def check_function(path: str) -> Any:
    """What stands at `package.module:name`, `package.module.name` or `folder/file.py:name`, imported and not called.

    Raises UserError saying what could not be found, with the nearest names.
    """
    place, _, name = path.rpartition(":") if ":" in path else path.rpartition(".")
    if not place or not name:
        raise UserError(f'"{path}" names no function.', field="rewards.function", hint="Write package.module:function.")
    module = module_at(place, field="rewards.function")
    try:
        found = getattr(module, name)
    except AttributeError:
        public = [n for n in vars(module) if callable(getattr(module, n)) and not n.startswith("_")]
        problem = f'{place} has no "{name}"; it has {", ".join(public[:12]) or "no functions"}.'
        raise UserError(problem, field="rewards.function") from None
    if isinstance(found, type):
        _check_class(found, name, place)
    elif not callable(getattr(found, "judge", found)):
        raise UserError(f'"{name}" is {type(found).__name__}, which cannot be called.', file=place)
    return found


def _check_class(found: type, name: str, place: str) -> None:
    """Raise UserError for a class that no reward can be made of; it is not made here, which may take its time."""
    if not any(part in vars(base) for base in found.__mro__ for part in ("__call__", "judge")):
        raise UserError(f'the class "{name}" has no __call__, so it is no reward.', file=place)
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise UserError(f'the class "{name}" cannot be made without arguments ({error}).', file=place) from error
    except ValueError:  # it does not say what it takes
        return


def find_function(path: str) -> Callable[..., Any]:
    """The reward at `package.module:name`, `package.module.name` or `folder/file.py:name`; a class is called without arguments.

    Raises UserError saying what could not be found, with the nearest names.
    """
    found, (place, _, name) = check_function(path), path.rpartition(":") if ":" in path else path.rpartition(".")
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UserError(f'the class "{name}" cannot be made without arguments ({error}).', file=place) from error
        except (Exception, SystemExit) as error:
            raise UserError(f'making the class "{name}" raised {_said(error)}.', file=place) from error
    if not callable(getattr(found, "judge", found)):
        raise UserError(f'"{name}" is {type(found).__name__}, which cannot be called.', file=place)
    return found


def module_at(place: str, *, field: str) -> ModuleType:
    """The module of a dotted path, or of a file. Raises UserError, naming the recipe's `field`, if it cannot be had."""
    return _file_module(Path(place).expanduser(), field) if place.endswith(".py") else _module(place, field)


def file_of(path: str) -> Path | None:
    """The file that the code at `package.module:name` or `folder/file.py:name` stands in, without running it; None: unknown."""
    place, _, _ = path.rpartition(":") if ":" in path else path.rpartition(".")
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
        raise UserError(f"importing {name} raised {_said(error)}.", field=field) from error


def _said(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f'exit({error.code!r}): put what a program does behind `if __name__ == "__main__"`'
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _file_module(path: Path, field: str) -> ModuleType:
    if not path.is_file():
        raise UserError("there is no such file.", file=path, field=field)
    name = f"burnish_reward_{path.stem}_{blake2b(str(path.resolve()).encode(), digest_size=4).hexdigest()}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError("is no Python file that can be imported.", file=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UserError(f"importing it raised {_said(error)}.", file=path) from error
    return module
