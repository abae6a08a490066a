"""The items of suites, and how rows of files become items. Pure.

A row's form follows from the task that reads it; the columns that published sets have are taken as
they are. What a row lacks is an error that names the row and the column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from burnish.errors import UserError
from burnish.rewards.constraints import follows

Form = Literal[
    "choices", "cloze", "prose", "questions", "twins", "safe", "unsafe", "constraints", "checked"
]
BY_LIKELIHOOD: tuple[Form, ...] = ("choices", "cloze", "prose")
"""The forms that need a model's log-probabilities; the others have it answer."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a model is measured on.

    Args:
        id: unique in its task.
        cluster: the unit of every interval: items of one cluster are not independent.
        context: what stands before what is scored, or what is asked.
        choices: continuations of the context of which one is right; of cloze items the one that is
            scored, of prose the whole text.
        contexts: the context of each choice, where they differ (WinoGrande).
        right: which choice.
        answers: what counts as right, of questions.
        columns: what a checker needs: the instructions of `constraints`, the columns of `checked`.
        messages: of a conversation that is no single question.
        licence: of the set.
    """

    id: str
    cluster: str
    context: str = ""
    choices: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    right: int = 0
    answers: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Mapping[str, Any], ...] = ()
    licence: str = ""

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(context, continuation) of everything that is scored."""
        contexts = self.contexts or (self.context,) * len(self.choices)
        return list(zip(contexts, self.choices, strict=True))

    @property
    def lengths(self) -> list[int]:
        """UTF-8 bytes of each continuation, without the space that parts it from its context."""
        return [len(choice.removeprefix(" ").encode()) for choice in self.choices]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a file, and where it stands."""

    values: Mapping[str, Any]
    file: str
    number: int

    def error(self, problem: str, field: str | None = None, hint: str | None = None) -> UserError:
        """One that names file and row."""
        return UserError(problem, file=self.file, row=self.number, field=field, hint=hint)

    def first(self, *names: str) -> Any:
        """The value of the first column that is there, None where none is."""
        return next(
            (self.values[name] for name in names if self.values.get(name) is not None), None
        )

    def text(self, name: str, *others: str) -> str:
        """That value, which is to be text. Raises UserError where it is none."""
        found = self.first(name, *others)
        if not isinstance(found, str) or not found.strip():
            beside = f" (or {', '.join(others)})" if others else ""
            raise self.error(f"the column {name}{beside} holds no text.", name)
        return found


def items_of(rows: Sequence[Row], form: Form, *, licence: str) -> list[Item]:
    """The items of a task. Raises UserError for a row that lacks something, for two items of one
    id, and where there is none."""
    make = _MAKE[form]
    made = [make(row, licence) for row in rows]
    items = [item for item in made if item is not None]
    seen: set[str] = set()
    for row, item in zip(rows, made, strict=True):
        if item is not None and item.id in seen:
            raise row.error(f"two items have the id {item.id}.", "id")
        seen |= {item.id} if item is not None else set()
    if not items:
        where = rows[0].file if rows else None
        raise UserError(f"holds no item for a task of the form {form}.", file=where)
    return items


def evenly(items: Sequence[Item], count: int | None) -> list[Item]:
    """`count` of the items, spread evenly over them: a set's order is no chance; None: all."""
    if count is None or count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


def _named(row: Row) -> str:
    found = row.first("id", "key", "ind", "native_id", "doc_id", "id_v2")
    return str(row.number if found is None else found)


def _choices(row: Row, licence: str) -> Item:
    choices = row.first("choices", "endings")
    if isinstance(choices, Mapping):  # as ARC has them on the hub
        key, labels = row.first("answerKey"), list(choices.get("label") or ())
        choices = choices.get("text")
        right = labels.index(key) if key in labels else None
    else:
        right = row.first("right", "gold", "label", "answer")
    if not isinstance(choices, Sequence) or isinstance(choices, str) or len(choices) < 2:
        raise row.error("the column choices holds no list of two or more texts.", "choices")
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise row.error("one of the choices is no text.", "choices")
    right = _place(row, right, len(choices))
    context = row.first("context", "query", "ctx")
    if context is None and not row.first("contexts"):
        context = f"Question: {row.text('question')}\nAnswer:"
    own = row.first("contexts") or ()
    if own and len(own) != len(choices):
        raise row.error(f"{len(choices)} choices have {len(own)} contexts.", "contexts")
    spaced = tuple(f" {choice.strip()}" for choice in choices)
    cluster = str(row.first("cluster") or _named(row))
    return Item(
        _named(row),
        cluster,
        str(context or ""),
        spaced,
        tuple(map(str, own)),
        right,
        licence=licence,
    )


def _place(row: Row, right: Any, count: int) -> int:
    place = int(right) if isinstance(right, str) and right.isdigit() else right
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < count:
        hint = f"It is the place of the right choice, from 0 to {count - 1}."
        raise row.error(f"{right!r} is no place among the choices.", "right", hint)
    return place


def _cloze(row: Row, licence: str) -> Item | None:
    """The context and its last word: of its own columns, or of a text such as LAMBADA's."""
    answer = row.first("answer", "continuation")
    if isinstance(answer, str) and answer.strip():
        context = row.text("context", "query")
    else:
        context, _, answer = row.text("text").strip().rstrip(".!?”\"'").rpartition(" ")
        if not context:
            return None
    return Item(
        _named(row), _named(row), context, (f" {answer.strip()}",), licence=licence
    )  # fmt: skip


def _prose(row: Row, licence: str) -> Item | None:
    text = row.first("text", "page", "content")
    if isinstance(text, str) and not text.strip():  # wikitext has such rows by the hundred
        return None
    return Item(
        _named(row), str(row.first("cluster") or _named(row)), "",
        (row.text("text", "page", "content"),), licence=licence,
    )  # fmt: skip


def _question(row: Row, licence: str) -> Item:
    found = row.first("answers", "answer")
    answers = [found] if isinstance(found, str) else found
    if isinstance(answers, Mapping):  # as TriviaQA has them
        answers = answers.get("aliases")
    if not isinstance(answers, Sequence) or not answers:
        raise row.error("the column answers holds no list of texts.", "answers")
    return Item(
        _named(row), _named(row), row.text("question", "prompt"),
        answers=tuple(map(str, answers)), licence=licence,
    )  # fmt: skip


def _twin(row: Row, licence: str) -> Item:
    return Item(_named(row), _named(row), row.text("question", "prompt"), licence=licence)


def _request(wanted: str) -> Callable[[Row, str], Item | None]:
    """Of rows that say what is wanted (`expected`), or whose `label` is safe or unsafe, as XSTest's
    are; the other side's are no items of this task."""

    def make(row: Row, licence: str) -> Item | None:
        said = str(row.first("expected", "label") or "")
        kind = {"comply": "safe", "refuse": "unsafe"}.get(said, said)
        if kind not in ("safe", "unsafe"):
            kind = "unsafe" if str(row.first("type") or "").startswith("contrast") else ""
        if not kind:
            hint = "Write comply or refuse into expected, or safe or unsafe into label."
            raise row.error(f"{said!r} says not whether to answer.", "expected", hint)
        if kind != wanted:
            return None
        cluster = str(row.first("pair") or _named(row))
        return Item(_named(row), cluster, row.text("prompt"), licence=licence)

    return make


def _constraints(row: Row, licence: str) -> Item:
    names, kwargs = row.first("instruction_id_list"), row.first("kwargs")
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise row.error("the column instruction_id_list holds no list.", "instruction_id_list")
    try:
        follows("text", names, kwargs)
    except (UserError, TypeError, AttributeError) as error:
        problem = error.problem if isinstance(error, UserError) else f"is not IFEval's ({error})."
        hint = error.hint if isinstance(error, UserError) else None
        raise row.error(problem, "kwargs", hint) from error
    columns = {"instruction_id_list": names, "kwargs": kwargs}
    return Item(_named(row), _named(row), row.text("prompt"), columns=columns, licence=licence)


_MAKE: Mapping[Form, Callable[[Row, str], Item | None]] = {
    "choices": _choices, "cloze": _cloze, "prose": _prose, "questions": _question, "twins": _twin,
    "safe": _request("safe"), "unsafe": _request("unsafe"), "constraints": _constraints,
}  # fmt: skip
