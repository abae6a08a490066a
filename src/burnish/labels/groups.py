"""Labelled items as groups for a trainer: every pair of texts that anybody compared, with the one
soft label of all its votes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from burnish.labels.soft import UNHEARD, LabelOptions, comparisons, reliabilities
from burnish.labels.votes import Vote, ranks_in, scale_in, votes_of
from burnish.records import LabelledItem, Message, Opinion, PreferenceGroup, Prompt


@dataclass(slots=True)
class _Board:
    """One conversation: the texts that were compared as its answer, and the votes on them."""

    prompt: Prompt
    place: dict[str, int] = field(default_factory=dict)
    traces: dict[str, tuple[Message, ...]] = field(default_factory=dict)
    votes: list[Vote] = field(default_factory=list)

    def add(self, vote: Vote, first: str, second: str) -> None:
        """A vote on two texts, which count as the same wherever they stood."""
        i, j = (self.place.setdefault(text, len(self.place)) for text in (first, second))
        turned = replace(vote, item_id="", first=i, second=j)
        self.votes.append(
            turned if i < j else replace(turned, first=j, second=i, value=1.0 - vote.value)
        )


def preference_groups(
    items: Sequence[LabelledItem],
    options: LabelOptions | None = None,
    *,
    reliability: Mapping[str, float] | None = None,
    dropped: Counter[str] | None = None,
) -> list[PreferenceGroup]:
    """Every comparison in what was said of some items, by item and conversation, in the order of
    first sight.

    Rankings, pairs and ratings are votes (`votes_of`); a correction is a vote for the corrected
    text over the original, an edited winner one for it over the answer that was edited and every
    other that was ranked below; each turn of a chat is a vote under the conversation so far. With
    `options.dimension`, what was said of that dimension alone. All votes on the same two texts of
    an item under the same conversation make one soft label (`comparisons`). Where a reviewer
    decided an item, the decision alone counts.

    `reliability` is each annotator's; without it, what the opinions bring along, else what the
    votes of all items say.
    Votes on two equal texts say nothing: counted in `dropped`.
    """
    options = options or LabelOptions()
    scale = scale_in(items)
    trust = _reliability(items, scale, reliability, options.dimension) if options.weighted else None
    boards: dict[tuple[str, str], _Board] = {}
    for item in items:
        counting = _counting(item, options.dimension)
        own = [vote for said in counting for vote in _votes(item, said, scale, options.dimension)]
        for prompt, vote, first, second in own:
            board = boards.setdefault(
                (item.prompt.id, _conversation(prompt.messages)), _Board(prompt)
            )
            if prompt is item.prompt:
                board.traces.update(item.traces)
                for text in item.candidates:
                    board.place.setdefault(text, len(board.place))
            if first == second:
                if dropped is not None:
                    dropped["votes on equal responses"] += 1
                continue
            board.add(vote, first, second)
    groups = []
    for board in boards.values():
        # By candidate, whoever spoke first: a store and its export have the same order.
        found = comparisons(board.votes, trust, options)
        labels = tuple(found[pair] for pair in sorted(found))
        groups.append(
            PreferenceGroup(board.prompt, tuple(board.place), labels, traces=board.traces)
        )
    return groups


def _conversation(messages: Sequence[Message]) -> str:
    """The same for equal conversations."""
    return json.dumps(
        [dict(message) for message in messages], sort_keys=True, ensure_ascii=False, default=str
    )


def reliability_of(
    items: Sequence[LabelledItem], *, scale: int | None = None, dimension: str | None = None
) -> dict[str, float]:
    """Each annotator's reliability by all the votes on these items (`reliabilities`)."""
    known = scale_in(items) if scale is None else scale
    said = [(item.prompt.id, one) for item in items for one in item.opinions]
    return reliabilities(
        [v for name, one in said for v in votes_of(name, one, scale=known, dimension=dimension)]
    )


def _reliability(
    items: Sequence[LabelledItem],
    scale: int,
    given: Mapping[str, float] | None,
    dimension: str | None,
) -> dict[str, float]:
    # What comes along is about the overall preference; on a dimension people are judged by their
    # votes on it.
    told = [
        said
        for item in items
        for said in item.opinions
        if said.reliability is not None and dimension is None
    ]
    known = {said.annotator: said.reliability for said in told if said.reliability is not None}
    known |= given or {}
    wanted = {said.annotator for item in items for said in item.opinions}
    estimated = (
        reliability_of(items, scale=scale, dimension=dimension) if wanted - set(known) else {}
    )
    # Who only corrected or chatted has no votes to be judged by: as reliable as anybody before the
    # first vote.
    return {name: known.get(name, estimated.get(name, UNHEARD)) for name in wanted}


def _counting(item: LabelledItem, dimension: str | None) -> tuple[Opinion, ...]:
    decisions = [said for said in item.opinions if said.source == "adjudication"]
    if (
        dimension is not None
    ):  # a decision that says nothing of the dimension decides nothing about it
        decisions = [said for said in decisions if dimension in said.payload.get("preferences", {})]
    return tuple(decisions) or item.opinions


def _votes(
    item: LabelledItem, said: Opinion, scale: int, dimension: str | None
) -> Iterator[tuple[Prompt, Vote, str, str]]:
    """(prompt, vote, first text, second text) of all that an opinion compares."""
    texts = item.candidates
    for vote in votes_of(item.prompt.id, said, scale=scale, dimension=dimension):
        yield item.prompt, vote, texts[vote.first], texts[vote.second]
    if dimension is None:
        for text, worse in _rewritten(item, said):
            vote = Vote(item.prompt.id, 0, 1, said.annotator, 1.0, True, rewritten=True)
            yield item.prompt, vote, text, worse
        yield from _turns(item, said, scale)


def _rewritten(item: LabelledItem, said: Opinion) -> Iterator[tuple[str, str]]:
    """(what was written, a text that it is better than): the one that was changed, and those that
    were ranked below it."""
    corrected, text, texts = (
        said.payload.get("corrected"),
        said.payload.get("text"),
        item.candidates,
    )
    if not text or corrected is None or texts[corrected] == text:
        return
    yield text, texts[corrected]
    ranks = None if said.kind == "correction" else ranks_in(said)
    for other, worse in enumerate(texts):
        if ranks is not None and ranks[other] > ranks[corrected] and worse != text:
            yield text, worse


def _turns(
    item: LabelledItem, said: Opinion, scale: int
) -> Iterator[tuple[Prompt, Vote, str, str]]:
    messages = list(item.prompt.messages)
    for number, turn in enumerate(said.payload.get("turns", ())):
        candidates, strength = tuple(turn["candidates"]), turn["strength"]
        if turn["user"]:  # else the item's own prompt is answered
            messages.append(Message(role="user", content=turn["user"]))
        if strength and len(candidates) == 2:
            name = hashlib.sha256(
                repr((messages, candidates)).encode("utf-8", "surrogatepass")
            ).hexdigest()[:8]
            prompt = Prompt(
                f"{item.prompt.id}/{number}/{name}", tuple(messages), item.prompt.columns
            )
            grade = min(1.0, abs(strength) / (said.scale or scale))
            vote = Vote(item.prompt.id, 0, 1, said.annotator, float(strength > 0), True, grade)
            yield prompt, vote, *candidates
        messages.append(Message(role="assistant", content=candidates[turn["chosen"]]))
