"""Active selection against brute force and arithmetic; and that it beats chance where it must."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from burnish.annotation.selection import (
    assign_scores,
    choose,
    d_optimal,
    disagreement,
    fit,
    item_scores,
    uncertainty,
)
from burnish.annotation.snapshot import add_labelled
from burnish.annotation.store import Store
from burnish.errors import UserError
from burnish.records import LabelledItem, Prompt


def test_the_fit_is_the_mode_and_the_hessian():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.random(40)

    def loss(theta: np.ndarray) -> float:
        z = x @ theta
        return float(np.sum(np.logaddexp(0, z) - y * z) + 0.7 / 2 * theta @ theta)

    found = fit(x, y, prior_precision=0.7)
    best = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert found.mean_F == pytest.approx(best, abs=1e-5)
    step = 1e-4
    for i in range(3):
        e = np.eye(3)[i] * step
        second = (loss(best + e) - 2 * loss(best) + loss(best - e)) / step**2
        assert found.precision_FF[i, i] == pytest.approx(second, rel=1e-3)
    assert fit(np.zeros((0, 2)), np.zeros(0)).precision_FF == pytest.approx(np.eye(2))


def test_d_optimal_gains_the_most_determinant_at_every_step():
    rng = np.random.default_rng(1)
    seen, pool = rng.normal(size=(5, 3)), rng.normal(size=(12, 3))
    posterior = fit(seen, (rng.random(5) < 0.5).astype(float))
    p = 1 / (1 + np.exp(-pool @ posterior.mean_F))
    precision, left, expected = posterior.precision_FF.copy(), list(range(12)), []
    for _ in range(4):  # by brute force: the log determinant of each next precision
        gains = [
            np.linalg.slogdet(precision + p[i] * (1 - p[i]) * np.outer(pool[i], pool[i]))[1]
            for i in left
        ]
        best = left.pop(int(np.argmax(gains)))
        expected.append(best)
        precision += p[best] * (1 - p[best]) * np.outer(pool[best], pool[best])
    assert d_optimal(pool, posterior, 4) == expected
    assert sorted(d_optimal(pool, posterior, 99)) == list(range(12))


def test_a_batch_does_not_ask_the_same_twice():
    # ¼ dᵀΣd: 1, 0.9025 and 0.5625. After the first Σ₀₀ is 1 / (1 + 1): the second falls to 0.451,
    # below the third.
    pool = np.array([[2.0, 0.0], [1.9, 0.0], [0.0, 1.5]])
    assert d_optimal(pool, fit(np.zeros((0, 2)), np.zeros(0)), 2) == [0, 2]


def test_disagreement_is_mutual_information_by_hand():
    # Two members sure of opposite sides: ln 2. Two that both call it a draw: nothing to learn.
    assert disagreement(np.array([[1.0, 0.5], [0.0, 0.5]])) == pytest.approx(
        [math.log(2), 0.0], abs=1e-9
    )
    h = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert disagreement(np.array([[0.9], [0.1]])) == pytest.approx([math.log(2) - h])


def test_uncertainty_is_highest_for_a_draw():
    assert uncertainty(np.array([[1.0, -1.0], [3.0, 0.0]]), np.array([1.0, 1.0])).tolist() == [
        0.0,
        -3.0,
    ]


def test_item_scores_of_an_ensemble_by_hand():
    sure, split = [np.array([5.0, 0.0])] * 2, [np.array([30.0, 0.0]), np.array([0.0, 30.0])]
    found = item_scores({"sure": sure, "split": split})
    assert found == {
        "sure": pytest.approx(0.0, abs=1e-9),
        "split": pytest.approx(math.log(2), abs=1e-6),
    }


@pytest.mark.parametrize("strategy", ["random", "uncertainty", "disagreement", "d-optimal"])
def test_every_strategy_chooses_distinct_pairs(strategy):
    rng = np.random.default_rng(2)
    pool = rng.normal(size=(30, 4))
    posterior = fit(pool[:5], np.ones(5))
    chosen = choose(strategy, pool, posterior, 10, rng=np.random.default_rng(0))
    assert len(set(chosen)) == 10
    assert chosen == choose(strategy, pool, posterior, 10, rng=np.random.default_rng(0))


def test_d_optimal_learns_faster_where_most_pairs_say_nothing():
    """95 of 100 pairs hardly differ; the labels of the other five decide. Random finds few of
    them."""
    rng = np.random.default_rng(3)
    theta = np.array([2.0, -1.0, 0.5])
    pool = rng.normal(size=(400, 3)) * np.where(rng.random(400) < 0.05, 2.0, 0.05)[:, None]
    labels = (rng.random(400) < 1 / (1 + np.exp(-pool @ theta))).astype(float)
    test = rng.normal(size=(500, 3))
    right = {}
    for strategy in ("random", "d-optimal"):
        chosen = choose(strategy, pool, fit(pool[:0], labels[:0]), 15, rng=np.random.default_rng(4))
        mean = fit(pool[chosen], labels[chosen]).mean_F
        right[strategy] = ((test @ mean > 0) == (test @ theta > 0)).mean()
    assert right["d-optimal"] > right["random"] + 0.05


def test_scores_order_the_items_that_are_offered(tmp_path: Path):
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from burnish.annotation.tables import Item

    store = Store(tmp_path / "s.sqlite")
    add_labelled(
        store,
        "p",
        [LabelledItem(Prompt(n, ({"role": "user", "content": n},)), ("a", "b")) for n in "xyz"],
    )
    assert assign_scores(store, "p", {"y": 0.9, "z": 0.1}) == 2
    with Session(store.engine) as session:
        assert dict(session.execute(select(Item.external_id, Item.score)).tuples().all()) == {
            "x": 0.0,
            "y": 0.9,
            "z": 0.1,
        }
    with pytest.raises(UserError, match='no item "w"'):
        assign_scores(store, "p", {"w": 1.0})
    with pytest.raises(UserError, match="not a finite number"):
        assign_scores(store, "p", {"x": math.nan})
