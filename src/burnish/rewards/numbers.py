r"""Plain numbers, with or without unit, read exactly and compared by stated rules. Pure; most answers need no more.

Two numbers are equal when
- both have a known unit of the same kind and their values in its base unit are equal (kinds differ: they are not);
- else, one has a per cent sign and the other has not: p % equals p/100, and also p itself where |p| > 1, since "50" for
  "50 %" leaves out the sign, while 0.5 and 0.5 % are two numbers;
- else their values are equal; or one is a decimal of at least four places, the other is none, and it is that one rightly
  rounded (0.3333 for 1/3; 0.33 is not).
Values are exact fractions: 0.1 + 0.2 has no rounding here. An unknown unit ("apples") is read and ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_FEWEST_PLACES = 4

_UNITS: dict[str, tuple[str, Fraction]] = {}


def _units(kind: str, table: str) -> None:
    for entry in table.split(";"):
        factor, names = entry.split(":")
        for name in names.split():
            _UNITS[name.replace("_", " ")] = (kind, Fraction(factor.strip()))


_units("length", "1/1000:mm millimeter millimetre;1/100:cm centimeter centimetre;1:m meter metre;1000:km kilometer kilometre;"
       "127/5000:in inch inches;381/1250:ft foot feet;1143/1250:yd yard;201168/125:mi mile")  # fmt: skip
_units("mass", "1/1000:mg milligram;1:g gram;1000:kg kilogram kilo;1000000:tonne;45359237/100000:lb lbs pound;"
       "45359237/1600000:oz ounce")  # fmt: skip
_units("time", "1/1000:ms millisecond;1:s sec second;60:min minute;3600:h hr hour;86400:day;604800:week")
_units("years", "1/12:month;1:year yr;10:decade;100:century centuries")
_units("volume", "1/1000:ml milliliter millilitre;1:l liter litre")
_units("area", "1/10000:cm^2 square_centimeter square_cm;1:m^2 square_meter square_m;1000000:km^2 square_kilometer;"
       "145161/1562500:ft^2 square_foot square_feet")  # fmt: skip
_units("dollars", "1/100:cent ¢;1:dollar usd $ buck")
_units("euros", "1:euro eur €")
_units("pounds sterling", "1/100:pence penny;1:gbp £")
_units("angle", "1:degree ° deg")
_units("angle in radians", "1:radian rad")
_units("speed", "1:m/s;5/18:km/h kph kmh;1397/3125:mph")

_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORDS = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16, "seventeen": 17,
    "eighteen": 18, "nineteen": 19, "twenty": 20,
}  # fmt: skip

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_FRACTION = r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))"
_POWER = r"\s*(?:\\times|\\cdot|×|\*|x)\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[-+]?\d+)\s*\}?"
_NUMBER = re.compile(
    rf"(?P<sign>[-+−]?)\s*(?P<money>[$€£]?)\s*(?P<sign2>[-+−]?)(?:"
    rf"(?P<whole>\d+)?\s*(?P<frac>{_FRACTION})"
    rf"|(?P<mixed>\d+)\s+(?P<mn>\d+)\s*/\s*(?P<md>\d+)"
    rf"|(?P<n>{_DECIMAL})\s*/\s*(?P<d>{_DECIMAL})"
    rf"|(?P<dec>{_DECIMAL})(?:[eE](?P<exp>[-+]?\d+)|{_POWER})?"
    rf")(?P<rest>.*)",
    re.DOTALL,
)
_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore)[\s,]+)?(?:the\s+)?(?:final\s+)?(?:answer|result|total|solution)\s*(?:is|are|:|=|would be)+\s*", re.IGNORECASE
)  # fmt: skip
_ASSIGNED = re.compile(r"^\\?[A-Za-z](?:_\{?\w+\}?)?\s*=\s*(?=[^=]*$)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox|operatorname|emph)\s*\{([^{}]*)\}")
_BOLD = re.compile(r"(?<![\w*)])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![\w*(])")
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|~|\\quad|\\qquad|\u2009|\u202f|\xa0")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written. `places` counts decimals, None where it is no decimal number (a fraction, a power)."""

    value: Fraction
    percent: bool = False
    unit: tuple[str, Fraction] | None = None
    places: int | None = None


def clean(text: str) -> str:
    r"""An answer without what is layout: $...$, \text{...}, bold, spaces of LaTeX, "the answer is", "x =", a full stop."""
    text = text.strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`")):
        if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
            inside = text[len(opening) : -len(closing)]
            text = inside.strip() if opening not in inside else text
    previous = None
    while previous != text:
        previous, text = text, _TEXT.sub(r" \1 ", text)
    text = text.replace("\\left", "").replace("\\right", "").replace("{,}", ",").replace("\\!", "")
    text = text.replace("\\$", "$").replace("\\%", "%").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", "°", text)
    text = re.sub(r"(?<=\d)\\,(?=\d{3})", "", text)
    text = " ".join(_SPACES.sub(" ", _BOLD.sub(r"\1", text)).split())
    text = _LEAD.sub("", re.sub(r"(?<=[A-Za-z]) \^", "^", text)).strip()
    return re.sub(r"(?<!\.)\.$", "", text).strip()


def read_number(text: str) -> Number | None:
    """The number that a cleaned text is, if it is nothing else."""
    text = _ASSIGNED.sub("", text).strip()
    if text.casefold() in _WORDS:
        return Number(Fraction(_WORDS[text.casefold()]))
    match = _NUMBER.fullmatch(text)
    if match is None or (match["sign"] and match["sign2"]):
        return None
    found = _value(match)
    if found is None:
        return None
    value, places = found
    rest = match["rest"].strip()
    scale = re.match(r"(thousand|million|billion|trillion)s?\b\s*", rest, re.IGNORECASE)
    if scale:
        value, places, rest = value * _SCALES[scale[1].lower()], None, rest[scale.end() :]
    if rest in ("%", "percent", "per cent", "pct"):
        return None if match["money"] else Number(value, percent=True, places=places)
    unit = _unit(match["money"] or rest) if match["money"] or rest else None
    if rest and (not _is_unit(rest) or (match["money"] and _unit(rest) not in (None, unit))):
        return None
    return Number(value, unit=unit, places=places)


def equal(a: Number, b: Number) -> bool:
    """Whether they are equal, by the rules above."""
    if a.unit is not None and b.unit is not None:
        return a.unit[0] == b.unit[0] and a.value * a.unit[1] == b.value * b.unit[1]
    if a.percent != b.percent:
        share, plain = (a, b) if a.percent else (b, a)
        as_share = Number(share.value / 100, places=None if share.places is None else share.places + 2)
        return _same(as_share, plain) or (abs(share.value) > 1 and plain.unit is None and share.value == plain.value)
    return _same(a, b)


def without_units(gold: str, answer: str) -> tuple[str, str]:
    r"""Both without a known unit of at least two letters at their ends: 4\pi cm^2. Different units are left to differ."""
    (bare_gold, of_gold), (bare_answer, of_answer) = _cut_unit(gold), _cut_unit(answer)
    if of_gold is not None and of_answer is not None and of_gold != of_answer:
        return f"({bare_gold}) * {of_gold[1]}" if of_gold[0] == of_answer[0] else f"{bare_gold} u_1", (
            f"({bare_answer}) * {of_answer[1]}" if of_gold[0] == of_answer[0] else f"{bare_answer} u_2"
        )
    return bare_gold, bare_answer


def _cut_unit(text: str) -> tuple[str, tuple[str, Fraction] | None]:
    match = re.fullmatch(r"(.*[\d\w})])\s+([A-Za-z]{2,}(?: [a-z]+)?(?:\^\{?[23]\}?)?)", text, re.DOTALL)
    unit = None if match is None else _unit(match[2])
    return (text, None) if match is None or unit is None else (match[1], unit)


def _same(a: Number, b: Number) -> bool:
    if a.value == b.value:
        return True
    if (a.places is None) == (b.places is None):
        return False
    decimal, exact = (a, b) if a.places is not None else (b, a)
    assert decimal.places is not None
    return decimal.places >= _FEWEST_PLACES and abs(decimal.value - exact.value) <= Fraction(1, 2 * 10**decimal.places)


def _value(match: re.Match[str]) -> tuple[Fraction, int | None] | None:
    """(value, decimal places) of what `_NUMBER` found; None for a fraction with denominator 0."""
    sign = -1 if "-" in (found := match["sign"] + match["sign2"]) or "−" in found else 1
    if match["frac"] is not None:
        digits = re.fullmatch(_FRACTION, match["frac"])
        assert digits is not None
        top, bottom = (int(digits[1]), int(digits[2])) if digits[1] is not None else (int(digits[3]), int(digits[4]))
        if bottom == 0:
            return None
        return sign * (int(match["whole"] or 0) + Fraction(top, bottom)), None
    if match["mixed"] is not None:
        if int(match["md"]) == 0:
            return None
        return sign * (int(match["mixed"]) + Fraction(int(match["mn"]), int(match["md"]))), None
    if match["n"] is not None:
        top, bottom = _plain(match["n"]), _plain(match["d"])
        return None if bottom == 0 else (sign * top / bottom, None)
    value = _plain(match["dec"])
    power = match["exp"] or match["power"]
    if power is not None:
        return None if abs(int(power)) > 400 else (sign * value * Fraction(10) ** int(power), None)
    return sign * value, len(match["dec"].partition(".")[2])


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").rstrip(".") or "0")


def _unit(text: str) -> tuple[str, Fraction] | None:
    """(kind, factor) of a known unit; None for an unknown one."""
    name = text.strip().rstrip(".").replace("²", "^2").replace("^{2}", "^2")
    for candidate in (name, name.lower(), name.lower().removesuffix("s"), name.lower().removesuffix("es")):
        if candidate in _UNITS:
            return _UNITS[candidate]
    return None


def _is_unit(text: str) -> bool:
    """Whether what follows a number can be its unit: a known one, or up to four words that are no mathematics."""
    if _unit(text) is not None:
        return True
    names = text.rstrip(".").split()
    return len(names) <= 4 and all(re.fullmatch(r"[A-Za-z][A-Za-z'’-]+(?:\^2|\^3|²|³)?", name) for name in names) and not (
        {"or", "and", "plus", "minus", "times", "to"} & {name.lower() for name in names}
    )  # fmt: skip
