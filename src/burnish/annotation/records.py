"""What annotators say: the kinds of task, and an `Answer` with what its kind needs. Plain frozen
records, no database, no torch.

Candidates are always named by their position in the item, never by where they stood on the screen;
`presented` is the order of showing. Candidate 0 of a pair is `first` of
`burnish.records.Comparison`: a positive strength favours it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

Kind = Literal[
    "pairwise", "ranking", "best_worst", "likert", "rubric", "demonstration", "correction", "chat"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

STEPPED: tuple[Kind, ...] = (
    "pairwise", "ranking", "best_worst", "likert", "rubric", "correction",
)  # fmt: skip
"""The kinds whose candidates can be marked step by step beside what the kind asks."""

Part = Literal["work", "training", "qualification", "retired"]
"""What an item is for: `work` is labelled, `training` teaches, `qualification` examines, `retired`
is out of use. Only work is data."""

Role = Literal["owner", "reviewer", "annotator"]
Source = Literal["label", "adjudication"]
"""Whether an answer is one vote among others or a reviewer's decision on votes that differed."""


@dataclass(frozen=True, slots=True)
class Span:
    """A marked stretch of a candidate's raw text: characters (code points) `start` up to but not
    including `end`."""

    candidate: int
    start: int
    end: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a chat: what the person wrote ("" where the item's own prompt is answered), the
    candidates, and the choice among them.

    `strength` as in Answer. `chosen` is the candidate that the conversation went on with.
    """

    user: str
    candidates: tuple[str, ...]
    presented: tuple[int, ...]
    strength: int
    chosen: int
    both_bad: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One annotator's answer to one item. Fields that the kind does not have are None or empty.

    Args:
        kind: which of the kinds of task was answered.
        presented: candidates in the order in which they were shown.
        strength: pairwise: −k..k; above 0 candidate 0 is better, below 0 candidate 1, at 0 neither
            (a tie).
        both_bad: pairwise: neither is acceptable; strength is then 0.
        ranks: ranking (and pairwise, from the strength): the place of each candidate, 1 the best,
            equal ranks ties.
        ratings: likert (and any kind that asks): by attribute, a rating for each candidate; None
            where it was left open.
        flags: by flag, the candidates that bear it.
        critique: free text.
        spans: marked stretches with notes.
        text: demonstration: what was written; correction: the corrected text (chosen), against
            candidate `corrected` (rejected).
        corrected: correction: the candidate that was corrected. A pair's or a ranking's winner may
            be edited too: `text` is then better than candidate `corrected`, which is better than
                the others.
        preferences: pairwise: by dimension (helpful, harmless, ...) a strength, as for the whole.
        reasons: by dimension, why.
        best: best_worst: the best candidate; `ranks` then say 1 for it, 2 for the others, 3 for the
            worst.
        worst: best_worst: the worst candidate.
        verdicts: rubric: by criterion, whether each candidate meets it.
        weights: rubric: the criteria's weights when the answer was given.
        step_verdicts: of each candidate, by step (`labels.steps.steps_of`): 1 right, 0 neutral, −1
            wrong; None where it was left open.
        turns: chat: the conversation.
        skipped: the reason, where the item was skipped; everything else is then empty.
    """

    kind: Kind
    presented: tuple[int, ...] = ()
    strength: int | None = None
    both_bad: bool = False
    ranks: tuple[int, ...] | None = None
    ratings: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)
    flags: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    critique: str = ""
    spans: tuple[Span, ...] = ()
    text: str | None = None
    corrected: int | None = None
    turns: tuple[Turn, ...] = ()
    skipped: str | None = None
    preferences: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    best: int | None = None
    worst: int | None = None
    verdicts: tuple[tuple[bool, ...], ...] = ()
    weights: tuple[float, ...] = ()
    step_verdicts: tuple[tuple[int | None, ...], ...] = ()

    def payload(self) -> dict[str, Any]:
        """For the `payload` column: what is not in a column of its own and not empty, as JSON holds
        it."""
        own = {"kind", "presented", "ranks", "skipped"}
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in own and not _empty(value)
        }


def _empty(value: Any) -> bool:
    """Nothing was said; the number 0 says something."""
    return value is None or value is False or (not isinstance(value, int) and not value)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer as it lies in the store: by whom, to what, when. `item_id` is the item's external
    id.

    `annotator_kind` is "person", "simulated" or "ai"; `seconds` the time the screen was open and in
    use. `gold` says that the item had a known answer, put there to test annotators. `scale` is k of
    the scale that a strength was given on, `version` the id of what was asked (`tables.Version`).
    """

    item_id: str
    annotator: str
    annotator_kind: str
    answer: Answer
    seconds: float | None
    created_at: datetime
    gold: bool = False
    source: Source = "label"
    part: Part = "work"
    scale: int | None = None
    version: int | None = None


def ranks_of_strength(strength: int) -> tuple[int, int]:
    """Ranks that say what a pairwise strength says of the order."""
    return (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)


def answer_from(
    kind: str,
    payload: Mapping[str, Any],
    *,
    presented: Sequence[int] = (),
    ranks: Sequence[int] | None = None,
    skipped: str | None = None,
) -> Answer:
    """The answer whose parts lie in these columns: the inverse of `Answer.payload`. An empty
    payload is a plain ranking."""
    given = dict(payload)
    return Answer(
        kind=kind,  # type: ignore[arg-type]
        presented=tuple(presented),
        ranks=None if ranks is None else tuple(ranks),
        skipped=skipped,
        strength=given.get("strength"),
        both_bad=given.get("both_bad", False),
        ratings={name: tuple(values) for name, values in given.get("ratings", {}).items()},
        flags={name: tuple(values) for name, values in given.get("flags", {}).items()},
        critique=given.get("critique", ""),
        spans=tuple(Span(**span) for span in given.get("spans", ())),
        text=given.get("text"),
        corrected=given.get("corrected"),
        turns=tuple(_turn(turn) for turn in given.get("turns", ())),
        preferences=dict(given.get("preferences", {})),
        reasons=dict(given.get("reasons", {})),
        best=given.get("best"),
        worst=given.get("worst"),
        verdicts=tuple(tuple(row) for row in given.get("verdicts", ())),
        weights=tuple(given.get("weights", ())),
        step_verdicts=tuple(tuple(row) for row in given.get("step_verdicts", ())),
    )


def _turn(given: Mapping[str, Any]) -> Turn:
    parts: dict[str, Any] = {
        **given,
        "candidates": tuple(given["candidates"]),
        "presented": tuple(given["presented"]),
    }
    return Turn(**parts)
