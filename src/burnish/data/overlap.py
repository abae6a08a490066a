"""What two sets of texts have in common: prompts that are the same, and runs of words that stand in
both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from burnish.data.columns import Record
from burnish.data.prompts import opening
from burnish.records import PreferenceGroup

WORDS = 13
"""Words in a run: the length that GPT-3's authors looked for (arXiv:2005.14165, appendix C)."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many records of one set share something with another: `same` have a prompt that stands
    there, `alike` hold a run of `WORDS` words that does, and no such prompt; `examples` are the
    first few ids."""

    same: int
    alike: int
    examples: tuple[str, ...]


def overlap(records: Sequence[Record], others: Iterable[Record]) -> Overlap:
    """What of `records` stands in `others`, white space, case and punctuation aside."""
    openings: set[str] = set()
    runs: set[tuple[str, ...]] = set()
    for other in others:
        openings.add(opening(other))
        runs |= _runs(_text(other))
    same = [record for record in records if opening(record) in openings]
    named = {id(record) for record in same}
    alike = [
        record
        for record in records
        if id(record) not in named and not runs.isdisjoint(_runs(_text(record)))
    ]
    return Overlap(len(same), len(alike), tuple(_name(record) for record in (*same, *alike)[:5]))


def _runs(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[place : place + WORDS]) for place in range(len(words) - WORDS + 1)}


def _text(record: Record) -> str:
    messages = record.prompt.messages if isinstance(record, PreferenceGroup) else record.messages
    answers = record.responses if isinstance(record, PreferenceGroup) else ()
    return "\n".join([*(message["content"] for message in messages), *answers])


def _name(record: Record) -> str:
    return record.prompt.id if isinstance(record, PreferenceGroup) else record.id
