"""Rewards that are a user's Python function, named by dotted path or by file."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

from burnish.errors import UserError
from burnish.own_code import in_words, own, split

OBJECT = "object:"
"""Begins the name of a function that a Python program handed over itself."""
_handed_over: dict[str, Callable[..., Any]] = {}


def hand_over(name: str, function: Callable[..., Any]) -> str:
    """Name a function of this process, so that a recipe can; the newest of one name counts. Returns
    `object:NAME`."""
    _handed_over[name] = function
    return f"{OBJECT}{name}"


def check_function(path: str) -> Any:
    """What stands at `package.module:name`, `package.module.name` or `folder/file.py:name`,
    imported and not called; or what was handed over as `object:name`.

    Raises UserError saying what could not be found, with the nearest names.
    """
    if path.startswith(OBJECT):
        return _handed(path)
    found, (place, name) = own(path, field="rewards.function"), split(path)
    if isinstance(found, type):
        _check_class(found, name, place)
    elif not callable(getattr(found, "judge", found)):
        raise UserError(f'"{name}" is {type(found).__name__}, which cannot be called.', file=place)
    return found


def _handed(path: str) -> Callable[..., Any]:
    name = path.removeprefix(OBJECT)
    if name not in _handed_over:
        raise UserError(
            f'the function "{name}" was given by a Python program, and is not here.',
            field="rewards.function",
            hint=(
                "Run that program again, or put the function into a file and write"
                " path/to/file.py:function."
            ),
        )
    return _handed_over[name]


def code_of(path: str) -> str | None:
    """What a function that was handed over does, as text to be hashed: its source, or its compiled
    code where the source cannot be had, with the values that it holds on to. None for any other
    path, and where no such function is here."""
    function = _handed_over.get(path.removeprefix(OBJECT)) if path.startswith(OBJECT) else None
    return None if function is None else _code(function)


def _code(function: Any) -> str:
    if hasattr(function, "func") and hasattr(function, "keywords"):  # functools.partial
        return f"{_code(function.func)} {function.args!r} {function.keywords!r}"
    if not isinstance(function, type) and not inspect.isroutine(
        function
    ):  # an object that can be called
        return (
            f"{_code(type(function))}"
            f" {_plain(vars(function) if hasattr(function, '__dict__') else {})}"
        )
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        compiled = getattr(function, "__code__", None)
        text = repr(function) if compiled is None else _compiled(compiled)
    held = dict(
        enumerate(cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
    )
    return f"{text} {_plain(held)} {_plain(getattr(function, '__kwdefaults__', None) or {})}"


def _compiled(code: CodeType) -> str:
    """What code does, without where it stands in memory."""
    inner = [_compiled(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {inner}"


def _plain(values: Mapping[Any, Any]) -> str:
    """The numbers and texts among some values; of the rest, such as models, only their types."""
    shown = {
        str(name): (
            value if isinstance(value, str | int | float | bool | None) else type(value).__name__
        )
        for name, value in values.items()
    }
    return repr(sorted(shown.items()))


def _check_class(found: type, name: str, place: str) -> None:
    """Raise UserError for a class that no reward can be made of; it is not made here, which may
    take its time."""
    if not any(part in vars(base) for base in found.__mro__ for part in ("__call__", "judge")):
        raise UserError(f'the class "{name}" has no __call__, so it is no reward.', file=place)
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise UserError(
            f'the class "{name}" cannot be made without arguments ({error}).', file=place
        ) from error
    except ValueError:  # it does not say what it takes
        return


def find_function(path: str) -> Callable[..., Any]:
    """The reward at `package.module:name`, `package.module.name` or `folder/file.py:name`; a class
    is called without arguments.

    Raises UserError saying what could not be found, with the nearest names.
    """
    found, (place, name) = check_function(path), split(path)
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UserError(
                f'the class "{name}" cannot be made without arguments ({error}).', file=place
            ) from error
        except (Exception, SystemExit) as error:
            raise UserError(
                f'making the class "{name}" raised {in_words(error)}.', file=place
            ) from error
    if not callable(getattr(found, "judge", found)):
        raise UserError(f'"{name}" is {type(found).__name__}, which cannot be called.', file=place)
    return found
