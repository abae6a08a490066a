"""A run's model, or any other, in a folder for others to load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from burnish.atomic import atomic_folder, write_text
from burnish.config.graph import graph_of
from burnish.errors import UserError, listed
from burnish.models.export import DTYPES, export_adapter, export_merged
from burnish.models.loading.folder import holds_weights
from burnish.stages.card import card_of
from burnish.stages.report import read_run


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the folder, which files of weights, and the model that an adapter stands on
    (None: merged); `note`: what of it others should know."""

    folder: Path
    weights: tuple[str, ...]
    base: str | None
    note: str | None = None


def export(
    what: str,
    out: Path,
    *,
    to: str = "merged",
    dtype: str | None = None,
    shard_size: str = "5GB",
    stage: str | None = None,
) -> Exported:
    """Write the model of a run (of its newest policy, or of `stage`), or one by name, as others
    load it, with a model card.

    `to`: "merged", a whole model; "adapter", in PEFT's layout on the model that training began
    from; "gguf", a whole model in one file for llama.cpp. `dtype` None: as it is, or in a GGUF file
    float16. Raises UserError where there is no such model, or where `out` is
    there already.
    """
    if to not in ("merged", "adapter", "gguf"):
        raise UserError(f'must be merged, adapter or gguf, not "{to}".', field="--to")
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f'must be one of {", ".join(DTYPES)}, not "{dtype}".', field="--dtype")
    if out.exists():
        raise UserError(
            "is there already, and is not written over.", file=out, hint="Give another --out."
        )
    run, model = _found(what, stage)
    with atomic_folder(out) as scratch:
        place = scratch / "files"
        base = None
        if to == "adapter":
            base = export_adapter(model, place, dtype=dtype)
            weights = ["adapter_model.safetensors"]
        elif to == "gguf":
            weights = _gguf(model, place, name=out.name, dtype=dtype or "float16")
        else:
            weights = _merged(model, place, dtype=dtype, shard_size=shard_size)
        if run is not None:
            write_text(
                place / "README.md",
                card_of(run, model.parent.name, base=base, adapter=base is not None),
            )
        for path in list(place.iterdir()):
            path.rename(scratch / path.name)
        place.rmdir()
    return Exported(out, tuple(weights), base, _note(model))


def _note(model: Path) -> str | None:
    """What of a reward model that scores by a rule is not in what was written."""
    if not (model / "scoring.json").is_file():
        return None
    several = (model / "members").is_dir()
    what = (
        "the first of its members alone"
        if several
        else "its score without what is taken off for length"
    )
    return (
        "this reward model scores by a rule (scoring.json), which others do not read: exported is"
        f" {what}"
    )


def _merged(model: Path, place: Path, *, dtype: str | None, shard_size: str) -> list[str]:
    with _whole(model, place) as whole:
        return export_merged(whole, place, dtype=dtype, shard_size=shard_size)


def _gguf(model: Path, place: Path, *, name: str, dtype: str) -> list[str]:
    from burnish.models.gguf_file import export_gguf

    place.mkdir()
    with _whole(model, place) as whole:
        export_gguf(whole, place / "model.gguf", name=name, dtype=dtype)
    return ["model.gguf"]


@contextmanager
def _whole(model: Path, place: Path) -> Iterator[Path]:
    """A folder with the model's weights: its own, or, of an adapter by itself, a passing one beside
    `place` where it is put onto its base."""
    if holds_weights(model):
        yield model
        return
    from burnish.models.backbone import load_backbone
    from burnish.models.roles import View
    from burnish.models.weights import save_model

    whole = place.with_name("whole")
    save_model(View(load_backbone(str(model))), whole)
    yield whole
    shutil.rmtree(whole)


def _found(what: str, stage: str | None) -> tuple[Path | None, Path]:
    """(the run, the model's folder): of a run, of a stage's folder in it, or of a model, whose run
    is None where it has none."""
    folder = Path(what).expanduser()
    if (folder / "recipe.yaml").is_file():
        return folder, folder / _stage_of(folder, stage) / "model"
    if (folder / "stage.json").is_file():
        return _run_of(folder), folder / "model"
    if folder.is_dir():
        inside = folder.name == "model" and (folder.parent / "stage.json").is_file()
        return (_run_of(folder.parent) if inside else None), folder
    from burnish.models.sources import resolve

    source = resolve(what)
    if source.folder is None:
        raise UserError("tiny is made in memory: there is nothing to export.")
    return None, source.folder


def _run_of(stage: Path) -> Path | None:
    return next((place for place in stage.parents if (place / "recipe.yaml").is_file()), None)


def _stage_of(run: Path, stage: str | None) -> str:
    recipe, _ = read_run(run)
    made = [node for node in graph_of(recipe) if (run / node.name / "model").is_dir()]
    names = [node.name for node in made]
    if not made or (stage is not None and stage not in names):
        what = "no model yet" if not made else f'no model of a stage "{stage}"'
        raise UserError(f"this run has {what}.", file=run, hint=f"Models: {listed(names)}.")
    policies = [node.name for node in made if node.makes == "Policy"]
    return stage or (policies or names)[-1]
