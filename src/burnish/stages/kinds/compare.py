"""Have answers compared: by a simulated panel, people, a model or a reward model.

Example: `burnish compare --config recipes/quickstart.yaml --out runs/quickstart`
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator, model_validator

from burnish.config.kinds import Slot, Stage
from burnish.config.making import Judges, Panel
from burnish.config.sections import Reference, Section
from burnish.errors import UserError

if TYPE_CHECKING:
    from burnish.planning.estimate import Forecast, StagePlan
    from burnish.stages.context import Step


class Compare(Section):
    """Comparisons of the answers to each prompt, as soft labels."""

    kind: Literal["compare"] = "compare"
    """The kind of stage."""
    answers: Reference | None = None
    """The stage whose answers are compared. None: the newest before it."""
    by: tuple[Judges, ...] = (Judges(panel=Panel()),)
    """Who compares them: `panel`, {panel: {size: 5}}, {people: {store: ..., project: ...}}, {judge:
    {...}}, {reward: STAGE}; or a list of these, each with its `share` of the prompts."""
    reliability_weighted: bool = True
    """Weight each vote by its annotator's estimated reliability; off: every vote counts the
    same."""

    @field_validator("by", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        several = value if isinstance(value, list | tuple) else [value]
        return tuple({one: {}} if one == "panel" else one for one in several)

    @model_validator(mode="after")
    def _shares_fit(self) -> Compare:
        if not self.by:
            raise ValueError("by is empty, so nobody compares")
        stated = sum(one.share or 0.0 for one in self.by)
        left = any(one.share is None for one in self.by)
        if stated > 1 + 1e-9 or (not left and stated < 1 - 1e-9):
            raise ValueError(
                f"the shares of those who compare add up to {stated:g}, which should be 1"
            )
        return self

    def shares(self) -> tuple[float, ...]:
        """Of each who compares; what is not stated is divided equally."""
        open_ = [one for one in self.by if one.share is None]
        rest = 1.0 - sum(one.share or 0.0 for one in self.by)
        return tuple(rest / len(open_) if one.share is None else one.share for one in self.by)


def _judges(settings: Compare) -> Iterator[tuple[Slot, str]]:
    """The reward models and policies that compare."""
    for position, one in enumerate(settings.by):
        if one.reward is not None:
            yield Slot(f"by.{position}.reward", ("RewardModel",)), one.reward
        elif one.judge is not None and one.judge.endpoint is None:
            yield Slot(f"by.{position}.judge.model", ("Policy",)), one.judge.model


def _plan(how: Forecast) -> StagePlan:
    """A panel costs next to nothing; a reward model reads every answer."""
    prompts, answers = how.answers()
    parts, seconds = [how.program()], 0.0
    if any(one.reward is not None or one.judge is not None for one in how.settings.by):
        parts.append(how.frozen("reward model"))
        seconds = how.forward(
            prompts, how.data.prompt_tokens + answers * how.data.answer_tokens, 0.0
        )
    rankings = sum(
        share * prompts * one.panel.annotators_per_item
        for one, share in zip(how.settings.by, how.settings.shares(), strict=True)
        if one.panel is not None
    )
    asks = any(one.panel is not None for one in how.settings.by)
    return how.planned(parts, seconds, how.asked(round(rankings), answers) if asks else None)


def _constitutions(settings: Compare) -> list[str]:
    named = [one.judge.constitution for one in settings.by if one.judge is not None]
    return [name for name in named if name is not None]


def _by_taste(settings: Compare) -> bool:
    """Whether a panel has the recipe's taste."""
    return any(one.panel is not None and one.panel.taste is None for one in settings.by)


def _check(step: Step, _left: Sequence[Step]) -> None:
    """There are two answers to a prompt at least, and people's store can be opened."""
    _check_people(step)
    made = step.parent("answers")
    if (
        made is not None
        and getattr(made.settings, "responses", 2) * len(made.inputs.get("models", ("one",))) < 2
    ):
        raise UserError(
            f"the stage {made.name} makes one answer to a prompt, so {step.name} has nothing to"
            " compare.",
            field=f"{made.name}.responses",
            hint="4 is a usual number.",
        )


def _check_people(step: Step) -> None:
    asked = [one.people for one in step.settings.by if one.people is not None]
    if asked:
        from burnish.stages.people import check_people

        for people in asked:
            check_people(people, field=f"{step.name}.by")


STAGE = Stage(
    section=Compare,
    run="burnish.stages.compare:run",
    plan=_plan,
    slots=(Slot("answers", ("Answers",)),),
    makes="Comparisons",
    nested=_judges,
    texts=_constitutions,
    of_taste=_by_taste,
    check=_check,
)
