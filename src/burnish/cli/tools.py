"""`burnish pairs`, `export`, `chat` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.numbers import within
from burnish.cli.shared import Traceback


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


def doctor(traceback: Traceback = False) -> None:
    """Say what is here, what is missing and how to get it. Exits with 1 if something needed is
    missing.

    Example: `burnish doctor`
    """
    from burnish.cli.doctor import examine

    raise typer.Exit(examine())
