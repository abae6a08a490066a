"""α and κ against published worked examples and the libraries that compute them; Dawid–Skene
against crowd-kit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from burnish.statistics.coefficients import (
    Judgement,
    alpha,
    cohen_kappa,
    cohen_table,
    fleiss_kappa,
    mean_kappa,
)
from burnish.statistics.dawid_skene import dawid_skene, overlap, reliability

NA = math.nan
KRIPPENDORFF = [  # Krippendorff's example of three observers and fifteen units, with missing values
    [NA, NA, NA, NA, NA, 3, 4, 1, 2, 1, 1, 3, 3, NA, 3],
    [1, NA, 2, 1, 3, 3, 4, 3, NA, NA, NA, NA, NA, NA, NA],
    [NA, NA, 2, 1, 3, 4, 4, NA, 2, 1, 1, 3, 3, NA, 4],
]
FLEISS = [  # Fleiss's table: ten subjects, fourteen raters, five categories; κ = 0.210
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def _units(table: list[list[float]]) -> dict[str, list[list[float]]]:
    return {
        f"{i:02d}": [[row[i] for row in table if not math.isnan(row[i])]]
        for i in range(len(table[0]))
    }


@pytest.mark.parametrize(
    ("level", "value"), [("nominal", 0.691), ("ordinal", 0.807), ("interval", 0.811)]
)
def test_alpha_of_krippendorffs_example(level, value):
    estimate, warning = alpha(_units(KRIPPENDORFF), level=level, resamples=50)
    assert estimate.value == pytest.approx(value, abs=5e-4)
    assert estimate.n == 12  # units 2 and 14 have no value, unit 1 has one
    assert estimate.low <= estimate.value <= estimate.high
    assert warning is not None
    assert "only 12 items" in warning


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_equals_the_krippendorff_package_with_missing_values(level):
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(1)
    truth = rng.integers(1, 6, size=60)
    table = np.clip(truth + rng.integers(-1, 2, size=(4, 60)), 1, 5).astype(float)
    table[rng.random(table.shape) < 0.3] = np.nan
    estimate, warning = alpha(_units(table.tolist()), level=level, resamples=20)
    assert estimate.value == pytest.approx(
        krippendorff.alpha(reliability_data=table, level_of_measurement=level)
    )
    assert warning is None


def test_alpha_by_hand_and_undefined():
    # two units (a, a) and (a, b): o = [[2, 1], [1, 0]]... n = 4, n_a = 3, n_b = 1: 1 − 3 · 2 / (2 ·
    # 3 · 1) = 0
    assert alpha({"x": [[0, 0]], "y": [[0, 1]]}, resamples=10)[0].value == pytest.approx(0.0)
    same = alpha({"x": [[1, 1]], "y": [[1, 1]]}, resamples=10)[0]
    assert math.isnan(same.value)
    assert math.isnan(same.low)
    assert alpha({"x": [[1]]})[0].n == 0


def test_the_bootstrap_draws_items_with_all_their_units():
    # Two items of two units each: agreeing wholly, or not at all. A draw is (x, x), (x, y) or (y,
    # y).
    units = {"x": [[0, 0], [1, 1]], "y": [[0, 1], [1, 0]]}
    estimate, _ = alpha(units, resamples=400)
    assert estimate.high == pytest.approx(1.0)  # x twice
    # y twice: o = 8 off the diagonal... all eight values disagree: n = 8, 4 and 4: 1 − 7 · 8 / (2 ·
    # 16) = −0.75
    assert estimate.low == pytest.approx(-0.75)


def test_fleiss_of_fleisss_example():
    units = {
        f"{i}": [[float(c) for c, n in enumerate(row) for _ in range(n)]]
        for i, row in enumerate(FLEISS)
    }
    assert fleiss_kappa(units, resamples=50).value == pytest.approx(0.2099, abs=5e-5)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_cohen_equals_scikit_learn(weights):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    first = rng.integers(0, 4, size=50)
    second = np.where(rng.random(50) < 0.6, first, rng.integers(0, 4, size=50))
    expected = metrics.cohen_kappa_score(first, second, weights=weights)
    assert cohen_kappa(first.tolist(), second.tolist(), weights=weights) == pytest.approx(expected)


def test_cohen_by_hand():
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5 · 0.6 + 0.5 · 0.4 =
    # 0.5, κ = 0.4
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert math.isnan(cohen_kappa([1.0, 1.0], [1.0, 1.0]))


def test_the_table_of_cohens_weights_pairs_by_what_they_share():
    said = {"a": [0, 1, 0, 1], "b": [0, 1, 0, 1], "c": [0, 0]}
    found = cohen_table(
        [Judgement(str(i), who, v) for who, values in said.items() for i, v in enumerate(values)]
    )
    assert [(p.first, p.second, p.shared) for p in found] == [
        ("a", "b", 4),
        ("a", "c", 2),
        ("b", "c", 2),
    ]
    assert [p.kappa for p in found] == [1.0, 0.0, 0.0]  # c says 0 only: as good as chance
    assert mean_kappa(found) == pytest.approx(4 / 8)


def _skewed(seed: int) -> tuple[list[Judgement], list[int], dict[str, float]]:
    rng = np.random.default_rng(seed)
    accuracy = {"good": 0.95, "fair": 0.8, "poor": 0.55, "late": 0.9}
    truth = rng.choice(3, size=150, p=[0.5, 0.3, 0.2]).tolist()
    found = []
    for i, right in enumerate(truth):
        for who, p in accuracy.items():
            if who != "late" or i < 20:
                value = (
                    right
                    if rng.random() < p
                    else int(rng.choice([c for c in range(3) if c != right]))
                )
                found.append(Judgement(f"{i:03d}", who, float(value)))
    return found, truth, accuracy


def test_dawid_skene_equals_crowd_kit():
    aggregation = pytest.importorskip("crowdkit.aggregation")
    pandas = pytest.importorskip("pandas")
    found, _, _ = _skewed(3)
    frame = pandas.DataFrame(
        [(j.item_id, j.annotator, j.value) for j in found], columns=["task", "worker", "label"]
    )
    theirs = aggregation.DawidSkene(n_iter=200, tol=0).fit(frame)
    ours = dawid_skene(found, pseudo_votes=0.0, iterations=200, tolerance=0.0)
    for item, row in theirs.probas_.iterrows():
        assert ours.posterior[item, ""] == pytest.approx(row[[0.0, 1.0, 2.0]].to_numpy(), abs=1e-6)
    assert ours.prior_C == pytest.approx(theirs.priors_[[0.0, 1.0, 2.0]].to_numpy(), abs=1e-6)
    errors = theirs.errors_.sort_index()  # indexed by (worker, observed), columns the true label
    for who in ("good", "fair", "poor"):
        assert (
            pytest.approx(errors.loc[who][[0.0, 1.0, 2.0]].to_numpy(), abs=1e-5)
            == ours.confusion[who].T
        )


def test_dawid_skene_finds_accuracies_and_beats_the_majority():
    found, truth, accuracy = _skewed(4)
    fit = dawid_skene(found)
    for who, p in accuracy.items():
        votes = sum(j.annotator == who for j in found)
        # shrunk towards 2/3
        assert fit.accuracy(who) == pytest.approx((8 + p * votes) / (12 + votes), abs=0.07)
    right = np.mean([fit.label((f"{i:03d}", "")) == t for i, t in enumerate(truth)])
    votes = [[j.value for j in found if j.item_id == f"{i:03d}"] for i in range(len(truth))]
    majority = np.mean(
        [max(sorted(set(v)), key=v.count) == t for v, t in zip(votes, truth, strict=True)]
    )
    assert right > majority


def test_an_annotator_alone_keeps_the_prior_and_few_votes_say_little():
    alone = [Judgement(str(i), "solo", float(i % 2)) for i in range(4)]
    assert overlap(alone) == {"solo": 0}
    # 12 pseudo votes of which 8 right, and 4 votes that agree with the only evidence there is
    # (themselves)
    assert reliability(alone)["solo"] == pytest.approx((8 + 4) / (12 + 4), abs=0.1)
    both = [*alone, *(Judgement(str(i), "other", float(i % 2)) for i in range(2))]
    assert overlap(both) == {"solo": 2, "other": 2}
    assert reliability([]) == {}
