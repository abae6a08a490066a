"""A gold taste over measurable properties of a response, each in [0, 1]. Pure and torch-free.

The simulated annotators each hold a personal version of such a taste, and evaluation asks the gold
one directly. The properties are deliberately plain, so that a reader can check a score by eye: they
measure manners, not truth. So that no formula pleases it, manners count half where the answer is
beside the point, and nothing counts in
what makes no sense: `earned`. Evaluation, which has a base model, measures sense by that as well
(`burnish.rewards.sense`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

PROPERTIES = ("direct", "concise", "courteous", "relevant", "fresh", "finished")
_LEAST_FUNCTION = (
    0.2  # share of function words; 99 % of the quickstart's demonstrations have 0.25 and more
)

_WORD = re.compile(r"[A-Za-z0-9]+(?:['’][A-Za-z]+)?")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?:\s|$)")

_PREAMBLE = re.compile(
    r"^\W*(?:(?:sure|certainly|of"
    r" course|absolutely|okay|ok|alright|great|good|excellent|interesting)\b[\s,!.]*(?:question|thing)?[\s,!.:]*(?:here|i|let|you|the|below)?"  # noqa: E501
    r"|as an? (?:ai|language model)|i'?m (?:happy|glad|sorry|just|an|here|unable|not)|i am"
    r" (?:happy|glad|sorry|an|a|here|unable|not)"
    r"|i'?d be|i would be|i (?:can|could|can'?t|cannot)"
    r" (?:help|assist|provide|certainly)|here(?:'s| is| are)|thank you for|thanks for|to answer|let"
    r" me|let's"
    r"|that'?s a (?:great|good)|what a|hello|hi there|the question)\b",
    re.IGNORECASE,
)

_COURTESY = re.compile(
    r"\b(?:please|thank(?:s| you)|you'?re (?:very |most )?welcome|welcome to ask|hope"
    r" (?:that|this|it|you|your)|happy to help|glad to help|feel free"
    r"|good luck|best of luck|enjoy|take care|have (?:a|fun)|best wishes|kind"
    r" regards|congratulations|well done|let me know|happy"
    r" (?:to|cooking|baking|reading|travels|gardening|birthday|painting|writing|learning)"
    r"|wish(?:ing)? you|don'?t worry|no worries|i'?m sorry|sorry to hear|safe travels|all the"
    r" best|good question|cheers)\b",
    re.IGNORECASE,
)

_STOP = frozenset(
    _WORD.findall("""
    a about an and any are as at be been best between but by can could did do does explain for
    from get give good had has have help how i if in into is it its just keep know like make me
    mean most my name need of on one or our out please say sentence short should so some tell
    than that the their them then there they this to up us use want was way we were what when
    where which who why will with word would write you your
    """)
)
"""Words of a prompt that say nothing of its subject."""
_FUNCTION = frozenset(
    _WORD.findall("""
    a an the this that these those some any each every no all both more most other such i me my
    you your he him his she her it its we us our they them their who what which whose one and or
    but nor so yet if because as than though while although when where how why until unless
    since whether of to in on at by for with from into onto over under about after before
    between through during without within against up down off out is are was were be been being
    am do does did have has had will would can could should may might must shall not there here
    then too also just only very
    """)
)
"""Words that hold a sentence together; a third to a half of English text, and hardly any of a list
of key words."""


def words(text: str) -> list[str]:
    """Words and numbers of a text, lower-case."""
    return [word.lower() for word in _WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The text cut at sentence ends and line breaks; empty parts are left out."""
    return [
        part.strip()
        for line in text.splitlines()
        for part in _SENTENCE_END.split(line)
        if part and part.strip()
    ]


def properties(prompt: str, response: str, *, beside: str = "") -> dict[str, float]:
    """The six properties of a response to a prompt, each in [0, 1]; an empty response has none of
    them.

    direct:    1 when the first sentence is neither a preamble ("Sure! Here is …") nor the question
        again; else 0.
    concise:   1 from 8 to 40 words, rising from 0 before, falling to 0 at 80 words.
    courteous: 1 for one or two courteous phrases, 0 for none; a third and a fourth cost half each.
    relevant:  share of the prompt's content words (word stems) that the response takes up, full
        marks from a half; less the
               same of `beside`, another prompt, so that an answer that fits every prompt fits none.
    fresh:     1 minus twice the share of repeated word trigrams, and minus the share of repeated
        sentences.
    finished:  1 when it ends with a sentence end, else 0.
    """
    tokens = words(response)
    if not tokens:
        return dict.fromkeys(PROPERTIES, 0.0)
    return {
        "direct": _direct(prompt, response),
        "concise": _trapezium(len(tokens), 0, 8, 40, 80),
        "courteous": _courteous(response),
        "relevant": _relevant(prompt, beside, tokens),
        "fresh": _fresh(response, tokens),
        "finished": float(bool(re.search(r"[.!?…][\"'”’)\]]*\s*$", response))),
    }


def sense(prompt: str, response: str) -> float:
    """Whether a response is an answer in sentences, as far as counting words tells, in [0, 1]; 0
    for an empty one.

    The product of two factors. Sentences: function words are at least 20 % of all (half a word is
    given away, so that short answers pass); fewer count in proportion. Its own words: full marks
    when at most two thirds of its word trigrams stand in the prompt, 0 when all do: an echo answers
    nothing.
    """
    tokens = words(response)
    if not tokens:
        return 0.0
    held = sum(token in _FUNCTION for token in tokens) + 0.5
    in_sentences = min(1.0, held / (_LEAST_FUNCTION * len(tokens)))
    trigrams, asked = _trigrams(tokens), set(_trigrams(words(prompt)))
    copied = sum(trigram in asked for trigram in trigrams) / len(trigrams) if trigrams else 0.0
    return in_sentences * min(1.0, 3.0 * (1.0 - copied))


def earned(found: Mapping[str, float], sense: float) -> dict[str, float]:
    """What properties count for in a taste: s·r for relevance, s·(1 + r)/2 · f for each other
    property f; r relevance, s sense."""
    on_topic = 0.5 + 0.5 * found["relevant"]
    return {
        name: sense * value * (1.0 if name == "relevant" else on_topic)
        for name, value in found.items()
    }


def property_matrix(prompt: str, responses: Sequence[str]) -> np.ndarray:
    """[K, F]: what the properties of K responses count for (`earned`), columns in the order of
    `PROPERTIES`."""
    counted = [earned(properties(prompt, r), sense(prompt, r)) for r in responses]
    return np.array([[one[name] for name in PROPERTIES] for one in counted])


def taste_score(
    weights: Mapping[str, float],
    prompt: str,
    response: str,
    *,
    beside: str = "",
    under_base: float = 1.0,
) -> float:
    """Σ w e / Σ w over what the properties count for (`earned`): in [0, 1].

    `weights` are not negative, and one of them is above 0. `under_base`: the sense that a base
    model sees in it.
    """
    counted = earned(
        properties(prompt, response, beside=beside), sense(prompt, response) * under_base
    )
    return sum(weights[name] * counted[name] for name in weights) / sum(weights.values())


def _direct(prompt: str, response: str) -> float:
    first = (sentences(response) or [""])[0]
    if _PREAMBLE.match(first):
        return 0.0
    asked, said = set(words(prompt)), words(first)
    restates = (
        bool(said)
        and response.lstrip()[len(first) :].startswith("?")
        and sum(word in asked for word in said) / len(said) > 0.6
    )
    return 0.0 if restates else 1.0


def _courteous(response: str) -> float:
    found = len(_COURTESY.findall(response))
    return (
        0.0
        if found == 0
        else float(np.clip(1.0 - 0.5 * (found - 2), 0.0, 1.0))
        if found > 2
        else 1.0
    )


def _relevant(prompt: str, beside: str, tokens: Sequence[str]) -> float:
    asked, said = _content(prompt), {_stem(w) for w in tokens}
    if not asked:
        return 1.0
    elsewhere = _content(beside) - asked
    fits_elsewhere = len(elsewhere & said) / len(elsewhere) if elsewhere else 0.0
    return min(1.0, max(0.0, 2.0 * (len(asked & said) / len(asked) - fits_elsewhere)))


def _content(prompt: str) -> set[str]:
    """The stems of the words that say what a prompt is about."""
    stems = {_stem(w) for w in words(prompt)} - _STOP
    return {w for w in stems if len(w) > 2 or w.isdigit()}


def _trigrams(tokens: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(tokens, tokens[1:], tokens[2:], strict=False))


def _fresh(response: str, tokens: Sequence[str]) -> float:
    trigrams = _trigrams(tokens)
    repeated = 1.0 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
    parts = [" ".join(words(s)) for s in sentences(response)]
    doubled = 1.0 - len(set(parts)) / len(parts) if parts else 0.0
    return float(np.clip(1.0 - 2.0 * repeated - doubled, 0.0, 1.0))


def _trapezium(x: float, zero: float, full: float, full_end: float, zero_end: float) -> float:
    """0 at `zero`, rising to 1 at `full`, 1 until `full_end`, falling to 0 at `zero_end`."""
    return float(
        np.clip(min((x - zero) / (full - zero), (zero_end - x) / (zero_end - full_end)), 0.0, 1.0)
    )


def _stem(word: str) -> str:
    """A crude English stem: enough for plants = plant, watering = water, cooked = cook."""
    for suffix in ("'s", "’s", "ing", "ies", "ied", "ers", "er", "ed", "es", "ly", "s"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word
