"""The charts of the lab's report."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from burnish import charts
from burnish.charts import Bar, Look, Series
from burnish.evaluation.figures import Figure, drawn
from burnish.lab.fits import value
from burnish.lab.results import Curve, Findings, Results, Row
from burnish.statistics.best_of_n import kl_bound
from burnish.statistics.estimate import Estimate

_LOOKS: tuple[Look, ...] = ("main", "second", "third")
_OF_GOLD = "gold, standard deviations"


def figures(name: str, found: Findings, results: Results) -> list[Figure]:
    """Those of one experiment."""
    if name == "exact":
        return _exact(found.curves[0])
    if name == "curves":
        return drawn(*(_with_fit(curve) for curve in found.curves))
    if name == "scaling":
        return _scaling(found, results)
    if name == "mitigations":
        return _mitigations(found, results)
    return _cases(name, found, results) if name in ("noise", "length_bias") else []


def _line(name: str, x: Sequence[float], points: Sequence[Estimate], look: Look) -> Series:
    """A line with its band."""
    y, low, high = ([getattr(one, part) for one in points] for part in ("value", "low", "high"))
    return Series(name, x, y, look, low, high)


def _exact(curve: Curve) -> list[Figure]:
    x = [math.log2(n) for n in curve.x]
    bound = [kl_bound(int(n)) for n in curve.x]
    kl = [_line("exact", x, curve.lines["kl"], "main"), Series("bound", x, bound, "second")]
    scores = [
        _line("gold", x, curve.lines["gold"], "main"),
        _line("proxy", x, curve.lines["proxy"], "second"),
    ]
    titles = ("How far the best of n is", "What the best of n is worth")
    return drawn(
        (
            titles[0],
            "Exact KL beside log n − (n − 1)/n, which is an upper bound where answers can tie.",
            charts.line_chart("exact-kl", kl, title=titles[0], x_label="log₂ n", y_label="nats"),
        ),
        (
            titles[1],
            "Mean over worlds, with 95 % intervals.",
            charts.line_chart(
                "exact-gold",
                scores,
                title=titles[1],
                x_label="log₂ n",
                y_label="standard deviations",
            ),
        ),
    )


def _with_fit(curve: Curve) -> tuple[str, str, Markup | None]:
    """Proxy, gold and Gao's curve along √KL."""
    d = np.sqrt(np.asarray(curve.x))
    lines = [
        _line("gold", d.tolist(), curve.lines["gold"], "main"),
        _line("proxy", d.tolist(), curve.lines["proxy"], "second"),
    ]
    if curve.fit is not None:
        form = "best_of_n" if curve.fit.form == "best_of_n" else "rl"
        some = d[d > 0.0]
        fitted = value(some, curve.fit.alpha.value, curve.fit.beta.value, form)
        lines.append(Series("Gao's curve", some.tolist(), fitted.tolist(), "third"))
    title = curve.name.capitalize()
    name = f"curve-{curve.name.replace(' ', '-')}"
    chart = charts.line_chart(
        name, lines, title=title, x_label="d = √KL", y_label="standard deviations"
    )
    return (title, "Mean over worlds, with 95 % intervals over worlds.", chart)


def _scaling(found: Findings, results: Results) -> list[Figure]:
    pairs = results.settings["scaling"]["pairs"]
    kinds = results.settings["scaling"]["features"][-len(_LOOKS) :]
    lines = [
        _line(kind, [math.log10(one) for one in pairs], _gold(found.rows, kind), look)
        for kind, look in zip(reversed(kinds), _LOOKS, strict=False)
    ]
    title = f"Gold at a KL of {results.settings['scaling']['kl']:g}"
    caption = "By the number of labelled pairs and by what the reward model counts."
    chart = charts.line_chart(
        "scaling", lines, title=title, x_label="log₁₀ pairs", y_label=_OF_GOLD
    )
    return drawn((title, caption, chart))


def _gold(rows: Sequence[Row], kind: str) -> list[Estimate]:
    figures = [row.figures["gold"] for row in rows if row.name.startswith(f"{kind}, ")]
    return [one for one in figures if isinstance(one, Estimate)]


def _cases(name: str, found: Findings, results: Results) -> list[Figure]:
    values = results.settings[name]["flipped" if name == "noise" else "strengths"]
    lines = []
    named: tuple[tuple[str, str, Look], ...] = (
        ("gold", "at the end", "main"),
        ("peak_gold", "at its peak", "second"),
    )
    for column, label, look in named:
        points = [row.figures[column] for row in found.rows]
        lines.append(_line(label, values, [p for p in points if isinstance(p, Estimate)], look))
    title = "Gold, by the share of labels turned round"
    unit = "share of labels"
    if name == "length_bias":
        title, unit = "Gold, by the annotators' bias", "log-odds a token"
    kl = results.settings["scaling"]["kl"]
    caption = f"At a KL of {kl:g}, and at the best place on the way there."
    chart = charts.line_chart(name, lines, title=title, x_label=unit, y_label=_OF_GOLD)
    return drawn((title, caption, chart))


def _mitigations(found: Findings, results: Results) -> list[Figure]:
    cases: dict[str, list[Bar]] = {}
    for row in found.rows:
        case, _, way = row.name.partition(": ")
        gain = row.figures["gain"]
        if isinstance(gain, Estimate):
            cases.setdefault(case, []).append(Bar(way, gain.value, gain.low, gain.high))
    n = results.settings["mitigations"]["n"]
    caption = (
        f"Gold of the best of {n:,} above that of one model in the same world; the dashed line is"
        " no gain."
    )
    return drawn(
        *(
            (case.capitalize(), caption,
             charts.interval_plot(f"gains-{place}", bars, title=f"Gain: {case}", unit=_OF_GOLD))
            for place, (case, bars) in enumerate(cases.items())
        )
    )  # fmt: skip
