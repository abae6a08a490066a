"""Options by name: what a dotted key means, whether a stage is called by its kind or by an
algorithm or a loss. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, cast

from pydantic import BaseModel

from burnish.config.describe import Option, describe_fields, describe_values
from burnish.config.families import FAMILIES
from burnish.config.hints import ALIASES, suggest
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.errors import UserError

_PAPER = re.compile(r"arXiv:\d{4}\.\d{4,5}")


class Found(NamedTuple):
    """What a key names: `exact`, several where it differs by kind, and what stands `below` it."""

    key: str
    about: str
    exact: tuple[Option, ...]
    below: tuple[Option, ...]


@lru_cache(maxsize=64)
def options_of(word: str) -> tuple[Option, ...]:
    """Every option of a stage that is called `word`, a kind, an algorithm or a loss, with the
    defaults that it then has. Keys begin with the word."""
    kind, family = FAMILIES.get(word, (word, None))
    stage = KINDS[kind]
    if family is None:
        options: Sequence[Option] = describe_fields(stage.section)
    else:
        of_rows = {
            row: option.section
            for option in describe_fields(stage.section)
            for _, row in option.variants
            if option.key == f"{family}.name"
        }
        left_out = stage.left_out(word)
        section = of_rows.get(word) or cast(type[BaseModel], type(getattr(left_out, family)))
        options = [
            option
            for option in describe_values(
                left_out.model_copy(update={family: section.model_validate({"name": word})})
            )
            if all(place != family or row == word for place, row in option.variants)
        ]
    return tuple(option._replace(key=f"{word}.{option.key}") for option in options)


@lru_cache(maxsize=1)
def options_of_recipe() -> tuple[Option, ...]:
    """Every option outside of the stages."""
    return tuple(o for o in describe_fields(Recipe) if not o.key.startswith("stages."))


def find(key: str) -> Found:
    """What a dotted key names: an option, a section, or a stage by its kind, algorithm or loss.
    Places in lists may be left out.

    Raises UserError naming the nearest right key where there is none.
    """
    parts = [part for part in key.removeprefix("stages.").split(".") if not _is_place(part)]
    word, wanted = (parts or [""])[0], ".".join(parts)
    stage = word in FAMILIES or (word in KINDS and ":" not in word)
    options = options_of(word) if stage else options_of_recipe()
    exact = tuple(option for option in options if bare(option.key) == wanted)
    below = tuple(option for option in options if bare(option.key).startswith(f"{wanted}."))
    if exact or below:
        return Found(wanted, _about(word, options) if wanted == word else "", exact, below)
    raise UserError(
        f'there is no option "{key}".', hint=suggest(tuple(parts), known_keys(word), ALIASES)
    )


def _about(word: str, options: Sequence[Option]) -> str:
    """What a stage of this kind, algorithm or loss is: where the loss has a section of its own,
    that is what it says of itself."""
    kind = FAMILIES.get(word, (word,))[0]
    if kind not in KINDS:
        return ""
    own = [o.section for o in options if o.variants and o.key == f"{word}.loss.name"]
    section = KINDS[kind].section if word not in FAMILIES or not own else own[0]
    return in_yaml(section.__doc__ or "")


def called(name: str) -> tuple[str, ...]:
    """Every key that ends in `name`, stages called by their kinds."""
    keys = (bare(key) for key in known_keys())
    return tuple(dict.fromkeys(key for key in keys if key.endswith(f".{name}")))


def find_one_of(key: str) -> Option:
    """The option that a key names, the first of them where they differ by kind."""
    return find(key).exact[0]


def known_keys(first: str = "") -> list[str]:
    """The keys of the recipe and of every kind of stage, those of the stage `first` before the
    others."""
    words = dict.fromkeys((first, *KINDS) if first in FAMILIES else KINDS)
    stages = [option.key for word in words for option in options_of(word)]
    return [*stages, *(option.key for option in options_of_recipe())]


def in_yaml(text: str) -> str:
    """A description in one line, with YAML's word for what Python calls None."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()))


def papers(option: Option) -> tuple[str, ...]:
    """The papers that an option's description names, else those of its section."""
    for text in (option.description, option.section.__doc__ or ""):
        if named := _PAPER.findall(text):
            return tuple(dict.fromkeys(named))
    return ()


def bare(key: str) -> str:
    """A key without the places of lists and mappings in it."""
    return ".".join(part for part in key.split(".") if not _is_place(part))


def _is_place(part: str) -> bool:
    return part == "*" or part.isdecimal()
