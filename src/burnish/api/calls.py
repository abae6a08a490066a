"""The calls of Python: each makes a recipe and runs it as `burnish run` does."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, cast

from burnish.api.events import Callback, Callbacks
from burnish.api.given import named, with_form_of_rewards
from burnish.api.progress import Reporter, reporter
from burnish.api.result import Result
from burnish.api.settings import overrides_of, recipe_of
from burnish.config.online import AlgorithmName
from burnish.config.preference import LOSS_NAMES
from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe
from burnish.config.shipped import located
from burnish.config.yaml_file import YamlFile
from burnish.errors import UserError, listed

RecipeLike = Recipe | Mapping[str, Any] | str | os.PathLike[str]


def load(recipe: RecipeLike | None = None, *overrides: str, **changes: Any) -> Recipe:
    """The recipe in a YAML file or a mapping (None: all defaults), with changes on top.

    `overrides` are texts `dotted.key=value`, as on the command line; `changes` are keywords:
    `seed=1`, `ppo={"steps": 20}`.

    Raises UserError naming the file and row, or the override, and what would be right.
    """
    _check_texts(overrides)
    texts = [*overrides, *_as_overrides(changes)]
    match recipe:
        case None:
            return load_recipe(None, texts)
        case Recipe():
            return (
                load_recipe(None, texts, values=recipe.model_dump(mode="json")) if texts else recipe
            )
        case Mapping():
            return load_recipe(None, texts, values=recipe)
        case str() | os.PathLike():
            return load_recipe(Path(recipe), texts)
    problem = (
        f"a recipe is named by its path, or given as a mapping, not by {type(recipe).__name__}."
    )
    raise UserError(problem, hint="Give text, a Path, a dict, or what burnish.load returned.")


def run(
    recipe: RecipeLike,
    *overrides: str,
    out: str | os.PathLike[str] | None = None,
    until: str | None = None,
    only: str | None = None,
    fork: str | os.PathLike[str] | None = None,
    accept_change: bool = False,
    extend: bool = False,
    memory_check: bool = True,
    quiet: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Callable[[str], Any] | None = None,
    on_step: Callback | None = None,
    on_checkpoint: Callback | None = None,
    on_evaluate: Callback | None = None,
    **changes: Any,
) -> Result:
    """Run a recipe: a path, a mapping as YAML would hold it, or what `load` returned. What is done
    already is not done again.

    Args:
        recipe: in a mapping, data may be rows or datasets, `model` a transformers model with its
            tokenizer, and rewards
            functions: they are written into the run's folder.
        overrides: `dotted.key=value`, as on the command line.
        out: the run's folder; by default `runs/NAME`.
        until: stop after this stage.
        only: run this stage alone; those it needs must be done.
        fork: take over from this run the stages that still fit.
        accept_change: go on with stages that were made with other settings, as they are.
        extend: train on to more steps or epochs although the learning rate has followed the former
            number.
        memory_check: refuse a run that is planned to need more memory than is free.
        quiet: show nothing.
        say: is given the lines that are shown otherwise.
        progress: makes, for a stage, what is told after each step: done, total, tokens, metrics.
        on_step: called with an `Event` after each step of training.
        on_checkpoint: called with an `Event` after each checkpoint.
        on_evaluate: called with an `Event` after each evaluation.
        changes: keys of the recipe, `seed=1`, or of stages by their names, `ppo={"steps": 20}`.

    Raises UserError for what the person can mend, in one line that says how.
    """
    from burnish.stages.run import folder_named
    from burnish.stages.run import run as run_recipe

    _check_texts(overrides)
    loaded, folder = _prepared(
        recipe, overrides, changes, None if out is None else folder_named(os.fspath(out), "out")
    )
    heard = Callbacks(folder, on_step, on_checkpoint, on_evaluate)
    shown = (
        _Shown(say, progress)
        if quiet or say is not None or progress is not None
        else reporter(quiet=False)
    )
    try:
        run_recipe(
            loaded,
            out=folder,
            until=until,
            only=only,
            fork=None if fork is None else os.fspath(fork),
            accept_change=accept_change,
            extend=extend,
            memory_check=memory_check,
            say=shown.say,
            progress=_both(shown, heard),
            finished=heard.finished,
        )
    finally:
        shown.close()
    return Result(folder)


def sft(
    model: Any, data: Any, *, eval_data: Any = None, tokenizer: Any = None, **options: Any
) -> Result:
    """Fine-tune a model on demonstrations: rows with `messages`, or `prompt` and `completion`.

    Args:
        model: a name, a folder, a `Result`, or a transformers model with its `tokenizer`.
        data: a path, a hub id, a list of dicts, a DataFrame, or a `datasets.Dataset` or
            `IterableDataset`.
        eval_data: the same, of what is held out; None: a share of `data`, or what its splits say.
        tokenizer: of a model that is given as an object.
        options: those of `run`, keys of the stage `sft`, or the last parts of keys: `epochs=1,
            learning_rate=2e-4, out="runs/a"`.
    """
    sources = {"demonstrations": _with_heldout(data, eval_data)}
    return _one_stage("sft", _model(model, tokenizer), sources, options)


def reward_model(
    model: Any, data: Any, *, eval_data: Any = None, tokenizer: Any = None, **options: Any
) -> Result:
    """Train a reward model on comparisons: rows with `prompt`, `chosen` and `rejected`. See `sft`
    for the arguments."""
    sources = {"comparisons": _with_heldout(data, eval_data)}
    return _one_stage("reward", _model(model, tokenizer), sources, options)


def dpo(
    model: Any,
    data: Any,
    *,
    loss: Any = "dpo",
    eval_data: Any = None,
    tokenizer: Any = None,
    **options: Any,
) -> Result:
    """Optimise a policy on comparisons, by DPO or a relative of it.

    `loss`: dpo, cdpo, rdpo, dpo_norm, ipo, hinge, simpo, kto, orpo or cpo; or a mapping with its
    `name` and settings. See `sft` for the other arguments, and docs/preferences.md for the losses.
    """
    name = str(loss.get("name", "dpo")) if isinstance(loss, Mapping) else str(loss)
    if name not in LOSS_NAMES and ":" not in name:
        hint = f"There are {listed(LOSS_NAMES)}, and one of your own by file.py:NAME."
        raise UserError(f'there is no loss "{name}".', field="loss", hint=hint)
    own = {"loss": {**(loss if isinstance(loss, Mapping) else {}), "name": name}}
    stage = name if name in LOSS_NAMES else "preference"
    sources = {"comparisons": _with_heldout(data, eval_data)}
    return _one_stage(stage, _model(model, tokenizer), sources, {**own, **options})


def grpo(
    model: Any,
    prompts: Any,
    rewards: Any,
    *,
    algorithm: Any = "grpo",
    tokenizer: Any = None,
    **options: Any,
) -> Result:
    """Train a policy on rewards by GRPO or a relative of it.

    Args:
        model: see `sft`.
        prompts: rows with a `prompt` (text or messages); their other columns are handed to the
            rewards.
        rewards: a function `f(prompts, completions, completion_ids, **columns)` that returns a
            number for each completion, or a list of functions, names of rewards ("maths"), mappings
            as in a recipe, and reward models.
        algorithm: grpo, dr-grpo, dapo, gspo, cispo, rloo, reinforce++ or reinforce++-baseline; or a
            mapping with its `name` and what is exchanged in it (docs/online.md).
        tokenizer: see `sft`.
        options: see `sft`; `steps=100, prompts_per_step=8, responses_per_prompt=8,
            max_new_tokens=256`.
    """
    names = [name for name in cast(Any, AlgorithmName).__args__ if name != "ppo"]
    name = str(algorithm.get("name", "grpo")) if isinstance(algorithm, Mapping) else str(algorithm)
    if name not in names and ":" not in name:
        hint = f"There are {listed(names)}, and one of your own by file.py:NAME."
        raise UserError(f'there is no algorithm "{name}".', field="algorithm", hint=hint)
    own = {"algorithm": {**(algorithm if isinstance(algorithm, Mapping) else {}), "name": name}}
    stage = name if name in names else "online"
    return _one_stage(
        stage,
        _model(model, tokenizer),
        {"prompts": prompts},
        {"rewards": rewards, **own, **options},
    )


def ppo(model: Any, prompts: Any, reward: Any, *, tokenizer: Any = None, **options: Any) -> Result:
    """Train a policy by PPO against a reward model: the folder of one, or the `Result` of
    `reward_model`. See `grpo`."""
    return _one_stage(
        "ppo", _model(model, tokenizer), {"prompts": prompts}, {"reward": reward, **options}
    )


def evaluate(
    models: Any, prompts: Any, *, rewards: Any = None, tokenizer: Any = None, **options: Any
) -> Result:
    """Compare models on the same prompts, each difference with an interval: `result.evaluation`,
    `result.report`.

    Args:
        models: one, or a list of them; see `sft`. The first is what distances are measured from.
        prompts: rows, all of which are asked; of a path or a hub id those that are held out
            (docs/data.md).
        rewards: what judges; see `grpo`. None: the taste of the simulated annotators.
        tokenizer: see `sft`.
        options: see `sft`; `count=100, responses_per_prompt=4, temperature=0.7`.
    """
    several = isinstance(models, list | tuple) and not hasattr(models[0], "save_pretrained")
    first, *others = models if several else [models]
    own: dict[str, Any] = {"models": ["base", *others], "reference": "base"}
    if rewards is not None:
        own["rewards"] = rewards
    held = prompts if isinstance(prompts, str | os.PathLike | Mapping) else {"test": prompts}
    return _one_stage("evaluate", _model(first, tokenizer), {"prompts": held}, {**own, **options})


RUN_OPTIONS = frozenset(
    name for name, one in signature(run).parameters.items() if one.kind is one.KEYWORD_ONLY
)


def _one_stage(
    stage: str, model: Any, sources: Mapping[str, Any], options: Mapping[str, Any]
) -> Result:
    run_options = {name: value for name, value in options.items() if name in RUN_OPTIONS}
    settings = {name: value for name, value in options.items() if name not in RUN_OPTIONS}
    name = settings.pop("name", stage)
    recipe = recipe_of(stage, settings)
    recipe["model"] = {**recipe.get("model", {}), "name": model}
    recipe["data"] = {**recipe.get("data", {}), **sources}
    return run({"name": name, **recipe}, **run_options)


def _model(model: Any, tokenizer: Any) -> Any:
    return model if tokenizer is None else (model, tokenizer)


def _with_heldout(data: Any, heldout: Any) -> Any:
    if heldout is None:
        return data
    if isinstance(data, Mapping) and "source" in data:
        return {**data, "heldout": heldout}
    return {"source": data, "heldout": heldout}


def _prepared(
    recipe: RecipeLike, overrides: tuple[str, ...], changes: Mapping[str, Any], out: Path | None
) -> tuple[Recipe, Path]:
    """(the recipe, its folder): what is given as an object, in a mapping or a change, stands in the
    folder by then."""
    if not isinstance(recipe, Mapping) and not changes:
        loaded = load(recipe, *overrides)
        return loaded, out or Path("runs") / loaded.name
    if isinstance(recipe, Mapping):
        values = dict(recipe)
    elif isinstance(recipe, Recipe):
        values = recipe.model_dump(mode="json")
    else:
        values = YamlFile.read(located(Path(recipe))).values
    folder = out or Path("runs") / str(changes.get("name", values.get("name", "run")))
    stages = values.get("stages")
    names = set(stages) if isinstance(stages, Mapping | list) else set()
    placed = {key: value for key, value in changes.items() if key not in names}
    inside = {key: value for key, value in changes.items() if key in names}
    given = named({**placed, "stages": inside}, folder)
    texts = [*overrides, *_as_overrides(given.pop("stages")), *_as_overrides(given)]
    return load(values_of(values, folder), *texts), folder


def values_of(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe that is a mapping, as YAML would hold it: what is given as an object is written
    below `folder`."""
    return _with_forms(named(recipe, folder))


def _with_forms(values: dict[str, Any]) -> dict[str, Any]:
    """Rewards that are functions get messages where the prompts are messages."""
    stages = values.get("stages")
    if not isinstance(stages, Mapping):
        return values
    common = (values.get("data") or {}).get("prompts")
    changed = {
        name: {**one, "rewards": with_form_of_rewards(one["rewards"], one.get("prompts", common))}
        if isinstance(one, Mapping) and isinstance(one.get("rewards"), list)
        else one
        for name, one in stages.items()
    }
    return {**values, "stages": changed}


def _as_overrides(changes: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in overrides_of(changes)]


def _check_texts(overrides: tuple[Any, ...]) -> None:
    for override in overrides:
        if not isinstance(override, str):
            hint = 'Write "dotted.key=value", each as an argument of its own, or key=value.'
            raise UserError(f"an override is text, not {type(override).__name__}.", hint=hint)


class _Shown:
    """What a program has given for lines and steps."""

    def __init__(
        self, say: Callable[[str], None] | None, progress: Callable[[str], Any] | None
    ) -> None:
        self._say, self._progress = say, progress

    def say(self, line: str) -> None:
        """Hand a line on."""
        if self._say is not None:
            self._say(line)

    def stage(self, name: str) -> Any:
        """What the program's function makes for a stage."""
        return None if self._progress is None else self._progress(name)

    def close(self) -> None:
        """Nothing to do."""


def _both(shown: Reporter, heard: Callbacks) -> Callable[[str], Any]:
    def progress(stage: str) -> Any:
        one, other = shown.stage(stage), heard.stage(stage)

        def report(done: int, total: int, tokens: int, values: Mapping[str, float]) -> None:
            if one is not None:
                one(done, total, tokens, values)
            other(done, total, tokens, values)

        return report

    return progress
