"""`burnish`: the commands. Everything heavy is imported inside them, so that `--help` answers at
once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish._version import __version__
from burnish.cli.annotate import annotate
from burnish.cli.annotate_ai import revise_answers
from burnish.cli.board import board
from burnish.cli.data import data
from burnish.cli.endings import ending_of
from burnish.cli.lab import lab
from burnish.cli.numbers import within
from burnish.cli.options import options
from burnish.cli.recipes import init, recipes
from burnish.cli.serve import serve
from burnish.cli.shared import Traceback
from burnish.cli.stage_commands import stage_commands
from burnish.cli.suites import suites
from burnish.errors import UserError

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
models = typer.Typer(
    help=(
        "Fetch models; list them, and the types that are supported.\n\nExample: `burnish models"
        " pull smollm2-135m`"
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_STAGES = "One stage of a recipe"
_LOSSES = "Preference optimisation, by loss"
_ALGORITHMS = "Online reinforcement learning, by algorithm"
_DATA = "People and data"
_TOOLS = "Tools"

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


@app.command()
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    out: Out = None,
    until: Annotated[
        str | None, typer.Option(help="Stop after this stage.", show_default=False)
    ] = None,
    fork: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Take over from this run the stages that still fit.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the stages, what each reads, and the recipe, and stop."
        ),
    ] = False,
    graph: Annotated[
        bool, typer.Option("--graph", help="With --dry-run: print the stages as Mermaid.")
    ] = False,
    accept_change: Annotated[
        bool,
        typer.Option(
            "--accept-change",
            help="Go on with stages that were made with other settings, as they are.",
        ),
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help=(
                "Train stages on to more steps or epochs, although their rate followed the former."
            ),
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Where people are asked: stay, and go on when they have compared enough."
        ),
    ] = False,
    memory_check: Annotated[
        bool, typer.Option(help="Refuse a run that is planned to need more memory than is free.")
    ] = True,
    jobs: Annotated[
        int,
        typer.Option(
            min=1, help="Run so many stages at a time, where none of them rests on another."
        ),
    ] = 1,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Run a recipe from demonstrations to a report; what is done already is not done again.

    Example: `burnish run recipes/quickstart.yaml --out runs/first ppo.steps=20`
    """
    loaded = _load(recipe, overrides)
    if dry_run:
        from burnish.cli.dry_run import shown

        _preflight(loaded)
        typer.echo(shown(loaded, Path(out or Path("runs") / loaded.name), mermaid=graph))
        return
    if graph:
        raise UserError(
            "--graph goes with --dry-run.", hint="Type `burnish run RECIPE --dry-run --graph`."
        )
    options = {
        "until": until,
        "fork": fork,
        "accept_change": accept_change,
        "extend": extend,
        "memory_check": memory_check,
        "jobs": jobs,
    }
    if loaded.seeds:
        if until or wait or jobs > 1:
            raise UserError(
                "--until, --wait and --jobs go with one seed.",
                field="seeds",
                hint="Give seeds=[] and seed=N.",
            )
        options = {"memory_check": memory_check, "accept_change": accept_change, "extend": extend}
        _sweep(recipe, overrides, out=out, quiet=quiet, **options)
        return
    folder = _run(loaded, quiet=quiet, out=out, wait=wait, **options)
    _closing(folder)


@app.command()
def sweep(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="A key and its values, dotted.key=[a, b]; of several, every combination is run.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead: one combination, {dotted.key: a, other.key: b}; given once for each.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds, as in 0,1,2 [default: the recipe's].", show_default=False),
    ] = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Run a recipe over values of its keys and over seeds; print one table with intervals over the
    seeds.

    Stages that the runs have in common are done once a seed. What is done already is not done
    again.

    Example: `burnish sweep recipes/dpo.yaml --over "dpo.loss.beta=[0.1, 0.3]" --seeds 0,1,2`
    """
    from burnish.cli.sweep import read_over, read_seeds, read_variants

    _sweep(
        recipe,
        overrides,
        out=out,
        quiet=quiet,
        over=read_over(over or ()),
        variants=read_variants(variant or ()),
        seeds=read_seeds(seeds),
    )


def _stage_command(kind: str, help_text: str, *, panel: str = _STAGES) -> None:
    """The command `kind` runs one stage of that kind; a recipe without one gets it at its end."""

    def command(
        overrides: Overrides = None,
        config: ConfigFile = None,
        out: Out = None,
        quiet: Quiet = False,
        traceback: Traceback = False,
    ) -> None:
        from burnish.cli.one_stage import recipe_with

        loaded, stage = recipe_with(kind, config=config, overrides=overrides or (), out=out)
        typer.echo(_run(loaded, quiet=quiet, out=out, only=stage) / stage)

    command.__doc__ = help_text
    app.command(kind, rich_help_panel=panel)(command)


def _row_command(row: str, help_text: str, *, panel: str, recipe: str) -> None:
    """The command of a row of a family, which is a kind and a row at once."""
    example = f"burnish {row} --config recipes/{recipe}.yaml --out runs/{recipe}"
    _stage_command(row, f"{help_text}\n\nExample: `{example}`", panel=panel)


for _kind, _text in stage_commands().items():
    if _kind not in ("compare", "evaluate"):  # which do more than run a stage
        _stage_command(_kind, _text)


@app.command(rich_help_panel=_STAGES)
def evaluate(
    overrides: Overrides = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help=(
                "Instead of a recipe's: a folder, a run's folder, a hub id, NAME=FOLDER or"
                " NAME=URL#MODEL; repeat it. The others "
                "are measured from the first."
            ),
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="With --model: what is asked; all of it, or what it holds out.", show_default=False
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="With --model: taste, reward:FOLDER, endpoint:URL#MODEL; repeat it.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help=(
                "With --model: what the models are measured on, with prompts or without: tax,"
                " knowledge, safety, constraints, "
                "maths, NAME=SOURCE; several parted by commas. `burnish suites list` has them all."
            ),
            show_default=False,
        ),
    ] = None,
    reward_model: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "With --pairs: a reward model's folder, or NAME=FOLDER; repeat it. Nothing else is"
                " evaluated."
            ),
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help=(
                "With --reward-model: answers with the better ones known: RewardBench 1 or 2,"
                " LLMBar, or prompt, chosen, rejected."
            ),
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Compare models on held-out prompts and on suites: a recipe's, or those that are named.

    Example: `burnish evaluate --model runs/first/sft/model --model runs/first --prompts
    held-out.jsonl --judge endpoint:http://127.0.0.1:8000/v1#judge --out runs/evaluation`
    """
    from burnish.cli.evaluate import recipe_of
    from burnish.cli.one_stage import recipe_with

    if reward_model or pairs:
        from burnish.cli.reward_pairs import refuse_others, table

        others = {"--model": model, "--prompts": prompts, "--judge": judge, "--suite": suite}
        refuse_others({**others, "--config": config, (overrides or [""])[0]: overrides})
        typer.echo(table(reward_model or (), pairs, out=out, say=_said(quiet=quiet)))
        return
    if not (model or prompts or judge or suite):
        loaded, stage = recipe_with("evaluate", config=config, overrides=overrides or (), out=out)
        typer.echo(_run(loaded, quiet=quiet, out=out, only=stage) / stage)
        return
    if config is not None:
        raise UserError(
            "--model and --config exclude one another.",
            hint="A recipe's own models are evaluated with it.",
        )
    loaded = recipe_of(
        model or (),
        prompts=prompts,
        judges=judge or (),
        suites=suite or (),
        overrides=overrides or (),
    )
    folder = _run(loaded, quiet=quiet, out=out)
    _closing(folder)
    for what, name in (("answers", "answers.jsonl"), ("items", "items.jsonl")):
        if (folder / "evaluate" / name).is_file():
            typer.echo(f"{what}: {folder / 'evaluate' / name}")


@app.command(rich_help_panel=_STAGES)
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of evaluations, or changes to the recipe: dotted.key=value ...",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Have a recipe's answers compared; or compare what several evaluations found, seeds pooled, on
    the prompts they share.

    Example: `burnish compare runs/seed-0 runs/seed-1`
    """
    given = arguments or []
    if given and config is None and all(Path(one).is_dir() for one in given):
        from burnish.cli.compare import table

        typer.echo(table([Path(one) for one in given]))
        return
    from burnish.cli.one_stage import recipe_with

    loaded, stage = recipe_with("compare", config=config, overrides=given, out=out)
    typer.echo(_run(loaded, quiet=quiet, out=out, only=stage) / stage)


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


@app.command(rich_help_panel=_DATA)
def pairs(
    source: Annotated[
        str,
        typer.Argument(help="Rows of pairs, or of single judgements: a file, a folder, a hub id."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The .jsonl file to write.")],
    to: Annotated[
        str,
        typer.Option(
            help="paired (prompt, chosen, rejected) or unpaired (prompt, completion, label)."
        ),
    ],
    traceback: Traceback = False,
) -> None:
    """Turn pairs into single judgements, or single judgements into pairs; say what was left out.

    Example: `burnish pairs comparisons.jsonl --to unpaired --out judgements.jsonl`
    """
    from burnish.cli.pairs import convert

    for line in convert(source, out, to=to):
        typer.echo(line)


@app.command()
def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            help="The config.json of another model: its weights are not needed.", show_default=False
        ),
    ] = None,
    gpus: Annotated[
        int,
        typer.Option(
            min=0, max=100_000, help="Plan for this many GPUs; 0: for this machine's CPU."
        ),
    ] = 0,
    gpu_memory: Annotated[
        float, typer.Option(callback=within("MachineFigure"), help="GB of each GPU.")
    ] = 80.0,
    gpu_tflops: Annotated[
        float, typer.Option(callback=within("MachineFigure"), help="bf16 TFLOP/s of each.")
    ] = 990.0,
    gpu_bandwidth: Annotated[
        float,
        typer.Option(
            callback=within("MachineFigure"), help="GB/s that each reads from its memory."
        ),
    ] = 3350.0,
    wage: Annotated[
        float,
        typer.Option(callback=within("NonNegativeFinite"), help="What an annotator's hour costs."),
    ] = 20.0,
    traceback: Traceback = False,
) -> None:
    """Say what a recipe will need, by stage and role, without running it: memory, time, annotation.
    Exits with 1 if it cannot fit.

    Example: `burnish plan recipes/quickstart.yaml ppo.share_backbone=false`
    """
    from burnish.cli.plan import show

    gpu = (gpus, gpu_memory, gpu_tflops, gpu_bandwidth)
    loaded = _load(recipe, overrides)
    _preflight(loaded)
    raise typer.Exit(show(loaded, model_config=model_config, gpu=gpu, wage=wage))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")], traceback: Traceback = False
) -> None:
    """Write report.html for a run, finished or not.

    Example: `burnish report runs/quickstart`
    """
    from burnish.stages.report import write_report

    typer.echo(write_report(folder))


@app.command(rich_help_panel=_TOOLS)
def export(
    model: Annotated[
        str, typer.Argument(help="A run's folder (its newest policy), a stage's, or any model.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    to: Annotated[
        str,
        typer.Option(
            help=(
                "merged: a whole model. adapter: in PEFT's layout, on the original model. gguf:"
                " for "
                "llama.cpp and Ollama."
            )
        ),
    ] = "merged",
    dtype: Annotated[
        str | None,
        typer.Option(
            help="float32, bfloat16 or float16 [default: as it is; of gguf float16].",
            show_default=False,
        ),
    ] = None,
    shard_size: Annotated[str, typer.Option(help="The largest file of weights.")] = "5GB",
    stage: Annotated[
        str | None, typer.Option(help="Of a run: the stage whose model it is.", show_default=False)
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write a model for others to load (transformers, vLLM, PEFT), with a model card.

    Example: `burnish export runs/quickstart --out exported --dtype bfloat16`
    """
    from burnish.stages.export import export as write

    done = write(model, out, to=to, dtype=dtype, shard_size=shard_size, stage=stage)
    base = f" on {done.base}" if done.base is not None else ""
    typer.echo(f"{done.folder}: {', '.join(done.weights)}{base}")
    if done.note is not None:
        typer.echo(done.note)


@app.command(rich_help_panel=_TOOLS)
def chat(
    model: Annotated[
        str, typer.Argument(help="A model reference, or a run's folder (its policy).")
    ],
    vs: Annotated[
        str | None,
        typer.Option("--vs", help="A second model, answering side by side.", show_default=False),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="What the models are told first.", show_default=False),
    ] = None,
    temperature: Annotated[
        float, typer.Option(callback=within("Temperature"), help="0 is greedy.")
    ] = 0.7,
    max_new_tokens: Annotated[
        int, typer.Option(callback=within("Tokens"), help="Longest answer in tokens.")
    ] = 128,
    seed: Annotated[int, typer.Option(callback=within("Seed"), help="Of the random numbers.")] = 0,
    traceback: Traceback = False,
) -> None:
    """Talk to a model in the terminal, or to two side by side. Ctrl-C stops an answer.

    Example: `burnish chat runs/quickstart --vs smollm2-135m`
    """
    from burnish.cli.chat import converse

    converse(
        model,
        vs=vs,
        system=system,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )


app.command("serve", rich_help_panel=_TOOLS)(serve)
app.command("board", rich_help_panel=_TOOLS)(board)
app.add_typer(recipes, name="recipes", rich_help_panel=_TOOLS)
app.command("init", rich_help_panel=_TOOLS)(init)
app.command("options", rich_help_panel=_TOOLS)(options)


@app.command(rich_help_panel=_TOOLS)
def doctor(traceback: Traceback = False) -> None:
    """Say what is here, what is missing and how to get it. Exits with 1 if something needed is
    missing.

    Example: `burnish doctor`
    """
    from burnish.cli.doctor import examine

    raise typer.Exit(examine())


app.add_typer(models, name="models", rich_help_panel=_TOOLS)


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


def _load(path: Path | None, overrides: list[str] | None) -> Any:
    from burnish.config.recipe_file import load_recipe

    return load_recipe(path, overrides or ())


def _preflight(recipe: Any) -> None:
    """What a run of this recipe would refuse at once, as far as it can be told without fetching
    anything."""
    from burnish.stages.context import Run
    from burnish.stages.preflight import check

    this = Run(recipe, Path("runs") / recipe.name)
    check(this, list(this.graph.nodes), reads=False)


def _run(recipe: Any, *, quiet: bool, wait: bool = False, **options: Any) -> Path:
    from burnish.api.progress import reporter

    shown = reporter(quiet=quiet)
    try:
        from burnish.stages.people import when_they_are_done
        from burnish.stages.run import run as run_recipe

        once = partial(run_recipe, recipe, say=shown.say, progress=shown.stage, **options)
        return when_they_are_done(once, say=shown.say) if wait else once()
    except (typer.Exit, typer.Abort) as error:
        # Typer would take them for the command's own end, with exit code 0 and stages undone
        raise UserError(
            "code that the run called ended the process, so the run is not done."
        ) from error
    finally:
        shown.close()


def _sweep(
    recipe: Path, overrides: list[str] | None, *, out: str | None, quiet: bool, **options: Any
) -> None:
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


def _said(*, quiet: bool) -> Callable[[str], None]:
    """Where lines about what goes on are written: standard error, or nowhere."""
    return (lambda line: None) if quiet else (lambda line: typer.echo(line, err=True))


def _closing(folder: Path) -> None:
    """The closing table and where the report is."""
    from burnish.stages.report import closing_table

    typer.echo(closing_table(folder))
    page = folder / "report.html"
    if page.is_file():
        typer.echo(f"report: {page}")
