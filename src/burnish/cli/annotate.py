"""`burnish annotate`: the group of commands about people's labels."""

from __future__ import annotations

import typer

from burnish.cli import annotate_ai, annotate_data, annotate_serve

annotate = typer.Typer(
    help="Collect labels from people and models, look at them, and move them in and out.\n\n"
    "Example: `burnish annotate stats helpfulness`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
annotate_data.register(annotate)
annotate_ai.register(annotate)
annotate_serve.register(annotate)
