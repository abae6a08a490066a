"""What the findings say, in sentences: every figure with its interval over worlds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from burnish.evaluation import words
from burnish.evaluation.words import Remark, plain, with_interval
from burnish.lab.alarms import EITHER, HEALTHY
from burnish.lab.results import Findings, Results, Row
from burnish.statistics.estimate import Estimate

Figure = Estimate | float | None


def spoken(figure: Figure, digits: int = 2) -> str:
    """A figure as a cell has it: "0.61 (0.43 to 0.80)"; what has no end is ∞."""
    if figure is None:
        return "—"
    if not isinstance(figure, Estimate):
        whole = figure == round(figure) and (abs(figure) >= 1.0 or figure == 0.0)
        return plain(figure, 0 if whole else digits)
    if not math.isfinite(figure.value):
        return "∞"
    if math.isinf(figure.low) or math.isinf(figure.high):
        low = "−∞" if math.isinf(figure.low) else plain(figure.low, digits)
        high = "∞" if math.isinf(figure.high) else plain(figure.high, digits)
        return f"{plain(figure.value, digits)} ({low} to {high})"
    return with_interval(words.Interval(figure.value, figure.low, figure.high, figure.n), digits)


def signed(figure: Figure) -> str:
    """`spoken` with a plus sign before what is above 0."""
    text, value = spoken(figure), figure.value if isinstance(figure, Estimate) else figure
    return f"+{text}" if value is not None and value > 0.0 else text


def sentences(results: Results) -> list[Remark]:
    """One for each experiment."""
    return [
        Remark(_TITLES[name], _TEXTS[name](findings, results))
        for name, findings in results.experiments.items()
    ]


def headline(results: Results) -> str:
    """What the curves say, in one line."""
    curves = results.experiments.get("curves")
    if curves is None:
        return "Over-optimization, measured"
    (rl, _), facts = curves.curves, curves.facts
    gold = [point.value for point in rl.lines["gold"]]
    place = max(range(len(gold)), key=gold.__getitem__)
    if place == len(gold) - 1:
        return f"Gold rises to the end, at a KL of {plain(rl.x[-1], 1)}"
    fell = isinstance(facts["last_gold"], Estimate) and facts["last_gold"].high < gold[place]
    rest = "falls" if fell else "stays"
    return f"Gold peaks at a KL of {plain(rl.x[place], 1)} and {rest} while the proxy rises"


def _exact(found: Findings, results: Results) -> str:
    (curve,), facts = found.curves, found.facts
    return (
        f"In worlds of {spoken(facts['strings'])} strings the best of {curve.x[-1]:,.0f} is"
        f" {spoken(curve.lines['kl'][-1])} nats away; its proxy is"
        f" {spoken(curve.lines['proxy'][-1])}, its gold {spoken(curve.lines['gold'][-1])}. Of 8"
        " outcomes that are equally likely, the best of 64 is"
        f" {spoken(facts['uniform_8_of_64_kl'], 3)} nats away, and log n − (n − 1)/n says"
        f" {spoken(facts['uniform_8_of_64_bound'], 3)}: with ties the formula is only a bound."
    )


def _curves(found: Findings, results: Results) -> str:
    (rl, best), facts = found.curves, found.facts
    text = (
        f"The reward model orders {spoken(facts['accuracy'])} of pairs as gold does. Along"
        f" reinforcement learning the highest gold of a world is {spoken(facts['peak_gold'])}; at a"
        f" KL of {plain(rl.x[-1], 1)} it is {spoken(facts['last_gold'])}, while the proxy is at"
        f" {spoken(rl.lines['proxy'][-1])}."
    )
    if rl.fit is not None:
        text += f" Gao's curve d (α − β log d) has its peak at d = {spoken(rl.fit.peak)}."
    if best.fit is not None:
        text += f" For best-of-n, d (α − β d) has it at d = {spoken(best.fit.peak)}."
    return text


def _ends(found: Findings, results: Results) -> str:
    first, last = found.rows[0], found.rows[-1]
    return (
        f"At a KL of {results.settings['scaling']['kl']:g}, gold is {spoken(first.figures['gold'])}"
        f" with {first.name} and {spoken(last.figures['gold'])} with {last.name}; the answers are"
        f" {spoken(first.figures['length'], 1)} and {spoken(last.figures['length'], 1)} tokens"
        " long."
    )


def _scaling(found: Findings, results: Results) -> str:
    labels = results.settings["labels"]
    kind = labels["features"]
    own = [row for row in found.rows if row.name.startswith(f"{kind}, ")] or list(found.rows)
    text = (
        f"At a KL of {results.settings['scaling']['kl']:g}, gold is"
        f" {spoken(own[0].figures['gold'])} with {own[0].name} and"
        f" {spoken(own[-1].figures['gold'])} with {own[-1].name}"
    )
    rank = found.facts.get(f"spearman_{kind}")
    return f"{text}; Spearman's correlation of pairs with gold is {spoken(rank)}."


def _mitigations(found: Findings, results: Results) -> str:
    gains = {row.name: row.figures["gain"] for row in found.rows}
    helped = [
        f"{name} {signed(gain)}"
        for name, gain in gains.items()
        if isinstance(gain, Estimate) and gain.low > 0.0
    ]
    n = results.settings["mitigations"]["n"]
    told = "; ".join(helped) or "nothing, beyond chance"
    return f"Gold of the best of {n:,}, above one model's. What helped: {told}."


def _alarms(found: Findings, results: Results) -> str:
    told, loss = [], results.settings["alarms"]["loss"]
    for row in found.rows:
        kind, _, alarm = row.name.partition(": ")
        if alarm == EITHER:
            told.append(f"{kind}: {_rings(kind, row, loss)}")
    return f"Alarm A (fresh labels) or B (length). {'; '.join(told)}."


def _rings(kind: str, row: Row, loss: float) -> str:
    counts = {name: f"{value:.0f}" for name, value in row.figures.items() if value is not None}
    if kind == HEALTHY:
        return f"a false alarm in {counts['rang']} of {counts['worlds']} worlds"
    return (
        f"caught in {counts['in_time']} of {counts['worlds']} before gold had lost {100 * loss:g} %"
        f" of its peak, in {counts['by_peak']} by the peak"
    )


_TITLES: Mapping[str, str] = {
    "exact": "Best of n, exactly",
    "curves": "Gold and proxy on the way",
    "scaling": "More labels, larger reward models",
    "noise": "Labels turned round",
    "length_bias": "Annotators who like length",
    "mitigations": "What helps",
    "alarms": "What warns",
}
_TEXTS: Mapping[str, Callable[[Findings, Results], str]] = {
    "exact": _exact,
    "curves": _curves,
    "scaling": _scaling,
    "noise": _ends,
    "length_bias": _ends,
    "mitigations": _mitigations,
    "alarms": _alarms,
}
