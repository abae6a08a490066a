"""`burnish recipes` and `burnish init`: a recipe to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.atomic import write_text
from burnish.cli.shared import Traceback
from burnish.config import shipped
from burnish.errors import UserError

recipes = typer.Typer(
    help="The recipes that come with Burnish.\n\nExample: `burnish recipes copy dpo`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
Name = Annotated[str, typer.Argument(help="The recipe's name, as `burnish recipes list` has it.")]
QUICKSTART = "builtin:quickstart"


@recipes.command("list")
def list_recipes(traceback: Traceback = False) -> None:
    """List the recipes, each with what it does. `burnish run NAME` runs one.

    Example: `burnish recipes list`
    """
    names = shipped.names()
    width = max(map(len, names))
    for name in names:
        typer.echo(f"{name:{width}}  {shipped.summary(name)}")


@recipes.command("show")
def show(name: Name, traceback: Traceback = False) -> None:
    """Print a recipe.

    Example: `burnish recipes show dpo`
    """
    typer.echo(shipped.recipe_path(name).read_text(encoding="utf-8"), nl=False)


@recipes.command("copy")
def copy(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Argument(help="The file to write [default: NAME.yaml].", show_default=False),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write a recipe into a file of your own, to change it.

    Example: `burnish recipes copy dpo mine.yaml`
    """
    target = to or Path(f"{name}.yaml")
    source = shipped.recipe_path(name)
    _write_new(target, source.read_text(encoding="utf-8"))
    typer.echo(target)


def init(
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write.")] = Path(
        "recipe.yaml"
    ),
    data: Annotated[
        str | None, typer.Option(help="Your data: a path or a hub id.", show_default=False)
    ] = None,
    what: Annotated[
        str | None,
        typer.Option("--as", help="demonstrations, comparisons or prompts.", show_default=False),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model to start from.", show_default=False)
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write a recipe for your data: asks where it is, what it is and which model, where the options
    do not say.

    Example: `burnish init --data comparisons.jsonl --model smollm2-135m`
    """
    from burnish.stages.examine import ROLES, role_of

    place: str = data or typer.prompt(
        "Your data (a file, a folder or a hub id; or builtin:quickstart)", default=QUICKSTART
    )
    if what is None:
        guess = "all" if place == QUICKSTART else role_of({"source": place})
        what = (
            guess
            if guess == "all"
            else typer.prompt(f"What it is ({', '.join(ROLES)})", default=guess)
        )
    if what not in (*ROLES, "all"):
        raise UserError(f'must be {", ".join(ROLES)}, not "{what}".', field="--as")
    start: str = model or typer.prompt("The model to start from", default="smollm2-135m")
    _write_new(out, _text(place, what, start, name=out.stem))
    typer.echo(f"wrote {out}. Next:")
    for command in (f"burnish data check {out}", f"burnish plan {out}", f"burnish run {out}"):
        typer.echo(f"  {command}")


def _text(data: str, what: str, model: str, *, name: str) -> str:
    """A recipe for data of this kind, with a word on what can be changed first."""
    stages: dict[str, dict[str, Any]] = {
        "all": {"sft": {}, "sample": {}, "compare": {"by": "panel"}, "dpo": {"start": "sft"},
            "evaluate": {}, "report": {}},
        "demonstrations": {"sft": {"epochs": 2.0}, "evaluate": {}, "report": {}},
        "comparisons": {"dpo": {"epochs": 1.0}, "evaluate": {}, "report": {}},
        "prompts": {
            "grpo": {"rewards": [{"name": "maths"}], "steps": 100,
                "sampling": {"max_new_tokens": 128}},
            "evaluate": {}, "report": {},
        },
    }  # fmt: skip
    hints = {
        "all": (
            "The quickstart's data: demonstrations are imitated, a simulated panel compares"
            " answers, DPO learns from that."
        ),
        "demonstrations": "Supervised fine-tuning. `sft.lora: null` trains every weight.",
        "comparisons": (
            "DPO from the model as it is; `simpo`, `kto`, ... go by the same name. Put `sft: {}`"
            " before it to imitate first."
        ),
        "prompts": (
            "GRPO. `maths` compares the answer with the column `answer`; docs/rewards.md has other"
            " rewards, your own functions too."
        ),
    }
    if what == "all":
        sources: dict[str, Any] = {
            key: f"{QUICKSTART}/{key}" for key in ("demonstrations", "prompts")
        }
    else:
        sources = {what: data}
    values = {
        "name": name,
        "seed": 0,
        "model": {"name": model, "max_length": 512},
        "data": {**sources, "heldout": 0.1},
    }
    head = (
        f"# {hints[what]}\n# Any key can be changed on the command line, too: burnish run"
        f" {name}.yaml seed=1 model.max_length=1024\n"
    )
    from burnish.config.yaml_file import yaml_of  # loads pydantic, which --help need not

    return head + yaml_of({**values, "stages": stages[what]})


def _write_new(path: Path, text: str) -> None:
    if path.exists():
        raise UserError(
            "is there already, and is not written over.", file=path, hint="Give another name."
        )
    write_text(path, text)
