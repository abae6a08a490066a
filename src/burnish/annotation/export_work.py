"""What all layouts of an export share: the answers that count, the soft labels, an item with all
that was said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from burnish.annotation.labels import (
    LabelOptions,
    data_answers,
    labelled_items,
    project_reliability,
)
from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.labels.groups import preference_groups
from burnish.records import PreferenceGroup

Row = dict[str, Any]


@dataclass
class Work:
    """What the layouts share: the snapshot, its answers that count, the soft labels; `left_out`
    counts what a layout leaves out, `held` are the items that its rows carry whole."""

    snapshot: Snapshot
    options: LabelOptions
    left_out: Counter[str] = field(default_factory=Counter)
    held: set[str] = field(default_factory=set)

    @cached_property
    def answers(self) -> list[Labelled]:
        """The answers that are data, thinned as the options ask."""
        return data_answers(self.snapshot, human_share=self.options.human_share)

    @cached_property
    def by_item(self) -> dict[str, list[Labelled]]:
        """The answers by item."""
        found: dict[str, list[Labelled]] = {}
        for one in self.answers:
            found.setdefault(one.item_id, []).append(one)
        return found

    @cached_property
    def reliability(self) -> dict[str, float]:
        """Each annotator's, by all votes of the project."""
        return project_reliability(self.snapshot, dimension=self.options.dimension)

    @cached_property
    def groups(self) -> list[PreferenceGroup]:
        """The soft labels."""
        return self._groups(None)

    @property
    def entries(self) -> Iterator[Entry]:
        """The items that are labelled: no training, no tests, none with a known answer."""
        return (
            entry for entry in self.snapshot.entries if entry.part == "work" and entry.gold is None
        )

    def count(self, items: Collection[str] | None = None) -> int:
        """How many comparisons there are, of some items or of all."""
        groups = self.groups if items is None else self._groups(items)
        return sum(len(group.comparisons) for group in groups)

    def _groups(self, items: Collection[str] | None) -> list[PreferenceGroup]:
        found = labelled_items(self.snapshot, human_share=self.options.human_share)
        kept = [item for item in found if items is None or item.prompt.id in items]
        return preference_groups(kept, self.options, reliability=self.reliability)

    def votes(self, item_id: str) -> list[Row]:
        """Who said what of an item, without what they wrote themselves."""
        said = (self.said(one) for one in self.by_item.get(item_id, ()))
        return [
            {name: value for name, value in row.items() if name not in ("text", "turns")}
            for row in said
        ]

    def said(self, one: Labelled) -> Row:
        """One annotator's answer under a pseudonym."""
        return {
            "annotator": self.snapshot.pseudonym(one.annotator),
            "annotator_kind": one.annotator_kind,
            "kind": one.answer.kind,
            "source": one.source,
            "presented": list(one.answer.presented),
            "ranks": None if one.answer.ranks is None else list(one.answer.ranks),
            **({"scale": one.scale} if one.answer.kind in ("pairwise", "chat") else {}),
            "reliability": self.reliability.get(one.annotator),
            **(
                {"version": self.snapshot.versions[one.version].number}
                if one.version is not None
                else {}
            ),
            **one.answer.payload(),
        }

    def whole(self, entry: Entry) -> Row:
        """An item with all that was said of it: the row of the layout `burnish`."""
        self.held.add(entry.item_id)
        return {
            "item_id": entry.item_id, "kind": entry.kind, "messages": messages_of(entry),
            "columns": dict(entry.prompt.columns),
            "candidates": list(entry.candidates), "sources": list(entry.sources),
            "disputed": entry.disputed,
            **({"traces": [_turns_or_none(entry,
                            text) for text in entry.candidates]} if entry.traces else {}),
            "answers": [
                self.said(one) | {"seconds": one.seconds, "created_at": one.created_at.isoformat()}
                for one in self.by_item.get(entry.item_id, ())
            ],
        }  # fmt: skip


def _turns_or_none(entry: Entry, text: str) -> list[Row] | None:
    return [dict(message) for message in entry.traces[text]] if text in entry.traces else None


def messages_of(entry: Entry) -> list[Row]:
    """An item's conversation."""
    return [dict(message) for message in entry.prompt.messages]
