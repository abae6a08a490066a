"""Rows as tokens, those that do not fit refused or left out: the same for every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from burnish.data.columns import NothingLeft, Record
from burnish.data.lengths import refuse_what_cannot_fit
from burnish.data.render import TooLong, render_each
from burnish.errors import UserError
from burnish.models.backbone import Backbone
from burnish.stages.context import Step

Output = TypeVar("Output")


def render_rows(
    step: Step,
    backbone: Backbone,
    items: Sequence[Record],
    render: Callable[[Record], Output],
    *,
    what: str,
    room: int,
    reserved: int = 0,
    required: bool = True,
) -> list[tuple[Record, Output]]:
    """Each item beside what `render` makes of it.

    Args:
        context: the run; what is left out is counted there as `what`.
        backbone: whose tokenizer and longest input count.
        items: what is read.
        render: raises TooLong for an item of more than `room` tokens.
        what: names the items.
        room: tokens that an item may have.
        reserved: tokens of `model.max_length` that are kept for an answer.
        required: whether there must be an item that fits.

    Raises UserError naming file and row where an item is too long and `data.drop` does not name it,
    and, if one is `required`, where there is none that fits.
    """

    def checked(item: Record) -> Output:
        refuse_what_cannot_fit(backbone.tokenizer, item, max_tokens=room)
        return render(item)

    if not items and required:
        raise UserError(f"there are no {what} to train on: every row of the source is held out.")
    if not items:
        return []
    too_long: Literal["error", "drop"] = (
        "drop" if "too_long" in step.recipe.data.dropped else "error"
    )
    try:
        loaded = render_each(items, checked, too_long=too_long, origins=step.origins)
    except TooLong as error:
        hint = _remedy(step, backbone, reserved)
        raise TooLong(
            error.problem, file=error.file, row=error.row, field=error.field, hint=hint
        ) from error
    except NothingLeft as error:
        if not required:
            step.count_dropped(what, {"too long": len(items)})
            return []
        hint = _remedy(step, backbone, reserved, drop=False)
        raise UserError(
            f"all {len(items)} {what} are longer than the {room} tokens that fit.", hint=hint
        ) from error
    step.count_dropped(what, loaded.dropped)
    return list(loaded.items)


def _remedy(step: Step, backbone: Backbone, reserved: int, *, drop: bool = True) -> str:
    """What to do about rows that are too long, with today's numbers."""
    limit = step.recipe.model.max_length
    kept = f", of which sampling.max_new_tokens keeps {reserved} for the answer" if reserved else ""
    if backbone.context < limit:
        longer = f"this model reads at most {backbone.context} tokens{kept}"
    else:
        longer = (
            f"raise model.max_length ({limit}{kept}; this model reads up to {backbone.context})"
        )
    if not drop:
        return f"{longer[0].upper()}{longer[1:]}."
    joint = ", or " if longer.startswith("raise") else "; "
    return (
        f"Set data.drop=[duplicate, too_long] to leave such rows out and count them{joint}{longer}."
    )
