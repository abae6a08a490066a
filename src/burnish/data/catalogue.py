"""LLaMA-Factory's `dataset_info.json`: which file a named dataset is, and what its columns are
called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from burnish.data.files import exists
from burnish.errors import UserError, listed
from burnish.jsonio import read_object

CATALOGUE = "dataset_info.json"
_PLACES = ("file_name", "hf_hub_url")
_ELSEWHERE = ("script_url", "ms_hub_url", "om_hub_url", "cloud_file_name")
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
_COMMON = {"messages": "conversations", "system": "system", "tools": "tools", "chosen": "chosen",
    "rejected": "rejected",
           "kto_tag": "kto_tag"}  # fmt: skip
_TAGS = {
    "role_tag": ("from", "role"), "content_tag": ("value", "content"),
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"), "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call",),
    "system_tag": ("system",),
}  # fmt: skip
_KNOWN = (
    "formatting",
    "ranking",
    "subset",
    "split",
    "folder",
    "num_samples",
    "columns",
    "tags",
    *_PLACES,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One dataset of a catalogue: the source it is read from, the split, and what its columns are
    called (`data.layouts`)."""

    source: str
    split: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def holds_catalogue(ref: str) -> bool:
    """Whether a source is a folder with such a file: `datasets` writes one of that name, too, whose
    keys are others."""
    path = Path(ref).expanduser() / CATALOGUE
    try:
        return exists(path) and bool(_datasets(path))
    except (UserError, RuntimeError):
        return False


def entry_of(folder: str, name: str | None) -> Entry:
    """A dataset of the catalogue in a folder. Raises UserError where there is none of that name,
    and for what cannot be honoured."""
    path = Path(folder).expanduser() / CATALOGUE
    if not exists(path):
        hint = f"Remove `dataset`, or name the folder with a {CATALOGUE}."
        raise UserError(
            f"has no {CATALOGUE}, so no dataset of it can be named.", file=folder, hint=hint
        )
    sets = _datasets(path)
    if name is None or name not in sets:
        problem = (
            f"holds {len(sets)} datasets: {listed(sets)}."
            if name is None
            else f'has no dataset "{name}"; there are {listed(sets)}.'
        )
        hint = f"Name one: {{source: {folder}, dataset: {next(iter(sets), 'NAME')}}}."
        raise UserError(problem, file=path, hint=hint)
    return _entry(path, name, sets[name])


def _datasets(path: Path) -> dict[str, Mapping[str, Any]]:
    found = read_object(path, hint="Mend it.")
    places = (*_PLACES, *_ELSEWHERE)
    return {
        name: one
        for name, one in found.items()
        if isinstance(one, Mapping) and any(place in one for place in places)
    }


def _entry(path: Path, name: str, given: Mapping[str, Any]) -> Entry:
    def refuse(key: str, problem: str, hint: str) -> UserError:
        return UserError(problem, file=path, field=f"{name}.{key}", hint=hint)

    place = next((key for key in _PLACES if isinstance(given.get(key), str)), None)
    if place is None:
        key = next(key for key in _ELSEWHERE if key in given)
        raise refuse(key, "is no place that is read.", "Fetch it, and name its file by file_name.")
    unknown = next((key for key in given if key not in (*_KNOWN, *_ELSEWHERE)), None)
    if unknown is not None:
        raise refuse(unknown, f"is not read; known are {', '.join(_KNOWN)}.", "Remove it.")
    formatting = given.get("formatting", "alpaca")
    if formatting not in ("alpaca", "sharegpt"):
        raise refuse(
            "formatting",
            f"must be alpaca or sharegpt, not {formatting!r:.40}.",
            "Convert the data.",
        )
    for tag, value in (given.get("tags") or {}).items():
        if value not in _TAGS.get(tag, ()):
            taken = " or ".join(_TAGS.get(tag, ())) or "no such tag"
            raise refuse(
                f"tags.{tag}", f"is {value!r:.40}; {taken} is read.", "Rename it in the data."
            )
    source = str(path.parent / given["file_name"]) if place == "file_name" else given["hf_hub_url"]
    if place == "hf_hub_url" and isinstance(given.get("subset"), str):
        source = f"{source}:{given['subset']}"
    return Entry(source, given.get("split"), _columns(given, formatting, refuse))


def _columns(given: Mapping[str, Any], formatting: str, refuse: Any) -> dict[str, str]:
    """Our names of the columns, those of `data.layouts`, beside what the data calls them; equal
    ones are left out."""
    ours = {**_COMMON, **(_ALPACA if formatting == "alpaca" else {})}
    found: dict[str, str] = {}
    for key, theirs in (given.get("columns") or {}).items():
        if key not in ours:
            raise refuse(
                f"columns.{key}", f"is not read; known are {', '.join(ours)}.", "Remove it."
            )
        if isinstance(theirs, str) and theirs != ours[key]:
            found[ours[key]] = theirs
    if formatting == "alpaca" and "messages" in found:
        raise refuse(
            "columns.messages", "belongs to the formatting sharegpt.", "Set formatting to sharegpt."
        )
    return found
