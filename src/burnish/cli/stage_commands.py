"""The commands that run one stage: one for each kind whose module says by an example how it is
typed.

The modules' texts are read and not imported, so that `burnish --help` answers at once.
"""

from __future__ import annotations

import ast
from pathlib import Path

_KINDS = Path(__file__).parents[1] / "stages" / "kinds"


def stage_commands() -> dict[str, str]:
    """By the kind, what its command's help says: the docstring of its module, where that has an
    example."""
    texts = {path.stem: _docstring(path) for path in sorted(_KINDS.glob("*.py"))}
    return {kind: text for kind, text in texts.items() if f"Example: `burnish {kind} " in text}


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
