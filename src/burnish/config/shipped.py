"""The recipes that come with Burnish, by name. Torch-free."""

from __future__ import annotations

from pathlib import Path

from burnish.config.hints import nearest
from burnish.errors import UserError, listed

_PACKAGE = Path(__file__).parents[1]
_PLACES = (_PACKAGE / "recipes", _PACKAGE.parents[1] / "recipes")
"""In an installed package, and in a checkout."""


def folder() -> Path:
    """Where the shipped recipes are."""
    return next((place for place in _PLACES if (place / "quickstart.yaml").is_file()), _PLACES[0])


def names() -> tuple[str, ...]:
    """The names of the shipped recipes."""
    return tuple(sorted(path.stem for path in folder().glob("*.yaml")))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe. Raises UserError where there is none of that name."""
    if name not in names():
        near = nearest(name, names())
        hint = f'Did you mean "{near}"?' if near else f"There are {listed(names())}."
        raise UserError(f'no recipe called "{name}" comes with Burnish.', hint=hint)
    return folder() / f"{name}.yaml"


def located(path: Path) -> Path:
    """The path of a recipe, or of a file that belongs to one: what is there is taken, else a
    shipped file of that name: `quickstart`, `recipes/quickstart.yaml`,
    `recipes/constitution.txt`."""
    parts = path.parts
    alone = len(parts) == 1 and not path.suffix
    if path.is_absolute() or not (alone or (len(parts) == 2 and parts[0] == "recipes")):
        return path
    name = path.name if path.suffix else f"{path.name}.yaml"
    known = folder().is_dir() and name in {one.name for one in folder().iterdir()}
    return folder() / name if known and not path.exists() else path


def summary(name: str) -> str:
    """What a shipped recipe is, in its own first words."""
    lines = recipe_path(name).read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ").strip() for line in _first_paragraph(lines))
    first, stop, _ = comment.partition(". ")
    return first + stop.rstrip()


def _first_paragraph(lines: list[str]) -> list[str]:
    paragraph: list[str] = []
    for line in lines:
        if not line.startswith("#") or not line.strip("# "):
            break
        paragraph.append(line)
    return paragraph
