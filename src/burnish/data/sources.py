"""From files, hub datasets and the shipped data to rows that remember where they came from.

A mistake in a source is reported as `FILE, row N: what is wrong`. What the columns hold is the business of `columns`.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from pathlib import Path
from typing import IO, Any

from burnish.data.tasks import PREFIX, task_rows
from burnish.errors import UserError

FILE_KINDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
BUILTIN = "builtin:"

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?")  # the part behind a colon names a configuration
_FILE_ENDING = re.compile(r"\.(gz|zip|xz|zst|json\w*|parquet|arrow|csv|tsv|txt|xlsx?|ya?ml)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source: `number` counts from 1, and in a file of JSON lines it is the line's number.

    `key` names the row within its source on every machine: `FILE:NUMBER`, the file as seen from the folder asked for.
    """

    file: str
    number: int
    values: Mapping[str, Any]
    key: str


def read_rows(ref: str | Path, *, split: str | None = None, limit: int | None = None) -> tuple[Row, ...]:
    """Read the rows of `ref`, at most `limit` of them.

    `ref` is a file (.jsonl, .json holding a list, either of them with .gz, or .parquet); a folder, whose files of these
    kinds are read in the order of their paths while others are passed over; `builtin:NAME` for data that ships with
    Burnish; `task:KIND?...` for problems made on the spot (`data.tasks`); or the id of a dataset on the hub, with its configuration
    behind a colon where it has several (`openai/gsm8k:main`). `split` names the hub's split ("train" if not given); elsewhere it keeps
    the rows whose column `split` holds that value. Empty lines between JSON lines are skipped.

    Raises UserError for a missing or unreadable source, a malformed row, and a source without rows.
    """
    if limit is not None and limit < 1:
        raise UserError(f"must be at least 1, not {limit}.", field="limit")
    text = str(ref)
    path = Path(ref).expanduser()
    if text.startswith(PREFIX):
        made = (Row(text, number, values, f"{text}:{number}") for number, values in enumerate(task_rows(text), start=1))
        rows = _of_split(made, ref=text, split=split)
    elif text.startswith(BUILTIN):
        rows = _of_split(_file_rows(_builtin(text), name=text, key=text.removeprefix(BUILTIN)), ref=text, split=split)
    elif path.exists():
        rows = _of_split(_path_rows(path), ref=text, split=split)
    elif isinstance(ref, Path) or not _HUB_ID.fullmatch(text) or _FILE_ENDING.search(text):
        raise UserError("there is no such file or folder. Check the path.", file=ref)
    else:
        rows = _hub_rows(text, split=split or "train")
    kept = tuple(islice(rows, limit))
    if not kept:
        raise UserError("holds no rows. Give a source with at least one.", file=ref)
    return kept


def _of_split(rows: Iterator[Row], *, ref: str, split: str | None) -> Iterator[Row]:
    """The rows whose column `split` is `split`; all of them when it is None."""
    if split is None:
        yield from rows
        return
    found: set[str] = set()
    for row in rows:
        value = row.values.get("split")
        if not isinstance(value, str):
            problem = f'must be text, because the split "{split}" was asked for. Add it, or ask for no split.'
            raise UserError(problem, file=row.file, row=row.number, field="split")
        found.add(value)
        if value == split:
            yield row
    if found and split not in found:
        raise UserError(f'no row has the split "{split}"; there are {listed(sorted(found))}.', file=ref, field="split")


def _builtin(ref: str) -> Traversable:
    """The shipped file behind a reference such as `builtin:quickstart/demonstrations`."""
    shipped = resources.files("burnish") / "data"
    folders = sorted((entry for entry in shipped.iterdir() if entry.is_dir()), key=lambda folder: folder.name)
    files = {
        f"{BUILTIN}{folder.name}/{file.name.removesuffix('.jsonl')}": file
        for folder in folders
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".jsonl")
    }
    if ref not in files:
        raise UserError(f"no such data ships with Burnish; there are {listed(files)}.", file=ref)
    return files[ref]


def _path_rows(path: Path) -> Iterator[Row]:
    if not path.is_dir():
        yield from _file_rows(path, name=str(path), key=path.name)
        return
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(FILE_KINDS))
    if not files:
        raise UserError(f"the folder holds no data. Burnish reads {listed(FILE_KINDS)}.", file=path)
    for file in files:
        yield from _file_rows(file, name=str(file), key=file.relative_to(path).as_posix())


def _file_rows(file: Path | Traversable, *, name: str, key: str) -> Iterator[Row]:
    if file.name.endswith(".parquet"):
        rows = _parquet(file, name)
    elif file.name.endswith((".jsonl", ".jsonl.gz")):
        rows = _json_lines(file, name)
    elif file.name.endswith((".json", ".json.gz")):
        rows = _json_list(file, name)
    else:
        raise UserError(f"is not a kind that Burnish reads. Convert it to one of {listed(FILE_KINDS)}.", file=name)
    for number, values in rows:
        if not isinstance(values, dict):
            raise UserError(f"must be an object with columns, not {kind(values)}.", file=name, row=number)
        yield Row(name, number, values, f"{key}:{number}")


@contextmanager
def _opened(file: Path | Traversable, name: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The file's bytes, decompressed. What goes wrong while they are read becomes a UserError."""
    try:
        with file.open("rb") as raw:
            if file.name.endswith(".gz"):
                with gzip.open(raw) as unpacked:
                    yield unpacked
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot be read ({one_line(error)}). Check the file, or fetch it again.", file=name) from error


def _json_lines(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    with _opened(file, name) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _parsed(line, name, number)


def _json_list(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    with _opened(file, name) as handle:
        raw = handle.read()
    rows = _parsed(raw, name, None) if raw.strip() else []
    if not isinstance(rows, list):
        raise UserError(f"a .json file must hold a list of objects, not {kind(rows)}.", file=name)
    yield from enumerate(rows, start=1)


def _parsed(raw: bytes, name: str, row: int | None) -> Any:
    """The JSON value in `raw`, which is one line, or a whole file when `row` is None."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start + 1}). Save the file as UTF-8."
        raise UserError(problem, file=name, row=row) from error
    except (json.JSONDecodeError, RecursionError) as error:
        several = row is None and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        hint = "If every line is an object, name the file .jsonl." if several else "Mend it, or remove it."
        raise UserError(f"is not JSON ({one_line(error)}).", file=name, row=row, hint=hint) from error


def _parquet(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    with _opened(file, name) as handle:
        try:
            batches = parquet.ParquetFile(handle).iter_batches()
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        except pyarrow.ArrowException as error:
            raise UserError(f"is not a sound Parquet file ({one_line(error)}). Write it again.", file=name) from error


def _hub_rows(ref: str, *, split: str) -> Iterator[Row]:
    import datasets
    from datasets.exceptions import DatasetsError

    try:
        dataset = datasets.load_dataset(*ref.split(":"), split=split)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        problem = f'the split "{split}" of this hub dataset cannot be had ({one_line(error)}).'
        hint = "Check the id, the split and the network, or give the path of a file."
        raise UserError(problem, file=ref, hint=hint) from error
    for number, values in enumerate(dataset, start=1):
        yield Row(ref, number, dict(values), f"{ref}:{number}")


def kind(value: object) -> str:
    """The JSON name of a value's type, for messages."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 200 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


def listed(names: Iterable[str]) -> str:
    """Names for a message: "a, b, c"."""
    return ", ".join(names) or "none"
