"""Two models on the same items: differences by item with intervals, Holm over the tasks of a suite,
and whether a loss beyond the margin is ruled out. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from burnish.errors import UserError
from burnish.evaluation.suites.items import Form
from burnish.evaluation.suites.refusals import RULE, prevalence
from burnish.evaluation.suites.scores import METRICS, Metric
from burnish.evaluation.suites.table import Task
from burnish.statistics.estimate import Estimate
from burnish.statistics.paired import clustered_mean, paired_shares
from burnish.statistics.uncertainty import holm, smallest_detectable_effect, wilson

Rows = Sequence[Mapping[str, Any]]
"""Rows of items.jsonl, of one task: `model`, `item`, `cluster`, `values`."""


def findings(
    task: Task, suite: str, rows: Rows, models: Sequence[str], *, margin: Mapping[str, float]
) -> dict[str, Any]:
    """What a task found: every metric's mean of every model, and the differences of each model from
    the first and from the one before it. Raises UserError where a model has no row."""
    if {row["model"] for row in rows} != set(models):
        raise UserError(f"no answer to an item of {task.name} could be judged for every model.")
    by_model = {name: [row for row in rows if row["model"] == name] for name in models}
    return {
        "suite": suite,
        "task": task.name,
        "form": task.form,
        "about": task.about,
        "licence": task.licence,
        "items": len(by_model[models[0]]),
        "metrics": [
            _metric(metric, by_model, models, task.form, margin)
            for metric in METRICS[task.form]
        ],
    }  # fmt: skip


def _metric(
    metric: Metric,
    by_model: Mapping[str, Rows],
    models: Sequence[str],
    form: Form,
    margin: Mapping[str, float],
) -> dict[str, Any]:
    pairs = list(dict.fromkeys((name, models[0]) for name in models[1:]))
    pairs += [(after, before) for before, after in pairwise(models[1:])]
    allowed = margin["accuracy" if metric.unit == "share" else metric.unit]
    found: dict[str, Any] = {
        "name": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "decides": metric.decides,
        "margin": allowed,
        "models": {name: _mean(metric, by_model[name]).to_dict() for name in models},
    }
    if form in ("safe", "unsafe"):
        found["corrected"] = {
            name: prevalence(*_share(metric, by_model[name]), RULE).to_dict() for name in models
        }
    if metric.higher_is_better is not None:
        found["comparisons"] = [
            _difference(metric, by_model[after], by_model[before], after, before, allowed)
            for after, before in pairs
        ]
    return found


def _mean(metric: Metric, rows: Rows) -> Estimate:
    values, clusters = _values(metric, rows), [row["cluster"] for row in rows]
    if metric.outcome and len(set(clusters)) == len(clusters):
        return wilson(sum(values), len(values))
    return clustered_mean(values, groups=clusters).estimate


def _values(metric: Metric, rows: Rows) -> list[float]:
    return [row["values"][metric.name] for row in rows]


def _share(metric: Metric, rows: Rows) -> tuple[float, int]:
    values = _values(metric, rows)
    return float(np.mean(values)), len(values)


def _difference(
    metric: Metric, after: Rows, before: Rows, name: str, other: str, allowed: float
) -> dict[str, Any]:
    """How much worse the one is than the other on the items that both have."""
    old = {row["item"]: row["values"][metric.name] for row in before}
    shared = [row for row in after if row["item"] in old]
    sign = 1.0 if metric.higher_is_better else -1.0
    losses = [sign * (old[row["item"]] - row["values"][metric.name]) for row in shared]
    clusters = [row["cluster"] for row in shared]
    single = metric.outcome and len(set(clusters)) == len(clusters)
    found = paired_shares(losses) if single else clustered_mean(losses, groups=clusters)
    loss = found.estimate
    return {
        "model": name,
        "from": other,
        "loss": loss.to_dict(),
        "p": found.p,
        "within_margin": bool(loss.high < allowed),
        "detectable": smallest_detectable_effect(found.spread, loss.n),
    }


def corrected(tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with `holm` beside each p: corrected, for each pair of models, over the deciding
    metrics of a suite's tasks; and `lost` where a loss is shown at 5 %. Changes nothing else."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for task in tasks:
        for metric in task["metrics"]:
            for one in metric.get("comparisons", ()) if metric["decides"] else ():
                groups.setdefault((task["suite"], one["model"], one["from"]), []).append(one)
    for several in groups.values():
        for one, p in zip(several, holm([one["p"] for one in several]), strict=True):
            one["holm"] = p
            one["lost"] = bool(p < 0.05 and one["loss"]["value"] > 0)
    return list(tasks)
