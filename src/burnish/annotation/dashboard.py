"""What a project's owner wants to know, as numbers: `dashboard` of a snapshot gives a dictionary
for JSON, pages and the terminal."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

from burnish.annotation.agreement import Vote, krippendorff_alpha, pairwise_agreement
from burnish.annotation.assignment import grade
from burnish.annotation.labels import answer_votes, data_answers, is_ai
from burnish.annotation.records import Labelled
from burnish.annotation.snapshot import Entry, Snapshot
from burnish.annotation.statistics.bias import holm, length_bias, position_bias
from burnish.annotation.statistics.pace import Price, Share, Timed, drift, progress, share, speeds
from burnish.labels.soft import reliabilities
from burnish.statistics.coefficients import (
    Judgement,
    alpha,
    cohen_table,
    fleiss_kappa,
    mean_kappa,
    ratio,
    units_of,
)
from burnish.statistics.dawid_skene import reliability as class_reliability
from burnish.statistics.ranking import Match, annotator_cycles, bradley_terry, elo, model_cycles

FLIPPED = "Asked both ways round, the verdict flipped."
"""The critique of a model whose choice followed the order of showing."""
SIGNIFICANT = 0.05


def dashboard(snapshot: Snapshot, *, resamples: int = 500) -> dict[str, Any]:
    """Progress, cost, agreement, annotators, biases, models and days of a project. NaNs become
    None.

    Skips, training items, tests and reviewers' decisions are left out of agreement and biases; gold
    items count for their pass rate and time alone. Intervals are 95 % percentile bootstraps over
    items with `resamples` draws.
    """
    answers = data_answers(snapshot)
    labels = [one for one in answers if one.source == "label"]
    votes = answer_votes(labels)
    trust = reliabilities(votes)
    people = _annotators(snapshot, labels, votes, trust)
    days = _days(labels)
    found = {
        "project": snapshot.project,
        "currency": snapshot.settings.currency,
        "overlap": snapshot.settings.overlap,
        "progress": _progress(snapshot, labels),
        "kinds": dict(Counter(one.answer.kind for one in labels)),
        "human_labels": sum(not is_ai(one.annotator_kind) for one in labels),
        "ai_labels": sum(is_ai(one.annotator_kind) for one in labels),
        "skips": dict(
            Counter(
                one.answer.skipped for one in snapshot.answers if one.answer.skipped is not None
            )
        ),
        "agreement": _agreement(labels, votes, resamples),
        "people_and_models": _people_and_models(labels, votes),
        "position": position_bias(votes).to_dict(),
        "length": _length(snapshot, votes),
        "annotators": people,
        "models": _models(snapshot, votes, trust, resamples),
        "days": days,
        "drift": _drift_dict(
            [outcome for outcomes in _outcomes(labels, votes).values() for outcome in outcomes]
        ),
    }
    found["warnings"] = warnings(found)
    return _plain(found)


def warnings(found: dict[str, Any]) -> list[str]:
    """What an owner should look at, in plain words."""
    lines = []
    for part, values in (
        ("choices", found["agreement"]["choices"]),
        *found["agreement"]["attributes"].items(),
    ):
        if values and values["warning"]:
            lines.append(f"{part}: {values['warning']}")
    for one in found["annotators"]:
        who = one["name"]
        if one["speeder"]:
            lines.append(f"{who} answers in {100 * one['speed_ratio']:.0f} % of the usual time")
        if (one["position_p_adjusted"] or 1.0) < SIGNIFICANT:
            lines.append(
                f"{who} prefers what is shown"
                f" {'first' if one['position']['share'] > 0.5 else 'last'}"
            )
        if one["gold"]["n"] >= 5 and one["gold"]["high"] < 0.75:
            lines.append(f"{who} passes {one['gold']['right']} of {one['gold']['n']} gold items")
        if one["drift"]["p_value"] < 0.01 and one["drift"]["change"] < 0:
            lines.append(f"{who} agrees less with the others from day to day")
    cycles = found["models"]["cycles"]
    if cycles and cycles["observed"] and cycles["p_value"] < SIGNIFICANT:
        lines.append(f"{cycles['observed']} circles of models, more than noise gives")
    return lines


def summary_lines(found: dict[str, Any]) -> list[str]:
    """The dashboard for a terminal."""
    p, money = found["progress"], found["currency"]
    lines = [
        (
            f"{found['project']}: {p['answered']} of {p['needed']} answers ({p['items_done']} of"
            f" {p['items']} items done), {found['human_labels']} by people, {found['ai_labels']} by"
            " models"
        ),
        f"cost {p['cost']:.2f} {money} so far, {p['cost_to_end']:.2f} to the end; median"
        f" {_number(p['median_seconds'], 0)} s"
        + (f"; {p['days_left']:.1f} days left" if p["days_left"] else ""),
    ]
    choices = found["agreement"]["choices"]
    if choices:
        lines.append(
            f"agreement {_interval(choices['pairwise'], percent=True)}, α"
            f" {_interval(choices['alpha'])}, Fleiss's κ {_number(choices['fleiss']['value'])},"
            f" Cohen's κ {_number(choices['cohen'])}"
        )
    for name, values in found["agreement"]["attributes"].items():
        lines.append(
            f"  {name}: α {_interval(values['alpha'])}, Cohen's κ (quadratic)"
            f" {_number(values['cohen'])}"
        )
    for one in found["people_and_models"]:
        lines.append(
            f"{one['name']} (a model) agrees with people on"
            f" {_interval(one['agreement'], percent=True)}"
        )
    lines += (
        [
            f"{'annotator':20}{'answers':>9}{'median s':>10}{'reliability':>13}{'first shown':>13}{'gold':>10}"  # noqa: E501
        ]
        if found["annotators"]
        else []
    )
    for one in found["annotators"]:
        gold = f"{one['gold']['right']}/{one['gold']['n']}" if one["gold"]["n"] else "–"
        lines.append(
            f"{one['name'][:19]:20}{one['answers']:>9}{_number(one['median_seconds'], 0):>10}"
            f"{_number(one['reliability']):>13}{_percent(one['position']['share']):>13}{gold:>10}"
        )
    for one in found["models"]["ranking"]:
        lines.append(
            f"{one['model']}: {_percent(one['win_chance'])} against an average model, place"
            f" {one['best']} to {one['worst']}"
        )
    return [*lines, *(f"! {line}" for line in found["warnings"])]


def _progress(snapshot: Snapshot, labels: Sequence[Labelled]) -> dict[str, Any]:
    """Of work items and people's answers, since models label beside them; in the cost gold,
    training and skips count too."""
    open_items = {e.item_id: 0 for e in snapshot.entries if e.part == "work" and e.gold is None}
    for one in labels:
        open_items[one.item_id] += not is_ai(one.annotator_kind)
    paid = [one for one in snapshot.answers if not is_ai(one.annotator_kind)]
    timed = [_timed(snapshot, one) for one in paid if one.seconds is not None]
    price = Price(snapshot.settings.price_per_task, snapshot.settings.price_per_hour)
    found = progress(
        open_items,
        overlap=snapshot.settings.overlap,
        timed=timed,
        untimed=len(paid) - len(timed),
        price=price,
    )
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


def _agreement(labels: Sequence[Labelled], votes: Sequence[Vote], resamples: int) -> dict[str, Any]:
    choices = None
    if votes:
        value, warning = krippendorff_alpha(votes, resamples=resamples)
        # Which of a pair is first is arbitrary: both ways round, or agreement by chance would
        # depend on the order of storing.
        said = [Judgement(v.item_id, v.annotator, v.value, f"{v.first}-{v.second}") for v in votes]
        said += [
            Judgement(v.item_id, v.annotator, 1.0 - v.value, f"{v.second}-{v.first}") for v in votes
        ]
        table = cohen_table(said)
        choices = {
            "pairwise": pairwise_agreement(votes, resamples=resamples).to_dict(),
            "alpha": value.to_dict(), "warning": warning,
            "fleiss": fleiss_kappa(units_of(said), resamples=resamples).to_dict(),
            "cohen": mean_kappa(table),
            "cohen_pairs": [{"first": p.first, "second": p.second, "kappa": p.kappa,
                    "shared": p.shared // 2} for p in table],
        }  # fmt: skip
    return {"choices": choices, "attributes": _attribute_agreement(labels, resamples)}


def attribute_judgements(labels: Sequence[Labelled]) -> dict[str, list[Judgement]]:
    """By attribute, each rating of each candidate as a judgement."""
    found: dict[str, list[Judgement]] = defaultdict(list)
    for one in labels:
        for name, values in one.answer.ratings.items():
            found[name] += [
                Judgement(one.item_id, one.annotator, float(value), str(i))
                for i, value in enumerate(values)
                if value is not None
            ]
    return dict(found)


def step_judgements(labels: Sequence[Labelled]) -> dict[str, list[Judgement]]:
    """The verdicts on each step of each candidate as judgements, under one name; empty where nobody
    marked any."""
    found = [
        Judgement(one.item_id, one.annotator, float(value), f"{i}.{at}")
        for one in labels
        for i, row in enumerate(one.answer.step_verdicts)
        for at, value in enumerate(row)
        if value is not None
    ]
    return {"each step": found} if found else {}


def _attribute_agreement(labels: Sequence[Labelled], resamples: int) -> dict[str, Any]:
    found = {}
    for name, said in (attribute_judgements(labels) | step_judgements(labels)).items():
        units = units_of(said)
        value, warning = alpha(units, level="ordinal", resamples=resamples)
        found[name] = {
            "alpha": value.to_dict(), "warning": warning,
            "fleiss": fleiss_kappa(units, resamples=resamples).to_dict(),
            "cohen": mean_kappa(cohen_table(said, weights="quadratic")),
        }  # fmt: skip
    return found


def _people_and_models(labels: Sequence[Labelled], votes: Sequence[Vote]) -> list[dict[str, Any]]:
    """Of each model, how often its decided choices are the side that most people took, and how
    often it followed the order."""
    machine = {one.annotator for one in labels if is_ai(one.annotator_kind)}
    lead: dict[tuple[str, int, int], float] = defaultdict(float)
    for vote in votes:
        if vote.annotator not in machine:
            lead[vote.item_id, vote.first, vote.second] += vote.value - 0.5
    found = []
    for name in sorted(machine):
        agreed: dict[str, float] = defaultdict(float)
        counted: dict[str, float] = defaultdict(float)
        for vote in votes:
            side = lead.get((vote.item_id, vote.first, vote.second), 0.0)
            if vote.annotator == name and vote.value != 0.5 and side:
                agreed[vote.item_id] += (vote.value == 1.0) == (side > 0)
                counted[vote.item_id] += 1
        own = [one for one in labels if one.annotator == name]
        flips = sum(FLIPPED in one.answer.critique for one in own)
        found.append(
            {
                "name": name,
                "agreement": ratio(agreed, counted, resamples=500).to_dict(),
                "flips": flips,
                "labels": len(own),
            }
        )
    return found


def _length(snapshot: Snapshot, votes: Sequence[Vote]) -> dict[str, Any] | None:
    bias = length_bias(votes, _word_counts(snapshot))
    return None if bias is None else bias.to_dict()


def _word_counts(snapshot: Snapshot) -> dict[tuple[str, int], int]:
    return {
        (e.item_id, i): len(text.split())
        for e in snapshot.entries
        for i, text in enumerate(e.candidates)
    }


def _annotators(
    snapshot: Snapshot, labels: Sequence[Labelled], votes: Sequence[Vote], trust: dict[str, float]
) -> list[dict[str, Any]]:
    kinds = {one.annotator: one.annotator_kind for one in snapshot.answers}
    timed = [one for one in labels if one.seconds is not None and not is_ai(one.annotator_kind)]
    pace = speeds([_timed(snapshot, one) for one in timed])
    words, outcomes, gold = _word_counts(snapshot), _outcomes(labels, votes), _gold(snapshot)
    classes = {name: class_reliability(said) for name, said in attribute_judgements(labels).items()}
    own_votes: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        own_votes[vote.annotator].append(vote)
    side = {name: position_bias(own_votes[name]) for name in kinds}
    adjusted = holm({name: one.p_value for name, one in side.items()})
    found = []
    for name in sorted(kinds):
        speed, length = pace.get(name), length_bias(own_votes[name], words)
        found.append(
            {
                "name": name,
                "kind": kinds[name],
                "answers": sum(one.annotator == name for one in labels),
                "skips": sum(
                    one.annotator == name and one.answer.skipped is not None
                    for one in snapshot.answers
                ),
                "median_seconds": speed.median_seconds if speed else None,
                "speed_ratio": speed.ratio if speed else None,
                "speeder": bool(speed and speed.speeder),
                "reliability": trust.get(name),
                "attribute_reliability": {
                    attribute: by[name] for attribute, by in classes.items() if name in by
                },
                "position": side[name].to_dict(),
                "position_p_adjusted": adjusted[name],
                "length": None if length is None else length.to_dict(),
                "gold": gold.get(name, share(0, 0)).to_dict(),
                "drift": _drift_dict(outcomes.get(name, [])),
            }
        )
    return found


def _gold(snapshot: Snapshot) -> dict[str, Share]:
    """By annotator, how many gold items got the pass mark or more."""
    right: Counter[str] = Counter()
    met: Counter[str] = Counter()
    for one in snapshot.answers:
        known = snapshot.by_id[one.item_id].gold
        if known is not None and one.part == "work" and one.source == "label":
            met[one.annotator] += 1
            right[one.annotator] += grade(known, one.answer) >= snapshot.settings.pass_mark
    return {name: share(right[name], met[name]) for name in met}


def _outcomes(
    labels: Sequence[Labelled], votes: Sequence[Vote]
) -> dict[str, list[tuple[date, bool]]]:
    """By annotator, for each decided vote on which the others lean to a side: its day, and whether
    it takes that side."""
    day = {(one.item_id, one.annotator): one.created_at.date() for one in labels}
    lead: dict[tuple[str, int, int], float] = defaultdict(float)
    for vote in votes:
        lead[vote.item_id, vote.first, vote.second] += vote.value - 0.5
    found: dict[str, list[tuple[date, bool]]] = defaultdict(list)
    for vote in votes:
        others = lead[vote.item_id, vote.first, vote.second] - (vote.value - 0.5)
        if vote.value != 0.5 and others:
            found[vote.annotator].append(
                (day[vote.item_id, vote.annotator], (vote.value == 1.0) == (others > 0))
            )
    return found


def _drift_dict(outcomes: Sequence[tuple[date, bool]]) -> dict[str, Any]:
    found = drift(outcomes)
    days = [{"day": day.isoformat(), "agreed": right, "votes": n} for day, right, n in found.days]
    return {"days": days, "change": found.change, "p_value": found.p_value}


def _models(
    snapshot: Snapshot, votes: Sequence[Vote], trust: dict[str, float], resamples: int
) -> dict[str, Any]:
    matches = model_matches(snapshot, votes)
    by_annotator: dict[tuple[str, str], dict[tuple[int, int], float]] = defaultdict(dict)
    for vote in votes:
        if len(snapshot.by_id[vote.item_id].candidates) > 2:
            by_annotator[vote.annotator, vote.item_id][vote.first, vote.second] = vote.value
    cycles = (
        model_cycles(matches)
        if len({m for x in matches for m in (x.first, x.second)}) > 2
        else None
    )
    own = annotator_cycles(by_annotator, {name: 1.0 - theta for name, theta in trust.items()})
    return {
        "ranking": [one.to_dict() for one in bradley_terry(matches, resamples=min(resamples, 300))],
        "elo": elo(matches),
        "cycles": (
            None
            if cycles is None
            else {**_fields(cycles), "examples": [list(three) for three in cycles.examples]}
        ),
        "item_cycles": {**_fields(own), "examples": []},
    }


def model_matches(snapshot: Snapshot, votes: Sequence[Vote]) -> list[Match]:
    """The votes between candidates of different known sources, in the order of the items."""
    found = []
    for vote in votes:
        first, second = (snapshot.by_id[vote.item_id].sources[i] for i in (vote.first, vote.second))
        if first and second and first != second:
            found.append(Match(vote.item_id, first, second, vote.value))
    return found


def _days(labels: Sequence[Labelled]) -> list[dict[str, Any]]:
    by_day: dict[date, Counter[bool]] = defaultdict(Counter)
    for one in labels:
        by_day[one.created_at.date()][is_ai(one.annotator_kind)] += 1
    return [
        {"day": d.isoformat(), "people": by_day[d][False], "models": by_day[d][True]}
        for d in sorted(by_day)
    ]


def _timed(snapshot: Snapshot, one: Labelled) -> Timed:
    return Timed(
        one.annotator,
        one.seconds or 0.0,
        _words(snapshot.by_id[one.item_id]),
        one.created_at.date(),
    )


def _words(entry: Entry) -> int:
    texts = (*entry.candidates, *(m["content"] for m in entry.prompt.messages))
    return sum(len(text.split()) for text in texts)


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _plain(value: Any) -> Any:
    """For JSON: NaN and infinities are None."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _interval(found: dict[str, Any], *, percent: bool = False) -> str:
    write = _percent if percent else _number
    if found["value"] is None:
        return "–"
    return f"{write(found['value'])} ({write(found['low'])} to {write(found['high'])})"
