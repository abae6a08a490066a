r"""An answer without its layout: what is decoration goes, what Unicode writes in one character
becomes LaTeX. Pure."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 4000
"""Characters of an answer that are looked at as mathematics. Longer ones are compared as text."""

_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|bf|rm|mbox|operatorname\*?|emph)\s*\{([^{}]*)\}"
)
_BARE_FONT = re.compile(
    r"\\(?:displaystyle|textstyle|limits|nolimits|bf|rm|it|boldsymbol)(?![A-Za-z])"
)
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?=[\s()\[\]{}|.\\/<>])\s*\.?")
_BOLD = re.compile(r"(?<![\w*)])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![\w*(])")
_SPACES = re.compile(r"(?<!\\)\\[,;:! ]|~|\\quad|\\qquad|[\u2009\u202f\xa0]")
_LEAD = re.compile(
    r"^(?:(?:so|thus|hence|therefore)[\s,]+)?(?:the\s+)?(?:final\s+|correct\s+)?"
    r"(?:answer|result|total|solution|option|choice)\s*(?:(?:is|are|:|=|would be)[\s:]*)+",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"^(.*[\d}%)°]|[^\s\\]|.*\s[^\s\\])\s+\(([A-Za-z][^()\d]*)\)$", re.DOTALL)
_NO_COMMENT = re.compile(
    r"\b(?:mod|not|no|wrong|incorrect|false|nor|hundred|thousand|million|billion|trillion|percent|per|half|twice|times|double|"
    r"dozen|squared?|cubed?|plus|minus|over|one|two|three|four|five|six|seven|eight|nine|ten|am|pm|base|"
    r"[A-Za-z])\b",
    re.IGNORECASE,
)
_FRACTIONS = {
    "½": "1 2", "⅓": "1 3", "⅔": "2 3", "¼": "1 4", "¾": "3 4", "⅕": "1 5", "⅖": "2 5", "⅗": "3 5",
    "⅘": "4 5",
    "⅙": "1 6", "⅚": "5 6", "⅛": "1 8", "⅜": "3 8", "⅝": "5 8", "⅞": "7 8", "⅐": "1 7", "⅑": "1 9",
    "⅒": "1 10",
}  # fmt: skip
_SIGNS = {
    "−": "-", "﹣": "-", "－": "-", "＋": "+", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ",
    "÷": "/", "∕": "/", "⁄": "/",
    "≤": "\\le ", "≥": "\\ge ", "≠": "\\ne ", "±": "\\pm ", "∓": "\\mp ", "∞": "\\infty ",
    "∈": "\\in ", "∉": "\\notin ",
    "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "Ø": "\\emptyset ", "π": "\\pi ",
    "θ": "\\theta ", "α": "\\alpha ",
    "β": "\\beta ", "γ": "\\gamma ", "λ": "\\lambda ", "μ": "\\mu ", "σ": "\\sigma ", "φ": "\\phi ",
    "ω": "\\omega ",
    "…": "\\ldots ", "⋯": "\\ldots ", "≈": "\\approx ", "≡": "\\equiv ", "∨": "\\lor ",
    "∧": "\\land ",
    "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}",
    "ℂ": "\\mathbb{C}", "º": "°",
    "：": ":", "，": ",", "（": "(", "）": ")", "％": "%", "＝": "=", "’": "'", "‘": "'", "“": '"',
    "”": '"', "﻿": "",
    "​": "", "‌": "", "‍": "", "⁡": "", "⁢": "", "‑": "-", "‐": "-",
}  # fmt: skip
_SIGNS_PATTERN = re.compile("|".join(map(re.escape, _SIGNS)))
_FRACTION_PATTERN = re.compile(f"[{''.join(_FRACTIONS)}]")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ⁽⁾", "0123456789+-n()")
_RAISED = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ⁽⁾]+")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")
_LOWERED = re.compile(r"[₀₁₂₃₄₅₆₇₈₉]+")
_RADICAL = re.compile(r"(?:√|\\surd)\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_CUBE_ROOT = re.compile(r"∛\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))")
_LEADING_DASH = re.compile(r"(?:(?<=^)|(?<=[(\[{,;=<>/*^\s]))[–—](?=\s?[\d.\\A-Za-z(½])")
_SYNONYMS = {
    "varnothing": "emptyset", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge",
    "neq": "ne", "dots": "ldots",
    "cdots": "ldots", "dotsc": "ldots", "dotsb": "ldots", "dfrac": "frac", "tfrac": "frac",
    "cfrac": "frac", "dbinom": "binom",
    "tbinom": "binom", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]",
    "ast": "*", "colon": ":", "lt": "<", "gt": ">", "minus": "-", "imath": "i",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_WRAPPED = (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("**", "**"), ("`", "`"))


def clean(text: str) -> str:
    r"""An answer without what is layout: $...$, \text{...}, bold, spaces of LaTeX, "the answer is",
    a full stop, and a comment in words behind it ("5 (the only root)"). Unicode's signs, powers and
    fractions become LaTeX's. A text of more than `LONGEST` characters is only stripped."""
    text = text.strip()
    if len(text) > LONGEST:
        return text
    text = _unwrapped(_in_latex(text))
    previous = None
    while previous != text:
        previous, text = text, _TEXT.sub(r" \1 ", text)
    text = _COMMAND.sub(_synonym, _SIZES.sub("", _BARE_FONT.sub(" ", text)))
    text = (
        text.replace("{,}", ",")
        .replace("\\!", "")
        .replace("\\$", "$")
        .replace("\\%", "%")
        .replace("\\&", "&")
    )
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\(?:degree|deg)(?![A-Za-z])", "°", text)
    text = re.sub(r"(?<=\d)\\,(?=\d{3})", "", text)
    text = re.sub(r"\.{3,}", "\\\\ldots ", text)
    text = " ".join(_SPACES.sub(" ", _BOLD.sub(r"\1", text)).split())
    text = _LEAD.sub("", re.sub(r"(?<=[A-Za-z]) \^", "^", text)).strip()
    text = re.sub(r"([\^_])\s?\{(\w)\}", r"\1\2", re.sub(r"(?<!\.)\.$", "", text).strip())
    return _without_comment(_unwrapped(text))


def _in_latex(text: str) -> str:
    """Unicode's own signs, as LaTeX writes them."""
    if text.isascii():
        return text
    text = _RAISED.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _LOWERED.sub(lambda m: "_{" + m.group().translate(_SUBSCRIPTS) + "}", text)
    text = _FRACTION_PATTERN.sub(
        lambda m: "\\frac{{{}}}{{{}}}".format(*_FRACTIONS[m.group()].split()), text
    )
    text = _SIGNS_PATTERN.sub(lambda m: _SIGNS[m.group()], text)
    text = _RADICAL.sub(lambda m: f"\\sqrt{{{m[1] or m[2]}}}", text)
    text = _CUBE_ROOT.sub(lambda m: f"\\sqrt[3]{{{m[1] or m[2]}}}", text)
    text = _LEADING_DASH.sub("-", text)
    return "".join(
        str(unicodedata.digit(ch)) if not ch.isascii() and ch.isdigit() else ch for ch in text
    )


def _synonym(match: re.Match[str]) -> str:
    name = _SYNONYMS.get(match[1])
    if name is None:
        return match.group()
    return f"\\{name}" if name.isalpha() or name in "{}" else name


def _unwrapped(text: str) -> str:
    """Without one pair of marks around the whole."""
    for opening, closing in _WRAPPED:
        if (
            len(text) > len(opening) + len(closing)
            and text.startswith(opening)
            and text.endswith(closing)
        ):
            inside = text[len(opening) : -len(closing)]
            if opening not in inside:
                return inside.strip()
    return text


def _without_comment(text: str) -> str:
    match = _COMMENT.match(text)
    if match is None or _NO_COMMENT.search(match[2]):
        return text
    return match[1].strip()
