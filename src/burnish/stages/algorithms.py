"""Whether the parts of a stage's algorithm fit together."""

from __future__ import annotations

from burnish.errors import UserError
from burnish.stages.context import Step
from burnish.trainers.online_settings import resolve_settings


def check_algorithm(step: Step) -> None:
    """Raise UserError naming the stage's key where they do not."""
    try:
        resolve_settings(step.settings)
    except UserError as error:
        field = f"{step.name}.{(error.field or '').removeprefix(f'{step.node.kind}.')}"
        raise UserError(error.problem, field=field, hint=error.hint) from error
