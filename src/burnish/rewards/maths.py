"""The maths reward: the answer found by rule, compared with the prompt's, by exact arithmetic or by
sympy in processes.

Verdicts: correct, wrong, unparsed (no answer found, or no mathematics), verifier-timeout,
verifier-error and not-judged (the batch had used up its time). The last three are not counted: they
say nothing of the completion. An answer that the verifier cannot bear, where it bears the right
answer, is wrong: else a model could choose to be masked.
"""

from __future__ import annotations

import atexit
import json
import math
import re
import select
import signal
import subprocess
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from burnish.errors import UserError
from burnish.isolation import module_command, quiet_environment
from burnish.records import Prompt
from burnish.rewards.base import Judgement, after_reasoning
from burnish.rewards.cleaning import LONGEST, clean
from burnish.rewards.columns import missing_column, value_at, values_at
from burnish.rewards.extract import Found, extract, last_choice
from burnish.rewards.forms import choice_of, is_letter, read_form, same_form
from burnish.rewards.numbers import equal, read_number, without_units
from burnish.rewards.structures import balanced

Pair = tuple[str, str]

CORRECT, WRONG, UNPARSED = "correct", "wrong", "unparsed"
TIMEOUT, ERROR = "verifier-timeout", "verifier-error"
NOT_JUDGED = "not-judged"
UNCOUNTED = (TIMEOUT, ERROR, NOT_JUDGED)
_VALUES = {CORRECT: 1.0, WRONG: 0.0, UNPARSED: 0.0}
_KEPT = 50_000
_STARTING = 120.0
_WALL = 10.0
# time-outs of one batch after which the others have this part of the limit
_UNHURRIED, _HURRIED = (
    8,
    1 / 6,
)
# a batch's wall time: so many limits, at least so many seconds, and for each comparison
_BATCH, _LEAST, _EACH = (
    15.0,
    45.0,
    0.25,
)
_OUTSIDE = "outside"  # a worker that was killed by somebody: nobody's fault here
_WORD = re.compile(r"[a-z][a-z'’-]+(?: [a-z'’-]+)*")
_ARTICLE = re.compile(r"^(?:it is|it's|they are|the|an?|on|in|at)\s+(?=[a-z]{3})")
_YES = re.compile(
    r"(yes|no|true|false)\b[.,;:!]?(?!.*\b(?:yes|no|true|false|not|but|and|or)\b).*", re.DOTALL
)
_CONTENT = re.compile(r"\(?[A-Za-z](?:\)|[.:)])\s+(.+)", re.DOTALL)
_ARGUMENTS = re.compile(r"\\(?:[dt]?frac|binom)(?![A-Za-z])\s*(\{|\d|\\|[A-Za-z]|$|.)")


class MathsReward:
    """1 for a correct answer, found behind the reasoning by the rule of `extract`, and the
    comparison of `MathsVerifier`; `values` gives other numbers.

    `column` names the right answers, by a dotted path where they stand in objects.
    """

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
        values = values_at(columns, self._column, len(completions))
        if values is None:
            raise missing_column(self.name, self._column)
        golds = [
            None if value is None else gold_answer(value, field=self._column) for value in values
        ]
        found = [
            None if gold is None else find(text, gold)
            for text, gold in zip(completions, golds, strict=True)
        ]
        rows = [i for i, gold in enumerate(golds) if gold is not None and found[i] is not None]
        pairs = [(str(golds[i]), found[i].text) for i in rows]  # type: ignore[union-attr]
        verdicts: list[str | None] = [None if gold is None else UNPARSED for gold in golds]
        for row, verdict in zip(rows, self.verifier.compare(pairs), strict=True):
            verdicts[row] = verdict
        return [self._judgement(verdict) for verdict in verdicts]

    def applies_to(self, prompt: Prompt) -> bool:
        """Whether the prompt has a right answer. Raises UserError, naming the column, where it
        cannot be read."""
        value = value_at(prompt.columns, self._column)
        if value is None:
            return False
        gold_answer(value, field=self._column)
        return True

    def why_not(self, prompts: Sequence[Prompt]) -> str:
        """Why it applies to none of these."""
        return str(missing_column(self.name, self._column, prompts))

    def close(self) -> None:
        """End the workers."""
        self.verifier.close()

    def _judgement(self, verdict: str | None) -> Judgement:
        if verdict is None:
            return Judgement(None)
        return Judgement(self._values.get(verdict, 0.0), verdict, counted=verdict not in UNCOUNTED)


def find(text: str, gold: str) -> Found | None:
    """The answer in a completion, behind its reasoning: by `extract`, or the last letter of choice
    where the right answer is one."""
    text = after_reasoning(text)
    if is_letter(gold):
        place = extract(text)
        chosen = last_choice(text) if place is None or place.place == "number" else None
        return place if chosen is None else Found(chosen, "statement")
    return extract(text, words=read_number(clean(gold)) is None)


def gold_answer(value: Any, *, field: str = "answer") -> str:
    r"""The right answer in a column: what stands in its \boxed{} or behind its "####" (GSM8K), if
    it holds one; else all of it.

    Raises UserError, naming the field, where nothing could ever equal it: an object, a list, NaN,
    an empty text, broken LaTeX.
    """
    if hasattr(value, "item") and not isinstance(value, str | list | tuple | dict):
        value = value.item()
    if isinstance(value, Mapping):
        inside = ", ".join(f"`{field}.{key}`" for key in list(value)[:4])
        hint = f"Name what is inside: `column:` {inside}." if inside else "Give text or a number."
        raise UserError(
            "a prompt's answer is an object, not text or a number.", field=field, hint=hint
        )
    if not isinstance(value, str | int | float):
        problem = f"a prompt's answer is {_kind(value)}, not text or a number."
        raise UserError(
            problem,
            field=field,
            hint="Give one right answer as text or a number, or null for none.",
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(
            f"a prompt's answer is {value}, which no answer equals.", field=field, hint=_MEND
        )
    text = _digits(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
    found = extract(text)
    answer = found.text if found is not None and found.place in ("boxed", "####") else text
    if not answer.strip():
        raise UserError(
            "a prompt's answer is empty.",
            field=field,
            hint="Give the right answer, or null for none.",
        )
    problem = broken(answer)
    if problem is not None:
        raise UserError(
            f"a prompt's answer cannot be read ({problem}): {answer.strip()[:80]!r}.",
            field=field,
            hint=_MEND,
        )
    return answer.strip()


_MEND = "Mend the row, or give null for none."


def broken(answer: str) -> str | None:
    r"""What is wrong with a right answer as LaTeX; None where nothing is. Any text that is whole
    will do, mathematics or not."""
    text = answer.strip()
    if text.casefold() in ("nan", "<na>"):
        return "it is no number"
    if not clean(text):
        return "it is nothing but layout"
    if len(text) > LONGEST:
        return f"it has more than {LONGEST} characters"
    depth = re.sub(r"\\.", "", text)
    if depth.count("{") != depth.count("}") or (
        "\\" in text and not balanced(re.sub(r"[()\[\]]|\\[{}]", "", text))
    ):
        return "its braces do not close"
    if len(re.findall(r"\\begin\b", text)) != len(re.findall(r"\\end\b", text)):
        return "\\begin without \\end"
    if len(re.findall(r"\\left(?![a-z])", text)) != len(re.findall(r"\\right(?![a-z])", text)):
        return "\\left without \\right"
    if any(not _takes_two(text, m.start(1)) for m in _ARGUMENTS.finditer(text)):
        return "a fraction without its two parts"
    if re.search(
        r"\\sqrt\s*(?:\[[^\]]*\])?\s*(?:\{\s*\})?$|(?:\\[dt]?frac|\\sqrt|\\text)\s*\{\s*\}|[\^_]\s*\$?$|\\$",
        text,
    ):
        return "an argument is missing"
    if re.fullmatch(
        r"[-+]?\d+(?:\.\d+)?\s*/\s*0+(?:\.0*)?|\\[dt]?frac\{-?\d+\}\{0+\}", clean(text)
    ):
        return "it divides by 0"
    return None


def _takes_two(text: str, start: int) -> bool:
    """Whether two arguments of LaTeX stand from here on."""
    rest = text[start:]
    for _ in range(2):
        rest = rest.lstrip()
        if rest.startswith("{"):
            depth, end = 0, None
            for place, letter in enumerate(rest):
                depth += (letter == "{") - (letter == "}")
                if depth == 0:
                    end = place + 1
                    break
            if end is None or not rest[1 : end - 1].strip():
                return False
            rest = rest[end:]
        else:
            match = re.match(r"\\[A-Za-z]+(?:\s*\{[^{}]*\})?|[^\s\\}$]", rest)
            if match is None:
                return False
            rest = rest[match.end() :]
    return True


def _digits(value: int) -> str:
    """An integer as text, of any length."""
    return str(value) if value.bit_length() < 10_000 else hex(value)


def _kind(value: Any) -> str:
    return {"list": "a list", "tuple": "a list", "NoneType": "null", "bytes": "bytes"}.get(
        type(value).__name__, type(value).__name__
    )


class MathsVerifier:
    """Compares pairs (right answer, answer given), by the first of these that knows how:

    1. a text of more than 4,000 characters: equal as text, or wrong;
    2. both are numbers: `numbers.equal`;
    3. the texts are the same but for layout and case, or one is a letter of choice and the other
    begins with it: correct;
    4. one is a time, a date, a ratio, a congruence, a range or a list with dots: `forms.same_form`;
    5. the right answer is words: any other text is wrong;
    6. sympy in a worker process: expressions, sets, intervals, equations, matrices.

    Args:
        timeout: seconds of computing for one pair, from its start; the worker is replaced after it.
            After eight time-outs in one call the pairs that are left have a sixth of it each: few
            comparisons need a tenth of a second. A call takes no new pair after fifteen times this
            (at least 45 s), and a quarter of a second a pair, have gone by: those left are not
            judged.
        workers: processes, started when first needed. Each answers one pair at a time.
    """

    def __init__(self, *, timeout: float = 3.0, workers: int = 1) -> None:
        self._timeout, self._count = timeout, workers
        self._workers: list[_Worker] = []
        self._known: OrderedDict[Pair, str] = OrderedDict()
        self._sound: dict[str, bool] = {}
        atexit.register(self.close)

    def compare(self, pairs: Sequence[Pair]) -> list[str]:
        """A verdict for each pair, in order."""
        cleaned = [(clean(gold), clean(answer)) for gold, answer in pairs]
        quick = [_quickly(*pair) for pair in cleaned]
        cleaned = [
            without_units(*pair) if verdict is None else pair
            for pair, verdict in zip(cleaned, quick, strict=True)
        ]
        hard = [
            pair
            for pair, verdict in zip(cleaned, quick, strict=True)
            if verdict is None and pair not in self._known
        ]
        hard = list(dict.fromkeys(hard))
        most = max(_BATCH * self._timeout, _LEAST) + _EACH * len(hard)
        verdicts = self._ask(hard, until=time.monotonic() + most)
        fresh = self._blamed(verdicts, until=time.monotonic() + most / 2)
        known = {**fresh, **{pair: self._known[pair] for pair in cleaned if pair in self._known}}
        for pair, verdict in fresh.items():
            if verdict not in UNCOUNTED:  # another time it may be had
                self._known[pair] = verdict
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return [
            known[pair] if verdict is None else verdict
            for pair, verdict in zip(cleaned, quick, strict=True)
        ]

    def close(self) -> None:
        """End the workers; a later call starts new ones."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        atexit.unregister(self.close)

    def _blamed(self, verdicts: Mapping[Pair, str], *, until: float) -> dict[Pair, str]:
        """Failures by whose fault they are: where the right answer alone is borne, the answer is
        wrong."""
        blamed = dict(verdicts)
        for pair, verdict in verdicts.items():
            if verdict == _OUTSIDE:
                blamed[pair] = ERROR
            elif verdict in (TIMEOUT, ERROR) and self._bears(pair[0], until=until):
                blamed[pair] = WRONG
        return blamed

    def _bears(self, gold: str, *, until: float) -> bool:
        """Whether the verifier comes to an end with this right answer; no where there is no time to
        see."""
        if gold not in self._sound:
            alone = self._ask([(gold, None)], until=until)
            if NOT_JUDGED in alone.values():
                return False
            self._sound[gold] = not {TIMEOUT, ERROR, _OUTSIDE} & set(alone.values())
        return self._sound[gold]

    def _ask(
        self, pairs: Sequence[tuple[str, str | None]], *, until: float = math.inf
    ) -> dict[Any, str]:
        """The workers' verdicts. Waiting in the queue costs a pair none of its time. No second
        text: can it be read?

        After `until` no pair is begun: what is left is not judged.
        """
        waiting, verdicts, overdue = deque(pairs), dict[Any, str](), 0
        while len(self._workers) < min(self._count, len(pairs)):
            self._workers.append(_Worker())
        while waiting or any(worker.pair for worker in self._workers):
            if time.monotonic() > until:
                verdicts |= dict.fromkeys(waiting, NOT_JUDGED)
                waiting.clear()
            for worker in self._workers:
                if worker.pair is None and waiting:
                    worker.send(
                        waiting.popleft(),
                        self._timeout * (_HURRIED if overdue >= _UNHURRIED else 1),
                    )
            busy = {worker.out: worker for worker in self._workers if worker.pair is not None}
            ready, _, _ = select.select(list(busy), [], [], 0.05)
            for worker in list(busy.values()):
                verdict = (
                    worker.receive()
                    if worker.out in ready
                    else worker.overdue(_WALL * self._timeout)
                )
                if verdict is not None and worker.pair is not None:
                    verdicts[worker.pair] = verdict
                    overdue += verdict == TIMEOUT
                    worker.pair = None
                    if verdict in UNCOUNTED or verdict == _OUTSIDE:
                        worker.end()
                        self._workers[self._workers.index(worker)] = _Worker()
        return verdicts


class _Worker:
    """One process of `maths_worker` and the pair it is at."""

    def __init__(self) -> None:
        command = module_command("burnish.rewards.maths_worker")
        # rewards take no part in what the trainer draws or shows: a quiet process, out of reach of
        # the terminal's Ctrl-C
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            env=quiet_environment(),
            cwd="/",
        )
        assert self._process.stdout is not None
        self.out = self._process.stdout
        self.pair: tuple[str, str | None] | None = None
        self._number, self._since, self._ready = 0, time.monotonic(), False

    def send(self, pair: tuple[str, str | None], seconds: float) -> None:
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
        """The verdict that is there. Its end without one: by its own limit, by its own doing, or by
        somebody else's."""
        line = self.out.readline()
        if line:
            return str(json.loads(line)["verdict"]).replace("gold-unparsed", WRONG)
        code = self._process.wait()
        if code == -signal.SIGPROF:
            return TIMEOUT
        return (
            _OUTSIDE
            if code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
            else ERROR
        )

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
    """The verdict by rules 1 to 5; None where it takes mathematics."""
    if max(len(gold), len(answer)) > LONGEST:
        return CORRECT if gold == answer else WRONG
    if not answer or ("?" in answer and answer != gold):
        return UNPARSED
    wanted, given = read_number(gold), read_number(answer)
    if wanted is not None and given is not None:
        return CORRECT if equal(wanted, given) else WRONG
    plain_gold, plain_answer = _plain(gold), _plain(answer)
    if plain_gold == plain_answer:
        return CORRECT
    for verdict in (_choice(gold, answer), _form(gold, answer)):
        if verdict is not None:
            return verdict
    if _WORD.fullmatch(plain_gold):
        return CORRECT if _worded(plain_gold) == _worded(plain_answer) else WRONG
    return WRONG if wanted is not None and _WORD.fullmatch(plain_answer) else None


def _choice(gold: str, answer: str) -> str | None:
    """The verdict where the right answer is a letter of choice, with or without what it stands for;
    else None."""
    content, chosen = _CONTENT.fullmatch(gold), choice_of(answer)
    if is_letter(gold):
        if chosen is None:
            return WRONG if _WORD.fullmatch(_plain(answer)) else None
        return CORRECT if chosen == gold.strip("().").upper() else WRONG
    letter = choice_of(gold) if content else None
    if letter is None or content is None:
        return None
    if chosen is not None:
        return CORRECT if chosen == letter else WRONG
    return _quickly(content[1].strip(), answer)


def _form(gold: str, answer: str) -> str | None:
    """The verdict where one of the two is a time, a date, a ratio or the like; None where neither
    is."""
    wanted, given = read_form(gold), read_form(answer)
    if wanted is None and given is None:
        return None
    if wanted is not None and given is not None:
        return CORRECT if same_form(wanted, given) else WRONG
    form, number = (
        (wanted, read_number(answer)) if wanted is not None else (given, read_number(gold))
    )
    if (
        form is None
        or form.kind != "ratio"
        or len(form.value) != 2
        or number is None
        or number.percent
        or number.unit
    ):
        return WRONG
    return CORRECT if form.value[0] == number.value * form.value[1] else WRONG


def _worded(text: str) -> str:
    """Words without an article in front; of "yes, because ..." the yes."""
    yes = _YES.fullmatch(text)
    return yes[1] if yes else _ARTICLE.sub("", text)


def _plain(text: str) -> str:
    """Case folded, without spaces round operators, quotes and an ending full stop; every dash the
    same."""
    folded = " ".join(text.casefold().replace("–", "-").replace("—", "-").split())
    return re.sub(r"\s*([-+*/=<>,(){}\[\]^:])\s*", r"\1", folded).strip(" .\"'“”’")
