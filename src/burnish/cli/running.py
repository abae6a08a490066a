"""How commands read a recipe, run it and say what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

from burnish.errors import UserError


def load(path: Path | None, overrides: list[str] | None) -> Any:
    """The recipe of a file with the overrides of a command line."""
    from burnish.config.recipe_file import load_recipe

    return load_recipe(path, overrides or ())


def preflight(recipe: Any) -> None:
    """What a run of this recipe would refuse at once, as far as it can be told without fetching
    anything."""
    from burnish.stages.context import Run
    from burnish.stages.preflight import check

    this = Run(recipe, Path("runs") / recipe.name)
    check(this, list(this.graph.nodes), reads=False)


def run_recipe(recipe: Any, *, quiet: bool, wait: bool = False, **options: Any) -> Path:
    """Run a recipe, or what of it `options` say, with its progress shown; returns its folder."""
    from burnish.api.progress import reporter

    shown = reporter(quiet=quiet)
    try:
        from burnish.stages.people import when_they_are_done
        from burnish.stages.run import run

        once = partial(run, recipe, say=shown.say, progress=shown.stage, **options)
        return when_they_are_done(once, say=shown.say) if wait else once()
    except (typer.Exit, typer.Abort) as error:
        # Typer would take them for the command's own end, with exit code 0 and stages undone
        raise UserError(
            "code that the run called ended the process, so the run is not done."
        ) from error
    finally:
        shown.close()


def run_one_stage(
    kind: str, *, config: Path | None, overrides: Sequence[str], out: str | None, quiet: bool
) -> None:
    """Run one stage of this kind, which a recipe without one gets at its end, and print its
    folder."""
    from burnish.cli.one_stage import recipe_with

    loaded, stage = recipe_with(kind, config=config, overrides=overrides, out=out)
    typer.echo(run_recipe(loaded, quiet=quiet, out=out, only=stage) / stage)


def run_sweep(
    recipe: Path, overrides: list[str] | None, *, out: str | None, quiet: bool, **options: Any
) -> None:
    """Run a recipe over values and seeds, and print the table."""
    from burnish.api.sweep import sweep as run_all

    done = run_all(
        recipe,
        *(overrides or ()),
        out=out,
        say=lambda line: typer.echo(line, err=True),
        quiet=quiet,
        **options,
    )
    typer.echo(str(done))


def said(*, quiet: bool) -> Callable[[str], None]:
    """Where lines about what goes on are written: standard error, or nowhere."""
    return (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))


def closing(folder: Path) -> None:
    """The closing table and where the report is."""
    from burnish.stages.report import closing_table

    typer.echo(closing_table(folder))
    page = folder / "report.html"
    if page.is_file():
        typer.echo(f"report: {page}")
