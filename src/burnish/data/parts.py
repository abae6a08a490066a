"""A source as two parts: what is trained on, and what is held out. The one way in which every
source is split.

Held out is what the source says itself: the splits of a hub dataset, the names of files in a
folder, a column, or a source that the recipe names for it. Where the source says nothing, a share
is held out by the hash of the prompt. A prompt that is held out is never trained on: rows of the
training part with the same opening are left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from typing import Any, Generic

from burnish.data.columns import Loaded, NothingLeft, Origin, Record, record_id
from burnish.data.layouts import check_columns, with_columns
from burnish.data.prompts import opening, split_or_all
from burnish.data.sources import Portions, Row, open_source
from burnish.data.split_names import HELDOUT, TRAIN, Part, part_of
from burnish.data.values import not_finite
from burnish.errors import UserError, listed, shown
from burnish.records import TEXT, Demonstration, Message, PreferenceGroup, Prompt


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is read and split.

    Args:
        split: the split to train on; None: the one whose name says so.
        heldout: another source, whose rows are held out.
        heldout_split: the split that is held out, of `heldout` where there is one; None: those
            whose names say so.
        column: the column that says which rows are held out; None: no column is looked at.
        share: the share that is held out where nothing else says what is.
        seed: of that share's hash.
        limit: at most this many rows of each part.
        columns: what the source calls a column, by what readers call it.
        system: a system's turn, put before conversations that begin with none.
        weight: how often each row that is trained on counts; of a fraction, that share of the rows
            by hash.
    """

    split: str | None = None
    heldout: str | None = None
    heldout_split: str | None = None
    column: str | None = "split"
    share: float = 0.1
    seed: int = 0
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Parts(Generic[Record]):
    """The records of a source, those trained on and those held out, what was `dropped` by reason,
    and what a reader is told (`notes`). `not_evaluated` says why nothing is held out; None where
    something is."""

    train: tuple[Record, ...]
    heldout: tuple[Record, ...]
    dropped: Mapping[str, int]
    origins: Mapping[str, Origin]
    notes: tuple[str, ...] = ()
    not_evaluated: str | None = None


@dataclass
class _Rows:
    """The rows of a source by part, before they are read."""

    train: list[Row] = field(default_factory=list)
    heldout: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    marked: bool = False  # whether a column says which rows are trained on


def read_parts(
    ref: str, read: Callable[[Sequence[Row]], Loaded[Record]], options: SourceOptions
) -> Parts[Record]:
    """The records that `read` makes of a source's rows, in two parts.

    Where the source says that all its rows are held out, none is trained on. Raises UserError for
    what `open_source` and `read` refuse, and for a value of the split column that means neither
    part.
    """
    rows = _rows_by_part(ref, options)
    check_columns([*rows.train, *rows.heldout], options.columns)
    watched = {
        part: [_watched(row, options.columns) for row in found]
        for part, found in (("t", rows.train), ("h", rows.heldout))
    }
    nothing: Loaded[Record] = Loaded((), {})
    told = partial(_told, read, options.system)
    loaded = told([row for row, _ in watched["t"]]) if rows.train else nothing
    notes = [*rows.notes]
    if rows.heldout:
        parts = _with_heldout(ref, loaded, told, [row for row, _ in watched["h"]])
    else:
        if rows.marked and options.share:
            notes.append("no row that was read is marked as held out: a share is, by hash")
        train, heldout, reason = split_or_all(
            loaded.items, heldout=options.share, seed=options.seed
        )
        parts = Parts(train, heldout, loaded.dropped, loaded.origins, (), reason)
    everything = [*watched["t"], *watched["h"]]
    notes += _passed_over(everything, but=options.column)
    notes += _nulls([row for row, _ in everything])
    return _weighted(replace(parts, notes=tuple(notes)), options)


def _told(
    read: Callable[[Sequence[Row]], Loaded[Record]], system: str | None, rows: Sequence[Row]
) -> Loaded[Record]:
    """What `read` makes of rows, with the system's turn before conversations that begin with
    none."""
    loaded = read(rows)
    return (
        loaded
        if system is None
        else replace(loaded, items=tuple(_with_system(item, system) for item in loaded.items))
    )


def _with_system(item: Record, system: str) -> Record:
    messages = item.prompt.messages if isinstance(item, PreferenceGroup) else item.messages
    if messages[0]["role"] in ("system", "developer", TEXT):
        return item
    turns = (Message(role="system", content=system), *messages)
    if isinstance(item, PreferenceGroup):
        return replace(item, prompt=replace(item.prompt, messages=turns))
    assert isinstance(item, Demonstration | Prompt)
    return replace(item, messages=turns)


def _weighted(parts: Parts[Record], options: SourceOptions) -> Parts[Record]:
    """The training rows as often as the source counts: each that many times, and a share of them,
    by hash, once more."""
    whole, share = int(options.weight), options.weight % 1
    if options.weight == 1:
        return parts
    items: list[Record] = []
    origins = dict(parts.origins)
    for item in parts.train:
        name = record_id(item)
        drawn = blake2b(f"weight/{options.seed}/{name}".encode(), digest_size=8).digest()
        times = whole + (int.from_bytes(drawn, "big") < share * 2**64)
        items += (item if n == 0 else _renamed(item, f"{name}#{n + 1}") for n in range(times))
        origins |= {f"{name}#{n + 1}": origins[name] for n in range(1, times) if name in origins}
    note = f"counts {options.weight:g} times: {len(items)} of {len(parts.train)} rows"
    return replace(parts, train=tuple(items), origins=origins, notes=(*parts.notes, note))


def _with_heldout(
    ref: str,
    loaded: Loaded[Record],
    read: Callable[[Sequence[Row]], Loaded[Record]],
    rows: Sequence[Row],
) -> Parts[Record]:
    """What the source itself holds out beside the rest, without the prompts that are on both
    sides."""
    dropped = Counter(loaded.dropped)
    try:
        out = read(rows)
    except NothingLeft as error:
        return Parts(
            loaded.items,
            (),
            loaded.dropped,
            loaded.origins,
            (),
            f"of what is held out, {error.problem}",
        )
    dropped.update({f"{reason} (held out)": count for reason, count in out.dropped.items()})
    held = {opening(item) for item in out.items}
    train = tuple(item for item in loaded.items if opening(item) not in held)
    if len(train) < len(loaded.items):
        dropped["the prompt is held out too"] = len(loaded.items) - len(train)
    if loaded.items and not train:
        problem = (
            f"all {len(loaded.items)} training prompts are held out too: nothing is left to"
            " train on."
        )
        raise UserError(
            problem, file=ref, hint="Give training rows whose prompts are not in the held-out part."
        )
    names = {record_id(item) for item in train}
    clashing = {
        record_id(item): f"heldout/{record_id(item)}"
        for item in out.items
        if record_id(item) in names
    }
    heldout = tuple(_renamed(item, clashing.get(record_id(item))) for item in out.items)
    origins = {
        **{clashing.get(name, name): origin for name, origin in out.origins.items()},
        **loaded.origins,
    }
    return Parts(train, heldout, dict(dropped), origins)


def _renamed(item: Record, name: str | None) -> Record:
    if name is None:
        return item
    if isinstance(item, PreferenceGroup):
        return replace(item, prompt=replace(item.prompt, id=name))
    assert isinstance(item, Demonstration | Prompt)
    return replace(item, id=name)


def _rows_by_part(ref: str, options: SourceOptions) -> _Rows:
    portions, train, heldout = _iterators(ref, options)
    rows = _Rows(notes=list(portions.notes))
    unknown: Counter[str] = Counter()
    first: Row | None = None
    for row in train if portions.small else islice(train, options.limit):
        value = row.values.get(options.column) if options.column is not None else None
        part = _part(value, options)
        if part is None:
            first = first or row
            unknown[str(value)] += 1
        rows.marked = rows.marked or value is not None
        (rows.heldout if part == "heldout" else rows.train).append(row)
    if first is not None:
        raise _unknown(unknown, options.column, file=first.file, row=first.number)
    rows.heldout += islice(heldout, options.limit)
    if portions.small:
        rows.train, rows.heldout = rows.train[: options.limit], rows.heldout[: options.limit]
    if not rows.train and not rows.heldout:
        raise UserError("holds no rows. Give a source with at least one.", file=ref)
    return rows


def _unknown(
    values: Counter[str], column: str | None, *, file: str | None, row: int | None = None
) -> UserError:
    known = listed((*TRAIN[:1], *HELDOUT))
    return UserError(
        f"holds values that are no names of splits: {_counted(values)}; known are {known}.",
        file=file,
        row=row,
        field=column,
        hint=(
            "Change them, name another column by data.split_column, or set data.split_column=null."
        ),
    )


def _part(value: Any, options: SourceOptions) -> Part | None:
    """The part that a value of the split column means; None: neither. A row without one may be
    trained on."""
    if value is None or (options.split is not None and value == options.split):
        return "train"
    part = part_of(value) if isinstance(value, str) else None
    return "train" if part is None and options.split is not None else part


def _counted(values: Counter[str]) -> str:
    told = [f'"{shown(value, 40)}" ({count})' for value, count in values.most_common(5)]
    return ", ".join(told) + (f" and {len(values) - 5} more" if len(values) > 5 else "")


def _iterators(ref: str, options: SourceOptions) -> tuple[Portions, Iterator[Row], Iterator[Row]]:
    """(the source, rows to train on, rows that are held out by where they stand)."""
    here = options.heldout_split if options.heldout is None else None
    wanted = [name for name in (options.split, here) if name is not None]
    # whether the source's own names say what is held out
    own = options.heldout is None and here is None
    portions = open_source(ref, splits=wanted or None, paired=own)
    train = (
        portions.of(options.split)
        if options.split is not None
        else portions.training(required=False)
    )
    if options.heldout is not None:
        other = open_source(
            options.heldout, splits=[options.heldout_split] if options.heldout_split else None
        )
        return (
            portions,
            train,
            other.of(options.heldout_split) if options.heldout_split else other.everything(),
        )
    if options.heldout_split is not None:
        return portions, train, portions.of(options.heldout_split)
    return (
        portions,
        train,
        portions.heldout() if options.split is None else portions.heldout_for(options.split),
    )


class _Watched(Mapping[str, Any]):
    """The columns of a row, which remembers those that were looked at."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        self.seen.add(name)
        return value

    def unseen(self) -> Iterator[str]:
        """The columns that hold something and were not looked at."""
        return (
            name
            for name, value in self._values.items()
            if value is not None and name not in self.seen
        )

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _watched(row: Row, columns: Mapping[str, str]) -> tuple[Row, _Watched]:
    values = _Watched(row.values)
    watched = replace(row, values=values)
    return (with_columns(watched, columns) if columns else watched), values


def split_items(
    items: Sequence[Record],
    *,
    column: str | None,
    heldout: float,
    seed: int,
    file: str | None = None,
) -> tuple[tuple[Record, ...], tuple[Record, ...], str | None]:
    """(training, held out, why nothing is) of items that are read already, as `read_parts` splits
    the rows of a source: by a column of their prompts, or else by hash."""
    values = [_columns_of(item).get(column) if column is not None else None for item in items]
    parts = [_part(value, SourceOptions()) for value in values]
    if None in parts:
        unknown = Counter(
            str(value) for value, part in zip(values, parts, strict=True) if part is None
        )
        raise _unknown(unknown, column, file=file)
    out = tuple(item for item, part in zip(items, parts, strict=True) if part == "heldout")
    if not out:
        return split_or_all(items, heldout=heldout, seed=seed)
    openings = set(map(opening, out))
    return tuple(item for item in items if opening(item) not in openings), out, None


def without_held_out(
    items: Sequence[Record], held_out: Mapping[str, Iterable[Record]], *, instruction: str | None
) -> tuple[tuple[Record, ...], dict[str, int]]:
    """The items whose opening none of these sources holds out, and how many each source took away,
    by its name.

    `instruction`, which is put behind the prompts of one source, makes no difference.
    """
    ending = "" if instruction is None else f" {' '.join(instruction.split()).casefold()}"
    question = lambda item: opening(item).removesuffix(ending)  # noqa: E731
    openings = {name: frozenset(map(question, held)) for name, held in held_out.items()}
    holders = [
        next((name for name, held in openings.items() if question(item) in held), None)
        for item in items
    ]
    taken = Counter(f"held out in {name}" for name in holders if name is not None)
    return tuple(item for item, name in zip(items, holders, strict=True) if name is None), dict(
        taken
    )


def _columns_of(item: Demonstration | Prompt | PreferenceGroup) -> Mapping[str, Any]:
    if isinstance(item, PreferenceGroup):
        return item.prompt.columns
    return item.columns if isinstance(item, Prompt) else {}


def passed_over(rows: Iterable[Mapping[str, Any]], *, but: str | None) -> str | None:
    """One line that names the columns of some rows with the number of rows that have them; None if
    there are none."""
    counts = Counter(
        name for row in rows for name, value in row.items() if value is not None and name != but
    )
    return f"passed over: {_columns(counts)}" if counts else None


def _passed_over(rows: Iterable[tuple[Row, _Watched]], *, but: str | None) -> list[str]:
    """A line that names the columns nobody looked at, and one for keys of messages, with the number
    of rows that have them."""
    columns: Counter[str] = Counter()
    keys: Counter[str] = Counter()
    for row, values in rows:
        columns.update(name for name in values.unseen() if name != but)
        keys.update(row.reading.passed_over)
    told = [f"passed over: {_columns(columns)}"] if columns else []
    return [*told, f"passed over in messages: {_columns(keys, what='key')}"] if keys else told


def _nulls(rows: Iterable[Row]) -> list[str]:
    """One line that names the columns whose numbers are not finite."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(name for name, value in row.values.items() if not_finite(value))
    return [f"not a finite number, and handed on as null: {_columns(counts)}"] if counts else []


def _columns(counts: Counter[str], *, what: str = "column") -> str:
    told = [
        f'{what} "{shown(name)}" ({count} row{"s" if count > 1 else ""})'
        for name, count in counts.most_common(8)
    ]
    return ", ".join(told) + (f" and {len(counts) - 8} more {what}s" if len(counts) > 8 else "")
