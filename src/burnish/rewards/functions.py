"""Rewards that are a user's Python function, named by dotted path or by file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from burnish.errors import UserError
from burnish.own_code import in_words, own, split


def check_function(path: str) -> Any:
    """What stands at `package.module:name`, `package.module.name` or `folder/file.py:name`, imported and not called.

    Raises UserError saying what could not be found, with the nearest names.
    """
    found, (place, name) = own(path, field="rewards.function"), split(path)
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
    found, (place, name) = check_function(path), split(path)
    if isinstance(found, type):
        try:
            found = found()
        except TypeError as error:
            raise UserError(f'the class "{name}" cannot be made without arguments ({error}).', file=place) from error
        except (Exception, SystemExit) as error:
            raise UserError(f'making the class "{name}" raised {in_words(error)}.', file=place) from error
    if not callable(getattr(found, "judge", found)):
        raise UserError(f'"{name}" is {type(found).__name__}, which cannot be called.', file=place)
    return found
