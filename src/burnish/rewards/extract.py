r"""Where in a completion its answer stands. Pure.

The first of these that the text holds, and of that kind the last occurrence:
1. \boxed{...} (or \fbox{...}), braces balanced;
2. <answer>...</answer>;
3. "####", to the end of its line;
4. the last number: with sign, thousands separators, decimals, a fraction bar, a currency sign before or a per cent after it;
   \frac{a}{b} of whole numbers counts as a number.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Place = Literal["boxed", "answer", "####", "number"]

_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""(?<![\w.]) [-−+]? [$€£¥]? \s?
    (?: \\[dt]?frac\{{-?\d+\}}\{{\d+\}} | (?:{_DIGITS}) (?:\s?/\s?\d+(?![\d/]))? (?:[eE][-+]?\d+)? ) (?![A-Z0-9])
    (?:\s?\\?%)?""",
    re.VERBOSE,
)


class Found(NamedTuple):
    """An answer and by which rule it was found."""

    text: str
    place: Place


def extract(text: str) -> Found | None:
    """The completion's answer by the rule above; None where there is none."""
    box = boxed(text)
    if box is not None:
        return Found(box.strip(), "boxed") if box.strip() else None
    tagged = _ANSWER.findall(text)
    if tagged:
        return Found(tagged[-1].strip(), "answer") if tagged[-1].strip() else None
    hashes = [found.strip() for found in _HASHES.findall(text) if found.strip()]
    if hashes:
        return Found(hashes[-1], "####")
    number = last_number(text)
    return None if number is None else Found(number, "number")


def boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...} whose braces close; also of `\boxed 5`. None where there is none."""
    for match in reversed(list(_BOX.finditer(text))):
        start = match.end()
        if text[start : start + 1] != "{":
            rest = re.match(r"[^\s$]+", text[start:])
            if rest and match.group().endswith(" "):
                return rest.group()
            continue
        depth = 0
        for place in range(start, len(text)):
            escaped = text[place - 1] == "\\"
            depth += (text[place] == "{" and not escaped) - (text[place] == "}" and not escaped)
            if depth == 0:
                return text[start + 1 : place]
    return None


def last_number(text: str) -> str | None:
    """The last number in a text, as it is written there."""
    plain = text.replace("**", " ").replace("\\$", "$")
    found = [match.group().strip() for match in _NUMBER.finditer(plain)]
    return found[-1] if found else None
