"""From files, hub datasets and the shipped data to rows that remember where they came from.

A mistake in a source is reported as `FILE, row N: what is wrong`. What the columns hold is the
business of `columns`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from pathlib import Path
from typing import Any

from burnish.data.files import FILE_KINDS as FILE_KINDS
from burnish.data.files import check_regular, exists, file_rows, folder_files, one_line
from burnish.data.files import kind as kind
from burnish.data.split_names import holds_out_for, part_of, split_of_path
from burnish.data.tasks import PREFIX, task_rows
from burnish.errors import UserError, listed

BUILTIN = "builtin:"

# the part behind a colon names a configuration
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?")
_FILE_ENDING = re.compile(
    r"\.(gz|zip|xz|zst|json\w*|parquet|arrow|csv|tsv|txt|xlsx?|ya?ml)$", re.IGNORECASE
)


@dataclass(slots=True)
class Reading:
    """What is found out where the messages of a row are read, for what is said of the row later.

    `turns` are the fields that the conversation's messages were read from, `written` what the row
    calls a field that goes by one name from then on, and `passed_over` the keys of messages that
    nobody reads.
    """

    turns: tuple[str, ...] = ()
    written: Mapping[str, str] = field(default_factory=dict)
    passed_over: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: `number` counts from 1, and in a file of JSON lines it is the line's
    number.

    `key` names the row within its source on every machine: `FILE:NUMBER`, the file as seen from the
    folder asked for.
    """

    file: str
    number: int
    values: Mapping[str, Any]
    key: str
    reading: Reading = field(default_factory=Reading, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Portion:
    """Some rows of a source, read when they are asked for: those of the split `name`; None: the
    source has no splits of its own."""

    name: str | None
    rows: Callable[[], Iterator[Row]]


@dataclass(frozen=True, slots=True)
class Portions:
    """All portions of a source, what a reader should be told of it (files that were passed over),
    and whether it is `small`: shipped or made on the spot, so that reading all of it costs
    nothing."""

    ref: str
    items: tuple[Portion, ...]
    notes: tuple[str, ...] = ()
    small: bool = False

    def of(self, split: str) -> Iterator[Row]:
        """The rows of one split, by its name or by the column `split`. Raises UserError if there is
        none of it."""
        named = [portion for portion in self.items if portion.name == split]
        if named:
            return (row for portion in named for row in portion.rows())
        if all(portion.name is None for portion in self.items):
            return _of_column(
                self.ref, split, (row for portion in self.items for row in portion.rows())
            )
        problem = f'there is no split "{split}"; there are {listed(self.names)}.'
        raise UserError(problem, file=self.ref, field="split")

    @property
    def names(self) -> list[str]:
        """The names of the splits."""
        return list(
            dict.fromkeys(portion.name for portion in self.items if portion.name is not None)
        )

    def training(self, *, required: bool = True) -> Iterator[Row]:
        """The rows that may be trained on: of the split for training, and of what has no split.

        Raises UserError where there are several splits for training, or, if one is `required`,
        none.
        """
        trained = [
            portion
            for portion in self.items
            if portion.name is None or part_of(portion.name) == "train"
        ]
        splits = [name for name in self.names if part_of(name) == "train"]
        if len(splits) > 1:
            problem = f"has several splits to train on: {listed(splits)}."
            hint = f"Name one: {{source: {self.ref}, split: {splits[0]}}}."
            raise UserError(problem, file=self.ref, field="split", hint=hint)
        if not trained and required:
            hint = f"Name one: {{source: {self.ref}, split: {next(iter(self.names), 'train')}}}."
            problem = f"has no split to train on; there are {listed(self.names)}."
            raise UserError(problem, file=self.ref, field="split", hint=hint)
        return (row for portion in trained for row in portion.rows())

    def heldout(self) -> Iterator[Row]:
        """The rows of every split that is held out by its name."""
        out = [
            portion
            for portion in self.items
            if portion.name is not None and part_of(portion.name) == "heldout"
        ]
        return (row for portion in out for row in portion.rows())

    def heldout_for(self, split: str) -> Iterator[Row]:
        """The rows of every split, by its name or by the column `split`, that is held out for this
        one (`holds_out_for`)."""
        if all(portion.name is None for portion in self.items):
            rows = (row for portion in self.items for row in portion.rows())
            return (row for row in rows if holds_out_for(split, str(row.values.get("split"))))
        out = [
            portion
            for portion in self.items
            if portion.name is not None and holds_out_for(split, portion.name)
        ]
        return (row for portion in out for row in portion.rows())

    def everything(self) -> Iterator[Row]:
        """All rows of what is held out by its name; of a source where nothing is, all rows."""
        names = [name for name in self.names if part_of(name) == "heldout"]
        return (
            self.heldout() if names else (row for portion in self.items for row in portion.rows())
        )


def read_rows(
    ref: str | Path, *, split: str | None = None, limit: int | None = None
) -> tuple[Row, ...]:
    """Read the rows of `ref`, at most `limit` of them.

    `ref` is a file (.jsonl, .json holding a list, either of them with .gz, .parquet, .csv, .tsv or
    .arrow); a folder, whose files of these kinds are read in the order of their paths while others
    are passed over, or that `datasets` has saved (`save_to_disk`); `builtin:NAME` for data that
    ships with Burnish; `task:KIND?...` for problems made on the spot (`data.tasks`); or the id of a
    dataset on the hub, with its configuration behind a colon where it has several
    (`openai/gsm8k:main`). `split` names a split of a hub dataset, or of a folder whose files are
    named after splits (`train-00000-of-00001.parquet`, `test.jsonl`, `validation/...`); elsewhere
    it keeps the rows whose column `split` holds that value. Without it, what is held out by the
    name of its split is not read. Empty lines between JSON lines are skipped.

    Raises UserError for a missing or unreadable source, a malformed row, and a source without rows.
    """
    if limit is not None and limit < 1:
        raise UserError(f"must be at least 1, not {limit}.", field="limit")
    portions = open_source(ref, splits=[split] if split is not None else None)
    rows = portions.training() if split is None else portions.of(split)
    kept = tuple(islice(rows, limit))
    if not kept:
        raise UserError("holds no rows. Give a source with at least one.", file=ref)
    return kept


def open_source(
    ref: str | Path, *, splits: Sequence[str] | None = None, paired: bool = False
) -> Portions:
    """The portions of a source; see `read_rows`. Of a hub dataset, those of the `splits` that are
    named, or all of them;
    `paired`: and those that are held out for one of these."""
    text = str(ref)
    if not text.strip():
        raise UserError(
            "the source is empty. Give a file, a folder, a hub id or builtin:NAME.", field="source"
        )
    if text.startswith(PREFIX):
        made = lambda: enumerate(task_rows(text), start=1)  # noqa: E731
        rows = lambda: (Row(text, number, values, f"{text}:{number}") for number, values in made())  # noqa: E731
        return Portions(text, (Portion(None, rows),), small=True)
    if text.startswith(BUILTIN):
        shipped, key = builtin_file(text), text.removeprefix(BUILTIN)
        return Portions(
            text, (Portion(None, lambda: _rows_of(shipped, name=text, key=key)),), small=True
        )
    path = _expanded(ref)
    if exists(path) and path.is_dir():
        return _saved_portions(path, text) if _is_saved(path) else _folder_portions(path, text)
    if exists(path):
        return _file_portions(path, text)
    begun = path.parent != Path() and exists(Path(path.parts[0]))  # of a path here
    if isinstance(ref, Path) or begun or not _HUB_ID.fullmatch(text) or _FILE_ENDING.search(text):
        several = any(mark in text for mark in "*?[")
        hint = (
            "Patterns are not read: name a folder, and all files in it are."
            if several
            else "Check the path."
        )
        raise UserError("there is no such file or folder.", file=ref, hint=hint)
    return _hub_portions(text, splits, paired=paired)


def local_files(ref: str) -> list[Path] | None:
    """The files that a source on this machine is read from; None for one that is fetched or made,
    or is not there.

    Raises UserError for what is no file, a pipe for instance, before anything of it is read.
    """
    if not ref.strip() or ref.startswith((PREFIX, BUILTIN)):
        return None
    path = _expanded(ref)
    if not exists(path):
        return None
    if path.is_dir():
        return folder_files(path)[0]
    check_regular(path)
    return [path]


def _expanded(ref: str | Path) -> Path:
    try:
        return Path(ref).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UserError(
            f"cannot be found ({one_line(error)}). Write the path out.", file=ref
        ) from error


def _of_column(ref: str, split: str, rows: Iterator[Row]) -> Iterator[Row]:
    """The rows whose column `split` is `split`."""
    found: set[str] = set()
    for row in rows:
        value = row.values.get("split")
        if not isinstance(value, str):
            problem = (
                f'must be text, because the split "{split}" was asked for. Add it, or ask for no'
                " split."
            )
            raise UserError(problem, file=row.file, row=row.number, field="split")
        found.add(value)
        if value == split:
            yield row
    if found and split not in found:
        raise UserError(
            f'no row has the split "{split}"; there are {listed(sorted(found))}.',
            file=ref,
            field="split",
        )


def builtin_file(ref: str) -> Traversable:
    """The shipped file behind a reference such as `builtin:quickstart/demonstrations`."""
    shipped = resources.files("burnish") / "data"
    folders = sorted(
        (entry for entry in shipped.iterdir() if entry.is_dir()), key=lambda folder: folder.name
    )
    files = {
        f"{BUILTIN}{folder.name}/{file.name.removesuffix('.jsonl')}": file
        for folder in folders
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".jsonl")
    }
    if ref not in files:
        raise UserError(f"no such data ships with Burnish; there are {listed(files)}.", file=ref)
    return files[ref]


def _file_portions(path: Path, ref: str) -> Portions:
    return Portions(ref, (Portion(None, lambda: _rows_of(path, name=str(path), key=path.name)),))


def _folder_portions(folder: Path, ref: str) -> Portions:
    files, others = folder_files(folder)

    def portion(file: Path) -> Portion:
        inside = file.relative_to(folder)
        rows = lambda: _rows_of(file, name=str(file), key=inside.as_posix())  # noqa: E731
        return Portion(split_of_path(inside), rows)

    shown = listed(path.relative_to(folder).as_posix() for path in others[:3])
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    notes = (f"passed over files of kinds that are not read: {shown}{more}",) if others else ()
    return Portions(ref, tuple(map(portion, files)), notes)


def _is_saved(folder: Path) -> bool:
    """Whether `datasets` has saved this folder by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _saved_portions(folder: Path, ref: str) -> Portions:
    """A folder of `save_to_disk`: one dataset, or several by the names of their splits."""
    import datasets

    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        hint = "Save it again with save_to_disk, or write it as Parquet: .to_parquet(...)."
        raise UserError(
            f"this saved dataset cannot be read ({one_line(error)}).", file=ref, hint=hint
        ) from error
    if isinstance(found, datasets.DatasetDict):
        return Portions(
            ref, tuple(_hub_portion(ref, str(name), rows) for name, rows in found.items())
        )
    return Portions(ref, (_hub_portion(ref, None, found),))


def _rows_of(file: Path | Traversable, *, name: str, key: str) -> Iterator[Row]:
    for number, values in file_rows(file, name=name):
        yield Row(name, number, values, f"{key}:{number}")


def _hub_portions(ref: str, splits: Sequence[str] | None, *, paired: bool) -> Portions:
    import datasets

    if splits is not None and not (
        paired and all(re.fullmatch(r"[\w.-]+", name) for name in splits)
    ):
        return Portions(
            ref, tuple(_hub_portion(ref, name, _hub(ref, name)) for name in dict.fromkeys(splits))
        )
    found = _hub(ref, None)  # the library fetches all splits for one
    if not isinstance(found, dict | datasets.DatasetDict):
        return Portions(ref, (_hub_portion(ref, None, found),))
    # else all are named in an error
    known = splits is not None and all(name in found for name in splits)

    def wanted(name):
        return not known or name in splits or any(holds_out_for(one, name) for one in splits or ())

    return Portions(
        ref,
        tuple(_hub_portion(ref, str(name), rows) for name, rows in found.items() if wanted(name)),
    )


def _hub(ref: str, split: str | None) -> Any:
    import datasets
    from datasets.exceptions import DatasetsError

    wanted = {} if split is None else {"split": split}
    try:
        return datasets.load_dataset(*ref.split(":"), **wanted)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        what = "this hub dataset" if split is None else f'the split "{split}" of this hub dataset'
        named = "" if split is not None else f", name its split ({{source: {ref}, split: NAME}})"
        hint = f"Check the id, the split and the network{named}, or give the path of a file."
        raise UserError(
            f"{what} cannot be had ({one_line(error)}).", file=ref, hint=hint
        ) from error


def _hub_portion(ref: str, name: str | None, dataset: Any) -> Portion:
    key = ref if name in (None, "train") else f"{ref}[{name}]"

    def rows() -> Iterator[Row]:
        for number, values in enumerate(dataset, start=1):
            yield Row(key, number, dict(values), f"{key}:{number}")

    return Portion(name, rows)
