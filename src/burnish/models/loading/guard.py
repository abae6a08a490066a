"""What transformers, PEFT and tokenizers raise on a damaged file is of any kind: here it becomes
one line for the user."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from burnish.errors import UserError

_LONGEST = 300  # characters of another library's message


@contextmanager
def one_line(problem: str, *, file: Path, hint: str | None = None) -> Iterator[None]:
    """Turns whatever another library raises while it reads a user's file into a UserError; its
    first words stand in it.

    Want of memory is not the file's fault and passes through, as does Ctrl-C.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        raise UserError(f"{problem} ({brief(error)}).", file=file, hint=hint) from error
    except BaseException as error:
        if (
            type(error).__name__ != "PanicException"
        ):  # what a panic in a library written in Rust becomes
            raise
        raise UserError(f"{problem} ({brief(error)}).", file=file, hint=hint) from error


def brief(error: BaseException) -> str:
    """An error of another library in one line."""
    text = " ".join(str(error).split()).rstrip(".")
    if not text:
        return type(error).__name__
    if isinstance(error, KeyError | AttributeError | IndexError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


@contextmanager
def quiet() -> Iterator[None]:
    """transformers' tables, bars and warnings are not shown: what matters in them is checked and
    said by Burnish."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(before)
