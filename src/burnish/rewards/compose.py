"""Several rewards made into one. Pure and torch-free.

For rollout i, over the rewards k that apply to it (their tags meet the prompt's, and their value is
not None):

    r̃_ik = clip_k(normalize_k(r_ik))
    R_i   = Σ_{k a gate} w_k r̃_ik + Σ_{k no gate} (w_k r̃_ik if every gate is open, else min(0, w_k
        r̃_ik))

A gate is open where its own value r_ik (as it came, neither normalized nor clipped) is at least its
threshold. Behind a
shut gate nothing is earned, but what is lost is lost: failing the gate is no way out of a penalty.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from burnish.records import Reward
from burnish.rewards.base import Judged, Judgement

NOT_APPLICABLE, UNTAGGED = "not-applicable", "untagged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How one reward enters the sum.

    Args:
        name: of its component.
        weight: w. 0: measured and shown only; its failures mask nothing.
        tags: it applies to prompts with at least one of these tags; empty: to all. "untagged"
            stands for prompts without any.
        gate: the threshold that makes it a gate; None: it is none.
        normalize: "group" or "batch": (r − mean) / std (population) over the completions of the
            same prompt, or over all that are scored together, where it applies and is counted; 0
            where they do not differ. "none": as it is.
        clip: (low, high) bounds after normalizing.
    """

    name: str
    weight: float = 1.0
    tags: frozenset[str] = frozenset()
    gate: float | None = None
    normalize: Literal["none", "group", "batch"] = "none"
    clip: tuple[float, float] | None = None

    def applies(self, tags: frozenset[str]) -> bool:
        """Whether a prompt with these tags is this reward's business."""
        return not self.tags or bool(self.tags & (tags or {UNTAGGED}))


def compose(
    parts: Sequence[Part],
    judged: Sequence[Judged],
    *,
    groups: Sequence[Hashable],
    tags: Sequence[frozenset[str]],
) -> list[Reward]:
    """One reward for each rollout, by the equation above.

    Components hold each reward's own value as it came; verdicts what each said. A rollout is not
    counted (value 0) when a reward that applies to it, of weight other than 0 or a gate, could not
    judge it, or when no such reward applies to it (verdict "not-applicable", under the name
    "rewards").

    Args:
        parts: K of them.
        judged: K times N judgements, in the order of `parts` and of the rollouts; None values where
            `Part.applies` says no.
        groups: N names of the prompts.
        tags: N sets of the prompts' tags.
    """
    shaped = [_shaped(part, judged[k].judgements, groups) for k, part in enumerate(parts)]
    return [_one(parts, judged, shaped, i) for i in range(len(groups))]


def _one(
    parts: Sequence[Part],
    judged: Sequence[Judged],
    shaped: Sequence[Sequence[float | None]],
    i: int,
) -> Reward:
    said = [(part, judged[k].judgements[i], shaped[k][i]) for k, part in enumerate(parts)]
    verdicts = {part.name: j.verdict for part, j, _ in said if j.verdict is not None}
    components = {part.name: j.value for part, j, _ in said if j.value is not None and j.counted}
    notes: dict[str, str] = {}
    for (part, _, _), one in zip(said, judged, strict=True):
        for name, values in one.logged.items():
            if (number := values[i]) is not None:
                components[name if name not in components else f"{part.name}.{name}"] = number
        for name, values in one.notes.items():
            if (text := values[i]) is not None:
                notes[name if name not in notes else f"{part.name}.{name}"] = text
    serious = [
        (part, j, value) for part, j, value in said if part.weight != 0 or part.gate is not None
    ]
    if any(not j.counted for _, j, _ in serious):
        return Reward(0.0, components, verdicts, counted=False, notes=notes)
    applying = [
        (part, j.value, value)
        for part, j, value in serious
        if j.value is not None and value is not None
    ]
    if not applying:
        return Reward(
            0.0, components, {**verdicts, "rewards": NOT_APPLICABLE}, counted=False, notes=notes
        )
    is_open = all(own >= part.gate for part, own, _ in applying if part.gate is not None)
    earned = [
        part.weight * value if is_open or part.gate is not None else min(0.0, part.weight * value)
        for part, _, value in applying
    ]
    return Reward(math.fsum(earned), components, verdicts, notes=notes)


def _shaped(
    part: Part, judgements: Sequence[Judgement], groups: Sequence[Hashable]
) -> list[float | None]:
    """r̃ of one reward; None where it does not apply or is not counted."""
    values = [j.value if j.counted else None for j in judgements]
    if part.normalize != "none":
        keys = list(groups) if part.normalize == "group" else [None] * len(values)
        members: dict[Hashable, list[float]] = {}
        for key, value in zip(keys, values, strict=True):
            if value is not None:
                members.setdefault(key, []).append(value)
        moments = {key: _moments(group) for key, group in members.items()}
        values = [
            None if v is None else _standard(v, *moments[key])
            for key, v in zip(keys, values, strict=True)
        ]
    if part.clip is None:
        return values
    low, high = part.clip
    return [None if v is None else min(high, max(low, v)) for v in values]


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def _standard(value: float, mean: float, std: float) -> float:
    return (value - mean) / std if std > 1e-8 * max(1.0, abs(mean)) else 0.0
