"""Who gets what: orders, gold, quotas, disagreement and marks, against worked numbers and exact
counts."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from scipy.stats import chisquare

from burnish.annotation.assignment import (
    Open,
    agreement,
    gold_due,
    grade,
    in_order,
    is_disputed,
    quota_left,
    shuffled,
    slots_left,
)
from burnish.annotation.records import Answer


def _ranking(*ranks: int) -> Answer:
    return Answer("ranking", presented=tuple(range(len(ranks))), ranks=ranks)


def test_priority_goes_before_score_and_score_before_what_is_begun():
    items = [
        Open(1, priority=0, score=0.9, slots=3, overlap=3),
        Open(2, priority=1, score=0.0, slots=3, overlap=3),
        Open(3, priority=0, score=0.1, slots=1, overlap=3),
        Open(4, priority=0, score=0.1, slots=3, overlap=3),
    ]
    assert [item.id for item in in_order(items, annotator=7)] == [2, 1, 3, 4]


def test_annotators_start_at_different_items():
    items = [Open(n, 0, 0.0, 3, 3) for n in range(50)]
    firsts = Counter(in_order(items, annotator=a)[0].id for a in range(500))
    assert len(firsts) > 45
    assert chisquare([firsts[n] for n in range(50)]).pvalue > 0.001


@pytest.mark.parametrize("rate", [0.05, 0.1, 1 / 3, 0.5])
def test_gold_comes_at_its_rate_and_at_places_nobody_can_count(rate: float):
    met = [n for n in range(600) if gold_due(met=n, rate=rate, annotator=3)]
    assert abs(len(met) - 600 * rate) <= 1
    if rate < 0.4:
        assert len({b - a for a, b in pairwise(met)}) > 3
        assert met != [n for n in range(600) if gold_due(met=n, rate=rate, annotator=4)]


def test_no_gold_at_rate_nought():
    assert not any(gold_due(met=n, rate=0.0, annotator=1) for n in range(100))


@pytest.mark.parametrize(
    ("answered", "project", "own", "left"),
    [(3, None, None, None), (3, 5, None, 2), (3, 5, 3, 0), (9, 5, None, 0), (3, 2, 10, 7)],
)
def test_a_members_own_quota_goes_first(
    answered: int, project: int | None, own: int | None, left: int | None
):
    assert quota_left(answered=answered, project=project, own=own) == left


def test_every_order_is_as_likely_as_another():
    orders = Counter(shuffled(3, "lease", n) for n in range(6000))
    assert len(orders) == 6
    assert chisquare(list(orders.values())).pvalue > 0.001
    assert shuffled(4, "x") == shuffled(4, "x")


def test_slots_are_what_is_wanted_less_answers_and_leases():
    assert [
        slots_left(overlap=3, answers=a, leases=n) for a, n in ((0, 0), (1, 1), (2, 1), (3, 1))
    ] == [3, 1, 0, 0]


def test_agreement_by_hand():
    # Pairs of candidates (0,1), (0,2), (1,2): 123 and 132 order two of three alike, 123 and 321
    # none; 132 and 321 one.
    assert agreement([_ranking(1, 2, 3), _ranking(1, 3, 2), _ranking(3, 2, 1)]) == pytest.approx(
        (2 / 3 + 0 + 1 / 3) / 3
    )
    assert agreement([_ranking(1, 1), _ranking(1, 2)]) == 0.0
    assert agreement([_ranking(1, 2)]) is None


def test_ratings_agree_within_one_step():
    a = Answer("likert", ratings={"helpful": (1, 5), "honest": (3, 3)})
    b = Answer("likert", ratings={"helpful": (2, 3), "honest": (3, 4)})
    assert agreement([a, b]) == 0.75


def test_skips_neither_agree_nor_differ():
    skipped = Answer("ranking", skipped="other")
    assert is_disputed([_ranking(1, 2), _ranking(2, 1), skipped], below=0.5)
    assert not is_disputed([_ranking(1, 2), _ranking(1, 2), skipped], below=0.5)
    assert not is_disputed([skipped, skipped], below=0.5)


@pytest.mark.parametrize(
    ("gold", "answer", "mark"),
    [
        ({"strength": 2}, Answer("pairwise", strength=1, ranks=(1, 2)), 1.0),
        ({"strength": 2}, Answer("pairwise", strength=-1, ranks=(2, 1)), 0.0),
        ({"strength": 2}, Answer("pairwise", strength=0, ranks=(1, 1)), 0.0),
        ({"strength": 0}, Answer("pairwise", strength=0, ranks=(1, 1)), 1.0),
        ({"ranks": [1, 2, 2]}, _ranking(1, 2, 3), 1.0),  # the tie of 1 and 2 asks nothing
        ({"ranks": [1, 2, 3]}, _ranking(2, 1, 3), 2 / 3),
        ({"ratings": {"helpful": [5, 1]}}, Answer("likert", ratings={"helpful": (4, 3)}), 0.5),
        ({"flags": {"unsafe": [1]}}, Answer("pairwise", flags={"unsafe": (1,)}), 1.0),
        ({"flags": {"unsafe": [1]}}, Answer("pairwise", flags={"unsafe": (0, 1)}), 0.0),
        (
            {"strength": 1, "flags": {"unsafe": [0]}},
            Answer("pairwise", strength=1, ranks=(1, 2)),
            0.5,
        ),
        ({"strength": 1}, Answer("pairwise", skipped="other"), 0.0),
        ({}, Answer("demonstration", text="x"), 1.0),
    ],
)
def test_marks_by_hand(gold: dict, answer: Answer, mark: float):
    assert grade(gold, answer) == pytest.approx(mark)
