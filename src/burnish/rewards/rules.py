r"""Rewards that read only the text: format, length, repetition, language. Pure functions, and
classes that call them."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import regex

from burnish.errors import UserError
from burnish.rewards.base import Judgement
from burnish.rewards.columns import values_at
from burnish.rewards.extract import boxed

_BLOCK = r"(?:(?!</?think>|</?answer>).)"
FORMS = {
    "think-answer": (
        rf"\s*<think>(?!\s*</think>){_BLOCK}*</think>\s*<answer>(?!\s*</answer>){_BLOCK}*</answer>\s*"
    ),
    "think": rf"\s*<think>(?!\s*</think>){_BLOCK}*</think>(?=\s*\S){_BLOCK}*",
    "answer": rf"{_BLOCK}*<answer>(?!\s*</answer>){_BLOCK}*</answer>{_BLOCK}*",
}
"""Each tag once, in this order, with something inside; nothing else where the form says so."""

PATTERN_TIMEOUT = "pattern-timeout"
PATTERN_SECONDS = 1.0
"""For one text: a pattern that backtracks without end is stopped."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


def words(text: str) -> list[str]:
    """Runs of letters (with apostrophes inside), case folded."""
    return [word.casefold() for word in _WORD.findall(text)]


def format_value(
    text: str, form: str | None, pattern: Any = None, *, seconds: float = PATTERN_SECONDS
) -> float:
    """1 if the whole text matches `pattern` (of the package regex), or else has the form; 0 if not.

    Raises TimeoutError where the pattern has not come to an end within so many `seconds`.
    """
    if pattern is not None:
        return float(pattern.fullmatch(text, timeout=seconds) is not None)
    if form == "boxed":
        found = boxed(text)
        return float(found is not None and bool(found.strip()))
    return float(re.fullmatch(FORMS[str(form)], text, re.DOTALL) is not None)


def length_value(count: int, *, least: int, free: int, limit: int) -> float:
    """n/least below `least`; 1 from there to `free`; (limit − n)/(limit − free) up to `limit`; 0
    from there on."""
    if count < least:
        return count / least
    return min(1.0, max(0.0, (limit - count) / (limit - free)))


def repetition_value(text: str, n: int) -> float:
    """−(1 − distinct/all) over the text's n-grams of words (arXiv:2502.03373's penalty, with weight
    1); 0 with no n-gram."""
    tokens = text.casefold().split()
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) / len(grams) - 1.0 if grams else 0.0


_SCRIPTS = {
    "ar": ("ARABIC",), "bg": ("CYRILLIC",), "el": ("GREEK",), "fa": ("ARABIC",), "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("HIRAGANA", "KATAKANA", "CJK"), "ko": ("HANGUL",), "ru": ("CYRILLIC",), "th": ("THAI",),
    "uk": ("CYRILLIC",),
    "zh": ("CJK",),
}  # fmt: skip
_COMMON = {
    "en": (
        "the of and to in is that it was for on are as with his they be at this have from or had by"
        " but what some we can out other were all there when up use your how said an each she which"
        " do their if will would could should not you so then than has he i a my me no yes"
    ),
    "de": (
        "der die das und ist nicht ein eine zu den mit von auf für im dem sich des auch es an"
        " werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war"
        " haben nur oder aber vor zur bis mehr durch man sein wurde wenn ich du wir ihr"
    ),
    "es": (
        "el la los las de que y en un una es por con no para su se lo como más pero sus le ya o"
        " este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien desde"
        " todo nos durante ni contra yo tú él ella ser son fue era"
    ),
    "fr": (
        "le la les de des et un une est en que qui dans il elle pour pas sur ne au aux ce se plus"
        " par avec son sa ses mais ou on nous vous je tu y être sont été fait cette ces comme tout"
        " si leur même aussi deux donc car du"
    ),
    "it": (
        "il lo la gli le di che e un una è in per non con sono del della dei delle da si come più"
        " ma anche al alla nel nella questo questa ha ho o se perché quando molto dove chi io tu"
        " lui lei noi voi loro essere era dal i"
    ),
    "nl": (
        "de het een en van is in dat op te zijn voor met niet aan er om ook als bij of maar dan wat"
        " hij ze naar door over uit nog wel zo kan worden deze die we ik je u heeft hebben geen"
        " meer tot"
    ),
    "pt": (
        "o a os as de que e do da dos das em um uma é para com não por no na se mais como mas ao"
        " ele ela seu sua ou quando muito nos já eu também só pelo pela até isso entre sem mesmo"
        " você são foi ser"
    ),
}
_COMMON_WORDS = {code: frozenset(text.split()) for code, text in _COMMON.items()}
LANGUAGES = tuple(sorted((*_SCRIPTS, *_COMMON)))
"""The codes that the language reward knows."""


def language_value(text: str, language: str) -> float:
    """The share of words in the language, in [0, 1]; a text without words has 0.

    A language with a script of its own: the share of letters in that script. (Japanese also needs
    kana, or it is Chinese: a text of CJK characters alone counts half.) A language in Latin
    letters: the share of letters that are Latin, times the language's part c_l / max_m c_m among
    the common words c_m of each Latin language that the text holds; without any common word that
    part is 1, since a formula or a name is no evidence of another language.
    """
    letters = [
        unicodedata.name(ch, "") for word in _WORD.findall(text) for ch in word if ch.isalpha()
    ]
    if not letters:
        return 0.0
    if language in _SCRIPTS:
        share = sum(name.startswith(_SCRIPTS[language]) for name in letters) / len(letters)
        kana = any(name.startswith(("HIRAGANA", "KATAKANA")) for name in letters)
        if language == "ja" and not kana:
            return share / 2
        return share / 2 if language == "zh" and kana else share
    latin = sum(name.startswith("LATIN") for name in letters) / len(letters)
    counts = Counter(
        code for word in words(text) for code, common in _COMMON_WORDS.items() if word in common
    )
    most = max(counts.values(), default=0)
    return latin * (counts[language] / most if most else 1.0)


class FormatReward:
    """`format_value` of each completion."""

    name = "format"

    def __init__(self, form: str | None = "think-answer", pattern: str | None = None) -> None:
        if (form is None) == (pattern is None) and pattern is None:
            raise UserError("needs a form or a pattern.", field="rewards.form")
        if form is not None and form not in (*FORMS, "boxed"):
            raise UserError(
                f'there is no form "{form}"; there are {", ".join((*FORMS, "boxed"))}.',
                field="rewards.form",
            )
        try:
            self._pattern = (
                None if pattern is None else regex.compile(pattern, regex.DOTALL | regex.VERSION0)
            )
        except regex.error as error:
            raise UserError(
                f"is no regular expression ({error}).", field="rewards.pattern"
            ) from error
        self._form = form

    def __call__(self, completions: Sequence[str], **_: Any) -> list[float | None]:
        """Their values; None where the pattern did not come to an end."""
        return [j.value if j.counted else None for j in self.judge(completions)]

    def judge(self, completions: Sequence[str], **_: Any) -> list[Judgement]:
        """Their values, with the verdict formed, malformed or pattern-timeout, which is the
        pattern's fault and not counted."""
        return [self._one(text) for text in completions]

    def _one(self, text: str) -> Judgement:
        try:
            value = format_value(text, self._form, self._pattern)
        except TimeoutError:
            warnings.warn(
                "the pattern of the format reward did not come to an end within"
                f" {PATTERN_SECONDS:g} s on a text of {len(text)} characters: it backtracks. Such"
                " completions are not counted; write the pattern without nested repetitions.",
                stacklevel=3,
            )
            return Judgement(0.0, PATTERN_TIMEOUT, counted=False)
        return Judgement(value, "formed" if value else "malformed")


class LengthReward:
    """`length_value` of each completion, in tokens or words."""

    name = "length"

    def __init__(
        self, *, least: int = 0, free: int = 64, limit: int = 256, unit: str = "tokens"
    ) -> None:
        self._bounds, self._unit = {"least": least, "free": free, "limit": limit}, unit

    def __call__(
        self, completions: Sequence[str], completion_ids: Sequence[Sequence[int]], **_: Any
    ) -> list[float]:
        """Their values."""
        counts = (
            map(len, completion_ids)
            if self._unit == "tokens"
            else (len(text.split()) for text in completions)
        )
        return [length_value(count, **self._bounds) for count in counts]


class RepetitionReward:
    """`repetition_value` of each completion."""

    name = "repetition"

    def __init__(self, *, n: int = 3) -> None:
        self._n = n

    def __call__(self, completions: Sequence[str], **_: Any) -> list[float]:
        """Their values."""
        return [repetition_value(text, self._n) for text in completions]


class LanguageReward:
    """`language_value` of each completion, in one language or that of a column."""

    name = "language"

    def __init__(self, language: str = "en", *, column: str | None = None) -> None:
        self._language, self._column = _known_language(language), column

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """Their values."""
        wanted = (values_at(columns, self._column, len(completions)) or []) if self._column else []
        codes = [_known_language(code) if code else self._language for code in wanted] or [
            self._language
        ] * len(completions)
        return [language_value(text, code) for text, code in zip(completions, codes, strict=True)]


def _known_language(code: str) -> str:
    if code not in LANGUAGES:
        raise UserError(
            f'the language reward does not know "{code}"; it knows {", ".join(LANGUAGES)}.',
            field="language",
        )
    return code
