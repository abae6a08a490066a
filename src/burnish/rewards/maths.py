"""The maths reward: the answer found by rule, compared with the prompt's, by exact arithmetic or by math-verify in processes.

Verdicts: correct, wrong, unparsed (no answer found, or no mathematics), verifier-timeout and verifier-error. The last two
are not counted: they say nothing of the completion.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from burnish.errors import UserError
from burnish.rewards.base import Judgement, after_reasoning
from burnish.rewards.extract import extract
from burnish.rewards.numbers import clean, equal, read_number, without_units

Pair = tuple[str, str]

CORRECT, WRONG, UNPARSED = "correct", "wrong", "unparsed"
TIMEOUT, ERROR = "verifier-timeout", "verifier-error"
UNCOUNTED = (TIMEOUT, ERROR)
_VALUES = {CORRECT: 1.0, WRONG: 0.0, UNPARSED: 0.0}
_KEPT = 50_000
_STARTING = 120.0
_WALL = 10.0
_WORD = re.compile(r"[a-z][a-z'’-]+(?: [a-z'’-]+)*")
_CHOICE = re.compile(r"\(?([A-Za-z])(?:\)|[.:)](?:\s.*)?)?", re.DOTALL)


class MathsReward:
    """1 for a correct answer, found behind the reasoning by the rule of `extract`, and the comparison of `MathsVerifier`; `values` gives other numbers."""

    name = "maths"

    def __init__(
        self,
        *,
        column: str = "answer",
        values: Mapping[str, float] = _VALUES,
        timeout: float = 3.0,
        workers: int = 1,
    ) -> None:
        self._column, self._values = column, dict(values)
        self.verifier = MathsVerifier(timeout=timeout, workers=workers)

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """The values; None where the verifier failed or there is no answer to compare with."""
        return [j.value if j.counted else None for j in self.judge(completions, **columns)]

    def judge(self, completions: Sequence[str], **columns: Any) -> list[Judgement]:
        """Values with verdicts. A prompt whose column is None is not this reward's business."""
        if self._column not in columns:
            hint = "Name the column with the right answers: `rewards.N.column`."
            raise UserError(f'the maths reward needs the column "{self._column}", which no prompt has.', hint=hint)
        golds = [None if value is None else gold_answer(str(value)) for value in columns[self._column]]
        found = [extract(after_reasoning(text)) for text in completions]
        rows = [i for i, gold in enumerate(golds) if gold is not None and found[i] is not None]
        pairs = [(str(golds[i]), found[i].text) for i in rows]  # type: ignore[union-attr]
        verdicts: list[str | None] = [None if gold is None else UNPARSED for gold in golds]
        for row, verdict in zip(rows, self.verifier.compare(pairs), strict=True):
            verdicts[row] = verdict
        return [self._judgement(verdict) for verdict in verdicts]

    def close(self) -> None:
        """End the workers."""
        self.verifier.close()

    def _judgement(self, verdict: str | None) -> Judgement:
        if verdict is None:
            return Judgement(None)
        return Judgement(self._values.get(verdict, 0.0), verdict, counted=verdict not in UNCOUNTED)


def gold_answer(text: str) -> str:
    r"""The right answer in a column: what stands in its \boxed{} or behind its "####" (GSM8K), if it holds one; else all of it."""
    found = extract(text)
    answer = found.text if found is not None and found.place in ("boxed", "####") else text
    if not answer.strip():
        raise UserError("a prompt's answer is empty.", field="answer", hint="Give the right answer, or null for none.")
    return answer.strip()


class MathsVerifier:
    """Compares pairs (right answer, answer given), by the first of these that knows how:

    1. both are numbers: `numbers.equal`;
    2. the texts are the same but for layout and case, or one is a letter of choice and the other begins with it: correct;
    3. the right answer is words: any other text is wrong;
    4. math-verify in a worker process: expressions, sets, intervals, equations, matrices.

    Args:
        timeout: seconds of computing for one pair, from its start; the worker is replaced after it.
        workers: processes, started when first needed. Each answers one pair at a time.
    """

    def __init__(self, *, timeout: float = 3.0, workers: int = 1) -> None:
        self._timeout, self._count = timeout, workers
        self._workers: list[_Worker] = []
        self._known: OrderedDict[Pair, str] = OrderedDict()
        atexit.register(self.close)

    def compare(self, pairs: Sequence[Pair]) -> list[str]:
        """A verdict for each pair, in order."""
        cleaned = [(clean(gold), clean(answer)) for gold, answer in pairs]
        quick = [_quickly(*pair) for pair in cleaned]
        cleaned = [without_units(*pair) for pair in cleaned]
        hard = [
            pair for pair, verdict in zip(cleaned, quick, strict=True) if verdict is None and pair not in self._known
        ]
        fresh = self._ask(list(dict.fromkeys(hard)))
        known = {**fresh, **{pair: self._known[pair] for pair in cleaned if pair in self._known}}
        for pair, verdict in fresh.items():
            if verdict not in UNCOUNTED:  # another time it may be had
                self._known[pair] = verdict
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return [known[pair] if verdict is None else verdict for pair, verdict in zip(cleaned, quick, strict=True)]

    def close(self) -> None:
        """End the workers; a later call starts new ones."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        atexit.unregister(self.close)

    def _ask(self, pairs: Sequence[Pair]) -> dict[Pair, str]:
        """The workers' verdicts. Waiting in the queue costs a pair none of its time."""
        waiting, verdicts = deque(pairs), dict[Pair, str]()
        while len(self._workers) < min(self._count, len(pairs)):
            self._workers.append(_Worker())
        while waiting or any(worker.pair for worker in self._workers):
            for worker in self._workers:
                if worker.pair is None and waiting:
                    worker.send(waiting.popleft(), self._timeout)
            busy = {worker.out: worker for worker in self._workers if worker.pair is not None}
            ready, _, _ = select.select(list(busy), [], [], 0.05)
            for worker in list(busy.values()):
                verdict = worker.receive() if worker.out in ready else worker.overdue(_WALL * self._timeout)
                if verdict is not None and worker.pair is not None:
                    verdicts[worker.pair] = verdict
                    worker.pair = None
                    if verdict in UNCOUNTED:
                        worker.end()
                        self._workers[self._workers.index(worker)] = _Worker()
        return verdicts


class _Worker:
    """One process of `maths_worker` and the pair it is at."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "burnish.rewards.maths_worker"]
        # rewards take no part in what the trainer draws or shows: a quiet process, out of reach of the terminal's Ctrl-C
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        assert self._process.stdout is not None
        self.out = self._process.stdout
        self.pair: Pair | None = None
        self._number, self._since, self._ready = 0, time.monotonic(), False

    def send(self, pair: Pair, seconds: float) -> None:
        """Begin with a pair."""
        if not self._ready:
            self._wait_until_ready()
        self.pair, self._since = pair, time.monotonic()
        self._number += 1
        request = {"id": self._number, "gold": pair[0], "answer": pair[1], "seconds": seconds}
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # `receive` sees the end of its output
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self) -> str:
        """The verdict that is there; the worker's end without one is an error."""
        line = self.out.readline()
        return str(json.loads(line)["verdict"]).replace("gold-unparsed", WRONG) if line else ERROR

    def overdue(self, seconds: float) -> str | None:
        """A worker that does not keep its own limit, in wall time, is ended."""
        return TIMEOUT if time.monotonic() - self._since > seconds else None

    def end(self) -> None:
        """Kill and bury it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _wait_until_ready(self) -> None:
        ready, _, _ = select.select([self.out], [], [], _STARTING)
        if not ready or not self.out.readline():
            self.end()
            problem = "the worker process of the maths reward does not start."
            raise UserError(problem, hint="See what `python -m burnish.rewards.maths_worker` says.")
        self._ready = True


def _quickly(gold: str, answer: str) -> str | None:
    """The verdict by rules 1 to 3; None where it takes mathematics."""
    if not answer or "?" in answer:
        return UNPARSED
    wanted, given = read_number(gold), read_number(answer)
    if wanted is not None and given is not None:
        return CORRECT if equal(wanted, given) else WRONG
    plain_gold, plain_answer = _plain(gold), _plain(answer)
    if plain_gold == plain_answer:
        return CORRECT
    letter, choice = re.fullmatch(r"\(?([A-Za-z])\)?", gold), _CHOICE.fullmatch(answer)
    if letter and choice and letter[1].casefold() == choice[1].casefold():
        return CORRECT
    return WRONG if _WORD.fullmatch(plain_gold) else None


def _plain(text: str) -> str:
    """Case folded, without spaces round operators, quotes and an ending full stop."""
    return re.sub(r"\s*([-+*/=<>,(){}\[\]^])\s*", r"\1", " ".join(text.casefold().split())).strip(" .\"'“”’")
