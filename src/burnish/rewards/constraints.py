"""Instructions that a program can check: the 25 kinds of IFEval (Zhou et al., arXiv:2311.07911),
strict and loose, as a measurement and as a reward.

A kind is a row of `KINDS`: what it needs of its arguments, and what a text must be. An unknown
kind, a missing or unknown argument and an unknown relation are errors that name it; nothing is ever
filled in by chance. Sentences, words and languages are told by the rules of
`burnish.rewards.text_parts`, in place of the libraries of the original, so that single verdicts on
long texts may differ from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from burnish.errors import UserError, listed
from burnish.records import Prompt
from burnish.rewards.base import Judgement
from burnish.rewards.columns import missing_column, nearest_paths, value_at, values_at
from burnish.rewards.text_parts import capital_words, in_language, sentences, words

_OPTIONS = ("my answer is yes.", "my answer is no.", "my answer is maybe.")
_RELATIONS: Mapping[str, Callable[[float, float], bool]] = {
    "less than": lambda count, bound: count < bound,
    "at least": lambda count, bound: count >= bound,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of instruction: the arguments that it needs, and whether a text follows it."""

    arguments: tuple[str, ...]
    check: Callable[..., bool]


def _related(count: float, relation: str, bound: float) -> bool:
    if relation not in _RELATIONS:
        raise UserError(
            f'there is no relation "{relation}"; there are {", ".join(_RELATIONS)}.', field="kwargs"
        )
    return _RELATIONS[relation](count, bound)


def _found(keyword: str, text: str) -> int:
    """How often a keyword stands in a text, whatever its case."""
    return len(re.findall(re.escape(keyword), text, re.IGNORECASE))


def _forbidden(text: str, forbidden_words: Sequence[str]) -> bool:
    return not any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
        for word in forbidden_words
    )


def _paragraphs(text: str, num_paragraphs: int) -> bool:
    """Paragraphs parted by ***; an empty one counts as none at an end and as wrong between."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    inner = parts[1:-1]
    return all(inner) and sum(map(bool, parts)) == num_paragraphs


def _nth_first_word(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    parts = [part.strip() for part in text.split("\n\n")]
    full = [part for part in parts if part]
    if len(full) != num_paragraphs or not 1 <= nth_paragraph <= len(full):
        return False
    first = full[nth_paragraph - 1].split()[0].lstrip("'\"*_#([")
    return re.split(r"[.,?!:;'\"*_)\]]", first)[0].casefold() == first_word.casefold()


def _postscript(text: str, postscript_marker: str) -> bool:
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    pattern = spaced.get(postscript_marker, re.escape(postscript_marker.casefold()))
    return re.search(rf"^\s*{pattern}.*$", text.casefold(), re.MULTILINE) is not None


def _bullets(text: str, num_bullets: int) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE)
    dashes = re.findall(r"^\s*-.*$", text, re.MULTILINE)
    return len(stars) + len(dashes) == num_bullets


def _highlights(text: str, num_highlights: int) -> bool:
    double = re.findall(r"\*\*[^\n*]+\*\*", text)
    single = re.findall(r"\*[^\n*]+\*", re.sub(r"\*\*[^\n*]+\*\*", "", text))
    return sum(bool(part.strip("* ")) for part in (*double, *single)) >= num_highlights


def _sections(text: str, section_spliter: str, num_sections: int) -> bool:
    parts = re.split(rf"\s?{re.escape(section_spliter)}\s?\d+\s?", text)
    return len(parts) - 1 >= num_sections


def _json(text: str) -> bool:
    inner = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE).strip()
    try:
        json.loads(inner)
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    return any(part.strip("<> ") for part in re.findall(r"<<[^\n]+?>>", text))


def _two_responses(text: str) -> bool:
    parts = [part.strip() for part in text.split("******")]
    if not all(parts[1:-1]):
        return False
    full = [part for part in parts if part]
    return len(full) == 2 and full[0] != full[1]


def _repeats(text: str, prompt_to_repeat: str) -> bool:
    return text.strip().casefold().startswith(prompt_to_repeat.strip().casefold())


def _ends(text: str, end_phrase: str) -> bool:
    return text.strip().strip('"').rstrip().casefold().endswith(end_phrase.strip().casefold())


KINDS: Mapping[str, Kind] = {
    "keywords:existence": Kind(("keywords",), lambda t,
        keywords: all(_found(k, t) for k in keywords)),
    "keywords:frequency": Kind(("keyword", "frequency", "relation"), lambda t, keyword, frequency,
        relation: _related(_found(keyword, t), relation, frequency)),
    "keywords:forbidden_words": Kind(("forbidden_words",), _forbidden),
    "keywords:letter_frequency": Kind(("letter", "let_frequency", "let_relation"), lambda t, letter,
        let_frequency,
        let_relation: _related(t.casefold().count(letter.casefold()), let_relation, let_frequency)),
    "language:response_language": Kind(("language",), in_language),
    "length_constraints:number_sentences": Kind(("num_sentences", "relation"), lambda t,
        num_sentences, relation: _related(len(sentences(t)), relation, num_sentences)),
    "length_constraints:number_paragraphs": Kind(("num_paragraphs",), _paragraphs),
    "length_constraints:number_words": Kind(("num_words", "relation"), lambda t, num_words,
        relation: _related(len(words(t)), relation, num_words)),
    "length_constraints:nth_paragraph_first_word": Kind(("num_paragraphs", "nth_paragraph",
            "first_word"), _nth_first_word),
    "detectable_content:number_placeholders": Kind(("num_placeholders",), lambda t,
        num_placeholders: len(re.findall(r"\[.*?\]", t)) >= num_placeholders),
    "detectable_content:postscript": Kind(("postscript_marker",), _postscript),
    "detectable_format:number_bullet_lists": Kind(("num_bullets",), _bullets),
    "detectable_format:constrained_response": Kind((),
        lambda t: any(option in t.casefold() for option in _OPTIONS)),
    "detectable_format:number_highlighted_sections": Kind(("num_highlights",), _highlights),
    "detectable_format:multiple_sections": Kind(("section_spliter", "num_sections"), _sections),
    "detectable_format:json_format": Kind((), _json),
    "detectable_format:title": Kind((), _title),
    "combination:two_responses": Kind((), _two_responses),
    "combination:repeat_prompt": Kind(("prompt_to_repeat",), _repeats),
    "startend:end_checker": Kind(("end_phrase",), _ends),
    "startend:quotation": Kind((),
        lambda t: len(t.strip()) > 1 and t.strip()[0] == t.strip()[-1] == '"'),
    "change_case:capital_word_frequency": Kind(("capital_frequency", "capital_relation"), lambda t,
        capital_frequency,
        capital_relation: _related(len(capital_words(t)), capital_relation, capital_frequency)),
    "change_case:english_capital": Kind((),
        lambda t: t.isupper() and in_language(t.casefold(), "en")),
    "change_case:english_lowercase": Kind((), lambda t: t.islower() and in_language(t, "en")),
    "punctuation:no_comma": Kind((), lambda t: "," not in t),
}  # fmt: skip
"""The 25 kinds, by IFEval's ids."""


def follows(
    text: str,
    instructions: Sequence[str],
    kwargs: Sequence[Mapping[str, Any] | None] | None,
    *,
    prompt: str = "",
    loose: bool = False,
) -> list[bool]:
    """Whether a text follows each instruction; one that stands twice is checked twice.

    Args:
        text: the answer; a blank one follows none.
        instructions: their ids.
        kwargs: their arguments, one mapping each; a null argument is none.
        prompt: in the errors.
        loose: also in its variants: without asterisks, without its first line, its last, or both.
            The text itself is one of them, so that whatever is strict is loose.

    Raises UserError for an unknown id, a missing or unknown argument, and lists of two lengths.
    """
    where = f"{prompt[:60]!r}: " if prompt else ""
    listed_kwargs = list(kwargs or ({},) * len(instructions))
    if not instructions or len(listed_kwargs) != len(instructions):
        problem = f"{where}{len(instructions)} instructions have {len(listed_kwargs)} kwargs."
        raise UserError(problem, field="kwargs", hint="Give one object for each instruction.")
    checks = [
        _bound(name, one or {}, where)
        for name, one in zip(instructions, listed_kwargs, strict=True)
    ]
    texts = _variants(text) if loose else [text]
    return [any(bool(one.strip()) and check(one) for one in texts) for check in checks]


def _bound(name: str, kwargs: Mapping[str, Any], where: str) -> Callable[[str], bool]:
    """The check of one instruction with its arguments."""
    kind = KINDS.get(name)
    if kind is None:
        raise UserError(
            f'{where}there is no instruction "{name}".',
            field="instruction_id_list",
            hint=f"There are {listed(KINDS)}.",
        )
    own = {key: value for key, value in kwargs.items() if value is not None}
    wrong = sorted(set(kind.arguments) ^ own.keys())
    if wrong:
        what = "lacks" if wrong[0] in kind.arguments else "does not know"
        raise UserError(f'{where}{name} {what} the argument "{wrong[0]}".', field="kwargs")
    return lambda text: kind.check(text, **own)


def _variants(text: str) -> list[str]:
    lines = text.split("\n")
    cuts = [lines[first : len(lines) - last] for first, last in product((0, 1), (0, 1))]
    whole = [text, *("\n".join(cut).strip() for cut in cuts[1:])]
    return [*whole, *(one.replace("*", "") for one in whole)]


class ConstraintsReward:
    """The share of a prompt's instructions that a completion follows, or 1 for all of them; the
    columns are IFEval's, `instruction_id_list` and `kwargs`."""

    name = "constraints"

    def __init__(self, *, partial: bool = True, loose: bool = False) -> None:
        self._partial, self._loose = partial, loose

    def applies_to(self, prompt: Prompt) -> bool:
        """Whether a prompt has instructions. Raises UserError where they cannot be checked."""
        names = value_at(prompt.columns, "instruction_id_list")
        if names:
            follows("text", names, value_at(prompt.columns, "kwargs"))
        return bool(names)

    def why_not(self, prompts: Sequence[Prompt]) -> str:
        """Why it applies to none of these prompts."""
        known = ", ".join(nearest_paths(prompts)[:12]) or "none"
        return f"none has instructions in the column instruction_id_list; there are {known}."

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """Their values; None where a prompt has no instruction."""
        return [judged.value for judged in self.judge(completions, **columns)]

    def judge(self, completions: Sequence[str], **columns: Any) -> list[Judgement]:
        """Their values, with the verdict correct where every instruction is followed."""
        names = values_at(columns, "instruction_id_list", len(completions))
        if names is None:
            raise missing_column(self.name, "instruction_id_list")
        kwargs = values_at(columns, "kwargs", len(completions)) or [None] * len(completions)
        return [self._one(text, *of) for text, *of in zip(completions, names, kwargs, strict=True)]

    def _one(self, text: str, names: Any, kwargs: Any) -> Judgement:
        if not names:
            return Judgement(None)
        followed = follows(text, names, kwargs, loose=self._loose)
        share = sum(followed) / len(followed)
        value = share if self._partial else float(all(followed))
        return Judgement(value, "correct" if all(followed) else "wrong")
