"""What the report says of a watch over online training: a sentence, and the reward beside the
judge. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from burnish import charts
from burnish.charts import Series
from burnish.evaluation.figures import Figure, drawn, series
from burnish.evaluation.words import count, number, part, plain, rows_of, several

_UNIT = "standard deviations at the start"


def watch_sentence(result: Mapping[str, Any]) -> str:
    """What came of a stage's watch; empty where it has none."""
    watch = part(result, "watch")
    if not watch:
        return ""
    judge, alarms = str(watch.get("judge")), rows_of(watch, "alarms")
    kept, steps = number(watch.get("kept_step")), number(result.get("steps"))
    last = (
        "the last" if kept == steps else f"that after step {count(kept)}, which {judge} liked best"
    )
    if number(watch.get("stopped_at")) is not None:
        text = (
            f"Its watch ({judge}) stopped it after step {count(number(watch.get('stopped_at')))}:"
            f" {alarms[-1].get('why')}."
        )
    elif alarms:
        first = alarms[0]
        text = (
            f"Its watch ({judge}) raised {several(len(alarms), 'alarm')}, the first after step"
            f" {count(number(first.get('step')))}: {first.get('why')}."
        )
    else:
        text = (
            f"Its watch ({judge}) saw no sign in {several(number(watch.get('checks')), 'check')}"
            " that the reward rises and the answers get no better."
        )
    return f"{text} The policy is {last}."


def watch_figures(result: Mapping[str, Any], prefix: str) -> list[Figure]:
    """Reward and judge along the steps and along the distance, and the slope that decides."""
    watch = part(result, "watch")
    # a check that people judged later stands at its own step there; earlier runs have none
    curve = rows_of(watch, "curve") or rows_of(result, "curve")
    rows = [row for row in curve if number(row.get("watch/proxy")) is not None]
    if not watch or not rows:
        return []
    judge = str(watch.get("judge"))
    lines = [
        series(rows, "watch/proxy", "reward"),
        series(rows, "watch/judge", judge, look="second", spread="watch/judge_se"),
    ]
    alarms = [
        step for one in rows_of(watch, "alarms") if (step := number(one.get("step"))) is not None
    ]
    told = (
        " Alarm after step"
        f" {', '.join(count(step) for step in alarms[:5])}{' and later' if alarms[5:] else ''}."
        if alarms
        else " No alarm."
    )
    return drawn(
        (
            "Reward and judge",
            (
                "Fresh answers to held-out prompts, measured from the start. While both rise,"
                " training does what is wanted; where the reward rises alone, it is being hacked."
                f" The band is one standard error.{told}"
            ),
            charts.line_chart(
                f"{prefix}watch",
                [*lines, *_at(alarms[:1], lines)],
                title="Reward and judge",
                x_label="step",
                y_label=_UNIT,
            ),
        ),
        (
            "Reward and judge by distance",
            (
                "The same, by the root of the KL from the start, in which over-optimization is"
                " usually drawn."
            ),
            _by_distance(rows, judge, f"{prefix}watch-distance"),
        ),
        (
            "Judge's slope on the reward",
            (
                "What the judge gained with the reward over the last checks, with one standard"
                " error. The alarm is raised where band and line lie below the second line, a share"
                " of what it was among the answers at the start."
            ),
            _slopes(rows, watch, f"{prefix}watch-slope"),
        ),
    )


def _at(alarms: Sequence[float], lines: Sequence[Series]) -> list[Series]:
    """An upright line at the step of the first alarm."""
    values = [value for line in lines for value in line.y]
    return [Series("alarm", (step, step), (min(values), max(values)), "third") for step in alarms]


def _by_distance(rows: Sequence[Mapping[str, Any]], judge: str, name: str) -> Any:
    places = [
        (math.sqrt(max(0.0, kl)), row)
        for row in rows
        if (kl := number(row.get("watch/kl"))) is not None
    ]
    if not places:
        return None
    places.sort(key=lambda place: place[0])
    x = [distance for distance, _ in places]
    lines = [
        Series("reward", x, [float(row["watch/proxy"]) for _, row in places]),
        Series(judge, x, [float(row["watch/judge"]) for _, row in places], "second"),
    ]
    title = "Reward and judge by distance"
    return charts.line_chart(name, lines, title=title, x_label="√KL, √nats", y_label=_UNIT)


def _slopes(rows: Sequence[Mapping[str, Any]], watch: Mapping[str, Any], name: str) -> Any:
    found = series(rows, "watch/slope", "slope", spread="watch/slope_se")
    share, start = number(watch.get("slope_share")), number(part(watch, "start").get("slope"))
    if not found.x or share is None or start is None:
        return None
    limit = Series(
        f"alarm below {plain(share * start)}", found.x, [share * start] * len(found.x), "second"
    )
    return charts.line_chart(
        name, [found, limit], title="Judge's slope on the reward", x_label="step", y_label="slope"
    )
