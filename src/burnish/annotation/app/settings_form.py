"""A project's settings as a form: each field a control of its own, written out in words, and read
back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from burnish.annotation.settings import Settings
from burnish.annotation.versions import NAMED
from burnish.errors import UserError

_LISTS = {
    "attributes": "attributes",
    "dimensions": "dimensions",
    "flags": "lines",
    "skip_reasons": "lines",
    "milestones": "numbers",
}
_COLUMNS = ("name", "low", "high", "help")
_GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "The task": {
        "kind": ("Task", "of items that do not say themselves"),
        "steps": ("Steps of the scale", "pairs: 7 has a middle, which is a tie"),
        "tie": ("Offer “about the same”", "pairs; rankings may have equal ranks"),
        "both_bad": ("Offer “both are bad”", "pairs and chats"),
        "turns": ("Turns of a chat", "at least"),
        "critique": ("Free text and marked spans", ""),
        "dimensions": (
            "Compared by, beside the whole",
            "pairs; one a line: name | help. None: the whole alone",
        ),
        "edit_winner": ("Edit the best answer", "pairs and rankings; edited > chosen > rejected"),
        "step_verdicts": (
            "Mark each step of an answer",
            "right, neutral or wrong: for process reward models",
        ),
        "attributes": ("What is rated", "one a line: name | lowest | highest | help"),
        "flags": ("Flags", "one a line; none: no flags"),
    },
    "Who does what": {
        "overlap": ("Annotators per item", ""),
        "quota": ("Most items for one annotator", "empty: as many as there are"),
        "lease_minutes": ("Minutes an item is kept", "for the person who has it open"),
        "idle_minutes": (
            "Longest pause that is paid, minutes",
            "a longer silence counts as this much",
        ),
        "skip_reasons": ("Reasons to skip", "one a line"),
    },
    "Quality": {
        "gold_rate": (
            "Share of items with a known answer",
            "0 to 0.5, of those that an annotator meets",
        ),
        "pass_mark": ("Pass mark of the test", "0 to 1"),
        "dispute_below": ("A reviewer decides below this agreement", "0 to 1"),
        "review_share": ("Share of agreed items that a reviewer looks at", "0 to 1"),
    },
    "Who stops": {
        "fast_seconds": ("Too fast: answers in less than so many seconds", "0: none is"),
        "stop_fast": ("Answers that may be too fast before somebody stops", ""),
        "stop_gold": ("Stop below this mean mark on known answers", "0 to 1; 0: nobody stops"),
        "stop_gold_after": ("Known answers to be met before that", ""),
    },
    "The crowd's door": {
        "study": (
            "STUDY_ID",
            "of the platform; empty: the door is closed. The quota is each person's limit",
        ),
        "completion_code": ("Completion code", "shown to who is done"),
        "consent": ("Consent", "Markdown; agreed to before the work begins"),
    },
    "Money and news": {
        "price_per_task": ("Price per task", ""),
        "price_per_hour": ("Price per hour", ""),
        "currency": ("Currency", ""),
        "milestones": ("Milestones", "percentages at which webhooks are told, with commas"),
    },
}

LABELS = {name: words[0] for fields in _GROUPS.values() for name, words in fields.items()}


def read_renames(form: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What was chosen for flags and attributes that are gone: fields `rename-FIELD-NAME`, empty
    where a name has none."""
    found: dict[str, dict[str, str]] = {}
    for key, new in form.items():
        prefix, _, rest = key.partition("-")
        field, _, old = rest.partition("-")
        if prefix == "rename" and field in NAMED and new:
            found.setdefault(field, {})[old] = new
    return found


def form_of(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups of controls for settings: name, label, hint, kind of control, value and what it
    offers."""
    return [
        {
            "title": title,
            "fields": [_control(name, *words, given[name]) for name, words in fields.items()],
        }
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
    """Settings from the form's fields. Raises UserError naming a field that is not a number, or a
    line that cannot be read."""
    return {name: _read(name, form.get(name)) for fields in _GROUPS.values() for name in fields}


def _kind(name: str) -> str:
    """What a field is edited with."""
    kind = Settings.model_fields[name].annotation
    if name in _LISTS:
        return _LISTS[name]
    if name == "consent":
        return "prose"
    if kind is bool:
        return "checkbox"
    if kind is str:
        return "text"
    return "select" if _options(name) else "number"


def _options(name: str) -> list[Any]:
    return [
        one for one in get_args(Settings.model_fields[name].annotation) if not isinstance(one, type)
    ]


def _whole(name: str) -> bool:
    return Settings.model_fields[name].annotation is not float


def _control(name: str, label: str, hint: str, value: Any) -> dict[str, Any]:
    kind = _kind(name)
    found: dict[str, Any] = {
        "name": name,
        "label": label,
        "hint": hint,
        "value": value,
        "control": kind,
    }
    match kind:
        case "attributes":
            lines = [" | ".join(str(one[part]) for part in _COLUMNS).rstrip(" |") for one in value]
            return found | {"control": "lines", "value": "\n".join(lines)}
        case "dimensions":
            lines = [f"{one['name']} | {one['help']}".rstrip(" |") for one in value]
            return found | {"control": "lines", "value": "\n".join(lines)}
        case "prose":
            return found | {"control": "lines"}
        case "lines":
            return found | {"value": "\n".join(value)}
        case "numbers":
            return found | {"control": "text", "value": ", ".join(map(str, value))}
        case "select":
            return found | {"options": _options(name)}
        case "number":
            return found | {
                "step": "1" if _whole(name) else "any",
                "value": "" if value is None else value,
            }
    return found


def _read(name: str, typed: str | None) -> Any:
    text = (typed or "").strip()
    match _kind(name):
        case "checkbox":
            return typed is not None
        case "attributes":
            return [_attribute(line) for line in text.splitlines() if line.strip()]
        case "dimensions":
            parts = [
                [part.strip() for part in line.split("|", 1)]
                for line in text.splitlines()
                if line.strip()
            ]
            return [{"name": part[0], "help": part[1] if len(part) > 1 else ""} for part in parts]
        case "lines":
            return [line.strip() for line in text.splitlines() if line.strip()]
        case "numbers":
            return [_number(name, part) for part in text.replace(",", " ").split()]
        case "number":
            return None if name == "quota" and not text else _number(name, text, whole=_whole(name))
        case "select":  # of numbers, where the text is that of one
            return next((option for option in _options(name) if str(option) == text), text)
    return text


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
