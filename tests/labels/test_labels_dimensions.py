"""Preferences by dimension beside the whole, and edited winners: votes and soft labels by hand."""

from __future__ import annotations

import pytest

from burnish.labels.groups import preference_groups
from burnish.labels.soft import LabelOptions
from burnish.labels.votes import votes_of
from burnish.records import LabelledItem, Message, Opinion, Prompt

ASKED = Prompt("p", (Message(role="user", content="?"),))
PLAIN = LabelOptions(weighted=False)


def _said(name: str, strength: int, *, source: str = "label", **preferences: int) -> Opinion:
    payload = {"strength": strength, "preferences": preferences}
    return Opinion("pairwise", name, None, payload, scale=2, source=source)


def _labels(item: LabelledItem, dimension: str | None = None) -> dict[tuple[str, str], float]:
    groups = preference_groups([item], LabelOptions(weighted=False, dimension=dimension))
    return {
        (g.responses[c.first], g.responses[c.second]): c.probability
        for g in groups
        for c in g.comparisons
    }


def test_the_whole_and_each_dimension_have_labels_of_their_own():
    said = (_said("ann", 2, helpful=2, harmless=-1), _said("ben", 1, helpful=0, harmless=-2))
    item = LabelledItem(ASKED, ("a", "b"), opinions=said)
    # ½ + (v − ½) g with g = |strength| / 2, the mean of both: (1 + ¾)/2; (1 + ½)/2; (¼ + 0)/2
    assert _labels(item) == {("a", "b"): pytest.approx(0.875)}
    assert _labels(item, "helpful") == {("a", "b"): pytest.approx(0.75)}
    assert _labels(item, "harmless") == {("a", "b"): pytest.approx(0.125)}
    assert _labels(item, "honest") == {}


def test_a_dimension_is_asked_of_pairs_alone_and_a_tie_is_half():
    assert votes_of("p", Opinion("ranking", "ann", (1, 2)), dimension="helpful") == []
    (vote,) = votes_of("p", _said("ann", 2, helpful=0), dimension="helpful")
    assert (vote.value, vote.grade) == (0.5, 1.0)


def test_a_decision_decides_what_it_speaks_of():
    said = (
        _said("ann", 2, helpful=2),
        _said("ben", -2, helpful=2),
        _said("rev", -2, source="adjudication"),
    )
    item = LabelledItem(ASKED, ("a", "b"), opinions=said)
    assert _labels(item) == {("a", "b"): 0.0}
    assert _labels(item, "helpful") == {("a", "b"): 1.0}


def test_reliability_on_a_dimension_is_that_of_its_own_votes():
    """Ann and ben agree on what is helpful in 20 items; cleo says the opposite there, and the same
    as they on the whole."""
    items = [
        LabelledItem(
            Prompt(f"p{n}", ASKED.messages),
            (f"a{n}", f"b{n}"),
            opinions=(
                _said("ann", 2, helpful=2),
                _said("ben", 2, helpful=2),
                _said("cleo", 2, helpful=-2),
            ),
        )
        for n in range(20)
    ]
    (first, *_) = preference_groups(items, LabelOptions(dimension="helpful"))
    assert first.comparisons[0].probability > 0.9  # unweighted it would be ⅔


def test_an_edited_winner_is_better_than_the_chosen_which_is_better_than_the_rejected():
    payload = {"strength": -1, "text": "b, better", "corrected": 1}
    item = LabelledItem(
        ASKED, ("a", "b"), opinions=(Opinion("pairwise", "ann", None, payload, scale=2),)
    )
    found = _labels(item)
    assert found == {("a", "b"): 0.25, ("b", "b, better"): 0.0, ("a", "b, better"): 0.0}
    (group,) = preference_groups([item], LabelOptions(weighted=False, strength="margin"))
    margins = {(c.first, c.second): c.margin for c in group.comparisons}
    # the edit says that it is better, and nothing of how much
    assert margins[0, 1] == pytest.approx(0.5)
    assert {margin for pair, margin in margins.items() if pair != (0, 1)} == {0.0}
    assert _labels(item, "helpful") == {}


def test_the_winner_of_a_ranking_that_was_edited_is_above_all_that_were_below_it():
    said = Opinion("ranking", "ann", (2, 1, 2), {"text": "B", "corrected": 1})
    found = _labels(LabelledItem(ASKED, ("a", "b", "c"), opinions=(said,)))
    over = {pair: p for pair, p in found.items() if "B" in pair}
    assert over == {("b", "B"): 0.0, ("a", "B"): 0.0, ("c", "B"): 0.0}
    assert found["a", "c"] == 0.5
