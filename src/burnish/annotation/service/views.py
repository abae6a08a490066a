"""A task as its screen sees it: by place, without who wrote what, without positions, without what
is known to be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from burnish.annotation.records import STEPPED, Answer, Turn, answer_from
from burnish.annotation.service.rendering import markdown
from burnish.annotation.service.rows import SCENARIO
from burnish.annotation.service.showing import Held
from burnish.annotation.service.submission import on_screen
from burnish.annotation.service.work import Verdict
from burnish.annotation.settings import Settings
from burnish.labels.steps import steps_of, turns_of
from burnish.labels.traces import call_text


def task_view(held: Held, settings: Settings, *, html: bool) -> dict[str, Any]:
    """For the task page and for programs. With `html`, each text comes rendered too."""
    return {
        "lease": held.lease,
        "kind": held.kind,
        "part": held.part,
        "expires_at": held.expires_at.isoformat(),
        "messages": [_message(m, html) for m in held.messages],
        "answers": [
            _answer(held, position, html, by_step=_asks_steps(settings, held.kind) != "off")
            for position in held.presented
        ],
        "chat": [_turn(turn, html) for turn in held.chat],
        "draft": held.draft,
        "notes": list(held.notes),
        "progress": held.progress,
        "guidelines_version": held.guidelines_number,
        "scenario": _text(str(held.columns.get(SCENARIO, "")), html),
        "asks": asks_of(settings, held.kind, held.columns),
    }


def asks_of(settings: Settings, kind: str, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What a screen asks of an item of a kind."""
    return {
        "steps": settings.steps,
        "strength": settings.strength,
        "ties": settings.ties if kind in ("pairwise", "chat") else settings.tie,
        "both_bad": settings.both_bad,
        "attributes": [attribute.model_dump() for attribute in settings.attributes],
        "flags": settings.flags,
        "critique": settings.critique,
        "turns": settings.turns,
        "dimensions": [d.model_dump() for d in settings.dimensions] if kind == "pairwise" else [],
        "edit_winner": settings.edit_winner if kind in ("pairwise", "ranking") else "off",
        "step_verdicts": _asks_steps(settings, kind),
        "skip_reasons": settings.skip_reasons,
        "criteria": [one["criterion"] for one in columns.get("rubric", ())]
        if kind == "rubric"
        else [],
    }


def _asks_steps(settings: Settings, kind: str) -> str:
    return settings.step_verdicts if kind in STEPPED else "off"


def _steps(text: str, turns: Sequence[Any] | None, html: bool) -> list[dict[str, Any]]:
    """The steps of a candidate, as a screen shows them."""
    if turns:
        return [
            {"turns": [_message(dict(turn), html) for turn in step]} for step in turns_of(turns)
        ]
    return [_text(step, html) for step in steps_of(text)]


def desk_view(found: dict[str, Any], *, html: bool) -> dict[str, Any]:
    """An item at the review desk: by candidate position, annotators numbered."""
    item = found["item"]
    if item is None:
        return found
    texts = item["candidates"]
    stepped = any(answer.step_verdicts for answer in item["answers"])
    shown = [
        _text(text, html)
        | ({"turns": [_message(m, html) for m in turns]} if turns else {})
        | ({"steps": _steps(text, turns, html)} if stepped else {})
        for text, turns in zip(texts, item["traces"], strict=True)
    ]
    said = [
        {"id": number, "scale": scale, "ranks": answer.ranks, **answer.payload()}
        | ({"turns": [_turn_in_place(turn, html) for turn in answer.turns]} if answer.turns else {})
        | ({"passages": [{"candidate": s.candidate, "text": texts[s.candidate][s.start : s.end],
                        "note": s.note}
                         for s in answer.spans]} if answer.spans else {})
        for number, scale, answer in zip(item["ids"], item["scales"], item["answers"], strict=True)
    ]  # fmt: skip
    decision = item["decision"]
    return {
        "left": found["left"],
        "item": {
            "item_id": item["item_id"],
            "external_id": item["external_id"],
            "kind": item["kind"],
            "why": item["why"],
            "agreement": item["agreement"],
            "messages": [_message(m, html) for m in item["messages"]],
            "scenario": _text(str(item["columns"].get(SCENARIO, "")), html),
            "answers": shown,
            "said": said,
            "decision": None if decision is None else on_screen(_in_place(decision)),
            "asks": asks_of(item["settings"], item["kind"], item["columns"]),
        },
    }


def _in_place(decision: Answer) -> Answer:
    """A decision as it is shown: each candidate at its own position."""
    count = len(decision.presented)
    return replace(decision, presented=tuple(range(count)))


def verdict_view(verdict: Verdict, *, html: bool) -> dict[str, Any]:
    """What comes back after an answer; in training, with what would have been right, by place."""
    view: dict[str, Any] = {"recorded": True, "again": verdict.again}
    if verdict.score is not None:
        gold = {name: value for name, value in (verdict.gold or {}).items()}
        known = answer_from(
            verdict.kind, gold, presented=verdict.presented, ranks=gold.pop("ranks", None)
        )
        view["feedback"] = {
            "score": verdict.score,
            "right": verdict.score == 1.0,
            "explanation": _text(verdict.explanation, html),
            "expected": on_screen(known),
        }
    return view


def _message(message: dict[str, Any], html: bool) -> dict[str, Any]:
    """A turn: its text, and, where it has any, its calls of tools in words, what it thought, whose
    answer it is."""
    view: dict[str, Any] = {"role": message["role"], **_text(message["content"], html)}
    if message.get("reasoning_content"):
        view["reasoning"] = _text(message["reasoning_content"], html)
    if message.get("tool_calls"):
        view["calls"] = [call_text(call) for call in message["tool_calls"]]
    if message["role"] == "tool":
        view["tool"] = message.get("name") or message.get("tool_call_id") or ""
    return view


def _answer(held: Held, position: int, html: bool, *, by_step: bool) -> dict[str, Any]:
    """A candidate: its text, its turns where it calls tools, and its steps where they are
    marked."""
    turns = held.traces[position] if held.traces else None
    shown: dict[str, Any] = _text(held.texts[position], html and not turns)
    if by_step:
        shown["steps"] = _steps(held.texts[position], turns, html)
    return shown if not turns else {**shown, "turns": [_message(turn, html) for turn in turns]}


def _turn(turn: dict[str, Any], html: bool) -> dict[str, Any]:
    chosen = turn["chosen"]
    favours_first = turn["presented"][0] == 0
    return {
        "user": _text(turn["user"], html),
        "answers": [_text(turn["candidates"][position], html) for position in turn["presented"]],
        "chosen": None if chosen is None else turn["presented"].index(chosen),
        "strength": turn["strength"] if favours_first else -turn["strength"],
        "both_bad": turn["both_bad"],
    }


def _turn_in_place(turn: Turn, html: bool) -> dict[str, Any]:
    """A turn as a reviewer sees it: each candidate at its own position."""
    return _turn(asdict(turn) | {"presented": range(len(turn.candidates))}, html)


def _text(text: str, html: bool) -> dict[str, str]:
    return {"text": text, "html": markdown(text)} if html else {"text": text}
