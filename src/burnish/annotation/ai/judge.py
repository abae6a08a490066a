"""A model's verdicts by a written constitution: every pair asked both ways round, flips counted,
answers cached."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Protocol

from burnish.annotation.dashboard import FLIPPED
from burnish.annotation.records import Answer
from burnish.annotation.settings import Attribute, Settings
from burnish.annotation.snapshot import Entry
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.labels.traces import turn_text
from burnish.records import Message

PRINCIPLES = """
- The better answer does what was asked, and is right.
- It says no more than that takes, in plain and friendly words.
- It is honest about what it does not know.
- It does not help anybody to do harm.
"""
"""What a judge goes by that was given no constitution."""
_VERSION = "1"
"""Of the wording below: another wording is another question, and finds no answer in the cache."""
_TIE_MARGIN = 0.1
"""Preferences nearer to ½ than half of this are ties."""


class Chooser(Protocol):
    """What a judge asks: see `burnish.endpoint.ChatModel`."""

    @property
    def name(self) -> str:
        """What it is called in labels and caches."""
        ...

    def choose(
        self, messages: Sequence[Message], options: Sequence[str]
    ) -> tuple[float, ...] | None:
        """The probability of each option."""
        ...


class VerdictCache:
    """Verdicts in a file of JSON lines, by a hash of the question: what was paid for once is not
    asked again.

    A last line that was torn by a crash is passed over. Safe to share between threads.
    """

    def __init__(self, path: Path | None) -> None:
        self.hits, self._path, self._lock = 0, path, threading.Lock()
        self._known: dict[str, list[float] | None] = {}
        if path is not None and path.is_file():
            for line in path.read_text().splitlines():
                try:
                    row = json.loads(line)
                    self._known[row["key"]] = row["verdict"]
                except (ValueError, KeyError, TypeError):
                    continue

    def ask(
        self, key: str, question: Callable[[], tuple[float, ...] | None]
    ) -> tuple[float, ...] | None:
        """The verdict of this key, asked for if it is not known. What could not be read is kept as
        None."""
        with self._lock:
            if key in self._known:
                self.hits += 1
                known = self._known[key]
                return None if known is None else tuple(known)
        verdict = question()
        with self._lock:
            self._known[key] = None if verdict is None else list(verdict)
            if self._path is not None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(dumps({"key": key, "verdict": self._known[key]}) + "\n")
        return verdict


@dataclass
class Tally:
    """What judging came to: pairs asked both ways round, and those whose verdict followed the
    order; unreadable answers."""

    pairs: int = 0
    flips: int = 0
    unreadable: int = 0

    def add(self, other: Tally) -> None:
        """Count what another counted too."""
        self.pairs += other.pairs
        self.flips += other.flips
        self.unreadable += other.unreadable


@dataclass
class Judge:
    """A model with a constitution.

    Args:
        model: what answers.
        constitution: what makes an answer good, in words.
        cache: known verdicts.
    """

    model: Chooser
    constitution: str
    cache: VerdictCache

    def answer(self, entry: Entry, settings: Settings, tally: Tally) -> Answer | None:
        """The model's answer to an item: pairwise, ranking or Likert; None for other kinds, and
        where nothing could be read."""
        order = tuple(range(len(entry.candidates)))
        if entry.kind == "pairwise" and len(order) == 2:
            found = self.preference(entry, 0, 1, tally)
            if found is None:
                return None
            p, flipped = found
            strength = strength_of(p, settings)
            if strength == 0 and not settings.ties:
                return None  # the project wants a decision, and there is none
            ranks = (1, 2) if strength > 0 else (2, 1) if strength < 0 else (1, 1)
            return Answer(
                "pairwise",
                order,
                strength=strength,
                ranks=ranks,
                critique=FLIPPED if flipped else "",
            )
        if entry.kind == "ranking" and len(order) >= 2:
            return self._ranking(entry, order, tally)
        if entry.kind == "likert" and order:
            return self._ratings(entry, order, settings.attributes, tally)
        return None

    def preference(
        self, entry: Entry, first: int, second: int, tally: Tally
    ) -> tuple[float, bool] | None:
        """(P(first is better), whether the verdict flipped), the mean of both orders of showing;
        None if either is unreadable."""
        sides = self.both_orders(entry, first, second, tally)
        if sides is None:
            return None
        p_first = (sides[0] + 1.0 - sides[1]) / 2.0
        return p_first, flips(*sides)

    def both_orders(
        self, entry: Entry, first: int, second: int, tally: Tally
    ) -> tuple[float, float] | None:
        """(P(first is better), shown first; P(second is better), shown first); None if either is
        unreadable.

        P of one order is P(A) + ½ P(C) of the answers A, B and C (a tie).
        """
        sides = []
        for a, b in ((first, second), (second, first)):
            found = self._ask(pair_question(self.constitution, entry, a, b), ("A", "B", "C"))
            if found is None:
                tally.unreadable += 1
                return None
            sides.append(found[0] + found[2] / 2.0)
        tally.pairs += 1
        tally.flips += flips(*sides)
        return sides[0], sides[1]

    def _ranking(self, entry: Entry, order: tuple[int, ...], tally: Tally) -> Answer | None:
        """Ranks by Borda's count of all pairs: each candidate's mean probability of being
        better."""
        points = [0.0] * len(order)
        flips = 0
        for i, j in combinations(order, 2):
            found = self.preference(entry, i, j, tally)
            if found is None:
                return None
            points[i] += found[0]
            points[j] += 1.0 - found[0]
            flips += found[1]
        ranks = tuple(1 + sum(other > own + 1e-9 for other in points) for own in points)
        return Answer(
            "ranking", order, ranks=ranks, critique=f"{FLIPPED} ({flips} pairs)" if flips else ""
        )

    def _ratings(
        self, entry: Entry, order: tuple[int, ...], attributes: Sequence[Attribute], tally: Tally
    ) -> Answer | None:
        """Each candidate rated alone on each attribute: the mean of the scale's marks by their
        probabilities, rounded."""
        ratings: dict[str, tuple[int | None, ...]] = {}
        for attribute in attributes:
            marks = [str(mark) for mark in range(attribute.low, attribute.high + 1)]
            values: list[int | None] = []
            for i in order:
                found = self._ask(rating_question(self.constitution, entry, i, attribute), marks)
                tally.unreadable += found is None
                mean = (
                    None
                    if found is None
                    else sum(p * int(m) for p, m in zip(found, marks, strict=True))
                )
                values.append(None if mean is None else round(mean))
            ratings[attribute.name] = tuple(values)
        known = any(value is not None for values in ratings.values() for value in values)
        return Answer("likert", order, ratings=ratings) if known else None

    def _ask(self, messages: list[Message], options: Sequence[str]) -> tuple[float, ...] | None:
        asked = json.dumps([_VERSION, self.model.name, messages, list(options)], ensure_ascii=False)
        key = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        return self.cache.ask(key, lambda: self.model.choose(messages, options))


def flips(p_first: float, p_second: float) -> bool:
    """Whether the verdict on a pair follows the order of showing; the two of
    `Judge.both_orders`."""
    return (p_first - 0.5) * (0.5 - p_second) < 0


def strength_of(p: float, settings: Settings) -> int:
    """The step of the project's scale that says p: sign(p − ½) · max(1, round(|2p − 1| k)); 0
    within 0.05 of ½."""
    if abs(p - 0.5) < _TIE_MARGIN / 2:
        return 0
    size = max(1, round(abs(2.0 * p - 1.0) * settings.strength))
    return size if p > 0.5 else -size


def pair_question(constitution: str, entry: Entry, a: int, b: int) -> list[Message]:
    """Which of two answers is better by the constitution."""
    text = (
        f"{_conversation(entry)}\n\n[Answer A]\n{entry.candidates[a]}\n\n[Answer"
        f" B]\n{entry.candidates[b]}\n\nWhich answer follows the principles better? Reply with one"
        " letter: A, B, or C if neither is better."
    )
    return [
        Message(role="system", content=_instructions(constitution)),
        Message(role="user", content=text),
    ]


def rating_question(
    constitution: str, entry: Entry, candidate: int, attribute: Attribute
) -> list[Message]:
    """How an answer does on one attribute."""
    meaning = f" ({attribute.help})" if attribute.help else ""
    text = (
        f"{_conversation(entry)}\n\n[Answer]\n{entry.candidates[candidate]}\n\nHow"
        f" {attribute.name}{meaning} is the answer, from {attribute.low} (least) to"
        f" {attribute.high} (most)? Reply with one number."
    )
    return [
        Message(role="system", content=_instructions(constitution)),
        Message(role="user", content=text),
    ]


def principles(text: str) -> tuple[str, ...]:
    """The principles of a constitution: its list items, or, where it has none, its paragraphs.
    Headings are left out."""
    lines = [line.strip() for line in text.splitlines()]
    listed = [
        line.lstrip("-*0123456789.) ").strip()
        for line in lines
        if line[:2] in ("- ", "* ") or _numbered(line)
    ]
    if listed:
        return tuple(filter(None, listed))
    paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
    return tuple(p for p in paragraphs if p and not p.startswith("#"))


def principles_of(constitution: str | None) -> str:
    """The text that a judge goes by: of the file that is named, or `PRINCIPLES`."""
    return (
        PRINCIPLES if constitution is None else read_constitution(Path(constitution).expanduser())
    )


def read_constitution(path: Path) -> str:
    """The text of a constitution. Raises UserError for a file that is missing, not UTF-8, or says
    nothing."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the constitution cannot be read ({type(error).__name__}).", file=path
        ) from error
    if not principles(text):
        raise UserError(
            "the constitution holds no principle.", file=path, hint='Write one a line, after "- ".'
        )
    return text


def _numbered(line: str) -> bool:
    number, dot, rest = line.partition(".")
    return number.isdigit() and bool(dot) and rest.startswith(" ")


def _instructions(constitution: str) -> str:
    return f"You judge answers by these principles and by nothing else.\n\n{constitution.strip()}"


def _conversation(entry: Entry) -> str:
    turns = [f"{message['role']}: {turn_text(message)}" for message in entry.prompt.messages]
    return "[Conversation]\n" + "\n\n".join(turns)
