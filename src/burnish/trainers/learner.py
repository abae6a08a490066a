"""The learner: forward, backward, clip, step. Every trainer uses this one.

A step is a list of terms, each a function that computes one part of the loss on one micro-batch.
Every term is already divided by the whole batch's denominator, so that terms add up and cutting a
batch differently changes nothing. Each term is differentiated as soon as it is computed: only one
micro-batch's activations are alive at a time.

Terms are dealt among the ranks, and what they add up to is added over the ranks in their order: the
step is the same on every one of them, and bit for bit the same at every run of as many ranks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from burnish.config.sections import Optimizer
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.models.trunk import full, part
from burnish.ranks import gathered, rank, world


@dataclass(frozen=True, slots=True)
class Term:
    """A part of the loss (scalar, with its graph) and statistics (detached scalars) that add up
    over the terms of a step."""

    loss: Tensor
    sums: Mapping[str, Tensor]


class Diverged(UserError):
    """Steps whose loss or gradient is not finite, too many of them in a row or all there were; or
    weights that are not finite."""


def schedule(*, step: int, total: int, warmup: float, kind: str) -> float:
    """The share of the peak learning rate at optimizer step `step` of `total`.

    Rises linearly over the first `warmup · total` steps, then stays (constant), falls linearly to
    0, or falls as (1 + cos πx)/2 with x the share of the remaining steps that are done
    (arXiv:1608.03983, one cycle).
    """
    rising = math.ceil(warmup * total)
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    return {
        "constant": 1.0,
        "linear": 1.0 - done,
        "cosine": 0.5 * (1.0 + math.cos(math.pi * done)),
    }[kind]


class Learner:
    """AdamW on the trainable parameters of one role, with a schedule, global clipping and a guard
    against bad numbers."""

    def __init__(
        self,
        view: View,
        settings: Optimizer,
        *,
        total_steps: int,
        learning_rate: float | None = None,
        name: str | None = None,
        seed: int = 0,
    ) -> None:
        """`name`, where several learn side by side, is what errors call it; `seed` is that of the
        adapters' dropout."""
        self.view, self._settings, self._total = view, settings, max(1, total_steps)
        self._peak = settings.learning_rate if learning_rate is None else learning_rate
        self._parameters = view.train_mode()
        view.backbone.recompute_layers(settings.gradient_checkpointing)
        matrices = [p for p in self._parameters if p.ndim >= 2]
        others = [p for p in self._parameters if p.ndim < 2]
        groups = [
            {"params": matrices, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        # fused: one pass over memory instead of ten, and no temporaries of a parameter's size
        self._optimizer = torch.optim.AdamW(
            [g for g in groups if g["params"]],
            lr=self._peak,
            betas=settings.betas,
            eps=settings.eps,
            fused=True,
        )
        self._seed = seed
        self._of = "" if name is None else f" of the {name}"
        self.step = 0
        self.skipped = 0
        self._skipped_in_a_row = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self._peak * schedule(
            step=self.step,
            total=self._total,
            warmup=self._settings.warmup,
            kind=self._settings.schedule,
        )

    def update(self, terms: Iterable[Callable[[], Term]]) -> dict[str, float]:
        """One optimizer step. Returns the summed statistics with `loss`, `grad_norm` (before
        clipping) and `learning_rate`.

        A step whose loss or gradient is not finite changes nothing but the count `skipped`.
        Raises Diverged after more than `max_skipped_steps` such steps in a row, and where the step
        made weights that are not
        finite: so that no checkpoint ever holds any.
        """
        self._optimizer.zero_grad(set_to_none=True)
        with self.view.backbone.dropping.update(seed=self._seed, step=self.step):
            loss, sums = _added(gathered(_differentiate(list(terms))))
        limit = self._settings.max_grad_norm
        norm = float(full(torch.nn.utils.clip_grad_norm_(self._parameters, limit)))
        rate = self.learning_rate
        if math.isfinite(loss) and math.isfinite(norm):
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            self._optimizer.step()
            # torch's fused optimizers write without saying so; what is made of a weight and kept is
            # known by its version.
            torch.autograd.graph.increment_version(self._parameters)
            self._refuse_broken_weights(rate)
            self._skipped_in_a_row = 0
        else:
            self._skip()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {
            **sums,
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate,
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, Adam's moments by the names of the weights, and counters."""
        moments = {name: self._moments(p) for name, p in self.view.parameters().items()}
        return {
            "weights": self.view.state_dict(),
            "moments": {name: (m["exp_avg"], m["exp_avg_sq"]) for name, m in moments.items()},
            "moved": {name: float(m["step"]) for name, m in moments.items()},
            "step": self.step,
            "skipped": self.skipped,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put everything back that `state_dict` gave."""
        self.view.load_state_dict(state["weights"])
        for name, parameter in self.view.parameters().items():
            moments = self._moments(parameter)
            for mine, theirs in zip(
                (moments["exp_avg"], moments["exp_avg_sq"]), state["moments"][name], strict=True
            ):
                mine.copy_(theirs)
            moments["step"].fill_(state["moved"][name])
        self.step, self.skipped, self._skipped_in_a_row = (
            state["step"],
            state["skipped"],
            state["skipped_in_a_row"],
        )

    def forget_moments(self) -> None:
        """Let Adam's moments begin anew; the schedule goes on."""
        self._optimizer.state.clear()

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        """AdamW's state of a parameter: that of one that has never moved where it has none."""
        moments = self._optimizer.state[parameter]
        if not moments:
            moments |= {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return moments

    def refuse_standstill(self) -> None:
        """Raise Diverged where every step so far was skipped: what looks trained is what it was."""
        if self.skipped and self.skipped == self.step:
            raise Diverged(
                f"none of the {self.step} updates{self._of} had a loss and a gradient that are"
                " finite, so nothing was learnt.",
                hint=_NOTHING_LEARNT,
            )

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > self._settings.max_skipped_steps:
            learnt = self.skipped <= self.step  # this one is not counted there yet
            raise Diverged(
                f"{self._skipped_in_a_row} updates{self._of} in a row, up to number"
                f" {self.step + 1}, had a loss or gradient that is not finite.",
                hint=(
                    "Lower the learning rate, or raise optimizer.max_skipped_steps."
                    if learnt
                    else _NOTHING_LEARNT
                ),
            )

    def _refuse_broken_weights(self, rate: float) -> None:
        parts = [mine for p in self._parameters if (mine := part(p)).numel()]
        largest = torch.nn.utils.get_total_norm(parts, norm_type=math.inf)
        if all(gathered(bool(torch.isfinite(largest)))):
            return
        name = next(
            name
            for name, weight in self.view.parameters().items()
            if not full(weight.detach()).isfinite().all()
        )
        raise Diverged(
            f"update {self.step + 1}{self._of} made weights that are not finite, the first of them"
            f" in {name} (learning rate {rate:g}).",
            hint="Lower the learning rate. The checkpoint before it, where there is one, is sound.",
        )


def _differentiate(terms: Sequence[Callable[[], Term]]) -> tuple[float, dict[str, float]]:
    """Add the gradients of this rank's share of the terms; returns the share's loss and sums.

    All ranks go through the model as often. Who has no term left takes the first one times 0, whose
    gradient changes nothing but is waited for.
    """
    mine, sums = terms[rank() :: world()], dict[str, Tensor]()
    loss = torch.zeros((), dtype=torch.float64)
    for number in range(-(-len(terms) // world())):
        if number >= len(mine):
            (terms[0]().loss * 0.0).backward()
            continue
        term = mine[number]()
        term.loss.backward()
        loss += term.loss.detach().double()
        for name, value in term.sums.items():
            sums[name] = sums[name] + value if name in sums else value
    return float(loss), {name: float(value) for name, value in sums.items()}


def _added(shares: Sequence[tuple[float, dict[str, float]]]) -> tuple[float, dict[str, float]]:
    """The losses and the sums of all ranks, added in their order."""
    loss, sums = shares[0][0], dict(shares[0][1])
    for more, others in shares[1:]:
        loss += more
        for name, value in others.items():
            sums[name] = sums[name] + value if name in sums else value
    return loss, sums


_NOTHING_LEARNT = (
    "Nothing was learnt before, so it is not the learning rate: the model itself gives such numbers"
    " for this data. Try model.dtype: float32, or another model."
)
