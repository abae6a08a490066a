"""What the stages of one run share: the recipe, the folder, the data, and a way to talk to the person watching."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from burnish.atomic import write_json
from burnish.config.schema import Recipe, Source
from burnish.data.code_tasks import code_tasks, holds_code_tasks
from burnish.data.columns import Loaded, Origin, demonstrations, prompts
from burnish.data.feedback import preference_groups
from burnish.data.parts import Parts, SourceOptions, passed_over, read_parts, split_items, without_held_out
from burnish.data.prompts import opening
from burnish.data.sources import Row
from burnish.errors import UserError
from burnish.jsonio import undefined_as_null
from burnish.labels.soft import LabelOptions
from burnish.models.contents import local_files
from burnish.models.device import resolve
from burnish.models.precision import NAMES
from burnish.pipeline.chat_settings import settle
from burnish.pipeline.stored import StoredLabels, stored_labels
from burnish.records import Demonstration, Message, PreferenceGroup, Prompt
from burnish.runs.contents import contents_hash
from burnish.runs.metrics import Writer, make_writers, read_metrics
from burnish.trainers.loop import Progress

if TYPE_CHECKING:
    from burnish.models.backbone import Backbone

STAGES = ("sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "report")


@dataclass(frozen=True)
class Split:
    """Training and held-out parts of something; where nothing is held out, `not_evaluated` says why."""

    train: tuple[Any, ...]
    heldout: tuple[Any, ...]
    not_evaluated: str | None = None

    def map(self, change: Callable[[Any], Any]) -> Split:
        """The same parts with every item changed."""
        return Split(tuple(map(change, self.train)), tuple(map(change, self.heldout)), self.not_evaluated)


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
    def model_contents(self) -> dict[str, dict[str, str]]:
        """What stands in the recipe's model, as a hash that a fingerprint is made of; nothing for what is no folder here."""
        files = local_files(self.recipe.model.name)
        return {"contents": {"name": contents_hash(files, known=self.folder / "known_files.json")}} if files else {}

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
        backbone = load_backbone(
            reference,
            products=products,
            trained=trained,
            device=self.device,
            scalar_head=scalar_head,
            say=self.say,
        )
        own = reference == self.recipe.model.name or self.folder.resolve() in Path(reference).resolve().parents
        settle(backbone.tokenizer, self.recipe.model, own=own)
        return backbone

    @property
    def trained(self) -> dict[str, Path]:
        """The trained models that are there, in the order they were made: by name, `sft` and then each policy by its algorithm."""
        places = {
            "sft": self.stage("sft"),
            **{name: self.stage(stage) for stage, name in policies(self.recipe).items()},
        }
        return {name: place / "model" for name, place in places.items() if (place / "model").is_dir()}

    def finish(self, stage: str, result: Mapping[str, Any]) -> None:
        """Write a stage's findings, with what was dropped of the data it read and how many steps were skipped, which is said
        too; a figure that does not exist is null."""
        found = {**result, "dropped": self.dropped}
        logs = [rows for path in self.stage(stage).rglob("metrics.jsonl") if (rows := read_metrics(path))]
        if logs:
            steps, skipped = sum(map(len, logs)), sum(rows[-1].get("skipped_steps", 0) for rows in logs)
            found["skipped_steps"] = skipped
            if skipped:
                self.say(
                    f"{stage}: updates left out, for their loss or gradient was not finite: {skipped} (in {steps} steps)"
                )
        write_json(self.stage(stage) / "result.json", undefined_as_null(found))

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

    def count_dropped(self, what: str, dropped: Mapping[str, int]) -> None:
        """Remember, and say, how many rows were left out and why."""
        if dropped:
            self.dropped[what] = {**self.dropped.get(what, {}), **dropped}
            self.say(f"{what}: left out " + ", ".join(f"{count} ({reason})" for reason, count in dropped.items()))

    def _read(
        self,
        what: str,
        source: str | Source,
        reader: Callable[[Sequence[Row]], Loaded[Any]],
        *,
        name_columns: bool = True,
    ) -> Split:
        """A source in its parts. What was left out is counted and said, and where each item stands is kept for errors."""
        data = self.recipe.data
        named = Source(source=source) if isinstance(source, str) else source
        options = SourceOptions(
            split=named.split, heldout=named.heldout, heldout_split=named.heldout_split, column=data.split_column,
            share=data.heldout, seed=self.recipe.seed, limit=data.limit,
        )  # fmt: skip
        parts = read_parts(named.source, reader, options)
        self.count_dropped(what, parts.dropped)
        self.origins |= parts.origins
        for note in parts.notes:
            self.say(f"{what}: {note}")
        if name_columns:
            self._name_columns(what, parts)
        return Split(parts.train, parts.heldout, parts.not_evaluated)

    def _name_columns(self, what: str, parts: Parts[Any]) -> None:
        """Name once the columns of compared prompts, which no reward is handed."""
        groups = [item for item in (*parts.train, *parts.heldout) if isinstance(item, PreferenceGroup)]
        line = passed_over((group.prompt.columns for group in groups), but=self.recipe.data.split_column)
        if line is not None:
            self.say(f"{what}: {line}")

    def _split(self, items: Sequence[Any]) -> Split:
        """Items that come from no file: split by the column of their prompts, or else by hash."""
        data = self.recipe.data
        return Split(
            *split_items(items, column=data.split_column, heldout=data.heldout, seed=self.recipe.seed, file=data.store)
        )

    def not_evaluated(self, stage: str, split: Split, measured: Sequence[Any]) -> str | None:
        """Why a stage has nothing to be evaluated on, which is said; None where it has."""
        if measured:
            return None
        reason = split.not_evaluated or "no held-out row fits"
        self.say(f"{stage}: not evaluated: {reason}")
        return reason

    def say_batch(self, stage: str, batch_size: int, count: int, what: str) -> None:
        """Say that a batch is smaller than was asked for, where it would hold an example twice."""
        if batch_size > count:
            self.say(f"{stage}: batches of {count}, not {batch_size}: there are no more {what}")

    def say_repeats(self, stage: str, prompts_per_step: int, count: int) -> None:
        """Say that a step asks for more prompts than there are."""
        if prompts_per_step > count:
            self.say(f"{stage}: {prompts_per_step} prompts a step of {count}: each comes several times in a step")

    @cached_property
    def stored(self) -> StoredLabels:
        """The labels of the recipe's store, read once: the fingerprint and the trainers see the same."""
        return stored_labels(self.recipe.data, self.folder)

    @cached_property
    def _sources(self) -> Mapping[str, Split]:
        """The sources that the recipe names, as each of them is split by itself."""
        data = self.recipe.data
        handed_on = data.prompts is None and bool(self.recipe.rewards)
        found: dict[str, Split] = {}
        if data.demonstrations is not None:
            found["demonstrations"] = self._read("demonstrations", data.demonstrations, demonstrations)
        if data.comparisons is not None:
            found["comparisons"] = self._read(
                "comparisons", data.comparisons, self._compared, name_columns=not handed_on
            )
        if data.prompts is not None:
            found["prompts"] = self._prompts_of_all(
                data.prompts if isinstance(data.prompts, tuple) else (data.prompts,)
            )
        return found

    def _kept(self, what: str, split: Split) -> Split:
        """The split without training rows whose prompt another source holds out: what is held out is never trained on. The
        labels of a store hold nothing out of SFT, which they are collected after."""
        held_out = {f"data.{name}": own.heldout for name, own in self._sources.items() if name != what}
        train, taken = without_held_out(split.train, held_out, instruction=self.recipe.data.instruction)
        self.count_dropped(what, taken)
        return replace(split, train=train)

    @cached_property
    def comparisons(self) -> Split:
        """People's comparisons, split by prompt; empty where the recipe has none."""
        data = self.recipe.data
        if data.store is not None:
            self.count_dropped("stored labels", self.stored.dropped)
            return self._kept("stored labels", self._split(self.stored.groups[: data.limit]))
        return Split((), ()) if data.comparisons is None else self._kept("comparisons", self._sources["comparisons"])

    def _compared(self, rows: Sequence[Row]) -> Loaded[PreferenceGroup]:
        data = self.recipe.data
        return preference_groups(rows, LabelOptions(data.strength, data.reliability_weighted))

    @cached_property
    def demonstrations(self) -> Split:
        """Demonstrations: their own source; or what annotators wrote into the store; or the preferred answers of the
        comparisons."""
        data = self.recipe.data
        if data.demonstrations is not None:
            return self._kept("demonstrations", self._sources["demonstrations"])
        if not data.labelled:
            raise UserError("sft needs data: set data.demonstrations or data.comparisons.", field="data.demonstrations")
        if data.store is not None and self.stored.demonstrations:
            return self._kept("stored demonstrations", self._split(self.stored.demonstrations[: data.limit]))
        return self.comparisons.map(_preferred)

    @cached_property
    def prompts(self) -> Split:
        """Prompts to write answers to: their own source, or those of the comparisons, or those of the demonstrations."""
        data = self.recipe.data
        if data.prompts is None and data.labelled:
            return self.comparisons.map(lambda group: group.prompt)
        if data.prompts is None:
            return Split((), ()) if data.demonstrations is None else self.demonstrations.map(_question)
        return self._kept("prompts", self._sources["prompts"])

    def _prompts_of_all(self, sources: Sequence[str | Source]) -> Split:
        """The prompts of several sources as one; what one of them holds out, the others do not train on."""
        parts = [self._read("prompts", source, self._prompts_of) for source in sources]
        # in turn, so that the first few that an evaluation takes are of every source
        turns = zip_longest(*(part.heldout for part in parts))
        heldout = tuple(prompt for turn in turns for prompt in turn if prompt is not None)
        openings = set(map(opening, heldout))
        read = tuple(prompt for part in parts for prompt in part.train)
        train = tuple(prompt for prompt in read if opening(prompt) not in openings)
        if len(train) < len(read):
            self.count_dropped("prompts", {"held out in another source": len(read) - len(train)})
        twice = next((name for name, number in Counter(p.id for p in (*train, *heldout)).items() if number > 1), None)
        if twice is not None:
            problem = f'two sources have a prompt called "{twice}".'
            raise UserError(problem, field="data.prompts", hint="Give their rows ids of their own.")
        reasons = [part.not_evaluated for part in parts if part.not_evaluated is not None]
        return Split(train, heldout, None if heldout else next(iter(reasons), "no prompt is held out"))

    def _prompts_of(self, rows: Sequence[Row]) -> Loaded[Prompt]:
        read = code_tasks if holds_code_tasks(rows) else prompts
        return read(rows, instruction=self.recipe.data.instruction)


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
    prompt = group.prompt
    messages = (*prompt.messages, Message(role="assistant", content=best))
    return Demonstration(prompt.id, messages, prompt.tools, prompt.chat_template_kwargs)
