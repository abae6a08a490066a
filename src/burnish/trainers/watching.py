"""What the online loop asks of whoever watches it, and does about the answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
        best: the step whose policy is the best so far: its weights are kept. It is this step, or
            one that was `waiting`.
        stop: no further step is made.
        beta_factor: β is multiplied by it.
        roll_back: the policy gets the weights that were kept.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    best: int | None = None
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

    @property
    def waiting(self) -> Sequence[int]:
        """The steps whose policies are not judged yet and may still be the best."""
        ...

    def due(self, step: int) -> bool:
        """Whether it wants to look at the policy after so many steps."""
        ...

    def __call__(self, step: int) -> Decision:
        """Look at it; the sampler has its weights."""
        ...

    def finish(self) -> Decision:
        """What is known after the last step of policies that were waiting."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that cannot be computed again."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        ...


class Kept:
    """The weights of a role as they were after the best step, and after those not judged yet."""

    def __init__(self) -> None:
        self.best: int | None = None
        self.weights: dict[int, dict[str, Tensor]] = {}

    def take(self, view: View, step: int) -> None:
        """Keep a copy of its present weights."""
        self.weights[step] = {name: tensor.clone() for name, tensor in view.state_dict().items()}

    def settle(self, best: int | None, waiting: Collection[int]) -> None:
        """Let go of all weights but the best ones, those of `best` if it is given, and of the steps
        that wait."""
        self.best = self.best if best is None else best
        self.weights = {
            step: kept
            for step, kept in self.weights.items()
            if step == self.best or step in waiting
        }

    def give(self, view: View) -> None:
        """Put the best ones back, where any are kept."""
        if self.best is not None:
            view.load_state_dict(self.weights[self.best])

    def state_dict(self) -> dict[str, Any]:
        """The best step, and weights by step."""
        return {
            "best": self.best,
            "weights": {str(step): kept for step, kept in self.weights.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put them back."""
        self.best = state["best"]
        self.weights = {int(step): dict(kept) for step, kept in state["weights"].items()}


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
            self._kept.settle(0, ())
        return self._watch(0).metrics

    def after(self, step: int) -> Decision:
        """Look at the policy after `step` steps, if that is wanted; what concerns its weights is
        done."""
        if self._watch is None or not self._watch.due(step):
            return Decision()
        self._sampler.load(self._policy.view, version=step)
        decision = self._watch(step)
        waiting = self._watch.waiting
        if self._watch.keeps_weights:
            if step == decision.best or step in waiting:
                self._kept.take(self._policy.view, step)
            self._kept.settle(decision.best, waiting)
        if decision.roll_back:
            self._kept.give(self._policy.view)
            self._policy.forget_moments()  # they point away from these weights
            self._sampler.sleep()  # what it holds is the policy that was left
        return decision

    def end(self) -> None:
        """Give the policy its best weights, where the stage is to end with them."""
        if self._watch is None:
            return
        decision = self._watch.finish()
        if self._watch.ends_with_best:
            self._kept.settle(decision.best, ())
            self._kept.give(self._policy.view)
