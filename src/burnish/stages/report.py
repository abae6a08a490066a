"""Stage `report`: everything the stages found out, on one page."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from burnish._version import __version__
from burnish.atomic import write_text
from burnish.config.draw import row_of
from burnish.config.graph import Node, graph_of
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe
from burnish.errors import UserError
from burnish.evaluation.report import closing_rows, moved, notes, render_report, verdict
from burnish.evaluation.stages import ReportData, focused, found_of
from burnish.evaluation.suites.report import in_columns, sentences, text_tables
from burnish.jsonio import read_object
from burnish.runs.manifest import environment, file_hash, read_sealed
from burnish.runs.stage_record import StageRecord, verify
from burnish.stages.context import Step


def run(step: Step) -> None:
    """Write report.html in the run's folder."""
    write_report(step.run.folder)
    step.finish({})


def write_report(folder: Path) -> Path:
    """Write `report.html` for a run, finished or not, and return its path."""
    path = folder / "report.html"
    write_text(path, render_report(gather(folder)))
    return path


def closing_table(folder: Path) -> str:
    """The verdict and the closing table of every evaluation as text, the last one at the end; says
    what is not there yet."""
    data = gather(folder)
    stages = found_of(data, "evaluate")
    if len(stages) < 2:
        return _table(data)
    return "\n\n".join(f"{stage.name}\n{_table(focused(data, stage))}" for stage in stages)


def _table(data: ReportData) -> str:
    rows = closing_rows(data)
    measured = _suites(data)
    if not rows and measured:
        return measured
    if not rows:
        unmeasured = (data.get("evaluate") or {}).get("not_evaluated")
        return (
            "nothing has been evaluated yet"
            if unmeasured is None
            else f"nothing was evaluated: {unmeasured}"
        )
    found, table = verdict(data), in_columns(rows)
    changed = moved(data)
    said = [
        found.sentence,
        *(found.details if found.kind == "unknown" else ()),
        *([changed] if changed else []),
    ]
    said += [f"{what}: {command}" for what, command in found.commands]
    text = "\n".join([found.headline, *said, "", *table, "", *notes(data)]).rstrip()
    return f"{text}\n\n{measured}" if measured else text


def _suites(data: ReportData) -> str:
    """What the suites say, and their table of models and tasks; empty without any."""
    lines = sentences(data)
    for table in text_tables(data):
        lines += ["", *in_columns(table["rows"])]
    return "\n".join(lines).strip()


def gather(folder: Path) -> dict[str, Any]:
    """What is known of a run. Raises UserError if the folder holds none."""
    recipe, manifest = read_run(folder)
    text = (folder / "recipe.yaml").read_text(encoding="utf-8")
    graph = graph_of(recipe)
    stages = [
        node.name for node in graph if not KINDS[node.kind].always
    ]  # the page is no cost of its own
    read = {stage: StageRecord.read(folder / stage / "stage.json") for stage in stages}
    records = {stage: record for stage, record in read.items() if record is not None}
    for stage, record in records.items():
        verify(folder / stage, record, parts=("result.json",))
    results = {stage: _json(folder / stage / "result.json") for stage in stages}
    for stage, result in results.items():
        if result is not None and stage not in records:
            problem = "there is a result of this stage, and no record that it was finished."
            hint = "Run the recipe again: it finishes the stage."
            raise UserError(problem, file=folder / stage / "stage.json", hint=hint)
    found = {
        name: {**result, "name": name, "kind": graph[name].kind}
        for name, result in results.items()
        if result
    }
    newest = {graph[name].kind: result for name, result in found.items()}  # the last of each kind
    machine, measured = (
        environment(),
        next((one for one in found.values() if "parameters" in one), {}),
    )
    return {
        "name": recipe.name,
        "folder": str(folder),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "model": {
            "name": recipe.model.name,
            "parameters": measured.get("parameters"),
            "quantised": measured.get("quantised", False),
        },
        "machine": {key: machine[key] for key in ("cores", "memory_gb", "platform", "torch")},
        "wall_seconds": sum(r.seconds for r in records.values()),
        "peak_memory_gb": max((r.peak_memory_gb for r in records.values()), default=0.0),
        "stages": [
            {"name": s, "seconds": r.seconds, "peak_memory_gb": r.peak_memory_gb, "status": "done"}
            for s, r in records.items()
        ],
        "planned": list(dict.fromkeys(node.kind for node in graph)),
        "graph": [_drawn(node, done=node.name in records) for node in graph],
        "results": list(found.values()),
        **newest,
        "recipe_yaml": text,
        "manifest": {
            key: value for key, value in manifest.items() if key not in ("inputs", "recipe_sha256")
        },
        "command": f"burnish run {folder}/recipe.yaml --out {folder}",
    }


def _drawn(node: Node, *, done: bool) -> dict[str, Any]:
    """A stage as the page draws it."""
    return {
        "name": node.name,
        "kind": node.kind,
        "row": row_of(node),
        "reads": list(node.parents),
        "starts": _starts(node),
        "done": done,
    }


def _starts(node: Node) -> list[str]:
    """The policies that a stage's own is trained from, or averaged of."""
    if node.makes != "Policy":
        return []
    return [one.shown for slot in ("start", "models") for one in node.inputs.get(slot, ())]


def read_run(folder: Path) -> tuple[Recipe, dict[str, Any]]:
    """(recipe, manifest) of a run. Raises UserError if the folder holds none, or if one of the two
    was damaged since."""
    path = folder / "recipe.yaml"
    if not path.exists():
        raise UserError(
            "this folder holds no run (no recipe.yaml).",
            file=folder,
            hint="Name the folder that `burnish run` printed.",
        )
    recipe, hint = (
        load_recipe(path),
        "Run the recipe that made this run again: it writes the file anew.",
    )
    problem = UserError("this file is damaged.", file=folder / "manifest.json", hint=hint)
    try:
        manifest = read_sealed(folder / "manifest.json", problem)
    except FileNotFoundError:
        # it is written before any stage begins
        if any((folder / stage / "stage.json").exists() for stage in recipe.stages):
            raise UserError(
                "this file is no longer there.", file=folder / "manifest.json", hint=hint
            ) from None
        return recipe, {}
    if manifest.get("recipe_sha256", file_hash(path)) != file_hash(path):
        raise UserError(
            "this is not the recipe that the run was made with: it was changed since.",
            file=path,
            hint=hint,
        )
    return recipe, manifest


def _json(path: Path) -> dict[str, Any] | None:
    hint = "Remove it and run the recipe again."
    return read_object(path, hint=hint) if path.exists() else None
