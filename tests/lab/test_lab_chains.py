"""Chains against enumeration: every string of a tiny world listed, every figure added up by
hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from burnish.lab.chains import (
    Answers,
    expectations,
    inverse_at_kl,
    kl_of,
    moments,
    sample,
    scores_of,
    standardized,
    tilted,
)
from burnish.lab.exact import strings
from burnish.lab.reward_models import (
    Pairs,
    count,
    covariance,
    fit,
    indices,
    label,
    score,
    train,
    without_length,
)
from burnish.lab.settings import Labels, World
from burnish.lab.worlds import draw

TINY = World(vocabulary=3, max_length=4, end=0.3, onset=2)


def _listed(tokens: int, longest: int) -> Answers:
    """Every string of 1 to `longest` tokens."""
    rows, steps, lengths = [], [], []
    states = tokens + 1
    every = [s for n in range(1, longest + 1) for s in product(range(tokens), repeat=n)]
    for row, string in enumerate(every):
        before = tokens
        for t, after in enumerate((*string, tokens)):
            rows.append(row)
            steps.append((t * states + before) * states + after)
            before = after
        lengths.append(len(string))
    return Answers(np.array(rows), np.array(steps), np.array(lengths))


@pytest.fixture
def world():
    return draw(TINY, 0)


@pytest.fixture
def listed():
    return _listed(3, 4)


def test_the_policy_gives_every_string_its_chance_and_no_other(world, listed):
    chances = np.exp(scores_of(listed, world.policy_TSS))
    assert len(listed) == 3 + 9 + 27 + 81
    assert chances.sum() == pytest.approx(1.0, abs=1e-12)
    # a string of two tokens: first token, second token after it, the end
    p = np.exp(world.policy_TSS)
    two = 3 + 3 * 1 + 2  # tokens 1, 2
    assert chances[two] == pytest.approx(p[0, 3, 1] * p[1, 1, 2] * p[2, 2, 3])


def test_gold_and_moments_are_those_of_the_listed_strings(world, listed):
    chances, gold = np.exp(scores_of(listed, world.policy_TSS)), world.gold(listed)
    assert chances @ gold == pytest.approx(0.0, abs=1e-12)
    assert chances @ gold**2 == pytest.approx(1.0, abs=1e-12)
    mean, variance = moments(world.policy_TSS, world.length_TSS)
    assert mean == pytest.approx(chances @ listed.lengths_N)
    assert variance == pytest.approx(chances @ listed.lengths_N**2 - mean**2)


def test_the_optimal_policy_is_the_tilted_distribution(world, listed):
    rng = np.random.default_rng(1)
    score_TSS = rng.normal(size=world.policy_TSS.shape)
    chances, scores = np.exp(scores_of(listed, world.policy_TSS)), scores_of(listed, score_TSS)
    for inverse in (0.1, 1.0, 5.0):
        weights = chances * np.exp(inverse * scores)
        expected = weights / weights.sum()
        policies, log_z = tilted(world.policy_TSS, score_TSS, np.array([inverse]))
        assert log_z[0] == pytest.approx(np.log(weights.sum()))
        assert np.exp(scores_of(listed, policies[0])) == pytest.approx(expected, abs=1e-12)
        figures = expectations(policies, [score_TSS, world.gold_TSS, world.length_TSS])[:, 0]
        assert figures == pytest.approx(
            [expected @ scores, expected @ world.gold(listed), expected @ listed.lengths_N]
        )
        kl = (expected * np.log(expected / chances)).sum()
        assert kl_of(world.policy_TSS, score_TSS, np.array([inverse]))[0] == pytest.approx(kl)


def test_a_policy_is_found_at_each_distance_and_the_farthest_where_there_is_none(world, listed):
    wanted = np.array([0.01, 0.5, 1.5])
    inverse = inverse_at_kl(world.policy_TSS, world.gold_TSS, wanted)
    assert kl_of(world.policy_TSS, world.gold_TSS, inverse) == pytest.approx(wanted, rel=1e-6)
    best = int(world.gold(listed).argmax())
    farthest = -scores_of(listed, world.policy_TSS)[best]  # all the chance on one string
    inverse = inverse_at_kl(world.policy_TSS, world.gold_TSS, np.array([farthest + 5.0]))
    reached = kl_of(world.policy_TSS, world.gold_TSS, inverse)[0]
    assert reached == pytest.approx(farthest, abs=1e-3)


def test_samples_follow_the_policy(world, listed):
    answers = sample(world.policy_TSS, 40_000, np.random.default_rng(2))
    chances = np.exp(scores_of(listed, world.policy_TSS))
    found = np.bincount(answers.lengths_N, minlength=5)[1:] / len(answers)
    expected = np.bincount(listed.lengths_N, weights=chances)[1:]
    assert found == pytest.approx(expected, abs=5 * np.sqrt(0.25 / 40_000))
    assert world.gold(answers).mean() == pytest.approx(0.0, abs=5 / np.sqrt(40_000))
    assert len(answers.row_M) == (answers.lengths_N + 1).sum()


@pytest.mark.parametrize("kind", ["tokens", "groups", "pairs", "positions"])
def test_a_score_is_its_weights_times_the_counts(world, listed, kind):
    families = indices(kind, tokens=3, steps=5)
    counts = count(listed, families)
    weights = np.random.default_rng(3).normal(size=counts.shape[1])
    assert scores_of(listed, score(weights, families)) == pytest.approx(counts @ weights)
    per_token = {"tokens": 1, "groups": 2, "pairs": 1, "positions": 2}[kind]
    assert counts.sum(axis=1) == pytest.approx(per_token * listed.lengths_N)


def test_the_fit_is_where_the_gradient_vanishes_and_finds_planted_weights():
    rng = np.random.default_rng(4)
    planted = np.array([1.0, -0.5, 0.0, 2.0])
    features = rng.normal(size=(20_000, 4))
    preferred = (rng.random(20_000) < 1 / (1 + np.exp(-features @ planted))).astype(float)
    weights = fit(Pairs(features, preferred), l2=0.1)
    assert weights == pytest.approx(planted, abs=0.1)
    chance = 1 / (1 + np.exp(-features @ weights))
    assert features.T @ (chance - preferred) + 0.1 * weights == pytest.approx(np.zeros(4), abs=1e-4)


def test_one_pair_by_hand():
    # one feature, one pair: w = sigma(-w) / l2, solved by w = 0.5671... for l2 = 0.6394...
    weights = fit(Pairs(np.array([[1.0]]), np.array([1.0])), l2=1.0)
    assert weights[0] == pytest.approx(1 / (1 + np.exp(weights[0])))
    assert weights[0] == pytest.approx(0.4010581, abs=1e-6)


def test_labels_follow_gold_and_length_and_are_turned_round(world):
    families = indices("pairs", tokens=3, steps=5)
    plain = Labels(pairs=4000, sharpness=50.0)
    for flipped, expected in ((0.0, 1.0), (0.25, 0.75)):
        labels = plain.model_copy(update={"flipped": flipped})
        pairs = label(world, labels, families, np.random.default_rng(5))
        # refitting nearly sure labels orders pairs almost as gold does
        agreed = np.mean((pairs.features_NF @ fit(pairs, l2=0.1) > 0) == pairs.preferred_N)
        assert agreed == pytest.approx(expected, abs=0.06)
    longer = plain.model_copy(update={"sharpness": 1e-6, "length_bias": 50.0})
    pairs = label(world, longer, families, np.random.default_rng(6))
    gap = pairs.features_NF.sum(axis=1)
    assert (pairs.preferred_N[gap != 0] == (gap[gap != 0] > 0)).all()


def test_length_is_taken_off(world, listed):
    trained = train(world, Labels(pairs=200, length_bias=2.0), np.random.default_rng(7))
    chances, lengths = np.exp(scores_of(listed, world.policy_TSS)), listed.lengths_N
    scores = scores_of(listed, trained)
    expected = chances @ (scores * lengths) - (chances @ scores) * (chances @ lengths)
    assert covariance(world, trained, world.length_TSS) == pytest.approx(expected)
    shorn = without_length(world, trained)
    assert covariance(world, shorn, world.length_TSS) == pytest.approx(0.0, abs=1e-9)
    mean, variance = moments(world.policy_TSS, standardized(world.policy_TSS, trained))
    assert (mean, variance) == pytest.approx((0.0, 1.0), abs=1e-9)


def test_strings_of_one_length_are_listed_in_order():
    listed = strings(2, 3)
    assert len(listed) == 8
    score = np.zeros((4, 3, 3))
    score[:3, :, :2] = np.array([0.0, 1.0])  # counts token 1
    assert scores_of(listed, score).tolist() == [0, 1, 1, 2, 1, 2, 2, 3]
