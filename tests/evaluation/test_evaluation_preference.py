"""What the report says of preference optimisation: the sentence, the curves, and when it warns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from burnish.evaluation.preference_report import (
    preference_figures,
    preference_line,
    preference_warnings,
)
from burnish.evaluation.report import render_report
from burnish.stages.preference_findings import pair_findings


def interval(value: float, low: float, high: float, n: int = 50) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": n}


def data(**changes: Any) -> dict[str, Any]:
    found = {
        "loss": "simpo", "pairs_train": 1200, "prompts_train": 240, "steps": 3, "rounds": 1,
        "accuracy": interval(0.7, 0.62, 0.78), "accuracy_longer": interval(0.72, 0.6, 0.8),
        "accuracy_shorter": interval(0.68, 0.55, 0.8),
        "longer_wins": interval(0.4, 0.3, 0.5), "chosen_falls": interval(0.3, 0.2, 0.4),
        "both_fall": interval(0.2, 0.1, 0.3),
        "rise_chosen": interval(2.0, 1.0, 3.0), "rise_rejected": interval(-3.0, -4.0, -2.0),
        "curve": [
            {"step": i, "loss": 0.7 - i / 10, "rewards/chosen": i / 10, "rewards/rejected": -i / 10,
                "rewards/accuracies": 0.5,
             "logps/chosen": -40.0, "logps/rejected": -50.0,
             "kl_from_reference": i / 5} for i in (1, 2, 3)
        ],
    }  # fmt: skip
    return {"preference": {**found, **changes}}


def test_the_sentence():
    line = preference_line(data()) or ""
    assert line.startswith(
        "SimPO learnt from 1,200 pairs of answers to 240 prompts in 3 steps. Its rewards rank"
        " 70\u00a0% (62 to 78\u00a0%)"
    )
    assert "less likely in 30\u00a0% (20 to 40\u00a0%)" in line
    assert "in 3 rounds" in (preference_line(data(rounds=3)) or "")
    assert preference_line({}) is None


def test_nothing_to_warn_of():
    assert preference_warnings(data()) == []
    assert preference_warnings({}) == []


@pytest.mark.parametrize(
    ("both", "rise", "warned"),
    [
        (interval(0.6, 0.5, 0.7), interval(-4.0, -6.0, -2.0), True),
        (
            interval(0.4, 0.3, 0.5),
            interval(-4.0, -6.0, -2.0),
            False,
        ),  # most pairs do not sink on both sides
        (interval(0.6, 0.5, 0.7), interval(-1.0, -3.0, 1.0), False),  # the fall may be chance
    ],
)
def test_both_sides_sinking(both: dict[str, Any], rise: dict[str, Any], warned: bool):
    found = preference_warnings(data(both_fall=both, rise_chosen=rise))
    assert [w.title for w in found] == (["Better and worse answers both sink"] if warned else [])
    if warned:
        assert "60\u00a0% (50 to 70\u00a0%)" in found[0].text
        assert "4.0 (2.0 to 6.0) nats" in found[0].text


@pytest.mark.parametrize(
    ("longer", "shorter", "side"),
    [
        (interval(0.9, 0.8, 0.95), interval(0.4, 0.3, 0.55), "longer"),
        (interval(0.3, 0.2, 0.4), interval(0.8, 0.7, 0.9), "shorter"),
        (interval(0.8, 0.7, 0.9), interval(0.7, 0.6, 0.8), None),
        (
            interval(0.6, 0.4, 0.7),
            interval(0.55, 0.45, 0.65),
            None,
        ),  # nothing is learnt, by length or otherwise
    ],
)
def test_length_explaining_the_gain(
    longer: dict[str, Any], shorter: dict[str, Any], side: str | None
):
    found = preference_warnings(data(accuracy_longer=longer, accuracy_shorter=shorter))
    assert [w.title for w in found] == (["Length explains the gain"] if side else [])
    if side:
        assert f"to prefer {side} answers" in found[0].text


def test_the_page_has_the_curves_and_the_warning():
    titles = [f.title for f in preference_figures(data())]
    assert titles == [
        "Held-out pairs ranked as the annotators did",
        "Rewards",
        "Log-probabilities",
        "Pairs ranked right",
        "Preference loss",
        "Distance from the reference",
    ]
    page = render_report(
        data(both_fall=interval(0.6, 0.5, 0.7), rise_chosen=interval(-4.0, -6.0, -2.0))
    )
    assert "Better and worse answers both sink" in page
    assert "PPO: not run yet" not in page
    assert "SimPO learnt from" in page


def test_findings_by_hand():
    """Four pairs of two prompts: three right, one tied at 0; chosen answers of two fall, of one by
    rounding alone."""
    pairs = {
        "lead": np.array([1.0, 2.0, 0.0, 0.5]),
        "rise_chosen": np.array([-2.0, 1.0, -5e-4, -1.0]),
        "rise_rejected": np.array([-3.0, 0.5, -1.0, 0.2]),
        "words": np.array([3, -2, 0, 5]),
        "prompt": np.array([0, 0, 1, 1]),
    }
    found = pair_findings(pairs)
    assert found["accuracy"]["value"] == pytest.approx(3.5 / 4)
    assert found["chosen_falls"]["value"] == 0.5
    assert found["rejected_falls"]["value"] == 0.5
    assert found["both_fall"]["value"] == 0.25
    assert found["longer_wins"]["value"] == pytest.approx(2.5 / 4)
    assert found["accuracy_longer"]["value"] == 1.0
    assert found["accuracy_shorter"]["value"] == 1.0
    assert found["rise_chosen"]["value"] == pytest.approx((-2 + 1 - 5e-4 - 1) / 4)
    assert pair_findings({**pairs, "words": np.array([1, 2, 0, 5])})["accuracy_shorter"] is None
