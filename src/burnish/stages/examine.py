"""Data as a run would read it, looked at without a run: what the model would see of a row, counts
and lengths, other columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe
from burnish.data.feedback import UNPAIRED, paired_rows
from burnish.data.layouts import known, with_columns
from burnish.data.overlap import Overlap, overlap
from burnish.data.render import render_demonstration, render_prompt, render_response
from burnish.data.sources import open_source
from burnish.errors import UserError
from burnish.records import TEXT, Demonstration, PreferenceGroup, Prompt
from burnish.stages.configuration import configuration_of
from burnish.stages.context import Run
from burnish.stages.reading import Split, resolved

Role = Literal["demonstrations", "prompts", "comparisons"]
ROLES: tuple[Role, ...] = ("demonstrations", "prompts", "comparisons")
_WITHOUT_BOUND = 1 << 30


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens that stand together and are all trained, or all not."""

    text: str
    tokens: int
    trained: bool


@dataclass(frozen=True, slots=True)
class Lengths:
    """Of the sequences of some rows, in tokens; `too_long` of them exceed `limit`."""

    limit: int
    counts: tuple[int, ...]
    trained: int

    @property
    def too_long(self) -> int:
        """How many do not fit."""
        return sum(count > self.limit for count in self.counts)

    def quantile(self, share: float) -> int:
        """The length that this share of the sequences does not exceed."""
        ordered = sorted(self.counts)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


@dataclass
class Examined:
    """One source as a run would read it.

    Args:
        role: what its rows are.
        split: what is trained on, and what is held out.
        dropped: how many rows were left out, by reason.
        lines: what a run would say while reading.
        run: what renders it.
    """

    role: Role
    split: Split
    dropped: Mapping[str, int]
    run: Run
    lines: list[str] = field(default_factory=list)

    def tokenizer(self) -> Any:
        """The model's."""
        return configuration_of(self.run)[1]

    def lengths(self, tokenizer: Any) -> Lengths:
        """Of everything that is trained on or asked."""
        counts, trained = list[int](), 0
        for record in self.split.train:
            for pieces in rendered(tokenizer, record):
                counts.append(sum(piece.tokens for piece in pieces))
                trained += sum(piece.tokens for piece in pieces if piece.trained)
        return Lengths(self.run.recipe.model.max_length, tuple(counts), trained)

    def against(self, other: Examined) -> Overlap:
        """What of the training part stands in another source."""
        return overlap(self.split.train, (*other.split.train, *other.split.heldout))

    def row(self, number: int) -> tuple[Any, str]:
        """(the record of a row of the source, the part it is of). Raises UserError where the row
        was left out, or is not there."""
        for part, records in (("trained on", self.split.train), ("held out", self.split.heldout)):
            for record in records:
                origin = self.run.origins.get(_id(record))
                if origin is not None and origin.row == number:
                    return record, part
        raise UserError(
            f"row {number} is not among the {len(self.split.train) + len(self.split.heldout)} that"
            " are read.",
            hint=f"Left out: {dict(self.dropped) or 'nothing'}.",
        )


def examine(
    source: Mapping[str, Any],
    *,
    role: Role | None,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
) -> Examined:
    """Read a source as a run would. `role` None: as its columns say; `model` and `data` are
    settings of these sections."""
    lines: list[str] = []
    role = role or role_of(source)
    values = {"model": dict(model), "data": {**data, role: dict(source)}, "stages": {"sft": {}}}
    recipe = load_recipe(None, values=values)
    run = Run(recipe, Path(), lines.append)
    reading = run.reading(recipe.data)
    split = getattr(reading, role)
    return Examined(role, split, reading.dropped_of([role]).get(role, {}), run, lines)


def examine_recipe(recipe: Recipe) -> Iterator[Examined]:
    """Every source that a recipe names, as its stages read it."""
    run = Run(recipe, Path("runs") / recipe.name)
    seen: set[str] = set()
    for node in run.graph:
        for role in ROLES:
            named = getattr(node.data, role)
            key = f"{role} {named!r}"
            if named is None or key in seen:
                continue
            seen.add(key)
            reading = run.reading(node.data)
            yield Examined(
                role, getattr(reading, role), reading.dropped_of([role]).get(role, {}), run
            )


def role_of(source: Mapping[str, Any]) -> Role:
    """What the rows of a source are, by the columns of the first."""
    named = resolved(_source(source))
    portions = open_source(named.source, splits=[named.split] if named.split else None)
    row = next((row for portion in portions.items for row in portion.rows()), None)
    if row is None:
        raise UserError("holds no rows. Give a source with at least one.", file=named.source)
    values = known(with_columns(row, named.columns)).values
    has = lambda *names: all(values.get(name) is not None for name in names)  # noqa: E731
    if has("chosen", "rejected") or has(*UNPAIRED):
        return "comparisons"
    messages = values.get("messages")
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        return "demonstrations" if messages[-1].get("role") == "assistant" else "prompts"
    if (
        has("prompt", "completion")
        or has("question", "answer")
        or (has("text") and not has("prompt"))
    ):
        return "demonstrations"
    return "prompts"


def _source(source: Mapping[str, Any]) -> Any:
    from burnish.config.sections import Source

    return Source.model_validate(dict(source))


def rendered(tokenizer: Any, record: Demonstration | Prompt | PreferenceGroup) -> list[list[Piece]]:
    """The sequences that a record becomes, each as pieces. Raises UserError as rendering does."""
    if isinstance(record, Demonstration):
        sequences = render_demonstration(tokenizer, record, max_tokens=_WITHOUT_BOUND)
        return [_pieces(tokenizer, one.tokens, one.response_mask) for one in sequences]
    if isinstance(record, Prompt):
        tokens = render_prompt(tokenizer, record, max_tokens=_WITHOUT_BOUND)
        return [_pieces(tokenizer, tokens, [False] * len(tokens))]
    found = []
    for response in record.responses:
        both = render_response(tokenizer, record.prompt, response, max_tokens=_WITHOUT_BOUND)
        mask = [*[False] * len(both.prompt_tokens), *[True] * len(both.response_tokens)]
        found.append(_pieces(tokenizer, (*both.prompt_tokens, *both.response_tokens), mask))
    return found


def _pieces(tokenizer: Any, tokens: Sequence[int], mask: Sequence[bool]) -> list[Piece]:
    found: list[Piece] = []
    start = 0
    for place in range(1, len(tokens) + 1):
        if place == len(tokens) or mask[place] != mask[start]:
            part = list(tokens[start:place])
            found.append(
                Piece(tokenizer.decode(part, skip_special_tokens=False), len(part), mask[start])
            )
            start = place
    return found


def converted(examined: Examined, dropped: Counter[str]) -> Iterator[dict[str, Any]]:
    """The rows under the ecosystem's columns, with `split` for those that are held out."""
    for split, records in (("train", examined.split.train), ("test", examined.split.heldout)):
        mark = {"split": split} if examined.split.heldout else {}
        if examined.role == "comparisons":
            rows: Iterator[dict[str, Any]] = paired_rows(records, dropped=dropped)
        else:
            rows = map(_row, records)
        yield from (
            {**{key: value for key, value in row.items() if key != "split"}, **mark} for row in rows
        )


def _row(record: Demonstration | Prompt) -> dict[str, Any]:
    if record.messages[0]["role"] == TEXT:
        return {"id": record.id, "text": record.messages[0]["content"]}
    messages = [dict(message) for message in record.messages]
    if isinstance(record, Prompt):
        return {"id": record.id, "prompt": messages, **record.columns}
    beside = {
        "tools": list(record.tools),
        "chat_template_kwargs": dict(record.chat_template_kwargs),
    }
    return {
        "id": record.id,
        "messages": messages,
        **{name: value for name, value in beside.items() if value},
    }


def _id(record: Demonstration | Prompt | PreferenceGroup) -> str:
    return record.prompt.id if isinstance(record, PreferenceGroup) else record.id


__all__ = ["ROLES", "Examined", "Lengths", "Piece", "Role", "converted", "examine",
    "examine_recipe", "rendered",
           "role_of"]  # fmt: skip
