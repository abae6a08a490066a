"""Compare models on held-out prompts.

Example: `burnish evaluate --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from burnish.config.bounds import Bounds, Count, CountOrNone, Finite, Responses
from burnish.config.kinds import BASE, KINDS, Input, Inputs, Slot, Stage
from burnish.config.making import ModelJudge, PeopleJudge
from burnish.config.online import Conversation
from burnish.config.rewards import ModelReward, RewardSpec
from burnish.config.sections import EvaluationSampling, Reference, Section, Sources
from burnish.errors import UserError
from burnish.evaluation.suites.table import suites_of

if TYPE_CHECKING:
    from burnish.config.graph import Node
    from burnish.planning.estimate import Forecast, StagePlan
    from burnish.stages.context import Step


_ITEMS, _ITEM_TOKENS = 60, 100.0
Margins = Annotated[float, Bounds(ge=0.0, le=10.0)]


class Margin(Section):
    """What a model may lose on a suite before it counts: a loss is ruled out where the upper end of
    its 95 % interval lies below the margin."""

    accuracy: Margins = 0.02
    """Of shares: probability of the right choice, right answers, refusals."""
    bits_per_byte: Margins = 0.01
    """Of prose and of last words."""


class Evaluate(Section):
    """Policies on held-out prompts: their answers, kept, and what people, a judge, verifiers or the
    simulated panel's taste say of them. Which of these gives the headline, and which may not,
    stands in docs/recipes.md."""

    kind: Literal["evaluate"] = "evaluate"
    """The kind of stage."""
    models: Annotated[tuple[Reference, ...], Field(min_length=1)] | None = None
    """Which policies: stages, folders, hub ids, URL#MODEL behind an OpenAI-compatible endpoint;
    NAME=REFERENCE calls one something else. None: base (see `base`) and every policy before it."""
    reward: Reference | None = None
    """The reward model that scores the answers too. None: the newest before it, if there is one."""
    reference: Reference | None = None
    """The policy from which the distance (KL) of the others is measured. None: the first SFT model
    before it, or base."""
    rewards: tuple[RewardSpec, ...] | None = None
    """Check answers by these rewards. None: by those of the newest stage before it that was trained
    on rewards."""
    judge: ModelJudge | None = None
    """A model that compares every model's answers with the reference's; one that training did not
    use."""
    people: PeopleJudge | None = None
    """People who compare the last model's answers with the reference's, without being told whose
    they are. Until they have, the command ends with exit code 75 and goes on when it is typed
    again."""
    taste: bool | None = None
    """Score by the recipe's `taste`. None: where simulated annotators, and nobody else, made the
    comparisons and no rewards check the answers. It is invented: it gives a headline in such a run
    only."""
    environment: Conversation | None = None
    """What answers the policies between their turns. None: that of the newest stage before it,
    where `rewards` is not given."""
    pass_at: Finite = 1.0
    """Without a verifier among the rewards, an answer is right if its reward is at least this."""
    prompts: Sources | None = None
    """Prompts whose held-out part is answered. None: the newest that a stage before it names, or
    `data.prompts`."""
    count: Count | None = None
    """How many held-out prompts; None: all."""
    responses_per_prompt: Responses = 1
    """Completions of each prompt and model; intervals are clustered by prompt."""
    suites: tuple[str, ...] = ()
    """What the models are measured on besides: tax, knowledge, safety, constraints, maths, ..., or
    NAME=SOURCE (docs/suites.md; `burnish suites list`). Losses are told from the first of the
    models, and from the one before."""
    margin: Margin = Margin()
    """What may be lost on a suite before it counts."""
    items: Count | None = None
    """At most how many items of each task of the suites. None: as the suite has them."""
    sampling: EvaluationSampling = EvaluationSampling()
    """How the models are sampled. The distance (KL) is shown only at temperature 1 with nothing
    truncated or rounded."""
    base: bool = True
    """Evaluate the untrained model as well, where `models` is not given."""
    samples: CountOrNone = 8
    """How many prompts the report shows side by side."""


def _judged_as_trained(settings: Evaluate, before: Sequence[Node]) -> Evaluate:
    """One that names no judge has that of the newest stage before it that was trained on
    rewards."""
    trained = [node for node in before if _is_rewarded(node)]
    if settings.rewards is not None or settings.environment is not None or not trained:
        return settings
    last: Any = trained[-1].settings
    judges = tuple(
        (
            one.model_copy(update={"model": trained[-1].inputs[f"rewards.{position}"][0].shown})
            if isinstance(one, ModelReward)
            else one
        )
        for position, one in enumerate(last.rewards)
    )
    return settings.model_copy(
        update={"rewards": judges, "environment": last.environment, "pass_at": last.pass_at}
    )


def _is_rewarded(node: Node) -> bool:
    """Whether a stage trains a policy on rewards, its environment's among them."""
    earns = (getattr(node.settings, key, None) for key in ("rewards", "environment"))
    return node.makes == "Policy" and any(earns)


def _all_before(settings: Evaluate, before: Sequence[Node], _filled: Inputs) -> tuple[Input, ...]:
    """Base, if it is wanted, and every policy."""
    base = (Input(outside=BASE),) if settings.base else ()
    return (*base, *(Input(stage=node.name) for node in before if node.makes == "Policy"))


def _measured_from(
    _settings: Evaluate, before: Sequence[Node], _filled: Inputs
) -> tuple[Input, ...]:
    """The first model that was fine-tuned on demonstrations, or base."""
    first = next((node.name for node in before if KINDS[node.kind].first), None)
    return (Input(outside=BASE) if first is None else Input(stage=first),)


def _plan(how: Forecast) -> StagePlan:
    """Every model answers the held-out prompts; the reward model and the reference read the
    answers."""
    config, data = how.settings, how.data
    prompts = min(config.count or data.heldout_prompts, data.heldout_prompts)
    count, length = prompts * config.responses_per_prompt, data.prompt_tokens + data.answer_tokens
    models = len(how.node.inputs["models"])
    judge = how.reward_rank(None)
    parts = [how.program(), how.frozen("reference", exact=True), how.frozen("model", exact=True)]
    if how.node.input("reward") is not None:
        parts.append(
            how.frozen("reward model", exact=True)
            if judge is None
            else how.adapter("reward adapter", judge)
        )
    parts.append(how.engine(count, config.sampling))
    each = how.generate(count, config.sampling)
    each += 2 * how.forward(count, length, data.answer_tokens) + how.forward(count, length, 0.0)
    return how.planned(parts, models * (each + _measuring(how)))


def _measuring(how: Forecast) -> float:
    """Seconds that a model takes on the suites, whose items are of about a hundred tokens."""
    config, seconds = how.settings, 0.0
    for task in (task for suite in suites_of(config.suites) for task in suite.tasks):
        count = config.items or task.count or _ITEMS
        if task.by_likelihood:
            seconds += how.forward(count, _ITEM_TOKENS, _ITEM_TOKENS)
        else:
            seconds += how.generate(count * task.samples, config.sampling)
    return seconds


def _judges(settings: Evaluate) -> Iterator[tuple[Slot, str]]:
    """The policy that compares, where it stands behind no endpoint."""
    if settings.judge is not None and settings.judge.endpoint is None:
        yield Slot("judge.model", ("Policy",)), settings.judge.model


def _constitutions(settings: Evaluate) -> list[str]:
    named = None if settings.judge is None else settings.judge.constitution
    return [] if named is None else [named]


def _by_taste(settings: Evaluate) -> bool:
    """Whether it is asked for, or may be, since nothing checks the answers."""
    checked = bool(settings.rewards) or settings.environment is not None
    return not checked if settings.taste is None else settings.taste


def _check(step: Step, _left: Sequence[Step]) -> None:
    """There is a model to evaluate, and its suites are there and can be measured on all models."""
    _check_suites(step)
    if not step.node.inputs["models"]:
        hint = f"Set {step.name}.base=true, or add a stage that trains a model."
        raise UserError(
            "there is no model to evaluate: no stage trains one.",
            field=f"{step.name}.base",
            hint=hint,
        )
    if step.settings.people is not None:
        from burnish.stages.people import check_people

        check_people(step.settings.people, field=f"{step.name}.people")


def _check_suites(step: Step) -> None:
    try:
        suites = suites_of(step.settings.suites)
    except UserError as error:
        raise UserError(
            error.problem, field=f"{step.name}.suites", hint=error.hint
        ) from error  # fmt: skip
    scored = next((one.name for one in suites for task in one.tasks if task.by_likelihood), None)
    models = [one.outside or "" for one in step.node.inputs["models"]]
    remote = next((model for model in models if "://" in model), None)
    if scored is not None and remote is not None:
        raise UserError(
            f"the suite {scored} needs log-probabilities, which the endpoint {remote} does not"
            " give.",
            field=f"{step.name}.suites",
            hint="Measure suites of answers there: knowledge, safety, constraints, maths.",
        )


def _wants(settings: Evaluate) -> tuple[str, ...]:
    """Prompts, unless there are suites to measure without any."""
    return () if settings.suites else ("prompts",)


def _files(settings: Evaluate) -> list[str]:
    """Those that suites take their items from."""
    sources = [text.partition("=")[2] for text in settings.suites]
    return [one for one in sources if one and Path(one).expanduser().is_file()]


STAGE = Stage(
    section=Evaluate,
    run="burnish.stages.evaluate:run",
    plan=_plan,
    slots=(
        Slot("models", ("Policy",), "base", many=True, named=True, default=_all_before),
        Slot("reference", ("Policy",), "base", named=True, default=_measured_from),
        Slot("reward", ("RewardModel",), "nothing"),
    ),
    makes="Evaluation",
    sources=("prompts",),
    inherit=_judged_as_trained,
    own_sources=True,
    nested=_judges,
    texts=_constitutions,
    files=_files,
    wants=_wants,
    split="heldout",
    of_taste=_by_taste,
    check=_check,
)
