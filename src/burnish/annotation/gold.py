"""Whether a known answer can be given at all: an item that nobody can pass shuts everybody out of
the work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.annotation.settings import Settings

_ASKED = {
    "pairwise": ("strength", "ranks", "flags"),
    "ranking": ("ranks", "flags"),
    "best_worst": ("best", "worst", "flags"),
    "likert": ("ratings", "flags"),
    "rubric": ("verdicts", "flags"),
    "correction": ("flags",),
    "demonstration": (),
    "chat": (),
}
"""By kind of task, the parts of a known answer that an annotator's answer is held against."""


def unpassable(
    gold: Mapping[str, Any], kind: str, candidates: int, settings: Settings
) -> tuple[str, str] | None:
    """Why nobody can give this known answer, as (field, reason); None where somebody can.

    A part that the kind of task does not ask for, a flag or an attribute that the project does not
    have, a rating off its scale, a tie where none is offered: whatever is answered,
    `assignment.grade` finds it wrong.
    """
    given = {name: value for name, value in gold.items() if value is not None and value != {}}
    asked = _ASKED[kind]
    if not given:
        wanted = f"Give {' or '.join(asked)}." if asked else f"A {kind} item has no known answer."
        return "", f"holds nothing that an answer could be held against. {wanted}"
    for name in given:
        if name not in asked and not (
            name == "ranks" and _rates_overall(kind, candidates, settings)
        ):
            what = (
                f"known answers of its kind are {' and '.join(asked)}"
                if asked
                else "it has no known answer"
            )
            return name, f"is not asked of a {kind} item ({what}): nobody could pass it."
    return _off_scale(given, settings) or _no_tie(given, kind, settings)


def _rates_overall(kind: str, candidates: int, settings: Settings) -> bool:
    """Whether ratings give an order: those of an attribute called "overall" do."""
    return (
        kind == "likert"
        and candidates > 1
        and any(a.name == "overall" for a in settings.attributes)
    )


def _off_scale(given: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
    flag = next((name for name in given.get("flags", {}) if name not in settings.flags), None)
    if flag is not None:
        return (
            f"flags.{flag}",
            (
                f"is no flag of this project ({', '.join(settings.flags) or 'none'}): nobody could"
                " set it."
            ),
        )
    known = {attribute.name: attribute for attribute in settings.attributes}
    for name, values in given.get("ratings", {}).items():
        if name not in known:
            return (
                f"ratings.{name}",
                f"is not rated in this project ({', '.join(known) or 'nothing'}).",
            )
        low, high = known[name].low, known[name].high
        if not all(low <= value <= high for value in values):
            return f"ratings.{name}", f"is off the scale, which goes from {low} to {high}."
    return None


def _no_tie(given: Mapping[str, Any], kind: str, settings: Settings) -> tuple[str, str] | None:
    ranks = given.get("ranks")
    tied = given.get("strength") == 0 or (ranks is not None and len(set(ranks)) == 1)
    offered = settings.ties or settings.both_bad if kind == "pairwise" else settings.tie
    if not tied or offered:
        return None
    return (
        "strength" if ranks is None else "ranks",
        "is a tie, which is not offered in this project.",
    )
