"""Charts as inline SVG: no script, no network, readable by screen readers, coloured by the page's
style sheet.

A mark's look is a CSS class (`main`, `second`, `third`), which the template maps to colours that
differ in lightness, so that they stay apart for every kind of colour vision and in print; series
differ in dashes or marker shape as well. Charts are drawn small (440 units wide) and shown at about
that size, so that their text stays readable on a phone. Every text is escaped.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Look = Literal["main", "second", "third"]
Format = Callable[[float], str]

_WIDTH, _HEIGHT = 440.0, 250.0
_CHARACTER, _SAMPLE, _FEWEST_LETTERS = 6.6, 36.0, 8  # of a legend: of text, before it, at least
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 30.0, 36.0
_MOST_POINTS = 120


@dataclass(frozen=True, slots=True)
class Series:
    """A line: points with finite x and y in order of x; `low` and `high`, where given, bound a band
    around it.

    `faint` draws it thin and pale and leaves it out of the legend: the raw values under a smoothed
    line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    look: Look = "main"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    faint: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval (None: no interval known)."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    look: Look = "main"


@dataclass(frozen=True, slots=True)
class Point:
    """A mark with the text that hovering shows. `weight` in [0, 1] sets its size or strength."""

    x: float
    y: float
    text: str
    weight: float = 1.0


def line_chart(
    name: str,
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    percent: bool = False,
) -> Markup | None:
    """Lines over a common x axis; None if there is nothing to draw. Series longer than 120 points
    are shown as means of runs."""
    lines = [thinned(one) for one in series if len(one.x)]
    if not lines:
        return None
    spoken = number_format([y for one in lines for y in one.y], percent=percent, digits=3)
    everything = [value for one in lines for value in (*one.y, *(one.low or ()), *(one.high or ()))]
    across = _Scale.exact([x for one in lines for x in one.x], _LEFT, _WIDTH - _RIGHT)
    up = _Scale.tidy(everything, _HEIGHT - _BOTTOM, _TOP)
    marks = [mark for one in lines for mark in _line(one, across, up, spoken, x_label)]
    shown = [one for one in lines if not one.faint]
    named = shown if len(shown) > 1 else []
    room = _WIDTH - _CHARACTER * len(y_label)
    legend = _legend([(one.name, one.look) for one in named], room=room)
    desc = "; ".join(f"{one.name}: from {spoken(one.y[0])} to {spoken(one.y[-1])}" for one in shown)
    return _svg(
        name,
        title,
        f"{desc}.",
        [*_axes(across, up, x_label, y_label, percent=percent), *marks, legend],
    )


def calibration_plot(
    name: str, bins: Sequence[tuple[float, float, int]], *, title: str
) -> Markup | None:
    """Observed share against mean confidence for each bin (predicted, observed, count), beside the
    diagonal of perfect calibration."""
    if not bins:
        return None
    across = _Scale.tidy([0.5, 1.0, *(p for p, _, _ in bins)], _LEFT, _WIDTH - _RIGHT)
    up = _Scale.tidy([0.5, 1.0, *(o for _, o, _ in bins)], _HEIGHT - _BOTTOM, _TOP)
    corner = max(across.low, up.low)
    most = max(count for _, _, count in bins)
    marks = [_segment("reference", across(corner), up(corner), across(1.0), up(1.0))]
    marks += [_path("line main", [(across(p), up(o)) for p, o, _ in bins])]
    for predicted, observed, count in bins:
        text = f"{_percent(predicted)} sure, {_percent(observed)} right ({count} pairs)"
        marks.append(
            _dot(
                "mark main",
                across(predicted),
                up(observed),
                3.0 + 3.0 * math.sqrt(count / most),
                text,
            )
        )
    gap = sum(abs(p - o) * count for p, o, count in bins) / sum(count for _, _, count in bins)
    axes = _axes(
        across, up, "how sure it is", "how often it is right", percent_x=True, percent=True
    )
    return _svg(
        name,
        title,
        f"{len(bins)} bins, on average {_percent(gap)} away from perfect calibration.",
        [*axes, *marks],
    )


def scatter(
    name: str, points: Sequence[Point], *, title: str, x_label: str, y_label: str
) -> Markup | None:
    """Points joined by a thin line in the order given, from pale (weight 0) to strong (weight
    1)."""
    if not points:
        return None
    across = _Scale.tidy([p.x for p in points], _LEFT, _WIDTH - _RIGHT)
    up = _Scale.tidy([p.y for p in points], _HEIGHT - _BOTTOM, _TOP)
    marks = [_path("line faint main", [(across(p.x), up(p.y)) for p in points])]
    for p in points:
        opacity = 0.15 + 0.75 * p.weight
        marks.append(_dot("mark main", across(p.x), up(p.y), 3.5, p.text, opacity=opacity))
    return _svg(
        name, title, f"{len(points)} points.", [*_axes(across, up, x_label, y_label), *marks]
    )


def bar_chart(name: str, bars: Sequence[Bar], *, title: str, reference: float) -> Markup | None:
    """Horizontal bars of shares with error bars, each under its name; `reference` is marked by a
    dashed line (a coin's 50 %)."""
    if not bars:
        return None
    row, top, foot = 44.0, 6.0, 26.0
    height = top + row * len(bars) + foot
    across = _Scale(0.0, 1.0, 0.0, _WIDTH - 1.0)
    ticks = across.ticks(5)
    marks = [_segment("grid", across(t), top, across(t), height - foot) for t in ticks]
    marks += [
        _text(
            "tick" + {0: "", len(ticks) - 1: " end"}.get(i, " middle"),
            across(t),
            height - foot + 16,
            _percent(t),
        )
        for i, t in enumerate(ticks)
    ]
    spoken, labels = [], []
    for place, bar in enumerate(bars):
        y = top + row * place
        said = _percent(bar.value) + (
            f" ({100 * bar.low:.0f} to {_percent(bar.high)})" if bar.low is not None else ""
        )
        spoken.append(f"{bar.name}: {said}")
        shape = Markup(
            '<rect class="bar {}" x="0" y="{:.1f}" width="{:.1f}" height="12" rx="2"><title>{}:'
            " {}</title></rect>"
        )
        marks.append(shape.format(bar.look, y + 21, across(bar.value), bar.name, said))
        if bar.low is not None and bar.high is not None:
            labels.append(_segment("whisker", across(bar.low), y + 27, across(bar.high), y + 27))
            labels += [
                _segment("whisker", across(end), y + 23, across(end), y + 31)
                for end in (bar.low, bar.high)
            ]
        labels += [_text("label", 0.0, y + 15, bar.name), _text("value end", _WIDTH, y + 15, said)]
    marks += [
        _segment("reference", across(reference), top, across(reference), height - foot),
        *labels,
    ]
    return _svg(name, title, "; ".join(spoken) + ".", marks, height=height)


def dot_plot(
    name: str, rows: Sequence[tuple[str, Sequence[tuple[str, float, Look]]]], *, title: str
) -> Markup | None:
    """One line for each row from 0 to 100 %, with a mark for each (name, value, look) on it: what
    moved, and how far."""
    if not rows:
        return None
    height_of_row, left = 30.0, 124.0
    height = _TOP + height_of_row * len(rows) + 26.0
    across = _Scale(0.0, 1.0, left, _WIDTH - 16.0)
    marks = [_segment("grid", across(t), _TOP, across(t), height - 24) for t in across.ticks(4)]
    marks += [_text("tick middle", across(t), height - 8, _percent(t)) for t in across.ticks(4)]
    for place, (label, values) in enumerate(rows):
        y = _TOP + height_of_row * (place + 0.5)
        if values:
            marks.append(
                _segment(
                    "rail",
                    across(min(v for _, v, _ in values)),
                    y,
                    across(max(v for _, v, _ in values)),
                    y,
                )
            )
        marks.append(_text("label", 0.0, y + 4, label))
        marks += [
            _marker(look, across(value), y, f"{label}, {who}: {_percent(value)}")
            for who, value, look in values
        ]
    names: dict[tuple[str, Look], None] = {
        (who, look): None for _, values in rows for who, _, look in values
    }
    spoken = "; ".join(
        f"{label}: " + ", ".join(f"{who} {_percent(v)}" for who, v, _ in values)
        for label, values in rows
    )
    return _svg(
        name, title, f"{spoken}.", [*marks, _legend(list(names), markers=True)], height=height
    )


def interval_plot(
    name: str, bars: Sequence[Bar], *, title: str, unit: str, reference: float = 0.0
) -> Markup | None:
    """A mark with its interval for each value, each under its name, on a scale of their own;
    `reference` is marked by a dashed line."""
    if not bars:
        return None
    row, top, foot = 34.0, 6.0, 40.0
    height, room = top + row * len(bars) + foot, 52.0
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    across = _Scale.tidy([*ends, reference], 8.0, _WIDTH - room)
    spoken = number_format(ends, digits=3)
    ticks = across.ticks(5)
    write = number_format([0.0, ticks[1] - ticks[0]] if len(ticks) > 1 else ticks, digits=1)
    marks = [_segment("grid", across(t), top, across(t), height - foot) for t in ticks]
    marks += [_text("tick middle", across(t), height - foot + 16, write(t)) for t in ticks]
    marks.append(_segment("reference", across(reference), top, across(reference), height - foot))
    told = []
    for place, bar in enumerate(bars):
        y, text = top + row * place + 24.0, f"{bar.name}: {spoken(bar.value)}"
        if bar.low is not None and bar.high is not None:
            marks.append(_segment("whisker", across(bar.low), y, across(bar.high), y))
            text += f" ({spoken(bar.low)} to {spoken(bar.high)})"
        marks.append(_marker(bar.look, across(bar.value), y, text))
        marks += [_text("label", 0.0, y - 11, bar.name)]
        marks.append(_text("value end", _WIDTH, y + 4, spoken(bar.value)))
        told.append(text)
    marks.append(_text("unit end", _WIDTH - room, height - 6, unit))
    return _svg(name, title, "; ".join(told) + ".", marks, height=height)


def thinned(series: Series, *, most: int = _MOST_POINTS) -> Series:
    """The series with at most `most` points: runs of neighbours replaced by their means."""
    run = math.ceil(len(series.x) / most)
    if run <= 1:
        return series

    def means(values: Sequence[float]) -> list[float]:
        return [
            sum(values[i : i + run]) / len(values[i : i + run]) for i in range(0, len(values), run)
        ]

    low, high = (None if v is None else means(v) for v in (series.low, series.high))
    return Series(
        series.name, means(series.x), means(series.y), series.look, low, high, series.faint
    )


def moving_average(values: Sequence[float], *, window: int) -> list[float]:
    """Mean over the neighbours up to `window` // 2 away on either side; at the ends over those
    there are."""
    half = window // 2
    spans = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(span) / len(span) for span in spans]


def number_format(values: Iterable[float], *, percent: bool = False, digits: int = 2) -> Format:
    """How to write numbers of this spread: as many decimals as tell about 10^digits of them apart;
    small ones as 6e−6, which stays within a margin."""
    if percent:
        return _percent
    known = list(values)
    spread = max(known) - min(known) or max(abs(known[0]), 1e-9)
    decimals = max(0, digits - 1 - math.floor(math.log10(spread)))

    def write(value: float) -> str:
        small = decimals > 4 and abs(value) < 10.0 ** (4 - decimals)
        text = f"{value:.4g}" if small or decimals > 6 else f"{value:,.{decimals}f}"
        return re.sub(r"e-0*", "e-", text).replace("-", "−")

    return write


@dataclass(frozen=True, slots=True)
class _Scale:
    """A linear map from [low, high] to page units [start, end]. Ticks are at least `least`
    apart."""

    low: float
    high: float
    start: float
    end: float
    least: float = 0.0

    @classmethod
    def exact(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        """From the least to the greatest value; where all are whole, as steps are, so are ticks."""
        low, high = min(values), max(values)
        if low == high:
            low, high = low - 0.5, high + 0.5
        return cls(low, high, start, end, 1.0 if all(v == round(v) for v in values) else 0.0)

    @classmethod
    def tidy(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        """To the round numbers just outside."""
        low, high = min(values), max(values)
        if high - low <= 1e-9 * max(abs(low), abs(high)):
            pad = abs(low) / 2 or 0.5
            low, high = low - pad, high + pad
        step = _step(high - low, 4)
        while True:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
            # Widening the range may call for coarser ticks, and those for a wider range.
            if (coarser := _step(high - low, 4)) <= step:
                return cls(low, high, start, end)
            step = coarser

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round numbers inside."""
        step = max(self.least, _step(self.high - self.low, count))
        return [
            i * step
            for i in range(
                math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1
            )
        ]


def _step(span: float, count: int) -> float:
    """The 1, 2 or 5 times a power of ten that cuts the span into about `count`."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= rough * 0.999)


def _axes(
    across: _Scale,
    up: _Scale,
    x_label: str,
    y_label: str,
    *,
    percent_x: bool = False,
    percent: bool = False,
) -> list[Markup]:
    floor, x_ticks, y_ticks = _HEIGHT - _BOTTOM, across.ticks(5), up.ticks(4)
    # The step between ticks, not their range, decides how many decimals tell them apart.
    write_x = number_format(
        [0.0, x_ticks[1] - x_ticks[0]] if len(x_ticks) > 1 else x_ticks or [0.0],
        percent=percent_x,
        digits=1,
    )
    write_y = number_format(
        [0.0, y_ticks[1] - y_ticks[0]] if len(y_ticks) > 1 else y_ticks or [0.0],
        percent=percent,
        digits=1,
    )
    marks = [_segment("grid", _LEFT, up(t), _WIDTH - _RIGHT, up(t)) for t in y_ticks]
    marks += [_text("tick end", _LEFT - 6, up(t) + 4, write_y(t)) for t in y_ticks]
    marks += [_text("tick middle", across(t), floor + 15, write_x(t)) for t in x_ticks]
    return [
        *marks,
        _text("unit", 0, 12, y_label),
        _text("unit end", _WIDTH - _RIGHT, _HEIGHT - 4, x_label),
    ]


def _line(series: Series, across: _Scale, up: _Scale, spoken: Format, x_label: str) -> list[Markup]:
    places = [(across(x), up(y)) for x, y in zip(series.x, series.y, strict=True)]
    marks = []
    if series.low is not None and series.high is not None:
        edge = [(across(x), up(v)) for x, v in zip(series.x, series.high, strict=True)]
        edge += [
            (across(x), up(v)) for x, v in reversed(list(zip(series.x, series.low, strict=True)))
        ]
        marks.append(_path(f"band {series.look}", edge))
    marks.append(_path(f"line {series.look}{' faint' if series.faint else ''}", places))
    if len(places) == 1:
        marks.append(_dot(f"mark {series.look}", *places[0], 3.5, series.name))
    if not series.faint:
        where = (
            number_format([0.0, 1.0], digits=1)
            if all(float(x).is_integer() for x in series.x)
            else number_format(series.x)
        )
        texts = [
            f"{series.name}, {x_label} {where(x)}: {spoken(y)}"
            for x, y in zip(series.x, series.y, strict=True)
        ]
        marks += [_dot("hit", x, y, 7.0, text) for (x, y), text in zip(places, texts, strict=True)]
    return marks


def _legend(
    entries: Sequence[tuple[str, Look]], *, markers: bool = False, room: float = _WIDTH
) -> Markup:
    """Names in the top row, right-aligned, in the order given; where there is no `room` for all,
    the longest lose their middles."""
    names = _fitting([name for name, _ in entries], room - _SAMPLE * len(entries))
    widths = [len(name) * _CHARACTER + _SAMPLE for name in names]
    x = _WIDTH - sum(widths)
    marks = []
    for name, (_, look), width in zip(names, entries, widths, strict=True):
        marks.append(
            _marker(look, x + 14, 9, name)
            if markers
            else _segment(f"line {look}", x + 2, 9, x + 22, 9)
        )
        marks.append(_text("unit", x + 27, 13, name))
        x += width
    return Markup("").join(marks)


def _fitting(names: Sequence[str], room: float) -> list[str]:
    """The names, in so many units of width together where that leaves a few letters of each."""
    most = max(map(len, names), default=0)
    while most > _FEWEST_LETTERS and sum(min(len(n), most) for n in names) * _CHARACTER > room:
        most -= 1
    tail = most // 2
    return [n if len(n) <= most else f"{n[: most - tail - 1]}…{n[len(n) - tail :]}" for n in names]


def _marker(look: Look, x: float, y: float, text: str) -> Markup:
    """A disc, a diamond or a ring: shape tells looks apart as well as colour."""
    if look == "second":
        shape = Markup(
            '<path class="mark second" d="M{:.1f} {:.1f}l6 6 -6 6 -6 -6z"><title>{}</title></path>'
        )
        return shape.format(x, y - 6, text)
    return _dot(f"mark {look}{' ring' if look == 'third' else ''}", x, y, 5.0, text)


def _segment(look: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        look, x1, y1, x2, y2
    )


def _path(look: str, places: Sequence[tuple[float, float]]) -> Markup:
    return Markup('<path class="{}" d="M{}"/>').format(
        look, "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    )


def _dot(
    look: str, x: float, y: float, radius: float, text: str, *, opacity: float = 1.0
) -> Markup:
    shape = Markup(
        '<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"'
        ' opacity="{:.2f}"><title>{}</title></circle>'
    )
    return shape.format(look, x, y, radius, opacity, text)


def _text(look: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(look, x, y, text)


def _svg(
    name: str, title: str, desc: str, marks: Sequence[Markup], *, height: float = _HEIGHT
) -> Markup:
    frame = Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-labelledby="{n}-title {n}-desc">'
        '<title id="{n}-title">{title}</title><desc id="{n}-desc">{desc}</desc>{marks}</svg>'
    )
    return frame.format(
        _WIDTH, height, n=name, title=title, desc=desc, marks=Markup("").join(marks)
    )


def _percent(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f}\u00a0%"
