"""Short answers: whether one is right, whether it owns that it does not know, whether several
agree. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

SURE = 0.8
"""Sure is an answer that this share of a question's samples have in common: four of five."""

_WORDS = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})
_NAMES = "zero one two three four five six seven eight nine ten eleven twelve"
_NUMBERS = {word: str(number) for number, word in enumerate(_NAMES.split())}
_ABSTAINS = re.compile(
    r"""\b(?:
    (?:i|we)\s+(?:really\s+|just\s+|simply\s+|honestly\s+)?(?:do\s*n[o']?t|do\s+not|ca\s*n[o']?t|cannot|could\s*n[o']?t|could\s+not|am\s+not\s+able\s+to|[’']?m\s+not\s+able\s+to|am\s+unable\s+to|[’']?m\s+unable\s+to)\s+
        (?:actually\s+)?(?:know|recogni[sz]e|have\s+(?:any\s+|enough\s+|specific\s+|reliable\s+)?(?:information|knowledge|data|record|details)|find|identify|verify|confirm|answer|provide|say|tell|recall|locate)
    |(?:i(?:\s+am|[’']m)|we(?:\s+are|[’']re))\s+(?:not\s+(?:sure|certain|aware|familiar)|unsure|unaware|unfamiliar|uncertain)
    |(?:i[’']ve|i\s+have|i\s+had)\s+(?:never|not)\s+(?:heard|come\s+across)
    |no\s+(?:such|known|record\s+of|information\s+(?:about|on|is|available)|evidence\s+(?:of|that)|idea)
    |there\s+(?:is|are|was|were|does\s*n[’']?t|do(?:es)?\s+not)\s+(?:seem\s+to\s+be\s+)?(?:no|not\s+any|n[’']t\s+any)\b
    |(?:does|do|did|may|might)\s*(?:n[’']?t|\s+not)\s+(?:seem\s+to\s+|appear\s+to\s+)?(?:exist|be\s+real)
    |(?:is|are|was|were)\s+(?:not\s+(?:a\s+(?:real|known)|real|known|publicly\s+available)|fictional|fictitious|imaginary|made[\s-]up|invented|unknown)
    |(?:appears?|seems?)\s+to\s+be\s+(?:fictional|fictitious|imaginary|made[\s-]up|invented|a\s+(?:fictional|fictitious|made-up))
    |could\s+you\s+(?:please\s+)?(?:clarify|provide\s+(?:more|additional))
    |need\s+more\s+(?:context|information)
    |unknown\s+to\s+me
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def normal(text: str) -> list[str]:
    """The words of a text: case folded, accents kept, number words as digits, without articles."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = (_NUMBERS.get(str(word), str(word)) for word in _WORDS.findall(folded))
    return [word for word in words if word not in _ARTICLES]


def matches(answer: str, accepted: Sequence[str]) -> bool:
    """Whether one of the accepted texts stands in the answer as whole words, and the answer's first
    line does not deny it ("not Lisbon")."""
    words = normal(answer)
    return any(_stands(normal(text), words) for text in accepted)


def _stands(wanted: Sequence[str], words: Sequence[str]) -> bool:
    if not wanted:
        return False
    size = len(wanted)
    places = [
        place
        for place in range(len(words) - size + 1)
        if list(words[place : place + size]) == list(wanted)
    ]
    return any(place == 0 or words[place - 1] not in ("not", "never", "isn") for place in places)


def abstains(answer: str) -> bool:
    """Whether an answer owns that it does not know, or says that there is no such thing; an empty
    answer does."""
    text = answer.replace("’", "'").strip()
    return not text or _ABSTAINS.search(text) is not None


def agreed(answers: Sequence[str]) -> bool:
    """Whether at least `SURE` of the answers, of two or more, give the same one: one of them as
    whole words within so many others, its first sentence standing for it."""
    if len(answers) < 2:
        return False
    said = [normal(re.split(r"[.\n]", answer.strip(), maxsplit=1)[0]) for answer in answers]
    shared = [sum(_alike(one, other) for other in said) for one in said]
    return max(shared) >= SURE * len(answers)


def _alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two answers say the same: equal, or one within the other."""
    if not one or not other:
        return False
    return _stands(one, other) or _stands(other, one)
