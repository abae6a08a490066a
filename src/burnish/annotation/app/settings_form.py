"""A project's settings as a form: each field a control of its own, written out in words, and read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from burnish.annotation.settings import Settings
from burnish.errors import UserError

_LINES = ("flags", "skip_reasons")
_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "The task": {
        "kind": ("Task", "of items that do not say themselves"),
        "steps": ("Steps of the scale", "pairs: 7 has a middle, which is a tie"),
        "tie": ("Offer “about the same”", "pairs; rankings may have equal ranks"),
        "both_bad": ("Offer “both are bad”", "pairs and chats"),
        "turns": ("Turns of a chat", "at least"),
        "critique": ("Free text and marked spans", ""),
        "attributes": ("What is rated", "one a line: name | lowest | highest | help"),
        "flags": ("Flags", "one a line; none: no flags"),
    },
    "Who does what": {
        "overlap": ("Annotators per item", ""),
        "quota": ("Most items for one annotator", "empty: as many as there are"),
        "lease_minutes": ("Minutes an item is kept", "for the person who has it open"),
        "skip_reasons": ("Reasons to skip", "one a line"),
    },
    "Quality": {
        "gold_rate": ("Share of items with a known answer", "0 to 0.5, of those that an annotator meets"),
        "pass_mark": ("Pass mark of the test", "0 to 1"),
        "dispute_below": ("A reviewer decides below this agreement", "0 to 1"),
    },
    "Money and news": {
        "price_per_task": ("Price per task", ""),
        "price_per_hour": ("Price per hour", ""),
        "currency": ("Currency", ""),
        "milestones": ("Milestones", "percentages at which webhooks are told, with commas"),
    },
}


def form_of(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups of controls for settings: name, label, hint, kind of control, value and what it offers."""
    return [
        {"title": title, "fields": [_control(name, *words, given[name]) for name, words in fields.items()]}
        for title, fields in _GROUPS.items()
    ]


def as_typed(form: Mapping[str, str]) -> list[dict[str, Any]]:
    """The groups with what somebody typed, right or wrong, so that nothing is typed twice."""
    groups = form_of(Settings().model_dump())
    for group in groups:
        for field in group["fields"]:
            typed = form.get(field["name"])
            field["value"] = typed is not None if field["control"] == "checkbox" else (typed or "")
    return groups


def read_form(form: Mapping[str, str]) -> dict[str, Any]:
    """Settings from the form's fields. Raises UserError naming a field that is not a number, or a line that cannot be read."""
    return {name: _read(name, form.get(name)) for fields in _GROUPS.values() for name in fields}


def _control(name: str, label: str, hint: str, value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name, "label": label, "hint": hint, "value": value}
    kind = Settings.model_fields[name].annotation
    if kind is bool:
        return found | {"control": "checkbox"}
    if name == "attributes":
        lines = [" | ".join(str(one[part]) for part in ("name", "low", "high", "help")).rstrip(" |") for one in value]
        return found | {"control": "lines", "value": "\n".join(lines)}
    if name in _LINES:
        return found | {"control": "lines", "value": "\n".join(value)}
    if name == "milestones":
        return found | {"control": "text", "value": ", ".join(map(str, value))}
    if kind is not str and (options := [o for o in get_args(kind) if not isinstance(o, type)]):
        return found | {"control": "select", "options": options}
    if kind is str:
        return found | {"control": "text"}
    return found | {
        "control": "number",
        "step": "any" if kind is float else "1",
        "value": "" if value is None else value,
    }


def _read(name: str, typed: str | None) -> Any:
    kind = Settings.model_fields[name].annotation
    if kind is bool:
        return typed is not None
    text = (typed or "").strip()
    if name == "attributes":
        return [_attribute(line) for line in text.splitlines() if line.strip()]
    if name in _LINES:
        return [line.strip() for line in text.splitlines() if line.strip()]
    if name == "milestones":
        return [_number(name, part) for part in text.replace(",", " ").split()]
    if name == "quota" and not text:
        return None
    if kind is str or name in ("kind", "critique"):
        return text
    return _number(name, text, whole=kind is not float)


def _attribute(line: str) -> dict[str, Any]:
    parts = [part.strip() for part in line.split("|", 3)]
    found: dict[str, Any] = {"name": parts[0]}
    for key, text in zip(("low", "high"), parts[1:3], strict=False):
        found[key] = _number("attributes", text)
    return found | ({"help": parts[3]} if len(parts) > 3 else {})


def _number(name: str, text: str, *, whole: bool = True) -> float | int:
    try:
        return int(text) if whole else float(text)
    except ValueError:
        kind = "a whole number" if whole else "a number"
        raise UserError(f'must be {kind}, not "{text[:40]}".', field=name) from None
