"""Comparing what a program printed with what it should have. Pure; runs outside the sandbox."""

from __future__ import annotations


def normalized(output: bytes | str) -> str:
    r"""Output as it is compared: UTF-8, line ends as "\n", no white space at line ends, no empty
    lines at the end.

    Everything else counts: the number of lines, white space inside a line or at its start, upper
    and lower case, and how a number is written. Bytes that are no UTF-8 become U+FFFD, which no
    expected output holds.
    """
    text = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return "\n".join(lines)


def same_output(found: bytes | str, expected: str) -> bool:
    """Whether the whole of `found` is `expected`, both normalized."""
    return normalized(found) == normalized(expected)
