"""From a project's answers to what trainers learn from: votes, comparisons with soft labels,
demonstrations.

What votes and soft labels are is the business of `burnish.labels`; the formulas are stated in
docs/annotation-statistics.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Snapshot
from burnish.errors import UserError
from burnish.labels.groups import preference_groups
from burnish.labels.soft import LabelOptions, Strength, reliabilities
from burnish.labels.traces import turn_text
from burnish.labels.votes import Vote, votes_of
from burnish.records import Demonstration, LabelledItem, Message, Opinion, PreferenceGroup

__all__ = ["LabelOptions", "Strength", "preference_data"]

SPEAKERS = {
    "system": "System", "developer": "System", "user": "Human", "assistant": "Assistant",
    "tool": "Tool",
}  # fmt: skip


def prompt_text(messages: Sequence[Message]) -> str:
    """A conversation as one text: the user's words, or, where there are several turns, a
    transcript."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{SPEAKERS[m['role']]}: {turn_text(m)}" for m in messages)


def is_ai(annotator_kind: str) -> bool:
    """Whether labels of this kind of annotator count as a model's; simulated people stand in for
    people."""
    return annotator_kind == "ai"


def data_answers(snapshot: Snapshot, *, human_share: float | None = None) -> list[Labelled]:
    """The answers that are data: of work items without a known answer, not skipped.

    `human_share` s in [0, 1] thins them so that people gave the share s of what is left, as nearly
    as whole numbers
    allow: as many as possible are kept, the surplus of one side goes by a hash of (item,
    annotator), so that the same project always loses the same. None keeps all. A reviewer's
    decisions are people's, and never thinned.
    """
    found = [
        one
        for one in snapshot.answers
        if one.part == "work" and not one.gold and one.answer.skipped is None
    ]
    if human_share is None:
        return found
    machine = [one for one in found if is_ai(one.annotator_kind)]
    decided = [
        one for one in found if one.source == "adjudication" and not is_ai(one.annotator_kind)
    ]
    people = [
        one for one in found if one.source != "adjudication" and not is_ai(one.annotator_kind)
    ]
    humans = len(people) + len(decided)
    keep_humans, keep_machine = humans, len(machine)
    if human_share >= 1.0:
        keep_machine = 0
    elif human_share <= 0.0:
        keep_humans = 0
    elif humans * (1.0 - human_share) < len(machine) * human_share:
        keep_machine = round(humans * (1.0 - human_share) / human_share)
    else:
        keep_humans = round(len(machine) * human_share / (1.0 - human_share))
    kept = {
        id(one)
        for one in (
            *decided,
            *_thinned(people, keep_humans - len(decided)),
            *_thinned(machine, keep_machine),
        )
    }
    return [one for one in found if id(one) in kept]


def opinion_of(one: Labelled) -> Opinion:
    """An answer as `burnish.labels` and other stores take it."""
    said = one.answer
    return Opinion(
        said.kind,
        one.annotator,
        said.ranks,
        said.payload(),
        one.annotator_kind,
        one.seconds,
        one.created_at,
        said.presented,
        one.source,
        one.scale,
    )


def labelled_items(snapshot: Snapshot, *, human_share: float | None = None) -> list[LabelledItem]:
    """The items that are labelled (no training, no tests, none with a known answer), each with its
    answers that are data."""
    opinions: dict[str, list[Opinion]] = defaultdict(list)
    for one in data_answers(snapshot, human_share=human_share):
        opinions[one.item_id].append(opinion_of(one))
    return [
        LabelledItem(
            e.prompt, e.candidates, e.sources, tuple(opinions[e.item_id]), e.kind, e.traces
        )
        for e in snapshot.entries
        if e.part == "work" and e.gold is None
    ]


def answer_votes(answers: Iterable[Labelled], *, dimension: str | None = None) -> list[Vote]:
    """The votes in answers (`burnish.labels.votes.votes_of`)."""
    return [
        vote
        for one in answers
        for vote in votes_of(one.item_id, opinion_of(one), dimension=dimension)
    ]


def project_reliability(snapshot: Snapshot, *, dimension: str | None = None) -> dict[str, float]:
    """Each annotator's reliability by all the votes of a project, so that thinning an export does
    not change it."""
    return reliabilities(answer_votes(data_answers(snapshot), dimension=dimension))


def check_dimension(snapshot: Snapshot, dimension: str | None) -> None:
    """Raises UserError for a dimension that nobody was asked about."""
    asked = dict.fromkeys(name for one in snapshot.answers for name in one.answer.preferences)
    if dimension is not None and dimension not in asked:
        known = (
            f"There are answers by {', '.join(asked)}."
            if asked
            else "Name dimensions in the project's settings."
        )
        raise UserError(
            f'nobody has compared by "{dimension}" in "{snapshot.project}".',
            field="dimension",
            hint=known,
        )


def preference_data(
    snapshot: Snapshot, options: LabelOptions | None = None, *, dropped: Counter[str] | None = None
) -> list[PreferenceGroup]:
    """Every comparison that people and models made in a project
    (`burnish.labels.groups.preference_groups`)."""
    options = options or LabelOptions()
    check_dimension(snapshot, options.dimension)
    items = labelled_items(snapshot, human_share=options.human_share)
    trust = project_reliability(snapshot, dimension=options.dimension)
    return preference_groups(items, options, reliability=trust, dropped=dropped)


def demonstration_data(
    snapshot: Snapshot, *, human_share: float | None = None
) -> list[Demonstration]:
    """What annotators wrote themselves: demonstrations, corrected answers and edited winners, each
    after its prompt."""
    found = []
    numbers: Counter[str] = Counter()
    for one in data_answers(snapshot, human_share=human_share):
        if one.answer.text:
            prompt = snapshot.by_id[one.item_id].prompt
            messages = (*prompt.messages, Message(role="assistant", content=one.answer.text))
            # One item may have several; the pseudonym-free number keeps their ids apart.
            number = numbers[prompt.id]
            numbers[prompt.id] += 1
            found.append(Demonstration(f"{prompt.id}#{number}" if number else prompt.id, messages))
    return found


def _thinned(answers: Sequence[Labelled], keep: int) -> list[Labelled]:
    def place(one: Labelled) -> str:
        return hashlib.sha256(f"{one.item_id}\x1f{one.annotator}".encode()).hexdigest()

    return sorted(answers, key=place)[: max(keep, 0)]
