"""The report: one self-contained HTML page, readable offline, that says whether the model got
better and what it cost.

`render_report` takes `ReportData`, a plain dict put together from the stages' JSON files. `I` is an
interval, `{"value", "low", "high", "n"}`. Every part may be missing or None: it is then shown as
not run yet.

    name, created (ISO time), version, command, recipe_yaml: str;   wall_seconds, peak_memory_gb:
        float
    model     {name, parameters, quantised}            machine  {cores, memory_gb, platform, torch}
        manifest  any JSON
    stages    [{name, seconds, peak_memory_gb, status, cached}]      planned  names of the recipe's
        stages
    sft       {examples_train, examples_heldout, steps, tokens, eval_loss_before, eval_loss_after,
        curve, eval_curve: [{step, loss}]}
    compare   {prompts, responses_per_prompt, comparisons, pairwise_agreement: I, alpha: I,
        alpha_warning, soft_label_accuracy: I,
               majority_accuracy: I, annotators: [{name, votes, reliability, gold_agreement,
                   first_shown_share}]}
    reward    {pairs_train, pairs_heldout, steps, accuracy: I, ceiling: I, gold_accuracy: I,
        longer_wins: I, brier, ece, gain, bias,
               calibration: [{predicted, observed, count}], length_correlation: {pearson, spearman,
                   …}, curve: [{step, loss, accuracy}]}
    preference {loss, pairs_train, prompts_train, steps, rounds, accuracy: I, accuracy_longer: I,
    accuracy_shorter: I, ceiling: I,
               gold_accuracy: I, longer_wins: I, chosen_falls: I, both_fall: I, rise_chosen: I,
                   rise_rejected: I, margin: I,
               curve: [{step, loss, rewards/chosen, rewards/rejected, rewards/accuracies,
                   logps/chosen, eval_loss, …}]}
    online    {mode, algorithm, steps, curve: [{step, reward, reward_std, kl_ref, entropy,
        approx_kl, clipfrac, explained_variance,
               completion_length, truncation_rate, value_loss, policy_loss, beta,
               "rewards/NAME/mean", "verdicts/NAME/VERDICT", ...}]}
    evaluate  {prompts, models: [{name, gold: I, reward: I, kl_ref: I, length: I, truncation_rate,
        properties: {name: mean}}],
               comparisons: [{a, b, judge: "gold" | "reward model", win_rate: I, difference: I}],
                   weights: {property: weight},
               samples: [{prompt, responses: [{model, text, gold, reward}]}], verifiable (what
               `verifiable.findings` and `verifiable.compare` give): {verifiers, models,
               comparisons, maths_verifier}}
    graph     [{name, kind, row: its loss or algorithm, reads, starts: the policies it was trained
        from, done}]
    results   every stage's result with its name and kind; the parts above are the newest of each
        kind
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from burnish.config.kinds import KINDS
from burnish.evaluation import verifiable_report
from burnish.evaluation.contests import looks, model_name
from burnish.evaluation.figures import outcome_figures, reward_figures
from burnish.evaluation.graph_figure import Box, Look, draw
from burnish.evaluation.headline import (
    judge_facts,
    moved,
    null_caption,
    null_table,
    suites_only,
    verdict,
    warnings_of_judges,
)
from burnish.evaluation.making_report import made
from burnish.evaluation.preference_report import preference_warnings
from burnish.evaluation.stages import Found, ReportData, finished, focused, found_of
from burnish.evaluation.suites import report as suites_report
from burnish.evaluation.summary import Verdict, costs, notes, warnings
from burnish.evaluation.summary import closing_rows as preference_rows
from burnish.evaluation.training_report import trainings
from burnish.evaluation.words import (
    UNKNOWN,
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


def closing_rows(data: ReportData) -> list[dict[str, str]]:
    """The closing table: a row for each evaluated model."""
    return verifiable_report.closing_rows(data) or preference_rows(data)


__all__ = ["ReportData", "closing_rows", "moved", "notes", "render_report", "verdict", "warnings"]

_SHOWN_SAMPLES = 4
_WHO = {
    "panel": "a simulated panel",
    "people": "people",
    "judge": "a model with a constitution",
    "reward": "a reward model",
}
_ABREAST = {"wide": 6, "narrow": 2}  # stages of the graph side by side


def render_report(data: ReportData) -> str:
    """The page. Whatever comes from users, models or data is escaped; the page loads nothing and
    runs no script."""
    environment = Environment(
        loader=PackageLoader("burnish.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_page(data))


def _page(data: ReportData) -> dict[str, Any]:
    """Everything the template shows."""
    manifest, evaluations = data.get("manifest"), found_of(data, "evaluate")
    planned, rewards = (
        data.get("planned"),
        [_reward(data, stage) for stage in found_of(data, "reward")],
    )
    compared = [_compared(stage) for stage in found_of(data, "compare")]
    return {
        "name": data.get("name") or "run",
        "about": _about(data),
        "verdict": verdict(data),
        "evaluation": None if len(evaluations) < 2 else evaluations[-1].name,
        "earlier": [_evaluation(data, stage) for stage in evaluations[:-1]],
        "graphs": _graphs(data),
        "rows": closing_rows(data),
        "notes": notes(data),
        **_judging(data),
        "costs": costs(data),
        "warnings": [
            *warnings_of_judges(data),
            *warnings(data),
            *preference_warnings(data),
            *_left_out(data),
        ],
        "outcome": [*verifiable_report.outcome_figures(data), *outcome_figures(data)],
        "verifiable": verifiable_report.section(data),
        "suites": suites_report.section(data),
        "suites_only": suites_only(data),
        "samples": _samples(data),
        "shown_samples": _SHOWN_SAMPLES,
        "trainings": trainings(data),
        "made": made(data),
        "rewards": rewards,
        "show_reward": rewards or planned is None or "reward" in planned,
        "compares": compared,
        "simulated": _simulated(data),
        "show_annotators": compared or rewards or planned is None or "compare" in planned,
        "stages": _stages(rows_of(data, "stages")),
        "recipe_yaml": data.get("recipe_yaml"),
        "manifest": (
            json.dumps(manifest, indent=2, ensure_ascii=False, default=str) if manifest else None
        ),
        "command": data.get("command"),
        "version": data.get("version"),
    }


def _simulated(data: ReportData) -> bool:
    """Whether simulated annotators, or their taste, said anything in this run."""
    asked = [stage.result.get("by") == "panel" for stage in found_of(data, "compare")]
    tastes = [
        judge.get("kind") == "taste"
        for stage in found_of(data, "evaluate")
        for judge in rows_of(stage.result, "judges")
    ]
    return any((*asked, *tastes))


def _judging(data: ReportData) -> dict[str, Any]:
    """How far the judges can be trusted, and what they say changed."""
    return {
        "moved": moved(data),
        "nulls": null_table(data),
        "null_caption": null_caption(data) if null_table(data) else "",
        "judge_facts": judge_facts(data),
    }


def _evaluation(data: ReportData, stage: Found) -> dict[str, Any]:
    """What is shown of an evaluation before the last one."""
    view = focused(data, stage)
    return {
        "name": stage.name,
        "verdict": verdict(view),
        "rows": closing_rows(view),
        "notes": notes(view),
        **_judging(view),
        "outcome": [
            *verifiable_report.outcome_figures(view, stage.prefix),
            *outcome_figures(view, stage.prefix),
        ],
        "verifiable": verifiable_report.section(view),
        "suites": suites_report.section(view),
        "samples": _samples(view),
    }


def _graphs(data: ReportData) -> dict[str, Markup]:
    """The stages, drawn for a page and for a phone; none of a run of one stage."""
    costs_of = {str(row.get("name")): row for row in rows_of(data, "stages")}
    verdicts = {stage.name: verdict(focused(data, stage)) for stage in found_of(data, "evaluate")}
    stages = [row for row in rows_of(data, "graph") if not _is_the_page(str(row.get("kind")))]
    boxes = [
        _box(row, costs_of.get(str(row.get("name"))), verdicts.get(str(row.get("name"))))
        for row in stages
    ]
    if len(boxes) < 2:
        return {}
    drawn = {
        width: draw(f"stages-{width}", boxes, columns=columns)
        for width, columns in _ABREAST.items()
    }
    return {width: drawing for width, drawing in drawn.items() if drawing is not None}


def _is_the_page(kind: str) -> bool:
    row = KINDS.get(kind)
    return row is not None and row.always


def _trains(kind: str) -> bool:
    row = KINDS.get(kind)
    return row is not None and row.trains


def _box(row: Mapping[str, Any], cost: Mapping[str, Any] | None, found: Verdict | None) -> Box:
    name, kind, of_kind = str(row.get("name")), str(row.get("kind")), row.get("row")
    short = name.rpartition(".")[2]
    texts = (
        []
        if short == kind and not of_kind
        else [kind if not of_kind or of_kind == short else f"{kind}: {of_kind}"]
    )
    if cost is None:
        texts.append("not run yet")
    else:
        texts.append(
            f"{duration(number(cost.get('seconds')))} ·"
            f" {gigabytes(number(cost.get('peak_memory_gb')))}"
        )
    look: Look = "main" if _trains(kind) else "plain"
    if cost is None:
        look = "waiting"
    elif found is not None:
        texts.append(found.headline)
        look = "better" if found.kind == "better" else "worse" if found.kind == "worse" else "plain"
    return Box(name, tuple(texts), look, tuple(str(one) for one in row.get("reads") or ()))


def _about(data: ReportData) -> list[str]:
    """The small line under the title: model, when, where."""
    model, machine = part(data, "model"), part(data, "machine")
    name = model.get("name")
    found = [
        (
            f"{name}{' (weights from a quantised file)' if model.get('quantised') else ''}"
            if name
            else None
        ),
        _moment(data.get("created")),
        machine.get("platform"),
        f"torch {machine['torch']}" if machine.get("torch") else None,
    ]
    return [str(fact) for fact in found if fact]


def _moment(created: Any) -> str | None:
    """An ISO time as "25 July 2026, 14:05"; anything else as it is."""
    if not created:
        return None
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return str(created)
    return (
        f"{moment.day}"
        f" {moment:%B %Y, %H:%M}{' UTC' if moment.tzinfo and not moment.utcoffset() else ''}"
    )


def _samples(data: ReportData) -> list[dict[str, Any]]:
    samples, look = rows_of(part(data, "evaluate"), "samples"), looks(data)
    return [
        {
            "prompt": str(s.get("prompt", "")),
            "responses": [_answer(r, look) for r in rows_of(s, "responses")],
        }
        for s in samples
    ]


def _answer(response: Mapping[str, Any], look: Mapping[str, str]) -> dict[str, str]:
    name = str(response.get("model", "?"))
    scores = ((judge, number(response.get(judge))) for judge in ("gold", "reward"))
    return {
        "model": model_name(name),
        "look": look.get(name, "main"),
        "text": str(response.get("text", "")),
        "scores": " · ".join(
            f"{judge} {plain(value)}" for judge, value in scores if value is not None
        ),
    }


def _left_out(data: ReportData) -> list[Remark]:
    """Updates that no trainer could make, of every stage by its name."""
    skipped = {stage.name: number(stage.result.get("skipped_steps")) for stage in finished(data)}
    told = [f"{count(left)} in {name}" for name, left in skipped.items() if left]
    text = (
        f"The loss or the gradient of some updates was not finite: {', '.join(told)}. They changed"
        " nothing."
    )
    return [Remark("Updates were left out", text)] if told else []


def _reward(data: ReportData, stage: Found) -> dict[str, Any]:
    reward, figures = stage.result, reward_figures(focused(data, stage), stage.prefix)
    return {
        "heading": _heading(stage),
        "figures": figures,
        "sentence": _reward_sentence(reward),
        "facts": _reward_facts(reward),
    }


def _reward_sentence(reward: Mapping[str, Any]) -> str:
    accuracy, ceiling, longer = (
        estimate(reward.get(name)) for name in ("accuracy", "ceiling", "longer_wins")
    )
    if accuracy is None:
        unmeasured = reward.get("not_evaluated")
        return "Its accuracy has not been measured" + (
            f": {unmeasured}." if unmeasured is not None else "."
        )
    text = (
        "On prompts it has not seen, it agrees with the annotators on"
        f" {share_with_interval(accuracy)} of pairs."
    )
    if ceiling is not None:
        text += f" Their own disagreement caps this at about {percent(ceiling.value)}."
    return text + (
        f" Always picking the longer answer gets {percent(longer.value)}."
        if longer is not None
        else ""
    )


def _reward_facts(reward: Mapping[str, Any]) -> list[Remark]:
    correlation = part(reward, "length_correlation")
    gain, inside = number(reward.get("gain")), number(correlation.get("spearman_within"))
    facts = [
        ("Pairs", count(number(reward.get("pairs_train"))),
            f"and {count(number(reward.get('pairs_heldout')))} held out"),
        ("Brier score", plain(number(reward.get("brier")), 3), "0 is perfect"),
        ("Calibration error", plain(number(reward.get("ece")), 3), "expected (ECE)"),
        ("Score and length", plain(number(correlation.get("spearman"))),
            "Spearman" + ("" if inside is None else f"; {plain(inside)} within prompts")),
        ("Score and length", plain(number(correlation.get("pearson"))), "Pearson"),
        *_members(reward),
        ("Gain and bias",
            UNKNOWN if gain is None else f"{plain(gain)} · {plain(number(reward.get('bias')))}",
            "applied to the scores"),
    ]  # fmt: skip
    return _known(facts)


_COMBINED = {
    "mean": "the mean",
    "min": "the least",
    "mean-sd": "the mean less their spread",
    "weights": "one, of averaged weights",
}


def _members(reward: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """How many reward models it is made of and how far they are apart, and what was done about
    length."""
    several, spread = number(reward.get("members")), number(reward.get("spread"))
    found = []
    if several is not None and several > 1:
        how = _COMBINED.get(str(reward.get("combine")), "")
        apart = "" if spread is None else f"; {plain(spread)} apart on held-out answers"
        found.append(("Members", count(several), f"the score is {how}{apart}"))
    slopes = [value for value in reward.get("length_slopes") or () if number(value) is not None]
    if reward.get("decorrelate") == "length" and slopes:
        mean = sum(slopes) / len(slopes)
        found.append(("Length taken out", plain(mean, 4), "of the score, for a token"))
    return found


def _heading(stage: Found) -> str | None:
    """The name of a stage that is not the only one of its kind."""
    return None if stage.alone else stage.name


def _compared(stage: Found) -> dict[str, Any]:
    compare = stage.result
    of_gold = "the gold taste prefers no side of any pair"
    facts = [
        (
            "Prompts",
            count(number(compare.get("prompts"))),
            f"{count(number(compare.get('responses_per_prompt')))} answers each",
        ),
        ("Comparisons", count(number(compare.get("comparisons"))), "pairs of answers"),
    ]
    figures = (
        ("pairwise_agreement", "Pairwise agreement", share_with_interval,
            "two annotators, same pair", "no pair on which two annotators had a preference"),
        ("alpha", "Krippendorff's α", with_interval, "1 is full agreement, 0 chance",
            "no pair with two annotators, or every answer the same"),
        ("soft_label_accuracy", "Soft labels right", share_with_interval, "against the gold taste",
            of_gold),
        ("majority_accuracy", "Plain majority right", share_with_interval, "against the gold taste",
            of_gold),
    )  # fmt: skip
    annotators = [
        {
            "Annotator": str(a.get("name", "?")),
            "Votes": count(number(a.get("votes"))),
            "Reliability": plain(number(a.get("reliability"))),
            "Agrees with gold": percent(number(a.get("gold_agreement"))),
            "Picks the first shown": percent(number(a.get("first_shown_share"))),
        }
        for a in rows_of(compare, "annotators")
    ]
    shown = [
        Remark(title, told, why if told == UNKNOWN else note)
        for key, title, words, note, why in figures
        if key in compare
        for told in [words(estimate(compare[key]))]
    ]
    return {
        "heading": _heading(stage),
        "line": _judges(compare),
        "facts": [*_known(facts), *shown],
        "annotators": annotators,
    }


def _judges(compare: Mapping[str, Any]) -> str | None:
    """Who compared, where it was not a simulated panel alone."""
    judges, judged = rows_of(compare, "judges"), part(compare, "judged")
    if not judges or [row.get("by") for row in judges] == ["panel"]:
        return None
    who = [
        f"{_WHO.get(str(row.get('by')), row.get('by'))}"
        f" ({several(number(row.get('prompts')), 'prompt')})"
        for row in judges
    ]
    text = f"Compared by {' and '.join(who)}."
    flips, pairs = number(judged.get("flips")), number(judged.get("pairs"))
    if flips is None or not pairs:
        return text
    return (
        f"{text} The model changed its mind on {count(flips)} of {several(pairs, 'pair')} when the"
        " answers changed places."
    )


def _known(facts: Sequence[tuple[str, str, str]]) -> list[Remark]:
    return [Remark(title, value, note) for title, value, note in facts if value != UNKNOWN]


def _stages(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the cost table; `share` is of the longest stage, in per cent, for the bar behind
    it."""
    seconds = [number(s.get("seconds")) or 0.0 for s in stages]
    longest = max(seconds, default=0.0) or 1.0
    return [
        {
            "name": str(stage.get("name", "?")),
            "time": duration(number(stage.get("seconds"))),
            "memory": gigabytes(number(stage.get("peak_memory_gb"))),
            "status": (
                f"{stage.get('status') or 'unknown'}{', reused' if stage.get('cached') else ''}"
            ),
            "share": round(100 * taken / longest, 1),
        }
        for stage, taken in zip(stages, seconds, strict=True)
    ]
