"""What the report says of a watch."""

from __future__ import annotations

from typing import Any

from burnish.evaluation.watch_report import watch_figures, watch_sentence


def _result(**watch: Any) -> dict[str, Any]:
    rows = [
        {"step": 5.0 * n, "watch/proxy": 1.0 * n, "watch/judge": 0.5, "watch/judge_se": 0.1,
            "watch/kl": 2.0 * n,
         "watch/slope": 0.4 - 0.1 * n, "watch/slope_se": 0.1}
        for n in (1, 2, 3)
    ]  # fmt: skip
    told = {
        "judge": "gold", "checks": 3, "alarms": [], "stopped_at": None, "kept_step": 15,
        "slope_share": 0.5,
        "start": {"slope": 0.6}, **watch,
    }  # fmt: skip
    return {"steps": 15, "curve": rows, "watch": told}


def test_the_sentence_says_what_happened_and_which_policy_it_is():
    quiet = watch_sentence(_result())
    assert quiet.startswith("Its watch (gold) saw no sign in 3 checks")
    assert quiet.endswith("The policy is the last.")
    alarm = {"step": 15, "why": "the reward rises alone"}
    stopped = watch_sentence(_result(alarms=[alarm], stopped_at=15, kept_step=5))
    assert "stopped it after step 15: the reward rises alone." in stopped
    assert stopped.endswith("The policy is that after step 5, which gold liked best.")
    warned = watch_sentence(_result(alarms=[alarm, alarm]))
    assert "raised 2 alarms, the first after step 15: the reward rises alone." in warned
    assert watch_sentence({"steps": 3, "curve": []}) == ""


def test_the_figures_show_reward_judge_and_alarm_along_steps_and_distance():
    figures = watch_figures(_result(alarms=[{"step": 15, "why": "x"}]), "a-")
    assert [figure.title for figure in figures] == [
        "Reward and judge",
        "Reward and judge by distance",
        "Judge's slope on the reward",
    ]
    assert "Alarm after step 15." in figures[0].caption
    assert "alarm" in figures[0].chart
    assert "alarm below 0.30" in figures[2].chart
    assert "No alarm." in watch_figures(_result(), "")[0].caption
    assert watch_figures({"curve": []}, "") == []
