"""From answers of every kind to what trainers learn from: votes, comparisons with soft labels, demonstrations.

The formulas are stated in docs/annotation-statistics.md.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from burnish.annotation.aggregation import reliabilities, vote_weight
from burnish.annotation.agreement import Vote
from burnish.annotation.records import Answer, Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.records import Comparison, Demonstration, Message, PreferenceGroup, Prompt

Strength = Literal["ignore", "probability", "margin"]
"""What a stated strength of preference becomes: nothing, a probability nearer to ½, or a margin inside the loss."""


SPEAKERS = {"system": "System", "user": "Human", "assistant": "Assistant"}


def prompt_text(messages: Sequence[Message]) -> str:
    """A conversation as one text: the user's words, or, where there are several turns, a transcript."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{SPEAKERS[m['role']]}: {m['content']}" for m in messages)


def is_ai(annotator_kind: str) -> bool:
    """Whether labels of this kind of annotator count as a model's; simulated people stand in for people."""
    return annotator_kind == "ai"


def data_answers(snapshot: Snapshot, *, human_share: float | None = None) -> list[Labelled]:
    """The answers that are data: of work items without a known answer, not skipped.

    `human_share` s in [0, 1] thins them so that people gave the share s of what is left, as nearly as whole numbers
    allow: as many as possible are kept, the surplus of one side goes by a hash of (item, annotator), so that the same
    project always loses the same. None keeps all. A reviewer's decisions are people's, and never thinned.
    """
    found = [one for one in snapshot.answers if one.part == "work" and not one.gold and one.answer.skipped is None]
    if human_share is None:
        return found
    machine = [one for one in found if is_ai(one.annotator_kind)]
    decided = [one for one in found if one.source == "adjudication" and not is_ai(one.annotator_kind)]
    people = [one for one in found if one.source != "adjudication" and not is_ai(one.annotator_kind)]
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
        id(one) for one in (*decided, *_thinned(people, keep_humans - len(decided)), *_thinned(machine, keep_machine))
    }
    return [one for one in found if id(one) in kept]


def answer_votes(answers: Iterable[Labelled], *, scale: int = 1) -> list[Vote]:
    """The votes in answers: of a ranking all its pairs; of a pair its side, with the grade |strength| / `scale`; of ratings
    the order of each candidate's mean over the attributes that were rated for all candidates.
    """
    found: list[Vote] = []
    for one in answers:
        ranks = ranks_in(one.answer)
        if ranks is None:
            continue
        grade = 1.0
        if one.answer.kind == "pairwise" and one.answer.strength:
            grade = min(1.0, abs(one.answer.strength) / scale)
        place = {candidate: at for at, candidate in enumerate(one.answer.presented)}
        for i, j in combinations(range(len(ranks)), 2):
            value = 0.5 if ranks[i] == ranks[j] else float(ranks[i] < ranks[j])
            earlier = place.get(i, i) < place.get(j, j)
            found.append(Vote(one.item_id, i, j, one.annotator, value, earlier, grade))
    return found


def ranks_in(answer: Answer) -> tuple[float, ...] | None:
    """The places that an answer gives to the candidates, lower is better; None where it gives none."""
    if answer.ranks is not None:
        return answer.ranks
    if answer.kind == "pairwise" and answer.strength is not None:
        return (0.0 if answer.strength > 0 else 1.0, 0.0 if answer.strength < 0 else 1.0) if answer.strength else (0, 0)
    whole = [values for values in answer.ratings.values() if values and None not in values]
    if answer.kind != "likert" or not whole or len(whole[0]) < 2:
        return None
    return tuple(
        -sum(value for value in values if value is not None) / len(whole) for values in zip(*whole, strict=True)
    )


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How votes become labels.

    Args:
        strength: see `Strength`.
        weighted: weight votes by their annotators' estimated reliability.
        human_share: see `data_answers`.
        margin: the margin of a unanimous preference of full strength (`strength="margin"`).
    """

    strength: Strength = "probability"
    weighted: bool = True
    human_share: float | None = None
    margin: float = 1.0


def preference_data(snapshot: Snapshot, options: LabelOptions) -> list[PreferenceGroup]:
    """Every comparison that people and models made in a project, by prompt in the order of the items.

    Rankings, pairs and ratings give soft labels by `comparisons`; a correction gives (corrected, original) as a certainty;
    each turn of a chat is a comparison of its own under the conversation so far. Where a reviewer decided an item, the
    decision alone counts.
    """
    answers = data_answers(snapshot, human_share=options.human_share)
    decided = {one.item_id for one in answers if one.source == "adjudication"}
    answers = [one for one in answers if one.item_id not in decided or one.source == "adjudication"]
    scale = snapshot.settings.strength
    found = answer_votes(answers, scale=scale)
    # Reliability is learnt from all votes of the project, so that thinning an export does not change it.
    everything = answer_votes(data_answers(snapshot), scale=scale)
    weights = reliabilities(everything) if options.weighted else None
    by_item: dict[str, list[Comparison]] = defaultdict(list)
    for (item, first, second), comparison in comparisons(found, weights, options).items():
        by_item[item].append(replace(comparison, first=first, second=second))
    groups: list[PreferenceGroup] = []
    extra: dict[str, list[PreferenceGroup]] = defaultdict(list)
    for one in answers:
        extra[one.item_id] += _other_comparisons(one, snapshot.by_id[one.item_id], scale, options)
    for entry in snapshot.entries:
        if entry.item_id in by_item:
            groups.append(PreferenceGroup(entry.prompt, entry.candidates, tuple(by_item[entry.item_id])))
        groups += extra[entry.item_id]
    return groups


def comparisons(
    votes: Sequence[Vote], reliability: Mapping[str, float] | None, options: LabelOptions
) -> dict[tuple[str, int, int], Comparison]:
    """The soft label of each pair that was voted on.

    With w_a the weight of annotator a (1, or max(log θ_a/(1−θ_a), 0.05) of the reliability θ_a), v_a in {0, ½, 1} the vote
    and g_a = |strength| / k its grade (1 for rankings):
    "ignore": p = Σ w v / Σ w; "probability": p = Σ w (½ + (v − ½) g) / Σ w; "margin": p as with "ignore" and
    margin = `options.margin` · |Σ w (2v − 1) g| / Σ w.
    """
    sums: dict[tuple[str, int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for vote in votes:
        weight = 1.0 if reliability is None else vote_weight(reliability[vote.annotator])
        row = sums[vote.item_id, vote.first, vote.second]
        row[0] += weight
        row[1] += weight * (vote.value - 0.5)
        row[2] += weight * (vote.value - 0.5) * vote.grade
    found = {}
    for pair, (weight, plain, graded) in sums.items():
        side = (graded if options.strength == "probability" else plain) / weight
        margin = options.margin * abs(2.0 * graded / weight) if options.strength == "margin" else 0.0
        found[pair] = Comparison(pair[1], pair[2], min(1.0, max(0.0, 0.5 + side)), margin)
    return found


def demonstration_data(snapshot: Snapshot, *, human_share: float | None = None) -> list[Demonstration]:
    """What annotators wrote themselves: demonstrations and corrected answers, each after its prompt."""
    found = []
    for one in data_answers(snapshot, human_share=human_share):
        if one.answer.kind in ("demonstration", "correction") and one.answer.text:
            prompt = snapshot.by_id[one.item_id].prompt
            messages = (*prompt.messages, Message(role="assistant", content=one.answer.text))
            # One item may have several; the pseudonym-free number keeps their ids apart.
            number = sum(other.id.split("#")[0] == prompt.id for other in found)
            found.append(Demonstration(f"{prompt.id}#{number}" if number else prompt.id, messages))
    return found


def _other_comparisons(one: Labelled, entry: Entry, scale: int, options: LabelOptions) -> list[PreferenceGroup]:
    answer = one.answer
    if answer.kind == "correction" and answer.text and answer.corrected is not None:
        original = entry.candidates[answer.corrected]
        if original != answer.text:
            return [PreferenceGroup(entry.prompt, (answer.text, original), (Comparison(0, 1, 1.0),))]
    groups = []
    messages = list(entry.prompt.messages)
    for number, turn in enumerate(answer.turns):
        messages.append(Message(role="user", content=turn.user))
        if turn.strength and len(turn.candidates) == 2:
            vote = Vote(entry.item_id, 0, 1, one.annotator, float(turn.strength > 0), True, abs(turn.strength) / scale)
            (label,) = comparisons([vote], None, options).values()
            said = hashlib.sha256(repr((messages, turn.candidates)).encode()).hexdigest()[:8]
            prompt = Prompt(f"{entry.item_id}/{number}/{said}", tuple(messages), entry.prompt.columns)
            groups.append(PreferenceGroup(prompt, turn.candidates, (label,)))
        messages.append(Message(role="assistant", content=turn.candidates[turn.chosen]))
    return groups


def _thinned(answers: Sequence[Labelled], keep: int) -> list[Labelled]:
    def place(one: Labelled) -> str:
        return hashlib.sha256(f"{one.item_id}\x1f{one.annotator}".encode()).hexdigest()

    return sorted(answers, key=place)[: max(keep, 0)]
