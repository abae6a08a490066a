"""`burnish evaluate --reward-model M --pairs FILE`: how often reward models agree with a file of
preferences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import UserError


def refuse_others(options: Mapping[str, Any]) -> None:
    """Raise UserError for the first option that is given, by its name: they are of another
    evaluation."""
    for name, value in options.items():
        if value:
            raise UserError(
                "is not read with --reward-model and --pairs.",
                field=name,
                hint="Nothing but reward models is evaluated with them: leave it out.",
            )


def table(
    models: Sequence[str], pairs: str | None, *, out: str | None, say: Callable[[str], None]
) -> str:
    """A row for each subset, a column for each model, and McNemar's p between two. Raises UserError
    without pairs, or for two models of one name."""
    from burnish.cli.evaluate import named_models
    from burnish.evaluation.suites.report import in_columns
    from burnish.evaluation.words import estimate, share_with_interval
    from burnish.stages.reward_pairs import examine_rewards

    if pairs is None or not models:
        missing = "--pairs" if models else "--reward-model"
        hint = "Both belong together: --reward-model runs/first/reward/model --pairs FILE."
        raise UserError("is missing.", field=missing, hint=hint)
    folder = Path(out or "runs/reward-pairs")
    found = examine_rewards(dict(named_models(models)), pairs, folder, say=say)
    rows = []
    for one in found:
        row = {"Subset": str(one["subset"]), "Items": str(one["items"])}
        row |= {
            name: share_with_interval(estimate(own)).replace("\u00a0", " ")
            for name, own in one["models"].items()
        }
        row |= {f"p {of['a']} and {of['b']}": f"{of['p']:.3f}" for of in one["mcnemar"]}
        rows.append(row)
    return "\n".join(in_columns(rows))
