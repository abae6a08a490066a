"""Sentences, words and languages of a text by plain rules. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from burnish.errors import UserError

_WORD = re.compile(r"\w+")
_SHORT = "mr mrs ms dr prof st sr jr vs etc e.g i.e inc ltd co fig no p pp cf approx dept gen col"
_ABBREVIATIONS = frozenset((_SHORT + " sgt rev hon u.s u.k a.m p.m ph.d").split())
_END = re.compile(r"[.!?。！？؟।]+[\"'”’)\]]*(?=\s|$)|[。！？]")
_BY_SCRIPT = {
    "bn": "BENGALI", "te": "TELUGU", "ta": "TAMIL", "kn": "KANNADA", "gu": "GUJARATI",
    "pa": "GURMUKHI", "ml": "MALAYALAM",
    "th": "THAI", "ko": "HANGUL", "he": "HEBREW", "el": "GREEK",
}  # fmt: skip
# letters that only one of the languages of a script has, and words that are common in it
_MARKS = {
    "uk": ("іїєґ", "і та що не на як це але для є"),
    "bg": ("", "и на да се за не това като от е са което ще"),
    "ru": ("ыэё", "и в не на что я он как это она по но из у для"),
    "fa": ("پچژگک", "و در به از که این را با است برای"),
    "ur": ("ٹڈڑںےہ", "اور کے میں ہے کی کا سے یہ نے ہیں"),
    "ar": ("ةىإأ", "في من على أن إلى هذا التي و مع عن"),
    "hi": ("", "है के में की का और से को यह हैं कि पर"),
    "mr": ("ळ", "आहे आणि च्या मध्ये ते हे ला नाही या आहेत"),
    "ne": ("", "छ र को मा हो लाई छन् यो पनि गर्न"),
}
_SCRIPTS = {
    "CYRILLIC": ("ru", "uk", "bg"),
    "ARABIC": ("ar", "fa", "ur"),
    "DEVANAGARI": ("hi", "mr", "ne"),
}
_COMMON = {
    "en": (
        "the of and to in is that it was for on are as with his they be at this have from or had by"
        " but what some we can out other were all there when up use your how an each she which do"
        " their if will my no you not would"
    ),
    "de": (
        "der die das und ist nicht ein eine zu den mit von auf für im dem sich des auch es werden"
        " aus er hat dass sie nach wird bei einer um am sind noch wie einem über so zum war haben"
        " nur oder aber ich du wir"
    ),
    "es": (
        "el la los las de que y en un una es por con no para su se lo como más pero sus le ya este"
        " sí porque esta entre cuando muy sin sobre también hasta hay donde desde todo nos ser"
        " son fue"
    ),
    "fr": (
        "le la les de des et un une est en que qui dans il elle pour pas sur ne au aux ce se plus"
        " par avec son sa ses mais ou on nous vous je être sont cette ces comme tout leur"
    ),
    "it": (
        "il lo la gli le di che e un una è in per non con sono del della dei delle da si come più"
        " ma anche al alla nel nella questo questa ha ho se perché quando molto dove"
    ),
    "pt": (
        "o a os as de que e do da dos das em um uma é para com não por no na se mais como mas ao"
        " ele ela seu sua ou quando muito nos já também só pelo pela até isso entre mesmo você são"
    ),
    "nl": (
        "de het een en van is in dat op te zijn voor met niet aan er om ook als bij of maar dan wat"
        " hij ze naar door over uit nog wel kan worden deze die we ik je"
    ),
    "pl": (
        "i w nie na się że z do jest to o jak ale po co tak za od przez czy są dla już tylko jego"
        " był może które który"
    ),
    "fi": (
        "ja on ei se että hän oli joka mutta ovat kun niin myös tai kuin sen ole jos voi olla minä"
        " sinä tämä mitä hyvin"
    ),
    "sw": (
        "na ya wa kwa ni katika la za cha kuwa hii huu yake si kama lakini watu au hiyo sana mimi"
        " wewe yeye kwamba pia"
    ),
    "vi": (
        "và của là có cho không được các một trong người những với này để khi đã đến từ cũng như"
        " tôi bạn về"
    ),
}
_LATIN = {code: frozenset(text.split()) for code, text in _COMMON.items()}
LANGUAGES = tuple(sorted({*_BY_SCRIPT, *_MARKS, *_LATIN, "ja", "zh"}))
"""The codes that `language_of` knows."""


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores."""
    return _WORD.findall(text)


def sentences(text: str) -> list[str]:
    """What ends with a full stop, a question mark or an exclamation mark and white space behind it,
    but for abbreviations, single capitals and numbers of a list; and lines that end without one."""
    found: list[str] = []
    for line in filter(None, (part.strip() for part in re.split(r"\n\s*\n|\n", text))):
        start = 0
        for end in _END.finditer(line):
            inside = end.group().startswith(".") and end.end() < len(line)
            if inside and _goes_on(line[start : end.start()]):
                continue
            found.append(line[start : end.end()].strip())
            start = end.end()
        found += [line[start:].strip()] if line[start:].strip() else []
    return [one for one in found if _WORD.search(one)]


def _goes_on(before: str) -> bool:
    """Whether the full stop behind this ends no sentence: it is of an abbreviation, of an initial,
    or of a number that begins a list's entry."""
    last = (before.rsplit(None, 1) or [""])[-1].lstrip("(\"'“").casefold()
    numbered = re.fullmatch(r"\d{1,2}", before.strip()) is not None
    return numbered or last in _ABBREVIATIONS or re.fullmatch(r"[^\W\d_]", last) is not None


def capital_words(text: str) -> list[str]:
    """Words whose letters are all capitals; hyphens and apostrophes hold a word together."""
    return [word for word in re.findall(r"\w+(?:[-'’]\w+)*", text) if word.isupper()]


def language_of(text: str) -> str | None:
    """The language of a text by its script, letters of its own and common words; None: it cannot be
    told."""
    letters = [unicodedata.name(sign, "") for sign in text if sign.isalpha()]
    if not letters:
        return None
    scripts = Counter(name.split(" ")[0] for name in letters)
    script = scripts.most_common(1)[0][0]
    if scripts["HIRAGANA"] + scripts["KATAKANA"] > 0.1 * len(letters):
        return "ja"
    if script == "CJK":
        return "zh"
    own = next((code for code, name in _BY_SCRIPT.items() if name == script), None)
    if own is not None:
        return own
    held = [word.casefold() for word in re.findall(r"[^\W\d_]+[^\s\w.,;:!?।]*[^\W\d_]*", text)]
    if script in _SCRIPTS:
        return _by_marks(text, _SCRIPTS[script])
    counts = {code: sum(word in common for word in held) for code, common in _LATIN.items()}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def _by_marks(text: str, codes: tuple[str, ...]) -> str:
    held = re.split(r"[\s.,;:!?।۔،]+", text.casefold())
    scores = {}
    for code in codes:
        own, common = _MARKS[code]
        marked = sum(text.casefold().count(sign) for sign in own)
        scores[code] = 2 * marked + 3 * sum(word in common.split() for word in held)
    return max(scores, key=scores.__getitem__)


def in_language(text: str, language: str) -> bool:
    """Whether a text is in a language, by `language_of`; one whose language cannot be told counts
    as in any, as in IFEval. Raises UserError for a code that is not known."""
    if language not in LANGUAGES:
        raise UserError(
            f'the language "{language}" cannot be told.', field="language",
            hint=f"There are {', '.join(LANGUAGES)}.",
        )  # fmt: skip
    return language_of(text) in (None, language)
