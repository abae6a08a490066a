"""What the online loop asks of whoever watches it, and does about the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from burnish.models.roles import View
from burnish.trainers.gather import Sampler
from burnish.trainers.learner import Learner
from burnish.trainers.loop import Stateful


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done at a check.

    Args:
        metrics: what is logged with the step.
        best: this policy is the best so far: its weights are kept.
        stop: no further step is made.
        beta_factor: β is multiplied by it.
        roll_back: the policy gets the weights that were kept.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False
    stop: bool = False
    beta_factor: float = 1.0
    roll_back: bool = False


class Watch(Protocol):
    """Looks at the policy before the first step and after every step; its state is in the
    checkpoint."""

    ends_with_best: bool
    """Whether the stage's policy is the best one, not the last."""
    keeps_weights: bool
    """Whether the best policy's weights may be given back, at the end or before."""

    def due(self, step: int) -> bool:
        """Whether it wants to look at the policy after so many steps."""
        ...

    def __call__(self, step: int) -> Decision:
        """Look at it; the sampler has its weights."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that cannot be computed again."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        ...


class Kept:
    """The weights of a role as they were after some step."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.weights: dict[str, Tensor] = {}

    def take(self, view: View, step: int) -> None:
        """Keep a copy of its present weights."""
        self.step = step
        self.weights = {name: tensor.clone() for name, tensor in view.state_dict().items()}

    def give(self, view: View) -> None:
        """Put them back, where any are kept."""
        if self.step is not None:
            view.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        """Step and weights."""
        return {"step": self.step, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.step, self.weights = state["step"], dict(state["weights"])


class Watching:
    """A loop's side of a watch: it hands the sampler the weights that are looked at, and keeps and
    gives back those that are the best. Without a watch it does nothing."""

    def __init__(self, watch: Watch | None, policy: Learner, sampler: Sampler) -> None:
        self._watch, self._policy, self._sampler, self._kept = watch, policy, sampler, Kept()

    @property
    def state(self) -> dict[str, Stateful]:
        """What belongs into a checkpoint."""
        if self._watch is None:
            return {}
        kept = {"kept": self._kept} if self._watch.keeps_weights else {}
        return {"watch": self._watch, **kept}

    def before_training(self) -> Mapping[str, float]:
        """Look at the policy that training begins with, which is the best so far."""
        if self._watch is None:
            return {}
        if self._watch.keeps_weights:
            self._kept.take(self._policy.view, 0)
        return self._watch(0).metrics

    def after(self, step: int) -> Decision:
        """Look at the policy after `step` steps, if that is wanted; what concerns its weights is
        done."""
        if self._watch is None or not self._watch.due(step):
            return Decision()
        self._sampler.load(self._policy.view, version=step)
        decision = self._watch(step)
        if decision.best and self._watch.keeps_weights:
            self._kept.take(self._policy.view, step)
        if decision.roll_back:
            self._kept.give(self._policy.view)
            self._policy.forget_moments()  # they point away from these weights
            self._sampler.sleep()  # what it holds is the policy that was left
        return decision

    def end(self) -> None:
        """Give the policy its best weights, where the stage is to end with them."""
        if self._watch is not None and self._watch.ends_with_best:
            self._kept.give(self._policy.view)
