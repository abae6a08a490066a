"""Every row of the table, through the code that trains: the expected gradient against the exact
one, by enumeration.

The toy: vocabulary 8, length 4, so 4,096 completions of one prompt; the next token depends on the
place and the token before. A group is a completion y and two others, of which only the rewards (0
or 1) matter to y's advantage. So the expectation over groups is a sum over y and over how many of
the others were right, a binomial: it is taken with importance weights on y's tokens, π(y) ·
P(others), and 0 on the others' own.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from burnish.algorithms.advantages import RunningMoments
from burnish.algorithms.logprobs import TokenLogprobs
from burnish.algorithms.recipes import ROWS
from burnish.batch import Batch, TokenSequence
from burnish.config.online import Algorithm, OnlineTraining
from burnish.config.sections import Optimizer
from burnish.models.backbone import load_backbone
from burnish.models.roles import Roles, View
from burnish.records import Completion, Prompt, Reward, Rollout
from burnish.trainers.online import policy_term, policy_terms
from burnish.trainers.online_settings import OnlineSettings, resolve_settings
from burnish.trainers.stages import to_batch

V, L, G = 8, 4, 3
SEQUENCES = torch.tensor(list(itertools.product(range(V), repeat=L)))
RIGHT = (SEQUENCES.sum(1) % 3 == 0) & (SEQUENCES[:, 0] > 2)  # what is rewarded with 1


@dataclass(eq=False)
class Toy:
    """A role whose model is a table of logits [L, V + 1, V]; what the loop asks of a `View`."""

    logits: Tensor
    table: Tensor | None = None  # values [L, V + 1]
    backbone: Any = field(default_factory=lambda: SimpleNamespace(samples_exactly=True))
    drops: bool = False

    def rows(self, tokens_NL: Tensor) -> Tensor:
        before = torch.cat([torch.full((len(tokens_NL), 1), V), tokens_NL[:, :-1]], dim=1)
        return torch.stack([self.logits.log_softmax(-1)[t, before[:, t]] for t in range(L)], dim=1)

    def logprobs(
        self, batch: Batch, *, temperature: float = 1.0, entropy: bool = False
    ) -> TokenLogprobs:
        tokens = torch.tensor([s.response for s in batch.sequences])
        rows = self.rows(tokens)
        of_tokens = rows.gather(2, tokens[..., None])[..., 0].flatten()
        return TokenLogprobs(of_tokens, -(rows.exp() * rows).sum(-1).flatten())

    def values(self, batch: Batch) -> Tensor:
        assert self.table is not None
        tokens = torch.tensor([s.response for s in batch.sequences])
        before = torch.cat([torch.full((len(tokens), 1), V), tokens[:, :-1]], dim=1)
        return self.table[torch.arange(L), before].flatten()


def _logits(seed: int) -> Tensor:
    return 0.5 * torch.randn(
        L, V + 1, V, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def _of(toy: Toy) -> Tensor:
    """[4096, L]: log-probabilities of the tokens of every completion."""
    return toy.rows(SEQUENCES).gather(2, SEQUENCES[..., None])[..., 0]


def _rollout(tokens: list[int], logprobs: list[float]) -> Rollout:
    return Rollout(Prompt("p", ()), (1,), Completion("", tuple(tokens), tuple(logprobs), "stop"), 0)


def _roles(row: str, policy: Toy, settings: OnlineSettings) -> Roles:
    reference = Toy(_logits(2)) if settings.algorithm.needs_reference else None
    critic = None
    if settings.algorithm.needs_critic:
        critic = Toy(
            policy.logits,
            torch.randn(L, V + 1, generator=torch.Generator().manual_seed(4), dtype=torch.float64),
        )
    return Roles(policy=policy, critic=critic, reference=reference)  # type: ignore[arg-type]


def _gradient(toy: Toy, objective: Tensor) -> Tensor:
    return torch.autograd.grad(objective, toy.logits, retain_graph=True)[0]


def _run(
    settings: OnlineSettings,
    policy: Toy,
    rollouts: list[Rollout],
    rewards: list[float],
    weights_B: Tensor,
) -> Tensor:
    """The gradient that the code computes, each completion's loss weighted."""
    roles = _roles(settings.algorithm.name, policy, settings)
    batch = to_batch(
        rollouts,
        [Reward(r) for r in rewards],
        roles,
        settings=settings,
        beta=settings.algorithm.beta,
        moments=RunningMoments(),
    ).batch
    assert len(batch) == len(rollouts)
    weights_P = weights_B.repeat_interleave(L)
    batch = batch.with_columns(importance=weights_P)
    term = policy_term(policy, batch, denominator=L, sequences=1, settings=settings)  # type: ignore[arg-type]
    return _gradient(policy, term.loss)


def _groups(policy: Toy) -> tuple[list[Rollout], list[float], Tensor]:
    """Every y with every number of right ones among two others: rollouts, rewards, weights."""
    logprobs = _of(policy).detach()
    probability = logprobs.sum(1).exp()
    p = float(probability[RIGHT].sum())
    others = {
        1.0: _rollout(SEQUENCES[int(RIGHT.nonzero()[0])].tolist(), [-1.0] * L),
        0.0: _rollout([0] * L, [-1.0] * L),
    }
    rollouts, rewards, weights = [], [], []
    for count in range(G):
        chance = math.comb(G - 1, count) * p**count * (1 - p) ** (G - 1 - count)
        rest = [1.0] * count + [0.0] * (G - 1 - count)
        for i, tokens in enumerate(SEQUENCES.tolist()):
            rollouts += [_rollout(tokens, logprobs[i].tolist()), *(others[r] for r in rest)]
            rewards += [float(RIGHT[i]), *rest]
            weights += [float(probability[i]) * chance] + [0.0] * (G - 1)
    return rollouts, rewards, torch.tensor(weights, dtype=torch.float64)


def _expected_advantage(policy: Toy, of: str) -> Tensor:
    """[4096]: E[A(y)] over two others, by the definitions, one group after another."""
    p = float(_of(policy).detach().sum(1).exp()[RIGHT].sum())
    found = {}
    for own in (0.0, 1.0):
        total = 0.0
        for a, b in itertools.product((0.0, 1.0), repeat=2):
            chance = (p if a else 1 - p) * (p if b else 1 - p)
            mean = (own + a + b) / 3
            std = math.sqrt(((own - mean) ** 2 + (a - mean) ** 2 + (b - mean) ** 2) / 2)
            advantage = {
                "group_normalized": (own - mean) / (std + 1e-4),
                "group_mean": own - mean,
                "leave_one_out": own - (a + b) / 2,
            }[of]
            total += chance * advantage
        found[own] = total
    return torch.tensor([found[float(right)] for right in RIGHT], dtype=torch.float64)


def _settings(name: str, **changes: object) -> OnlineSettings:
    return resolve_settings(
        OnlineTraining(
            algorithm=Algorithm(name=name, **changes),
            responses_per_prompt=G,
            gamma=1.0,
            gae_lambda=1.0,
            sampling={"max_new_tokens": 10},
            optimizer={"micro_batch_tokens": 10**9},
        )
    )


GROUPED = {
    # row: how a completion's Σ A log π is averaged (all have 4 tokens)
    "grpo": 1 / L, "dr-grpo": 1 / 10, "dapo": 1 / L, "gspo": 1 / L, "cispo": 1 / L,
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPED)
def test_rows_that_compare_within_a_group(name: str):
    policy = Toy(_logits(1).requires_grad_(True))
    changes = {"overlong": "none"} if name == "dapo" else {}
    settings = _settings(name, beta=0.0, **changes)
    found = _run(settings, policy, *_groups(policy))
    advantage = _expected_advantage(policy, settings.algorithm.advantage)
    exact = _gradient(policy, -(_of(policy).sum(1).exp() * advantage).sum() * GROUPED[name])
    torch.testing.assert_close(found, exact, atol=1e-7, rtol=1e-4)
    assert exact.abs().max() > 1e-4


@pytest.mark.parametrize(
    ("name", "estimator"), [("grpo", "k3"), ("grpo", "k2"), ("reinforce++-baseline", "k2")]
)
def test_the_penalty_in_the_loss(name: str, estimator: str):
    """Σ_t of each step's divergence, its prefix drawn and not differentiated: KL(π_ref ‖ π) for k3,
    KL(π ‖ π_ref) for k2."""
    policy, beta = Toy(_logits(1).requires_grad_(True)), 0.3
    settings = _settings(name, beta=beta, kl_estimator=estimator, whiten=False, aggregation="token")
    logprobs = _of(policy).detach()
    rollouts = [
        _rollout(t, lp) for t, lp in zip(SEQUENCES.tolist(), logprobs.tolist(), strict=True)
    ]
    roles = _roles(name, policy, settings)
    probability = logprobs.sum(1).exp()
    batch = to_batch(
        rollouts,
        [Reward(1.0)] * len(rollouts),
        roles,
        settings=settings,
        beta=beta,
        moments=RunningMoments(),
    ).batch  # equal rewards: nothing but the penalty has a gradient
    assert not batch["advantages"].any()
    rows, ref_rows = policy.rows(SEQUENCES), Toy(_logits(2)).rows(SEQUENCES)
    steps = {
        "k2": (rows.exp() * (rows - ref_rows)).sum(-1),
        "k3": (ref_rows.exp() * (ref_rows - rows)).sum(-1),
    }[estimator]
    exact = _gradient(policy, beta * (probability[:, None] * steps).sum() / L)
    pieces = []
    for start in range(0, len(batch), 512):
        piece = batch.select(list(range(start, start + 512)))
        grads = _weighted_penalty(policy, piece, probability[start : start + 512], settings, beta)
        pieces.append(grads)
    torch.testing.assert_close(sum(pieces), exact, atol=1e-7, rtol=1e-4)


def _weighted_penalty(
    policy: Toy, piece: Batch, weight_N: Tensor, settings: OnlineSettings, beta: float
) -> Tensor:
    """The penalty's gradient through `policy_term`, the gradient of each completion multiplied by
    its weight."""
    with torch.enable_grad():
        scored = policy.logprobs(piece)
        handle = scored.logprobs_P

        class Weighted(Toy):
            def logprobs(
                self, batch: Batch, *, temperature: float = 1.0, entropy: bool = False
            ) -> TokenLogprobs:
                # the value stays, the gradient is multiplied by the completion's probability
                w = weight_N.repeat_interleave(L)
                return TokenLogprobs(
                    handle.detach() + w * (handle - handle.detach()), scored.entropy_P
                )

        term = policy_term(
            Weighted(policy.logits), piece, denominator=L, sequences=1, settings=settings, beta=beta
        )  # type: ignore[arg-type]
    return _gradient(policy, term.loss)


def test_rloo_follows_the_gradient_of_the_penalised_reward():
    """Leave-one-out is unbiased: E[∇ loss] = −∇ (E[R] − β KL(π ‖ π_ref)), the others' mean and
    penalty no part of it."""
    beta, policy = 0.3, Toy(_logits(1).requires_grad_(True))
    settings = _settings("rloo", beta=beta)
    logprobs = _of(policy).detach()
    # the others are fixed: a baseline that does not look at y has no effect, whatever it is
    rollouts, rewards, weights = [], [], []
    for i, tokens in enumerate(SEQUENCES.tolist()):
        rollouts += [_rollout(tokens, logprobs[i].tolist())]
        rollouts += [_rollout(SEQUENCES[j].tolist(), logprobs[j].tolist()) for j in (0, 4000)]
        rewards += [float(RIGHT[i]), float(RIGHT[0]), float(RIGHT[4000])]
        weights += [float(logprobs[i].sum().exp()), 0.0, 0.0]
    found = _run(settings, policy, rollouts, rewards, torch.tensor(weights, dtype=torch.float64))
    ours, theirs = _of(policy), _of(Toy(_logits(2)))
    objective = (ours.sum(1).exp() * (RIGHT.double() - beta * (ours - theirs).sum(1))).sum()
    torch.testing.assert_close(found, _gradient(policy, -objective), atol=1e-6, rtol=1e-4)


def test_ppo_follows_the_gradient_of_the_penalised_reward_whatever_the_critic_says():
    beta, policy = 0.3, Toy(_logits(1).requires_grad_(True))
    settings = _settings("ppo", beta=beta, whiten=False)
    logprobs = _of(policy).detach()
    rollouts = [
        _rollout(t, lp) for t, lp in zip(SEQUENCES.tolist(), logprobs.tolist(), strict=True)
    ]
    found = _run(settings, policy, rollouts, RIGHT.double().tolist(), logprobs.sum(1).exp())
    ours, theirs = _of(policy), _of(Toy(_logits(2)))
    objective = (ours.sum(1).exp() * (RIGHT.double() - beta * (ours - theirs).sum(1))).sum()
    torch.testing.assert_close(found, _gradient(policy, -objective) / L, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("name", "beta"), [("reinforce++", 0.3), ("ppo", 0.3)])
def test_whitened_rows_on_the_whole_population(name: str, beta: float):
    """Of a uniform policy the 4,096 completions are the population itself, so the batch's mean and
    variance are exact.

    The mean is a baseline and has no effect; what is left is the gradient of the penalised reward
    over the deviation of the advantages, computed here token by token from their definition.
    """
    policy = Toy(torch.zeros(L, V + 1, V, dtype=torch.float64, requires_grad=True))
    settings = _settings(name, beta=beta)
    logprobs = _of(policy).detach()
    rollouts = [
        _rollout(t, lp) for t, lp in zip(SEQUENCES.tolist(), logprobs.tolist(), strict=True)
    ]
    found = _run(
        settings,
        policy,
        rollouts,
        RIGHT.double().tolist(),
        torch.full((len(SEQUENCES),), V**-L, dtype=torch.float64),
    )
    ours, theirs = _of(policy), _of(Toy(_logits(2)))
    kl = (ours - theirs).detach()
    to_go = RIGHT.double()[:, None] - beta * kl.flip(1).cumsum(1).flip(1)
    if name == "ppo":
        critic = _roles(name, policy, settings).critic
        assert critic is not None
        before = torch.cat([torch.full((len(SEQUENCES), 1), V), SEQUENCES[:, :-1]], dim=1)
        to_go = to_go - critic.table[torch.arange(L), before]  # type: ignore[attr-defined]
    objective = (ours.sum(1).exp() * (RIGHT.double() - beta * (ours - theirs).sum(1))).sum()
    exact = _gradient(policy, -objective) / L / to_go.std(correction=0)
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=1e-4)


def test_reinforce_baseline_on_the_whole_population():
    """Group means of a uniform policy's completions, whitened: A(y)/σ with σ over all groups, each
    as likely as the others."""
    policy = Toy(torch.zeros(L, V + 1, V, dtype=torch.float64, requires_grad=True))
    settings = _settings("reinforce++-baseline", beta=0.0)
    order = torch.randperm(len(SEQUENCES), generator=torch.Generator().manual_seed(0))[
        : 3 * (len(SEQUENCES) // 3)
    ]
    logprobs = _of(policy).detach()
    rollouts = [_rollout(SEQUENCES[i].tolist(), logprobs[i].tolist()) for i in order.tolist()]
    rewards = RIGHT[order].double()
    found = _run(
        settings,
        policy,
        rollouts,
        rewards.tolist(),
        torch.full((len(order),), 1 / len(order), dtype=torch.float64),
    )
    centred = rewards.unflatten(0, (-1, 3)) - rewards.unflatten(0, (-1, 3)).mean(1, keepdim=True)
    advantage = (centred / centred.std(correction=0)).flatten()
    exact = _gradient(policy, -(advantage * _of(policy)[order].sum(1)).mean() / L)
    torch.testing.assert_close(found, exact, atol=1e-7, rtol=1e-4)


def test_every_row_is_in_a_test_above():
    assert set(ROWS) == {*GROUPED, "rloo", "ppo", "reinforce++", "reinforce++-baseline"}


def test_dual_and_asymmetric_clip_and_several_updates_change_what_they_say():
    """Off policy: a token far up with a good advantage has no gradient under clip, has one under
    cispo, weighted by the cap."""
    policy = Toy(_logits(1).requires_grad_(True))
    rollouts = [
        _rollout([3, 0, 0, 0], [0.0] * L),
        _rollout([0] * L, [0.0] * L),
        _rollout([1] * L, [0.0] * L),
    ]
    base = _settings("grpo", beta=0.0, aggregation="sum")
    batch = to_batch(
        rollouts,
        [Reward(1.0), Reward(0.0), Reward(0.0)],
        Roles(policy=policy),
        settings=base,
        beta=0.0,
        moments=RunningMoments(),  # type: ignore[arg-type]
    ).batch.select([0])
    now = policy.logprobs(batch).logprobs_P
    batch = batch.with_columns(old_logprobs=now.detach() - math.log(1.5))  # every ratio is 1.5
    advantage = float(batch["advantages"][0])
    direction = _gradient(policy, now.sum())

    def gradient(name: str, **changes: object) -> Tensor:
        settings = _settings(name, beta=0.0, aggregation="sum", **changes)
        return _gradient(
            policy, policy_term(policy, batch, denominator=L, sequences=1, settings=settings).loss
        )  # type: ignore[arg-type]

    assert not gradient("grpo").any()
    torch.testing.assert_close(gradient("grpo", clip_high=0.6), -1.5 * advantage * direction)
    torch.testing.assert_close(gradient("cispo"), -1.5 * advantage * direction)
    torch.testing.assert_close(gradient("cispo", clip_high=0.2), -1.2 * advantage * direction)
    torch.testing.assert_close(gradient("grpo", loss="reinforce"), -advantage * direction)
    assert not gradient("gspo").any()
    torch.testing.assert_close(gradient("gspo", clip_high=0.6), -1.5 * advantage * direction)


@pytest.mark.parametrize("name", sorted(ROWS))
def test_cutting_a_batch_changes_no_gradient(name: str):
    """Whole, in micro-batches of any size, in any order: the same gradient, completions of
    different lengths included."""
    changes = {"overlong": "none"} if name == "dapo" else {}
    policy = Toy(_logits(1).requires_grad_(True))
    settings = _settings(name, **changes)
    generator = torch.Generator().manual_seed(0)
    picked = torch.randint(0, len(SEQUENCES), (12,), generator=generator)
    logprobs = (
        _of(policy).detach() - 0.1 * torch.randn(len(SEQUENCES), L, generator=generator)
    ).tolist()
    rollouts = [_rollout(SEQUENCES[i].tolist(), logprobs[i]) for i in picked.tolist()]
    rewards = [Reward(float(i % 2)) for i in range(12)]
    batch = to_batch(
        rollouts,
        rewards,
        _roles(name, policy, settings),
        settings=settings,
        beta=0.1,
        moments=RunningMoments(),
    ).batch
    whole = _gradient(policy, sum(t().loss for t in policy_terms(policy, batch, settings=settings)))  # type: ignore[arg-type]
    for cuts in (
        [[*range(12)][::-1]],
        [[0, 5], [1, 2, 3, 4], [6, 7, 8, 11, 10, 9]],
        [[i] for i in range(12)],
    ):
        share = {"denominator": batch.trained_tokens, "sequences": len(batch), "settings": settings}
        terms = [policy_term(policy, batch.select(rows), **share) for rows in cuts]  # type: ignore[arg-type]
        torch.testing.assert_close(
            _gradient(policy, sum(t.loss for t in terms)), whole, atol=1e-12, rtol=1e-9
        )
    assert whole.abs().max() > 1e-5


@pytest.mark.parametrize("name", ["grpo", "gspo", "dapo", "rloo"])
def test_packing_changes_no_gradient_of_a_real_model(name: str):
    """Completions of several lengths, one with tokens that are not trained: prompts shared or not,
    micro-batches of any size."""
    settings = _settings(name, beta=0.0, overlong="none")
    sequences = tuple(
        TokenSequence(
            (258, 10 + i // 3),
            tuple(range(20 + i, 24 + 2 * i)),
            (True, False, *[True] * (2 + i)) if i == 2 else None,
        )
        for i in range(6)
    )
    count = Batch(sequences).trained_tokens
    generator = torch.Generator().manual_seed(0)
    columns = {"old_logprobs": -5.5 + 0.3 * torch.randn(count, generator=generator)}
    columns["advantages"] = torch.randn(6, generator=generator).repeat_interleave(
        Batch(sequences).counts_N
    )
    gradients = []
    for share, limit in ((True, 10_000), (False, 10_000), (True, 20), (False, 9)):
        view = View(load_backbone("tiny"))
        parameters = view.train_mode()
        cut = replace(settings, optimizer=Optimizer(micro_batch_tokens=limit))
        for term in policy_terms(view, Batch(sequences, columns, share), settings=cut):
            term().loss.backward()
        gradients.append([p.grad for p in parameters if p.grad is not None])
    assert max(float(g.abs().max()) for g in gradients[0]) > 1e-3
    for other in gradients[1:]:
        for a, b in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_completions_without_advantage_are_not_run_and_change_nothing():
    """The gradient with them run by hand is the same; the learner is given the live ones only."""
    policy = Toy(_logits(1).requires_grad_(True))
    settings = _settings("dr-grpo")
    logprobs = _of(policy).detach().tolist()
    rollouts = [_rollout(SEQUENCES[i].tolist(), logprobs[i]) for i in (5, 900, 1800, 7, 8, 9)]
    rewards = [Reward(r) for r in (1.0, 0.0, 1.0, 1.0, 1.0, 1.0)]
    batch = to_batch(
        rollouts,
        rewards,
        Roles(policy=policy),
        settings=settings,
        beta=0.0,
        moments=RunningMoments(),
    ).batch  # type: ignore[arg-type]
    terms = policy_terms(policy, batch, settings=settings)  # type: ignore[arg-type]
    assert [len(term.args[1]) for term in terms] == [3]  # type: ignore[attr-defined]
    whole = policy_term(
        policy, batch, denominator=batch.trained_tokens, sequences=6, settings=settings
    )  # type: ignore[arg-type]
    found = sum(term().loss for term in terms)
    torch.testing.assert_close(_gradient(policy, found), _gradient(policy, whole.loss))
