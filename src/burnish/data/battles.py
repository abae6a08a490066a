"""Two whole answers to one conversation, judged: HelpSteer3's preferences and LMArena's battles."""

from __future__ import annotations

from burnish.data.columns import _conversation, _fail, _filled, _other_columns, _shown, _turns
from burnish.data.labelled_fields import _digest, _name, _objects, _ranks, _remark, _three_steps
from burnish.data.sources import Row
from burnish.records import LabelledItem, Opinion, Prompt

_WINNERS = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0, "both_bad": 0}


def helpsteer3(row: Row, annotator: str) -> LabelledItem:
    """Strengths -3 (response 1 much better) to 3 under a conversation; ours has the other sign.
    Each annotator's own where they are given."""
    used = ("context", "response1", "response2", "overall_preference", "individual_preference")
    messages = _conversation(row, _turns(row, "context", text_as="user"), last="user")
    texts = tuple(_filled(row, column, row.values[column]) for column in ("response1", "response2"))
    name = row.values.get("id")
    prompt = Prompt(
        (
            f"helpsteer3:{_digest([list(messages), *texts])}"
            if name is None
            else _name(row, "id", name)
        ),
        messages,
        _other_columns(row, *used, "split"),
    )
    opinions = []
    single = row.values.get("individual_preference")
    for i, one in enumerate(_objects(row, "individual_preference") if single else ()):
        field = f"individual_preference[{i}]"
        said = _remark(row, f"{field}.reasoning", one.get("reasoning"))
        opinions.append(
            _three_steps(row, f"{field}.score", one.get("score"), f"{annotator}-{i + 1}", said)
        )
    if not opinions:
        opinions.append(
            _three_steps(row, "overall_preference", row.values["overall_preference"], annotator, "")
        )
    return LabelledItem(prompt, texts, ("", ""), tuple(opinions), "pairwise")


def lmarena(row: Row, annotator: str) -> LabelledItem:
    """A battle of two models: two conversations that differ in the last answer, and the winner."""
    sides = [_turns(row, column) for column in ("conversation_a", "conversation_b")]
    first, second = (_conversation(row, side, last="assistant") for side in sides)
    if [dict(m) for m in first[:-1]] != [dict(m) for m in second[:-1]]:
        _fail(
            row,
            "conversation_b",
            "differs from conversation_a before the last answer: such battles have no prompt in"
            " common.",
        )
    winner = row.values["winner"]
    if not isinstance(winner, str) or winner not in _WINNERS:
        _fail(row, "winner", f"must be one of {', '.join(_WINNERS)}, not {_shown(winner)}.")
    models = tuple(_name(row, column, row.values[column]) for column in ("model_a", "model_b"))
    texts = (first[-1]["content"], second[-1]["content"])
    name = row.values.get("question_id", row.values.get("id"))
    used = (
        "model_a",
        "model_b",
        "winner",
        "conversation_a",
        "conversation_b",
        "question_id",
        "judge",
    )
    prompt = Prompt(
        (
            f"lmarena:{_digest([list(first[:-1]), *texts])}"
            if name is None
            else _name(row, "question_id", name)
        ),
        first[:-1],
        _other_columns(row, *used),
    )
    strength = _WINNERS[winner]
    bad = {"both_bad": True} if winner in ("tie (bothbad)", "both_bad") else {}
    who = _name(row, "judge", row.values.get("judge") or annotator)
    opinion = Opinion("pairwise", who, _ranks(strength), {"strength": strength, **bad}, scale=1)
    return LabelledItem(prompt, texts, models, (opinion,), "pairwise")
