"""What the stages of one run share, and what one of them is handed: its settings, its inputs, its
folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from burnish.atomic import write_json
from burnish.config.graph import Graph, Node, graph_of
from burnish.config.kinds import BASE, KINDS, Input, Stage
from burnish.config.recipe import Recipe
from burnish.config.schema import Data
from burnish.data.columns import Origin
from burnish.data.parts import Parts
from burnish.data.prompts import split_or_all
from burnish.errors import UserError
from burnish.jsonio import undefined_as_null
from burnish.models.contents import local_files
from burnish.models.device import resolve
from burnish.models.precision import NAMES
from burnish.ranks import first, rank, world
from burnish.runs.contents import contents_hash
from burnish.runs.metrics import Writer, make_writers, read_metrics
from burnish.stages.artifacts import DEMONSTRATIONS, read_comparisons
from burnish.stages.chat_settings import settle
from burnish.stages.reading import Reading, Split
from burnish.stages.stored import StoredLabels
from burnish.trainers.loop import Progress

if TYPE_CHECKING:
    from burnish.models.backbone import Backbone
    from burnish.models.stored import Quantization


@dataclass
class Run:
    """One run.

    Args:
        recipe: the resolved recipe.
        folder: the run's folder.
        say: shows a line to the person watching.
        progress: makes, for a stage, what its trainer reports to.
    """

    recipe: Recipe
    folder: Path
    say: Callable[[str], None] = lambda _: None
    progress: Callable[[str], Progress | None] = lambda _: None
    origins: dict[str, Origin] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    _readings: dict[str, Reading] = field(default_factory=dict)
    _parsed: dict[tuple[str, str], Parts[Any]] = field(default_factory=dict)
    _looked_at: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def graph(self) -> Graph:
        """The recipe's stages and what each reads."""
        return graph_of(self.recipe)

    def place(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.folder / stage

    def step(self, stage: str) -> Step:
        """What a stage is handed."""
        return Step(self, self.graph[stage])

    @cached_property
    def device(self) -> torch.device:
        """Where the run's models are."""
        device = resolve(self.recipe.model.device)
        return torch.device("cuda", rank()) if device.type == "cuda" and world() > 1 else device

    def contents(self, reference: str) -> str | None:
        """The hash of what stands in a model's folder; None for what is no folder here."""
        return self.once(reference, self._contents_of)

    def _contents_of(self, reference: str) -> str | None:
        files = local_files(reference)
        return contents_hash(files, known=self.folder / "known_files.json") if files else None

    def once(self, of: Any, look: Callable[[Any], Any]) -> Any:
        """`look(of)`, looked at once in the run however many stages ask: large files are read
        through for their hashes."""
        key = f"{look.__name__} {of!r}"
        if key not in self._looked_at:
            self._looked_at[key] = look(of)
        return self._looked_at[key]

    @cached_property
    def stored(self) -> StoredLabels:
        """The labels of the recipe's store, read once."""
        return self.reading(self.recipe.data).stored

    def reading(self, data: Data) -> Reading:
        """These sources, read once in the run."""
        key = data.model_dump_json()
        if key not in self._readings:
            rewarded = any(
                getattr(settings, "rewards", None) for settings in self.recipe.stages.values()
            )
            self._readings[key] = Reading(
                data, self.recipe.seed, self.folder, self, self.origins, self._parsed,
                unnamed=not (rewarded and data.prompts is None),
            )  # fmt: skip
        return self._readings[key]

    def load(
        self,
        reference: str,
        *,
        exact: bool = False,
        trained: bool = False,
        scalar_head: bool = False,
        quantization: Quantization | Literal["none"] = "none",
    ) -> Backbone:
        """A model on the recipe's device, multiplying as `model.dtype` says, or `exact`: in
        float32. `trained`: every weight.

        `scalar_head`: of a reward model's folder. `quantization`: how its frozen matrices are
        held."""
        # Brings transformers, which takes seconds: commands that load no model are not to wait for
        # it.
        from burnish.models.backbone import load_backbone

        products = None if exact else NAMES[self.recipe.model.dtype]
        backbone = load_backbone(
            reference,
            products=products,
            trained=trained,
            device=self.device,
            scalar_head=scalar_head,
            quantization=quantization,
            say=self.say,
        )
        if quantization != "none":
            self.say_once(
                f"{reference}: its matrices are held in {quantization}; adapters are merged into"
                " what these stand for"
            )
        own = (
            reference == self.recipe.model.name
            or self.folder.resolve() in Path(reference).resolve().parents
        )
        settle(backbone.tokenizer, self.recipe.model, own=own)
        return backbone

    def reference(self, artifact: Input) -> str:
        """What an input is loaded by: a stage's folder `model`, the pretrained model, or what the
        recipe names."""
        if artifact.stage is not None:
            return str((self.place(artifact.stage) / "model").resolve())
        if artifact.outside == BASE:
            return self.recipe.model.name
        outside = artifact.outside or ""
        return outside if "://" in outside else str(Path(outside).expanduser())

    def say_once(self, line: str) -> None:
        """Show a line, unless this run has shown it before."""
        if line not in self.said:
            self.said.add(line)
            self.say(line)

    def say_dropped(self, what: str, dropped: Mapping[str, int]) -> None:
        """Say how many rows were left out and why."""
        if dropped:
            self.say(
                f"{what}: left out "
                + ", ".join(f"{count} ({reason})" for reason, count in dropped.items())
            )


@dataclass
class Step:
    """One stage of a run: what it is handed, and where what it makes goes.

    Args:
        run: the run.
        node: the stage in the recipe's graph.
        dropped: how many rows it left out, by what they are rows of and why.
        sources: what it has read.
    """

    run: Run
    node: Node
    dropped: dict[str, dict[str, int]] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The stage's."""
        return self.node.name

    @property
    def row(self) -> Stage:
        """What its kind is."""
        return KINDS[self.node.kind]

    @property
    def settings(self) -> Any:
        """Its section of the recipe."""
        return self.node.settings

    @property
    def seed(self) -> int:
        """What its random numbers follow from."""
        return self.node.seed

    @property
    def recipe(self) -> Recipe:
        """The run's."""
        return self.run.recipe

    @property
    def folder(self) -> Path:
        """Where its results, its metrics and its checkpoints are."""
        return self.run.place(self.name)

    @property
    def origins(self) -> Mapping[str, Origin]:
        """Where each item that was read stands."""
        return self.run.origins

    def say(self, line: str) -> None:
        """Show a line to the person watching."""
        self.run.say(line)

    def say_once(self, line: str) -> None:
        """Show a line, unless this run has shown it before."""
        self.run.say_once(line)

    def count_dropped(self, what: str, dropped: Mapping[str, int]) -> None:
        """Remember, and say, how many rows were left out and why."""
        if dropped:
            self.dropped[what] = {**self.dropped.get(what, {}), **dropped}
            self.run.say_dropped(what, dropped)

    def progress(self) -> Progress | None:
        """What its trainer reports to."""
        return self.run.progress(self.name)

    def load(
        self,
        reference: str,
        *,
        exact: bool = False,
        trained: bool = False,
        scalar_head: bool = False,
        quantization: Quantization | Literal["none"] = "none",
    ) -> Backbone:
        """See `Run.load`."""
        return self.run.load(
            reference,
            exact=exact,
            trained=trained,
            scalar_head=scalar_head,
            quantization=quantization,
        )

    def model(self, slot: str) -> str:
        """What the model in a slot is loaded by. Raises KeyError where nothing stands in it."""
        return self.run.reference(self.node.inputs[slot][0])

    @property
    def start(self) -> str:
        """What the policy that it starts from is loaded by."""
        return self.model("start")

    def parent(self, slot: str) -> Node | None:
        """The stage whose artifact stands in a slot; None: it comes from outside, or nothing stands
        there."""
        found = self.node.input(slot)
        return None if found is None or found.stage is None else self.run.graph[found.stage]

    @property
    def reading(self) -> Reading:
        """Its sources."""
        return self.run.reading(self.node.data)

    @property
    def demonstrations(self) -> Split:
        """To imitate: those that the stage in the slot made, which are read as any source is, or
        its own source's."""
        self.sources.add("demonstrations")
        return self._imitated.demonstrations

    @property
    def _imitated(self) -> Reading:
        made = self.parent("demonstrations")
        if made is None:
            return self.reading
        source = str(self.run.place(made.name) / DEMONSTRATIONS)
        return self.run.reading(self.node.data.model_copy(update={"demonstrations": source}))

    @property
    def prompts(self) -> Split:
        """To answer."""
        self.sources.add("prompts")
        return self.reading.prompts

    @property
    def comparisons(self) -> Split:
        """Of the stage that stands in the slot, split by prompt, or of the recipe's own source."""
        compared = self.parent("comparisons")
        if compared is None:
            self.sources.add("comparisons")
            return self.reading.comparisons
        groups = read_comparisons(self.run.place(compared.name))
        if not groups:
            problem = (
                f"the stage {compared.name} found no answer that is preferred to another, so"
                f" {self.name} has nothing to learn from."
            )
            raise UserError(problem, hint="Compare more answers, or answers that differ.")
        # Their prompts are the training side of a split by prompt, perhaps by the same hash.
        share, seed = self.recipe.data.heldout, self.recipe.seed
        return Split(*split_or_all(groups, heldout=share, seed=seed, salt="compared/"))

    def writers(self) -> Sequence[Writer]:
        """The trackers the recipe asks for; rank 0 has them."""
        if not first():
            return ()
        config = self.recipe.model_dump(mode="json")
        return make_writers(
            self.recipe.report_to,
            folder=self.folder,
            run=self.recipe.name,
            stage=self.name,
            config=config,
        )

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write its findings, with what was dropped of the data it read and how many steps were
        skipped, which is said too; a figure that does not exist is null.

        What was dropped is the stage's own, whichever stage has read the source first in this
        process.
        """
        imitated = self.sources & {"demonstrations"}
        dropped = self.reading.dropped_of(self.sources - imitated) | self._imitated.dropped_of(
            imitated
        )
        for what, reasons in self.dropped.items():
            dropped[what] = {**dropped.get(what, {}), **reasons}
        findings = {**result, "dropped": dropped}
        log = self.folder / "metrics.jsonl"
        rows = read_metrics(log) if log.is_file() else []
        if rows:
            skipped = findings["skipped_steps"] = rows[-1].get("skipped_steps", 0)
            if skipped:
                reason = "for their loss or gradient was not finite"
                self.say(
                    f"{self.name}: updates left out, {reason}: {skipped} (in {len(rows)} steps)"
                )
        if first():
            write_json(self.folder / "result.json", undefined_as_null(findings))

    def not_evaluated(self, split: Split, measured: Sequence[Any]) -> str | None:
        """Why there is nothing to be evaluated on, which is said; None where there is."""
        if measured:
            return None
        reason = split.not_evaluated or "no held-out row fits"
        self.say(f"{self.name}: not evaluated: {reason}")
        return reason

    def say_batch(self, batch_size: int, count: int, what: str) -> None:
        """Say that a batch is smaller than was asked for, where it would hold an example twice."""
        if batch_size > count:
            self.say(f"{self.name}: batches of {count}, not {batch_size}: there are no more {what}")

    def say_repeats(self, prompts_per_step: int, count: int) -> None:
        """Say that a step asks for more prompts than there are."""
        if prompts_per_step > count:
            self.say(
                f"{self.name}: {prompts_per_step} prompts a step of {count}: each comes several"
                " times in a step"
            )
