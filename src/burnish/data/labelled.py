"""Labels made elsewhere: the layouts of preference data sets and annotation tools, read as items
with what was said of them.

A mistake raises a UserError that names file, row and field. Several rows about one item (one for
each annotator, or for each response) become one item.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from burnish.data.battles import helpsteer3, lmarena
from burnish.data.columns import (
    Loaded,
    _conversation,
    _fail,
    _filled,
    _id,
    _other_columns,
    _shown,
    _turns,
    as_json,
    preference_pairs,
)
from burnish.data.labelled_fields import (
    _digest,
    _moment,
    _name,
    _numbers,
    _object,
    _objects,
    _objects_in,
    _ranks,
    _remark,
    _seconds,
    _texts,
    _three_steps,
    _whole,
)
from burnish.data.own_layout import named_item, own_item, read_item
from burnish.data.sources import Row, kind
from burnish.errors import UserError, listed
from burnish.records import LabelledItem, Message, Opinion, Prompt

HELPSTEER = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")

_COLUMNS: dict[str, tuple[str, ...]] = {
    "burnish": ("item_id", "messages", "candidates", "answers"),
    "openai": ("info", "summaries", "choice"),
    "labelstudio": ("data", "annotations"),
    "argilla": ("fields",),
    "ultrafeedback": ("instruction", "completions"),
    "helpsteer2-preference": ("prompt", "response_1", "response_2", "preference_strength"),
    "helpsteer3": ("context", "response1", "response2", "overall_preference"),
    "lmarena": ("model_a", "model_b", "winner", "conversation_a", "conversation_b"),
    "helpsteer": ("prompt", "response", "helpfulness"),
    "ranking": ("prompt", "responses"),
    "unpaired": ("prompt", "completion", "label"),
    "paired": ("chosen", "rejected"),
}
"""By layout, the columns it is known by; the first that fits is taken."""

LAYOUTS = tuple(_COLUMNS)
_KIN = {"helpsteer2-preference": "helpsteer3", "paired": "lmarena"}
"""Asked for as the one and holding all columns of the other, rows are read as the other."""


def read_labelled(
    rows: Sequence[Row], *, layout: str | None = None, annotator: str = "imported"
) -> Loaded[LabelledItem]:
    """The items in some rows, in the order of first sight, with their labels.

    `layout` is one of `LAYOUTS`; None: the one whose columns the first row has. `annotator` is the
    name of whoever labelled where the layout does not say. Anthropic's HH transcripts are read as
    "paired", with what `preference_pairs` drops.
    """
    if not rows:
        raise UserError("there are no rows to read.")
    chosen = layout or layout_of(rows[0])
    if chosen not in _COLUMNS:
        raise UserError(
            f'there is no layout "{chosen}". There are: {listed(LAYOUTS)}.', field="layout"
        )
    kin = _KIN.get(chosen)
    if kin is not None and all(column in rows[0].values for column in _COLUMNS[kin]):
        chosen = kin
    if chosen == "paired":
        return _paired(rows, annotator)
    read = _READERS[chosen]
    items = carried_items(rows)
    for row in rows:
        if named_item(row) in items:
            continue
        missing = next((c for c in _COLUMNS[chosen] if row.values.get(c) is None), None)
        if missing is not None:
            _fail(
                row,
                missing,
                f"is missing, which the layout {chosen} needs. The row has {listed(row.values)}.",
            )
        item = read(row, annotator)
        known = items.get(item.prompt.id)
        items[item.prompt.id] = item if known is None else _merged(row, known, item)
    return Loaded(tuple(items.values()), {})


def carried_items(rows: Sequence[Row]) -> dict[str, LabelledItem]:
    """The items that rows carry as Burnish wrote them beside another tool's layout, by id, in the
    order of first sight."""
    found: dict[str, LabelledItem] = {}
    for row in rows:
        item = own_item(row)
        if item is not None and item.prompt.id in found:
            _fail(
                row,
                "burnish",
                f"an earlier row has the item {item.prompt.id!r} already. Give each its own id.",
            )
        if item is not None:
            found[item.prompt.id] = item
    return found


def layout_of(row: Row) -> str:
    """The layout whose columns a row has. Raises UserError if there is none."""
    for layout, columns in _COLUMNS.items():
        if all(column in row.values for column in columns):
            return layout
    if "response" in row.values and named_item(row) is not None:
        return "helpsteer"  # with attributes of the project's own
    known = "; ".join(f"{layout}: {', '.join(columns)}" for layout, columns in _COLUMNS.items())
    raise UserError(
        f"the columns {listed(row.values)} are of no layout that is known.",
        file=row.file,
        row=row.number,
        hint=f"The layouts are {known}.",
    )


def _merged(row: Row, known: LabelledItem, item: LabelledItem) -> LabelledItem:
    """Another row about the same item: further labels of the same candidates, or (HelpSteer) a
    further candidate."""
    if known.candidates == item.candidates:
        names = {one.annotator for one in known.opinions}
        twice = next((one.annotator for one in item.opinions if one.annotator in names), None)
        if twice is not None:
            _fail(row, "id", f'"{twice}" has labelled the item {known.prompt.id!r} before.')
        return replace(known, opinions=(*known.opinions, *item.opinions))
    if "response" not in row.values:
        _fail(
            row,
            "id",
            f"{known.prompt.id!r} has other candidates in an earlier row. Give each item an id of"
            " its own.",
        )
    return _beside(row, known, item)


def _beside(row: Row, known: LabelledItem, item: LabelledItem) -> LabelledItem:
    """The candidates of both, rated by the same annotator: one rating for each."""
    (before,), (after,) = known.opinions, item.opinions
    ratings = {
        name: (*before.payload["ratings"].get(name, ()), *after.payload["ratings"].get(name, ()))
        for name in before.payload["ratings"]
    }
    if any(len(values) != len(known.candidates) + 1 for values in ratings.values()):
        _fail(row, next(iter(ratings)), "is not rated here, but for other responses to the prompt.")
    merged = replace(before, payload={"ratings": ratings})
    return replace(
        known,
        candidates=(*known.candidates, *item.candidates),
        sources=(*known.sources, *item.sources),
        opinions=(merged,),
    )


def _prompt(row: Row, column: str, *used: str, name: str | None = None) -> Prompt:
    messages = _conversation(row, _turns(row, column, text_as="user"), last="user")
    return Prompt(name or _id(row), messages, _other_columns(row, column, *used))


def _paired(rows: Sequence[Row], annotator: str) -> Loaded[LabelledItem]:
    loaded = preference_pairs(rows)
    opinion = Opinion("pairwise", annotator, (1, 2), {"strength": 1}, scale=1)
    items = tuple(
        LabelledItem(group.prompt, group.responses, ("", ""), (opinion,), "pairwise", group.traces)
        for group in loaded.items
    )
    return Loaded(items, loaded.dropped, loaded.origins)


def _unpaired(row: Row, annotator: str) -> LabelledItem:
    prompt = _prompt(row, "prompt", "completion", "label")
    (turn,) = _turns(row, "completion", text_as="assistant")[-1:]
    label = row.values["label"]
    if not isinstance(label, bool):
        _fail(row, "label", f"must be true or false, not {_shown(label)}.")
    opinion = Opinion("likert", annotator, None, {"ratings": {"desirable": (int(label),)}})
    return LabelledItem(prompt, (turn[1]["content"],), ("",), (opinion,), "likert")


def _ranking(row: Row, annotator: str) -> LabelledItem:
    prompt = _prompt(row, "prompt", "responses", "ranks", "sources", "annotator")
    texts = _texts(row, "responses", least=2)
    ranks = row.values.get("ranks")
    sources = row.values.get("sources")
    if sources is not None and (not isinstance(sources, list) or len(sources) != len(texts)):
        _fail(row, "sources", f"must be a list of {len(texts)} names, one for each response.")
    named = tuple(
        _remark(row, f"sources[{i}]", one) for i, one in enumerate(sources or [""] * len(texts))
    )
    found = LabelledItem(prompt, texts, named, (), "ranking")
    if ranks is None:
        return found
    who = _name(row, "annotator", row.values.get("annotator") or annotator)
    return replace(
        found, opinions=(Opinion("ranking", who, _numbers(row, "ranks", ranks, len(texts))),)
    )


def _ultrafeedback(row: Row, annotator: str) -> LabelledItem:
    """Ratings 1 to 5 by aspect; "N/A" is an open one. The critique is each completion's, in
    order."""
    prompt = _prompt(row, "instruction", "completions")
    completions = _objects(row, "completions")
    texts = tuple(
        _filled(row, f"completions[{i}].response", one.get("response"))
        for i, one in enumerate(completions)
    )
    said = [
        _object(row, f"completions[{i}].annotations", one.get("annotations"))
        for i, one in enumerate(completions)
    ]
    aspects = dict.fromkeys(name for one in said for name in one)
    ratings = {
        name: tuple(
            _rating(row, f"completions[{i}].annotations.{name}", one.get(name))
            for i, one in enumerate(said)
        )
        for name in aspects
    }
    remarks = [
        _remark(row, f"completions[{i}].critique", one.get("critique"))
        for i, one in enumerate(completions)
    ]
    critique = "\n\n".join(filter(None, remarks))
    payload: dict[str, Any] = {"ratings": ratings, **({"critique": critique} if critique else {})}
    opinions = (Opinion("likert", annotator, None, payload, "ai"),) if ratings else ()
    sources = tuple(
        _remark(row, f"completions[{i}].model", one.get("model"))
        for i, one in enumerate(completions)
    )
    return LabelledItem(prompt, texts, sources, opinions, "likert")


def _rating(row: Row, field: str, given: Any) -> int | None:
    if isinstance(
        given, list
    ):  # some aspects come with several annotations: the first is the aspect's own
        given = given[0] if given else None
    value = given.get("Rating") if isinstance(given, Mapping) else given
    if value is None or value == "N/A":
        return None
    return _whole(row, f"{field}.Rating", value)


def _helpsteer(row: Row, annotator: str) -> LabelledItem:
    """One response a row; the rows of one prompt are one item."""
    column = row.values["prompt"]
    name = str(row.values.get("id") or f"helpsteer:{_digest(column)}")
    prompt = _prompt(row, "prompt", "response", *HELPSTEER, name=name)
    text = _filled(row, "response", row.values["response"])
    present = [name for name in HELPSTEER if row.values.get(name) is not None]
    ratings = {name: (_whole(row, name, row.values[name]),) for name in present}
    return LabelledItem(
        prompt,
        (text,),
        ("",),
        (Opinion("likert", annotator, None, {"ratings": ratings}),),
        "likert",
    )


def _helpsteer2_preference(row: Row, annotator: str) -> LabelledItem:
    """Strengths −3 (response 1 much better) to 3 (response 2); ours has the other sign. Each
    annotator's where they are given."""
    used = (
        "response_1",
        "response_2",
        "preference_strength",
        "preference_statement",
        "all_preferences_unprocessed",
    )
    prompt = _prompt(row, "prompt", *used, "split")
    texts = tuple(
        _filled(row, column, row.values[column]) for column in ("response_1", "response_2")
    )
    single = row.values.get("all_preferences_unprocessed")
    opinions = []
    if isinstance(single, list) and single:
        for i, one in enumerate(_objects(row, "all_preferences_unprocessed")):
            field = f"all_preferences_unprocessed[{i}].strength"
            statement = one.get("statement") or one.get("justification_statement")
            said = _remark(row, f"all_preferences_unprocessed[{i}].statement", statement)
            opinions.append(
                _three_steps(row, field, one.get("strength"), f"{annotator}-{i + 1}", said)
            )
    else:
        said = _remark(row, "preference_statement", row.values.get("preference_statement"))
        opinions.append(
            _three_steps(
                row, "preference_strength", row.values["preference_strength"], annotator, said
            )
        )
    return LabelledItem(prompt, texts, ("", ""), tuple(opinions), "pairwise")


def _openai(row: Row, annotator: str) -> LabelledItem:
    """`info` (with the post or article), two `summaries`, the `choice` of a `worker`."""
    info = row.values["info"]
    if not isinstance(info, Mapping):
        _fail(row, "info", f"must be an object, not {kind(info)}.")
    column = next((name for name in ("prompt", "post", "article") if info.get(name)), None)
    if column is None:
        _fail(row, "info", "holds neither prompt, post nor article.")
    text = _filled(row, f"info.{column}", info[column])
    if info.get("title"):
        text = f"{_filled(row, 'info.title', info['title'])}\n\n{text}"
    summaries = _objects(row, "summaries")
    if len(summaries) != 2:
        _fail(row, "summaries", f"must hold two, not {len(summaries)}.")
    texts = tuple(
        _filled(row, f"summaries[{i}].text", one.get("text")).strip()
        for i, one in enumerate(summaries)
    )
    choice = row.values["choice"]
    if isinstance(choice, bool) or choice not in (0, 1):
        _fail(row, "choice", f"must be 0 or 1, not {_shown(choice)}.")
    columns = as_json(
        row, {name: value for name, value in info.items() if name not in (column, "title")}
    )
    prompt = Prompt(
        f"openai:{_digest([text, *texts])}", (Message(role="user", content=text),), columns
    )
    who = _name(row, "worker", row.values.get("worker") or annotator)
    strength = 1 if choice == 0 else -1
    opinion = Opinion("pairwise", who, _ranks(strength), {"strength": strength}, scale=1)
    sources = tuple(
        _remark(row, f"summaries[{i}].policy", one.get("policy")) for i, one in enumerate(summaries)
    )
    return LabelledItem(prompt, texts, sources, (opinion,), "pairwise")


def _labelstudio(row: Row, annotator: str) -> LabelledItem:
    """Tasks of the pairwise template (`data.prompt`, `answer1`, `answer2`) or the ranker's
    (`data.items`)."""
    data = row.values["data"]
    if not isinstance(data, Mapping):
        _fail(row, "data", f"must be an object, not {kind(data)}.")
    asked = next(
        (name for name in ("prompt", "instruction", "question", "text") if name in data), None
    )
    if asked is None:
        _fail(row, "data", f"has no prompt, instruction, question or text; it has {listed(data)}.")
    ids, texts = _labelstudio_candidates(row, data, asked)
    inner = replace(row, values={asked: data[asked], "id": row.values.get("id")})
    columns = {
        name: value
        for name, value in data.items()
        if name != asked and value not in texts and name != "items"
    }
    prompt = replace(_prompt(inner, asked), columns=as_json(row, columns))
    opinions = []
    for i, one in enumerate(_objects(row, "annotations", least=0)):
        if not one.get("was_cancelled"):
            opinions.append(_labelstudio_opinion(row, f"annotations[{i}]", one, ids, annotator))
    form = opinions[0].kind if opinions else "pairwise" if len(texts) == 2 else "ranking"
    return LabelledItem(prompt, texts, ("",) * len(texts), tuple(opinions), form)


def _labelstudio_candidates(
    row: Row, data: Mapping[str, Any], asked: str
) -> tuple[list[str], tuple[str, ...]]:
    if isinstance(data.get("items"), list):
        pairs = [
            (str(one.get("id", i)), _filled(row, f"data.items[{i}].body", one.get("body")))
            for i, one in enumerate(_objects_in(row, "data.items", data["items"]))
        ]
    else:
        names = [
            n
            for n in data
            if n != asked and re.fullmatch(r"(answer|response|candidate|text|option)_?\w+", n)
        ]
        pairs = [(name, _filled(row, f"data.{name}", data[name])) for name in names]
    if len(pairs) < 2:
        _fail(row, "data", "has no two candidates: answer1 and answer2, or a list of items.")
    return [name for name, _ in pairs], tuple(text for _, text in pairs)


def _labelstudio_opinion(
    row: Row, field: str, one: Mapping[str, Any], ids: Sequence[str], annotator: str
) -> Opinion:
    by = one.get("completed_by")
    name = by.get("email") or by.get("id") if isinstance(by, Mapping) else by
    who = _name(row, f"{field}.completed_by", name if name is not None else annotator)
    ranks: tuple[int, ...] | None = None
    payload: dict[str, Any] = {}
    for i, result in enumerate(_objects_in(row, f"{field}.result", one.get("result"))):
        where = f"{field}.result[{i}].value"
        value = _object(row, where, result.get("value"))
        form = result.get("type")
        if form == "pairwise":
            side = value.get("selected")
            if side not in ("left", "right"):
                _fail(row, f"{where}.selected", f'must be "left" or "right", not {_shown(side)}.')
            payload["strength"] = 1 if side == "left" else -1
            ranks = _ranks(payload["strength"])
        elif form == "ranker":
            rankers = _object(row, f"{where}.ranker", value.get("ranker"))
            order = next((list(v) for v in rankers.values() if isinstance(v, list)), [])
            if sorted(map(str, order)) != sorted(ids):
                _fail(
                    row,
                    f"{where}.ranker",
                    f"must order {listed(ids)}, not {listed(map(str, order))}.",
                )
            ranks = tuple(1 + [str(x) for x in order].index(name) for name in ids)
        elif form == "rating":
            name = str(result.get("from_name", "rating"))
            at = ids.index(result["to_name"]) if result.get("to_name") in ids else 0
            values = list(payload.setdefault("ratings", {}).get(name, (None,) * len(ids)))
            values[at] = _whole(row, f"{where}.rating", value.get("rating"))
            payload["ratings"][name] = tuple(values)
        elif form == "textarea":
            said = value.get("text")
            lines = said if isinstance(said, list) else [said]
            payload["critique"] = "\n".join(_remark(row, f"{where}.text", line) for line in lines)
    if ranks is None and "ratings" not in payload:
        _fail(row, f"{field}.result", "holds no pairwise choice, ranker or rating.")
    form = "likert" if ranks is None else "pairwise" if "strength" in payload else "ranking"
    seconds = _seconds(row, f"{field}.lead_time", one.get("lead_time"))
    return Opinion(
        form,
        who,
        ranks,
        payload,
        seconds=seconds,
        created_at=_moment(one.get("created_at")),
        scale=1,
    )


def _argilla(row: Row, annotator: str) -> LabelledItem:
    """Records of either generation: responses by question (2.x) or by user (1.x). Suggestions are a
    model's answers."""
    fields = row.values["fields"]
    if not isinstance(fields, Mapping):
        _fail(row, "fields", f"must be an object, not {kind(fields)}.")
    asked = next(
        (name for name in ("prompt", "instruction", "question", "text", "chat") if name in fields),
        None,
    )
    if asked is None:
        _fail(
            row,
            "fields",
            f"has no prompt, instruction, question, text or chat; it has {listed(fields)}.",
        )
    names = [name for name in fields if name != asked and fields[name]]
    if not names:
        _fail(row, "fields", "has a prompt and nothing to judge.")
    texts = tuple(_filled(row, f"fields.{name}", fields[name]) for name in names)
    inner = replace(row, values={asked: fields[asked], "id": row.values.get("id")})
    prompt = replace(
        _prompt(inner, asked),
        columns=as_json(row, _object(row, "metadata", row.values.get("metadata"))),
    )
    by_user: dict[str, dict[str, Any]] = {}
    for user, question, value in _argilla_responses(row, annotator):
        by_user.setdefault(user, {})[question] = value
    opinions = [
        _argilla_opinion(row, user, "person", said, names) for user, said in by_user.items()
    ]
    for agent, said in _argilla_suggestions(row).items():
        opinions.append(_argilla_opinion(row, agent, "ai", said, names))
    form = (
        opinions[0].kind
        if opinions
        else "pairwise"
        if len(texts) == 2
        else "ranking"
        if len(texts) > 2
        else "likert"
    )
    return LabelledItem(prompt, texts, ("",) * len(texts), tuple(opinions), form)


def _argilla_responses(row: Row, annotator: str) -> Iterable[tuple[str, str, Any]]:
    responses = row.values.get("responses") or {}
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            for i, one in enumerate(_objects_in(row, f"responses.{question}", given)):
                if one.get("status", "submitted") == "submitted":
                    who = _name(
                        row, f"responses.{question}[{i}].user_id", one.get("user_id") or annotator
                    )
                    yield who, question, one.get("value")
    else:
        for i, one in enumerate(_objects_in(row, "responses", responses)):
            if one.get("status", "submitted") == "submitted":
                who = _name(row, f"responses[{i}].user_id", one.get("user_id") or annotator)
                answers = _object(row, f"responses[{i}].values", one.get("values"))
                for question, value in answers.items():
                    yield (
                        who,
                        question,
                        _object(row, f"responses[{i}].values.{question}", value).get("value"),
                    )


def _argilla_suggestions(row: Row) -> dict[str, dict[str, Any]]:
    suggestions: Any = row.values.get("suggestions") or {}
    found: dict[str, dict[str, Any]] = {}
    given = (
        [
            (question, _object(row, f"suggestions.{question}", one))
            for question, one in suggestions.items()
        ]
        if isinstance(suggestions, Mapping)
        else [
            (_question(row, i, one), one)
            for i, one in enumerate(_objects_in(row, "suggestions", suggestions))
        ]
    )
    for question, one in given:
        if one.get("value") is not None:
            agent = _name(row, f"suggestions.{question}.agent", one.get("agent") or "suggestion")
            found.setdefault(agent, {})[question] = one["value"]
    return found


def _question(row: Row, number: int, one: Mapping[str, Any]) -> str:
    return _name(
        row, f"suggestions[{number}].question_name", one.get("question_name") or one.get("question")
    )


def _argilla_opinion(
    row: Row, who: str, whose: str, said: Mapping[str, Any], names: Sequence[str]
) -> Opinion:
    ranks: tuple[int, ...] | None = None
    payload: dict[str, Any] = {}
    for question, value in said.items():
        if (
            isinstance(value, list)
            and value
            and (isinstance(value[0], Mapping) or sorted(map(str, value)) == sorted(names))
        ):
            order: dict[str, Any] = {str(name): 1 + place for place, name in enumerate(value)}
            if isinstance(value[0], Mapping):
                ranked = _objects_in(row, f"responses.{question}", value)
                order = {str(one.get("value")): one.get("rank") for one in ranked}
            if set(order) != set(names):
                _fail(
                    row,
                    f"responses.{question}",
                    f"must rank {listed(names)}, not {listed(map(str, order))}.",
                )
            ranks = tuple(_whole(row, f"responses.{question}", order[name]) for name in names)
        elif isinstance(value, str) and value in names and len(names) == 2:
            payload["strength"] = 1 if value == names[0] else -1
            ranks = _ranks(payload["strength"])
        elif isinstance(value, int) and not isinstance(value, bool):
            name, at = _argilla_target(question, names)
            values = list(payload.setdefault("ratings", {}).get(name, (None,) * len(names)))
            values[at] = value
            payload["ratings"][name] = tuple(values)
        elif isinstance(value, str):
            said_here = _remark(row, f"responses.{question}", value)
            payload["critique"] = "\n\n".join(filter(None, (payload.get("critique"), said_here)))
        else:
            _fail(row, f"responses.{question}", f"cannot be read: {_shown(value)}.")
    form = "likert" if ranks is None else "pairwise" if "strength" in payload else "ranking"
    return Opinion(form, who, ranks, payload, whose, scale=1)


def _argilla_target(question: str, names: Sequence[str]) -> tuple[str, int]:
    """(attribute, candidate) of a rating question: "helpful_response-1" rates response-1's
    helpfulness, "rating" the first."""
    for at, name in enumerate(names):
        if question.endswith(name):
            return question.removesuffix(name).rstrip("_-. ") or "rating", at
    return question, 0


_READERS: dict[str, Callable[[Row, str], LabelledItem]] = {
    "burnish": read_item,
    "openai": _openai,
    "labelstudio": _labelstudio,
    "argilla": _argilla,
    "ultrafeedback": _ultrafeedback,
    "helpsteer2-preference": _helpsteer2_preference,
    "helpsteer3": helpsteer3,
    "lmarena": lmarena,
    "helpsteer": _helpsteer,
    "ranking": _ranking,
    "unpaired": _unpaired,
}
