"""`burnish models supported`: the table of model types, in the terminal and as Markdown for the docs."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from burnish.models.supported import SUPPORTED, ModelType

_COLUMNS = ("model_type", "family", "trained", "sampled", "LoRA on")
LEGEND = """\
trained: packed is many sequences in one pass, exact; unpacked is each sequence by
  itself, as exact and slower.
sampled: native is Burnish's own engine; transformers is that library's cached
  generation, which is slower.
LoRA on: the linear layers that adapters are put on. Of a mixture of experts the
  experts and the router stay frozen under LoRA. No router loss is added, neither
  under LoRA nor when all weights are trained."""


def show() -> None:
    """Print the table; what there is to know about a type stands below its family."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for row in SUPPORTED.values():
        about = f"{row.family}; {row.note}" if row.note else row.family
        table.add_row(row.name, about, row.trained, row.sampled, _targets(row, " "))
    console = Console()
    console.print(table)
    console.print(f"\n{LEGEND}", highlight=False)


def markdown() -> str:
    """The same as a Markdown table."""
    lines = [f"| {' | '.join((*_COLUMNS, 'to know'))} |", "|" + " --- |" * (len(_COLUMNS) + 1)]
    for row in SUPPORTED.values():
        cells = (f"`{row.name}`", row.family, row.trained, row.sampled, _targets(row, ", "), row.note)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _targets(row: ModelType, between: str) -> str:
    """Names without the suffix that they share."""
    return between.join(name.removesuffix("_proj") for name in row.lora)
