from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.data.preferences import comparisons_from_ranks, informative, merge_by_prompt
from burnish.errors import UserError
from burnish.records import Comparison, Message, PreferenceGroup, Prompt


def prompt(text: str, name: str = "p") -> Prompt:
    return Prompt(name, (Message(role="user", content=text),))


def test_a_ranking_with_a_tie_by_hand():
    """Places 2, 1, 2, 3: response 1 beats all; 0 and 2 tie; both beat 3."""
    assert comparisons_from_ranks([2, 1, 2, 3]) == (
        Comparison(0, 1, 0.0),
        Comparison(0, 2, 0.5),
        Comparison(0, 3, 1.0),
        Comparison(1, 2, 1.0),
        Comparison(1, 3, 1.0),
        Comparison(2, 3, 1.0),
    )


@given(st.lists(st.integers(1, 5), min_size=2, max_size=9))
def test_a_ranking_of_k_is_every_pair_once_and_wins_add_up_to_the_ranks(ranks):
    comparisons = comparisons_from_ranks(ranks)
    assert [(c.first, c.second) for c in comparisons] == list(combinations(range(len(ranks)), 2))
    for i, rank in enumerate(ranks):
        wins = sum(c.probability for c in comparisons if c.first == i)
        wins += sum(1 - c.probability for c in comparisons if c.second == i)
        ties = ranks.count(rank) - 1
        assert wins == sum(other > rank for other in ranks) + ties / 2


def test_pairs_that_share_a_prompt_become_one_group_with_each_response_once():
    first = PreferenceGroup(prompt("q", "1"), ("a", "b"), (Comparison(0, 1, 1.0, margin=2.0),))
    other = PreferenceGroup(prompt("other", "2"), ("a", "b"), (Comparison(0, 1, 1.0),))
    third = PreferenceGroup(prompt("q", "3"), ("c", "a"), (Comparison(0, 1, 0.25),))
    again = PreferenceGroup(prompt("q", "4"), ("b", "a"), (Comparison(0, 1, 1.0),))
    merged = merge_by_prompt([first, other, third, again])
    assert merged.items == (
        PreferenceGroup(
            prompt("q", "1"),
            ("a", "b", "c"),
            (Comparison(0, 1, 1.0, margin=2.0), Comparison(2, 0, 0.25), Comparison(1, 0, 1.0)),
        ),
        other,
    )
    assert merged.dropped == {}


def test_a_comparison_of_equal_responses_is_dropped_and_counted():
    comparisons = (Comparison(0, 1, 1.0), Comparison(0, 2, 1.0), Comparison(1, 2, 1.0))
    merged = merge_by_prompt([PreferenceGroup(prompt("q"), ("a", "b", "a"), comparisons)])
    [group] = merged.items
    assert group.responses == ("a", "b")
    assert group.comparisons == (Comparison(0, 1, 1.0), Comparison(1, 0, 1.0))
    assert merged.dropped == {"comparison of equal responses": 1}


def test_groups_without_a_preference_are_dropped_and_counted():
    tied = PreferenceGroup(prompt("tied"), ("a", "b"), (Comparison(0, 1, 0.5),))
    alone = PreferenceGroup(prompt("alone"), ("a",), ())
    good = PreferenceGroup(prompt("good"), ("a", "b"), (Comparison(0, 1, 0.0),))
    assert informative([tied, alone, good]).items == (good,)
    assert informative([tied, alone, good]).dropped == {"all tied": 1, "no comparison": 1}
    with pytest.raises(UserError, match=r"all tied: 1"):
        informative([tied])
    with pytest.raises(UserError, match="no groups"):
        informative([])
