from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from burnish.evaluation.reward_report import (
    brier,
    calibration_curve,
    expected_calibration_error,
    length_correlation,
    pairwise_accuracy,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_accuracy_by_hand():
    """Right, wrong, tie (half), undecided (left out), right: 2.5 of 4, two prompts."""
    found = pairwise_accuracy(
        [1.0, -1.0, 0.0, 9.0, -2.0], [0.9, 0.6, 1.0, 0.5, 0.0], groups=["a", "a", "b", "b", "b"]
    )
    assert (found.value, found.pairs, found.left_out, found.n) == (2.5 / 4, 4, 1, 2)
    assert found.low <= found.value <= found.high
    assert found.to_dict()["left_out"] == 1


def test_a_prompt_whose_pairs_are_all_undecided_does_not_count():
    assert pairwise_accuracy([1.0, 1.0, -1.0], [0.5, 1.0, 1.0], groups=["a", "b", "c"]).n == 2


@given(
    st.lists(
        st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])),
        min_size=1,
        max_size=30,
    )
)
def test_swapping_every_pair_changes_nothing(pairs):
    d, p = (np.array(x) for x in zip(*pairs, strict=True))
    if (p == 0.5).all():
        with pytest.raises(ValueError, match="no pair"):
            pairwise_accuracy(d, p)
        return
    assert pairwise_accuracy(d, p, resamples=50) == pairwise_accuracy(-d, 1 - p, resamples=50)
    assert brier(d, p) == pytest.approx(brier(-d, 1 - p))


def test_brier_by_hand():
    assert brier([0.0, logit(0.8)], [1.0, 0.6]) == pytest.approx((0.25 + 0.04) / 2)
    assert brier([1e4, -1e4], [1.0, 0.0]) == 0.0


def test_calibration_bins_have_equal_mass_and_are_about_the_models_choice():
    """σ(d) = 0.4 with label 0 is a choice of the second response with confidence 0.6, and right."""
    d, labels = [logit(p) for p in (0.4, 0.7, 0.2, 0.9)], [0.0, 0.5, 0.25, 1.0]
    found = calibration_curve(d, labels, bins=2)
    assert [b.count for b in found] == [2, 2]
    assert [b.predicted for b in found] == pytest.approx([(0.6 + 0.7) / 2, (0.8 + 0.9) / 2])
    assert [b.observed for b in found] == pytest.approx([(1.0 + 0.5) / 2, (0.75 + 1.0) / 2])
    assert expected_calibration_error(d, labels, bins=2) == pytest.approx((2 * 0.1 + 2 * 0.025) / 4)
    assert found[0].to_dict() == {
        "predicted": found[0].predicted,
        "observed": found[0].observed,
        "count": 2,
    }


def test_data_that_names_the_preferred_response_first_is_judged_alike():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 2, 5000)
    labels = (rng.random(5000) < 1 / (1 + np.exp(-d))).astype(float)
    chosen_first = np.where(labels == 1.0, d, -d)
    assert expected_calibration_error(chosen_first, np.ones(5000)) == pytest.approx(
        expected_calibration_error(d, labels)
    )


def test_equal_predictions_share_a_bin_so_that_a_constant_is_judged_by_its_mean():
    labels = [0.0, 1.0] * 50
    assert [b.count for b in calibration_curve(np.zeros(100), labels)] == [100]
    assert expected_calibration_error(np.zeros(100), labels) == 0.0
    assert expected_calibration_error(np.full(100, logit(0.9)), labels) == pytest.approx(0.4)


def test_a_calibrated_model_has_small_error_and_an_overconfident_one_large():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 2, 20_000)
    labels = (rng.random(20_000) < 1 / (1 + np.exp(-d))).astype(float)
    assert expected_calibration_error(d, labels) < 0.02
    assert expected_calibration_error(4 * d, labels) > 0.05


def test_length_correlation_agrees_with_scipy():
    rng = np.random.default_rng(0)
    words = rng.integers(1, 30, 60)
    scores = 0.1 * words + rng.normal(size=60)
    found = length_correlation(scores, words)
    assert found["pearson"] == pytest.approx(stats.pearsonr(scores, words).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(scores, words).statistic)


def test_within_and_across_prompts_can_disagree():
    """Prompts that ask for long answers score high, while within each prompt the shorter answer
    scores higher."""
    scores, words, groups = [2, 1, 12, 11, 22, 21], [10, 20, 110, 120, 210, 220], [0, 0, 1, 1, 2, 2]
    found = length_correlation(scores, words, groups=groups)
    assert found["pearson"] > 0.9
    assert found["spearman"] > 0.5
    assert found["pearson_within"] == pytest.approx(-1.0)
    assert found["spearman_within"] == pytest.approx(-1.0)


def test_a_constant_has_no_correlation():
    assert length_correlation([0.1, 0.1, 0.1], [1, 2, 3]) == {"pearson": None, "spearman": None}
    alone = length_correlation([0.3, 0.7], [1, 2], groups=["a", "b"])
    assert (alone["pearson_within"], alone["spearman_within"]) == (None, None)


@pytest.mark.parametrize(
    ("d", "p", "what"),
    [([], [], "equally long"), ([1.0], [1.0, 0.0], "equally long"), ([math.nan], [1.0], "finite"), ([1.0], [1.2], "between 0 and 1"), ([1.0], [math.nan], "between 0 and 1")],  # noqa: E501
)  # fmt: skip
def test_what_makes_no_sense_is_refused(d, p, what):
    with pytest.raises(ValueError, match=what):
        pairwise_accuracy(d, p)
