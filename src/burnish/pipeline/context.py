"""What the stages of one run share: the recipe, the folder, the data, and a way to talk to the person watching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from burnish.atomic import write_json
from burnish.config.schema import Recipe
from burnish.data.code_tasks import code_tasks, holds_code_tasks
from burnish.data.columns import Loaded, Origin, demonstrations, prompts
from burnish.data.feedback import preference_groups
from burnish.data.prompts import split_by_prompt
from burnish.data.sources import read_rows
from burnish.errors import UserError
from burnish.jsonio import undefined_as_null
from burnish.models.device import resolve
from burnish.models.precision import NAMES
from burnish.pipeline.stored import StoredLabels, stored_labels
from burnish.records import Demonstration, PreferenceGroup, Prompt
from burnish.runs.metrics import Writer, make_writers
from burnish.trainers.loop import Progress

if TYPE_CHECKING:
    from burnish.models.backbone import Backbone

STAGES = ("sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "report")


@dataclass(frozen=True)
class Split:
    """Training and held-out parts of something."""

    train: tuple[Any, ...]
    heldout: tuple[Any, ...]


@dataclass
class Context:
    """One run.

    Args:
        recipe: the resolved recipe.
        folder: the run's folder.
        say: shows a line to the person watching.
        progress: makes, for a stage and a unit, what its trainer reports to.
    """

    recipe: Recipe
    folder: Path
    say: Callable[[str], None] = lambda _: None
    progress: Callable[[str], Progress | None] = lambda _: None
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.folder / name

    @property
    def sft_model(self) -> str:
        """A reference to the SFT stage's model; the pretrained model's if the recipe has no SFT stage."""
        path = self.stage("sft") / "model"
        return str(path.resolve()) if path.is_dir() else self.recipe.model.name

    @cached_property
    def device(self) -> torch.device:
        """Where the run's models are."""
        return resolve(self.recipe.model.device)

    def load(
        self, reference: str, *, exact: bool = False, trained: bool = False, scalar_head: bool = False
    ) -> Backbone:
        """A model on the recipe's device, multiplying as `model.products` says, or `exact`: in float32. `trained`: every weight.

        `scalar_head`: of a reward model's folder."""
        # Brings transformers, which takes seconds: commands that load no model are not to wait for it.
        from burnish.models.backbone import load_backbone

        products = None if exact else NAMES[self.recipe.model.products]
        return load_backbone(
            reference,
            products=products,
            trained=trained,
            device=self.device,
            scalar_head=scalar_head,
            say=self.say,
        )

    @property
    def trained(self) -> dict[str, Path]:
        """The trained models that are there, in the order they were made: by name, `sft` and then each policy by its algorithm."""
        places = {
            "sft": self.stage("sft"),
            **{name: self.stage(stage) for stage, name in policies(self.recipe).items()},
        }
        return {name: place / "model" for name, place in places.items() if (place / "model").is_dir()}

    def finish(self, stage: str, result: Mapping[str, Any]) -> None:
        """Write a stage's findings, with what was dropped of the data it read; a figure that does not exist is null."""
        write_json(self.stage(stage) / "result.json", undefined_as_null({**result, "dropped": self.dropped}))

    def say_once(self, line: str) -> None:
        """Show a line, unless this run has shown it before."""
        if line not in self.said:
            self.said.add(line)
            self.say(line)

    def writers(self, stage: str) -> Sequence[Writer]:
        """The trackers the recipe asks for."""
        config = self.recipe.model_dump(mode="json")
        return make_writers(
            self.recipe.trackers, folder=self.stage(stage), run=self.recipe.name, stage=stage, config=config
        )

    def _taken(self, what: str, loaded: Loaded[Any]) -> tuple[Any, ...]:
        """The items of a source; what it dropped is counted, and where each item stands is kept for error messages."""
        self.count_dropped(what, loaded.dropped)
        self.origins |= loaded.origins
        return loaded.items

    def count_dropped(self, what: str, dropped: Mapping[str, int]) -> None:
        """Remember, and say, how many rows were left out and why."""
        if dropped:
            self.dropped[what] = {**self.dropped.get(what, {}), **dropped}
            self.say(f"{what}: left out " + ", ".join(f"{count} ({reason})" for reason, count in dropped.items()))

    @cached_property
    def stored(self) -> StoredLabels:
        """The labels of the recipe's store, read once: the fingerprint and the trainers see the same."""
        return stored_labels(self.recipe.data, self.folder)

    @cached_property
    def comparisons(self) -> Split:
        """People's comparisons, split by prompt; empty where the recipe has none."""
        data = self.recipe.data
        if data.store is not None:
            self.count_dropped("stored labels", self.stored.dropped)
            groups = self.stored.groups[: data.limit]
            return Split(*split_by_prompt(groups, heldout=data.heldout, seed=self.recipe.seed))
        source = data.comparisons
        if source is None:
            return Split((), ())
        items: tuple[PreferenceGroup, ...] = self._taken(
            "comparisons", preference_groups(read_rows(source, limit=self.recipe.data.limit))
        )
        return Split(*split_by_prompt(items, heldout=self.recipe.data.heldout, seed=self.recipe.seed))

    @cached_property
    def demonstrations(self) -> Split:
        """Demonstrations: their own source; or what annotators wrote into the store; or the preferred answers of the
        comparisons."""
        source = self.recipe.data.demonstrations
        if source is not None:
            items: tuple[Demonstration, ...] = self._taken(
                "demonstrations", demonstrations(read_rows(source, limit=self.recipe.data.limit))
            )
            return Split(*split_by_prompt(items, heldout=self.recipe.data.heldout, seed=self.recipe.seed))
        if not self.recipe.data.labelled:
            raise UserError("sft needs data: set data.demonstrations or data.comparisons.", field="data.demonstrations")
        if self.recipe.data.store is not None and self.stored.demonstrations:
            written = self.stored.demonstrations[: self.recipe.data.limit]
            return Split(*split_by_prompt(written, heldout=self.recipe.data.heldout, seed=self.recipe.seed))
        return Split(
            *(tuple(_preferred(g) for g in part) for part in (self.comparisons.train, self.comparisons.heldout))
        )

    @cached_property
    def prompts(self) -> Split:
        """Prompts to write answers to: their own source, or those of the comparisons, or those of the demonstrations."""
        data = self.recipe.data
        if data.prompts is None and not data.labelled:
            own = self.demonstrations if data.demonstrations is not None else Split((), ())
            return Split(*(tuple(map(_question, part)) for part in (own.train, own.heldout)))
        if data.prompts is None:
            return Split(
                *(tuple(g.prompt for g in part) for part in (self.comparisons.train, self.comparisons.heldout))
            )
        sources = (data.prompts,) if isinstance(data.prompts, str) else data.prompts
        parts = [self._prompts_of(source) for source in sources]
        train = tuple(prompt for part in parts for prompt in part.train)
        # in turn, so that the first few that an evaluation takes are of every source
        turns = zip_longest(*(part.heldout for part in parts))
        heldout = tuple(prompt for turn in turns for prompt in turn if prompt is not None)
        twice = next((name for name, number in Counter(p.id for p in (*train, *heldout)).items() if number > 1), None)
        if twice is not None:
            problem = f'two sources have a prompt called "{twice}".'
            raise UserError(problem, field="data.prompts", hint="Give their rows ids of their own.")
        return Split(train, heldout)

    def _prompts_of(self, source: str) -> Split:
        """The prompts of one source, split by its own column, or else by hash."""
        data = self.recipe.data
        rows = read_rows(source, limit=data.limit)
        read = code_tasks if holds_code_tasks(rows) else prompts
        loaded = read(rows, instruction=data.instruction)
        items: tuple[Prompt, ...] = self._taken("prompts", loaded)
        column = data.split_column
        if column is None or not any(column in p.columns for p in items):
            return Split(*split_by_prompt(items, heldout=data.heldout, seed=self.recipe.seed))
        heldout = tuple(p for p in items if p.columns.get(column) == "heldout")
        train = tuple(p for p in items if p.columns.get(column) != "heldout")
        if not heldout or not train:
            problem = f'the column "{column}" leaves no prompt {"held out" if not heldout else "to train on"}.'
            raise UserError(problem, file=source, hint='Mark some rows "heldout", or set data.split_column=null.')
        return Split(train, heldout)


def policies(recipe: Recipe) -> dict[str, str]:
    """The stages that end in a policy, in the order they run, and what each one's policy is called."""
    names = {"preference": recipe.preference.loss.name, "ppo": "ppo", "online": recipe.online.algorithm.name}
    return {stage: name for stage, name in names.items() if stage in recipe.stages}


def _question(demonstration: Demonstration) -> Prompt:
    """What the last assistant turn of a demonstration answers."""
    return Prompt(demonstration.id, demonstration.messages[:-1])


def _preferred(group: PreferenceGroup) -> Demonstration:
    """The response that most comparisons prefer, as a demonstration."""
    wins = [0.0] * len(group.responses)
    for comparison in group.comparisons:
        wins[comparison.first] += comparison.probability
        wins[comparison.second] += 1.0 - comparison.probability
    best = group.responses[max(range(len(wins)), key=wins.__getitem__)]
    return Demonstration(group.prompt.id, (*group.prompt.messages, {"role": "assistant", "content": best}))
