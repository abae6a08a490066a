"""Answers on the wire. The screen knows places only (0 is shown first), so what is sent names
places; here they become positions in the item, by the order of showing that the lease recorded.
What does not fit the task is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from burnish.annotation.records import STEPPED, Answer, Kind, Span, Turn, ranks_of_strength
from burnish.annotation.settings import Settings, is_storable
from burnish.errors import UserError

LONGEST_TEXT = 100_000
Texts = Callable[[], Sequence[str]]
Counts = Callable[[], Sequence[int]]


def _storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError(
            "the text has characters that cannot be stored (NUL or half of a surrogate pair)"
        )
    return text


StorableText = Annotated[str, AfterValidator(_storable)]
"""Text that every database can hold."""


class MarkedSpan(BaseModel):
    """A stretch of what is shown at `place`: characters `start` up to but not including `end` of
    its raw text."""

    model_config = ConfigDict(extra="forbid")

    place: int = Field(ge=0, le=99)
    start: int = Field(ge=0, le=LONGEST_TEXT)
    end: int = Field(ge=1, le=LONGEST_TEXT)
    note: StorableText = Field(default="", max_length=2000)


class Submission(BaseModel):
    """An answer in terms of places on the screen. Give what the kind of task asks for, or a reason
    for skipping."""

    model_config = ConfigDict(extra="forbid")

    strength: int | None = Field(
        default=None, ge=-4, le=4, description="Pairwise: above 0 favours place 0."
    )
    both_bad: bool = False
    ranks: list[Annotated[int, Field(ge=1, le=99)]] | None = Field(
        default=None,
        max_length=99,
        description="Ranking: the rank of what is shown at each place, 1 the best.",
    )
    ratings: dict[StorableText, list[Annotated[int, Field(ge=0, le=10)] | None]] = Field(
        default_factory=dict,
        max_length=20,
        description="Likert: by attribute, a rating for each place.",
    )
    flags: dict[StorableText, list[Annotated[int, Field(ge=0, le=99)]]] = Field(
        default_factory=dict, max_length=30, description="By flag, the places that bear it."
    )
    critique: StorableText = Field(default="", max_length=LONGEST_TEXT)
    spans: list[MarkedSpan] = Field(default_factory=list, max_length=200)
    text: StorableText | None = Field(default=None, max_length=LONGEST_TEXT)
    corrected: int | None = Field(
        default=None,
        ge=0,
        le=99,
        description="Correction: the place that was corrected; else that of the edited winner.",
    )
    preferences: dict[StorableText, Annotated[int, Field(ge=-4, le=4)]] = Field(
        default_factory=dict,
        max_length=8,
        description="Pairwise: by dimension, above 0 favours place 0.",
    )
    reasons: dict[StorableText, Annotated[StorableText, Field(max_length=2000)]] = Field(
        default_factory=dict, max_length=8, description="Pairwise: by dimension, why."
    )
    best: int | None = Field(default=None, ge=0, le=99, description="Best-worst: a place.")
    worst: int | None = Field(default=None, ge=0, le=99, description="Best-worst: a place.")
    verdicts: list[list[bool | None]] | None = Field(
        default=None,
        max_length=50,
        description="Rubric: by criterion, whether what is shown at each place meets it.",
    )
    step_verdicts: list[list[Annotated[int, Field(ge=-1, le=1)] | None]] | None = Field(
        default=None,
        max_length=99,
        description="By place, a verdict on each step: 1 right, 0 neutral, -1 wrong.",
    )
    skipped: StorableText | None = Field(default=None, min_length=1, max_length=500)
    seconds: float | None = Field(default=None, ge=0, le=86400, allow_inf_nan=False)


def answer_of(
    given: Submission,
    *,
    kind: Kind,
    settings: Settings,
    presented: Sequence[int],
    texts: Texts,
    chat: Sequence[Mapping[str, Any]],
    rubric: Sequence[Mapping[str, Any]] = (),
    counts: Counts = tuple,
) -> Answer:
    """The answer by positions. `texts` reads the candidates by position, `counts` how many steps
    each has; they are called where an answer refers to them.

    Raises UserError naming the field that does not fit.
    """
    if given.skipped is not None:
        return Answer(kind=kind, presented=tuple(presented), skipped=given.skipped)
    _refuse_foreign_fields(given, kind)
    parts: dict[str, Any] = {
        "kind": kind,
        "presented": tuple(presented),
        **_remarks(given, settings, presented, texts),
        **_step_verdicts(given, kind, settings, presented, counts),
    }
    if kind == "rubric":
        return Answer(**parts, **_verdicts(given, presented, rubric))
    return Answer(**parts, **_PARTS[kind](given, settings, presented, texts, chat))


def on_screen(said: Answer) -> dict[str, Any]:
    """An answer in terms of places: the inverse of `answer_of`, for drafts and for showing."""
    places = {position: place for place, position in enumerate(said.presented)}

    def by_place(values: Sequence[Any]) -> list[Any]:
        return [values[position] for position in said.presented]

    shown: dict[str, Any] = {}
    if said.skipped is not None:
        return {"skipped": said.skipped}
    if said.strength is not None:
        shown["strength"] = said.strength if said.presented[0] == 0 else -said.strength
        shown["both_bad"] = said.both_bad
    elif said.best is not None or said.worst is not None:
        ends = {"best": said.best, "worst": said.worst}
        shown |= {name: places[at] for name, at in ends.items() if at is not None}
    elif said.ranks is not None:
        shown["ranks"] = by_place(said.ranks)
    if said.verdicts:
        shown["verdicts"] = [by_place(row) for row in said.verdicts]
    if said.step_verdicts:
        shown["step_verdicts"] = [list(row) for row in by_place(said.step_verdicts)]
    if said.preferences:
        sign = 1 if said.presented[0] == 0 else -1
        shown["preferences"] = {name: sign * value for name, value in said.preferences.items()}
    if said.reasons:
        shown["reasons"] = dict(said.reasons)
    if said.ratings:
        shown["ratings"] = {name: by_place(values) for name, values in said.ratings.items()}
    if said.flags:
        shown["flags"] = {
            name: sorted(places[p] for p in where) for name, where in said.flags.items()
        }
    if said.spans:
        shown["spans"] = [
            {"place": places[s.candidate], "start": s.start, "end": s.end, "note": s.note}
            for s in said.spans
        ]
    if said.critique:
        shown["critique"] = said.critique
    if said.text is not None:
        shown["text"] = said.text
    if said.corrected is not None:
        shown["corrected"] = places[said.corrected]
    return shown


def rank_places(ranks: Sequence[int]) -> tuple[int, ...]:
    """Ranks as sport counts them: 1 + how many are strictly better (1, 2, 2, 4)."""
    return tuple(1 + sum(other < rank for other in ranks) for rank in ranks)


def _pairwise(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Any, chat: Any
) -> dict[str, Any]:
    strength = _strength(given.strength, given.both_bad, settings)
    sign = 1 if presented[0] == 0 else -1
    preferences = _preferences(given, settings)
    ranks = ranks_of_strength(sign * strength)
    return {
        "strength": sign * strength,
        "both_bad": given.both_bad,
        "ranks": ranks,
        "preferences": {name: sign * value for name, value in preferences.items()},
        "reasons": {name: why for name, why in given.reasons.items() if why.strip()},
        **_edited(given, settings, presented, texts, ranks),
    }


def _preferences(given: Submission, settings: Settings) -> dict[str, int]:
    """A strength for each dimension that the project asks about; a tie can be given for each."""
    names = [dimension.name for dimension in settings.dimensions]
    if set(given.preferences) != set(names):
        missing = next((name for name in names if name not in given.preferences), None)
        asked = (
            f'say which is better by "{missing}"'
            if missing
            else f"what is compared is {', '.join(names) or 'the whole alone'}"
        )
        raise UserError(f"{asked}.", field="preferences")
    for name, value in given.preferences.items():
        if abs(value) > settings.strength:
            raise UserError(
                f'"{name}" goes from {-settings.strength} to {settings.strength}.',
                field="preferences",
            )
    unknown = next((name for name in given.reasons if name not in names), None)
    if unknown is not None:
        raise UserError(f'"{unknown}" is not compared here.', field="reasons")
    return dict(given.preferences)


def _edited(
    given: Submission,
    settings: Settings,
    presented: Sequence[int],
    texts: Texts,
    ranks: Sequence[int],
) -> dict[str, Any]:
    """The winner's text as somebody edited it. There is none where the first place is shared."""
    best = [position for position, rank in enumerate(ranks) if rank == min(ranks)]
    if given.text is None and given.corrected is None:
        if settings.edit_winner == "required" and len(best) == 1:
            raise UserError("edit the better answer.", field="text")
        return {}
    if settings.edit_winner == "off":
        raise UserError("editing is not asked for here.", field="text")
    if (
        given.corrected is None
        or given.corrected >= len(presented)
        or best != [presented[given.corrected]]
    ):
        raise UserError("the answer that is edited is the best one.", field="corrected")
    if (
        given.text is None
        or not given.text.strip()
        or given.text.strip() in {text.strip() for text in texts()}
    ):
        raise UserError("change the text of the better answer, or leave it as it is.", field="text")
    return {"text": given.text, "corrected": best[0]}


def _strength(strength: int | None, both_bad: bool, settings: Settings) -> int:
    if both_bad:
        if not settings.both_bad or strength not in (None, 0):
            raise UserError(
                "both bad is not offered here, or goes with no preference.", field="both_bad"
            )
        return 0
    if strength is None:
        raise UserError("say which is better.", field="strength")
    if abs(strength) > settings.strength or (strength == 0 and not settings.ties):
        ties = "with 0 for a tie" if settings.ties else "without 0"
        raise UserError(
            f"strength goes from {-settings.strength} to {settings.strength}, {ties}.",
            field="strength",
        )
    return strength


def _ranking(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Any, chat: Any
) -> dict[str, Any]:
    if given.ranks is None or len(given.ranks) != len(presented):
        raise UserError(f"each of the {len(presented)} answers needs a rank.", field="ranks")
    if not settings.tie and len(set(given.ranks)) < len(given.ranks):
        raise UserError("equal ranks are not offered here.", field="ranks")
    ranks = [0] * len(presented)
    for place, position in enumerate(presented):
        ranks[position] = given.ranks[place]
    places = rank_places(ranks)
    return {"ranks": places, **_edited(given, settings, presented, texts, places)}


def _best_worst(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Any, chat: Any
) -> dict[str, Any]:
    places = (given.best, given.worst)
    for place, field in zip(places, ("best", "worst"), strict=True):
        if place is None or place >= len(presented):
            raise UserError("say which is the best and which the worst.", field=field)
    best, worst = (presented[place] for place in places if place is not None)
    if best == worst:
        raise UserError("the best and the worst are two answers.", field="worst")
    ranks = tuple(1 if at == best else 3 if at == worst else 2 for at in range(len(presented)))
    return {"best": best, "worst": worst, "ranks": ranks}


def _verdicts(
    given: Submission, presented: Sequence[int], rubric: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """By criterion and position, with the weights as they are."""
    rows = given.verdicts or []
    whole = all(len(row) == len(presented) and None not in row for row in rows)
    if len(rows) != len(rubric) or not whole:
        raise UserError("say of each criterion whether each answer meets it.", field="verdicts")
    by_position = [
        tuple(bool(row[presented.index(at)]) for at in range(len(presented))) for row in rows
    ]
    weights = tuple(float(one["weight"]) for one in rubric)
    return {"verdicts": tuple(by_position), "weights": weights}


def _step_verdicts(
    given: Submission,
    kind: Kind,
    settings: Settings,
    presented: Sequence[int],
    counts: Counts,
) -> dict[str, Any]:
    """By position and step, where the project asks."""
    rows, asked = given.step_verdicts, settings.step_verdicts
    if kind not in STEPPED or asked == "off":
        if rows:
            raise UserError("steps are not marked here.", field="step_verdicts")
        return {}
    if rows is None and asked == "optional":
        return {}
    steps = [counts()[position] for position in presented]
    open_ones = any(None in row for row in rows or ())
    if [len(row) for row in rows or ()] != steps or (asked == "required" and open_ones):
        raise UserError(
            "mark each step of each answer as right, neutral or wrong.", field="step_verdicts"
        )
    by_position = tuple(tuple((rows or ())[presented.index(at)]) for at in range(len(presented)))
    said = any(verdict is not None for row in by_position for verdict in row)
    return {"step_verdicts": by_position} if said else {}


def _likert(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Texts, chat: Any
) -> dict[str, Any]:
    found = {}
    known = {attribute.name: attribute for attribute in settings.attributes}
    if set(given.ratings) != set(known):
        raise UserError(f"what is rated is {', '.join(known)}.", field="ratings")
    for name, values in given.ratings.items():
        scale = known[name]
        if len(values) != len(presented) or any(
            v is None or not scale.low <= v <= scale.high for v in values
        ):
            raise UserError(
                f'"{name}" needs a rating from {scale.low} to {scale.high} for each.',
                field="ratings",
            )
        by_position: list[int | None] = [None] * len(presented)
        for place, position in enumerate(presented):
            by_position[position] = values[place]
        found[name] = tuple(by_position)
    overall = found.get("overall")
    ranks = (
        rank_places([-v for v in overall if v is not None])
        if overall and len(overall) > 1
        else None
    )
    return {"ratings": found, "ranks": ranks}


def _demonstration(given: Submission, *_: Any) -> dict[str, Any]:
    if given.text is None or not given.text.strip():
        raise UserError("write an answer.", field="text")
    return {"text": given.text}


def _correction(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Texts, chat: Any
) -> dict[str, Any]:
    place = 0 if given.corrected is None and len(presented) == 1 else given.corrected
    if place is None or place >= len(presented):
        raise UserError("say which answer is corrected.", field="corrected")
    if given.text is None or not given.text.strip():
        raise UserError("write the corrected answer.", field="text")
    if given.text.strip() == texts()[presented[place]].strip():
        raise UserError(
            "the corrected answer is the same as the original; skip it if it needs no change.",
            field="text",
        )
    return {"text": given.text, "corrected": presented[place]}


def _chat(
    given: Submission,
    settings: Settings,
    presented: Any,
    texts: Any,
    chat: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    chosen = [turn for turn in chat if turn.get("chosen") is not None]
    if len(chosen) < settings.turns or len(chosen) < len(chat):
        raise UserError(
            f"a conversation has {settings.turns} turns at least, each with a choice.",
            field="turns",
        )
    return {
        "turns": tuple(
            Turn(
                user=turn["user"],
                candidates=tuple(turn["candidates"]),
                presented=tuple(turn["presented"]),
                strength=turn["strength"],
                chosen=turn["chosen"],
                both_bad=turn["both_bad"],
            )
            for turn in chosen
        )
    }


_PARTS = {
    "pairwise": _pairwise,
    "ranking": _ranking,
    "best_worst": _best_worst,
    "likert": _likert,
    "demonstration": _demonstration,
    "correction": _correction,
    "chat": _chat,
}
_OWN_FIELDS = {
    "pairwise": {"strength", "both_bad", "text", "corrected", "preferences", "reasons"},
    "ranking": {"ranks", "text", "corrected"},
    "best_worst": {"best", "worst"},
    "likert": {"ratings"},
    "rubric": {"verdicts"},
    "demonstration": {"text"},
    "correction": {"text", "corrected"},
    "chat": set(),
}


def _refuse_foreign_fields(given: Submission, kind: Kind) -> None:
    common = {"flags", "critique", "spans", "seconds", "skipped"}
    common |= {"step_verdicts"} if kind in STEPPED else set()
    for name in given.model_fields_set - common - _OWN_FIELDS[kind]:
        if getattr(given, name) not in (None, False, {}, []):
            raise UserError(f"a {kind} task has no such part.", field=name)


def _remarks(
    given: Submission, settings: Settings, presented: Sequence[int], texts: Texts
) -> dict[str, Any]:
    """Flags, critique and spans, which go with every kind."""
    for name, places in given.flags.items():
        if name not in settings.flags or any(place >= len(presented) for place in places):
            raise UserError(
                f"flags are {', '.join(settings.flags) or 'not asked for here'}.", field="flags"
            )
    if settings.critique == "off" and (given.critique or given.spans):
        raise UserError("critique is not asked for here.", field="critique")
    if (
        settings.critique == "required"
        and presented
        and not given.critique.strip()
        and not given.spans
    ):
        raise UserError("say why, or mark what is wrong.", field="critique")
    spans, written = [], texts() if given.spans else ()
    for span in given.spans:
        if span.place >= len(presented):
            raise UserError("there is no such answer.", field="spans")
        position = presented[span.place]
        if not span.start < span.end <= len(written[position]):
            raise UserError("a span must lie within its answer.", field="spans")
        spans.append(Span(position, span.start, span.end, span.note))
    flags = {
        name: tuple(sorted({presented[p] for p in places}))
        for name, places in given.flags.items()
        if places
    }
    return {"flags": flags, "critique": given.critique, "spans": tuple(spans)}
