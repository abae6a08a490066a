"""What a later stage needs, looked at before the first one trains: one list of small checks, each
naming its stage and key.

A run that can be refused is refused at once, not after the stages before have taken their hours.
Nothing here loads weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.config import rewards as spec
from burnish.config.sections import Sampling
from burnish.config.shipped import located
from burnish.errors import UserError
from burnish.rewards.functions import check_function
from burnish.rewards.scorer import check_prompts
from burnish.stages.artifacts import require_reward_model
from burnish.stages.context import Run, Step

if TYPE_CHECKING:
    from burnish.planning.shape import ModelShape

_BYTES = 4  # of a weight on disk
_ADAM = 3  # weights and two moments in a checkpoint


@dataclass(frozen=True)
class Plan:
    """What is about to run: the stages that are still to be done, in order. `reads`: data and model
    may be looked at."""

    run: Run
    steps: tuple[Step, ...]
    reads: bool = True

    @property
    def rewarded(self) -> Iterator[Step]:
        """The stages that ask rewards."""
        return (step for step in self.steps if getattr(step.settings, "rewards", None))

    def sampling(self) -> Iterator[tuple[Step, str, Sampling]]:
        """The stages that sample, each with its settings and their key."""
        for step in self.steps:
            if step.row.samples(step):
                yield step, f"{step.name}.sampling", step.settings.sampling

    @cached_property
    def model(self) -> tuple[dict[str, Any], Any]:
        """(configuration, tokenizer) of the model that the recipe names, without its weights."""
        from burnish.stages.configuration import configuration_of

        return configuration_of(self.run)

    @cached_property
    def shape(self) -> ModelShape:
        """Of the same model, with sequences as long as the recipe allows."""
        from burnish.planning.shape import ModelShape

        return ModelShape.from_config(self.model[0], max_length=self.run.recipe.model.max_length)


def check(run: Run, stages: Sequence[str], *, reads: bool = True) -> None:
    """Raise UserError if one of `stages` cannot be run as the recipe has it. `reads`: look at data
    and model as well, which may have to be fetched."""
    plan = Plan(run, tuple(run.step(stage) for stage in stages), reads)
    for look in (*_OF_THE_RECIPE, *(_OF_THE_MODEL if reads else ())):
        look(plan)


def _of_its_kind(plan: Plan) -> None:
    """What each kind looks at itself."""
    for step in plan.steps:
        step.row.check(step, plan.steps)


def _labels(plan: Plan) -> None:
    """Rewards that can be told apart."""
    for step in plan.rewarded:
        labels = [one.called for one in step.settings.rewards]
        twice = next((label for label in labels if labels.count(label) > 1), None)
        if twice is not None:
            hint = "Give each a label of its own."
            raise UserError(
                f'two rewards are called "{twice}".', field=f"{step.name}.rewards", hint=hint
            )


def _reward_parts(plan: Plan) -> None:
    """Functions that import, patterns that compile, reward models and sandboxes that are there;
    prompts that they can judge."""
    from burnish.stages.rewards import build_reward

    for step in plan.rewarded:
        for number, one in enumerate(step.settings.rewards):
            reward, key = None, f"{step.name}.rewards.{number}"
            if isinstance(one, spec.ModelReward):
                _reward_model(plan, step, f"rewards.{number}", f"{key}.model")
            elif isinstance(one, spec.PythonReward):
                with _numbered(key):
                    check_function(one.function)
            else:
                with _numbered(key):
                    reward = build_reward(step, one, None)
            try:
                _rewarded_prompts(plan, step, one, reward)
            finally:
                getattr(reward, "close", lambda: None)()


@contextmanager
def _numbered(key: str) -> Iterator[None]:
    """Say which of the recipe's rewards a setting is one of."""
    try:
        yield
    except UserError as error:
        inner = (error.field or "").removeprefix("rewards.")
        where = f"{key}.{inner}" if inner else key
        raise UserError(
            error.problem, file=error.file, row=error.row, field=where, hint=error.hint
        ) from error


def _rewarded_prompts(plan: Plan, step: Step, one: spec.RewardSpec, reward: Any) -> None:
    """Prompts that a reward applies to, every right answer of them readable: else every step would
    pass without an update, or the run would stop in its middle. Beside training, the prompts kept
    for evaluation may all lack what it needs; that is said."""
    from burnish.stages.rewards import part_of

    if not plan.reads:
        return
    trains = any(other.row.trains for other in plan.rewarded)
    evaluates = step.row.split == "heldout"
    prompts = step.prompts.heldout if evaluates else step.prompts.train
    passed_over = check_prompts(
        part_of(one), reward, prompts, step.origins, needed=not (evaluates and trains)
    )
    if passed_over is not None:
        step.say_once(f"{step.name}: {passed_over}")


def _reward_model(plan: Plan, step: Step, slot: str, key: str) -> None:
    """A folder that the recipe names as a reward model holds one; a stage that makes one comes
    before."""
    artifact = step.node.input(slot)
    if artifact is None or artifact.stage is not None:
        return
    require_reward_model(Path(plan.run.reference(artifact)), field=key)


def _scored(plan: Plan) -> None:
    """The reward models that stages learn from, compare with or evaluate with."""
    for step in plan.steps:
        for slot in step.node.inputs:
            if slot.rpartition(".")[2] == "reward":
                _reward_model(plan, step, slot, f"{step.name}.{slot}")


def _constitutions(plan: Plan) -> None:
    """What models judge and revise by."""
    from burnish.annotation.ai.judge import read_constitution

    for step in plan.steps:
        for name in step.row.texts(step.settings):
            read_constitution(located(Path(name).expanduser()))


def _windows(plan: Plan) -> None:
    """Answers that are shorter than the longest sequence, whatever the model."""
    for _, key, sampling in plan.sampling():
        _check_room(key, sampling, plan.run.recipe.model.max_length)


def _check_room(key: str, sampling: Sampling, longest: int) -> None:
    if longest <= sampling.max_new_tokens:
        field = f"{key}.max_new_tokens"
        problem = (
            f"{field} is {sampling.max_new_tokens} of {longest} tokens in all (model.max_length),"
            " which leaves no room for a prompt."
        )
        raise UserError(problem, field=field, hint=f"Lower {field}, or raise model.max_length.")


def _trainers(plan: Plan) -> None:
    """Several trainers: as many GPUs as them, or the CPU, which they share."""
    count, device = plan.run.recipe.scale.trainers, plan.run.recipe.model.device
    if count == 1 or not any(step.row.trains for step in plan.steps):
        return
    quantized = [step.name for step in plan.steps if _quantized(step)]
    if quantized:
        field = f"{quantized[0]}.lora.quantization"
        problem = f"scale.trainers is {count}, and quantized weights are not shared out."
        raise UserError(problem, field=field, hint="Leave one of the two out.")
    if ":" in device:
        problem = f"scale.trainers is {count}, and model.device {device} is one GPU."
        hint = "Set model.device: cuda, and trainer k takes GPU k; or leave scale.trainers out."
        raise UserError(problem, field="scale.trainers", hint=hint)
    if plan.run.device.type == "cuda":
        _enough_gpus(count)


def _quantized(step: Step) -> bool:
    lora = getattr(step.settings, "lora", None)
    return lora is not None and lora.quantization != "none"


def _enough_gpus(count: int) -> None:
    import torch

    if torch.cuda.device_count() < count:
        problem = (
            f"scale.trainers is {count}, and this machine has {torch.cuda.device_count()} GPU(s)."
        )
        hint = "Each trainer has a GPU of its own: lower scale.trainers, or set model.device: cpu."
        raise UserError(problem, field="scale.trainers", hint=hint)


def _sampled_on_ranks(plan: Plan) -> None:
    """Trainers that sample while their weights are shared out need Burnish's own engine."""
    if plan.run.recipe.scale.trainers == 1 or plan.shape.fallback is None:
        return
    for step, key, _ in plan.sampling():
        if step.row.trains:
            problem = (
                f"scale.trainers is more than 1, and {key} needs an engine that has whole weights"
                f" ({plan.shape.fallback})."
            )
            hint = (
                "Leave scale.trainers out, or choose a model that `burnish models supported` says"
                " is sampled by Burnish's own engine."
            )
            raise UserError(problem, field="scale.trainers", hint=hint)


def _trackers(plan: Plan) -> None:
    """Trackers that are installed."""
    for name in plan.run.recipe.report_to:
        if find_spec(name) is None:
            problem, hint = (
                f"the tracker {name} is not installed.",
                f"pip install 'burnish[{name}]'",
            )
            raise UserError(problem, field="report_to", hint=hint)


def _engines(plan: Plan) -> None:
    """Eight-bit products are asked for by name only where there is an engine that has them, and a
    processor."""
    from burnish.generation.engine import no_int8
    from burnish.models import int8

    for _, _, sampling in plan.sampling():
        if sampling.quantization != "int8":
            continue
        if plan.shape.fallback is not None:
            raise no_int8(plan.shape.fallback)
        int8.check(plan.run.device)


def _served(plan: Plan) -> None:
    """Engines as a service only where there are some for this recipe."""
    from burnish.stages.engines import check_engines

    recipe = plan.run.recipe
    online = {
        f"{node.name}.sampling": node.settings.sampling
        for node in plan.run.graph
        if node.kind == "online"
    }
    check_engines(recipe.scale, online, device=plan.run.device, lacking=plan.shape.fallback)


def _rooms(plan: Plan) -> None:
    """Room for a prompt beside the longest answer, in every stage that samples."""
    from burnish.data.render import TooLong, render_prompt

    _, tokenizer = plan.model
    longest = min(plan.run.recipe.model.max_length, plan.shape.longest_sampled)
    for step, key, sampling in plan.sampling():
        room = longest - sampling.max_new_tokens
        told = (
            f"{key}.max_new_tokens is {sampling.max_new_tokens} of {longest} tokens in all"
            " (model.max_length)"
        )
        hint = f"Lower {key}.max_new_tokens, or raise model.max_length."
        _check_room(key, sampling, longest)
        asked = step.prompts.heldout if step.row.split == "heldout" else step.prompts.train
        shortest = min(
            asked, key=lambda prompt: sum(len(m["content"]) for m in prompt.messages), default=None
        )
        if shortest is None:
            continue
        try:
            # the template renders what sampling asks of it
            render_prompt(tokenizer, shortest, max_tokens=room)
        except TooLong:
            if "too_long" in plan.run.recipe.data.dropped:
                raise UserError(
                    f"{told}, which leaves room for no prompt: even the shortest is longer than"
                    f" {room} tokens.",
                    field=f"{key}.max_new_tokens",
                    hint=hint,
                ) from None
            origin = plan.run.origins.get(shortest.id)
            raise UserError(
                f"{told}, which leaves {room} for a prompt; the shortest is longer.",
                file=None if origin is None else origin.file,
                row=None if origin is None else origin.row,
                hint=hint,
            ) from None


def _watches(plan: Plan) -> None:
    """Prompts that are held out, where a stage is watched."""
    from burnish.stages.watch_rules import check_watch_prompts

    for step in plan.steps:
        check_watch_prompts(step)


def _disk(plan: Plan) -> None:
    """Space for the models and checkpoints that will be written."""
    folder = plan.run.folder
    trained = [step for step in plan.steps if step.row.trains]
    if not trained:
        return
    parameters = plan.shape.parameters
    needed = 0.0
    for step in trained:
        section = step.settings
        whole = getattr(section, "lora", None) is None or not getattr(
            section, "share_backbone", True
        )
        kept = section.checkpoint.keep if hasattr(section, "checkpoint") else 0
        checkpoints = (kept + 1) * _ADAM if whole else 0
        needed += parameters * _BYTES * (1 + checkpoints)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"the stages {', '.join(step.name for step in trained)} will write about"
            f" {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free here.",
            file=folder,
            hint="Free some, choose another --out, or keep fewer checkpoints (checkpoint.keep).",
        )


_OF_THE_RECIPE = (
    _labels,
    _of_its_kind,
    _scored,
    _constitutions,
    _windows,
    _trackers,
    _trainers,
    _reward_parts,
)
_OF_THE_MODEL = (_engines, _served, _sampled_on_ranks, _rooms, _watches, _disk)
