"""What a later stage needs, looked at before the first one trains: one list of small checks, each naming its stage and key.

A run that can be refused is refused at once, not after the stages before have taken their hours. Nothing here loads weights.
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
from burnish.config.schema import Sampling
from burnish.errors import UserError
from burnish.pipeline.context import Context
from burnish.rewards.functions import check_function
from burnish.rewards.scorer import check_prompts
from burnish.trainers.rules import rules_of

if TYPE_CHECKING:
    from burnish.planning.shape import ModelShape

_BYTES = 4  # of a weight on disk
_ADAM = 3  # weights and two moments in a checkpoint


@dataclass(frozen=True)
class Plan:
    """What is about to run: the stages that are still to be done, in order. `reads`: data and model may be looked at."""

    context: Context
    stages: tuple[str, ...]
    reads: bool = True

    @property
    def rewarded(self) -> bool:
        """Whether the recipe's rewards will be asked."""
        return bool(self.context.recipe.rewards) and not {"online", "evaluate"}.isdisjoint(self.stages)

    @property
    def has_reward_model(self) -> bool:
        """Whether this run has made a reward model, or will before anything needs it."""
        return "reward" in self.stages or (self.context.stage("reward") / "model" / "head.safetensors").is_file()

    def sampling(self) -> Iterator[tuple[str, Sampling]]:
        """The stages that sample, each with its settings."""
        recipe = self.context.recipe
        sections = {"collect": recipe.collect, "ppo": recipe.ppo, "online": recipe.online, "evaluate": recipe.evaluate}
        for stage, section in sections.items():
            if stage in self.stages:
                yield f"{stage}.sampling", section.sampling
        if {"reward", "ppo"} & set(self.stages) == {"reward"} and recipe.reward.normalise and recipe.data.labelled:
            yield "ppo.sampling", recipe.ppo.sampling  # of the answers whose scores are made to have mean 0
        if "preference" in self.stages and recipe.preference.rounds > 1:
            yield "preference.online.sampling", recipe.preference.online.sampling

    @cached_property
    def model(self) -> tuple[dict[str, Any], Any]:
        """(configuration, tokenizer) of the model that the recipe names, without its weights."""
        from burnish.models import sources
        from burnish.models.loading.folder import read_config
        from burnish.models.loading.vocabulary import load_tokenizer
        from burnish.models.supported import read_model_type
        from burnish.models.tiny import tiny_model, tiny_tokenizer
        from burnish.pipeline.chat_settings import settle

        source = sources.resolve(self.context.recipe.model.name, say=self.context.say)
        if source.folder is None:
            config, tokenizer = tiny_model().config.to_dict(), tiny_tokenizer()
        else:
            read_model_type(source.folder)
            config, tokenizer = read_config(source.folder), load_tokenizer(source.tokenizer or source.folder)
        settle(tokenizer, self.context.recipe.model, own=True)
        return config, tokenizer

    @cached_property
    def shape(self) -> ModelShape:
        """Of the same model, with sequences as long as the recipe allows."""
        from burnish.planning.shape import ModelShape

        return ModelShape.from_config(self.model[0], max_length=self.context.recipe.model.max_length)


def check(context: Context, stages: Sequence[str], *, reads: bool = True) -> None:
    """Raise UserError if one of `stages` cannot be run as the recipe has it. `reads`: look at data and model as well, which
    may have to be fetched."""
    plan = Plan(context, tuple(stage for stage in stages if stage != "report"), reads)
    for look in (*_OF_THE_RECIPE, *(_OF_THE_MODEL if reads else ())):
        look(plan)


def _algorithms(plan: Plan) -> None:
    """The parts of an algorithm fit together."""
    recipe = plan.context.recipe
    if "ppo" in plan.stages:
        rules_of(recipe.ppo)
    if "online" in plan.stages:
        rules_of(recipe.online)


def _labels(plan: Plan) -> None:
    """Rewards that can be told apart."""
    labels = [one.called for one in plan.context.recipe.rewards]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if plan.rewarded and twice is not None:
        raise UserError(f'two rewards are called "{twice}".', field="rewards", hint="Give each a label of its own.")


def _reward_parts(plan: Plan) -> None:
    """Functions that import, patterns that compile, reward models and sandboxes that are there; prompts that they can judge."""
    from burnish.pipeline.rewards import build_reward

    if not plan.rewarded:
        return
    for number, one in enumerate(plan.context.recipe.rewards):
        reward = None
        if isinstance(one, spec.ModelReward):
            _reward_model(plan, one, f"rewards.{number}")
        elif isinstance(one, spec.PythonReward):
            with _numbered(number):
                check_function(one.function)
        else:
            with _numbered(number):
                reward = build_reward(plan.context, one, None)
        try:
            _rewarded_prompts(plan, one, reward)
        finally:
            getattr(reward, "close", lambda: None)()


@contextmanager
def _numbered(number: int) -> Iterator[None]:
    """Say which of the recipe's rewards a setting is one of."""
    try:
        yield
    except UserError as error:
        key = (error.field or "").removeprefix("rewards.")
        where = f"rewards.{number}.{key}" if key else f"rewards.{number}"
        raise UserError(error.problem, file=error.file, row=error.row, field=where, hint=error.hint) from error


def _rewarded_prompts(plan: Plan, one: spec.RewardSpec, reward: Any) -> None:
    """Prompts that a reward applies to, every right answer of them readable: else every step would pass without an update, or the
    run would stop in its middle. Beside training, the prompts kept for evaluation may all lack what it needs; that is said."""
    from burnish.pipeline.rewards import part_of

    if not plan.reads:
        return
    context, part, trains = plan.context, part_of(one), "online" in plan.stages
    told = {"online": check_prompts(part, reward, context.prompts.train, context.origins)} if trains else {}
    if "evaluate" in plan.stages:
        heldout = context.prompts.heldout
        told["evaluate"] = check_prompts(part, reward, heldout, context.origins, needed=not trains)
    for stage, passed_over in told.items():
        if passed_over is not None:
            context.say_once(f"{stage}: {passed_over}")


def _reward_model(plan: Plan, one: spec.ModelReward, field: str) -> None:
    if one.model is None:
        if plan.has_reward_model:
            return
        hint = "Add the stage reward before it, or name a folder: `model: runs/NAME/reward/model`."
        raise UserError(
            f'the reward "{one.called}" needs a reward model, and this run has none.', field=field, hint=hint
        )
    folder = Path(one.model).expanduser()
    if not (folder / "head.safetensors").is_file():
        hint = "It is the folder reward/model of a run."
        problem = f'the reward "{one.called}": this folder holds no reward model.'
        raise UserError(problem, file=folder, field=f"{field}.model", hint=hint)


def _environment(plan: Plan) -> None:
    """An environment that can be imported."""
    from burnish.pipeline.turns import environment_class

    environment = plan.context.recipe.online.environment
    if environment is not None and "online" in plan.stages:
        environment_class(environment.name)


def _judges(plan: Plan) -> None:
    """What iterated preference optimisation lets compare."""
    config = plan.context.recipe.preference
    if "preference" not in plan.stages or config.rounds == 1 or config.online.judge != "reward_model":
        return
    if not plan.has_reward_model:
        raise UserError(
            "the stage preference has its answers compared by the reward model, and this run has none.",
            field="preference.online.judge", hint="Add the stage reward, or set preference.online.judge=panel.",
        )  # fmt: skip


def _scored(plan: Plan) -> None:
    """The reward model that PPO learns from."""
    if "ppo" in plan.stages and not plan.has_reward_model:
        hint = "Add the stage reward before it; the stage online learns from other rewards."
        raise UserError("the stage ppo needs a reward model, and this run has none.", field="stages", hint=hint)


def _answers_that_differ(plan: Plan) -> None:
    """Greedy answers to one prompt are all the same: nothing can be compared."""
    recipe = plan.context.recipe
    learns = {"reward", "preference"} & set(plan.stages)
    greedy = recipe.collect.sampling.greedy
    if "collect" in plan.stages and learns and not recipe.data.labelled and greedy is not None:
        key = greedy.split()[0]
        default = getattr(Sampling(), key)
        raise UserError(
            f"{greedy}, so the answers to a prompt are all the same, and the stage {sorted(learns)[-1]} learns from their "
            "differences.", field=f"collect.sampling.{key}", hint=f"Change it; {default:g} is the default.",
        )  # fmt: skip


def _windows(plan: Plan) -> None:
    """Answers that are shorter than the longest sequence, whatever the model."""
    for key, sampling in plan.sampling():
        _check_room(key, sampling, plan.context.recipe.model.max_length)


def _check_room(key: str, sampling: Sampling, longest: int) -> None:
    if longest <= sampling.max_new_tokens:
        field = f"{key}.max_new_tokens"
        problem = f"{field} is {sampling.max_new_tokens} of {longest} tokens in all (model.max_length), which leaves no room for a prompt."
        raise UserError(problem, field=field, hint=f"Lower {field}, or raise model.max_length.")


def _measured(plan: Plan) -> None:
    """A model to evaluate: one that the run trains or has trained, or the one that it starts from."""
    recipe = plan.context.recipe
    ends_in_a_model = {"sft", "preference", "ppo", "online"} & set(recipe.stages)
    if "evaluate" in plan.stages and not (recipe.evaluate.base or ends_in_a_model or plan.context.trained):
        hint = "Set evaluate.base=true, or add a stage that trains a model."
        raise UserError("there is no model to evaluate: no stage trains one.", field="evaluate.base", hint=hint)


def _trackers(plan: Plan) -> None:
    """Trackers that are installed."""
    for name in plan.context.recipe.trackers:
        if find_spec(name) is None:
            problem, hint = f"the tracker {name} is not installed.", f"pip install 'burnish[{name}]'"
            raise UserError(problem, field="trackers", hint=hint)


def _engines(plan: Plan) -> None:
    """Eight-bit products are asked for by name only where there is an engine that has them, and a processor."""
    from burnish.generation.engine import no_int8
    from burnish.models import int8

    for _, sampling in plan.sampling():
        if sampling.products != "int8":
            continue
        if plan.shape.fallback is not None:
            raise no_int8(plan.shape.fallback)
        int8.check(plan.context.device)


def _rooms(plan: Plan) -> None:
    """Room for a prompt beside the longest answer, in every stage that samples."""
    from burnish.data.render import TooLong, render_prompt

    _, tokenizer = plan.model
    longest = min(plan.context.recipe.model.max_length, plan.shape.longest_sampled)
    prompts = plan.context.prompts
    for key, sampling in plan.sampling():
        room = longest - sampling.max_new_tokens
        told = f"{key}.max_new_tokens is {sampling.max_new_tokens} of {longest} tokens in all (model.max_length)"
        hint = f"Lower {key}.max_new_tokens, or raise model.max_length."
        _check_room(key, sampling, longest)
        asked = prompts.heldout if key.startswith("evaluate") else prompts.train
        shortest = min(asked, key=lambda prompt: sum(len(m["content"]) for m in prompt.messages), default=None)
        if shortest is None:
            continue
        try:
            render_prompt(tokenizer, shortest, max_tokens=room)  # the template renders what sampling asks of it
        except TooLong:
            if plan.context.recipe.data.too_long == "drop":
                raise UserError(
                    f"{told}, which leaves room for no prompt: even the shortest is longer than {room} tokens.",
                    field=f"{key}.max_new_tokens", hint=hint,
                ) from None  # fmt: skip
            origin = plan.context.origins.get(shortest.id)
            raise UserError(
                f"{told}, which leaves {room} for a prompt; the shortest is longer.",
                file=None if origin is None else origin.file, row=None if origin is None else origin.row, hint=hint,
            ) from None  # fmt: skip


def _disk(plan: Plan) -> None:
    """Space for the models and checkpoints that will be written."""
    recipe, folder = plan.context.recipe, plan.context.folder
    trained = [s for s in ("sft", "reward", "preference", "ppo", "online") if s in plan.stages]
    if not trained:
        return
    parameters = plan.shape.parameters
    needed = 0.0
    for stage in trained:
        section = getattr(recipe, stage)
        whole = getattr(section, "lora", None) is None or getattr(section, "roles", "adapters") == "copies"
        checkpoints = (section.checkpoint.keep + 1) * _ADAM if whole else 0
        needed += parameters * _BYTES * (1 + checkpoints)
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise UserError(
            f"the stages {', '.join(trained)} will write about {needed / 1e9:.1f} GB; {free / 1e9:.1f} GB are free here.",
            file=folder, hint="Free some, choose another --out, or keep fewer checkpoints (checkpoint.keep).",
        )  # fmt: skip


_OF_THE_RECIPE = (
    _algorithms,
    _labels,
    _judges,
    _scored,
    _answers_that_differ,
    _measured,
    _windows,
    _trackers,
    _environment,
    _reward_parts,
)
_OF_THE_MODEL = (_engines, _rooms, _disk)
