"""Agreement against worked numbers and the krippendorff package; reliability and soft labels on
skewed panels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.annotation.agreement import (
    Vote,
    first_shown_share,
    krippendorff_alpha,
    pairwise_agreement,
    votes,
)
from burnish.annotation.store import Ranking
from burnish.labels.soft import LabelOptions, Pair, comparisons, reliabilities


def _vote(item: str, annotator: str, value: float, first_shown: bool = True) -> Vote:
    return Vote(item, 0, 1, annotator, value, first_shown)


def test_a_ranking_of_k_gives_all_pairs():
    found = votes([Ranking("i", "a", (2, 0, 1), (1, 2, 2))])
    assert [(v.first, v.second, v.value, v.first_shown_earlier) for v in found] == [
        (0, 1, 1.0, True),
        (0, 2, 1.0, False),
        (1, 2, 0.5, False),
    ]


def test_pairwise_agreement_by_hand():
    found = [
        _vote("x", "a", 1),
        _vote("x", "b", 1),
        _vote("x", "c", 0),
        _vote("y", "a", 1),
        _vote("y", "b", 1),
        _vote("y", "c", 0.5),
    ]
    result = pairwise_agreement(found)
    # x: ab agree, ac and bc do not; y: ab agree, c's tie is left out
    assert result.value == pytest.approx(2 / 4)
    assert result.low <= result.value <= result.high
    assert math.isnan(pairwise_agreement([_vote("x", "a", 1)]).value)


def test_alpha_equals_the_krippendorff_package():
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, size=40)
    found, table = [], np.full((3, 80), np.nan)
    for item, right in enumerate(truth):
        for annotator in range(3):
            if rng.random() < 0.15:
                continue
            value = 0.5 if rng.random() < 0.1 else float(right if rng.random() < 0.8 else 1 - right)
            found.append(_vote(f"i{item:02d}", f"a{annotator}", value))
            # each pair both ways round
            table[annotator, item], table[annotator, 40 + item] = (
                value,
                1 - value,
            )
    alpha, warning = krippendorff_alpha(found, resamples=100)
    assert alpha.value == pytest.approx(
        krippendorff.alpha(reliability_data=table, level_of_measurement="nominal")
    )
    assert alpha.low < alpha.value < alpha.high
    assert warning is None


def test_alpha_is_1_for_perfect_and_about_0_for_random_annotators():
    perfect = [_vote(f"i{n:03d}", a, float(n % 3 == 0)) for n in range(60) for a in "ab"]
    assert krippendorff_alpha(perfect, resamples=20)[0].value == pytest.approx(1.0)
    rng = np.random.default_rng(1)
    random = [_vote(f"i{n:03d}", a, float(rng.integers(2))) for n in range(400) for a in "abc"]
    assert abs(krippendorff_alpha(random, resamples=20)[0].value) < 0.1


def test_few_items_are_warned_of():
    assert (
        "only 2 items"
        in krippendorff_alpha([_vote(i, a, 1) for i in "xy" for a in "ab"], resamples=5)[1]
    )


def test_first_shown_share():
    found = [_vote(f"i{n}", "a", 1.0, first_shown=n < 45) for n in range(50)] + [
        _vote("t", "a", 0.5)
    ]
    share, p_value = first_shown_share(found)
    assert share == pytest.approx(0.9)
    assert p_value < 1e-6


def _panel(
    accuracies: dict[str, float], pairs: int, seed: int
) -> tuple[list[Vote], dict[str, bool]]:
    rng = np.random.default_rng(seed)
    truth = {f"i{n}": bool(rng.integers(2)) for n in range(pairs)}
    found = [
        _vote(item, a, float(right if rng.random() < accuracy else not right))
        for item, right in truth.items()
        for a, accuracy in accuracies.items()
    ]
    return found, truth


def test_reliability_finds_the_accuracies():
    accuracies = {"sure": 0.95, "fair": 0.8, "poor": 0.6, "coin": 0.5}
    found, _ = _panel(accuracies, 600, 0)
    estimated = reliabilities(found)
    for name, accuracy in accuracies.items():
        assert estimated[name] == pytest.approx(accuracy, abs=0.06)


def test_reliability_equals_crowdkits_one_coin_model_in_order():
    crowdkit = pytest.importorskip("crowdkit.aggregation")
    pandas = pytest.importorskip("pandas")
    found, _ = _panel({"a": 0.9, "b": 0.75, "c": 0.6}, 400, 1)
    rows = pandas.DataFrame(
        [{"task": v.item_id, "worker": v.annotator, "label": v.value} for v in found]
    )
    theirs = crowdkit.OneCoinDawidSkene(n_iter=100).fit(rows).skills_
    ours = reliabilities(found)
    for name in "abc":
        assert ours[name] == pytest.approx(float(theirs[name]), abs=0.05)


def test_one_vote_says_little():
    assert reliabilities([_vote("x", "a", 1)])["a"] == pytest.approx((8 + 2 / 3) / 13, abs=0.01)


def soft_labels(found: list[Vote], *, reliability: dict[str, float] | None) -> dict[Pair, float]:
    return {
        pair: label.probability
        for pair, label in comparisons(found, reliability, LabelOptions()).items()
    }


def test_weighting_beats_the_majority_on_a_skewed_panel():
    found, truth = _panel(
        {"sure": 0.97, "coin1": 0.52, "coin2": 0.52, "coin3": 0.52, "coin4": 0.52}, 500, 2
    )
    weighted = soft_labels(found, reliability=reliabilities(found))
    plain = soft_labels(found, reliability=None)

    def right(labels):
        return sum((labels[item, 0, 1] > 0.5) == answer for item, answer in truth.items()) / 500

    assert right(weighted) > 0.93
    assert right(plain) < 0.85


def test_soft_labels_are_the_share_of_annotators():
    found = [_vote("x", "a", 1), _vote("x", "b", 1), _vote("x", "c", 0), _vote("x", "d", 0.5)]
    assert soft_labels(found, reliability=None)[("x", 0, 1)] == pytest.approx(2.5 / 4)
    weights = {"a": 0.9, "b": 0.5, "c": 0.8, "d": 0.5}
    wa, wc = math.log(9), math.log(4)
    assert soft_labels(found, reliability=weights)[("x", 0, 1)] == pytest.approx(
        (wa + 0.05 + 0.025) / (wa + 0.05 + wc + 0.05)
    )
