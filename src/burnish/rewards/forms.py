r"""Answers that look like arithmetic and are none: clock times, dates, ratios, congruences, lists
with dots. Pure.

A computer algebra system reads 4:00 as a division by zero and drops the dots from "1, 2, \ldots,
n". Here each form is read as what it is, and two forms of one kind are compared by their own rule;
an answer of another kind is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from burnish.rewards.numbers import read_number

Kind = Literal["time", "date", "ratio", "congruence", "dots", "range"]

_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(a\.?m\.?|p\.?m\.?)?(?:\s*o'clock)?", re.IGNORECASE
)
_POINTED = re.compile(r"(\d{1,2})\.(\d{2})(?=\s*[ap]\.?m\.?$)", re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*(a\.?m\.?|p\.?m\.?)", re.IGNORECASE)
_NAMED = {"noon": 720, "12 noon": 720, "midday": 720, "midnight": 0, "12 midnight": 0}
_HALVES = (("in the morning", "am"), ("in the afternoon", "pm"), ("in the evening", "pm"))
_MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul",
            "august aug",
         "september sept sep", "october oct", "november nov", "december dec"), start=1
    )
    for name in names.split()
}  # fmt: skip
_DATE = re.compile(
    r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,?\s+)?(?:the\s+)?(?:"
    r"(?P<m1>[a-z]{3,9})\.?\s+(?P<d1>\d{1,2})(?:st|nd|rd|th)?(?:,?\s+(?P<y1>\d{4}))?"
    r"|(?P<d2>\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?(?P<m2>[a-z]{3,9})\.?(?:,?\s+(?P<y2>\d{4}))?"
    r"|(?P<y3>\d{4})[-/.](?P<m3>\d{1,2})[-/.](?P<d3>\d{1,2}))",
    re.IGNORECASE,
)
_SLASHED = re.compile(r"(\d{1,2})[/.](\d{1,2})[/.](\d{4}|\d{2})")
_RATIO = re.compile(r"(?:ratio\s+)?([^:=]+(?::[^:=]+)+)")
_TO = re.compile(r"(\d+(?:\.\d+)?)\s+to\s+(\d+(?:\.\d+)?)")
_MOD = re.compile(
    r"(?:(?P<variable>\\?[A-Za-z](?:_\w)?)\s*(?:\\equiv|=)\s*)?(?P<residues>-?\d+(?:\s*(?:,|\bor\b|\band\b)\s*-?\d+)*)\s*,?\s*"
    r"(?:\(\s*(?:\\mod|\\bmod|mod)\s*\{?\s*(?P<m1>\d+)\s*\}?\s*\)|\\pmod\s*\{?\s*(?P<m2>\d+)\s*\}?"
    r"|(?:\\bmod|\\mod|mod|modulo)\s*\{?\s*(?P<m3>\d+)\s*\}?)",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"(?:(?:option|choice|answer)\s*:?\s*)?\(?([A-Za-z])(?:\)|[.:)](?:\s.*)?)?",
    re.DOTALL | re.IGNORECASE,
)
_LETTER = re.compile(r"\(?([A-Za-z])\)?\.?")
_SECOND = re.compile(r"\([A-Z]\)|\b[A-Z][).:]|\b(?:or|and)\s+\(?[A-Z]\b")
_SPAN = re.compile(r"(-?\d+(?:\.\d+)?)\s*[–—]\s*(-?\d+(?:\.\d+)?)(.*)", re.DOTALL)
_HALF_DAY = 43_200  # seconds
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of the day: seconds since midnight; whether its half of the day is named (am, pm,
    noon); whether its digits can only be those of a clock of 24 hours (16:00, 04:00, 0:30); and its
    numbers, where they could be a ratio as well."""

    second: int
    half_named: bool
    twenty_four: bool = False
    terms: tuple[Fraction, ...] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What was read: a kind, and a value that is compared by `same_form`."""

    kind: Kind
    value: Any


def read_form(text: str) -> Form | None:
    """The form that a cleaned text has, None for any other text. A number is no form."""
    text = text.strip()
    if len(text) > 400:
        return None
    if "\\ldots" in text and read_number(text) is None:
        return Form(
            "dots",
            re.sub(r"\s+|\\cdot(?![a-z])", "", text).replace("\\cdot", "*").strip("\\{}()[]"),
        )
    for read in (_time, _date, _congruence, _ratio, _range):
        found = read(text)
        if found is not None:
            return found
    return None


def same_form(gold: Form, answer: Form) -> bool:
    """Whether two forms are equal, each kind by its rule:

    - times by the second of the day; 4:00 beside one that names its half of the day stands for
      either half, and beside 16:00 for what it says;
    - dates by day and month, and year where both have one;
    - ratios term by term, up to a common factor;
    - congruences by modulus and the set of residues;
    - lists with dots, and ranges, by their text.
    """
    if gold.kind == "ratio" and answer.kind == "time":  # 2:3 is no time, so 20:30 is none either
        return answer.value.terms is not None and _proportional(gold.value, answer.value.terms)
    if gold.kind != answer.kind:
        return False
    a, b = gold.value, answer.value
    if gold.kind == "time":
        return _same_time(a, b)
    if gold.kind == "date":
        return a[:2] == b[:2] and (a[2] == b[2] or None in (a[2], b[2]))
    if gold.kind == "ratio":
        return _proportional(a, b)
    return a == b


def _same_time(a: Clock, b: Clock) -> bool:
    """Whether two times are one. Without am and pm on either side 4:00 and 16:00 are two."""
    if a.half_named != b.half_named and not (a.twenty_four or b.twenty_four):
        return a.second % _HALF_DAY == b.second % _HALF_DAY
    return a.second == b.second


def _proportional(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    return len(a) == len(b) and all(x * b[0] == y * a[0] for x, y in zip(a, b, strict=True))


def choice_of(text: str) -> str | None:
    """The letter of choice that a text gives: "C", "(C)", "C. 12", "Option C"; None for any other
    text, or two letters."""
    text = text.strip()
    match = _CHOICE.fullmatch(text)
    if match is None or _SECOND.search(text[match.end(1) + 1 :]):
        return None
    return match[1].upper()


def is_letter(text: str) -> bool:
    """Whether a right answer is nothing but a letter of choice."""
    return _LETTER.fullmatch(text.strip()) is not None


def _time(text: str) -> Form | None:
    """A time, also 4.30 pm; 8:60 is none, and compared as text."""
    text = _spoken_half(text)
    lowered = text.casefold().rstrip(".")
    if lowered in _NAMED:
        return Form("time", Clock(60 * _NAMED[lowered], half_named=True))
    text = _POINTED.sub(r"\1:\2", text)
    clock, hour = _CLOCK.fullmatch(text), _HOUR.fullmatch(text)
    if clock is not None:
        parts, half = [int(clock[1]), int(clock[2]), int(clock[3] or 0)], clock[4]
        if clock[3] is not None and half is None and parts[0] > 23:
            return None
    elif hour is not None:
        parts, half = [int(hour[1]), 0, 0], hour[2]
    else:
        return None
    if half is not None and 13 <= parts[0] <= 23 and half[0] in "pP":  # 16:00 pm
        half = None
    sound = parts[1] < 60 and parts[2] < 60 and (1 <= parts[0] <= 12 if half else parts[0] <= 24)
    if not sound:
        return Form("dots", lowered)
    if half is not None:
        second = 3600 * (parts[0] % 12 + (12 if half[0] in "pP" else 0)) + 60 * parts[1] + parts[2]
        return Form("time", Clock(second, half_named=True))
    terms = (
        None
        if clock is None or 0 in parts[:2]
        else tuple(Fraction(n) for n in clock.groups()[:3] if n is not None)
    )
    second = (3600 * parts[0] + 60 * parts[1] + parts[2]) % (2 * _HALF_DAY)
    return Form(
        "time", Clock(second, False, parts[0] > 12 or parts[0] == 0 or text.startswith("0"), terms)
    )


def _spoken_half(text: str) -> str:
    """ "in the morning" and the like as am or pm; at night it is pm up to eleven, and am from
    twelve to five."""
    for words, mark in _HALVES:
        text = text.replace(words, mark)
    hour = re.match(r"\d{1,2}", text)
    return text.replace(
        "at night", "am" if hour and (int(hour[0]) == 12 or int(hour[0]) < 6) else "pm"
    )


def _date(text: str) -> Form | None:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        slashed = _SLASHED.fullmatch(text)
        if slashed is None:
            return None
        first, second, year = int(slashed[1]), int(slashed[2]), slashed[3]
        if first > 12 and second <= 12:
            first, second = second, first
        elif (
            second <= 12 and first != second
        ):  # month and day, or day and month: only the same text is the same date
            return Form("date", (text, "", None))
        return Form("date", (first, second, int(year) if len(year) == 4 else None))
    month_text = match["m1"] or match["m2"] or match["m3"]
    month = int(month_text) if month_text.isdigit() else _MONTHS.get(month_text.casefold())
    day = int(match["d1"] or match["d2"] or match["d3"])
    year = match["y1"] or match["y2"] or match["y3"]
    if month is None or not 1 <= month <= 12 or not 1 <= day <= _DAYS[month - 1]:
        return None
    return Form("date", (month, day, None if year is None else int(year)))


def _congruence(text: str) -> Form | None:
    match = _MOD.fullmatch(text.strip("."))
    if match is None:
        return None
    modulus = int(match["m1"] or match["m2"] or match["m3"])
    if modulus == 0:
        return None
    residues = [int(r) for r in re.findall(r"-?\d+", match["residues"])]
    return Form("congruence", (modulus, frozenset(r % modulus for r in residues)))


def _ratio(text: str) -> Form | None:
    match, worded = _RATIO.fullmatch(text), _TO.fullmatch(text)
    if worded is not None:
        terms = [worded[1], worded[2]]
    elif match is not None:
        terms = match[1].split(":")
    else:
        return None
    numbers = [read_number(term.strip()) for term in terms]
    values: list[Fraction] = [
        n.value for n in numbers if n is not None and n.unit is None and not n.percent
    ]
    if len(values) < len(terms) or not all(values):
        return None
    return Form("ratio", tuple(values))


def _range(text: str) -> Form | None:
    match = _SPAN.fullmatch(text)
    if match is None:
        return None
    return Form("range", (Fraction(match[1]), Fraction(match[2]), match[3].strip()))
