"""The watch over an online stage: fresh answers of the policy to held-out prompts, what the reward
and a judge that training does not use say of them, and what follows (docs/watch.md)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from burnish.config.watch import MOST_WAITING, Watch
from burnish.errors import UserError
from burnish.models.roles import Roles
from burnish.ranks import told
from burnish.records import Prompt, Rollout
from burnish.rewards.scorer import CompositeScorer
from burnish.stages.context import Step
from burnish.stages.sampling import fitting
from burnish.stages.turns import with_pay
from burnish.stages.watch_distance import distance_from_start
from burnish.stages.watch_judges import WatchJudge, watch_judge
from burnish.stages.watch_people import Heard, Look
from burnish.stages.watch_rules import check_watch_prompts
from burnish.statistics.alarms import (
    Check,
    Marks,
    Slope,
    Start,
    check_of,
    length_alarm,
    recent_slope,
    slope_alarm,
    start_of,
)
from burnish.trainers.gather import Sampler, Scorer
from burnish.trainers.watching import Decision

PREFIX = "watch/"
"""Begins the names of what is logged of checks."""
RAISED = 2.0
"""What β is multiplied by on an alarm."""
_AT_START = 4  # answers to each prompt by which the start is known
_ROUNDS = 10**9  # beyond every round of training: fresh answers have random numbers of their own


class PolicyWatch:
    """What `trainers.watching.Watch` asks for.

    Args:
        config: the recipe's section.
        prompts: held out from training.
        sampler: the training's, which has the policy's weights when it is asked.
        proxy: the training's reward, each part of it as it comes.
        judge: who judges.
        total: the steps of the stage.
        penalized: whether there is a β that can be raised.
        distance: the mean KL from the start (nats an answer); None: it is not known.
        say: tells what happens.
    """

    def __init__(
        self,
        config: Watch,
        *,
        prompts: Sequence[Prompt],
        sampler: Sampler,
        proxy: Scorer,
        judge: WatchJudge,
        total: int,
        penalized: bool,
        distance: Callable[[Sequence[Rollout]], float] | None,
        say: Callable[[str], None],
    ) -> None:
        self._config, self._prompts, self._sampler = config, list(prompts), sampler
        self._proxy, self._judge, self._total, self._say = proxy, judge, total, say
        self._penalized, self._distance = penalized, distance
        self._place = {prompt.id: number for number, prompt in enumerate(self._prompts)}
        self._start: Start | None = None
        self._beside: dict[str, str] = {}
        self._checks: list[Check] = []
        self._since = 0
        self._waiting: list[Look] = []
        self._curve: list[dict[str, float]] = []
        self._best, self._best_step = 0.0, 0
        self.alarms: list[dict[str, Any]] = []
        self.stopped_at: int | None = None
        self.ends_with_best = config.keep == "best"
        self.keeps_weights = config.keep == "best" or config.action == "roll_back"

    @property
    def waiting(self) -> list[int]:
        """The steps whose answers are not judged yet and whose policies may still be the best."""
        return [look.step for look in self._waiting[-MOST_WAITING:] if look.step]

    def due(self, step: int) -> bool:
        """After every so many steps, and after the last."""
        return step % self._config.every == 0 or step == self._total

    def __call__(self, step: int) -> Decision:
        """Look at the policy as it is after `step` steps; 0: at that which training begins with."""
        compares = self._judge.compares
        samples = _AT_START + compares
        if step:
            samples = math.ceil(self._config.prompts / len(self._prompts))
        rollouts = self._sampler.generate(self._prompts, samples=samples, round=_ROUNDS + step)
        if not step and compares:  # one more to each prompt, which is what the judge compares with
            self._beside = {one.prompt.id: one.completion.text for one in rollouts[::samples]}
            rollouts = [one for place, one in enumerate(rollouts) if place % samples]
        look = self._look(step, rollouts)
        self._waiting.append(look)
        people = self._judge.people
        if people is None:
            return self._settled([self._judge.marks(rollouts, look.beside)], at=step)
        return self._settled(told(lambda: people.heard(step, self._waiting)), at=step)

    def finish(self) -> Decision:
        """What people say of the checks that they have not judged yet: the policy that the stage
        makes may be one of them. Raises WaitingForPeople while they are not done. Behind an alarm
        that ended the training there is nothing to wait for."""
        people, over = self._judge.people, self.stopped_at is not None
        if people is None or over or not self._waiting or not self.ends_with_best:
            return Decision()
        return self._settled(told(lambda: people.last(self._waiting)), at=None)

    def _look(self, step: int, rollouts: Sequence[Rollout]) -> Look:
        """The answers, with everything that is known of them without the judge."""
        rewards = self._proxy.score(rollouts)
        away = None if self._distance is None or not step else self._distance(rollouts)
        return Look(
            step,
            [one.prompt.id for one in rollouts],
            [one.completion.text for one in rollouts],
            [self._beside.get(one.prompt.id, "") for one in rollouts],
            [one.value if one.counted and math.isfinite(one.value) else None for one in rewards],
            [float(one.completion.drawn) for one in rollouts],
            {} if away is None else {"kl": away},
        )

    def _settled(self, heard: Sequence[Heard], *, at: int | None) -> Decision:
        """What follows, after step `at` (None: after the last), from marks of the first of the
        looks that wait, in order."""
        decision = Decision()
        for judged in heard:
            look = self._waiting.pop(0)
            marks, uncounted = self._marks(look, judged)
            if look.step == 0:
                metrics = self._begin(marks, uncounted)
                decision = replace(decision, metrics={**decision.metrics, **metrics})
                continue
            decision = _joined(decision, self._check(look, marks, uncounted, at=at))
            if decision.stop or decision.roll_back:
                break
        if decision.roll_back:
            self._waiting.clear()  # of a branch that was left
        return decision

    def _check(self, look: Look, marks: Marks, uncounted: float, *, at: int | None) -> Decision:
        """What follows from a check."""
        assert self._start is not None  # it is judged first, or the checkpoint holds it
        metrics = {**look.figures, "uncounted": uncounted}
        check = check_of(look.step, marks, self._start)
        if check is None:
            return Decision(_named(metrics))
        self._checks.append(check)
        recent = self._checks[self._since :]
        slope = recent_slope(recent, window=self._config.window)
        reasons = self._reasons(check, slope, settled=self._since == 0 or len(recent) > 1)
        metrics |= _figures(check, slope, marks, reasons)
        if self._judge.people is not None:
            metrics["judged_step"] = float(look.step)
        self._curve.append({"step": float(look.step), **_named(metrics)})
        # with many behind it its weights are gone
        best = check.judge > self._best and len(self._waiting) < MOST_WAITING
        if best:
            self._best, self._best_step = check.judge, look.step
        decided = self._decided(look.step, reasons, at=at)
        return replace(decided, metrics=_named(metrics), best=look.step if best else None)

    def _begin(self, marks: Marks, uncounted: float) -> Mapping[str, float]:
        """What several answers of the starting policy to each prompt say of it."""
        if not marks.prompt_N:
            raise UserError(
                f"neither the reward nor {self._judge.name} judges any answer to the prompts of the"
                " watch.",
                hint="Its prompts are those held out: give some that both can judge.",
            )
        self._start = start_of(marks)
        self._say_what_start_tells(self._start)
        return _named(
            {
                "start_slope": self._start.slope,
                "start_slope_se": self._start.slope_se,
                "start_length_correlation": self._start.length_correlation,
                "start_length": self._start.length,
                "start_proxy_mean": float(np.mean(marks.proxy_N)),
                "start_judge_mean": float(np.mean(marks.judge_N)),
                "start_uncounted": uncounted,
            }
        )

    def _say_what_start_tells(self, start: Start) -> None:
        if not start.slope > 2.0 * start.slope_se:
            self._say(
                f"watch: among the starting policy's answers {self._judge.name} does not clearly"
                f" like more what the reward likes more (correlation {start.slope:.2f} ±"
                f" {start.slope_se:.2f}): a fall of the judge can be told, a lag hardly"
            )

    def _marks(self, look: Look, judged: Heard) -> tuple[Marks, float]:
        """What both say of the answers that both could judge, and the share of the others."""
        rows = [
            (reward, mark, length, self._place[prompt])
            for reward, mark, length, prompt in zip(
                look.rewards, judged, look.lengths, look.prompts, strict=True
            )
            if reward is not None and mark is not None and math.isfinite(mark)
        ]
        proxy, judge, length, prompt = zip(*rows, strict=True) if rows else ((), (), (), ())
        return Marks(proxy, judge, length, prompt), 1.0 - len(rows) / len(judged)

    def _reasons(self, check: Check, slope: Slope, *, settled: bool) -> dict[str, str]:
        """The alarms, each with what it rests on; after one that was acted on, none before two
        checks."""
        assert self._start is not None
        config, start, found = self._config, self._start, dict[str, str]()
        if slope_alarm(slope, start, share=config.slope):
            found["slope"] = (
                f"the reward rises and {self._judge.name} gains {slope.value:.2f} ± {slope.se:.2f}"
                f" with it, at the start {start.slope:.2f}"
            )
        if settled and length_alarm(check, start, ratio=config.length):
            found["length"] = (
                f"answers are {check.length_ratio:.2f} times as long as at the start, where longer"
                f" ones earned more (correlation {start.length_correlation:.2f})"
            )
        return found

    def _decided(self, step: int, reasons: Mapping[str, str], *, at: int | None) -> Decision:
        """What the recipe wants done, and said, after step `at` on the alarms of the check after
        `step`."""
        if not reasons:
            return Decision()
        action, why = self._config.action, "; ".join(reasons.values())
        first = not self.alarms
        self.alarms.append({"step": step, "rules": list(reasons), "why": why, "action": action})
        if at is None:
            self._say(f"alarm of the watch after step {step}, heard when training was over: {why}")
            return Decision()
        if action == "stop":
            self.stopped_at = at
            return Decision(stop=True)
        if action == "warn":
            if first:
                self._say(
                    f"alarm of the watch after step {step}: {why}; training goes on (action: warn)"
                )
            return Decision()
        self._since = len(self._checks)
        factor = RAISED if self._penalized else 1.0
        raised = f"β is multiplied by {factor:g}" if self._penalized else "there is no β to raise"
        if action == "raise_beta":
            self._say(f"alarm of the watch after step {step}: {why}; {raised}")
            return Decision(beta_factor=factor)
        self._say(
            f"alarm of the watch after step {step}: {why}; back to the weights of step"
            f" {self._best_step}, and {raised}"
        )
        return Decision(beta_factor=factor, roll_back=True)

    def findings(self, steps: int) -> dict[str, Any]:
        """What the stage's result says of it: who judged, alarms, and which policy was kept."""
        return {
            "judge": self._judge.name,
            "action": self._config.action,
            "prompts": len(self._prompts),
            "checks": len(self._checks),
            "unjudged": len(self._waiting),
            "curve": self._curve,
            "start": None if self._start is None else {
                name: getattr(self._start, name)
                for name in ("slope", "slope_se", "length_correlation", "length")
            },
            "slope_share": self._config.slope,
            "length_limit": self._config.length,
            "alarms": self.alarms,
            "stopped_at": self.stopped_at,
            "best_step": self._best_step,
            "best_judge": self._best,
            "kept_step": self._best_step if self.ends_with_best else steps,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """Everything it has seen and decided."""
        return {
            "start": None if self._start is None else self._start.to_dict(),
            "beside": self._beside,
            "checks": [check.to_dict() for check in self._checks],
            "since": self._since,
            "waiting": [look.to_dict() for look in self._waiting],
            "curve": self._curve,
            "best": (self._best, self._best_step),
            "alarms": self.alarms,
            "stopped_at": self.stopped_at,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self._start = None if state["start"] is None else Start(**state["start"])
        self._beside = dict(state["beside"])
        self._checks = [Check(**check) for check in state["checks"]]
        self._since, (self._best, self._best_step) = state["since"], state["best"]
        self._waiting = [Look(**look) for look in state["waiting"]]
        self._curve = list(state["curve"])
        self.alarms, self.stopped_at = list(state["alarms"]), state["stopped_at"]


@contextmanager
def watched(
    step: Step, roles: Roles, sampler: Sampler, scorer: Scorer, composed: CompositeScorer | None
) -> Iterator[PolicyWatch | None]:
    """The watch that a stage's recipe asks for; None: it asks for none.

    Args:
        step: the stage.
        roles: its models.
        sampler: what its rollouts are drawn with.
        scorer: what rewards them.
        composed: the rewards that it is made of, where it is.
    """
    config: Watch | None = step.settings.watch
    if config is None:
        yield None
        return
    backbone = roles.policy.backbone
    prompts = _prompts(step, roles, config)
    judge = watch_judge(step, config, prompts, backbone)
    try:
        yield PolicyWatch(
            config,
            prompts=prompts,
            sampler=sampler,
            proxy=(
                scorer
                if composed is None
                else with_pay(_as_it_comes(composed), step.settings.environment)
            ),
            judge=judge,
            total=step.settings.steps,
            penalized=roles.reference is not None,
            distance=distance_from_start(step, roles),
            say=lambda line: step.say_once(f"{step.name}: {line}"),
        )
    finally:
        judge.close()


def _prompts(step: Step, roles: Roles, config: Watch) -> list[Prompt]:
    """As many held-out prompts as are asked for, drawn by a hash."""
    check_watch_prompts(step)
    heldout = step.prompts.heldout
    drawn = sorted(heldout, key=lambda one: hashlib.sha256(f"watch/{one.id}".encode()).digest())
    what = "held-out prompts of the watch"
    fit = fitting(step, roles.policy.backbone, drawn, step.settings.sampling, what)
    return fit[: config.prompts]


def _as_it_comes(composed: CompositeScorer) -> CompositeScorer:
    """The same rewards, none normalized over a batch: the mean of such would be 0 at every
    check."""
    return CompositeScorer(
        [
            (
                replace(source, part=replace(source.part, normalize="none", clip=None))
                if source.part.normalize != "none"
                else source
            )
            for source in composed.sources
        ]
    )


def _joined(one: Decision, other: Decision) -> Decision:
    """Both at once, where two checks are judged together."""
    return Decision(
        {**one.metrics, **other.metrics},
        one.best if other.best is None else other.best,
        one.stop or other.stop,
        one.beta_factor * other.beta_factor,
        one.roll_back or other.roll_back,
    )


def _figures(
    check: Check, slope: Slope, marks: Marks, reasons: Mapping[str, str]
) -> dict[str, float]:
    found = {
        "proxy": check.proxy,
        "judge": check.judge,
        "judge_se": check.judge_se,
        "proxy_mean": float(np.mean(marks.proxy_N)),
        "judge_mean": float(np.mean(marks.judge_N)),
        "length_ratio": check.length_ratio,
        "alarm": float(bool(reasons)),
    }
    if slope.value is not None and slope.se is not None:
        found |= {"slope": slope.value, "slope_se": slope.se}
    return found


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    return {f"{PREFIX}{name}": value for name, value in figures.items()}
