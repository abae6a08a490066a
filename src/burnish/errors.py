"""Errors meant for the person at the keyboard: one line that says what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path


class UserError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with code 2.

    The message is `FILE, row N, field "F": what is wrong. What to do.`; parts that are not given are left out.
    """

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        self.problem, self.file, self.row, self.field, self.hint = problem, file, row, field, hint
        where = [str(file)] if file is not None else []
        if row is not None:
            where.append(f"row {row}")
        if field is not None:
            where.append(f'field "{field}"')
        text = f"{', '.join(where)}: {problem}" if where else problem
        super().__init__(f"{text} {hint}" if hint else text)
