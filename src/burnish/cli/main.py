"""`burnish`: the commands. Everything heavy is imported inside them, so that `--help` answers at
once."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from burnish._version import __version__
from burnish.cli.annotate import annotate
from burnish.cli.annotate_ai import revise_answers
from burnish.cli.board import board
from burnish.cli.compare_commands import compare, evaluate
from burnish.cli.data import data
from burnish.cli.endings import ending_of
from burnish.cli.lab import lab
from burnish.cli.models import models
from burnish.cli.options import options
from burnish.cli.recipes import init, recipes
from burnish.cli.run_commands import plan, report, run, sweep
from burnish.cli.running import run_one_stage
from burnish.cli.serve import serve
from burnish.cli.shared import ConfigFile, Out, Overrides, Quiet, Traceback
from burnish.cli.stage_commands import stage_commands
from burnish.cli.suites import suites
from burnish.cli.tools import chat, doctor, export, pairs

app = typer.Typer(
    name="burnish",
    help=(
        "Polish pretrained language models with human feedback: SFT, preferences, reward model,"
        " PPO, evidence."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_STAGES = "One stage of a recipe"
_LOSSES = "Preference optimisation, by loss"
_ALGORITHMS = "Online reinforcement learning, by algorithm"
_DATA = "People and data"
_TOOLS = "Tools"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"burnish {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


app.command()(run)
app.command()(sweep)


def _stage_command(kind: str, help_text: str, *, panel: str = _STAGES) -> None:
    """The command `kind` runs one stage of that kind; a recipe without one gets it at its end."""

    def command(
        overrides: Overrides = None,
        config: ConfigFile = None,
        out: Out = None,
        quiet: Quiet = False,
        traceback: Traceback = False,
    ) -> None:
        run_one_stage(kind, config=config, overrides=overrides or (), out=out, quiet=quiet)

    command.__doc__ = help_text
    app.command(kind, rich_help_panel=panel)(command)


def _row_command(row: str, help_text: str, *, panel: str, recipe: str) -> None:
    """The command of a row of a family, which is a kind and a row at once."""
    example = f"burnish {row} --config recipes/{recipe}.yaml --out runs/{recipe}"
    _stage_command(row, f"{help_text}\n\nExample: `{example}`", panel=panel)


for _kind, _text in stage_commands().items():
    if _kind not in ("compare", "evaluate"):  # which do more than run a stage
        _stage_command(_kind, _text)


app.command(rich_help_panel=_STAGES)(evaluate)
app.command(rich_help_panel=_STAGES)(compare)
for _loss, _what in {
    "dpo": "Direct preference optimisation.",
    "cdpo": "Conservative DPO: labels that are wrong now and then.",
    "rdpo": "Robust DPO: labels that were flipped with a known probability.",
    "dpo_norm": "Length-normalized DPO.",
    "ipo": "Identity preference optimisation.",
    "hinge": "SLiC's hinge on DPO's rewards.",
    "simpo": "SimPO: no reference, mean log-probabilities, a target margin.",
    "kto": "KTO: answers judged singly.",
    "orpo": "ORPO: odds ratio and NLL, no reference.",
    "cpo": "CPO: DPO without a reference, and NLL.",
}.items():
    _row_command(_loss, _what, panel=_LOSSES, recipe="dpo")
_OF_ROW = {"ppo": "quickstart"}
for _algorithm, _what in {
    "ppo": "Proximal policy optimisation, against a reward model or any rewards.",
    "grpo": "Group-relative policy optimisation.",
    "dr-grpo": "GRPO without its biases of length and difficulty.",
    "dapo": "GRPO with a wider clip, token means, dynamic sampling.",
    "gspo": "GRPO with a ratio for each completion.",
    "cispo": "Clipped importance weights instead of clipped updates.",
    "rloo": "REINFORCE with the other completions as the baseline.",
    "reinforce++": "REINFORCE with PPO's clip and global whitening.",
    "reinforce++-baseline": "The same with the group's mean taken off.",
}.items():
    _row_command(
        _algorithm, _what, panel=_ALGORITHMS, recipe=_OF_ROW.get(_algorithm, "rlvr-arithmetic")
    )


app.add_typer(suites, name="suites", rich_help_panel=_TOOLS)
app.command("lab", rich_help_panel=_TOOLS)(lab)
app.add_typer(annotate, name="annotate", rich_help_panel=_DATA)
app.add_typer(data, name="data", rich_help_panel=_DATA)
app.command("revise", rich_help_panel=_DATA)(revise_answers)
app.command(rich_help_panel=_DATA)(pairs)
app.command()(plan)
app.command()(report)
app.command(rich_help_panel=_TOOLS)(export)
app.command(rich_help_panel=_TOOLS)(chat)
app.command("serve", rich_help_panel=_TOOLS)(serve)
app.command("board", rich_help_panel=_TOOLS)(board)
app.add_typer(recipes, name="recipes", rich_help_panel=_TOOLS)
app.command("init", rich_help_panel=_TOOLS)(init)
app.command("options", rich_help_panel=_TOOLS)(options)
app.command(rich_help_panel=_TOOLS)(doctor)
app.add_typer(models, name="models", rich_help_panel=_TOOLS)


def main(arguments: list[str] | None = None) -> None:
    """The entry point: what the user or the machine must mend is one line on standard error; see
    `endings` for exit codes."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        app(args=given, prog_name="burnish")
    except BaseException as error:
        ending = (
            None
            if "--traceback" in given and not isinstance(error, KeyboardInterrupt)
            else ending_of(error)
        )
        if ending is None:
            raise
        typer.echo(ending[0], err=True)
        raise SystemExit(ending[1]) from None
