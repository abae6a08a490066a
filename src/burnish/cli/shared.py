"""Options that several commands have, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Overrides = Annotated[
    list[str] | None,
    typer.Argument(help="Changes to the recipe: dotted.key=value ...", show_default=False),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out", metavar="FOLDER", help="The run's folder [default: runs/NAME].", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines instead of progress bars.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="The recipe (YAML); without it, this stage alone, from what the run's folder has.",
        show_default=False,
    ),
]
Traceback = Annotated[
    bool, typer.Option("--traceback", help="Show where in the code an error arose.")
]
Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: from everywhere.")]
Port = Annotated[
    int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        help="A name that the server answers to, besides this machine's; may be repeated.",
        show_default=False,
    ),
]
Database = Annotated[
    str,
    typer.Option(
        "--database",
        "-d",
        help="The store: a file, or an SQLAlchemy URL such as postgresql+psycopg://...",
    ),
]
STORE = "annotations.sqlite"
"""The database where none is named."""
