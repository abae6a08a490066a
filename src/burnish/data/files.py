"""The rows in one file, and the files in one folder: JSON lines, JSON lists, Parquet, CSV and
Arrow, each also where it is broken.

JSON lines are read here, since their rows are numbered by line; CSV is read by pandas, Arrow by the
library `datasets`.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from burnish.errors import UserError, listed, shown

FILE_KINDS = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv", ".tsv", ".arrow")
LONGEST_ROW = 256 * 2**20  # bytes of one line of JSON
LARGEST_LIST = 2**30  # bytes of a .json file, which is read whole
MOST_FILES = 100_000  # names looked at in a folder

_OTHER_KINDS = (".avro", ".feather", ".orc", ".txt", ".xls", ".xlsx", ".yaml", ".yml",
                ".zip", ".tar", ".xz", ".zst", ".bz2", ".jsonl.bz2", ".ndjson", ".pkl",
                ".npz")  # fmt: skip
# what `datasets` writes
_METADATA = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
)
_LARGEST_RATIO = (
    200  # of unpacked to packed bytes, beyond LARGEST_LIST; text is packed to a third or a tenth
)
_CONVERT = (
    "Convert it: `burnish data convert` writes what Burnish reads, and"
    " datasets.load_dataset(...).to_parquet(...) the rest."
)


def kind(value: object) -> str:
    """The JSON name of a value's type, for messages."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return kinds.get(
        type(value), "a number" if isinstance(value, int | float) else type(value).__name__
    )


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 200 characters."""
    return shown(" ".join(str(error).split()), 200) or type(error).__name__


def exists(path: Path) -> bool:
    """Whether something is at `path`. Raises UserError where that cannot be found out."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise UserError(
            f"cannot be looked at ({error.strerror}). Check the path.", file=path
        ) from error
    return True


def folder_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files that can be read, data files of other kinds) in a folder and those below it, in the
    order of their paths.

    Links are followed. Names that begin with a dot, and the descriptions that `datasets` writes
    beside its data, are no data. Raises UserError for a link back to a folder that it stands in,
    for what looks like a data file and is none (a broken link, a pipe), and for a folder without
    data.
    """
    names = [Path(place) / name for place, name in _walk(folder)]
    readable = sorted(
        path
        for path in names
        if path.name.lower().endswith(FILE_KINDS) and path.name not in _METADATA
    )
    others = sorted(path for path in names if path.name.lower().endswith(_OTHER_KINDS))
    for path in readable:
        check_regular(path)
    if not readable:
        told = (
            f"it holds {others[0].name}, which Burnish does not read"
            if others
            else "the folder holds no data"
        )
        hint = _CONVERT if others else None
        raise UserError(f"{told}. Burnish reads {listed(FILE_KINDS)}.", file=folder, hint=hint)
    return readable, others


def _walk(folder: Path) -> Iterator[tuple[str, str]]:
    """(folder, name) of every file below `folder`, hidden ones left out."""
    above: dict[str, tuple[int, int]] = {}
    count = 0
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        here = os.stat(place)
        parents = [identity for path, identity in above.items() if place.startswith(path + os.sep)]
        if (here.st_dev, here.st_ino) in parents:
            raise UserError("is a link back to a folder that it stands in. Remove it.", file=place)
        above = {
            path: identity for path, identity in above.items() if place.startswith(path + os.sep)
        }
        above[place] = (here.st_dev, here.st_ino)
        count += len(files) + len(folders)
        if count > MOST_FILES:
            raise UserError(
                f"holds more than {MOST_FILES} files. Name the folder that holds the data.",
                file=folder,
            )
        yield from ((place, name) for name in files if not name.startswith("."))


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(
        f"cannot be read ({error.strerror}). Check its permissions.", file=error.filename
    ) from error


def check_regular(path: Path) -> None:
    """Raise UserError unless `path` is a plain file: a pipe or a device may have no end."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(
            "is a link to nothing. Remove it, or bring what it points at.", file=path
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot be looked at ({error.strerror}). Check the path.", file=path
        ) from error
    if stat.S_ISREG(mode):
        return
    names: dict[Callable[[int], bool], str] = {
        stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISDIR: "a folder",
    }  # fmt: skip
    what = next((name for test, name in names.items() if test(mode)), "something else")
    raise UserError(f"must be a file, not {what}. Write the rows to a file first.", file=path)


def file_rows(file: Path | Traversable, *, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, columns) of each row in a file; `name` is what messages call it.

    Raises UserError for a file of another kind, one that cannot be read or changes meanwhile, and a
    malformed row.
    """
    if isinstance(file, Path):
        check_regular(file)
    ending = file.name.lower()
    if ending.endswith(".parquet"):
        rows = _parquet(file, name)
    elif ending.endswith((".jsonl", ".jsonl.gz")):
        rows = _json_lines(file, name)
    elif ending.endswith((".json", ".json.gz")):
        rows = _json_list(file, name)
    elif ending.endswith((".csv", ".tsv")):
        rows = _separated(file, name)
    elif ending.endswith(".arrow"):
        rows = _arrow(file, name)
    else:
        problem = f"is not a kind that Burnish reads. Convert it to one of {listed(FILE_KINDS)}."
        raise UserError(
            problem, file=name, hint=_CONVERT if file.name.lower().endswith(_OTHER_KINDS) else None
        )
    before = _state(file)
    for number, values in rows:
        if not isinstance(values, dict):
            raise UserError(
                f"must be an object with columns, not {kind(values)}.", file=name, row=number
            )
        yield number, values
    if _state(file) != before:
        raise UserError(
            "was written to while it was being read. Run again when it is complete.", file=name
        )


def _state(file: Path | Traversable) -> tuple[int, int] | None:
    """What changes when a file is written to."""
    if not isinstance(file, Path):
        return None
    try:
        now = file.stat()
    except OSError as error:
        raise UserError(
            f"cannot be read ({one_line(error)}). Check the file.", file=file
        ) from error
    return now.st_size, now.st_mtime_ns


class _Counted:
    """A packed file's bytes as they come out, which must stay in proportion to those that went
    in."""

    def __init__(self, unpacked: gzip.GzipFile, packed: IO[bytes], name: str) -> None:
        self._unpacked, self._packed, self._name = unpacked, packed, name
        self._count = 0

    def readline(self, size: int) -> bytes:
        return self._checked(self._unpacked.readline(size))

    def read(self, size: int) -> bytes:
        return self._checked(self._unpacked.read(size))

    def _checked(self, piece: bytes) -> bytes:
        self._count += len(piece)
        if self._count > LARGEST_LIST and self._count > _LARGEST_RATIO * max(
            self._packed.tell(), 1
        ):
            problem = (
                f"unpacks to more than {_LARGEST_RATIO} times its size, beyond"
                f" {LARGEST_LIST >> 20:,} MB."
            )
            raise UserError(
                problem,
                file=self._name,
                hint="Check where it comes from; unpack it if it is right.",
            )
        return piece


@contextmanager
def _opened(file: Path | Traversable, name: str) -> Iterator[IO[bytes] | _Counted]:
    """The file's bytes, decompressed. What goes wrong while they are read becomes a UserError."""
    try:
        with file.open("rb") as raw:
            if file.name.lower().endswith(".gz"):
                with gzip.open(raw) as unpacked:
                    yield _Counted(unpacked, raw, name)
            else:
                yield raw
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(
            f"cannot be read ({one_line(error)}). Check the file, or fetch it again.", file=name
        ) from error


def _json_lines(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    with _opened(file, name) as handle:
        number = 0
        while line := handle.readline(LONGEST_ROW + 1):
            number += 1
            if len(line) > LONGEST_ROW:
                problem = (
                    f"is longer than {LONGEST_ROW >> 20} MB. Cut it into several rows, or"
                    " remove it."
                )
                raise UserError(problem, file=name, row=number)
            if line.strip():
                yield number, _parsed(line, name, number)


def _json_list(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    with _opened(file, name) as handle:
        raw = handle.read(LARGEST_LIST + 1)
    if len(raw) > LARGEST_LIST:
        problem = (
            f"is larger than {LARGEST_LIST >> 20:,} MB. Write it as lines of JSON (.jsonl) or"
            " Parquet."
        )
        raise UserError(problem, file=name)
    rows = _parsed(raw, name, None) if raw.strip() else []
    if not isinstance(rows, list):
        raise UserError(f"a .json file must hold a list of objects, not {kind(rows)}.", file=name)
    yield from enumerate(rows, start=1)


class _Twice(Exception):
    """A key that stands twice in one object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for place, key in enumerate(keys) if key in keys[:place]))
    return found


def _parsed(raw: bytes, name: str, row: int | None) -> Any:
    """The JSON value in `raw`, which is one line, or a whole file when `row` is None."""
    try:
        text = raw.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 (byte {error.start + 1}). Save the file as UTF-8."
        raise UserError(problem, file=name, row=row) from error
    except _Twice as twice:
        row = _row_with(str(twice), raw) if row is None else row
        raise UserError(
            "this key stands twice. Keep one of them.", file=name, row=row, field=str(twice)
        ) from None
    except (ValueError, RecursionError) as error:  # a number of too many digits is a ValueError
        several = (
            row is None and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data"
        )
        hint = (
            "If every line is an object, name the file .jsonl."
            if several
            else "Mend it, or remove it."
        )
        raise UserError(
            f"is not JSON ({one_line(error)}).", file=name, row=row, hint=hint
        ) from error


def _row_with(key: str, raw: bytes) -> int | None:
    """The number of the first object of a list in which `key` stands twice; None where the JSON is
    no list."""
    text, number = raw.decode("utf-8-sig").lstrip(), 0
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    if not text.startswith("["):
        return None
    place = 1
    while place < len(text):
        number += 1
        while text[place : place + 1].isspace() or text[place : place + 1] == ",":
            place += 1
        try:
            _, place = decoder.raw_decode(text, place)
        except _Twice:
            return number
        except ValueError:
            return None
    return None


def _parquet(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow import parquet

    with _opened(file, name) as handle:
        number = 0
        try:
            table = parquet.ParquetFile(handle)
            _check_columns(table.schema_arrow, name)
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
        except pyarrow.ArrowException as error:
            raise UserError(
                f"is not a sound Parquet file ({one_line(error)}). Write it again.", file=name
            ) from error
        except (ValueError, OverflowError) as error:  # a time that Python's types cannot hold
            problem = (
                f"holds a value that cannot be read ({one_line(error)}). Convert its column to"
                " text."
            )
            raise UserError(problem, file=name, row=number + 1) from error


def _separated(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    """Rows of a CSV or TSV file, numbered from 1 behind the line of names. An empty cell is null;
    "NA" and its like are text."""
    import pandas

    separator = "\t" if file.name.lower().endswith(".tsv") else ","
    _check_heading(file, name, separator)
    try:
        with _opened(file, name) as handle:
            # By pandas, as the library `datasets` reads CSV too; whole, so that a column is numbers
            # only where all of it is.
            table = pandas.read_csv(
                cast(Any, handle),
                sep=separator,
                keep_default_na=False,
                na_values=[""],
                low_memory=False,
                encoding="utf-8-sig",
            )
    except (ValueError, pandas.errors.ParserError) as error:  # bytes that are not UTF-8 among them
        hint = (
            f"Mend that line; columns are separated by {'tabs' if separator != ',' else 'commas'},"
            " text is UTF-8."
        )
        raise UserError(f"is not sound CSV ({one_line(error)}).", file=name, hint=hint) from error
    for number, values in enumerate(table.to_dict("records"), start=1):
        yield number, {str(key): None if value != value else value for key, value in values.items()}


def _check_heading(file: Path | Traversable, name: str, separator: str) -> None:
    """Raise UserError where two columns have one name, or one has none: pandas would make names
    up."""
    with _opened(file, name) as handle:
        first = handle.readline(LONGEST_ROW)
    try:
        names = next(csv.reader([first.decode("utf-8-sig")], delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"is not CSV ({one_line(error)}). Save it as UTF-8.", file=name, row=None
        ) from error
    twice = next((one for place, one in enumerate(names) if one in names[:place]), None)
    if twice is not None:
        raise UserError("two columns have this name. Rename one.", file=name, field=twice)
    if not names or any(not one.strip() for one in names):
        raise UserError(
            "the first line must name every column.",
            file=name,
            hint="For instance: prompt,completion",
        )


def _arrow(file: Path | Traversable, name: str) -> Iterator[tuple[int, Any]]:
    import datasets
    import pyarrow

    try:
        table = datasets.Dataset.from_file(str(file))
        for number, values in enumerate(table, start=1):
            yield number, dict(values)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"is not a sound Arrow file ({one_line(error)}). Write it again.", file=name
        ) from error


def _check_columns(schema: Any, name: str, inside: str = "") -> None:
    """Raise UserError where two columns, or two fields of one column, have one name: the last would
    hide the others."""
    import pyarrow

    fields = [schema.field(i) for i in range(len(schema) if not inside else schema.num_fields)]
    names = [field.name for field in fields]
    twice = next((one for place, one in enumerate(names) if one in names[:place]), None)
    if twice is not None:
        raise UserError("two columns have this name. Rename one.", file=name, field=inside + twice)
    for field in fields:
        kind_of, path = field.type, f"{inside}{field.name}"
        while pyarrow.types.is_list(kind_of) or pyarrow.types.is_large_list(kind_of):
            kind_of = kind_of.value_type
        if pyarrow.types.is_struct(kind_of):
            _check_columns(kind_of, name, f"{path}.")
