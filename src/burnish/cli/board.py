"""`burnish board`: a local page over all runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.shared import Port, Traceback
from burnish.errors import UserError
from burnish.listening import answered_names, listen


def board(
    folder: Annotated[Path, typer.Argument(help="A folder of runs, or one run's.")] = Path("runs"),
    port: Port = 8330,
    traceback: Traceback = False,
) -> None:
    """Show all runs on a page of this machine: stages, curves, samples, time left. Read-only.

    Example: `burnish board runs`
    """
    if not folder.is_dir():
        raise UserError("there is no such folder.", file=folder, hint="Name one that holds runs.")
    listening = listen("127.0.0.1", port)
    import uvicorn

    from burnish.board.app import create_app

    app = create_app(folder, hosts=answered_names("127.0.0.1"))
    typer.echo(f"http://127.0.0.1:{listening.getsockname()[1]} (Ctrl-C ends it)", err=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listening])
