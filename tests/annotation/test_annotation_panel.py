"""Simulated annotators have exactly the weaknesses they are said to have, and label the same way
after a kill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from burnish.annotation.panel import Persona, default_panel, label_items, rank
from burnish.annotation.store import Store
from burnish.records import Prompt

NAMES = ("good", "long")


def _first_wins(persona: Persona, utilities: list[float], trials: int = 4000) -> int:
    """How often response 0 beats response 1."""
    rng = np.random.default_rng(0)
    properties = np.array([[u, 0.0] for u in utilities])
    ranks = [
        rank(properties_KF=properties, names=NAMES, persona=persona, rng=rng)[1]
        for _ in range(trials)
    ]
    return sum(r[0] < r[1] for r in ranks)


def test_noise_makes_choices_bradley_terry():
    """P(0 beats 1) = σ(Δ/noise)."""
    wins = _first_wins(Persona("a", {"good": 1.0}, noise=0.2), [0.6, 0.5])
    expected = 1 / (1 + np.exp(-0.1 / 0.2))
    assert binomtest(wins, 4000, expected).pvalue > 0.001
    assert binomtest(wins, 4000, 0.5).pvalue < 1e-6


def test_without_noise_the_better_always_wins():
    assert _first_wins(Persona("a", {"good": 1.0}, noise=0.0), [0.51, 0.5], 200) == 200


def test_a_lapsing_annotator_is_right_half_of_the_lapses():
    wins = _first_wins(Persona("a", {"good": 1.0}, noise=0.0, lapse=0.4), [0.9, 0.1])
    assert binomtest(wins, 4000, 0.8).pvalue > 0.001


@pytest.mark.parametrize(("bias", "low", "high"), [(0.0, 0.45, 0.55), (0.1, 0.6, 0.9)])
def test_position_bias_favours_what_is_shown_first(bias: float, low: float, high: float):
    persona, rng = (
        Persona("a", {"good": 1.0}, noise=0.1, position_bias=bias),
        np.random.default_rng(0),
    )
    first = 0
    for _ in range(1000):
        presented, ranks = rank(
            properties_KF=np.full((2, 2), 0.5), names=NAMES, persona=persona, rng=rng
        )
        first += ranks[presented[0]] < ranks[presented[1]]
    assert low < first / 1000 < high


def test_close_responses_share_a_rank():
    persona = Persona("a", {"good": 1.0}, noise=0.0, tie_margin=0.05)
    properties = np.array([[0.50, 0], [0.90, 0], [0.52, 0], [0.1, 0]])
    assert rank(
        properties_KF=properties, names=NAMES, persona=persona, rng=np.random.default_rng(0)
    )[1] == (2, 1, 2, 4)


def test_the_panel_differs_from_gold_and_among_itself():
    panel = default_panel({"good": 1.0, "long": 0.5}, size=7, seed=3)
    assert len({p.name for p in panel}) == 7
    assert len({tuple(p.weights.values()) for p in panel}) == 7
    assert all(0.5 <= p.weights["good"] <= 1.5 and 0.25 <= p.weights["long"] <= 0.75 for p in panel)
    assert panel == default_panel({"good": 1.0, "long": 0.5}, size=7, seed=3)


class _Killed(Exception):
    pass


def _labelled(path: Path, *, die_after: int | None = None) -> list:
    store = Store(path)
    store.add_project("p")
    store.add_items(
        "p",
        [
            (Prompt(f"i{n}", ({"role": "user", "content": "?"},)), ["a", "b", "c"])
            for n in range(12)
        ],
    )
    submitted = 0
    submit = store.submit

    def counting(*arguments: object, **options: object) -> None:
        nonlocal submitted
        if submitted == die_after:
            raise _Killed
        submitted += 1
        submit(*arguments, **options)

    store.submit = counting
    panel = default_panel({"good": 1.0}, size=4, seed=0)

    def properties(task):
        return np.array([[(hash_of(task.item_id, c) % 97) / 97, 0] for c in task.candidates])

    try:
        label_items(store, "p", panel, properties, NAMES, annotators_per_item=3, seed=5)
    except _Killed:
        return []
    finally:
        found = store.rankings("p")
        store.close()
    return found


def hash_of(*parts: str) -> int:
    return sum(ord(c) * 31**i for i, c in enumerate("".join(parts)))


def test_a_labelling_that_was_killed_ends_like_one_that_was_not(tmp_path: Path):
    whole = _labelled(tmp_path / "whole.sqlite")
    assert len(whole) == 12 * 3
    assert _labelled(tmp_path / "killed.sqlite", die_after=17) == []
    assert _labelled(tmp_path / "killed.sqlite") == whole
    load = [sum(r.annotator == name for r in whole) for name in {r.annotator for r in whole}]
    assert load == [9, 9, 9, 9]
