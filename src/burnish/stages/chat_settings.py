"""What a recipe settles for chat templates: which one, its options, and the day that it prints as
today's."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from burnish.config.recipe import Recipe
from burnish.config.schema import Model
from burnish.data.chat import ChatOptions, set_chat_options
from burnish.errors import UserError

if TYPE_CHECKING:
    from burnish.models.backbone import Backbone

_ABOVE = 3  # a run's models lie at most this far below its recipe.yaml


def dated(recipe: Recipe, *folders: str | Path | None) -> Recipe:
    """The recipe with its `model.date`: its own, or that of the first of these runs that has one,
    or today's."""
    if recipe.model.date is not None:
        return recipe
    recorded = (_recorded(Path(folder)).get("date") for folder in folders if folder is not None)
    day = next((day for day in recorded if day is not None), None)
    settled = date.today() if day is None else date.fromisoformat(str(day))
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"date": settled})})


def template_text(model: Model) -> str | None:
    """The template that the recipe names, as text. Raises UserError where its file cannot be
    read."""
    named = model.chat_template
    if named is None or "{%" in named or "{{" in named:
        return named
    try:
        return Path(named).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        hint = "Give the path of a .jinja file, or the template itself."
        raise UserError(
            f"cannot be read ({why}).", file=named, field="model.chat_template", hint=hint
        ) from error


def settle(tokenizer: Any, model: Model, *, own: bool) -> None:
    """Have everything that is rendered with this tokenizer follow the recipe. That of a model that
    is not the run's `own` (a reward model from elsewhere) keeps its template and takes no options;
    the day is the same for all."""
    text = template_text(model) if own else None
    if text is not None:
        tokenizer.chat_template = text  # and it is saved with whatever is trained from here
    kwargs = model.chat_template_kwargs if own else {}
    set_chat_options(tokenizer, ChatOptions(model.date, dict(kwargs)))


def settle_as_in_its_run(backbone: Backbone, reference: str | Path) -> None:
    """For talking to a model: the options of the run that made it, where it is a run's; the day is
    the present one."""
    folder = Path(reference)
    folders = [folder, *folder.resolve().parents][: 1 + _ABOVE]
    found = next(
        (kwargs for place in folders if (kwargs := _recorded(place).get("chat_template_kwargs"))),
        None,
    )
    if found:
        set_chat_options(backbone.tokenizer, ChatOptions(None, dict(found)))


def _recorded(folder: Path) -> dict[str, Any]:
    """The section `model` of the recipe that a run's folder holds; empty where there is none that
    can be read."""
    try:
        recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        model = recipe["model"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return {}
    return model if isinstance(model, dict) else {}
