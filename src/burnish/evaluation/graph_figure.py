"""A run's stages as a drawing: inline SVG, layered from left to right by longest path, in as many
bands as the page needs. Pure.

What several later stages read runs through the layers between as one line, so that many edges stay
readable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

Look = Literal["plain", "main", "better", "worse", "waiting"]
Item = tuple[str, bool]
"""(stage, whether it is its line, which only passes through a layer, rather than its box)."""

_WIDTH, _ACROSS, _MARGIN = 132.0, 28.0, 20.0
_LINE, _PAD, _LANE, _APART = 16.0, 7.0, 6.0, 14.0
_NAME, _TEXT = 18, 21  # characters that a box has room for
_UNSQUEEZED = 13  # characters of a name that fit in every font
_TRACK = 5.0  # between lines that lead from one band to the next
_SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Box:
    """A stage: its name, lines of text under it, how it looks, and the stages whose artifacts it
    reads."""

    name: str
    texts: tuple[str, ...] = ()
    look: Look = "plain"
    reads: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        """Of its frame."""
        return _LINE * (1 + len(self.texts)) + 2 * _PAD


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item stands: its left edge, the middle of its height, and its band."""

    x: float
    y: float
    band: int


Places = dict[tuple[Item, int], Place]
"""By the item and its layer: a line passes through several."""


def draw(name: str, boxes: Sequence[Box], *, columns: int) -> Markup | None:
    """The drawing of stages given in the order in which they run, `columns` layers abreast; None
    without stages."""
    if not boxes:
        return None
    known = {box.name: box for box in boxes}
    layers = _layers(known)
    items = _ordered(known, layers)
    bands = -(-len(items) // columns)
    abreast = -(-len(items) // bands)
    places, bottoms = _places(known, layers, items, abreast)
    width = 2 * _MARGIN + abreast * _WIDTH + (abreast - 1) * _ACROSS
    lines = _edges(known, layers, items, places, bottoms)
    marks = [*lines, *(_box(box, places[(box.name, False), layers[box.name]]) for box in boxes)]
    spoken = "; ".join(f"{box.name} reads {', '.join(box.reads)}" for box in boxes if box.reads)
    frame = Markup(
        '<svg viewBox="0 0 {:.0f} {:.0f}" width="{:.0f}" role="img" aria-labelledby="{n}-title'
        ' {n}-desc"><title id="{n}-title">The stages</title><desc'
        ' id="{n}-desc">{desc}.</desc>{marks}</svg>'
    )
    height = bottoms[-1] - _APART / 2
    return frame.format(width, height, width, n=name, desc=spoken, marks=Markup("").join(marks))


def _layers(boxes: Mapping[str, Box]) -> dict[str, int]:
    """Of each stage: the length of the longest path to it."""
    found: dict[str, int] = {}
    for box in boxes.values():
        found[box.name] = 1 + max((found[one] for one in box.reads if one in found), default=-1)
    return found


def _ordered(boxes: Mapping[str, Box], layers: Mapping[str, int]) -> list[list[Item]]:
    """The boxes and lines of each layer, ordered so that neighbours stand near each other."""
    last = dict(layers)
    for box in boxes.values():
        for one in box.reads:
            last[one] = max(last.get(one, 0), layers[box.name] - 1)
    items: list[list[Item]] = [[] for _ in range(max(layers.values()) + 1)]
    for name, layer in layers.items():
        items[layer].append((name, False))
        for between in range(layer + 1, last[name] + 1):
            items[between].append((name, True))
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for place in range(1, len(items)) if down else range(len(items) - 2, -1, -1):
            other = {
                item: rank for rank, item in enumerate(items[place - 1 if down else place + 1])
            }

            def middle(
                item: Item, place: int = place, down: bool = down, other: Mapping[Item, int] = other
            ) -> float:
                if down:
                    near = [
                        other[one] for one in _before(boxes, layers, item, place) if one in other
                    ]
                else:
                    near = [
                        rank
                        for one, rank in other.items()
                        if item in _before(boxes, layers, one, place + 1)
                    ]
                return sum(near) / len(near) if near else items[place].index(item)

            ranks = {item: middle(item) for item in items[place]}
            items[place].sort(key=lambda item: ranks[item])
    return items


def _before(
    boxes: Mapping[str, Box], layers: Mapping[str, int], item: Item, layer: int
) -> list[Item]:
    """What an item is joined to in the layer before its own."""
    name, passes = item
    sources = [name] if passes else [one for one in boxes[name].reads if one in layers]
    return [(one, layers[one] < layer - 1) for one in sources]


def _places(
    boxes: Mapping[str, Box],
    layers: Mapping[str, int],
    items: Sequence[Sequence[Item]],
    abreast: int,
) -> tuple[Places, list[float]]:
    """Where everything stands (lines by layer), and where each band ends."""
    places: Places = {}
    bottoms: list[float] = []
    top = 2.0
    for band, start in enumerate(range(0, len(items), abreast)):
        shown = items[start : start + abreast]
        heights = [
            [_LANE if passes else boxes[name].height for name, passes in layer] for layer in shown
        ]
        totals = [sum(own) + _APART * (len(own) - 1) for own in heights]
        tallest = max(totals)
        for column, (layer, own) in enumerate(zip(shown, heights, strict=True)):
            y = top + (tallest - totals[column]) / 2
            x = _MARGIN + column * (_WIDTH + _ACROSS)
            for item, height in zip(layer, own, strict=True):
                places[item, start + column] = Place(x, y + height / 2, band)
                y += height + _APART
        after = start + abreast
        crossing = len(_crossing(boxes, layers, items[after], after)) if after < len(items) else 0
        bottoms.append(top + tallest + _APART)
        top = bottoms[-1] + _TRACK * crossing + _APART
    return places, bottoms


def _crossing(
    boxes: Mapping[str, Box], layers: Mapping[str, int], items: Sequence[Item], layer: int
) -> list[str]:
    """Stages whose lines lead into a layer from the one before, each once."""
    return list(
        dict.fromkeys(source for item in items for source, _ in _before(boxes, layers, item, layer))
    )


def _edges(
    boxes: Mapping[str, Box],
    layers: Mapping[str, int],
    items: Sequence[Sequence[Item]],
    places: Places,
    bottoms: Sequence[float],
) -> list[Markup]:
    marks: list[Markup] = []
    for layer in range(1, len(items)):
        tracks = {
            name: number
            for number, name in enumerate(_crossing(boxes, layers, items[layer], layer))
        }
        for item in items[layer]:
            end = places[item, layer]
            for source in _before(boxes, layers, item, layer):
                start = places[source, layer - 1]
                path = _path(start, end, tracks.get(source[0], 0), bottoms)
                reader = "" if item[1] else f" → {item[0]}"
                marks.append(_line(path, f"{source[0]}{reader}"))
            if item[1]:
                marks.append(_line(f"M{end.x:.1f} {end.y:.1f}h{_WIDTH:.1f}", item[0]))
            elif boxes[item[0]].reads:
                marks.append(
                    Markup('<path class="tip" d="M{:.1f} {:.1f}l-7 -4v8z"/>').format(end.x, end.y)
                )
    return marks


def _path(start: Place, end: Place, track: int, bottoms: Sequence[float]) -> str:
    """From the right of one item to the left of another; into the next band round the end of the
    line."""
    x, y = start.x + _WIDTH, start.y
    if start.band == end.band:
        half = _ACROSS / 2
        return (
            f"M{x:.1f} {y:.1f}C{x + half:.1f} {y:.1f} {end.x - half:.1f} {end.y:.1f} {end.x:.1f}"
            f" {end.y:.1f}"
        )
    out = 4.0 + min(_TRACK * track, _MARGIN - 6) / 2
    down, right, left = bottoms[start.band] + _TRACK * track, x + out, end.x - 4.0 - out
    return f"M{x:.1f} {y:.1f}H{right:.1f}V{down:.1f}H{left:.1f}V{end.y:.1f}H{end.x:.1f}"


def _line(path: str, spoken: str) -> Markup:
    return Markup('<path class="edge" d="{}"><title>{}</title></path>').format(path, spoken)


def _box(box: Box, place: Place) -> Markup:
    top = place.y - box.height / 2
    squeezed = len(box.name) > _UNSQUEEZED
    fitted = (
        Markup(' textLength="{:.0f}" lengthAdjust="spacingAndGlyphs"').format(_WIDTH - 18)
        if squeezed
        else ""
    )
    title = Markup('<text class="name" x="{:.1f}" y="{:.1f}"{}>{}</text>')
    texts = [title.format(place.x + 10, top + 19, fitted, _shortened(box.name, _NAME))]
    texts += [
        Markup('<text x="{:.1f}" y="{:.1f}">{}</text>').format(
            place.x + 10, top + 19 + _LINE * row, _shortened(text, _TEXT)
        )
        for row, text in enumerate(box.texts, 1)
    ]
    frame = Markup(
        '<g class="node {}"><title>{}</title><rect x="{:.1f}" y="{:.1f}" width="{:.1f}"'
        ' height="{:.1f}" rx="6"/>{}</g>'
    )
    spoken = ", ".join((box.name, *box.texts))
    return frame.format(box.look, spoken, place.x, top, _WIDTH, box.height, Markup("").join(texts))


def _shortened(text: str, most: int) -> str:
    """At most so many characters: the middle gives way, for rounds differ at the front and stages
    at the back."""
    if len(text) <= most:
        return text
    front = (most - 1) // 2
    return f"{text[:front]}…{text[len(text) - (most - 1 - front) :]}"
