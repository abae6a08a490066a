"""Dynamic sampling: which groups are kept, how often it tries, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from burnish.algorithms.advantages import RunningMoments
from burnish.config.online import Algorithm, Curriculum, OnlineTraining
from burnish.data.curriculum import PromptSource
from burnish.errors import UserError
from burnish.models.roles import Roles, View
from burnish.records import Completion, Prompt, Reward, Rollout
from burnish.trainers.gather import Gathered, gather
from burnish.trainers.online_settings import resolve_settings
from burnish.trainers.stages import to_batch
from burnish.trainers.tell import rollout_metrics

PROMPTS = [Prompt(f"p{i}", ()) for i in range(12)]


class Writer:
    """Completions that name their number; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], int]] = []

    def load(self, view: View, *, version: int) -> None:
        pass

    def sleep(self) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        self.asked.append(([p.id for p in prompts], round))
        return [
            Rollout(p, (1,), Completion(str(k), (k + 2,), (-1.0,), "stop"), 0)
            for p in prompts
            for k in range(samples)
        ]


class Judge:
    def __init__(self, of: Callable[[str, int], Reward]) -> None:
        self.of = of

    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        return [self.of(r.prompt.id, int(r.completion.text)) for r in rollouts]


def _gather(
    of: Callable[[str, int], Reward], step: int = 2, **changes: object
) -> tuple[Gathered, Writer, PromptSource]:
    settings = {
        "algorithm": Algorithm(name="dapo"),
        "prompts_per_step": 4,
        "responses_per_prompt": 2,
        "steps": 50,
    }
    settings = resolve_settings(OnlineTraining(**{**settings, **changes}))
    writer, source = (
        Writer(),
        PromptSource(
            PROMPTS,
            seed=0,
            **({} if settings.curriculum is None else settings.curriculum.model_dump()),
        ),
    )
    return gather(source, writer, Judge(of), settings=settings, step=step), writer, source


def test_groups_without_variance_are_sampled_anew_and_counted():
    order = [p.id for p in PromptSource(PROMPTS, seed=0).take(12)]
    right, wrong = {order[0]}, {order[2], order[4]}  # the fifth is drawn in the first's place

    def of(name: str, k: int) -> Reward:
        return Reward(1.0 if name in right else 0.0 if name in wrong else float(k))

    found, writer, source = _gather(of)
    assert [r.prompt.id for r in found.rollouts[::2]] == [order[1], order[3], order[5], order[6]]
    assert [asked for asked, _ in writer.asked] == [order[:4], order[4:6], [order[6]]]
    assert [round for _, round in writer.asked] == [2, 52, 102]  # new random numbers each time
    assert found.metrics == {
        "filter/all_right": 1.0, "filter/all_wrong": 2.0, "filter/uncounted": 0.0,
        "filter/rounds": 3.0, "filter/missing": 0.0,
    }  # fmt: skip
    assert len(found.sampled) == 14
    assert source.cursor == 7


def test_it_gives_up_after_the_rounds_it_may_make():
    found, writer, _ = _gather(lambda name, k: Reward(0.0), resample_rounds=2)
    assert len(writer.asked) == 3
    assert found.rollouts == []
    assert found.metrics["filter/missing"] == 4.0
    assert found.metrics["filter/all_wrong"] == 12.0


def test_without_the_filter_everything_is_kept_in_one_round():
    found, writer, _ = _gather(lambda name, k: Reward(0.0), algorithm=Algorithm(name="grpo"))
    assert len(writer.asked) == 1
    assert len(found.rollouts) == 8
    assert found.metrics == {}


def test_what_is_not_counted_decides_nothing():
    """One of two completions has no verdict: the group has no variance among the rest."""
    found, _, _ = _gather(lambda name, k: Reward(float(k), counted=k == 1), resample_rounds=0)
    assert found.metrics["filter/all_right"] == 4.0
    found, _, _ = _gather(lambda name, k: Reward(0.0, counted=False), resample_rounds=0)
    assert found.metrics["filter/uncounted"] == 4.0


def test_the_curriculum_learns_the_pass_rates():
    _, _, source = _gather(
        lambda name, k: Reward(0.5 * k),
        algorithm=Algorithm(name="grpo"),
        curriculum=Curriculum(),
        pass_at=0.5,
    )
    known = source.state_dict()["known"]
    assert len(known) == 4
    assert set(map(tuple, known.values())) == {(2.0, 1.0)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"responses_per_prompt": 1}, "at least 2"),
        (
            {"algorithm": Algorithm(name="ppo", filter="mixed"), "responses_per_prompt": 1},
            "at least 2",
        ),
        (
            {"algorithm": Algorithm(name="dapo"), "moving_reference": {"every": 3}},
            "no reference that could move",
        ),
        ({"algorithm": Algorithm(name="grpo", kl_estimator="k1")}, "expected gradient of zero"),
        (
            {"algorithm": Algorithm(name="gspo", dual_clip=3.0)},
            "dual_clip belongs to the loss clip",
        ),
        ({"algorithm": Algorithm(name="dapo"), "kl_target": 1.0}, "no β to adapt"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes: dict[str, object], said: str):
    with pytest.raises(UserError, match=said):
        resolve_settings(OnlineTraining(**changes))


def test_metrics_of_rewards_by_hand():
    """Two groups of two: values (1, 0) and (1, 1), of which the last is not counted."""
    rollouts = [
        Rollout(Prompt("p", ()), (1,), Completion("", tokens, (-1.0,) * len(tokens), reason), 0)
        for tokens, reason in (
            ((2,), "stop"),
            ((2, 3, 4), "length"),
            ((2, 3), "stop"),
            ((2, 3), "stop"),
        )
    ]
    rewards = [
        Reward(1.0, {"maths": 1.0, "length": 0.5}, {"maths": "correct"}),
        Reward(0.0, {"maths": 0.0}, {"maths": "wrong"}),
        Reward(1.0, {"maths": 1.0}, {"maths": "correct"}),
        Reward(1.0, {"maths": 0.0}, {"maths": "verifier-timeout"}, counted=False),
    ]
    found = rollout_metrics(rollouts, rewards, size=2)
    assert found["reward"] == pytest.approx(2 / 3)
    assert found["reward_std"] == pytest.approx((0.5**0.5 + 0.0) / 2)
    assert found["frac_reward_zero_std"] == 0.5
    assert found["rewards/maths/mean"] == pytest.approx(2 / 3)
    assert found["rewards/length/mean"] == 0.5
    assert found["rewards/uncounted"] == 0.25
    assert found["verdicts/maths/correct"] == 0.5
    assert found["verdicts/maths/verifier-timeout"] == 0.25
    assert found["completions/mean_length"] == 2.0
    assert found["completions/clipped_ratio"] == 0.25
    assert found["completions/mean_terminated_length"] == pytest.approx(5 / 3)


def test_a_step_without_a_group_is_a_step_without_an_update():
    """Nothing differs: nothing is trained on, everything is counted, and the metrics are those of
    what was sampled."""
    found, _, _ = _gather(lambda name, k: Reward(0.0), resample_rounds=1)
    settings = resolve_settings(
        OnlineTraining(algorithm=Algorithm(name="dapo"), responses_per_prompt=2)
    )
    prepared = to_batch(
        found.rollouts,
        found.rewards,
        Roles(policy=None),
        settings=settings,
        beta=0.0,
        moments=RunningMoments(),
    )  # type: ignore[arg-type]
    assert len(prepared.batch) == 0
    assert (
        rollout_metrics(found.sampled, found.sampled_rewards, size=2)["frac_reward_zero_std"] == 1.0
    )
