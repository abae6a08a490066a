"""Write the facts of docs/algorithms.md: papers, parts and defaults, from the tables that train.

    python tools/algorithms_page.py

The equations and when to use what are written by hand; the paragraph behind `<!-- facts: NAME -->`
is this tool's.
"""

from __future__ import annotations

import re
from pathlib import Path

from burnish.algorithms.preference_losses import LOSSES
from burnish.algorithms.recipes import ROWS, Algorithm
from burnish.config.describe import Option
from burnish.config.options import in_yaml, options_of, papers

PAGE = Path(__file__).parents[1] / "docs" / "algorithms.md"
FACTS = re.compile(r"^<!-- facts: (?P<name>[\w+-]+) -->\n(?:\n\*Facts:\* .*\n)?", re.MULTILINE)


def page(text: str) -> str:
    """The page with its facts as the tables have them."""
    return FACTS.sub(
        lambda match: f"<!-- facts: {match['name']} -->\n\n*Facts:* {facts(match['name'])}\n", text
    )


def facts(name: str) -> str:
    """What the tables say of a row, in one line."""
    return _online(ROWS[name]) if name in ROWS else _preference(name)


def _online(row: Algorithm) -> str:
    options = {o.key.removeprefix(f"{row.name}."): o.default for o in options_of(row.name)}
    parts = [
        f"advantage `{row.advantage}`" + ", whitened" * row.whiten,
        f"loss `{row.loss}`{_range(row)}",
        f"averaged over `{row.aggregation}`",
        f"penalty `{row.kl_estimator}` in the {row.kl}, β {row.beta:g}"
        if row.beta
        else "no penalty",
    ]
    parts += [f"filter `{row.filter}`"] * (row.filter != "none")
    parts += [f"overlong `{row.overlong}`"] * (row.overlong != "none")
    step = f"{options['prompts_per_step']} prompts × {options['responses_per_prompt']}"
    return (
        f"{_linked(row.paper)}. {'; '.join(parts)}. Needs: {', '.join(row.roles)}. "
        f"A step: {step}; learning rate {_rate(options)}."
    ).replace(". advantage", ". Advantage")


def _range(row: Algorithm) -> str:
    if row.loss == "reinforce":
        return ""
    low = max(0.0, 1 - row.clip_low)
    return f" of a ratio in {low:g} to {1 + row.clip_high:g}"


def _preference(name: str) -> str:
    row, options = LOSSES[name], options_of(name)
    own = [o for o in options if o.key.startswith(f"{name}.loss.") and not o.key.endswith(".name")]
    options_of_loss = {o.key.removeprefix(f"{name}.loss."): o.default for o in own if o.default}
    if float(options_of_loss["sft.weight"]) == 0:  # no SFT term: its other options say nothing
        options_of_loss = {k: v for k, v in options_of_loss.items() if not k.startswith("sft.")}
    values = [f"`{key}: {value}`" for key, value in options_of_loss.items()]
    reference = "a reference" if row.reference else "no reference"
    defaults = {o.key.removeprefix(f"{name}."): o.default for o in options}
    return (
        f"{_paper(own)} Options of `loss`: {', '.join(values)}. Needs {reference}"
        f"{', and answers judged singly or pairs taken apart' * row.unpaired}. "
        f"{defaults['batch_size']} prompts a step; learning rate {_rate(defaults)}."
    )


def _paper(own: list[Option]) -> str:
    named = papers(own[-1]) or papers(own[0])
    return f"{_linked(', '.join(named))}." if named else f"{in_yaml(own[-1].section.__doc__ or '')}"


def _linked(named: str) -> str:
    return re.sub(r"arXiv:([\d.]+\d)", r"[arXiv:\1](https://arxiv.org/abs/\1)", named)


def _rate(options: dict[str, str]) -> str:
    return f"{float(options['optimizer.learning_rate']):g}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
