r"""Plain numbers, with or without unit, read exactly and compared by stated rules. Pure; most
answers need no more.

Two numbers are equal when
- both have a known unit of the same kind and their values in its base unit are equal (kinds differ:
  they are not);
- else, one has a per cent sign and the other has not: p % equals p/100, and also p itself where |p|
  > 1, since "50" for "50 %" leaves out the sign, while 0.5 and 0.5 % are two numbers;
- else their values are equal; or one is a decimal of at least four places, the other is none, and
  it is that one rightly rounded (0.3333 for 1/3; 0.33 is not).
Values are exact fractions: 0.1 + 0.2 has no rounding here. An unknown unit ("apples") is read and
ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from burnish.rewards.cleaning import LONGEST

_FEWEST_PLACES = 4
_MOST_BITS = 3000  # of a number that is handed on

_UNITS: dict[str, tuple[str, Fraction]] = {}


def _units(kind: str, table: str) -> None:
    for entry in table.split(";"):
        factor, names = entry.split(":")
        for name in names.split():
            _UNITS[name.replace("_", " ")] = (kind, Fraction(factor.strip()))


_units(
    "length",
    "1/1000:mm millimeter millimetre;1/100:cm centimeter centimetre;1:m meter metre;1000:km"
    " kilometer kilometre;127/5000:in inch inches;381/1250:ft foot feet;1143/1250:yd"
    " yard;201168/125:mi mile",
)
_units(
    "mass",
    "1/1000:mg milligram;1:g gram;1000:kg kilogram kilo;1000000:tonne;45359237/100000:lb lbs pound;"
    "45359237/1600000:oz ounce",
)
_units(
    "time",
    "1/1000:ms millisecond;1:s sec second;60:min minute;3600:h hr hour;86400:day;604800:week",
)
_units("years", "1/12:month;1:year yr;10:decade;100:century centuries")
_units(
    "volume",
    "1/1000:ml milliliter millilitre cm^3 cc cubic_centimeter cubic_cm;1:l liter litre dm^3;"
    "1000:m^3 cubic_meter cubic_metre",
)
_units(
    "area",
    "1/10000:cm^2 square_centimeter square_cm sq_cm;1:m^2 square_meter square_m sq_m;10000:hectare;"
    "1000000:km^2 square_kilometer;145161/1562500:ft^2 square_foot square_feet sq_ft",
)
_units("dollars", "1/100:cent ¢;1:dollar usd $ us$ buck")
_units("euros", "1:euro eur €")
_units("pounds sterling", "1/100:pence penny;1:gbp £")
_units("angle", "1:degree ° deg")
_units("angle in radians", "1:radian rad")
_units("length/time", "5/18:kph kmh;1397/3125:mph")
_units("temperature in °C", "1:°c celsius degree_celsius degrees_celsius")
_units("temperature in °F", "1:°f fahrenheit degree_fahrenheit degrees_fahrenheit")
_units("energy", "1:joule;1000:kj kilojoule")
_units("power", "1:watt;1000:kw kilowatt")
_units("rupees", "1:rupee inr rs ₹")
_units("yen", "1:yen jpy ¥")

_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORDS = {
    word: number
    for number, word in enumerate(
        [
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
        ]
    )
}
_TENS = {
    w: 10 * n
    for n, w in enumerate(
        ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=2
    )
}
_PARTS = {"half": Fraction(1, 2), "one half": Fraction(1, 2), "a half": Fraction(1, 2),
    "one-half": Fraction(1, 2),
          "one third": Fraction(1, 3), "one-third": Fraction(1, 3), "a third": Fraction(1, 3),
          "two thirds": Fraction(2, 3),
          "two-thirds": Fraction(2, 3), "one quarter": Fraction(1, 4),
          "one-quarter": Fraction(1, 4), "a quarter": Fraction(1, 4),
          "one fourth": Fraction(1, 4), "one-fourth": Fraction(1, 4),
          "three quarters": Fraction(3, 4), "three-quarters": Fraction(3, 4),
          "three fourths": Fraction(3, 4), "three-fourths": Fraction(3, 4), "a dozen": Fraction(12),
          "one dozen": Fraction(12)}  # fmt: skip

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_INTEGER}(?:\.\d*)?|\.\d+)"
_FRACTION = r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}|(\d)\s*(\d))"
_POWER = r"\s*(?:\\times|\\cdot|×|\*|x)\s*10\s*(?:\^|\*\*)\s*\{?\s*(?P<power>[-+]?\d+)\s*\}?"
_NUMBER = re.compile(
    rf"(?P<sign>[-+−]?)\s*(?P<money>(?:[$€£₹¥]|US\$|USD|EUR|GBP|Rs\.?|INR)?)\s*(?P<sign2>[-+−]?)(?:"
    rf"(?P<whole>\d+)?\s*(?P<frac>{_FRACTION})"
    rf"|(?P<mixed>\d+)\s+(?P<mn>\d+)\s*/\s*(?P<md>\d+)"
    rf"|(?P<n>{_DECIMAL})\s*/\s*(?P<d>{_DECIMAL})"
    rf"|(?P<dec>{_DECIMAL})(?:[eE](?P<exp>[-+]?\d+)|{_POWER})?"
    rf")(?P<rest>.*)",
    re.DOTALL,
)
_ASSIGNED = re.compile(r"^\\?[A-Za-z](?:_\{?\w+\}?)?\s*=\s*(?=[^=]*$)")
_GROUPED = re.compile(
    r"(?<![\d.,])(?:(?P<european>\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:\.\d{3}){2,})|(?P<indian>\d{1,2}(?:,\d{2})+,\d{3})"
    r"|(?P<swiss>\d{1,3}(?:'\d{3})+))(?![\d,']|\.\d+,)"
)
_REPEATING = re.compile(
    r"(?P<sign>-?)(?P<whole>\d+)\.(?P<head>\d*)(?:\\(?:overline|bar|dot|ldots)\s?\{?(?P<bar>\d+)\}?|\((?P<round>\d+)\))"
    r"(?:\s*\\ldots)?"
)
_IN_TWO_UNITS = re.compile(
    r"(?P<unit>[A-Za-z]+)\.?(?:\s*,\s*|\s+and\s+|\s*)(?P<number>\d+(?:\.\d+)?)\s*(?P<smaller>[A-Za-z]+)\.?"
)
_DOTTED = re.compile(r"(?P<sign>-?)(?P<whole>\d+)\.(?P<digits>\d{3,60})\s*\\ldots")
_SI = frozenset(
    [
        "mm",
        "cm",
        "m",
        "km",
        "mg",
        "g",
        "kg",
        "ms",
        "s",
        "sec",
        "min",
        "h",
        "hr",
        "hour",
        "day",
        "mile",
        "ft",
        "in",
        "lb",
        "l",
        "ml",
        "second",
        "minute",
        "meter",
        "metre",
        "gallon",
        "year",
    ]
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written. `places` counts decimals, None where it is no decimal number (a
    fraction, a power)."""

    value: Fraction
    percent: bool = False
    unit: tuple[str, Fraction] | None = None
    places: int | None = None


def read_number(text: str) -> Number | None:
    """The number that a cleaned text is, if it is nothing else."""
    if len(text) > LONGEST:
        return None
    text = _GROUPED.sub(_digits_only, _ASSIGNED.sub("", text).strip())
    worded = _in_words(text.casefold())
    if worded is not None:
        return Number(worded)
    repeating = _repeating(text)
    if repeating is not None:
        return Number(repeating)
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
    if rest in ("%", "percent", "per cent", "pct", "percentage"):
        return None if match["money"] else Number(value, percent=True, places=places)
    if rest in ("percentage points", "percentage point"):
        return None
    both = (
        None if match["money"] or scale or value.denominator > 1 else _IN_TWO_UNITS.fullmatch(rest)
    )
    if both is not None:
        return _in_two_units(value, both)
    unit = _unit(match["money"] or rest) if match["money"] or rest else None
    if rest and (not _is_unit(rest) or (match["money"] and _unit(rest) not in (None, unit))):
        return None
    return Number(value, unit=unit, places=places)


def _in_two_units(value: Fraction, rest: re.Match[str]) -> Number | None:
    """2 h 30 min: a whole number of a unit and less than one of it in a smaller unit of its
    kind."""
    unit, smaller, number = _unit(rest["unit"]), _unit(rest["smaller"]), Fraction(rest["number"])
    if (
        unit is None
        or smaller is None
        or unit[0] != smaller[0]
        or value < 0
        or number * smaller[1] >= unit[1]
    ):
        return None
    return Number(value + number * smaller[1] / unit[1], unit=unit)


def equal(a: Number, b: Number) -> bool:
    """Whether they are equal, by the rules above."""
    if a.unit is not None and b.unit is not None:
        return a.unit[0] == b.unit[0] and a.value * a.unit[1] == b.value * b.unit[1]
    if a.percent != b.percent:
        share, plain = (a, b) if a.percent else (b, a)
        as_share = Number(
            share.value / 100, places=None if share.places is None else share.places + 2
        )
        return _same(as_share, plain) or (
            abs(share.value) > 1 and plain.unit is None and share.value == plain.value
        )
    return _same(a, b)


def plainly(text: str, number: Number | None) -> str:
    """A text whose number was read, as a grammar of expressions reads it too: "2 1/5", "4.2 ×
    10^-3", "7/2 apples", "0.(6)" as fraction or decimal; x = in front stays. Without a number, with
    a per cent sign, a known unit or too many digits: the text."""
    if (
        number is None
        or number.percent
        or number.unit is not None
        or number.value.numerator.bit_length() > _MOST_BITS
    ):
        return text
    name, mark, _ = text.rpartition("=")
    top, bottom = number.value.numerator, number.value.denominator
    if number.places is None or 10**number.places % bottom:
        return f"{name}{mark}{top}" + (f"/{bottom}" if bottom > 1 else "")
    digits = str(abs(top) * (10**number.places // bottom)).rjust(number.places + 1, "0")
    cut = len(digits) - number.places
    return f"{name}{mark}{'-' * (top < 0)}{digits[:cut]}" + (
        f".{digits[cut:]}" if number.places else ""
    )


def without_units(gold: str, answer: str) -> tuple[str, str]:
    r"""Both without a known unit of at least two letters at their ends: 4\pi cm^2. Different units
    are left to differ."""
    (bare_gold, of_gold), (bare_answer, of_answer) = _cut_unit(gold), _cut_unit(answer)
    if of_gold is not None and of_answer is not None and of_gold != of_answer:
        return (
            f"({bare_gold}) * {of_gold[1]}" if of_gold[0] == of_answer[0] else f"{bare_gold} u_1"
        ), (
            f"({bare_answer}) * {of_answer[1]}"
            if of_gold[0] == of_answer[0]
            else f"{bare_answer} u_2"
        )
    return bare_gold, bare_answer


def _cut_unit(text: str) -> tuple[str, tuple[str, Fraction] | None]:
    match = re.fullmatch(
        r"(.*[\d\w})])\s+([A-Za-z]{2,}(?: [a-z]+)?(?:\^\{?[23]\}?)?)", text, re.DOTALL
    )
    unit = None if match is None else _unit(match[2])
    return (text, None) if match is None or unit is None else (match[1], unit)


def _same(a: Number, b: Number) -> bool:
    if a.value == b.value:
        return True
    if (a.places is None) == (b.places is None):
        return False
    decimal, exact = (a, b) if a.places is not None else (b, a)
    assert decimal.places is not None
    return decimal.places >= _FEWEST_PLACES and abs(decimal.value - exact.value) <= Fraction(
        1, 2 * 10**decimal.places
    )


def _value(match: re.Match[str]) -> tuple[Fraction, int | None] | None:
    """(value, decimal places) of what `_NUMBER` found; None for a fraction with denominator 0."""
    sign = -1 if "-" in (found := match["sign"] + match["sign2"]) or "−" in found else 1
    if match["frac"] is not None:
        digits = re.fullmatch(_FRACTION, match["frac"])
        assert digits is not None
        top, bottom = (
            (int(digits[1]), int(digits[2]))
            if digits[1] is not None
            else (int(digits[3]), int(digits[4]))
        )
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


def _digits_only(match: re.Match[str]) -> str:
    """12,34,567 and 1.234.567,5 and 1'234'567 with a point for decimals and nothing else."""
    if match["european"] is not None:
        return match["european"].replace(".", "").replace(",", ".")
    return match.group().replace(",", "").replace("'", "")


def _repeating(text: str) -> Fraction | None:
    """A decimal whose end repeats for ever: 0.1\\overline{6}, 0.1(6), 0.1666... (a last digit three
    times, or a block twice)."""
    match = _REPEATING.fullmatch(text)
    if match is not None:
        head, block = match["head"], match["bar"] or match["round"]
        if (
            "ldots" in match.group()
            and match["bar"]
            and "\\ldots" in text[: text.find(match["bar"])]
        ):
            return None
    else:
        match = _DOTTED.fullmatch(text)
        if match is None:
            return None
        digits = match["digits"]
        if len(set(digits[-3:])) == 1:
            head, block = digits[:-3], digits[-1]
        else:
            half = next(
                (n for n in range(2, len(digits) // 2 + 1) if digits[-n:] == digits[-2 * n : -n]),
                None,
            )
            if half is None:
                return None
            head, block = digits[: -2 * half], digits[-half:]
    value = Fraction(int(match["whole"] + head), 10 ** len(head))
    value += Fraction(int(block), 10 ** len(head) * (10 ** len(block) - 1))
    return -value if match["sign"] else value


def _in_words(text: str) -> Fraction | None:
    """A number in English words, below a million: forty-two, one hundred and five, two thirds."""
    if len(text) > 80 or not text.isascii() or text in ("", "and", "a"):
        return None
    if text in _PARTS:
        return _PARTS[text]
    negative = text.startswith(("minus ", "negative "))
    tokens = text.replace("-", " ").split()[negative:]
    total = part = 0
    last, tens = "", False
    for token in tokens:
        if token in _WORDS and (
            last in ("", "hundred", "thousand", "and") or (tens and 0 < _WORDS[token] < 10)
        ):
            part, tens = part + _WORDS[token], False
        elif token in _TENS and last in ("", "hundred", "thousand", "and"):
            part, tens = part + _TENS[token], True
        elif token == "a" and not last:
            part = 1
        elif token == "hundred" and 0 < part < 10:
            part, tens = 100 * part, False
        elif token == "thousand" and part > 0 and not total:
            total, part, tens = 1000 * part, 0, False
        elif token == "and" and last in ("hundred", "thousand"):
            pass
        else:
            return None
        last = token
    if not tokens or last in ("and", "a"):
        return None
    return Fraction(-(total + part) if negative else total + part)


def _plain(digits: str) -> Fraction:
    return Fraction(digits.replace(",", "").replace(" ", "").rstrip(".") or "0")


def _unit(text: str) -> tuple[str, Fraction] | None:
    """(kind, factor) of a known unit; None for an unknown one."""
    name = text.strip().rstrip(".").replace("²", "^2").replace("^{2}", "^2")
    for candidate in (
        name,
        name.lower(),
        name.lower().removesuffix("s"),
        name.lower().removesuffix("es"),
    ):
        if candidate in _UNITS:
            return _UNITS[candidate]
    return _compound(name)


def _compound(name: str) -> tuple[str, Fraction] | None:
    """A unit over another: m/s^2, kg/m^3, miles per hour."""
    top, over, bottom = name.replace(" per ", "/").partition("/")
    if not over or "/" in bottom:
        return None
    kinds, factor = [], Fraction(1)
    for side, sign in ((top, 1), (bottom, -1)):
        token, _, power = side.strip().partition("^")
        power = power.strip("{}") or "1"
        whole = _UNITS.get(side.strip())
        known = whole or (
            _unit(token) if token.lower() in _SI or token.lower().removesuffix("s") in _SI else None
        )
        if known is None or not power.isdigit() or len(power) > 1:
            return None
        exponent = 1 if whole else int(power)
        kinds.append(known[0] if exponent == 1 else f"{known[0]}^{exponent}")
        factor *= known[1] ** (sign * exponent)
    return "/".join(kinds), factor


def _is_unit(text: str) -> bool:
    """Whether what follows a number can be its unit: a known one, or up to four words that are no
    mathematics."""
    if _unit(text) is not None:
        return True
    names = text.rstrip(".").split()
    return len(names) <= 4 and all(re.fullmatch(r"[A-Za-z][A-Za-z'’-]+(?:\^2|\^3|²|³)?",
        name) for name in names) and not (
        {"or", "and", "plus", "minus", "times", "to"} & {name.lower() for name in names}
    )  # fmt: skip
