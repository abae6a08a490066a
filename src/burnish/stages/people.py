"""People in a recipe: answers go into their project, and the run goes on when enough came back."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from burnish.annotation.labels import preference_data
from burnish.annotation.settings import Settings
from burnish.annotation.snapshot import add_labelled, take_snapshot
from burnish.annotation.store import Store
from burnish.config.making import PeopleJudge
from burnish.data.preferences import merge_by_prompt
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.labels.soft import LabelOptions
from burnish.records import LabelledItem, PreferenceGroup, Prompt
from burnish.stages.artifacts import Answered
from burnish.stages.context import Step
from burnish.stages.ranked import telling


class WaitingForPeople(UserError):
    """The run cannot go on until annotators have done more; the same command goes on then."""

    exit_code = 75


def check_people(people: PeopleJudge, *, field: str) -> None:
    """Raise UserError where the store cannot be opened, before anything is paid for."""
    try:
        Store(_place(people)).close()
    except UserError as error:
        raise UserError(error.problem, file=error.file, field=field, hint=error.hint) from error


def labels_of(
    step: Step, people: PeopleJudge, answered: Sequence[Answered]
) -> Sequence[PreferenceGroup]:
    """What people said of these answers, as soft labels; answers of which none is preferred are
    left out. Raises WaitingForPeople while fewer than the share `enough` have been compared."""
    said = _Said(step, people, answered, weighted=step.settings.reliability_weighted)
    groups = said.of(answered)
    names = {_name(step, one): one.prompt for one in answered}
    own = [replace(group, prompt=names[group.prompt.id]) for group in groups]
    merged = merge_by_prompt(own)
    return telling(step, "labels of people", merged.items, merged.dropped)


def preferences_of(
    step: Step, people: PeopleJudge, answered: Sequence[Answered]
) -> dict[int, float]:
    """By the place of a pair of answers, the probability that its first is better, of those that
    people compared. Raises WaitingForPeople while fewer than the share `enough` have been."""
    return _preferences(step, _Said(step, people, answered, weighted=True), answered)


def preferences_so_far(
    step: Step, people: PeopleJudge, several: Sequence[Sequence[Answered]]
) -> list[dict[int, float] | None]:
    """`preferences_of` each of several lists of pairs, from one look into the project; None where
    fewer than the share `enough` of a list have been compared."""
    said = _Said(step, people, [one for pairs in several for one in pairs], weighted=True)
    return [
        _preferences(step, said, pairs) if said.missing(pairs) is None else None
        for pairs in several
    ]


def _preferences(step: Step, said: _Said, answered: Sequence[Answered]) -> dict[int, float]:
    groups = {group.prompt.id: group for group in said.of(answered) if group.comparisons}
    found = {}
    for place, pair in enumerate(answered):
        group = groups.get(_name(step, pair))
        if group is None:
            continue
        first, second = (group.responses.index(text) for text in pair.responses)
        by_sides = {(one.first, one.second): one.probability for one in group.comparisons}
        if (first, second) in by_sides:
            found[place] = by_sides[first, second]
        elif (second, first) in by_sides:
            found[place] = 1.0 - by_sides[second, first]
    return found


class _Said:
    """What was said of answers when they were looked up; the first time they are put into the
    project."""

    def __init__(
        self, step: Step, people: PeopleJudge, answered: Sequence[Answered], *, weighted: bool
    ) -> None:
        self._step, self._people = step, people
        self._options = LabelOptions(people.strength, weighted)
        self._place = _place(people)
        items = [item for one in answered if (item := _item(step, one)) is not None]
        store = Store(self._place)
        try:
            kind = "pairwise" if all(len(item.candidates) == 2 for item in items) else "ranking"
            add_labelled(
                store, people.project, items, settings=Settings(kind=kind, overlap=people.overlap)
            )
            self._snapshot = take_snapshot(store, people.project)
        finally:
            store.close()
        answers = self._snapshot.answers
        self._given = {one.item_id for one in answers if one.answer.skipped is None}

    def missing(self, answered: Sequence[Answered]) -> WaitingForPeople | None:
        """The error of these answers while fewer than the share `enough` have been compared."""
        wanted = self._wanted(answered)
        given = wanted & self._given
        if len(given) >= self._people.enough * len(wanted):
            return None
        return WaitingForPeople(
            f"waiting for people: {len(given)} of {len(wanted)} answers of the stage"
            f" {self._step.name} are compared in the project "
            f'"{self._people.project}".',
            file=self._place,
            hint=(
                "Annotators find them with `burnish annotate serve --database"
                f" {self._people.store}`; then type the same command again."
            ),
        )

    def of(self, answered: Sequence[Answered]) -> list[PreferenceGroup]:
        """What was said of these, by the names of their items. Raises what is `missing`."""
        missing = self.missing(answered)
        if missing is not None:
            raise missing
        wanted = self._wanted(answered)
        return [group for group in self._groups if group.prompt.id in wanted]

    @cached_property
    def _groups(self) -> list[PreferenceGroup]:
        return preference_data(self._snapshot, self._options)

    def _wanted(self, answered: Sequence[Answered]) -> set[str]:
        items = [_item(self._step, one) for one in answered]
        return {item.prompt.id for item in items if item is not None}


def _place(people: PeopleJudge) -> str | Path:
    return people.store if "://" in people.store else Path(people.store).expanduser()


def _item(step: Step, answered: Answered) -> LabelledItem | None:
    """Answers as people see them: equal texts once; None where nothing is left to compare."""
    texts: dict[str, str] = {}
    for text, model in zip(answered.responses, answered.models, strict=True):
        if text.strip():
            texts.setdefault(text, model)
    if len(texts) < 2:
        return None
    prompt = Prompt(_name(step, answered), answered.prompt.messages, answered.prompt.columns)
    return LabelledItem(prompt, tuple(texts), tuple(texts.values()))


def _name(step: Step, answered: Answered) -> str:
    """An item's id in the project: of these very answers, so that other answers to the prompt are
    another item, and a run that stands in another folder by then finds its own."""
    mark = hashlib.sha256(dumps(answered.responses).encode()).hexdigest()[:12]
    return f"{answered.prompt.id}@{step.name}-{mark}"


def when_they_are_done(
    run: Callable[[], Path], *, say: Callable[[str], None], every: float = 15.0
) -> Path:
    """What `run` returns, tried again every so many seconds while it waits for people; each new
    count is said."""
    said = ""
    while True:
        try:
            return run()
        except WaitingForPeople as waiting:
            if waiting.problem != said:
                said = waiting.problem
                say(said)
        time.sleep(every)
