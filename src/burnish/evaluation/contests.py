"""The models of an evaluation: how they are called and drawn, and which of them are worth
comparing. Pure.

What a policy was trained from stands in the data's `graph`, as `starts` of each stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from burnish.charts import Look
from burnish.evaluation.words import part, rows_of

ReportData = Mapping[str, Any]
NAMES = {
    "base": "Base model", "sft": "SFT policy", "ppo": "PPO policy", "dpo": "DPO policy",
    "cdpo": "Conservative DPO policy",
    "rdpo": "Robust DPO policy", "dpo_norm": "Length-normalized DPO policy", "ipo": "IPO policy",
    "hinge": "Hinge policy",
    "simpo": "SimPO policy", "kto": "KTO policy", "orpo": "ORPO policy", "cpo": "CPO policy",
    "grpo": "GRPO policy", "dr-grpo": "Dr. GRPO policy", "dapo": "DAPO policy",
    "gspo": "GSPO policy", "cispo": "CISPO policy",
    "rloo": "RLOO policy", "reinforce++": "REINFORCE++ policy",
    "reinforce++-baseline": "REINFORCE++ policy with baseline",
}  # fmt: skip


def model_name(name: str) -> str:
    """How a model is called: "PPO policy" for ppo; other names stay."""
    return NAMES.get(name, name)


def in_text(name: str) -> str:
    """The same in the middle of a sentence, where a name alone would be no noun."""
    if name == "base":
        return "base model"
    return model_name(name) if name in NAMES else f"{name} policy"


def question(data: ReportData, after: str, before: str) -> str:
    """What the verdict answers: it names the two models where there are more policies."""
    if len([name for name in evaluated(data) if name != "base"]) <= 2:
        return "Did the model get better?"
    return f"Is the {in_text(after)} better than the {in_text(before)}?"


def evaluated(data: ReportData) -> list[str]:
    """The models of the evaluation, in its order."""
    return [str(model.get("name")) for model in rows_of(part(data, "evaluate"), "models")]


def reference_of(data: ReportData) -> str:
    """The model from which the distance of the others was measured."""
    names = evaluated(data)
    named = part(data, "evaluate").get("reference")
    return str(named) if named is not None else "sft" if "sft" in names else "base"


def contests(data: ReportData) -> list[tuple[str, str]]:
    """(after, before) of the comparisons worth showing, the one that matters most first.

    The last policy over what it began as; then the others over what they began as; then each over
    the reference and over base.
    """
    names = evaluated(data)
    begun = [name for name in dict.fromkeys((reference_of(data), "sft", "base")) if name in names]
    policies = [name for name in reversed(names) if name not in begun]
    own = [
        (name, before)
        for name in reversed(names)
        if (before := _began_as(data, name, names)) is not None
    ]
    last = names[-1] if names else None
    if begun and last is not None and last not in begun and last not in [after for after, _ in own]:
        own.insert(0, (last, begun[0]))
    wanted = [
        *own,
        *((policy, before) for before in begun for policy in policies),
        *combinations(begun, 2),
    ]
    if not wanted:
        wanted = list(combinations(reversed(names), 2))
    known = dict[frozenset[str], tuple[str, str]]()
    for pair in wanted:
        known.setdefault(frozenset(pair), pair)
    return list(known.values())


def looks(data: ReportData) -> dict[str, Look]:
    """How each evaluated model is drawn: the last policy stands out, what it began as comes second,
    the others stay behind."""
    names, main = evaluated(data), next(iter(contests(data)), None)
    if main is None:
        return {
            name: "third" if name == "base" else "second" if name == "sft" else "main"
            for name in names
        }
    found: dict[str, Look] = dict.fromkeys(names, "third")
    found[main[1]] = "third" if main[1] == "base" else "second"
    found[main[0]] = "main"
    return found


def drawn_apart(data: ReportData) -> list[str]:
    """The models that a chart with a mark for each can tell apart: the main contest's two and the
    first of the others."""
    main = next(iter(contests(data)), ())
    names = evaluated(data)
    others = [name for name in names if name not in main][: 3 - len(main)]
    return [name for name in names if name in main or name in others]


def _began_as(data: ReportData, name: str, names: Sequence[str]) -> str | None:
    """The nearest of the evaluated models that a policy was trained from, or averaged of; None:
    none is known."""
    starts = {
        str(row.get("name")): [str(one) for one in row.get("starts") or ()]
        for row in rows_of(data, "graph")
    }
    waiting, seen = list(starts.get(name, ())), set[str]()
    while waiting:
        one = waiting.pop(0)
        if one in names and one != name:
            return one
        if one not in seen:
            seen.add(one)
            waiting += starts.get(one, ())
    return None
