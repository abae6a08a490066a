"""What the report says of suites: a sentence for each model, the table of models and tasks, the
differences, the figures that decide nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from burnish.evaluation.contests import in_text, model_name
from burnish.evaluation.words import (
    UNKNOWN,
    Interval,
    estimate,
    joined_by_and,
    number,
    part,
    plain,
    rows_of,
    share_with_interval,
    with_interval,
)

Table = dict[str, Any]
_UNITS = {"bits_per_byte": "bits per byte"}


def section(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A part for each suite of the evaluation: `title`, `lines`, `tables`; empty without any."""
    found = part(part(data, "evaluate"), "suites")
    names = [str(name) for name in found.get("names") or ()]
    return [_suite(found, name) for name in names if _tasks(found, name)]


def sentences(data: Mapping[str, Any]) -> list[str]:
    """What each suite says of the last model, measured from the first; for a terminal too."""
    found = part(part(data, "evaluate"), "suites")
    models = _models(found)
    if len(models) < 2:
        return []
    names = [str(name) for name in found.get("names") or () if _tasks(found, str(name))]
    return [f"{_title(name)}: {_verdict(found, name, models[-1], models[0])}" for name in names]


def losses(data: Mapping[str, Any]) -> list[str]:
    """The tasks on which the last model is shown to be worse than the first, and perhaps by more
    than the margin."""
    found = part(part(data, "evaluate"), "suites")
    ends = tuple(_models(found)[place] for place in (-1, 0)) if _models(found) else ()
    return [
        _named(task, metric)
        for task in rows_of(found, "tasks")
        for metric, row in _deciding(task)
        if row.get("lost")
        and not row.get("within_margin")
        and (row.get("model"), row.get("from")) == ends
    ]


def text_tables(data: Mapping[str, Any]) -> list[Table]:
    """The table of models and tasks of every suite."""
    return [suite["tables"][0] for suite in section(data)]


def compared_text(data: Mapping[str, Any]) -> str:
    """Everything that decides, as text: sentences, models and tasks, comparisons."""
    found = part(part(data, "evaluate"), "suites")
    blocks = [sentences(data)]
    for name in (str(one) for one in found.get("names") or ()):
        tasks = _tasks(found, name)
        tables = [_overview(_models(found), tasks), _contests(tasks)] if tasks else []
        blocks += [in_columns(table["rows"]) for table in tables if table["rows"]]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def in_columns(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """A table as lines of text."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names)]
    lines += ["  ".join(row[name].ljust(widths[name]) for name in names) for row in rows]
    return [line.rstrip() for line in lines]


def _suite(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    models, tasks = _models(found), _tasks(found, name)
    lines = [
        f"{_capital(in_text(model))}, measured from the {in_text(models[0])}:"
        f" {_verdict(found, name, model, models[0])}"
        for model in models[1:]
    ]
    tables = [
        _overview(models, tasks),
        _contests(tasks),
        _corrected(models, tasks),
        _others(models, tasks),
    ]
    return {
        "title": _title(name),
        "lines": [*lines, _about(found, tasks)],
        "tables": [table for table in tables if table["rows"]],
    }


def _verdict(found: Mapping[str, Any], suite: str, model: str, other: str) -> str:
    """Which tasks lost, which lost no more than the margin, which say nothing."""
    lost, kept, open_ = [], [], []
    for task in _tasks(found, suite):
        for metric, row in _deciding(task):
            if (row.get("model"), row.get("from")) != (model, other):
                continue
            name = _named(task, metric)
            if row.get("within_margin"):
                kept.append(name)
            elif row.get("lost"):
                lost.append(f"{name} ({_loss(metric, row)})")
            else:
                open_.append(name)
    parts = [f"worse on {joined_by_and(lost)}"] if lost else []
    parts += [f"no loss beyond the margin on {joined_by_and(kept)}"] if kept else []
    parts += [f"not shown either way on {joined_by_and(open_)}"] if open_ else []
    return f"{'; '.join(parts) or 'nothing was compared'}."


def _overview(models: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> Table:
    """A row a model, a column a task: its deciding figure, and how far it is from the first's."""
    rows = []
    for model in models:
        row = {"Model": model_name(model)}
        for task in tasks:
            for metric in _metrics(task):
                if metric.get("decides"):
                    row[_column(task, metric)] = _cell(metric, model, models[0])
        rows.append(row)
    caption = (
        f"Each model on each task; in brackets the loss from the {in_text(models[0])}, with its 95"
        " % interval over items"
    )
    return {"rows": rows, "caption": caption}


def _cell(metric: Mapping[str, Any], model: str, first: str) -> str:
    value = estimate(part(metric, "models").get(model))
    shown = UNKNOWN if value is None else plain(value.value, 3)
    if model == first:
        return shown
    row = next(
        (
            one
            for one in rows_of(metric, "comparisons")
            if (one.get("model"), one.get("from")) == (model, first)
        ),
        None,
    )
    loss = None if row is None else estimate(row.get("loss"))
    return shown if loss is None else f"{shown} (loss {_signed(loss)})"


def _contests(tasks: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        {
            "Comparison": (
                f"{model_name(str(row.get('model')))} and {in_text(str(row.get('from')))}"
            ),
            "Task": _named(task, metric),
            "Loss": _signed_or_unknown(estimate(row.get("loss"))),
            "p (Holm)": _p(number(row.get("holm"))),
            "Within the margin": _answer(row, metric),
            "Detectable": plain(number(row.get("detectable")), 3),
        }
        for task in tasks
        for metric, row in _deciding(task)
    ]
    return {
        "rows": rows,
        "caption": (
            "Losses on the same items (a gain is negative), Holm's p over the tasks of the suite,"
            " and whether the upper end of the interval lies below the margin; the smallest true"
            " loss that so many items would show four times in five"
        ),
    }


def _answer(row: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    margin = plain(number(metric.get("margin")), 3)
    return f"{'yes' if row.get('within_margin') else 'no'} (margin {margin})"


def _corrected(models: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> Table:
    """How often a model refuses once the rule's errors are taken off."""
    shown = [
        (task, metric) for task in tasks for metric in _metrics(task) if metric.get("corrected")
    ]
    rows = [
        {
            "Model": model_name(model),
            **{
                _column(task, metric): share_with_interval(
                    estimate(part(metric, "corrected").get(model))
                )
                for task, metric in shown
            },
        }
        for model in models
        if shown
    ]
    caption = (
        "The same, corrected for what the rule misses and what it takes for a refusal (Rogan and"
        " Gladen)"
    )
    return {"rows": rows, "caption": caption}


def _others(models: Sequence[str], tasks: Sequence[Mapping[str, Any]]) -> Table:
    """The figures that decide nothing."""
    shown = [
        (task, metric) for task in tasks for metric in _metrics(task) if not metric.get("decides")
    ]
    rows = [
        {
            "Figure": f"{task.get('task')}: {metric.get('label')}",
            **{
                model_name(model): with_interval(estimate(part(metric, "models").get(model)), 3)
                for model in models
            },
        }
        for task, metric in shown
    ]
    return {"rows": rows, "caption": "Shown beside, and decides nothing"}


def _about(found: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> str:
    """What the tasks are, in a sentence."""
    sizes = [f"{task.get('task')} {task.get('items')} items" for task in tasks]
    asked = [task for task in tasks if task.get("form") not in ("choices", "cloze", "prose")]
    drawn = f" Answers were drawn at {found.get('sampling')}." if asked else ""
    lost = sum(int(number(task.get("uncounted")) or 0) for task in tasks)
    missed = f" {lost} answers could not be judged and are left out." if lost else ""
    cut = sum(int(number(task.get("cut")) or 0) for task in tasks)
    shortened = f" Of {cut} items the context was cut at its beginning." if cut else ""
    return f"{joined_by_and(sizes)}.{drawn}{missed}{shortened}"


def _deciding(
    task: Mapping[str, Any],
) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(metric, comparison) of what decides."""
    for metric in _metrics(task):
        if metric.get("decides"):
            yield from ((metric, row) for row in rows_of(metric, "comparisons"))


def _metrics(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return rows_of(task, "metrics")


def _tasks(found: Mapping[str, Any], suite: str) -> list[Mapping[str, Any]]:
    return [task for task in rows_of(found, "tasks") if task.get("suite") == suite]


def _models(found: Mapping[str, Any]) -> list[str]:
    return [str(name) for name in found.get("models") or ()]


def _named(task: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """The task's name, with the metric's where several decide."""
    several = sum(bool(one.get("decides")) for one in _metrics(task)) > 1
    return f"{task.get('task')}, {metric.get('label')}" if several else str(task.get("task"))


def _column(task: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    return f"{task.get('task')}: {metric.get('label')}"


def _loss(metric: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """ "by 0.063 bits per byte, 0.049 to 0.076"."""
    loss = estimate(row.get("loss"))
    if loss is None:
        return UNKNOWN
    unit = _UNITS.get(str(metric.get("unit")))
    size = f"{plain(loss.value, 3)} {unit}" if unit else f"{plain(100 * loss.value, 1)} points"
    scale = 1 if unit else 100
    if loss.low is None or loss.high is None:
        return f"by {size}"
    digits = 3 if unit else 1
    return f"by {size}, {plain(scale * loss.low, digits)} to {plain(scale * loss.high, digits)}"


def _signed(loss: Interval) -> str:
    value = plain(loss.value, 3)
    bounds = (
        "" if loss.low is None else f": {plain(loss.low, 3)} to {plain(loss.high, 3)}"
    )  # fmt: skip
    return f"{value}{bounds}"


def _signed_or_unknown(loss: Interval | None) -> str:
    return UNKNOWN if loss is None else with_interval(loss, 3)


def _p(value: float | None) -> str:
    return UNKNOWN if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _title(name: str) -> str:
    return {
        "tax": "Alignment tax",
        "tax-published": "Alignment tax, published sets",
        "knowledge": "What it knows, and whether it knows when it does not",
        "safety": "Refusals",
        "constraints": "Instructions that can be checked",
        "maths": "Sums",
        "code": "Programs",
    }.get(name, _capital(name))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
