r"""Where in a completion its answer stands. Pure, and linear in the length of the text.

The first of these that the text holds, and of that kind the last occurrence:
1. \boxed{...} (or \fbox{...}), braces balanced;
2. <answer>...</answer>;
3. "####" and an answer: GSM8K's mark, on the last line that is not empty, or in front of nothing
   but a number. A heading ("#### Step 1") is none;
4. what a statement says ("Answer: C", "the answer is $[0, 1)$"), where the right answer is no
number (`words`);
5. the last number: with sign, thousands separators, decimals, a fraction bar, a currency sign
   before or a per cent after it; \frac{a}{b} of whole numbers, a clock time (7:30), a ratio (3:4)
   and a date (5/3/2024) count as one number.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Place = Literal["boxed", "answer", "####", "statement", "number"]

_BOX = re.compile(r"\\(?:boxed|fbox)(\s*)")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"[^\s$]+")
_NUMBER = re.compile(
    r"""(?<![\w.]) [-−–+]? [$€£¥₹]? \s?
    (?: \\[dt]?frac\{-?\d++\}\{\d++\}
      | (?: (?P<digits> \d++ (?: [,'’]\d++ )*+ ) (?:\.\d++)?+ | \.\d++ )
        (?: \s?/\s?\d++ | :\d++ )*+ (?:[eE][-+]?\d++)?+ [½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]?
      | [½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞] )
    (?P<glued>[A-Z0-9])? (?: \s?\\?% | \s?[aApP]\.?[mM]\b\.? )?""",
    re.VERBOSE,
)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}|\d{1,3}(?:['’]\d{3})+")
_PLAIN_RESULT = re.compile(r"[-−–+]?\s*[$€£₹]?\s*[\d.,/]+\s*%?\.?")
_HEADING = re.compile(
    r"(?:step|part|case|question|problem|solution|example|note|section)\b|\d+[.)]\s", re.IGNORECASE
)
_REASON = re.compile(r"\s*[,;(]|\s+(?:and that|which|because|since|as|for|after|in total|so)\b")
_STATEMENT = re.compile(
    r"(?:\b(?:answer|option|choice|solution)\b\**\s*(?:is|would be|must"
    r" be|:|=)+|\b(?:choose|pick|select)\b)"
    r"[\s:*]*(?:option\s+|choice\s+)?([^\n]+)",
    re.IGNORECASE,
)
_OPENING_CHOICE = re.compile(
    r"[\s*$\\]*(?:text(?:bf|it|rm)?\{|mathrm\{|mathbf\{)?[\s*]*\(?([A-Ja-j])(?:\)|(?!\))\b(?!['’]))(?!\}?\s*(?:or|and)\s+\(?[A-Ja-j]\b)(?!\s+[a-z])"
)
_LONE_CHOICE = re.compile(r"[*\s]*\(?([A-J])\)?[.*\s]*")
_MARKED_CHOICE = re.compile(r"\(([A-J])\)")
_STOP = re.compile(r"(?<=[^\s.])\.(?=\s|$)")


class Found(NamedTuple):
    """An answer and by which rule it was found."""

    text: str
    place: Place


def extract(text: str, *, words: bool = False) -> Found | None:
    """The completion's answer by the rule above; None where there is none. `words`: the right
    answer is no number."""
    box = boxed(text)
    if box is not None:
        return Found(box.strip(), "boxed") if box.strip() else None
    inside = tagged(text)
    if inside is not None:
        return Found(inside.strip(), "answer") if inside.strip() else None
    marked = hashed(text)
    if marked is not None:
        return Found(marked, "####")
    said = statement(text) if words else None
    if said is not None:
        return Found(said, "statement")
    number = last_number(text)
    return None if number is None else Found(number, "number")


def boxed(text: str) -> str | None:
    r"""The content of the last \boxed{...} whose braces close and that holds something; also of
    `\boxed 5`. "" where all that close are empty, None where there is none."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    closing = _closing_braces(text, boxes[0].start())
    empty: str | None = None
    for match in reversed(boxes):
        start = match.end()
        if text[start : start + 1] != "{":
            rest = _BARE.match(text, start)
            if rest and match[1]:
                return rest.group()
        elif start in closing:
            content = text[start + 1 : closing[start]]
            if content.strip():
                return content
            empty = ""  # a box that is spoken of, behind the one that is meant
    return empty


def tagged(text: str) -> str | None:
    """The content of the last <answer>...</answer>; None where there is none."""
    before, closed, _ = text.rpartition("</answer>")
    _, opened, inside = before.rpartition("<answer>")
    return inside if closed and opened else None


def hashed(text: str) -> str | None:
    """What stands behind the last "####" that marks an answer; None where there is none."""
    text = text.rstrip()
    if text.endswith("####"):
        text = text.rstrip("# \t\r\n")
    before, mark, after = text.rpartition("####")
    if not mark or before.endswith("#"):
        return None
    line, _, rest = after.partition("\n")
    content = line.strip().strip("*").strip()
    if _PLAIN_RESULT.fullmatch(content):
        return content
    if rest.strip() or _HEADING.match(content):
        return None
    number = _NUMBER.match(content)
    if number and not number["glued"] and _REASON.match(content, number.end()):
        return number.group().strip()
    return content


def statement(text: str) -> str | None:
    """What the last sentence of the form "the answer is ..." says, to the end of the sentence; None
    without one."""
    statements = (
        list(_STATEMENT.finditer(line[-2000:])) for line in reversed(text.splitlines()[-200:])
    )
    last = next((found[-1] for found in statements if found), None)
    if last is None:
        return None
    said = _STOP.split(last[1], maxsplit=1)[0].strip()
    return said.strip("*").strip() or None


def last_choice(text: str) -> str | None:
    """The letter of choice that a text ends in: stated ("the answer is (C)"), alone on the last
    line, or the last "(C)" of it."""
    said = statement(text)
    opening = _OPENING_CHOICE.match(said) if said is not None else None
    if opening is not None:
        return opening[1].upper()
    line = text.rstrip().rpartition("\n")[2].strip()[-300:]
    alone = _LONE_CHOICE.fullmatch(line)
    if alone is not None:
        return alone[1].upper()
    marked = _MARKED_CHOICE.findall(line)
    return marked[-1] if marked else None


def last_number(text: str) -> str | None:
    """The last number in a text, as it is written there."""
    plain = text.replace("**", "  ").replace("\\$", " $")
    last = None
    for match in _NUMBER.finditer(plain):
        if not match["glued"]:
            last = match
    if last is None:
        return None
    digits = last["digits"]
    if digits is None or digits.isdigit() or _GROUPED.fullmatch(digits):
        return last.group().strip()
    cut = max(digits.rfind(mark) for mark in ",'’")  # "3,4" is two numbers
    return plain[last.start("digits") + cut + 1 : last.end()].strip()


def _closing_braces(text: str, start: int) -> dict[int, int]:
    """Where each brace from `start` on closes: {place of the opening one: of the closing one}.
    Escaped ones are none."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACE.finditer(text, start):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing
