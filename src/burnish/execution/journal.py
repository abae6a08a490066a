"""Rollouts on disk before they are trained on: what was drawn once is never drawn again.

A file holds the rollouts of one version of the weights, a record for each time that the sampler was
asked. A record is columns of numbers behind a table of what they are, with a checksum; a record
that a kill or a power cut has torn is as good as not there.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from burnish.atomic import disk_errors
from burnish.jsonio import dumps
from burnish.ranks import first, told
from burnish.records import Completion, Prompt, Rollout
from burnish.system import sync_folder

if TYPE_CHECKING:
    from burnish.models.roles import View

JOURNAL = "journal"
"""Its folder, in a stage's."""
_MAGIC = b"BURNISH1"
_HEAD = struct.Struct("<8sQQ32s")  # mark, bytes of the table and of the columns, sha256 of both
_FINISH = ("stop", "length")


class Journal:
    """The rollouts in `folder`, by the version of the weights and by what was asked (`key`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, version: int, key: str, prompts: Sequence[Prompt]) -> list[Rollout] | None:
        """What was answered to these prompts, or None."""
        for _, table, columns in self._records(version):
            if table["key"] == key:
                return _unpacked(table, columns, prompts)
        return None

    def add(
        self, version: int, key: str, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
    ) -> None:
        """Write them behind what is there; they are on the disk when it returns. Raises UserError
        where that is full."""
        data = _packed(key, prompts, rollouts)
        path = self._path(version)
        end = max((end for end, _, _ in self._records(version)), default=0)
        with disk_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.truncate(end)  # a torn record goes
                file.seek(end)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self._folder)

    def forget(self, before: int) -> None:
        """Drop what versions before this one have written: a checkpoint covers it."""
        for path in self._folder.glob("*.rollouts"):
            if int(path.stem) < before:
                path.unlink()

    def _path(self, version: int) -> Path:
        return self._folder / f"{version:06d}.rollouts"

    def _records(self, version: int) -> Iterator[tuple[int, dict[str, Any], bytes]]:
        """(where it ends, its table, its columns) of each whole record, up to the first that is
        not."""
        try:
            data = self._path(version).read_bytes()
        except FileNotFoundError:
            return
        start = 0
        while start + _HEAD.size <= len(data):
            mark, length, rest, digest = _HEAD.unpack_from(data, start)
            body = data[start + _HEAD.size :][: length + rest]
            if mark != _MAGIC or len(body) < length + rest:
                return
            if hashlib.sha256(body).digest() != digest:
                return
            start += _HEAD.size + length + rest
            yield start, json.loads(body[:length]), body[length:]


class Sampler(Protocol):
    """What is journalled: see `trainers.gather.Sampler`."""

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        """`samples` completions of each prompt, those of one prompt side by side."""
        ...

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        ...

    def sleep(self) -> None:
        """Sample nothing before the next `load`."""
        ...


class JournalledSampler:
    """A sampler whose rollouts are in a journal before anybody sees them, and are taken from it
    where they are there. On several ranks the first has the journal, and all call it together.

    Args:
        inner: draws.
        journal: where.
        how: everything besides prompts and weights that rollouts depend on, as text.
        covered: the step of the oldest checkpoint that is kept: a run may go back to it, not
            further.
    """

    def __init__(
        self, inner: Sampler, journal: Journal, *, how: str, covered: Callable[[], int]
    ) -> None:
        self._inner, self._journal, self._how, self._covered = inner, journal, how, covered
        self._version = -1
        self.replayed = 0

    def load(self, view: View, *, version: int) -> None:
        """Take over new weights."""
        if first():
            self._journal.forget(self._covered())
        self._version = version
        self._inner.load(view, version=version)

    def sleep(self) -> None:
        """Sample nothing before the next `load`."""
        self._inner.sleep()

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        """`samples` completions of each prompt, drawn or as they were drawn."""
        asked = [(prompt.id, [dict(m) for m in prompt.messages]) for prompt in prompts]
        what = json.dumps([self._how, round, samples, asked], sort_keys=True, default=repr)
        key = hashlib.sha256(what.encode()).hexdigest()
        known = told(lambda: self._journal.find(self._version, key, prompts))
        if known is not None:
            self.replayed += len(known)
            return known
        rollouts = self._inner.generate(prompts, samples=samples, round=round)
        told(lambda: self._journal.add(self._version, key, prompts, rollouts))
        return rollouts


def _packed(key: str, prompts: Sequence[Prompt], rollouts: Sequence[Rollout]) -> bytes:
    """A record."""
    completions = [rollout.completion for rollout in rollouts]
    ragged: dict[str, list[Any]] = {
        "prompt_tokens": [rollout.prompt_tokens for rollout in rollouts],
        "tokens": [c.tokens for c in completions],
        "response_mask": [c.response_mask for c in completions],
        "sampler_logprobs": [c.sampler_logprobs for c in completions],
        "model_logprobs": [c.model_logprobs for c in completions],
        "text": [tuple(c.text.encode("utf-8", "surrogatepass")) for c in completions],
    }
    columns: list[tuple[str, np.ndarray]] = []
    for name, rows in ragged.items():
        columns.append((f"{name}/length", np.array([len(row) for row in rows], dtype="<i4")))
        columns.append((name, _column(name, [value for row in rows for value in row])))
    table = {
        "key": key,
        "prompts": [number for number, _ in _places(prompts, rollouts)],
        "versions": [rollout.weight_version for rollout in rollouts],
        "finish": [_FINISH.index(c.finish_reason) for c in completions],
        "paid": [dict(rollout.paid) for rollout in rollouts],
        "columns": [(name, values.dtype.str, len(values)) for name, values in columns],
    }
    head = dumps(table).encode()
    body = b"".join(values.tobytes() for _, values in columns)
    digest = hashlib.sha256(head + body).digest()
    return _HEAD.pack(_MAGIC, len(head), len(body), digest) + head + body


def _places(
    prompts: Sequence[Prompt], rollouts: Sequence[Rollout]
) -> Iterator[tuple[int, Rollout]]:
    """Which of the prompts each rollout answers: those of one prompt stand side by side."""
    samples = len(rollouts) // max(1, len(prompts))
    for place, rollout in enumerate(rollouts):
        number = place // samples
        assert rollout.prompt.id == prompts[number].id
        yield number, rollout


def _column(name: str, values: list[Any]) -> np.ndarray:
    """The narrowest that holds these numbers exactly."""
    if name == "text" or name == "response_mask":
        return np.array(values, dtype="<u1")
    if "logprobs" not in name:
        return np.array(values, dtype="<i4")
    wide = np.array(values, dtype="<f8")
    narrow = wide.astype("<f4")
    return narrow if np.array_equal(narrow.astype("<f8"), wide) else wide


def _unpacked(table: Mapping[str, Any], body: bytes, prompts: Sequence[Prompt]) -> list[Rollout]:
    columns: dict[str, list[Any]] = {}
    start = 0
    for name, kind, count in table["columns"]:
        values = np.frombuffer(body, dtype=kind, count=count, offset=start)
        start += values.nbytes
        columns[name] = values.tolist()
    rows = {
        name: _cut(columns[name], columns[f"{name}/length"])
        for name in columns
        if not name.endswith("/length")
    }
    rollouts: list[Rollout] = []
    for place, number in enumerate(table["prompts"]):
        completion = Completion(
            bytes(rows["text"][place]).decode("utf-8", "surrogatepass"),
            rows["tokens"][place],
            rows["sampler_logprobs"][place],
            _FINISH[table["finish"][place]],
            rows["model_logprobs"][place],
            tuple(map(bool, rows["response_mask"][place])),
        )
        version, paid = table["versions"][place], table["paid"][place]
        prompt_tokens = rows["prompt_tokens"][place]
        rollouts.append(Rollout(prompts[number], prompt_tokens, completion, version, paid))
    return rollouts


def _cut(values: list[Any], lengths: Sequence[int]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    start = 0
    for length in lengths:
        rows.append(tuple(values[start : start + length]))
        start += length
    return rows
