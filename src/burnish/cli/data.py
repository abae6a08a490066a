"""`burnish data`: what a run would make of some data, before it is run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from burnish.cli.numbers import within
from burnish.cli.shared import Traceback
from burnish.errors import UserError, listed

if TYPE_CHECKING:
    from burnish.stages.examine import Examined, Role

data = typer.Typer(
    help=(
        "Look at data as a run would read it.\n\nExample: `burnish data show rows.jsonl 3 --model"
        " smollm2-135m`"
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
_ROLES = ("demonstrations", "prompts", "comparisons")
Source = Annotated[
    str, typer.Argument(help="A file, a folder, a hub id, builtin:NAME or task:KIND.")
]
As = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="demonstrations, prompts or comparisons [default: as the columns say].",
        show_default=False,
    ),
]
Model = Annotated[str, typer.Option(help="The model whose tokenizer and chat template are used.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        help="What the source calls a column: prompt=question. Can be given several times.",
    ),
]
Split = Annotated[str | None, typer.Option(help="The split to train on.", show_default=False)]
Dataset = Annotated[
    str | None,
    typer.Option(
        help="Of a folder with LLaMA-Factory's dataset_info.json: the set.", show_default=False
    ),
]
System = Annotated[
    str | None,
    typer.Option(help="A system's turn for conversations without one.", show_default=False),
]
Drop = Annotated[
    list[str] | None, typer.Option(help="Leave out, and count: duplicate, empty, too_long.")
]
Limit = Annotated[
    int | None,
    typer.Option(callback=within("Rows"), help="Read at most this many rows.", show_default=False),
]
MaxLength = Annotated[
    int, typer.Option(callback=within("Tokens"), help="The longest sequence, in tokens.")
]


@data.command("show")
def show(
    source: Source,
    row: Annotated[
        int, typer.Argument(min=1, max=10**9, help="The row (of JSON lines: the line).")
    ] = 1,
    role: As = None,
    model: Model = "smollm2-135m",
    column: Columns = None,
    split: Split = None,
    dataset: Dataset = None,
    system: System = None,
    drop: Drop = None,
    limit: Limit = None,
    traceback: Traceback = False,
) -> None:
    """Print a row as the model would see it: every token, those that are trained in colour (in a
    pipe: between « and »).

    Example: `burnish data show rows.jsonl 3 --model smollm2-135m`
    """
    from burnish.stages.examine import rendered

    examined = _examined(
        source, role, model, _settings(column, split, dataset, system, drop, limit)
    )
    record, part = examined.row(row)
    sequences = rendered(examined.tokenizer(), record)
    typer.echo(f"{source}, row {row}: {examined.role}, {part}")
    for number, pieces in enumerate(sequences, start=1):
        total, trained = (
            sum(p.tokens for p in pieces if p.trained or everything) for everything in (True, False)
        )
        title = f"sequence {number} of {len(sequences)}: " if len(sequences) > 1 else ""
        typer.echo(f"{title}{total} tokens, {trained} trained")
        _print(pieces)


@data.command("check")
def check(
    source: Annotated[
        str,
        typer.Argument(help="A source as above, or a recipe (YAML): every source that it names."),
    ],
    against: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "A source of an evaluation that no training row should stand in. Can be given"
                " several times."
            )
        ),
    ] = None,
    role: As = None,
    model: Model = "smollm2-135m",
    max_length: MaxLength = 512,
    column: Columns = None,
    split: Split = None,
    dataset: Dataset = None,
    system: System = None,
    drop: Drop = None,
    limit: Limit = None,
    traceback: Traceback = False,
) -> None:
    """Count rows, tokens, duplicates and what is left out; find training rows that stand in
    evaluation sets.

    Every row is read, and rendered by the model's chat template. Exits with 1 where training rows
    stand in one of `--against`.

    Example: `burnish data check rows.jsonl --against test.jsonl`
    """
    from burnish.stages.examine import examine_recipe

    if source.endswith((".yaml", ".yml")):
        from burnish.config.recipe_file import load_recipe

        found = list(examine_recipe(load_recipe(Path(source))))
    else:
        settings = _settings(column, split, dataset, system, drop, limit)
        found = [_examined(source, role, model, settings, max_length=max_length)]
    others = {name: _examined(name, None, model, {}) for name in against or ()}
    overlaps = 0
    for examined in found:
        for line in _report(examined):
            typer.echo(line)
        for name, other in others.items():
            shared = examined.against(other)
            overlaps += shared.same + shared.alike
            named = f" ({listed(shared.examples)})" if shared.examples else ""
            typer.echo(
                f"  in {name}: {shared.same} prompts that stand there, {shared.alike} more with 13"
                f" words of it{named}"
            )
    if overlaps:
        raise typer.Exit(1)


@data.command("convert")
def convert(
    source: Source,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The file to write: .jsonl or .parquet.")
    ],
    role: As = None,
    column: Columns = None,
    split: Split = None,
    dataset: Dataset = None,
    system: System = None,
    drop: Drop = None,
    limit: Limit = None,
    traceback: Traceback = False,
) -> None:
    """Write a source under the ecosystem's columns: messages; prompt; prompt, chosen and rejected.

    Example: `burnish data convert alpaca.json --out rows.jsonl`
    """
    from burnish.atomic import write_bytes, write_text
    from burnish.jsonio import json_lines
    from burnish.stages.examine import converted

    if not out.name.endswith((".jsonl", ".parquet")):
        raise UserError("must end with .jsonl or .parquet.", file=out, field="--out")
    examined = _examined(
        source, role, "tiny", _settings(column, split, dataset, system, drop, limit)
    )
    dropped: Counter[str] = Counter(examined.dropped)
    rows = list(converted(examined, dropped))
    if out.name.endswith(".jsonl"):
        write_text(out, json_lines(rows))
    else:
        import datasets

        whole = io.BytesIO()
        datasets.Dataset.from_list(rows).to_parquet(whole)
        write_bytes(out, whole.getvalue())
    typer.echo(f"{len(rows)} rows ({examined.role}) written to {out}{_left(dropped)}")


def _settings(
    columns: Sequence[str] | None,
    split: str | None,
    dataset: str | None,
    system: str | None,
    drop: Sequence[str] | None,
    limit: int | None,
) -> dict[str, Any]:
    """The settings of a source, and of the section `data`, that the options give."""
    pairs = [text.partition("=") for text in columns or ()]
    wrong = next(("".join(pair) for pair in pairs if not all(pair)), None)
    if wrong is not None:
        raise UserError(
            f'"{wrong}" is not of the form OURS=THEIRS.',
            field="--column",
            hint="For instance prompt=question.",
        )
    source = {"split": split, "dataset": dataset, "system": system}
    named: dict[str, Any] = {key: value for key, value in source.items() if value is not None}
    named |= {"columns": {ours: theirs for ours, _, theirs in pairs}} if pairs else {}
    section: dict[str, Any] = {"limit": limit} if limit is not None else {}
    return {"source": named, "data": section | ({"drop": list(drop)} if drop else {})}


def _examined(
    source: str, role: str | None, model: str, settings: dict[str, Any], *, max_length: int = 512
) -> Examined:
    from burnish.stages.examine import examine

    if role is not None and role not in _ROLES:
        raise UserError(f'must be {", ".join(_ROLES)}, not "{role}".', field="--as")
    chosen: Role | None = role  # type: ignore[assignment]
    named = {"source": source, **settings.get("source", {})}
    return examine(
        named,
        role=chosen,
        model={"name": model, "max_length": max_length},
        data=settings.get("data", {}),
    )


def _report(examined: Examined) -> list[str]:
    """What `check` says of a source."""
    split = examined.split
    lines = [
        f"{examined.role}: {len(split.train)} rows to train on, {len(split.heldout)} held"
        f" out{_left(examined.dropped)}"
    ]
    lines += [f"  {line}" for line in examined.lines if "left out" not in line]
    if split.train:
        lengths = examined.lengths(examined.tokenizer())
        figures = ", ".join(
            f"{name} {lengths.quantile(share)}"
            for name, share in (("median", 0.5), ("95 %", 0.95), ("longest", 1.0))
        )
        lines.append(
            f"  tokens: {sum(lengths.counts):,} in {len(lengths.counts)} sequences,"
            f" {lengths.trained:,} trained; {figures}"
        )
        if lengths.too_long:
            lines.append(f"  longer than {lengths.limit} (model.max_length): {lengths.too_long}")
    return lines


def _left(dropped: Any) -> str:
    counts = ", ".join(f"{count} ({reason})" for reason, count in dropped.items() if count)
    return f"; left out: {counts}" if counts else ""


def _print(pieces: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        typer.echo("".join(f"«{piece.text}»" if piece.trained else piece.text for piece in pieces))
        return
    text = Text()
    for piece in pieces:
        text.append(piece.text, style="bold green" if piece.trained else "dim")
    console.print(text, soft_wrap=True, highlight=False)
