"""`burnish lab FILE`: exact worlds in which over-optimization is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.shared import Traceback

_SHIPPED = Path(__file__).parents[1] / "lab"


def lab(
    file: Annotated[Path, typer.Argument(help="The experiments (YAML), or a shipped file's name.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Changes to the file: dotted.key=value ...", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Where the results go [default: runs/NAME].",
            show_default=False,
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing but where the report is.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Measure over-optimization where the true reward is known: what a reward model does to a
    policy, what helps, what warns. No model is needed. What is done already is not done again.

    Example: `burnish lab over-optimization.yaml --out runs/over-optimization`
    """

    from burnish.config.load import load_config
    from burnish.lab.run import run
    from burnish.lab.settings import Lab
    from burnish.lab.words import sentences

    def say(line: str) -> None:
        if not quiet:
            typer.echo(line, err=True)

    settings = load_config(Lab, _located(file), overrides or (), aliases={})
    folder = out or Path("runs") / settings.name
    results = run(settings, folder, say=say)
    for sentence in sentences(results):
        say(f"{sentence.title}: {sentence.text}")
    typer.echo(f"report: {folder / 'report.html'}")


def _located(path: Path) -> Path:
    """The file that is there, else a shipped one of that name."""
    shipped = _SHIPPED / (path.name if path.suffix else f"{path.name}.yaml")
    alone = len(path.parts) == 1 and not path.exists()
    return shipped if alone and shipped.is_file() else path
