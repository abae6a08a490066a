"""Objects in place of names: data, models and rewards of a Python program, written into the run's
folder under a name that follows from their contents. The recipe then names files, as any other
does: the run resumes, and its fingerprints hold.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard
from uuid import uuid4

from burnish.atomic import disk_errors
from burnish.config.graph import SOURCES
from burnish.data.sources import open_source
from burnish.data.values import NotJson, json_value
from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.rewards.functions import OBJECT, hand_over
from burnish.runs.manifest import file_hash

GIVEN = "inputs"
"""The folder of a run in which what was given as an object stands."""
_REFERENCES = ("start", "reference", "model", "models", "reward", "answers")


def named(recipe: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The recipe with every object in it replaced by the name of what it was written to, below
    `folder`.

    Raises UserError for what no recipe can hold, naming its key.
    """
    place = folder / GIVEN
    limit = recipe.get("data", {}).get("limit") if isinstance(recipe.get("data"), Mapping) else None
    source = partial(source_name, folder=place, limit=limit)
    found: dict[str, Any] = {}
    for key, value in recipe.items():
        if key == "model":
            model = value if isinstance(value, Mapping) and "name" in value else {"name": value}
            model = value if isinstance(value, Mapping) and _is_plain(value) else model
            found[key] = {
                inner: model_name(one, place) if inner == "name" else plain(one, f"model.{inner}")
                for inner, one in model.items()
            }
        elif key == "data" and isinstance(value, Mapping):
            found[key] = {
                inner: (
                    source(one, f"data.{inner}")
                    if inner in SOURCES
                    else plain(one, f"data.{inner}")
                )
                for inner, one in value.items()
            }
        elif key == "stages" and isinstance(value, Mapping):
            found[key] = {
                name: _stage(one, f"stages.{name}", place, source) for name, one in value.items()
            }
        else:
            found[key] = plain(value, key)
    return found


def _stage(settings: Any, at: str, place: Path, source: Callable[..., Any]) -> Any:
    if not isinstance(settings, Mapping):
        return plain(settings, at)
    found: dict[str, Any] = {}
    for key, value in settings.items():
        where = f"{at}.{key}"
        if key == "stages" and isinstance(value, Mapping):
            found[key] = {
                name: _stage(one, f"{where}.{name}", place, source) for name, one in value.items()
            }
        elif key in SOURCES:
            found[key] = source(value, where)
        elif key == "rewards":
            found[key] = reward_specs(value, where)
        elif key in _REFERENCES:
            found[key] = _reference(value, where, place)
        else:
            found[key] = plain(value, where)
    return found


def _reference(value: Any, at: str, place: Path) -> Any:
    if isinstance(value, list | tuple) and not _is_model(value):
        return [_reference(one, at, place) for one in value]
    return (
        plain(value, at)
        if value is None or isinstance(value, Mapping)
        else model_name(value, place)
    )


def plain(value: Any, at: str) -> Any:
    """A setting as a recipe holds it. Raises UserError, naming the key, for an object that is
    none."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one, f"{at}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one, f"{at}.{place}") for place, one in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    try:
        return json_value(value, field=at)  # NumPy's numbers, dates
    except NotJson as error:
        problem = f"is a {type(value).__name__}, which no recipe can hold."
        raise UserError(
            problem, field=at, hint="Give text, a number, a list or a mapping."
        ) from error


def _is_plain(value: Mapping[str, Any]) -> bool:
    return "name" not in value


# -- data
# ------------------------------------------------------------------------------------------------------------------  # noqa: E501


def source_name(value: Any, at: str, *, folder: Path, limit: int | None = None) -> Any:
    """What a recipe names a source by: a path, a hub id, a mapping of these; rows are written to a
    file first.

    Rows are a list of mappings, a pandas DataFrame, or a `datasets.Dataset` or `IterableDataset`;
    several by the names of their splits (`datasets.DatasetDict`) become a folder of files with
    these names. `limit`: write no more rows than these.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    again = partial(source_name, folder=folder, limit=limit)
    if isinstance(value, Mapping) and "source" in value:
        inner = ("source", "heldout")
        return {
            str(key): again(one, f"{at}.{key}") if key in inner else plain(one, f"{at}.{key}")
            for key, one in value.items()
        }
    if isinstance(value, Mapping):
        return _splits(value, at, folder, limit)
    if _is_list_of_sources(value):
        return [again(one, f"{at}.{place}") for place, one in enumerate(value)]
    return str(_file_of(_rows(value, at), at, folder, limit))


def _is_list_of_sources(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a list names sources, or holds some, rather than rows."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(not isinstance(one, Mapping) or "source" in one for one in value)


def _splits(value: Mapping[str, Any], at: str, folder: Path, limit: int | None) -> str:
    """A folder with a file for each split, named by the contents of all."""
    files = {
        name: _file_of(_rows(rows, f"{at}.{name}"), f"{at}.{name}", folder, limit)
        for name, rows in value.items()
    }
    if not files:
        raise UserError(
            "holds no splits.",
            field=at,
            hint="Give rows, or a mapping of the names of splits to rows.",
        )
    digest = hashlib.sha256(
        "".join(f"{name} {path.stem}\n" for name, path in sorted(files.items())).encode()
    )
    place = folder / f"splits-{digest.hexdigest()[:16]}"
    with disk_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        for name, path in files.items():
            path.replace(place / f"{name}.jsonl")
    return str(place)


def _rows(value: Any, at: str) -> Iterable[Any]:
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # pandas
        return value.to_dict("records")
    if isinstance(value, bytes) or not hasattr(value, "__iter__"):
        problem = f"is a {type(value).__name__}, which is no data."
        hint = "Give a path, a hub id, a list of dicts, a pandas DataFrame or a datasets.Dataset."
        raise UserError(problem, field=at, hint=hint)
    return value


def _file_of(rows: Iterable[Any], at: str, folder: Path, limit: int | None) -> Path:
    """The file that holds these rows, named by their contents; written once."""
    scratch, digest = folder / f".partial-{uuid4().hex[:8]}", hashlib.sha256()
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with scratch.open("wb") as file:
                for line in _lines(islice(rows, limit), at):
                    digest.update(line)
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            target = folder / f"{digest.hexdigest()[:16]}.jsonl"
            if not target.is_file():
                scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)
    return target


def _lines(rows: Iterable[Any], at: str) -> Iterator[bytes]:
    """Each row as a line of JSON. Raises UserError naming the row and the column that JSON cannot
    hold."""
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            problem = f"must be a mapping of columns to values, not {type(row).__name__}."
            raise UserError(
                problem,
                file=at,
                row=number,
                hint='For instance {"prompt": ..., "completion": ...}.',
            )
        try:
            values = {str(name): json_value(value, field=str(name)) for name, value in row.items()}
        except NotJson as error:
            raise UserError(
                error.problem, file=at, row=number, field=error.field, hint=error.hint
            ) from error
        yield f"{dumps(values)}\n".encode()


# -- models
# ----------------------------------------------------------------------------------------------------------------  # noqa: E501


def model_name(value: Any, folder: Path) -> str:
    """What a recipe names a model by: a name, a folder, the newest model of a `Result`; a
    transformers model with its tokenizer (a pair of the two) is saved below `folder`, under a name
    that follows from what was written."""
    if isinstance(value, str):
        return value
    if hasattr(value, "model_folder"):
        return str(value.model_folder())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if _is_model(value):
        model, tokenizer = value
        return str(_saved(model, tokenizer, folder))
    if hasattr(value, "save_pretrained"):
        hint = "Give tokenizer=TOKENIZER too; in a recipe, the pair (MODEL, TOKENIZER)."
        raise UserError("a model was given without its tokenizer.", field="model", hint=hint)
    hint = "Give a name, a folder, or a transformers model with tokenizer=TOKENIZER."
    raise UserError(f"is a {type(value).__name__}, which is no model.", field="model", hint=hint)


def _is_model(value: Any) -> bool:
    pair = isinstance(value, tuple) and len(value) == 2
    return pair and all(hasattr(one, "save_pretrained") for one in value)


def _saved(model: Any, tokenizer: Any, folder: Path) -> Path:
    scratch = folder / f".partial-{uuid4().hex[:8]}"
    try:
        with disk_errors(folder):
            scratch.mkdir(parents=True)
            model.save_pretrained(scratch)
            tokenizer.save_pretrained(scratch)
            target = folder / f"model-{file_hash(scratch)[:16]}"
            if not target.is_dir():
                scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


# -- rewards
# ---------------------------------------------------------------------------------------------------------------  # noqa: E501


def reward_specs(value: Any, at: str) -> Any:
    """The rewards of a stage as a recipe lists them.

    Each is a mapping as in a recipe, whose `function` may be a function; a function; the name of a
    kind (`maths`); the path of a function (`file.py:name`); or a reward model: a folder or a
    `Result`. Functions are labelled by their names.
    """
    if not isinstance(value, list | tuple):
        value = [value]
    specs = [_reward(one, f"{at}.{place}") for place, one in enumerate(value)]
    labels = [spec.get("label") for spec in specs if isinstance(spec, Mapping)]
    for place, spec in enumerate(specs):
        if (
            isinstance(spec, dict)
            and labels.count(spec.get("label")) > 1
            and callable(spec.get("function"))
        ):
            spec["label"] = f"{spec['label']}-{place + 1}"
    return [_with_named_function(spec) for spec in specs]


def _reward(value: Any, at: str) -> Any:
    if isinstance(value, Mapping):
        spec = dict(value)
        if callable(spec.get("function")):
            spec = {"name": "python", "label": _label(spec["function"]), **spec}
        if "model" in spec and not isinstance(spec["model"], str | None):
            spec["model"] = model_name(spec["model"], Path())
        return {
            key: one if callable(one) else plain(one, f"{at}.{key}") for key, one in spec.items()
        }
    if hasattr(value, "model_folder") or isinstance(value, os.PathLike):
        return {"name": "model", "model": model_name(value, Path())}
    if callable(value):
        return {"name": "python", "label": _label(value), "function": value}
    if isinstance(value, str):
        return _reward_named(value)
    hint = "Give a function, a mapping such as {'name': 'maths'}, or the folder of a reward model."
    raise UserError(f"is a {type(value).__name__}, which is no reward.", field=at, hint=hint)


def _reward_named(text: str) -> dict[str, Any]:
    if Path(text).is_dir():
        return {"name": "model", "model": text}
    if ":" in text or "." in text:
        return {
            "name": "python",
            "label": text.replace(":", ".").rpartition(".")[2],
            "function": text,
        }
    return {"name": text}


def _label(function: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(
        getattr(function, "func", None), "__name__", None
    )
    return (name or type(function).__name__).strip("<>")


def _with_named_function(spec: Any) -> Any:
    function = spec.get("function") if isinstance(spec, Mapping) else None
    return (
        {**spec, "function": _function_name(function, spec["label"])}
        if callable(function)
        else spec
    )


def _function_name(function: Callable[..., Any], label: str) -> str:
    """A path by which another process finds the function, where there is one; else it is handed
    over in this one."""
    module, name = (
        getattr(function, "__module__", None) or "",
        getattr(function, "__qualname__", ""),
    )
    source = getattr(sys.modules.get(module), "__file__", None) if module != "__main__" else None
    if (
        source
        and inspect.isroutine(function)
        and getattr(sys.modules[module], name, None) is function
    ):
        return f"{module}:{name}"
    return hand_over(label, function)


def is_conversational(source: Any) -> bool:
    """Whether the prompts of a source are lists of messages: rewards are then handed messages too,
    as TRL does it."""
    one = source[0] if isinstance(source, list | tuple) and source else source
    ref = one["source"] if isinstance(one, Mapping) else one
    if not isinstance(ref, str):
        return False
    try:
        row = next((row for portion in open_source(ref).items for row in portion.rows()), None)
    except UserError:  # said where the source is read
        return False
    if row is None:
        return False
    if row.values.get("prompt") is not None:
        return isinstance(row.values["prompt"], list)
    return "messages" in row.values


def with_form_of_rewards(specs: Any, prompts: Any) -> Any:
    """Rewards that are functions, told whether to take messages where they are not told yet."""
    functions = [spec for spec in specs if spec.get("name") == "python" and "messages" not in spec]
    if not functions or not is_conversational(prompts):
        return specs
    return [{**spec, "messages": True} if spec in functions else spec for spec in specs]


__all__ = [
    "GIVEN",
    "OBJECT",
    "model_name",
    "named",
    "reward_specs",
    "source_name",
    "with_form_of_rewards",
]
