"""Write docs/options.md: every option of a recipe, from the schema. A test holds the page to it.

python tools/options_page.py
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from burnish.config.describe import Option, describe_fields
from burnish.config.families import FAMILIES
from burnish.config.kinds import KINDS
from burnish.config.options import bare, in_yaml, options_of, options_of_recipe
from burnish.config.recipe import Recipe
from burnish.config.rewards import RewardBase
from burnish.config.sections import Source

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
KINDS_IN_ORDER = (
    "sft", "sample", "compare", "select", "revise", "reward", "preference", "online", "merge",
    "evaluate", "report",
)  # fmt: skip
HEAD = """\
# Options

Every option of a recipe, written from the schema by `python tools/options_page.py`. In a terminal `burnish options` says the same, with the
defaults that a stage has under its own name:

```sh
burnish options grpo.algorithm.beta
burnish options simpo
burnish options learning_rate
burnish options --json-schema
```

The last prints a JSON Schema. Saved as `recipe.schema.json`, and named in a recipe's first line (`# yaml-language-server: $schema=recipe.schema.json`),
it has an editor complete keys, show what they mean and mark a slip.

An option is changed in the recipe, or behind it by its dotted name: `ppo.steps=20`, `sft.optimizer.learning_rate=1e-4`,
`"grpo.rewards=[{name: maths}]"`. A key that does not exist is an error which names the right one, also where it is another trainer's word. Several sections,
such as [optimizer](#optimizer), stand in more than one kind of stage; where a kind has another default for something in them, its row says so.
"""  # noqa: E501


def page() -> str:
    """The page as it should be."""
    sections = _Sections()
    parts = [HEAD, "\n## The recipe\n", *sections.table(Recipe, "", options_of_recipe())]
    parts += sections.rest("recipe")
    parts.append("\n## Stages, by kind\n")
    for kind in KINDS_IN_ORDER:
        section = KINDS[kind].section
        parts.append(f"\n### {kind}\n\n{_linked(in_yaml(section.__doc__ or ''))}\n{_names(kind)}")
        parts += sections.table(section, kind, describe_fields(section))
    parts.append("\n## Sections of stages\n")
    parts += sections.rest("stage")
    return "".join(parts)


def _names(kind: str) -> str:
    """The rows of a kind, and what they leave out otherwise than the kind does."""
    rows = [row for row, (family, _) in FAMILIES.items() if family == kind]
    if not rows:
        return ""
    text = f"\nIts names, each a kind of stage: {', '.join(f'`{row}`' for row in rows)}"
    usual = {o.key: o.default for o in describe_fields(KINDS[kind].section) if not o.variants}
    family = KINDS[kind].family
    for row in rows:
        own = [
            f"`{key}: {option.default}`"
            for option in options_of(row)
            if (key := option.key.removeprefix(f"{row}.")) in usual
            and option.default != usual[key]
            and not key.startswith(f"{family}.")
        ]
        text += f". `{row}` has {', '.join(own)}" if own else ""
    return f"{text}.\n"


class _Sections:
    """Sections in the order in which they are met, each under the name of where it first stands."""

    def __init__(self) -> None:
        self.titles: dict[type[BaseModel], str] = {Source: "source"}
        self.met = set[type[BaseModel]]()
        self.waiting: list[tuple[type[BaseModel], list[Option]]] = []

    def table(
        self, section: type[BaseModel], kind: str, options: tuple[Option, ...] | list[Option]
    ) -> list[str]:
        """The options that a section has itself; those below it wait for their own tables."""
        depth = min(option.key.count(".") for option in options if option.section is section)
        own = [o for o in options if o.section is section and o.key.count(".") == depth]
        own = list({option.key: option for option in own}.values())
        if issubclass(section, RewardBase) and section is not RewardBase:
            own = [o for o in own if o.key.rpartition(".")[2] not in RewardBase.model_fields]
        rows = ["\n| key | type | default | what it does |\n|---|---|---|---|\n"]
        for option in own:
            below = [o for o in options if o.key.startswith(f"{option.key}.")]
            rows.append(self._row(option, below, kind))
        return rows

    def rest(self, where: str) -> Iterator[str]:
        """The tables of what was met, and of what is met in them."""
        while self.waiting:
            section, options = self.waiting.pop(0)
            about = _linked(in_yaml(section.__doc__ or ""))
            if issubclass(section, RewardBase):
                if RewardBase not in self.met:
                    self.met.add(RewardBase)
                    yield (
                        "\n### rewards\n\nWhat every reward has, besides what its own section"
                        " says.\n"
                    )
                    yield from self.table(RewardBase, where, describe_fields(RewardBase))
                about += " Besides, it has what [every reward](#rewards) has."
            yield f"\n### {self.titles[section]}\n\n{about}\n"
            yield from self.table(section, where, options)

    def _row(self, option: Option, below: list[Option], kind: str) -> str:
        name = option.key.rpartition(".")[2]
        inner = list(dict.fromkeys(o.section for o in below if self._is_right_below(o, option)))
        links = []
        for section in inner:
            self._meet(section, option, below, kind)
            title = self.titles[section]
            links.append(f"[{title}](#{_anchor(title)})")
        words = option.type.replace(" | ", ", ")
        if inner:
            words = words.replace(
                "section", " or ".join(links) if len(inner) < 4 else _one_of(links)
            )
        default = _defaults(option, below, inner)
        return f"| `{name}` | {words} | {default} | {_cell(in_yaml(option.description))} |\n"

    def _meet(
        self, section: type[BaseModel], option: Option, below: list[Option], kind: str
    ) -> None:
        if section in self.met:
            return
        self.met.add(section)
        if section in self.titles:
            self.waiting.append((section, [o for o in below if _of(o, section, below)]))
            return
        place = bare(option.key).removeprefix("stages.")
        of = list(
            dict.fromkeys(
                name for o in below if o.section is section for _, name in o.variants[-1:]
            )
        )
        title = f"{place}: {of[0]}" if len(of) == 1 and place in _unions(below) else place
        # the same name for another section: with the kind, or the loss, that has it
        names = (title, *(f"{place} of {name}" for name in of), f"{kind}.{place}")
        taken = {*self.titles.values(), *KINDS}
        self.titles[section] = next(name for name in names if name not in taken)
        self.waiting.append((section, [o for o in below if _of(o, section, below)]))

    @staticmethod
    def _is_right_below(option: Option, around: Option) -> bool:
        return "." not in bare(option.key).removeprefix(f"{bare(around.key)}.")


def _unions(options: list[Option]) -> set[str]:
    """The places at which there is one of several sections."""
    return {bare(place) for option in options for place, _ in option.variants}


def _of(option: Option, section: type[BaseModel], options: list[Option]) -> bool:
    """Whether an option is of this section, or of one inside of it."""
    first = next(o for o in options if o.section is section)
    place = first.key.rpartition(".")[0]
    return (
        option.key.startswith(f"{place}.")
        and option.variants[: len(first.variants)] == first.variants
    )


def _defaults(option: Option, below: list[Option], inner: list[type[BaseModel]]) -> str:
    """The default, and of a section what is not as that section's own default."""
    if not inner:
        return f"`{option.default}`" if option.default not in ("", "required") else option.default
    if option.default:
        return option.default if option.default == "required" else f"`{option.default}`"
    if len(inner) > 1:
        return ""
    usual = {o.key: o.default for o in describe_fields(inner[0])}
    own = [
        f"`{key}: {o.default}`"
        for o in below
        if usual.get(key := o.key.removeprefix(f"{option.key}.")) not in (None, o.default)
    ]
    return ", ".join(own)


def _one_of(links: list[str]) -> str:
    return f"one of {', '.join(links)}"


def _cell(text: str) -> str:
    """A text as a cell: without what ends one, its pages linked."""
    return _linked(text).replace("|", "\\|").replace("<", "&lt;")


def _linked(text: str) -> str:
    """A text whose pages are links, as far as they are there."""

    def link(match: re.Match[str]) -> str:
        there = (PAGE.parent / f"{match[1]}.md").is_file()
        return f"[{match[1]}]({match[1]}.md)" if there else match[0]

    return re.sub(r"docs/([a-z-]+)\.md", link, text)


def _anchor(title: str) -> str:
    """As the site and GitHub make it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
