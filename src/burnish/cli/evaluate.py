"""`burnish evaluate` with models that are named on the command line: a recipe of one evaluation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from burnish.errors import UserError

JUDGES = "taste, reward:FOLDER or endpoint:URL#MODEL"


def recipe_of(
    models: Sequence[str],
    *,
    prompts: str | None,
    judges: Sequence[str],
    suites: Sequence[str] = (),
    overrides: Sequence[str],
) -> Any:
    """The recipe that evaluates these models on these prompts and suites; the first is what the
    others are measured from.

    Raises UserError where neither prompts nor suites are named, where the first model is not here,
    and for a judge of another form.
    """
    from burnish.config.recipe_file import load_recipe

    if not models:
        raise UserError(
            "no model is named.",
            field="--model",
            hint="Name each: --model FOLDER --model NAME=FOLDER.",
        )
    if prompts is None and (judges or not suites):
        hint = "Give a file, a folder or a hub id, or --suite tax."
        raise UserError("no prompts are named.", field="--prompts", hint=hint)
    named = _named(models)
    first = named[0][1]
    if "://" in first:
        hint = "Name a model first that is loaded here; the others are measured from it."
        raise UserError(
            f"the first model, {first}, stands behind an endpoint.", field="--model", hint=hint
        )
    settings: dict[str, Any] = {
        "stages": ["evaluate", "report"],
        "name": "evaluation",
        "model.name": first,
        **({} if prompts is None else {"data.prompts": prompts, "data.heldout": 1.0}),
        **({"evaluate.suites": _listed(suites)} if suites else {}),
        "evaluate.models": [f"{name}={reference}" for name, reference in named],
        "evaluate.reference": f"{named[0][0]}={first}",
        **dict(_judge(text) for text in judges),
    }
    own = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
    return load_recipe(None, [*own, *overrides])


def named_models(models: Sequence[str]) -> list[tuple[str, str]]:
    """(name, folder) of reward models: NAME=FOLDER, or a folder, which is called by its stage.
    Raises UserError for two of one name."""
    from burnish.config.graph import CALLED

    found: list[tuple[str, str]] = []
    for text in models:
        called = None if Path(text).exists() else CALLED.match(text)
        folder = called["reference"] if called else text
        inner = Path(folder) / "model"
        folder = str(inner) if inner.is_dir() else folder
        name = called["name"] if called else _called(folder)
        if name in [other for other, _ in found]:
            hint = "Call one something else: --reward-model NAME=FOLDER."
            raise UserError(f"two models are called {name}.", field="--reward-model", hint=hint)
        found.append((name, folder))
    return found


def _listed(suites: Sequence[str]) -> list[str]:
    """The names of suites, of which an option holds one or, parted by commas, several."""
    return [name.strip() for text in suites for name in text.split(",") if name.strip()]


def _named(models: Sequence[str]) -> list[tuple[str, str]]:
    """(name, reference) of each; who is given no name is called by the stage or the folder that it
    is of."""
    from burnish.config.graph import CALLED
    from burnish.stages.serve import model_of

    found: list[tuple[str, str]] = []
    for text in models:
        called = None if Path(text).exists() else CALLED.match(text)
        reference = called["reference"] if called else text
        reference = reference if "://" in reference else model_of(reference)
        name = called["name"] if called else _called(reference)
        if name in [other for other, _ in found]:
            problem = f"two models are called {name}."
            raise UserError(
                problem, field="--model", hint="Call one something else: --model NAME=REFERENCE."
            )
        found.append((name, reference))
    return found


def _called(reference: str) -> str:
    """runs/first/ppo/model is called ppo, owner/name name, http://host/v1#served served."""
    path = Path(reference.rpartition("#")[2] if "://" in reference else reference)
    last = path.parent.name if path.name == "model" and path.parent.name else path.name
    plain = "".join(sign if sign.isalnum() or sign in "_.+-" else "-" for sign in last)
    return plain if plain[:1].isalpha() else f"model-{plain}"


def _judge(text: str) -> tuple[str, Any]:
    """The setting that a judge is asked by."""
    kind, _, rest = text.partition(":")
    if text == "taste":
        return "evaluate.taste", True
    if kind == "reward" and rest:
        return "evaluate.reward", rest
    url, _, model = rest.partition("#")
    if kind == "endpoint" and "://" in url and model:
        return "evaluate.judge", {"endpoint": url, "model": model}
    raise UserError(f"{text} is no judge.", field="--judge", hint=f"Write {JUDGES}.")
