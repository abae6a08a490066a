"""Procedural tasks: problems with one checkable answer, made from a seed and an index, with no data
needed.

A source `task:KIND?OPTION=VALUE&...`. The kinds: arithmetic, countdown, sorting, edits. Problem
number i of a split is a pure function of (kind, options, seed, split, i): a stream without end that
resumes from its index.

Held out are the problems whose canonical form has a hash below a fifth of its range; training draws
from the others. So no training problem, nor the same one written otherwise (3 + 5 and 5 + 3; the
same numbers in another order), is ever held out, whatever the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from itertools import count, islice
from typing import Any
from urllib.parse import parse_qsl

from burnish.errors import UserError

PREFIX = "task:"
HELDOUT_SHARE = 0.2
_PATIENCE = 200  # problems seen before in a row: the task has no more to offer

ASK = {
    "plain": "",
    "number": " Answer with the result only.",
    "boxed": " Put the final answer in \\boxed{}.",
    "answer": " Put the final answer between <answer> and </answer>.",
    "think": (
        " Think between <think> and </think>, then put the final answer between <answer> and"
        " </answer>."
    ),
}
"""How a problem asks for its answer: what is put behind its text."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in words, its answer, what else a judge needs, and a form that all ways of writing
    it share."""

    text: str
    answer: str
    canonical: str
    extra: Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """A kind of problems with its options; `item` makes any one of them.

    Args:
        kind: arithmetic, countdown, sorting or edits.
        options: of the kind, all there.
        ask: how the answer is asked for, a key of `ASK`.
        seed: of the problems.
    """

    kind: str
    options: Mapping[str, Any]
    ask: str = "plain"
    seed: int = 0

    def item(self, split: str, index: int) -> Problem:
        """Problem number `index` (from 0) of the split "train" or "heldout". Raises UserError where
        a split has no problem."""
        for attempt in range(10_000):
            draw = blake2b(
                f"{self.seed}/{self.kind}/{split}/{index}/{attempt}".encode(), digest_size=8
            ).digest()
            problem = _KINDS[self.kind].make(
                random.Random(int.from_bytes(draw, "big")), **self.options
            )
            if split_of(f"{self.kind}/{problem.canonical}") == split:
                return problem
        raise UserError(
            f"the task {self.kind} with these options has no {split} problem. Make it harder."
        )

    def stream(self, split: str) -> Iterator[Problem]:
        """Different problems of a split, in the order of their index, until it has no more."""
        seen: set[str] = set()
        missed = 0
        for index in count():
            problem = self.item(split, index)
            missed = missed + 1 if problem.canonical in seen else 0
            if missed > _PATIENCE:
                return
            if not missed:
                seen.add(problem.canonical)
                yield problem

    def row(self, problem: Problem, split: str) -> dict[str, Any]:
        """The problem in the columns of a source of prompts."""
        columns = {
            "answer": problem.answer,
            "task": self.kind,
            "tags": [self.kind, "reasoning"],
            "split": split,
        }
        return {"prompt": problem.text + ASK[self.ask], **columns, **problem.extra}


def split_of(canonical: str) -> str:
    """On which side a problem is."""
    place = int.from_bytes(blake2b(canonical.encode(), digest_size=8).digest(), "big")
    return "heldout" if place < HELDOUT_SHARE * 2**64 else "train"


def task_rows(ref: str) -> Iterator[dict[str, Any]]:
    """The rows of `task:KIND?...`: `train` (default 2000) different training problems, then
    `heldout` (200) held-out ones.

    Fewer where the task has no more. Raises UserError for an unknown kind or option, naming those
    there are.
    """
    task, sizes = parse_task(ref)
    for split, size in sizes.items():
        for problem in islice(task.stream(split), size):
            yield task.row(problem, split)


def parse_task(ref: str) -> tuple[Task, dict[str, int]]:
    """The task of a reference, and how many problems of each split are wanted."""
    name, _, query = ref.removeprefix(PREFIX).partition("?")
    if name not in _KINDS:
        raise UserError(f'there is no task "{name}"; there are {", ".join(_KINDS)}.', file=ref)
    kind = _KINDS[name]
    # a plus sign is an operation here, not a space
    given = dict(parse_qsl(query.replace("+", "%2B"), keep_blank_values=True))
    level = _whole(ref, given, "level", 1, low=1, high=9)
    defaults = kind.defaults(level)
    known = ("level", "ask", "seed", "train", "heldout", *defaults)
    unknown = next((option for option in given if option not in known), None)
    if unknown is not None:
        raise UserError(
            f'the task {name} has no option "{unknown}"; it has {", ".join(known)}.', file=ref
        )
    ask = given.get("ask", "plain")
    if ask not in ASK:
        raise UserError(
            f'"{ask}" is no way to ask; there are {", ".join(ASK)}.', file=ref, field="ask"
        )
    options: dict[str, Any] = {}
    for option, default in defaults.items():
        if isinstance(default, int):
            low, high = kind.bounds[option]
            options[option] = _whole(ref, given, option, default, low=low, high=high)
        else:
            options[option] = given.get(option, default)
    if "operations" in options and (
        not options["operations"] or set(options["operations"]) - set("+-*/")
    ):
        raise UserError("are some of + - * /.", file=ref, field="operations")
    sizes = {
        split: _whole(ref, given, split, size, low=1, high=10**6) for split, size in _SIZES.items()
    }
    return Task(name, options, ask, _whole(ref, given, "seed", 0, low=0, high=2**31)), sizes


_SIZES = {"train": 2000, "heldout": 200}


def _whole(
    ref: str, given: Mapping[str, str], option: str, default: int, *, low: int, high: int
) -> int:
    text = given.get(option)
    if text is None:
        return default
    if not text.lstrip("-").isdigit() or not low <= int(text) <= high:
        raise UserError(
            f"must be a whole number from {low} to {high}, not {text!r}.", file=ref, field=option
        )
    return int(text)


def _arithmetic(rng: random.Random, *, digits: int, terms: int, operations: str) -> Problem:
    """a ∘ b (∘ c ...): operands of up to `digits` digits, the usual precedence; a quotient is
    always whole."""
    operands = [rng.randrange(10**digits) for _ in range(terms)]
    signs = [rng.choice(operations) for _ in range(terms - 1)]
    if signs[:1] == ["/"] and terms == 2:
        quotient, divisor = operands[0], 1 + operands[1] % (10**digits - 1)
        operands = [quotient * divisor, divisor]
    elif "/" in signs:  # in longer sums a division would seldom be whole
        signs = [
            rng.choice(operations.replace("/", "") or "+") if sign == "/" else sign
            for sign in signs
        ]
    words = " ".join(f"{sign} {operand}" for sign, operand in zip(signs, operands[1:], strict=True))
    shown = f"{operands[0]} {words}".replace("*", "×").replace("/", "÷").replace(" - ", " − ")
    value = operands[0] // operands[1] if signs == ["/"] else _precedence(operands, signs)
    return Problem(f"What is {shown}?", str(value), _canonical_sum(operands, signs), {})


def _precedence(operands: list[int], signs: list[str]) -> int:
    """× before + and −."""
    total, product, sign = 0, operands[0], 1
    for operation, operand in zip(signs, operands[1:], strict=True):
        if operation == "*":
            product *= operand
        else:
            total, product, sign = total + sign * product, operand, 1 if operation == "+" else -1
    return total + sign * product


def _canonical_sum(operands: list[int], signs: list[str]) -> str:
    """The multiset of signed terms, each the multiset of its factors: what commutes is the same."""
    if signs == ["/"]:
        return f"{operands[0]}/{operands[1]}"
    terms: list[tuple[str, list[int]]] = [("+", [operands[0]])]
    for operation, operand in zip(signs, operands[1:], strict=True):
        if operation == "*":
            terms[-1][1].append(operand)
        else:
            terms.append((operation, [operand]))
    return " ".join(
        sorted(f"{sign}{'*'.join(map(str, sorted(factors)))}" for sign, factors in terms)
    )


def _countdown(rng: random.Random, *, numbers: int, largest: int) -> Problem:
    """Numbers, and a whole target in (0, 1000) that one expression of theirs is known to reach."""
    while True:
        given = [rng.randint(1, largest) for _ in range(numbers)]
        parts: list[tuple[Fraction, str]] = [(Fraction(n), str(n)) for n in given]
        while len(parts) > 1:
            (a, left), (b, right) = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
            choices = [
                (a + b, "+"),
                (a - b, "-"),
                (a * b, "*"),
                *([(a / b, "/")] if b and (a / b).denominator == 1 else []),
            ]
            value, sign = rng.choice(choices)
            parts.append((value, f"({left} {sign} {right})"))
        value, expression = parts[0]
        if value.denominator == 1 and 0 < value < 1000 and value not in given:
            break
    target = int(value)
    text = (
        f"Using each of the numbers {', '.join(map(str, given))} exactly once, with +, -, *, / and"
        f" brackets, write an expression that equals {target}."
    )
    canonical = f"{sorted(given)} {target}"
    return Problem(text, expression[1:-1], canonical, {"numbers": given, "target": target})


def _sorting(rng: random.Random, *, items: int, largest: int, order: str) -> Problem:
    """Whole numbers to be put in order."""
    given = [rng.randint(0, largest) for _ in range(items)]
    upwards = order == "up" or (order == "both" and rng.random() < 0.5)
    way = "from smallest to largest" if upwards else "from largest to smallest"
    answer = ", ".join(map(str, sorted(given, reverse=not upwards)))
    return Problem(
        f"Sort these numbers {way}: {', '.join(map(str, given))}.",
        answer,
        f"{upwards} {sorted(given)}",
        {},
    )


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_EDITS: dict[str, Callable[[str, str, str], str]] = {
    "reverse it": lambda word, a, b: word[::-1],
    "write it in capitals": lambda word, a, b: word.upper(),
    "remove every {a}": lambda word, a, b: word.replace(a, ""),
    "replace every {a} by {b}": lambda word, a, b: word.replace(a, b),
    "double its last letter": lambda word, a, b: word + word[-1:],
    "move its first letter to the end": lambda word, a, b: word[1:] + word[:1],
    "put {b} in front": lambda word, a, b: b + word,
}


def _edits(rng: random.Random, *, length: int, steps: int) -> Problem:
    """A row of letters and what to do with it, step after step. Never empty."""
    word = "".join(rng.choice(_LETTERS) for _ in range(length))
    result, told = word, []
    for _ in range(steps):
        name = rng.choice(
            [name for name in _EDITS if name != "write it in capitals" or not result.isupper()]
        )
        a, b = rng.choice(result), rng.choice(_LETTERS)
        changed = _EDITS[name](result, a, b)
        if changed:
            result = changed
            told.append(name.format(a=f'"{a}"', b=f'"{b}"'))
    if not told:
        result = word[::-1]
        told.append("reverse it")
    text = f'Take "{word}" and {", then ".join(told)}. What is the result?'
    return Problem(text, result, f"{word} {told}", {})


@dataclass(frozen=True, slots=True)
class _Kind:
    make: Callable[..., Problem]
    defaults: Callable[[int], dict[str, Any]]
    bounds: Mapping[str, tuple[int, int]]


_KINDS = {
    "arithmetic": _Kind(
        _arithmetic,
        lambda level: {"digits": level, "terms": 2, "operations": "+-" if level < 3 else "+-*"},
        {"digits": (1, 12), "terms": (2, 8)},
    ),
    "countdown": _Kind(
        _countdown,
        lambda level: {"numbers": min(8, level + 2), "largest": 20 * level},
        {"numbers": (2, 8), "largest": (2, 1000)},
    ),
    "sorting": _Kind(
        _sorting,
        lambda level: {"items": 2 + level, "largest": 10 ** min(level + 1, 6), "order": "up"},
        {"items": (2, 64), "largest": (1, 10**9)},
    ),
    "edits": _Kind(
        _edits,
        lambda level: {"length": 2 + 2 * level, "steps": level},
        {"length": (1, 64), "steps": (1, 16)},
    ),
}
KINDS = tuple(_KINDS)
