"""`burnish models supported`: the table of model types, in the terminal and as Markdown for the
docs."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from burnish.models.supported import SUPPORTED, ModelType

_COLUMNS = ("model_type", "family", "trained", "sampled", "LoRA on")
LEGEND = """\
trained   packed: many sequences in one pass, exact; unpacked: each sequence by
          itself, as exact and slower.
sampled   native: by Burnish's own engine; transformers: by that library's
          cached generation, which is slower.
LoRA on   the linear layers that adapters are put on.
*         a mixture of experts: under LoRA experts and router stay frozen (PEFT
          would take gate, up and down for the experts). No router loss is
          added, neither then nor when all weights are trained."""


def show() -> None:
    """Print the table; what there is to know about a type stands behind its family."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in SUPPORTED.values():
        about = row.family + "*" * row.experts + f"; {row.note}" * bool(row.note)
        table.add_row(row.name, about, row.trained, row.sampled, _targets(row, " "))
    console = Console()
    console.print(table)
    console.print(f"\n{LEGEND}", highlight=False, soft_wrap=True)


def markdown() -> str:
    """The same as a Markdown table."""
    lines = [f"| {' | '.join((*_COLUMNS, 'to know'))} |", "|" + " --- |" * (len(_COLUMNS) + 1)]
    for row in SUPPORTED.values():
        cells = (
            f"`{row.name}`",
            row.family,
            row.trained,
            row.sampled,
            _targets(row, ", "),
            "; ".join(_notes(row)),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _notes(row: ModelType) -> list[str]:
    return ["mixture of experts"] * row.experts + [row.note] * bool(row.note)


def _targets(row: ModelType, between: str) -> str:
    """Names without the suffix that they share."""
    return between.join(name.removesuffix("_proj") for name in row.lora)
