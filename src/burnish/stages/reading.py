"""The data that a stage reads, split into what is trained on and what is held out; each source is
read once in a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from burnish.config.schema import Data
from burnish.config.sections import Source
from burnish.data.catalogue import entry_of, holds_catalogue
from burnish.data.code_tasks import code_tasks, holds_code_tasks
from burnish.data.columns import Loaded, Origin, demonstrations, prompts, record_id
from burnish.data.feedback import preference_groups
from burnish.data.parts import (
    Parts,
    SourceOptions,
    passed_over,
    read_parts,
    split_items,
    without_held_out,
)
from burnish.data.prompts import opening
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.labels.soft import LabelOptions
from burnish.records import TEXT, Demonstration, Message, PreferenceGroup, Prompt
from burnish.stages.stored import StoredLabels, stored_labels


@dataclass(frozen=True)
class Split:
    """Training and held-out parts of something; where nothing is held out, `not_evaluated` says
    why."""

    train: tuple[Any, ...]
    heldout: tuple[Any, ...]
    not_evaluated: str | None = None

    def map(self, change: Callable[[Any], Any]) -> Split:
        """The same parts with every item changed."""
        return Split(
            tuple(map(change, self.train)), tuple(map(change, self.heldout)), self.not_evaluated
        )


class Listener(Protocol):
    """What hears of rows that were left out, and of what was read."""

    @property
    def say(self) -> Callable[[str], None]:
        """Shows a line to the person watching."""
        ...

    def say_dropped(self, what: str, dropped: Mapping[str, int]) -> None:
        """So many rows of `what` were left out, by reason."""
        ...


@dataclass
class Reading:
    """Sources, read as the recipe's section `data` says.

    Args:
        data: the sources and how they are read.
        seed: what is held out follows from it where a source does not say.
        folder: the run's, where labels of a store are frozen.
        listener: hears what was left out.
        origins: where each item stands, for errors; filled while reading.
        parsed: sources that have been read, by what they hold and their name; shared by the
            readings of a run, which differ in which sources they name and in nothing else.
        unnamed: whether nobody looks at the columns of compared prompts, so that they are named
            once.
        dropped: how many rows were left out while reading, by what they are rows of and why.
    """

    data: Data
    seed: int
    folder: Path
    listener: Listener
    origins: dict[str, Origin]
    parsed: dict[tuple[str, str], Parts[Any]]
    unnamed: bool = True
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)

    @cached_property
    def stored(self) -> StoredLabels:
        """The labels of the recipe's store, read once: the fingerprint and the trainers see the
        same."""
        return stored_labels(self.data, self.folder)

    @cached_property
    def _sources(self) -> Mapping[str, Split]:
        """The sources that are named, as each of them is split by itself."""
        data, found = self.data, dict[str, Split]()
        if data.demonstrations is not None:
            found["demonstrations"] = self._read_all(
                "demonstrations", data.demonstrations, self._imitated
            )
        if data.comparisons is not None:
            found["comparisons"] = self._read_all(
                "comparisons", data.comparisons, self._compared, name_columns=self.unnamed
            )
        if data.prompts is not None:
            found["prompts"] = self._read_all("prompts", data.prompts, self._prompts_of)
        return found

    def _kept(self, what: str, split: Split) -> Split:
        """The split without training rows whose prompt another source holds out: what is held out
        is never trained on. The labels of a store hold nothing out of SFT, which they are collected
        after."""
        held_out = {
            f"data.{name}": own.heldout for name, own in self._sources.items() if name != what
        }
        train, taken = without_held_out(split.train, held_out, instruction=self.data.instruction)
        self._count(what, taken)
        return replace(split, train=train)

    @cached_property
    def comparisons(self) -> Split:
        """People's comparisons, split by prompt; empty where the recipe has none."""
        if self.data.store is not None and self.data.comparisons is None:
            self._count("stored labels", self.stored.dropped)
            return self._kept("stored labels", self._split(self.stored.groups[: self.data.limit]))
        if self.data.comparisons is None:
            return Split((), ())
        return self._kept("comparisons", self._sources["comparisons"])

    def _compared(self, rows: Sequence[Row]) -> Loaded[PreferenceGroup]:
        options = LabelOptions(
            self.data.strength, self.data.reliability_weighted, dimension=self.data.dimension
        )
        return preference_groups(rows, options, drop=self.data.dropped)

    def _imitated(self, rows: Sequence[Row]) -> Loaded[Demonstration]:
        return demonstrations(rows, drop=self.data.dropped)

    @cached_property
    def demonstrations(self) -> Split:
        """Demonstrations: their own source; or what annotators wrote into the store; or the
        preferred answers of the comparisons."""
        if self.data.demonstrations is not None:
            return self._kept("demonstrations", self._sources["demonstrations"])
        if not self.data.labelled:
            raise UserError(
                "sft needs data: set data.demonstrations or data.comparisons.",
                field="data.demonstrations",
            )
        if self.data.store is not None and self.stored.demonstrations:
            return self._kept(
                "stored demonstrations", self._split(self.stored.demonstrations[: self.data.limit])
            )
        return self.comparisons.map(preferred)

    @cached_property
    def prompts(self) -> Split:
        """Prompts to write answers to: their own source, or those of the comparisons, or those of
        the demonstrations."""
        data = self.data
        if data.prompts is None and data.labelled:
            return self.comparisons.map(lambda group: group.prompt)
        if data.prompts is None:
            return Split((), ()) if data.demonstrations is None else self._questions
        return self._kept("prompts", self._sources["prompts"])

    @property
    def _questions(self) -> Split:
        """What the demonstrations answer; a text outside any chat answers nothing."""
        found = self.demonstrations
        train, heldout = (
            tuple(d for d in part if d.messages[0]["role"] != TEXT)
            for part in (found.train, found.heldout)
        )
        reason = (
            found.not_evaluated
            if heldout or not found.heldout
            else "texts outside any chat ask nothing"
        )
        return Split(train, heldout, reason).map(_question)

    def _read_all(
        self,
        what: str,
        sources: str | Source | tuple[str | Source, ...],
        reader: Callable[[Sequence[Row]], Loaded[Any]],
        *,
        name_columns: bool = True,
    ) -> Split:
        """One source, or several as one: what one of them holds out, the others do not train on."""
        if not isinstance(sources, tuple):
            return self._read(what, sources, reader, name_columns=name_columns)
        parts = [self._read(what, source, reader, name_columns=name_columns) for source in sources]
        # in turn, so that the first few that an evaluation takes are of every source
        turns = zip_longest(*(part.heldout for part in parts))
        heldout = tuple(item for turn in turns for item in turn if item is not None)
        openings = set(map(opening, heldout))
        read = tuple(item for part in parts for item in part.train)
        train = tuple(item for item in read if opening(item) not in openings)
        if len(train) < len(read):
            self._count(what, {"held out in another source": len(read) - len(train)})
        names = Counter(record_id(item) for item in (*train, *heldout))
        twice = next((name for name, number in names.items() if number > 1), None)
        if twice is not None:
            problem = f'two sources have a row called "{twice}".'
            raise UserError(
                problem,
                field=f"data.{what}",
                hint="Give their rows ids of their own, or the files other names.",
            )
        reasons = [part.not_evaluated for part in parts if part.not_evaluated is not None]
        return Split(
            train, heldout, None if heldout else next(iter(reasons), "nothing is held out")
        )

    def dropped_of(self, names: Collection[str]) -> dict[str, dict[str, int]]:
        """What was left out of these (demonstrations, prompts, comparisons), and of what was read
        in their place."""
        read, data = set(names), self.data
        if "prompts" in read and data.prompts is None:
            read.add("comparisons" if data.labelled else "demonstrations")
        if "demonstrations" in read and data.demonstrations is None:
            read.add("comparisons")
        if "comparisons" in read:
            read |= {"stored labels"}
        if "demonstrations" in read:
            read |= {"stored demonstrations"}
        return {what: dict(self.dropped[what]) for what in sorted(read & set(self.dropped))}

    def _count(self, what: str, dropped: Mapping[str, int]) -> None:
        self._remember(what, dropped)
        self.listener.say_dropped(what, dropped)

    def _remember(self, what: str, dropped: Mapping[str, int]) -> None:
        if dropped:
            self.dropped[what] = {**self.dropped.get(what, {}), **dropped}

    def _read(
        self,
        what: str,
        source: str | Source,
        reader: Callable[[Sequence[Row]], Loaded[Any]],
        *,
        name_columns: bool = True,
    ) -> Split:
        """A source in its parts, read once in a run. What was left out is counted and said, and
        where each item stands is kept for errors."""
        data, key = self.data, (what, repr(source))
        if key in self.parsed:
            parts = self.parsed[key]
            self._remember(what, parts.dropped)
            return Split(parts.train, parts.heldout, parts.not_evaluated)
        named = resolved(Source(source=source) if isinstance(source, str) else source)
        options = SourceOptions(
            split=named.split,
            heldout=named.heldout,
            heldout_split=named.heldout_split,
            column=data.split_column,
            share=data.heldout,
            seed=self.seed,
            limit=data.limit,
            columns=named.columns,
            system=data.system if named.system is None else named.system,
            weight=named.weight,
        )
        parts = self.parsed[key] = read_parts(named.source, reader, options)
        self._count(what, parts.dropped)
        self.origins.update(parts.origins)
        for note in parts.notes:
            self.listener.say(f"{what}: {note}")
        if name_columns:
            self._name_columns(what, parts)
        return Split(parts.train, parts.heldout, parts.not_evaluated)

    def _name_columns(self, what: str, parts: Parts[Any]) -> None:
        """Name once the columns of compared prompts, which no reward is handed."""
        groups = [
            item for item in (*parts.train, *parts.heldout) if isinstance(item, PreferenceGroup)
        ]
        line = passed_over((group.prompt.columns for group in groups), but=self.data.split_column)
        if line is not None:
            self.listener.say(f"{what}: {line}")

    def _split(self, items: Sequence[Any]) -> Split:
        """Items that come from no file: split by the column of their prompts, or else by hash."""
        data = self.data
        return Split(
            *split_items(
                items,
                column=data.split_column,
                heldout=data.heldout,
                seed=self.seed,
                file=data.store,
            )
        )

    def _prompts_of(self, rows: Sequence[Row]) -> Loaded[Prompt]:
        if holds_code_tasks(rows):
            return code_tasks(rows, instruction=self.data.instruction)
        return prompts(rows, instruction=self.data.instruction, drop=self.data.dropped)


def resolved(named: Source) -> Source:
    """A source whose folder has a catalogue of datasets (LLaMA-Factory's) as the dataset that it
    names there."""
    if named.dataset is None and not holds_catalogue(named.source):
        return named
    entry = entry_of(named.source, named.dataset)
    columns = {
        ours: named.columns.get(theirs, theirs) for ours, theirs in entry.columns.items()
    } | named.columns
    changes = {
        "source": entry.source,
        "dataset": None,
        "split": named.split or entry.split,
        "columns": columns,
    }
    return named.model_copy(update=changes)


def _question(demonstration: Demonstration) -> Prompt:
    """What the last assistant turn of a demonstration answers."""
    return Prompt(demonstration.id, demonstration.messages[:-1])


def preferred(group: PreferenceGroup) -> Demonstration:
    """The response that most comparisons prefer, as a demonstration."""
    wins = [0.0] * len(group.responses)
    for comparison in group.comparisons:
        wins[comparison.first] += comparison.probability
        wins[comparison.second] += 1.0 - comparison.probability
    best = group.responses[max(range(len(wins)), key=wins.__getitem__)]
    prompt = group.prompt
    messages = (*prompt.messages, Message(role="assistant", content=best))
    return Demonstration(prompt.id, messages, prompt.tools, prompt.chat_template_kwargs)
