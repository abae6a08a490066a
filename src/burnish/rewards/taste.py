"""A gold taste over measurable properties of a response, each in [0, 1]. Pure and torch-free.

The simulated annotators each hold a personal version of such a taste, and evaluation asks the gold one directly. The
properties are deliberately plain, so that a reader can check a score by eye: they measure manners, not truth.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

PROPERTIES = ("direct", "concise", "courteous", "relevant", "fresh", "finished")

_WORD = re.compile(r"[A-Za-z0-9]+(?:['’][A-Za-z]+)?")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?:\s|$)")

_PREAMBLE = re.compile(
    r"^\W*(?:(?:sure|certainly|of course|absolutely|okay|ok|alright|great|good|excellent|interesting)\b[\s,!.]*(?:question|thing)?[\s,!.:]*(?:here|i|let|you|the|below)?"
    r"|as an? (?:ai|language model)|i'?m (?:happy|glad|sorry|just|an|here|unable|not)|i am (?:happy|glad|sorry|an|a|here|unable|not)"
    r"|i'?d be|i would be|i (?:can|could|can'?t|cannot) (?:help|assist|provide|certainly)|here(?:'s| is| are)|thank you for|thanks for|to answer|let me|let's"
    r"|that'?s a (?:great|good)|what a|hello|hi there|the question)\b",
    re.IGNORECASE,
)  # fmt: skip

_COURTESY = re.compile(
    r"\b(?:please|thank(?:s| you)|you'?re (?:very |most )?welcome|welcome to ask|hope (?:that|this|it|you|your)|happy to help|glad to help|feel free"
    r"|good luck|best of luck|enjoy|take care|have (?:a|fun)|best wishes|kind regards|congratulations|well done|let me know|happy (?:to|cooking|baking|reading|travels|gardening|birthday|painting|writing|learning)"
    r"|wish(?:ing)? you|don'?t worry|no worries|i'?m sorry|sorry to hear|safe travels|all the best|good question|cheers)\b",
    re.IGNORECASE,
)  # fmt: skip

_STOP = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "get",
        "give",
        "had",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "just",
        "me",
        "my",
        "name",
        "need",
        "of",
        "on",
        "or",
        "our",
        "should",
        "so",
        "some",
        "tell",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "they",
        "this",
        "to",
        "up",
        "us",
        "use",
        "want",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "about",
        "any",
        "make",
        "most",
        "one",
        "please",
        "say",
        "write",
        "explain",
        "help",
        "between",
        "into",
        "out",
        "good",
        "best",
        "way",
        "mean",
        "word",
        "short",
        "sentence",
        "know",
        "like",
        "keep",
    ]
)


def words(text: str) -> list[str]:
    """Words and numbers of a text, lower-case."""
    return [word.lower() for word in _WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The text cut at sentence ends and line breaks; empty parts are left out."""
    return [part.strip() for line in text.splitlines() for part in _SENTENCE_END.split(line) if part and part.strip()]


def properties(prompt: str, response: str) -> dict[str, float]:
    """The six properties of a response to a prompt, each in [0, 1]; an empty response has none of them.

    direct:    1 when the first sentence is neither a preamble ("Sure! Here is …") nor the question again; else 0.
    concise:   1 from 8 to 40 words, rising from 0 before, falling to 0 at 80 words.
    courteous: 1 for one or two courteous phrases, 0 for none; a third and a fourth cost half each.
    relevant:  share of the prompt's content words (word stems) that the response takes up, full marks from a half.
    fresh:     1 minus twice the share of repeated word trigrams, and minus the share of repeated sentences.
    finished:  1 when it ends with a sentence end, else 0.
    """
    tokens = words(response)
    if not tokens:
        return dict.fromkeys(PROPERTIES, 0.0)
    return {
        "direct": _direct(prompt, response),
        "concise": _trapezium(len(tokens), 0, 8, 40, 80),
        "courteous": _courteous(response),
        "relevant": _relevant(prompt, tokens),
        "fresh": _fresh(response, tokens),
        "finished": float(bool(re.search(r"[.!?…][\"'”’)\]]*\s*$", response))),
    }


def property_matrix(prompt: str, responses: Sequence[str]) -> np.ndarray:
    """[K, F]: the properties of K responses, columns in the order of `PROPERTIES`."""
    return np.array([[properties(prompt, r)[name] for name in PROPERTIES] for r in responses])


def taste_score(weights: Mapping[str, float], prompt: str, response: str) -> float:
    """Σ w f / Σ |w| over the properties f: in [0, 1] for non-negative weights, in [−1, 1] for any.

    A negative weight is a dislike. A taste whose weights are all 0 likes everything equally: 0.
    """
    total = sum(map(abs, weights.values()))
    found = properties(prompt, response)
    return sum(weights[name] * found[name] for name in weights) / total if total else 0.0


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
    return 0.0 if found == 0 else float(np.clip(1.0 - 0.5 * (found - 2), 0.0, 1.0)) if found > 2 else 1.0


def _relevant(prompt: str, tokens: Sequence[str]) -> float:
    asked = {_stem(w) for w in words(prompt)} - _STOP - {""}
    asked = {w for w in asked if len(w) > 2 or w.isdigit()}
    if not asked:
        return 1.0
    said = {_stem(w) for w in tokens}
    return min(1.0, 2.0 * len(asked & said) / len(asked))


def _fresh(response: str, tokens: Sequence[str]) -> float:
    trigrams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    repeated = 1.0 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
    parts = [" ".join(words(s)) for s in sentences(response)]
    doubled = 1.0 - len(set(parts)) / len(parts) if parts else 0.0
    return float(np.clip(1.0 - 2.0 * repeated - doubled, 0.0, 1.0))


def _trapezium(x: float, zero: float, full: float, full_end: float, zero_end: float) -> float:
    """0 at `zero`, rising to 1 at `full`, 1 until `full_end`, falling to 0 at `zero_end`."""
    return float(np.clip(min((x - zero) / (full - zero), (zero_end - x) / (zero_end - full_end)), 0.0, 1.0))


def _stem(word: str) -> str:
    """A crude English stem: enough for plants = plant, watering = water, cooked = cook."""
    for suffix in ("'s", "’s", "ing", "ies", "ied", "ers", "er", "ed", "es", "ly", "s"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)]
    return word
