"""The loop's side of a watch: which weights are looked at, kept and given back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from burnish.config.sections import Optimizer
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.records import Prompt, Rollout
from burnish.trainers.learner import Learner, Term
from burnish.trainers.watching import Decision, Watching


class _Sampler:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        return []

    def load(self, view: View, *, version: int) -> None:
        self.told.append(version)

    def sleep(self) -> None:
        self.told.append("sleep")


class _Watch:
    """Decides as it was told."""

    ends_with_best = True
    keeps_weights = True

    def __init__(
        self,
        decisions: Mapping[int, Decision],
        *,
        waiting: Mapping[int, Sequence[int]] | None = None,
        at_last: Decision | None = None,
    ) -> None:
        self.decisions, self._by_step, self._step = decisions, waiting or {}, 0
        self._at_last = Decision() if at_last is None else at_last

    @property
    def waiting(self) -> Sequence[int]:
        return self._by_step.get(self._step, ())

    def due(self, step: int) -> bool:
        return step in self.decisions

    def __call__(self, step: int) -> Decision:
        self._step = step
        return self.decisions.get(step, Decision({"watch/start": 1.0}))

    def finish(self) -> Decision:
        return self._at_last

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def _updated(learner: Learner) -> None:
    """One step that moves every weight."""
    total = sum((p * p).sum() for p in learner.view.parameters().values())
    learner.update([lambda: Term(total, {})])


def _weights(view: View) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in view.state_dict().items()}


def _same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(one[name].equal(other[name]) for name in one)


def test_the_best_weights_are_kept_given_back_and_end_the_training(tiny: Backbone):
    learner, sampler = Learner(View(tiny), Optimizer(), total_steps=9), _Sampler()
    watch = _Watch({2: Decision(best=2), 4: Decision(roll_back=True), 6: Decision()})
    watching = Watching(watch, learner, sampler)
    assert watching.before_training() == {"watch/start": 1.0}
    seen = {0: _weights(learner.view)}
    for step in range(1, 7):
        _updated(learner)
        seen[step] = _weights(learner.view)
        watching.after(step)
        if step == 2:
            saved = watching.state["kept"].state_dict()
        if step == 4:
            assert _same(_weights(learner.view), seen[2])
            # Adam begins anew: the next step is the first after the best weights
            state = learner.state_dict()
            assert not any(state["moved"].values())
            assert not any(bool(one.any()) for pair in state["moments"].values() for one in pair)
    assert sampler.told == [2, 4, "sleep", 6]
    assert not _same(seen[6], seen[2])
    watching.end()
    assert _same(_weights(learner.view), seen[2])
    again = Watching(watch, learner, sampler)
    _updated(learner)
    again.state["kept"].load_state_dict(saved)
    again.end()
    assert _same(_weights(learner.view), seen[2])


def test_weights_wait_for_their_judges(tiny: Backbone):
    """Judged late, a policy that was waiting may still be the best, also after the last step."""
    learner = Learner(View(tiny), Optimizer(), total_steps=9)
    watch = _Watch(
        {1: Decision(), 2: Decision(), 3: Decision(best=1), 4: Decision()},
        waiting={1: (1,), 2: (1, 2), 3: (2, 3), 4: (3, 4)},
        at_last=Decision(best=3),
    )
    watching = Watching(watch, learner, _Sampler())
    watching.before_training()
    seen, kept = {0: _weights(learner.view)}, {}
    for step in range(1, 5):
        _updated(learner)
        seen[step] = _weights(learner.view)
        watching.after(step)
        kept[step] = sorted(watching.state["kept"].state_dict()["weights"])
    assert kept == {1: ["0", "1"], 2: ["0", "1", "2"], 3: ["1", "2", "3"], 4: ["1", "3", "4"]}
    watching.end()
    assert _same(_weights(learner.view), seen[3])


def test_without_a_watch_nothing_is_asked_and_nothing_is_in_the_checkpoint(tiny: Backbone):
    learner, sampler = Learner(View(tiny), Optimizer(), total_steps=9), _Sampler()
    watching = Watching(None, learner, sampler)
    assert (watching.before_training(), watching.after(5), watching.state) == ({}, Decision(), {})
    watching.end()
    assert sampler.told == []


def test_weights_that_nobody_will_want_are_not_kept(tiny: Backbone):
    watch, learner = _Watch({}), Learner(View(tiny), Optimizer(), total_steps=9)
    watch.keeps_weights = watch.ends_with_best = False
    watching = Watching(watch, learner, _Sampler())
    watching.before_training()
    assert list(watching.state) == ["watch"]
