"""Recipes from YAML files and dotted overrides; a mistake is one line that says where it is and what would be right."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from burnish.config.bounds import OUT_OF_BOUNDS
from burnish.config.describe import defaults, describe_fields, discriminators, show
from burnish.errors import UserError

Config = TypeVar("Config", bound=BaseModel)

ALIASES = {
    "per_device_train_batch_size": "batch_size (of sft, reward, preference) or ppo.prompts_per_step",
    "num_train_epochs": "epochs (of sft, reward, preference, ppo)",
    "num_ppo_epochs": "ppo.epochs",
    "num_mini_batches": "ppo.mini_batches",
    "num_generations": "responses_per_prompt (of collect, ppo, online)",
    "max_completion_length": "sampling.max_new_tokens",
    "response_length": "ppo.sampling.max_new_tokens",
    "kl_coef": "ppo.kl.beta",
    "init_kl_coef": "ppo.kl.beta",
    "cliprange": "ppo.clip",
    "epsilon": "ppo.clip or online.algorithm.clip_low and clip_high",
    "epsilon_low": "online.algorithm.clip_low",
    "epsilon_high": "online.algorithm.clip_high",
    "delta": "online.algorithm.dual_clip",
    "num_iterations": "online.epochs or ppo.epochs",
    "scale_rewards": "online.algorithm.advantage (group_normalised or group_mean)",
    "mask_truncated_completions": "online.algorithm.overlong (mask)",
    "reward_funcs": "rewards",
    "reward_weights": "rewards (weight, of each)",
    "sync_ref_model": "online.moving_reference",
    "ref_model_sync_steps": "online.moving_reference (every)",
    "vllm_importance_sampling_cap": "online.importance.cap",
    "vllm_importance_sampling_mode": "online.importance.kind (and level)",
    "cliprange_value": "ppo.value_clip",
    "vf_coef": "ppo.value_coefficient",
    "whiten_rewards": "ppo.tricks.normalise_advantages",
    "missing_eos_penalty": "ppo.tricks.missing_end_penalty",
    "lr": "optimiser.learning_rate",
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "gradient_accumulation_steps": "optimiser.micro_batch_tokens (tokens at once; batch_size is the whole batch)",
    "max_length": "model.max_length",
    "model_name_or_path": "model.name",
    "optimizer": "optimiser",
    "max_steps": "epochs (of sft, reward, preference) or ppo.steps",
    "report_to": "trackers",
    "loss_type": "preference.loss.name (sigmoid: dpo; sigmoid_norm: dpo_norm; robust: rdpo)",
    "cpo_alpha": "preference.loss.sft.weight",
    "rpo_alpha": "preference.loss.sft.weight",
    "simpo_gamma": "preference.loss.gamma",
    "label_smoothing": "preference.loss.label_smoothing (of cdpo) or preference.loss.label_noise (of rdpo)",
    "desirable_weight": "preference.loss.desirable_weight (of kto)",
    "undesirable_weight": "preference.loss.undesirable_weight (of kto)",
    "precompute_ref_log_probs": "preference.loss (the reference is always run once and cached: nothing to set)",
    "padding_free": "optimiser.micro_batch_tokens (batches are always packed: nothing to set)",
    "use_peft": "lora (of sft, reward, preference)",
}
"""Keys that users of other trainers type, and what they are called here."""

_MOST_PROBLEMS = 5
# YAML 1.1 wants a dot in a float: without this rule 1e-4 is a string.
_FLOAT = ("tag:yaml.org,2002:float", re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 is a number, a date is text, and a key that stands twice is an error."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        # here, not on construction: by then a merge (<<) may have put an overridden key beside its override
        node = super().compose_mapping_node(anchor)
        assert isinstance(node, yaml.MappingNode)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(None, None, f'the key "{key.value}" stands twice', key.start_mark)
                seen.add((key.tag, key.value))
        return node


class _Dumper(yaml.SafeDumper):
    """Safe YAML that puts text in quotes wherever `_Loader` would take it for a number or fold its line breaks."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(*_FLOAT)
_Dumper.add_implicit_resolver(*_FLOAT)
_Dumper.add_representer(str, _Dumper.represent_str)


def load_config(
    model: type[Config],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    aliases: Mapping[str, str] = ALIASES,
) -> Config:
    """The configuration in a YAML file, with `dotted.key=value` overrides on top; `0`, `1`, ... are the items of a list.

    Below the file (None: an empty one) lie the model's defaults, merged section by section: naming one key of a section
    leaves its others as they are. Types are strict: "3" is not a number, and 1 is not a switch.
    Raises UserError naming the file and line (or the override), the key, what is wrong and what would be right;
    `aliases` says what keys of other tools are called here.
    """
    file = _File.read(path) if path else _File(None, {}, None)
    tags = discriminators(model)
    values = _merge(defaults(model), file.values, tags)
    origins: dict[tuple[str, ...], str] = {}
    for override in overrides:
        key, value = _parse_override(override)
        origins[key] = override
        values = _put(values, key, value, tags, override=override)
    text = _to_json(values, path)
    try:
        # through JSON, since only there strictness lets a list be a tuple
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise _explain(error, model, json.loads(text), file, origins, aliases) from None


def with_stage(recipe: Config, stage: str, again: Callable[[list[str]], Config]) -> Config:
    """`recipe` with `stage` among its stages; where it lacks it, loaded once more by `again` with the override that adds it."""
    stages: tuple[str, ...] = recipe.stages  # type: ignore[attr-defined]
    return recipe if stage in stages else again([f"stages=[{', '.join((*stages, stage))}]"])


def dump_yaml(config: BaseModel) -> str:
    """YAML that loads to the same configuration, its keys in the order of the schema."""
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _File(NamedTuple):
    """What a YAML file says, and where it says it."""

    path: Path | None
    values: dict[str, Any]
    node: yaml.Node | None

    @classmethod
    def read(cls, path: Path) -> _File:
        """Raises UserError when there is no such file, or it is not YAML, or not a mapping."""
        try:
            loader = _Loader(path.read_text(encoding="utf-8"))
            node = loader.get_single_node()
            values = {} if node is None else loader.construct_document(node)
        except FileNotFoundError:
            near = _nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else [])
            hint = f'Did you mean "{path.with_name(near)}"?' if near else None
            raise UserError("there is no such file.", file=path, hint=hint) from None
        except IsADirectoryError:
            raise UserError("this is a folder; name a recipe (a YAML file).", file=path) from None
        except OSError as error:
            raise UserError(f"this file cannot be read ({error.strerror}).", file=path) from None
        except UnicodeDecodeError:
            raise UserError("this is not a text file in UTF-8.", file=path) from None
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise UserError(_yaml_problem(error), file=path) from None
        if values is None:
            return cls(path, {}, None)
        if not isinstance(values, dict):
            raise UserError("a recipe is a mapping of keys to values.", file=path)
        return cls(path, values, node)

    def line(self, place: Sequence[str]) -> int | None:
        """The line of the key at a place (or of the nearest section around it), from 1."""
        node, line = self.node, None
        for part in place:
            if isinstance(node, yaml.MappingNode):
                pair = next(((key, value) for key, value in node.value if key.value == part), None)
            elif isinstance(node, yaml.SequenceNode) and part.isdigit() and int(part) < len(node.value):
                pair = (node.value[int(part)], node.value[int(part)])
            else:
                pair = None
            if pair is None:
                break
            line, node = pair[0].start_mark.line + 1, pair[1]
        return line


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"{place}{error.problem or error.context}."
    return f"this is not YAML ({' '.join(str(error).split())})."


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UserError(f'the override "{override}" is not of the form key.subkey=value.')
    try:
        return tuple(key.split(".")), yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f'the value of the override "{override}" cannot be read ({problem}).') from None


def _put(tree: Any, key: Sequence[str], value: Any, tags: set[str], *, override: str, at: str = "") -> Any:
    """`tree` with `value` at `key`; sections that are not there yet (or None) are made on the way."""
    if not key:
        return _merge(tree, value, tags, at) if isinstance(tree, Mapping) and isinstance(value, Mapping) else value
    head, rest = key[0], key[1:]
    if isinstance(tree, list):
        if not head.isdecimal() or int(head) >= len(tree):
            raise UserError(f'the override "{override}" wants item {head} of a list of {len(tree)} (the first is 0).')
        index = int(head)
        item = _put(tree[index], rest, value, tags, override=override, at=f"{at}*.")
        return [*tree[:index], item, *tree[index + 1 :]]
    if not isinstance(tree, Mapping | None):
        raise UserError(f'the override "{override}" looks for "{head}" inside a value, not a section.')
    section = tree or {}
    item = _put(section.get(head), rest, value, tags, override=override, at=f"{at}{head}.")
    return {head: item} if _other_kind(section, {head: item}, tags, at) else {**section, head: item}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any], tags: set[str], at: str = "") -> dict[str, Any]:
    """`above` over `below`, section by section; a section that becomes one of another kind starts afresh."""
    if _other_kind(below, above, tags, at):
        return dict(above)
    merged = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(under := below.get(key), Mapping):
            merged[key] = _merge(under, value, tags, f"{at}{key}.")
    return merged


def _other_kind(below: Mapping[str, Any], above: Mapping[str, Any], tags: set[str], at: str) -> bool:
    return any(f"{at}{key}" in tags and key in below and below[key] != above[key] for key in above)


def _to_json(values: Mapping[str, Any], path: Path | None) -> str:
    try:
        return json.dumps(values)
    except ValueError:
        raise UserError("a YAML alias here refers to itself.", file=path) from None
    except TypeError as error:
        raise UserError(f"there is a type here that a recipe cannot hold ({error}).", file=path) from None


def _explain(
    error: ValidationError,
    model: type[BaseModel],
    values: Mapping[str, Any],
    file: _File,
    origins: Mapping[tuple[str, ...], str],
    aliases: Mapping[str, str],
) -> UserError:
    known = [option.key for option in describe_fields(model)]
    found: list[UserError] = []
    for problem in error.errors(include_url=False)[:_MOST_PROBLEMS]:
        place = _place(problem["loc"], values, missing=problem["type"] == "missing")
        override = next((text for key, text in reversed(list(origins.items())) if place[: len(key)] == key), None)
        unknown = problem["type"] == "extra_forbidden"
        hint = _suggest(place, known, aliases) if unknown else _remedy(problem)
        found.append(
            UserError(
                "there is no such key." if unknown else f"{_reason(problem)}.",
                file=f'override "{override}"' if override else file.path,
                row=None if override else file.line(place),
                field=".".join(place) or None,
                hint=hint,
            )
        )
    if error.error_count() == 1:
        return found[0]
    more = error.error_count() - len(found)
    return UserError("\n".join([*map(str, found), *([f"and {more} more"] if more else [])]))


def _place(location: Sequence[str | int], values: Any, *, missing: bool) -> tuple[str, ...]:
    """A location of pydantic's as keys of the values: without the names of a union's members that stand in it."""
    place: list[str] = []
    for part in location:
        if isinstance(values, Mapping) and part in values:
            values = values[str(part)]
        elif isinstance(values, list) and isinstance(part, int) and part < len(values):
            values = values[part]
        else:
            continue
        place.append(str(part))
    return (*place, str(location[-1])) if missing else tuple(place)


def _reason(problem: Mapping[str, Any]) -> str:
    """What is wrong with a value, in plain words."""
    kind, context, given = problem["type"], problem.get("ctx", {}), show(problem["input"])
    if kind == "missing":
        return "this is required, and missing"
    if kind == "union_tag_not_found":
        return f"{context['discriminator'].strip(chr(39))} is missing, which says what kind of section this is"
    if kind == "value_error":
        return str(context["error"])
    if kind == OUT_OF_BOUNDS:
        return f"expected {context['range']}, given {given}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind].format(**context)}, given {given}"
    return f"{problem['msg'].replace('Input should', 'this should')}, given {given}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section (keys and values)",
    "model_type": "a section (keys and values)",
    "none_required": "null",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_long": "at most {max_length} items",
    "too_short": "at least {min_length} items",
    "string_pattern_mismatch": "text like {pattern}",
    "union_tag_invalid": "{expected_tags} as the kind of this section",
}


def _remedy(problem: Mapping[str, Any]) -> str | None:
    """What to do about it, where the reason does not say so already."""
    given = problem["input"]
    if problem["type"] == "string_type" and isinstance(given, int | float):
        return f"Put it in double quotes (on a command line: '\"{show(given)}\"')."
    if problem["type"] in ("int_type", "float_type") and isinstance(given, str) and re.fullmatch(r"[-+.\deE]+", given):
        return "Take the quotes off."
    return None


def _suggest(place: tuple[str, ...], known: Sequence[str], aliases: Mapping[str, str]) -> str:
    """The nearest right key: another tool's name for one, one in the same section, or one anywhere."""
    key = place[-1]
    if key in aliases:
        return f"Here it is called {aliases[key]}."
    section = "".join(f"{'*' if part.isdigit() else part}." for part in place[:-1])
    inside = [name for name in known if name.startswith(section)]
    for candidates in (inside, known):
        by_leaf = {name.rpartition(".")[2]: name for name in reversed(candidates)}
        near = _nearest(key, list(by_leaf))
        if near:
            return f'Did you mean "{by_leaf[near]}"?'
    siblings = [name.removeprefix(section) for name in inside if "." not in name.removeprefix(section)]
    return f"Known here: {', '.join(siblings)}."


def _nearest(word: str, words: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(word, words, n=1, cutoff=0.7)), None)
