"""What a stage leaves on record: that it was begun and with what, that it finished, and the
checksums of what it made.

Every later reader (a stage, a fork, chat, the report) compares the checksums first: a file that was
changed since, be it by one bit, is told in one line instead of changing what is built on it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.runs.manifest import file_hash, read_sealed, write_sealed

_RECORD, _BEGUN = "stage.json", "begun.json"
_READ_LATER = (
    "model",
    "result.json",
    "annotations.sqlite",
    "answers.jsonl",
    "comparisons.jsonl",
    "demonstrations.jsonl",
    "verdicts.jsonl",
)
"""What of a stage's folder later readers read."""
_KEPT = ("model", "annotations.sqlite", "checkpoints/checkpoint-*", "parts/*", "journal/*")
"""What of an unfinished stage a resumed run goes on with."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """A finished stage. `inputs` is what its fingerprint was made of, kept to explain what changed;
    `files` has the SHA-256 of every file that is read later, by its path in the stage's folder;
    `accepted` has what was changed while it was under way."""

    name: str
    fingerprint: str
    inputs: Mapping[str, Any]
    seconds: float
    peak_memory_gb: float
    finished_at: str
    files: Mapping[str, str] = field(default_factory=dict)
    accepted: Sequence[str] = ()

    def write(self, path: Path) -> None:
        """To disk, atomically: a stage is finished when this file is there."""
        write_sealed(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> StageRecord | None:
        """From disk; None if the stage has not finished."""
        problem = UserError(
            "this record of a finished stage is damaged.",
            file=path,
            hint="Remove it to run the stage again.",
        )
        try:
            record = cls(**read_sealed(path, problem))
        except FileNotFoundError:
            return None
        except TypeError:
            raise problem from None
        kinds = {
            "name": str,
            "fingerprint": str,
            "inputs": Mapping,
            "finished_at": str,
            "files": Mapping,
            "accepted": list | tuple,
        }
        kinds |= {"seconds": int | float, "peak_memory_gb": int | float}
        if not all(
            isinstance(getattr(record, one.name), kinds[one.name]) for one in fields(record)
        ):
            raise problem
        return replace(record, accepted=tuple(record.accepted))  # JSON has lists only


def checksums(stage: Path) -> dict[str, str]:
    """The SHA-256 of every file of a stage's folder that is read later, by its path in there."""
    return {path.relative_to(stage).as_posix(): file_hash(path) for path in _files(stage)}


def verify(stage: Path, record: StageRecord, *, parts: Iterable[str] = _READ_LATER) -> None:
    """Raise UserError unless the files of a finished stage are those that it left; `parts` of its
    folder are looked at."""
    wanted = tuple(parts)
    inside = lambda name: name.split("/")[0] in wanted  # noqa: E731
    if not record.files:  # a record from before there were checksums
        return
    for name in filter(inside, record.files):
        path = stage / name
        if not path.is_file():
            raise _damaged(stage, path, "is no longer there", record)
        try:
            same = file_hash(path) == record.files[name]
        except OSError as error:
            raise _damaged(
                stage, path, f"cannot be read ({error.strerror or error})", record
            ) from None
        if not same:
            raise _damaged(stage, path, "was changed", record)
    for path in _files(stage):
        name = path.relative_to(stage).as_posix()
        if inside(name) and name not in record.files:
            raise _damaged(stage, path, "was put there", record)


def verify_if_stage(folder: Path) -> None:
    """The same for the folder `model` of some run's finished stage; any other folder is left
    alone."""
    record = StageRecord.read(folder.parent / _RECORD) if folder.name == "model" else None
    if record is not None:
        verify(folder.parent, record, parts=(folder.name,))


def begin(
    stage: Path, inputs: Mapping[str, Any], *, seconds: float, accepted: Sequence[str] = ()
) -> None:
    """Write down what an unfinished stage is made with, the seconds that it has taken so far, and
    what was changed on the way."""
    write_sealed(stage / _BEGUN, {"inputs": inputs, "seconds": seconds, "accepted": list(accepted)})


def begun(stage: Path) -> tuple[Mapping[str, Any] | None, float, Sequence[str]]:
    """(inputs, seconds spent so far, what was changed on the way) of a stage that was begun and not
    finished; (None, 0, ()) if there is nothing to go on with.

    A start that made nothing binds nothing: not a step was trained, so whatever it was to be made
    with is forgotten. Raises UserError where something was made and what it was made with is not
    known any more.
    """
    if not _has_made_something(stage):
        return None, 0.0, ()
    problem = UserError(
        "this stage was begun, and the record of its settings is damaged.", file=stage / _BEGUN,
        hint=f"Remove the folder {stage} to run the stage from its start.",
    )  # fmt: skip
    try:
        found = read_sealed(stage / _BEGUN, problem)
        inputs, seconds, accepted = (
            found["inputs"],
            float(found["seconds"]),
            found.get("accepted", []),
        )
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        raise problem from None
    if not isinstance(inputs, Mapping) or not isinstance(accepted, list):
        raise problem
    return inputs, seconds, accepted


def reopen(stage: Path) -> None:
    """Make a finished stage one that was begun, so that it goes on from its last checkpoint. Safe
    to be killed in: the record of what it was made with is there first, and what it had made goes
    last."""
    record = StageRecord.read(stage / _RECORD)
    if record is None:
        return
    begin(stage, record.inputs, seconds=record.seconds, accepted=record.accepted)
    (stage / _RECORD).unlink()
    (stage / "result.json").unlink(missing_ok=True)
    shutil.rmtree(stage / "model", ignore_errors=True)


def clear_if_nothing_was_made(stage: Path) -> None:
    """Remove the rest of a start that made nothing, so that what is begun now finds an empty
    folder."""
    if stage.is_dir() and not _has_made_something(stage):
        shutil.rmtree(stage)


def _has_made_something(stage: Path) -> bool:
    """Whether anything is there that a resumed stage would go on with, or a step in its log."""
    if any(True for pattern in _KEPT for _ in stage.glob(pattern)):
        return True
    log = stage / "metrics.jsonl"
    return log.is_file() and log.stat().st_size > 0


def _files(stage: Path) -> Iterator[Path]:
    for name in _READ_LATER:
        path = stage / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from sorted(inner for inner in path.rglob("*") if inner.is_file())


def _damaged(stage: Path, path: Path, what: str, record: StageRecord) -> UserError:
    return UserError(
        f"this file {what} after the stage {record.name} had finished, and what is built on it"
        " would be another.",
        file=path,
        hint=(
            f"Remove the folder {stage} and run the recipe again: the stage {record.name} is then"
            " made anew."
        ),
    )
