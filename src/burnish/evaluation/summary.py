"""The report in words and cells: the verdict, the closing table, what it cost, and what to be wary
of. Pure.

Everything is computed from the `ReportData` of `report`; whatever a run does not have is left out
or said to be unknown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from burnish.evaluation.contests import contests, in_text, model_name, question, reference_of
from burnish.evaluation.stages import Found, ReportData, found_of
from burnish.evaluation.words import (
    SPACE,
    UNKNOWN,
    Interval,
    Remark,
    count,
    duration,
    estimate,
    gigabytes,
    number,
    part,
    percent,
    plain,
    rows_of,
    several,
    share_with_interval,
    with_interval,
)
from burnish.statistics.uncertainty import smallest_detectable_effect

GOLD, REWARD_MODEL, PEOPLE = "gold", "reward model", "people"
_FEW_PROMPTS = 30
_LONG = 1.3
_TRUNCATED = 0.10
_LOW_ALPHA = 0.667
_REFERENCE, _UNMEASURED = "reference", "—"
_NOT_MEASURED = (_REFERENCE, _UNMEASURED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "did the model get better?": a headline, one sentence, and what it rests on."""

    kind: Literal["better", "not shown", "worse", "unknown"]
    headline: str
    sentence: str
    details: tuple[str, ...] = ()
    question: str = "Did the model get better?"
    commands: tuple[tuple[str, str], ...] = ()
    """(what for, what to type) where somebody is still to be asked."""


def judges(data: ReportData) -> list[Mapping[str, Any]]:
    """Who was asked, as the stage says: `name`, `kind`, `unfit` (why it may not give a headline),
    `nulls`, `gameable`."""
    return rows_of(part(data, "evaluate"), "judges")


def judge_in_words(name: str) -> str:
    """A judge in the middle of a sentence."""
    if name == GOLD:
        return "the gold taste of the simulated annotators"
    return {REWARD_MODEL: "the reward model", PEOPLE: PEOPLE}.get(name, f"the model {name}")


def verdict_by(data: ReportData, judge: str) -> Verdict | None:
    """Whether the last policy is preferred over the one before, from the interval of its win rate
    on held-out prompts, by one judge.

    "better": the whole interval lies above ½. "worse": below. "not shown": it contains ½, or there
    is none. None: this judge has not compared them.
    """
    for after, before in contests(data):
        rate = compare(data, after, before, judge)
        if rate is not None:
            return replace(
                _said(data, after, before, judge, rate), question=question(data, after, before)
            )
    return None


def main_pair(data: ReportData) -> tuple[str, str] | None:
    """(after, before) of the contest that matters most, of those that anybody has judged."""
    judged = {
        frozenset((row.get("a"), row.get("b")))
        for row in rows_of(part(data, "evaluate"), "comparisons")
    }
    return next((pair for pair in contests(data) if frozenset(pair) in judged), None)


def _said(data: ReportData, after: str, before: str, judge: str, rate: Interval) -> Verdict:
    what = f"was preferred over the {in_text(before)} on {percent(rate.value)} of held-out prompts"
    details = tuple(_grounds(data, after, before, judge, rate))
    if rate.low is None or rate.high is None:
        return Verdict(
            "not shown",
            "Not shown",
            f"The {in_text(after)} {what}, but there are too few prompts for an interval.",
            details,
        )
    digits = 1 if min(abs(rate.low - 0.5), abs(rate.high - 0.5)) < 0.01 else 0
    interval = f"95{SPACE}% interval {100 * rate.low:.{digits}f} to {percent(rate.high, digits)}"
    # What pleases an invented taste is no claim about people, and the headline is read alone.
    simulated = ("Yes, in simulation", "No, in simulation")
    yes, no = simulated if judge == GOLD else ("Yes, it got better", "No, it got worse")
    if rate.low > 0.5:
        return Verdict("better", yes, f"The {in_text(after)} {what} ({interval}).", details)
    if rate.high < 0.5:
        return Verdict("worse", no, f"The {in_text(after)} {what} only ({interval}).", details)
    sentence = (
        f"The {in_text(after)} {what}, but the interval contains 50{SPACE}% ({interval}): the"
        " difference may be chance."
    )
    return Verdict("not shown", "Not shown", sentence, details)


def closing_rows(data: ReportData) -> list[dict[str, str]]:
    """The closing table: a row for each evaluated model; values with their 95 % interval as "0.71
    (0.68 to 0.74)".

    A column that is known of no model (a judge that the run does not have) is left out.
    """
    models = rows_of(part(data, "evaluate"), "models")
    reference = reference_of(data)
    rows = [
        {
            "Model": model_name(str(model.get("name", "?"))),
            "Gold taste": with_interval(estimate(model.get("gold"))),
            "Reward model": with_interval(estimate(model.get("reward"))),
            f"KL to {'SFT' if reference == 'sft' else reference}": _distance(model, reference),
            "Words": with_interval(estimate(model.get("length")), digits=1),
            "Truncated": percent(number(model.get("truncation_rate"))),
        }
        for model in models
    ]
    known = [
        name
        for name in (rows[0] if rows else ())
        if any(row[name] not in (UNKNOWN, *_NOT_MEASURED) for row in rows)
    ]
    return [{name: row[name] for name in known} for row in rows]


def _distance(model: Mapping[str, Any], reference: str) -> str:
    """The cell of a model's KL."""
    if model.get("name") == reference:
        return _REFERENCE
    found = estimate(model.get("kl_ref"))
    return _UNMEASURED if found is None else with_interval(found, digits=1)


def notes(data: ReportData) -> list[str]:
    """What belongs under the closing table: how the answers were drawn, and why a column is not
    there."""
    found = part(data, "evaluate")
    drawn = [f"Answers were drawn at {found['sampling']}."] if found.get("sampling") else []
    blind = [
        f"The gold taste went by words alone: {judge['no_sense']}."
        for judge in judges(data)
        if judge.get("no_sense")
    ]
    return [*drawn, *([str(found["no_kl"])] if found.get("no_kl") else []), *blind]


def costs(data: ReportData) -> list[Remark]:
    """What the run took: time, memory, labels, demonstrations; only what is known."""
    machine, reward = part(data, "machine"), part(data, "reward")
    annotators = [
        one for stage in found_of(data, "compare") for one in rows_of(stage.result, "annotators")
    ]
    imitated = [number(stage.result.get("examples_train")) for stage in found_of(data, "sft")]
    learnt = [value for value in imitated if value is not None]
    votes = sum(number(a.get("votes")) or 0.0 for a in annotators)
    cores, memory, size = (
        number(machine.get("cores")),
        number(machine.get("memory_gb")),
        number(part(data, "model").get("parameters")),
    )
    found = [
        ("Time", duration(number(data.get("wall_seconds"))),
            f"on {cores:.0f} CPU core{'s' if cores != 1 else ''}" if cores else ""),
        ("Peak memory", gigabytes(number(data.get("peak_memory_gb"))),
            f"of {gigabytes(memory)}" if memory else ""),
        ("Model", f"{size / 1e6:,.{0 if size >= 1e7 else 2}f} M" if size else UNKNOWN,
            "parameters"),
        ("Demonstrations", count(sum(learnt)) if learnt else UNKNOWN,
            "to imitate" + (f", in {len(learnt)} stages" if len(learnt) > 1 else "")),
        ("Labels", count(votes),
            f"votes of {several(len({a.get('name') for a in annotators}), 'annotator')}")
        if votes
        else ("Labels", count(number(reward.get("pairs_train"))), "compared pairs"),
    ]  # fmt: skip
    return [Remark(title, value, note) for title, value, note in found if value != UNKNOWN]


def warnings(data: ReportData) -> list[Remark]:
    """What a reader should hold against the result; empty if there is nothing."""
    pair = main_pair(data)
    checks = [_about_reward_model(stage) for stage in found_of(data, "reward")]
    checks += [_about_agreement(stage) for stage in found_of(data, "compare")]
    if pair is not None:
        rates = {
            str(judge["name"]): rate
            for judge in judges(data)
            if (rate := compare(data, *pair, str(judge["name"]))) is not None
        }
        fit = [
            judge["name"]
            for judge in judges(data)
            if not judge.get("unfit") and not judge.get("gameable")
        ]
        checks = [
            *(_about_chance(rate) for judge, rate in rates.items() if judge in fit[:1]),
            _about_optimisation(data, *pair),
            _about_length(data, *pair),
            _about_truncation(data, pair[0]),
            *(_about_prompts(rate) for rate in list(rates.values())[:1]),
            *checks,
        ]
    return [check for check in checks if check is not None]


def compare(data: ReportData, a: str, b: str, judge: str) -> Interval | None:
    """How often a wins over b, whichever way round the comparison was stored."""
    return _compared(data, a, b, judge, field="win_rate", whole=1.0)


def row_of(data: ReportData, a: str, b: str, judge: str) -> Mapping[str, Any] | None:
    """The comparison of two models by one judge, whichever way round it was stored."""
    rows = (
        row for row in rows_of(part(data, "evaluate"), "comparisons") if row.get("judge") == judge
    )
    return next((row for row in rows if {row.get("a"), row.get("b")} == {a, b}), None)


def _compared(
    data: ReportData, a: str, b: str, judge: str, *, field: str, whole: float
) -> Interval | None:
    """A field of the comparison of a with b; seen from the other side its value v is `whole` −
    v."""
    row = row_of(data, a, b, judge)
    found = None if row is None else estimate(row.get(field))
    if row is None or found is None or row.get("a") == a:
        return found
    low, high = (None if v is None else whole - v for v in (found.high, found.low))
    return Interval(whole - found.value, low, high, found.n)


def _negative(found: Interval) -> Interval:
    low, high = (None if bound is None else -bound for bound in (found.high, found.low))
    return Interval(-found.value, low, high, found.n)


def _grounds(data: ReportData, after: str, before: str, judge: str, rate: Interval) -> list[str]:
    who = judge_in_words(judge) + {
        GOLD: ", which is invented and says nothing of what people like",
        PEOPLE: ", who were not told whose answers they saw",
    }.get(judge, "")
    prompts = f"{rate.n:,} prompts that were held out" if rate.n else "Held-out prompts"
    lines = [
        f"{prompts}; both models answered each of them. The judge is {who}; a tie counts half."
    ]
    if (
        rate.n
        and rate.n > 1
        and rate.low is not None
        and rate.high is not None
        and rate.high > rate.low
    ):
        one_prompt = (rate.high - rate.low) / (2 * 1.96) * math.sqrt(rate.n)
        least = 0.5 + smallest_detectable_effect(one_prompt, rate.n)
        lines.append(
            f"With this many prompts, a true win rate under about {percent(min(least, 1.0))} would"
            " be missed more than one time in five."
        )
    level = _compared(data, after, before, judge, field="length_controlled", whole=1.0)
    if level is not None:
        lines.append(f"At equal length of answers it would be about {share_with_interval(level)}.")
    gap = _compared(data, after, before, judge, field="difference", whole=0.0)
    if gap is not None:
        if plain(abs(gap.value)) == plain(0.0):
            told = f"the difference is {with_interval(replace(gap, value=0.0))}"
        else:
            size, more = (gap, "more") if gap.value > 0 else (_negative(gap), "less")
            told = f"the {in_text(after)} scores {with_interval(size)} {more}"
        lines.append(f"On that judge's scale {told} on average.")
    other = compare(data, after, before, REWARD_MODEL) if judge != REWARD_MODEL else None
    if other is not None:
        lines.append(
            "The reward model, a stand-in that training may have learnt to please, prefers the"
            f" {in_text(after)} on {share_with_interval(other)} of the same prompts."
        )
    return lines


def _about_chance(rate: Interval) -> Remark | None:
    if rate.low is None or rate.high is None or rate.low > 0.5 or rate.high < 0.5:
        return None
    text = (
        f"The interval runs from {100 * rate.low:.0f} to {percent(rate.high)} and contains"
        f" 50{SPACE}%, which is what two equal models get. More held-out prompts would narrow it."
    )
    return Remark("The difference may be chance", text)


def _about_optimisation(data: ReportData, after: str, before: str) -> Remark | None:
    gold, proxy = compare(data, after, before, GOLD), compare(data, after, before, REWARD_MODEL)
    if gold is None or proxy is None or not _above_half(proxy) or _above_half(gold):
        return None
    text = (
        f"The reward model prefers the {in_text(after)} on {percent(proxy.value)} of prompts, the"
        f" gold taste on {percent(gold.value)}. The policy may have learnt to please the reward"
        " model rather than people: try a larger KL penalty, fewer steps, or more comparisons."
    )
    return Remark("Signs of over-optimisation", text)


def _above_half(rate: Interval) -> bool:
    return rate.low is not None and rate.low > 0.5


def _about_length(data: ReportData, after: str, before: str) -> Remark | None:
    long, short = (estimate(model_of(data, name).get("length")) for name in (after, before))
    if long is None or short is None or short.value <= 0 or long.value <= _LONG * short.value:
        return None
    text = (
        f"The {in_text(after)} writes {plain(long.value, 0)} words on average, the"
        f" {in_text(before)} {plain(short.value, 0)}: {percent(long.value / short.value - 1)} more."
        " Many judges favour length for its own sake."
    )
    return Remark("Answers grew longer", text)


def _about_truncation(data: ReportData, after: str) -> Remark | None:
    rate = number(model_of(data, after).get("truncation_rate"))
    if rate is None or rate <= _TRUNCATED:
        return None
    text = (
        f"{percent(rate)} of the {in_text(after)}'s answers ran into the token limit and were cut"
        " off there. Scores of cut answers say little; allow more tokens or train it to finish."
    )
    return Remark("Many answers are cut off", text)


def _about_prompts(rate: Interval) -> Remark | None:
    if rate.n is None or rate.n >= _FEW_PROMPTS:
        return None
    return Remark(
        "Few held-out prompts",
        f"Only {rate.n} prompt{'s' if rate.n != 1 else ''}: intervals from so few are rough, and"
        " run too narrow.",
    )


def _about_reward_model(stage: Found) -> Remark | None:
    reward = stage.result
    accuracy, longer = estimate(reward.get("accuracy")), estimate(reward.get("longer_wins"))
    if accuracy is None or accuracy.low is None:
        return None
    by_length = max(longer.value, 1.0 - longer.value) if longer is not None else 0.5
    if accuracy.low > by_length:
        return None
    text = (
        f"It ranks {share_with_interval(accuracy)} of held-out pairs as the annotators did;"
        f" {'a coin' if longer is None else 'going by length alone'} gets {percent(by_length)}. It"
        " has not been shown to know more than that."
    )
    which = "" if stage.alone else f" “{stage.name}”"
    return Remark(
        f"The reward model{which} is hardly better than"
        f" {'a coin' if longer is None else 'counting words'}",
        text,
    )


def _about_agreement(stage: Found) -> Remark | None:
    compare = stage.result
    alpha, said = estimate(compare.get("alpha")), str(compare.get("alpha_warning") or "")
    low = alpha is not None and alpha.value < _LOW_ALPHA
    if not low and not said:
        return None
    texts = [f"{said[:1].upper()}{said[1:]}."] if said else []
    if low:
        texts.insert(
            0,
            f"Krippendorff's α is {with_interval(alpha)}, under the {_LOW_ALPHA} usually asked of"
            " reliable labels. Taste is noisy and this is common; it bounds how well any reward"
            " model can do.",
        )
    where = "" if stage.alone else f" ({stage.name})"
    return Remark(
        f"{'Annotators agree little' if low else 'Agreement is uncertain'}{where}", " ".join(texts)
    )


def model_of(data: ReportData, name: str) -> Mapping[str, Any]:
    """What was measured of a model."""
    models = rows_of(part(data, "evaluate"), "models")
    return next((m for m in models if m.get("name") == name), {})
