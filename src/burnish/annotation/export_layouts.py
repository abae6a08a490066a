"""The layouts that labels are written in: what each row is, and what a layout has no place for.

Rows of whole items carry the item as the layout `burnish` has it (a column of that name), so that
the same labels come back whatever the layout itself can say; rows of pairs carry the pair's
probability and margin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from burnish.annotation.export_tools import argilla, labelstudio, openai
from burnish.annotation.export_work import Row, Work, messages_of
from burnish.annotation.labels import SPEAKERS, demonstration_data, opinion_of, prompt_text
from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.labels.rubrics import rewards
from burnish.labels.steps import ratings_in, steps_of
from burnish.labels.traces import answer_turns
from burnish.records import Comparison, PreferenceGroup


def _burnish(work: Work) -> list[Row]:
    retired = sum(entry.part == "retired" for entry in work.snapshot.entries)
    others = len(work.snapshot.entries) - len(list(work.entries)) - retired
    work.left_out.update(
        {"items for training or testing annotators": others, "retired items": retired}
    )
    work.left_out += Counter()  # without those of which there are none
    return [work.whole(entry) for entry in work.entries]


@dataclass(frozen=True, slots=True)
class _Side:
    """A comparison that prefers a side, with what its row carries."""

    group: PreferenceGroup
    pair: Comparison
    chosen: str
    rejected: str
    columns: Row


def _sides(work: Work) -> Iterator[_Side]:
    for group in work.groups:
        item = _item_of(work, group.prompt.id)
        for pair in group.comparisons:
            if pair.probability == 0.5:
                work.left_out["undecided pairs"] += 1
                continue
            first_wins = pair.probability > 0.5
            better, worse = (pair.first, pair.second) if first_wins else (pair.second, pair.first)
            columns: Row = {
                "probability": pair.probability if first_wins else 1.0 - pair.probability,
                **({"margin": pair.margin} if work.options.strength == "margin" else {}),
                "disputed": work.snapshot.by_id[item].disputed, "votes": work.votes(item),
            }  # fmt: skip
            yield _Side(group, pair, group.responses[better], group.responses[worse], columns)


def _item_of(work: Work, name: str) -> str:
    """The item that a group's prompt is of: a later turn of a chat has more behind a "/"."""
    while name not in work.snapshot.by_id and "/" in name:
        name = name.rpartition("/")[0]
    return name


def _paired(work: Work) -> list[Row]:
    rows = []
    for side in _sides(work):
        name, pair = side.group.prompt.id, side.pair
        rows.append(
            {
                "id": (
                    f"{name}#{pair.first}-{pair.second}"
                    if len(side.group.comparisons) > 1
                    else name
                ),
                "prompt": [dict(m) for m in side.group.prompt.messages],
                "chosen": answer_turns(side.chosen, side.group.traces),
                "rejected": answer_turns(side.rejected, side.group.traces),
                **side.columns,
            }
        )
    return rows


def _hh(work: Work) -> list[Row]:
    rows = []
    for side in _sides(work):
        messages = side.group.prompt.messages
        texts = (side.chosen, side.rejected, *(m["content"] for m in messages))
        if any(m["role"] in ("system", "developer") for m in messages):
            work.left_out["pairs with a system turn"] += 1
        elif side.group.traces or any(m["role"] == "tool" or m.get("tool_calls") for m in messages):
            work.left_out["pairs with calls of tools"] += 1
        elif any("\n\nHuman:" in text or "\n\nAssistant:" in text for text in texts):
            work.left_out["pairs whose text holds a turn marker"] += 1
        elif any(text != text.strip() for text in texts):
            work.left_out["pairs with white space round a text"] += 1
        else:
            start = "".join(f"\n\n{SPEAKERS[m['role']]}: {m['content']}" for m in messages)
            sides = {
                "chosen": f"{start}\n\nAssistant: {side.chosen}",
                "rejected": f"{start}\n\nAssistant: {side.rejected}",
            }
            rows.append(sides | side.columns)
    return rows


def _unpaired(work: Work) -> list[Row]:
    """An answer is desirable if it wins more than half of what it was compared in, or its mean
    rating is above the middle of the scale; not if less; and not if most annotators said that both
    are bad. Exactly half says nothing."""
    rows = []
    wins = _win_shares(work)
    for entry in work.entries:
        answers = work.by_item.get(entry.item_id, [])
        bad = sum(one.answer.both_bad for one in answers) * 2 > len(answers)
        for i, text in enumerate(entry.candidates):
            share = 0.0 if bad and answers else wins.get((entry.item_id, text))
            if share is None:
                share = _rated(work, answers, i)
            if share is None or share == 0.5:
                work.left_out["candidates without a verdict"] += 1
                continue
            rows.append(
                {
                    "id": f"{entry.item_id}#{i}", "prompt": messages_of(entry),
                    "completion": answer_turns(text, entry.traces), "label": share > 0.5,
                    "disputed": entry.disputed, "votes": work.votes(entry.item_id),
                }
            )  # fmt: skip
    return rows


def _ranking(work: Work) -> list[Row]:
    wins, rows = _win_shares(work), []
    for entry in work.entries:
        shares = [wins.get((entry.item_id, text)) for text in entry.candidates]
        known = [share for share in shares if share is not None]
        if len(known) < 2 or len(known) < len(shares):
            work.left_out["items that are not ranked"] += 1
            continue
        ranks = [1 + sum(other > share + 1e-9 for other in known) for share in known]
        rows.append(
            {
                "id": entry.item_id, "prompt": messages_of(entry),
                "responses": list(entry.candidates), "ranks": ranks,
                "sources": list(entry.sources), "disputed": entry.disputed,
                "burnish": work.whole(entry),
            }
        )  # fmt: skip
    return rows


def _rewards(work: Work) -> list[Row]:
    """A candidate a row with its reward by the item's rubric (`labels.rubrics.rewards`), and of
    each criterion the share of annotators who found it met."""
    rows = []
    for entry in work.entries:
        answers = [one for one in work.by_item.get(entry.item_id, []) if one.answer.verdicts]
        opinions = [opinion_of(one) for one in answers]
        trust = work.reliability if work.options.weighted else None
        earned = rewards(opinions, trust)
        if earned is None:
            work.left_out["items without verdicts on a rubric"] += 1
            continue
        rubric = entry.prompt.columns.get("rubric", [])
        for i, text in enumerate(entry.candidates):
            met = [
                {**asked, "met": sum(one.answer.verdicts[c][i] for one in answers) / len(answers)}
                for c, asked in enumerate(rubric)
            ]
            rows.append(
                {
                    "id": f"{entry.item_id}#{i}", "prompt": messages_of(entry),
                    "completion": answer_turns(text, entry.traces), "reward": earned[i],
                    "rubric": met,
                    "disputed": entry.disputed, "burnish": _once(work, entry, i),
                }
            )  # fmt: skip
    return rows


def _stepwise(work: Work) -> list[Row]:
    """A candidate a row: its steps and whether each is right, by the mean of the verdicts
    (`labels.steps.ratings_in`), as PRM800K and TRL's stepwise supervision have them.

    A neutral step is no wrong one. A row ends before the first step that nobody marked or on which
    right and wrong weigh the same: of that and those after it nothing is said.
    """
    rows = []
    trust = work.reliability if work.options.weighted else None
    for entry in work.entries:
        opinions = [opinion_of(one) for one in work.by_item.get(entry.item_id, [])]
        found = 0
        for i, text in enumerate(entry.candidates):
            ratings, steps = ratings_in(opinions, i, trust), steps_of(text, entry.traces.get(text))
            if ratings is None or len(ratings) != len(steps):
                work.left_out["candidates without verdicts on their steps"] += 1
                continue
            known = next((at for at, one in enumerate(ratings) if not one.decided), len(steps))
            work.left_out["steps from an undecided one on"] += len(steps) - known
            if not known:
                continue
            rows.append(
                {
                    "id": f"{entry.item_id}#{i}", "prompt": prompt_text(entry.prompt.messages),
                    "completions": list(steps[:known]),
                    "labels": [one.mean >= 0 for one in ratings[:known]],
                    "ratings": [one.mean for one in ratings[:known]], "disputed": entry.disputed,
                    "burnish": _once(work, entry, found),
                }
            )  # fmt: skip
            found += 1
    return rows


def _ultrafeedback(work: Work) -> list[Row]:
    rows = []
    for entry in work.entries:
        means = _mean_ratings(work.by_item.get(entry.item_id, []), len(entry.candidates))
        if not means:
            work.left_out["items that are not rated"] += 1
            continue
        completions = []
        for i, text in enumerate(entry.candidates):
            known = [value for values in means.values() if (value := values[i]) is not None]
            completions.append(
                {
                    "model": entry.sources[i],
                    "response": text,
                    "annotations": {
                        name: {
                            "Rating": "N/A" if values[i] is None else str(round(values[i] or 0.0)),
                            "Rationale": "",
                        }
                        for name, values in means.items()
                    },
                    "overall_score": round(sum(known) / len(known), 4) if known else None,
                }
            )
        rows.append(
            {
                "id": entry.item_id, "instruction": prompt_text(entry.prompt.messages),
                "completions": completions,
                "disputed": entry.disputed, "burnish": work.whole(entry),
            }
        )  # fmt: skip
    return rows


def _helpsteer(work: Work) -> list[Row]:
    rows = []
    for entry in work.entries:
        means = _mean_ratings(work.by_item.get(entry.item_id, []), len(entry.candidates))
        if not means:
            work.left_out["items that are not rated"] += 1
        for i, text in enumerate(entry.candidates if means else ()):
            rated = {
                name: None if values[i] is None else round(values[i] or 0.0)
                for name, values in means.items()
            }
            row = {
                "id": entry.item_id,
                "prompt": prompt_text(entry.prompt.messages),
                "response": text,
            }
            rows.append(
                row | rated | {"disputed": entry.disputed, "burnish": _once(work, entry, i)}
            )
    return rows


def _once(work: Work, entry: Entry, number: int) -> Row:
    """The whole item in its first row; its name in the others."""
    return {"item_id": entry.item_id} if number else work.whole(entry)


def _helpsteer2_preference(work: Work) -> list[Row]:
    """Strengths −3 to 3, negative where response 1 is better: each answer's (k steps a side) scaled
    to three, its sign turned."""
    rows = []
    for entry in work.entries:
        said = [
            one for one in work.by_item.get(entry.item_id, []) if one.answer.strength is not None
        ]
        if len(entry.candidates) != 2 or not said:
            work.left_out["items that are not judged in pairs"] += 1
            continue
        single = [
            {
                "strength": _three(one.answer.strength or 0, one.scale or 1),
                "statement": one.answer.critique,
                "annotator": work.snapshot.pseudonym(one.annotator),
                "annotator_kind": one.annotator_kind,
            }
            for one in said
        ]  # fmt: skip
        mean = sum(one["strength"] for one in single) / len(single)
        rows.append(
            {
                "id": entry.item_id, "prompt": prompt_text(entry.prompt.messages),
                "response_1": entry.candidates[0], "response_2": entry.candidates[1],
                "preference_strength": round(mean), "all_preferences_unprocessed": single,
                "disputed": entry.disputed, "burnish": work.whole(entry),
            }
        )  # fmt: skip
    return rows


def _demonstrations(work: Work) -> list[Row]:
    found = demonstration_data(work.snapshot, human_share=work.options.human_share)
    return [{"id": one.id, "messages": [dict(m) for m in one.messages]} for one in found]


def _tool(
    write: Callable[[Snapshot, Entry, Sequence[Labelled]], list[Row]], inside: str = ""
) -> Callable:
    """A tool's rows; the whole item goes into the column `inside` where the tool has one for what
    is not its own."""

    def rows(work: Work) -> list[Row]:
        found: list[Row] = []
        for entry in work.entries:
            made = write(work.snapshot, entry, work.by_item.get(entry.item_id, []))
            if not made:
                work.left_out["items without labels of a kind that the layout holds"] += 1
            for number, row in enumerate(made):
                more = {"disputed": entry.disputed, "burnish": _once(work, entry, number)}
                found.append(row | ({inside: row.get(inside, {}) | more} if inside else more))
        return found

    return rows


def _items_held(work: Work) -> int:
    return work.count(work.held)


def _decided(work: Work) -> int:
    pairs = sum(pair.probability != 0.5 for group in work.groups for pair in group.comparisons)
    return pairs - sum(
        count for reason, count in work.left_out.items() if reason.startswith("pairs ")
    )


def _none(work: Work) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Layout:
    """How a layout's rows are written, what it has no place for (in plain words), and how many
    comparisons come back from what was written."""

    write: Callable[[Work], list[Row]]
    cannot_hold: tuple[str, ...] = ()
    held: Callable[[Work], int] = _items_held


_TIES = "pairs at exactly one half: neither side is the chosen one, so they are left out"
_KINDS = (
    "items without labels of the layout's kind (corrections, demonstrations, conversations): they"
    " are left out"
)

LAYOUTS: Mapping[str, Layout] = {
    "burnish": Layout(_burnish),
    "paired": Layout(_paired, (_TIES,), _decided),
    "hh": Layout(
        _hh,
        (
            _TIES,
            (
                "system turns, calls of tools, text with a turn marker, white space round a text:"
                " their pairs are left out"
            ),
        ),
        _decided,
    ),
    "unpaired": Layout(
        _unpaired,
        (
            (
                "pairs: each answer is said to be desirable or not; probabilities, margins and"
                " counts of pairs are lost"
            ),
        ),
        _none,
    ),
    "ranking": Layout(_ranking, (_KINDS,)),
    "rewards": Layout(_rewards, ("items without a rubric: they are left out",)),
    "stepwise": Layout(
        _stepwise,
        (
            "answers without verdicts on their steps, and steps from the first undecided one on: "
            "they are left out",
        ),
    ),
    "demonstrations": Layout(
        _demonstrations, ("comparisons: it holds what annotators wrote themselves",), _none
    ),
    "ultrafeedback": Layout(_ultrafeedback, (_KINDS,)),
    "helpsteer": Layout(_helpsteer, (_KINDS,)),
    "helpsteer2-preference": Layout(_helpsteer2_preference, (_KINDS,)),
    "labelstudio": Layout(
        _tool(labelstudio, "meta"),
        (_KINDS, "items on which everybody sees a tie: they are left out"),
    ),
    "argilla": Layout(_tool(argilla), (_KINDS,)),
    "openai": Layout(
        _tool(openai, "extra"), (_KINDS, "items on which everybody sees a tie: they are left out")
    ),
}


def _win_shares(work: Work) -> dict[tuple[str, str], float]:
    """Of each text of an item, the mean probability of being better than those it was compared
    with."""
    sums: dict[tuple[str, str], list[float]] = {}
    for group in work.groups:
        key = group.prompt.id
        for pair in group.comparisons:
            sums.setdefault((key, group.responses[pair.first]), []).append(pair.probability)
            sums.setdefault((key, group.responses[pair.second]), []).append(1.0 - pair.probability)
    return {key: sum(values) / len(values) for key, values in sums.items()}


def _mean_ratings(answers: Sequence[Labelled], candidates: int) -> dict[str, list[float | None]]:
    """By attribute, each candidate's mean rating over annotators."""
    names = dict.fromkeys(name for one in answers for name in one.answer.ratings)
    found: dict[str, list[float | None]] = {}
    for name in names:
        given = [one.answer.ratings[name] for one in answers if name in one.answer.ratings]
        columns = [
            [row[i] for row in given if i < len(row) and row[i] is not None]
            for i in range(candidates)
        ]
        found[name] = [
            sum(v for v in col if v is not None) / len(col) if col else None for col in columns
        ]
    return found


def _rated(work: Work, answers: Sequence[Labelled], candidate: int) -> float | None:
    """1, 0 or ½ as the mean rating lies above, below or on the middle of the scale that it was
    given on; an unknown scale's middle is ½."""
    sides = [
        value - _middle(work, one, name)
        for one in answers
        for name, values in one.answer.ratings.items()
        if candidate < len(values) and (value := values[candidate]) is not None
    ]
    mean = sum(sides) / len(sides) if sides else None
    return None if mean is None else 0.5 if mean == 0 else float(mean > 0)


def _middle(work: Work, one: Labelled, attribute: str) -> float:
    """The middle of an attribute's scale as it was when the answer was given, or as it is now
    called."""
    asked = (
        work.snapshot.versions[one.version].schema["attributes"] if one.version is not None else []
    )
    present = [known.model_dump() for known in work.snapshot.settings.attributes]
    known = next((a for a in (*asked, *present) if a["name"] == attribute), None)
    return 0.5 if known is None else (known["low"] + known["high"]) / 2


def _three(strength: int, scale: int) -> int:
    """A strength of `scale` steps on HelpSteer2's three, its sign turned; a preference stays
    one."""
    if strength == 0:
        return 0
    size = max(1, round(min(abs(strength), scale) * 3 / scale))
    return -size if strength > 0 else size
