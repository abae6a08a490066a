"""Reinforcement learning from rollouts: PPO, GRPO and their relatives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import model_validator

from burnish.config.kinds import HELD_TO, START, Slot, Stage
from burnish.config.online import AlgorithmName, OnlineTraining
from burnish.config.rewards import RewardSpec
from burnish.config.sections import Reference, Sources
from burnish.config.watch import RewardWatch, TasteWatch
from burnish.errors import UserError
from burnish.evaluation.stages import Found, Told
from burnish.evaluation.words import number, part, several

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan
    from burnish.stages.context import Step


class Online(OnlineTraining):
    """Reinforcement learning from rollouts, by a row of the table of algorithms."""

    kind: Literal["online"] = "online"
    """The kind of stage; an algorithm's own name (grpo, rloo, ...) says kind and algorithm at
    once."""
    start: Reference | None = None
    """The policy it starts from. None: the newest policy before it, or base."""
    reference: Reference | None = None
    """The policy it is held to, where the algorithm has a penalty. None: what it starts from."""
    reward: Reference | None = None
    """The reward model whose score it earns, where `rewards` names nothing. None: the newest before
    it."""
    rewards: tuple[RewardSpec, ...] = ()
    """What it earns: a list, each entry of the kind that its name says (docs/rewards.md)."""
    prompts: Sources | None = None
    """Prompts to answer, as in `data.prompts`. None: the newest that a stage before it names, or
    `data.prompts`."""
    demonstrations: Sources | None = None
    """What `ptx_coef` imitates: a stage that makes demonstrations, or a source. None: the newest
    before it."""

    @model_validator(mode="after")
    def _one_reward(self) -> Online:
        if self.reward is not None and self.rewards:
            raise ValueError(
                "reward and rewards are both given: name the reward model in rewards, {name: model,"
                " model: NAME}"
            )
        return self


def _earns_otherwise(settings: Online) -> bool:
    """Whether it is rewarded by something else than one reward model."""
    return bool(settings.rewards) or settings.environment is not None


def _plan(how: Forecast) -> StagePlan:
    """Rollouts in groups that share their prompt, passes over them as far as the algorithm needs
    them, and updates."""
    from burnish.trainers.online_settings import algorithm_of

    config, data = how.settings, how.data
    row = algorithm_of(config.algorithm)
    adapters = config.share_backbone
    size = config.responses_per_prompt
    rollouts = config.prompts_per_step * size
    answer = min(
        data.answer_tokens or config.sampling.max_new_tokens, config.sampling.max_new_tokens
    )
    length = data.prompt_tokens / size + answer
    examples = max(rollouts / config.num_mini_batches, 1.0)
    rank = config.lora.r if adapters else None
    learning = ("policy", "critic") if row.needs_critic else ("policy",)
    parts = how.training(
        config.optimizer, rank, examples, length, scored=answer / length, roles=learning, buffers=2,
    )  # fmt: skip
    if row.needs_reference and not adapters:
        parts.append(how.frozen("reference"))
    scored = how.node.input("reward") is not None
    if scored:
        judge = how.reward_rank(config.lora) if adapters else None
        parts.append(
            how.frozen("reward model", exact=adapters)
            if judge is None
            else how.adapter("reward adapter", judge)
        )
        parts += how.other_members()
    parts += how.watching(config.watch, rank)
    parts = how.in_turns(parts, how.engine(rollouts, config.sampling))
    several = config.epochs * config.num_mini_batches > 1
    # the loss has the distance from the reference soon enough
    late = row.kl == "loss" and config.kl_target is None
    early = row.needs_reference and not config.sampling.follows_the_model and not late
    passes = row.needs_reference + (several or early)
    step = how.generate(rollouts, config.sampling, prompts=config.prompts_per_step)
    step += passes * how.forward(rollouts, length, answer)
    step += config.epochs * how.train(rollouts, length, answer, rank, config.optimizer)
    step += scored * how.reward_members() * how.forward(rollouts, length, 0.0)
    if row.needs_critic:
        step += how.forward(rollouts, length, 0.0)
        step += (config.critic_epochs or config.epochs) * how.train(
            rollouts, length, 0.0, rank, config.optimizer
        )
    seconds = config.steps * step + how.watched(config.watch, config.steps, config.sampling)
    a_step = how.round(
        config,
        rank,
        learners=len(learning),
        frozen=0 if adapters else row.needs_reference + scored,
        passes=max(passes, 1) + scored * how.reward_members() + row.needs_critic,
    )
    return how.planned(parts, seconds, step=a_step)


def _check(step: Step, _left: Sequence[Step]) -> None:
    """The parts of the algorithm fit together, the environment can be imported, and there is a
    reward that counts."""
    from burnish.stages.algorithms import check_algorithm
    from burnish.stages.turns import environment_class
    from burnish.stages.watch_rules import check_watch

    check_algorithm(step)
    check_watch(step)
    config = step.settings
    if config.environment is not None:
        environment_class(config.environment.name)
    if step.node.input("reward") is not None:
        return
    weights = [one.weight for one in config.rewards]
    weights += [config.environment.weight] if config.environment is not None else []
    if not weights:
        raise UserError(
            f"the stage {step.name} has no reward: it names none, and no stage before it makes a"
            " reward model.",
            field=f"{step.name}.rewards",
            hint=(
                f"Put a stage of the kind reward before it, set {step.name}.reward to the folder of"
                f" a reward model, or name rewards, for instance {step.name}.rewards=[{{name:"
                " maths}]."
            ),
        )
    if not any(weights):
        raise UserError(
            f"every reward of the stage {step.name} has the weight 0, so nothing is learnt.",
            field=f"{step.name}.rewards", hint="Give one a weight.",
        )  # fmt: skip


def _watch_judge(settings: Online) -> Iterator[tuple[Slot, str]]:
    """The reward model that watches."""
    if settings.watch is not None and isinstance(settings.watch.judge, RewardWatch):
        yield Slot("watch.judge.model", ("RewardModel",)), settings.watch.judge.model


def _constitutions(settings: Online) -> list[str]:
    named = getattr(getattr(settings.watch, "judge", None), "constitution", None)
    return [] if named is None else [named]


def _by_taste(settings: Online) -> bool:
    """Whether the taste watches."""
    return settings.watch is not None and isinstance(settings.watch.judge, TasteWatch)


def _report(stage: Found) -> Told:
    from burnish.evaluation.contests import model_name
    from burnish.evaluation.watch_report import watch_figures, watch_sentence

    modes = {
        "adapters": ", with all its roles as adapters on one model",
        "copies": ", with a full model for each role",
    }
    how = modes.get(str(stage.result.get("mode")), "")
    name = model_name(str(part(stage.result, "algorithm").get("name", stage.kind))).removesuffix(
        " policy"
    )
    rounds = several(number(stage.result.get("steps")), "round")
    sentence = (
        f"{name} made {rounds} of answers, scores and updates{how}.{_served(stage)}"
        f" {watch_sentence(stage.result)}"
    )
    return Told(sentence.rstrip(), figures=tuple(watch_figures(stage.result, stage.prefix)))


def _served(stage: Found) -> str:
    """What is said of engines in processes of their own, where there were some."""
    engines = part(stage.result, "engines")
    if not engines:
        return ""
    told = f" {several(number(engines.get('engines')), 'engine')} of their own wrote the answers"
    restarted = number(engines.get("restarted"))
    if not restarted:
        return f"{told}."
    resent = several(number(engines.get("resent")), "answer")
    return (
        f"{told}; {several(restarted, 'engine')} died and had to be replaced, and {resent} asked"
        " for again."
    )


STAGE = Stage(
    section=Online,
    run="burnish.stages.online:run",
    plan=_plan,
    slots=(
        START,
        HELD_TO,
        Slot("reward", ("RewardModel",), "nothing", empty=_earns_otherwise),
        Slot(
            "demonstrations",
            ("Demonstrations",),
            "data",
            empty=lambda settings: settings.ptx_coef == 0,
        ),
    ),
    makes="Policy",
    sources=("prompts",),
    family="algorithm",
    rows=get_args(AlgorithmName),
    by_row=Online.defaults_of,
    nested=_watch_judge,
    texts=_constitutions,
    of_taste=_by_taste,
    wants=lambda settings: ("demonstrations",) if settings.ptx_coef else (),
    needs=("prompts",),
    check=_check,
    report=_report,
)
