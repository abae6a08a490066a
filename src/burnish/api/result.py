"""What came out of a run, as a program takes it."""

from __future__ import annotations

import html
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from burnish.config.graph import Graph, Node, graph_of
from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe
from burnish.errors import UserError, listed
from burnish.jsonio import read_object
from burnish.runs.metrics import read_metrics


class Report(os.PathLike[str]):
    """The path of a run's report, which a notebook shows as the page itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r})"

    def _repr_html_(self) -> str:
        page = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return (
            f'<iframe srcdoc="{page}" width="100%" height="720" style="border: 1px solid'
            ' #8884"></iframe>'
        )


class Result(os.PathLike[str]):
    """What a run made. It stands for its folder wherever a path is taken, and does what a `Path`
    does: `result / "sft"`, `result.glob("*/result.json")`.

    Args:
        folder: the run's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def __fspath__(self) -> str:
        return str(self.folder)

    def __truediv__(self, name: str | os.PathLike[str]) -> Path:
        return self.folder / name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, os.PathLike) and self.folder == Path(other)

    def __hash__(self) -> int:
        return hash(self.folder)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "folder":
            raise AttributeError(f"a Result has no {name}")
        return getattr(self.folder, name)

    def __str__(self) -> str:
        return str(self.folder)

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r}: {', '.join(self.results) or 'nothing is done yet'})"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe with every value, as it was run."""
        return load_recipe(self.folder / "recipe.yaml")

    @cached_property
    def _graph(self) -> Graph:
        return graph_of(self.recipe)

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """What each stage that is done found out, by its name: its `result.json`."""
        files = {name: self.folder / name / "result.json" for name in self.recipe.stages}
        return {
            name: read_object(path, hint="Run the recipe again.")
            for name, path in files.items()
            if path.is_file()
        }

    @property
    def metrics(self) -> Any:
        """The metrics of every step as a pandas DataFrame, a row a step, with the columns `stage`
        and `step` first; a list of dicts where pandas is not installed."""
        rows = [
            {"stage": name, **row}
            for name in self.recipe.stages
            for row in read_metrics(self.folder / name / "metrics.jsonl")
        ]
        return _table(rows)

    @property
    def answers(self) -> Any:
        """The answers that the run kept, a row each: `stage`, `prompt`, `model`, `answer`, and
        `reward` where it had one. A DataFrame, or a list of dicts."""
        rows: list[dict[str, Any]] = []
        for name in self.recipe.stages:
            rows += _answers_of(self.folder / name, name, self.results.get(name, {}))
        return _table(rows)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What the last stage of the kind evaluate found out; None: there is none."""
        found = [
            self.results[node.name]
            for node in self._graph
            if node.makes == "Evaluation" and node.name in self.results
        ]
        return found[-1] if found else None

    @property
    def report(self) -> Report:
        """The report, written anew from what is there."""
        from burnish.stages.report import write_report

        return Report(write_report(self.folder))

    def model_folder(self, stage: str | None = None) -> Path:
        """The folder of the model that a stage made; None: of the newest policy, or where there is
        none the newest reward model.

        Raises UserError where no stage has made one.
        """
        made = [node for node in self._graph if (self.folder / node.name / "model").is_dir()]
        policies = [node for node in made if node.makes == "Policy"]
        if stage is None and made:
            return self.folder / (policies or made)[-1].name / "model"
        if stage not in [node.name for node in made]:
            what = "no model" if stage is None else f'no model of a stage "{stage}"'
            raise UserError(
                f"this run has {what}.",
                file=self.folder,
                hint=f"Models: {listed(n.name for n in made)}.",
            )
        return self.folder / str(stage) / "model"

    def model(self, stage: str | None = None, **options: Any) -> Any:
        """The model as transformers has it: a causal language model, or of a reward model one that
        classifies sequences (one label). `options` are those of `from_pretrained`: `dtype`,
        `device_map`."""
        import transformers

        folder = self.model_folder(stage)
        policy = self._node(folder.parent.name).makes == "Policy"
        head = (
            transformers.AutoModelForCausalLM
            if policy
            else transformers.AutoModelForSequenceClassification
        )
        return head.from_pretrained(folder, **options)

    def tokenizer(self, stage: str | None = None) -> Any:
        """The tokenizer that belongs to `model`, with the chat template that was trained."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.model_folder(stage))

    def export(
        self,
        out: str | Path,
        *,
        stage: str | None = None,
        to: str = "merged",
        dtype: str | None = None,
    ) -> Path:
        """Write the model for others to load, with a model card: see
        `burnish.stages.export.export`."""
        from burnish.stages.export import export

        return export(str(self.folder), Path(out), stage=stage, to=to, dtype=dtype).folder

    def _node(self, name: str) -> Node:
        return self._graph[name]

    def _repr_html_(self) -> str:
        results = self.results
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{'done' if name in results else 'not done'}</td></tr>"  # noqa: E501
            for name in self.recipe.stages
        )
        head = (
            f"<p><b>{html.escape(self.recipe.name)}</b> in"
            f" <code>{html.escape(str(self.folder))}</code></p>"
        )
        page = self.report._repr_html_() if results else ""
        return f"{head}<table><tr><th>stage</th><th></th></tr>{rows}</table>{page}"


def _table(rows: list[dict[str, Any]]) -> Any:
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)


def _answers_of(folder: Path, stage: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a stage kept of answers: of an evaluation side by side, of training a few of each step,
    of sampling all."""
    rows: list[dict[str, Any]] = []
    scored = {
        (sample["prompt"], one["model"], one["text"]): {
            key: one[key] for key in _SCORES if one.get(key) is not None
        }
        for sample in result.get("samples") or ()
        for one in sample["responses"]
    }
    for path in sorted((folder / "samples").glob("*.jsonl")):
        for row in read_metrics(path):
            kept = {
                "step": row["step"],
                "prompt": row["prompt"],
                "model": stage,
                "answer": row["completion"],
            }
            rows.append(
                {"stage": stage, **kept, "reward": row.get("reward"), **(row.get("notes") or {})}
            )
    for row in read_metrics(folder / "answers.jsonl"):
        asked = row["messages"][-1]["content"]
        texts = (
            [(row["model"], row["text"])]
            if "text" in row
            else zip(row["models"], row["responses"], strict=True)
        )
        for model, answer in texts:
            scores = scored.get((asked, model, answer), {})
            rows.append(
                {"stage": stage, "prompt": asked, "model": model, "answer": answer, **scores}
            )
    return rows


_SCORES = ("reward", "gold")
