"""Best-worst choices and rubrics: votes, scores and rewards by hand."""

from __future__ import annotations

import math

import pytest

from burnish.labels.groups import preference_groups
from burnish.labels.rubrics import rewards
from burnish.labels.scores import score
from burnish.labels.soft import LabelOptions
from burnish.labels.votes import ranks_in, votes_of
from burnish.records import LabelledItem, Message, Opinion, Prompt

ASKED = Prompt("p", (Message(role="user", content="?"),))


def _chosen(name: str, best: int, worst: int, count: int = 4) -> Opinion:
    ranks = tuple(1 if at == best else 3 if at == worst else 2 for at in range(count))
    return Opinion("best_worst", name, ranks, {"best": best, "worst": worst})


def _judged(name: str, verdicts: list[list[bool]], source: str = "label") -> Opinion:
    payload = {"verdicts": verdicts, "weights": [3.0, 1.0, -2.0]}
    return Opinion("rubric", name, None, payload, source=source)


def test_a_best_and_a_worst_say_nothing_of_those_between():
    votes = {(v.first, v.second): v.value for v in votes_of("p", _chosen("ann", 1, 3))}
    # of six pairs five: 0 and 2 stand between
    assert votes == {(0, 1): 0.0, (0, 3): 1.0, (1, 2): 1.0, (1, 3): 1.0, (2, 3): 1.0}
    item = LabelledItem(ASKED, (*"abcd",), opinions=(_chosen("ann", 1, 3), _chosen("ben", 0, 3)))
    (group,) = preference_groups([item], LabelOptions(weighted=False))
    labels = {
        (group.responses[c.first], group.responses[c.second]): c.probability
        for c in group.comparisons
    }
    assert labels == {
        ("a", "b"): 0.5, ("a", "c"): 1.0, ("a", "d"): 1.0, ("b", "c"): 1.0, ("b", "d"): 1.0,
        ("c", "d"): 1.0,
    }  # fmt: skip


def test_a_score_is_the_weight_that_is_met_of_what_can_be_gained():
    weights = (3.0, 1.0, -2.0)
    verdicts = ((True, False, True), (True, True, False), (False, True, True))
    # (3 + 1) / 4; (1 − 2) / 4; (3 − 2) / 4
    assert [score(verdicts, weights, at) for at in range(3)] == [1.0, -0.25, 0.25]
    opinion = _judged("ann", [list(row) for row in verdicts])
    assert ranks_in(opinion) == (-1.0, 0.25, -0.25)
    votes = {(v.first, v.second): v.value for v in votes_of("p", opinion)}
    assert votes == {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 0.0}


def test_one_candidate_has_a_reward_and_no_votes():
    one = _judged("ann", [[True], [False], [False]])
    assert votes_of("p", one) == []
    assert rewards([one]) == (0.75,)


def test_rewards_are_means_over_annotators_by_their_reliability_and_a_decision_goes_before():
    ann = _judged("ann", [[True, False], [True, False], [False, False]])  # 1, 0
    ben = _judged("ben", [[True, True], [False, True], [False, True]])  # ¾, ½
    assert rewards([ann, ben]) == (0.875, 0.25)
    weights = [math.log(0.9 / 0.1), math.log(0.6 / 0.4)]
    expected = (weights[0] + 0.75 * weights[1]) / sum(weights)
    weighted = rewards([ann, ben], {"ann": 0.9, "ben": 0.6})
    assert weighted is not None
    assert weighted[0] == pytest.approx(expected)
    decided = _judged("rev", [[False, True], [False, False], [True, False]], "adjudication")
    assert rewards([ann, ben, decided]) == (-0.5, 0.75)
    assert rewards([_chosen("ann", 0, 1)]) is None
