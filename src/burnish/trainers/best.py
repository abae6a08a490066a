"""Which evaluation of a training run was the best: what is kept of it, and when to stop waiting for
a better one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish.config.sections import Passes
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.trainers.loop import Stateful
from burnish.trainers.watching import Kept

_METRICS = {"loss": ("eval_loss",), "accuracy": ("eval_accuracy", "eval_rewards/accuracies")}


def require_heldout(config: Passes, heldout: Sequence[Any]) -> None:
    """Raise UserError where evaluations decide and there is nothing to evaluate on."""
    if heldout or not (config.keep == "best" or config.patience):
        return
    raise UserError(
        "evaluations cannot decide: nothing is held out.",
        field="keep" if config.keep == "best" else "patience",
        hint="Hold some of the data out (data.heldout), or keep: last and patience: 0.",
    )


class Best:
    """The best evaluation so far, its weights where they are wanted, and how many came after it.

    The lower loss or the higher accuracy is better; an evaluation that is not finite never is.
    """

    def __init__(self, view: View, config: Passes) -> None:
        self._view, self._config = view, config
        self._value, self._since = -math.inf, 0
        self._kept = Kept()

    @property
    def state(self) -> dict[str, Stateful]:
        """What belongs into a checkpoint; nothing where nothing depends on evaluations."""
        decides = self._config.keep == "best" or self._config.patience
        return {"best": self} if decides else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that cannot be computed again."""
        value = None if self._value == -math.inf else self._value
        return {"value": value, "since": self._since, "kept": self._kept.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self._value = -math.inf if state["value"] is None else state["value"]
        self._since = state["since"]
        self._kept.load_state_dict(state["kept"])

    def evaluated(self, values: Mapping[str, float], step: int) -> bool:
        """Take an evaluation after `step` steps in; Returns whether patience is at an end.

        Raises UserError where it does not have the metric that is to decide.
        """
        if not self.state:
            return False
        value = self._of(values)
        if value > self._value:
            self._value, self._since = value, 0
            if self._config.keep == "best":
                self._kept.take(self._view, step)
                self._kept.settle(step, ())
        else:
            self._since += 1
        return 0 < self._config.patience <= self._since

    @property
    def has_kept(self) -> bool:
        """Whether the stage ends with weights that were kept."""
        return self._config.keep == "best" and self._kept.best is not None

    def end(self) -> bool:
        """Give the role its best weights, where the stage ends with them; Returns whether they are
        of an earlier evaluation than the last."""
        if not self.has_kept:
            return False
        self._kept.give(self._view)
        return self._since > 0

    def _of(self, values: Mapping[str, float]) -> float:
        """The metric, turned so that more is better."""
        names = _METRICS[self._config.best_by]
        value = next((values[name] for name in names if name in values), None)
        if value is None:
            raise UserError(
                f"this stage's evaluations have no {self._config.best_by}.",
                field="best_by",
                hint="Set best_by: loss.",
            )
        turned = -value if self._config.best_by == "loss" else value
        return turned if math.isfinite(turned) else -math.inf
