"""Labels straight from the annotation store: what came in until the run began, frozen for as long
as the run is unfinished."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from burnish.atomic import write_text
from burnish.config.schema import Data
from burnish.data.preferences import informative, merge_by_prompt
from burnish.errors import UserError
from burnish.jsonio import dumps, read_object
from burnish.records import Comparison, Demonstration, PreferenceGroup, Prompt
from burnish.runs.manifest import fingerprint


@dataclass(frozen=True, slots=True)
class StoredLabels:
    """A project's comparisons and demonstrations, what was left out and why, and the hash of it
    all."""

    groups: tuple[PreferenceGroup, ...]
    demonstrations: tuple[Demonstration, ...]
    dropped: Mapping[str, int]
    hash: str


def stored_labels(data: Data, folder: Path) -> StoredLabels:
    """The labels of `data.store` and `data.project`: those that `freeze` kept while a stage of the
    run in `folder` has been begun and is not done, so that a run that was killed goes on with what
    it began with; else what is in the store now.

    Raises UserError if the store or the project is not there, or holds no comparison.
    """
    frozen = folder / "labels.json"
    if frozen.is_file() and _unfinished(folder):
        hint = f"Remove it and the unfinished stages of {folder}, and run again."
        kept = read_object(frozen, hint=hint)
        try:
            return _from_json(kept)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(
                "this file is damaged: it holds no labels.", file=frozen, hint=hint
            ) from error
    # Through text, so that what is hashed and trained on is what a frozen file would give back.
    return _from_json(json.loads(json.dumps(_read(data), default=str)))


def freeze(labels: StoredLabels, folder: Path) -> None:
    """Keep the labels that a run begins with, in `folder`/labels.json."""
    found = {
        "dropped": dict(labels.dropped),
        "groups": [asdict(group) for group in labels.groups],
        "demonstrations": [asdict(one) for one in labels.demonstrations],
    }
    write_text(folder / "labels.json", dumps(found) + "\n")


def _unfinished(folder: Path) -> bool:
    return any(not begun.with_name("stage.json").is_file() for begun in folder.glob("*/begun.json"))


def _read(data: Data) -> dict[str, Any]:
    from burnish.annotation.labels import LabelOptions, demonstration_data, preference_data
    from burnish.annotation.snapshot import take_snapshot
    from burnish.annotation.store import Store

    assert data.store is not None
    assert data.project is not None
    if "://" not in data.store and not Path(data.store).expanduser().is_file():
        raise UserError("there is no such store.", file=data.store, field="data.store")
    place = data.store if "://" in data.store else Path(data.store).expanduser()
    store = Store(place)
    try:
        snapshot = take_snapshot(store, data.project)
    finally:
        store.close()
    options = LabelOptions(
        data.strength, data.reliability_weighted, data.human_share, dimension=data.dimension
    )
    dropped: Counter[str] = Counter()
    merged = merge_by_prompt(preference_data(snapshot, options, dropped=dropped))
    if not merged.items:
        hint = f"Collect some: burnish annotate serve --database {data.store}"
        what = "comparisons" if data.dimension is None else f'comparisons by "{data.dimension}"'
        raise UserError(
            f'the project "{data.project}" has no {what} yet.', file=data.store, hint=hint
        )
    kept = informative(merged.items)
    return {
        "dropped": {**dropped, **merged.dropped, **kept.dropped},
        "groups": [asdict(group) for group in kept.items],
        "demonstrations": [
            asdict(d) for d in demonstration_data(snapshot, human_share=data.human_share)
        ],
    }


def _from_json(found: Mapping[str, Any]) -> StoredLabels:
    groups = tuple(
        PreferenceGroup(
            Prompt(g["prompt"]["id"], tuple(g["prompt"]["messages"]), g["prompt"]["columns"]),
            tuple(g["responses"]),
            tuple(Comparison(**c) for c in g["comparisons"]),
            traces={text: tuple(turns) for text, turns in g.get("traces", {}).items()},
        )
        for g in found["groups"]
    )
    demonstrations = tuple(
        Demonstration(d["id"], tuple(d["messages"])) for d in found["demonstrations"]
    )
    return StoredLabels(groups, demonstrations, found["dropped"], fingerprint(found))
