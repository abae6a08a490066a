"""A recipe's graph, drawn: as lines of text for a terminal, and as Mermaid for a page. Pure,
torch-free."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from burnish.config.graph import SOURCES, Graph, Node
from burnish.config.kinds import KINDS, Artifact, Input
from burnish.config.narrow import is_tuple

WIDTH = 98
"""Columns of the drawing: a comment of it has two more."""
_WIDEST = 30  # of a column before the last; what is longer stands alone in its line
_GLUE = "\u00a0"  # no line ends here
_MAKES: Mapping[Artifact | None, str] = {
    "Policy": "policy", "RewardModel": "reward model", "Demonstrations": "demonstrations",
    "Answers": "answers",
    "Comparisons": "comparisons", "Evaluation": "evaluation", None: "report.html",
}  # fmt: skip


def row_of(node: Node) -> str | None:
    """The loss or the algorithm of a stage that has one."""
    return KINDS[node.kind].row_of(node.settings)


def kind_of(node: Node) -> str:
    """A stage's kind, with its loss or algorithm: "preference (dpo)"."""
    row = row_of(node)
    return node.kind if row is None else f"{node.kind} ({row})"


def reads(node: Node) -> Iterator[tuple[str, Input]]:
    """(what for, artifact) of everything that a stage reads: other stages, folders and hub ids,
    sources of data that it names."""
    for key, inputs in node.inputs.items():
        yield from ((_slot(key), one) for one in inputs)
    for key in SOURCES:
        if not node.inputs.get(key):
            yield from ((key, Input(outside=source)) for source in _named(node, key))


def text(graph: Graph, *, done: Collection[str] = ()) -> str:
    """A line for each stage: its name, its kind, what it makes, what it reads; `done`: stages that
    are finished already."""
    head = ("stage", "kind", "makes", "reads")
    rows = [(node.name, kind_of(node), _MAKES[node.makes], _read_text(node)) for node in graph]
    if done:
        head = ("", *head)
        rows = [("done" if row[0] in done else "", *row) for row in rows]
    widths = [
        max((len(row[column]) for row in (head, *rows) if len(row[column]) <= _WIDEST), default=0)
        for column in range(len(head) - 1)
    ]
    return "\n".join(line for row in (head, *rows) for line in _lines(row, widths))


def mermaid(graph: Graph) -> str:
    """The graph in Mermaid's language: a box for each stage, a rounded one for what comes from
    outside, an edge for each artifact."""
    boxes = {node.name: f"s{number}" for number, node in enumerate(graph)}
    outside = dict.fromkeys(
        one.shown for node in graph for _, one in reads(node) if one.stage is None
    )
    rounded = {name: f"o{number}" for number, name in enumerate(outside)}
    lines = ["graph TD"]
    lines += [f'  {box}("{_quoted(name)}")' for name, box in rounded.items()]
    lines += [
        f'  {boxes[node.name]}["{_quoted(node.name)}<br/>{_quoted(kind_of(node))}"]'
        for node in graph
    ]
    for node in graph:
        edges: dict[str, list[str]] = {}
        for what, one in reads(node):
            source = rounded[one.shown] if one.stage is None else boxes[one.stage]
            edges.setdefault(source, []).append(what)
        for source, labels in edges.items():
            label = _quoted(", ".join(dict.fromkeys(labels)))
            lines.append(f'  {source} -->|"{label}"| {boxes[node.name]}')
    return "\n".join(lines)


def _slot(key: str) -> str:
    """What an input is for, in a word: `rewards.0` holds a reward, `by.1.judge.model` a judge."""
    first, *rest = key.split(".")
    if first == "rewards":
        return "reward"
    return next((word for word in rest if word in ("judge", "reward")), first)


def _named(node: Node, key: str) -> Sequence[str]:
    """Sources of data that stand in a stage's own section, or, in an empty slot of the kind, in the
    recipe's `data`: where it names no demonstrations, the answers preferred in its comparisons are
    read."""
    given: Any = getattr(node.settings, key, None)
    if given is None and any(
        slot.key == key and slot.otherwise == "data" and not slot.empty(node.settings)
        for slot in KINDS[node.kind].slots
    ):
        data: Any = node.data
        given = getattr(data, key) or data.comparisons or data.store
    if given is None:
        return ()
    sources = given if is_tuple(given) else (given,)
    return [one if isinstance(one, str) else one.source for one in sources]


def _read_text(node: Node) -> str:
    by_slot: dict[str, list[str]] = {}
    for what, one in reads(node):
        by_slot.setdefault(what, []).append(one.shown)
    return "; ".join(f"{what} {', '.join(dict.fromkeys(names))}" for what, names in by_slot.items())


def _lines(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """A row in as many lines as it needs: a cell that is too wide ends its line, and the last one
    wraps."""
    line = ""
    for column, (cell, width) in enumerate(zip(row, widths, strict=False)):
        line += cell.ljust(width) + "  "
        if len(cell) > width:
            yield line.rstrip()
            line = " " * sum(one + 2 for one in widths[: column + 1])
    room = max(WIDTH - len(line), 20)
    phrases = row[-1].split("; ")
    kept = "; ".join(
        phrase.replace(" ", _GLUE) if len(phrase) < room else phrase for phrase in phrases
    )
    wrapped = textwrap.wrap(kept, room, break_on_hyphens=False) or [""]
    indent = " " * len(line)
    for number, piece in enumerate(wrapped):
        yield ((line if number == 0 else indent) + piece.replace(_GLUE, " ")).rstrip()


def _quoted(name: str) -> str:
    """As it stands between Mermaid's double quotes."""
    codes = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "`": "#96;", "&": "#amp;"}
    return "".join(codes.get(sign, sign) for sign in name)
