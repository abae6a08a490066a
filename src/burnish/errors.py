"""Errors meant for the person at the keyboard: one line that says what is wrong, where, and what to
do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

_NAME = 60  # characters of a name or a value from somebody's file
_FIELD = 160  # of the place of a value
_FILE = 400  # of a path
_TEXT = 1000  # of a problem, of a hint


class UserError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with code 2.

    The message is `FILE, row N, field "F": what is wrong. What to do.`; parts that are not given
    are left out. It stays one line of a readable length whatever names and values from somebody's
    files stand in it (`shown`).
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.hint = (
            shown(problem, _TEXT),
            None if hint is None else shown(hint, _TEXT),
        )
        self.file, self.row, self.field = file, row, field
        where = [shown(str(file), _FILE)] if file is not None else []
        if row is not None:
            where.append(f"row {row}")
        if field is not None:
            where.append(f'field "{shown(field, _FIELD)}"')
        text = f"{', '.join(where)}: {self.problem}" if where else self.problem
        super().__init__(f"{text} {self.hint}" if self.hint else text)

    @classmethod
    def several(cls, errors: Sequence[UserError], *, more: int = 0) -> UserError:
        """One error of several, a line each; `more`: how many there are beside them."""
        told = cls("several things are wrong")
        told.problem = "\n".join([*map(str, errors), *([f"and {more} more"] if more else [])])
        told.args = (told.problem,)
        return told

    def followed_by(self, text: str) -> UserError:
        """The same error with lines of our own making behind it, for somebody to copy."""
        told = UserError(
            self.problem, file=self.file, row=self.row, field=self.field, hint=self.hint
        )
        told.args = (f"{self}\n{text}",)
        return told


def shown(text: str, longest: int = _NAME) -> str:
    """Text from somebody's file for a message: on one line, at most `longest` characters, its
    middle left out ("...").

    Line breaks, control characters, halves of surrogate pairs and what else has no visible form of
    its own are escaped.
    """
    if len(text) > longest:
        text = _cut(text, longest)  # before it is escaped: it may be a whole file
    if not text.isprintable():
        text = "".join(
            c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
        )
    return _cut(text, longest)


def listed(names: Iterable[object], *, longest: int = 500) -> str:
    """Names for a message, "a, b, c": each as `shown` shows it, and beyond `longest` characters
    only their number."""
    told: list[str] = []
    names = [str(name) for name in names]
    room = longest
    for name in names:
        told.append(shown(name))
        room -= len(told[-1]) + 2
        if room < 0 and len(told) > 1:
            told.pop()
            break
    more = len(names) - len(told)
    return (", ".join(told) or "none") + (f" and {more:,} more" if more else "")


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tail = (longest - 3) // 3
    return f"{text[: longest - 3 - tail]}...{text[len(text) - tail :]}"
