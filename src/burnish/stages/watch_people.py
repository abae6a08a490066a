"""People as the judge of a watch: their project gets the answers, training goes on, and what they
said is heard at a later check."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from burnish.atomic import write_json
from burnish.config.watch import PeopleWatch
from burnish.jsonio import dumps, read_object
from burnish.records import Prompt
from burnish.stages.artifacts import Answered
from burnish.stages.context import Step
from burnish.stages.people import preferences_of, preferences_so_far

Heard = list[float | None]
"""A mark for each answer of a look; None: nobody compared it."""


@dataclass(frozen=True, slots=True)
class Look:
    """Answers of the policy after `step` steps, in parallel lists; `rewards` are None where the
    reward did not count, `figures` what is known of them without the judge."""

    step: int
    prompts: Sequence[str]
    texts: Sequence[str]
    beside: Sequence[str]
    rewards: Sequence[float | None]
    lengths: Sequence[float]
    figures: Mapping[str, float]

    @property
    def digest(self) -> str:
        """The name of what a judge is asked."""
        asked = [list(self.prompts), list(self.texts), list(self.beside)]
        return hashlib.sha256(dumps(asked).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)


class People:
    """Annotators who compare each answer with the starting policy's.

    What was heard at which step goes to a file: a run that was killed and makes the step again
    hears the same then, whatever people have said since.
    """

    def __init__(self, step: Step, config: PeopleWatch, prompts: Sequence[Prompt]) -> None:
        self._step, self._config = step, config
        self._prompts = {prompt.id: prompt for prompt in prompts}
        self._path = step.folder / "watch" / "people.json"
        self._before: dict[str, dict[str, Heard]] = _read(self._path)

    def heard(self, at: int, looks: Sequence[Look]) -> list[Heard]:
        """The marks of the first of `looks`, as far as people are done with them, in order; those
        that they do not know yet they are asked."""
        names = [look.digest for look in looks]
        said = self._before.get(str(at))
        if said is None or not set(said) <= set(names):  # else of a policy that is not this one
            said = self._before[str(at)] = self._ask(looks, names)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, self._before)
        found = list[Heard]()
        for name in names:
            if name not in said:
                break
            found.append(said[name])
        return found

    def last(self, looks: Sequence[Look]) -> list[Heard]:
        """The marks of all of them. Raises WaitingForPeople while one is missing."""
        return [
            _marks(look, preferences_of(self._step, self._config, pairs) if pairs else {})
            for look in looks
            for pairs in [self._pairs(look)]
        ]

    def _ask(self, looks: Sequence[Look], names: Sequence[str]) -> dict[str, Heard]:
        """What is said of the first of them; those behind one that waits are asked as well."""
        pairs = [self._pairs(look) for look in looks]
        said = (
            preferences_so_far(self._step, self._config, pairs) if any(pairs) else [{}] * len(looks)
        )
        found = dict[str, Heard]()
        for look, name, one in zip(looks, names, said, strict=True):
            if one is None:
                break
            found[name] = _marks(look, one)
        return found

    def _pairs(self, look: Look) -> list[Answered]:
        """What people are asked of it."""
        models = (f"step {look.step}", "start")
        return [
            Answered(self._prompts[prompt], (text, other), models)
            for prompt, text, other in zip(look.prompts, look.texts, look.beside, strict=True)
            if _known(text, other) is None
        ]


def _marks(look: Look, said: Mapping[int, float]) -> Heard:
    """Of each answer the probability that it is better than the starting policy's: as `said`, by
    the place among those that people are asked. Equal texts are as good as each other, and an empty
    one is the worse: nobody is asked."""
    marks, asked = Heard(), 0
    for pair in zip(look.texts, look.beside, strict=True):
        known = _known(*pair)
        marks.append(said.get(asked) if known is None else known)
        asked += known is None
    return marks


def _known(text: str, other: str) -> float | None:
    """What needs no judge."""
    empty = (not text.strip(), not other.strip())
    if text == other or all(empty):
        return 0.5
    if any(empty):
        return 0.0 if empty[0] else 1.0
    return None


def _read(path: Path) -> dict[str, dict[str, Heard]]:
    """What was heard, by step."""
    if not path.exists():
        return {}
    return read_object(path, hint="Delete it: people's answers are in their project.")
