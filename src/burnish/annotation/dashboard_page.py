"""The dashboard as HTML: a fragment for the owner's page, and a page of its own. Plots are inline
SVG, without script or style."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from burnish.annotation.dashboard import dashboard
from burnish.annotation.snapshot import Opened, state_of, take_snapshot
from burnish.charts import Bar, Series, bar_chart, dot_plot, line_chart

_HERE = Path(__file__).parent


def fragment(found: Mapping[str, Any]) -> Markup:
    """What `dashboard` found as HTML: figures, plots and tables under `<div class="dashboard">`,
    styled by static/dashboard.css."""
    template = _environment().get_template("dashboard_fragment.html.j2")
    return Markup(template.render(found=found, plots=plots(found), **_FORMATS))


@dataclass(frozen=True, slots=True)
class Shown:
    """A fragment, the state of the project that it shows, and the seconds that it took to make."""

    state: Any
    html: Markup
    seconds: float


def cached_fragment(opened: Opened, project: str, *, patience: float = 1.0) -> tuple[Markup, bool]:
    """A project's fragment, and whether it shows the project as it is now.

    It is made anew when items or answers came in, or settings changed. Where the last one took
    longer than `patience` seconds, a thread makes the new one and the last is shown meanwhile: a
    large project's page never waits for its figures.
    """
    key, state = (str(opened.engine.url), project), state_of(opened, project)
    with _LOCK:
        known = _SHOWN.get(key)
        if known is not None and known.state == state:
            return known.html, True
        if known is not None and known.seconds > patience:
            if key not in _MAKING:
                _MAKING.add(key)
                threading.Thread(
                    target=_make, args=(opened, project, key, state), daemon=True
                ).start()
            return known.html, False
    return _make(opened, project, key, state).html, True


def _make(opened: Opened, project: str, key: tuple[str, str], state: Any) -> Shown:
    began = time.perf_counter()
    try:
        html = fragment(dashboard(take_snapshot(opened, project)))
        made = Shown(state, html, time.perf_counter() - began)
        with _LOCK:
            if len(_SHOWN) >= _MOST:
                _SHOWN.clear()
            _SHOWN[key] = made
        return made
    finally:
        with _LOCK:
            _MAKING.discard(key)


_LOCK = threading.Lock()
_MOST = 32
_SHOWN: dict[tuple[str, str], Shown] = {}
_MAKING: set[tuple[str, str]] = set()


def page(found: Mapping[str, Any]) -> str:
    """A whole page that needs nothing else: the fragment with its style sheet inside."""
    style = (_HERE / "static" / "dashboard.css").read_text()
    head = Markup(
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width,'
        ' initial-scale=1"><title>{}</title><style>{}</style></head><body'
        ' class="dashboard-page"><main><h1>{}</h1>{}</main></body></html>\n'
    )
    return str(head.format(found["project"], Markup(style), found["project"], fragment(found)))


def plots(found: Mapping[str, Any]) -> dict[str, Markup | None]:
    """The plots by name; None where there is nothing to draw."""
    return {
        "days": _days(found["days"]),
        "drift": _drift(found["drift"]["days"]),
        "models": bar_chart(
            "plot-models",
            [
                Bar(one["model"], one["win_chance"], _chance(one["strength"]["low"]),
                    _chance(one["strength"]["high"]))
                for one in found["models"]["ranking"]
            ],
            title="Chance of being preferred to an average model",
            reference=0.5,
        ),
        "annotators": dot_plot("plot-annotators", _annotator_rows(found["annotators"]),
            title="Annotators"),
        "gold": bar_chart(
            "plot-gold",
            [
                Bar(f"{one['name']} ({one['gold']['right']} of {one['gold']['n']})",
                    one["gold"]["value"], one["gold"]["low"], one["gold"]["high"])
                for one in found["annotators"]
                if one["gold"]["n"]
            ],
            title="Gold items passed",
            reference=1.0,
        ),
    }  # fmt: skip


def _days(days: Sequence[Mapping[str, Any]]) -> Markup | None:
    if len(days) < 2:
        return None
    numbers = [float(i + 1) for i in range(len(days))]
    series = [Series("people", numbers, [float(day["people"]) for day in days])]
    if any(day["models"] for day in days):
        series.append(Series("models", numbers, [float(day["models"]) for day in days], "second"))
    return line_chart(
        "plot-days", series, title="Answers a day", x_label="day with answers", y_label="answers"
    )


def _drift(days: Sequence[Mapping[str, Any]]) -> Markup | None:
    if len(days) < 2:
        return None
    from burnish.annotation.statistics.bias import wilson

    bounds = [wilson(day["agreed"], day["votes"]) for day in days]
    line = Series(
        "agreement",
        [float(i + 1) for i in range(len(days))],
        [day["agreed"] / day["votes"] for day in days],
        low=[low for low, _ in bounds],
        high=[high for _, high in bounds],
    )
    return line_chart(
        "plot-drift",
        [line],
        title="Votes that agree with the others",
        x_label="day with answers",
        y_label="agree",
        percent=True,
    )


def _annotator_rows(
    people: Sequence[Mapping[str, Any]],
) -> list[tuple[str, list[tuple[str, float, Any]]]]:
    rows = []
    for one in people:
        marks = []
        if one["reliability"] is not None:
            marks.append(("reliability", one["reliability"], "main"))
        if one["position"]["share"] is not None:
            marks.append(("first shown", one["position"]["share"], "second"))
        if marks:
            name = one["name"] if len(one["name"]) <= 18 else f"{one['name'][:17]}…"
            rows.append((name, marks))
    return rows


def _chance(strength: float | None) -> float | None:
    return None if strength is None else 1.0 / (1.0 + math.exp(-strength))


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _interval(found: Mapping[str, Any] | None, *, percent: bool = False) -> str:
    if found is None or found["value"] is None:
        return "–"
    write = _percent if percent else _number
    return f"{write(found['value'])} ({write(found['low'])} to {write(found['high'])})"


def _p_value(value: float | None) -> str:
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


_FORMATS = {"number": _number, "percent": _percent, "interval": _interval, "p_value": _p_value}


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
