"""What the report says of each stage that trains a policy: a sentence or two, and its curves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish import charts
from burnish.charts import Look, Series
from burnish.evaluation.contests import model_name
from burnish.evaluation.figures import Figure, drawn, health_figures, training_figures
from burnish.evaluation.preference_report import preference_figures, preference_line
from burnish.evaluation.stages import Found, ReportData, focused, found_of
from burnish.evaluation.words import number, part, plain, rows_of, several

_LOOKS: tuple[Look, ...] = ("main", "second", "third")
_MOST_LINES = 3  # in one chart
_TRAINERS = ("sft", "preference", "ppo", "online")


@dataclass(frozen=True, slots=True)
class Training:
    """What is shown of one stage; `heading` is its name where several stages are shown, each by itself."""

    heading: str | None
    lines: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    more: tuple[Figure, ...] = ()


def trainings(data: ReportData) -> list[Training]:
    """Of every stage that trains a policy, in the order in which they ran; together where each kind occurs but once."""
    found = found_of(data, *_TRAINERS)
    if not found:
        return [Training(None, ("SFT: not run yet.", "PPO: not run yet."))]
    if all(stage.alone for stage in found):
        every = [_training(data, stage) for stage in sorted(found, key=lambda stage: _TRAINERS.index(stage.kind))]
        lines, figures, more = (
            tuple(one for training in every for one in getattr(training, field))
            for field in ("lines", "figures", "more")
        )
        return [Training(None, lines, figures, more)]
    return [_training(data, stage) for stage in found]


def _training(data: ReportData, stage: Found) -> Training:
    view, prefix = focused(_without_others(data), stage), stage.prefix
    figures = [*training_figures(view, prefix), *preference_figures(view, prefix)]
    figures += online_figures(rows_of(part(view, "online"), "curve"), prefix)
    return Training(stage.name, (_line(view, stage),), tuple(figures), tuple(health_figures(view, prefix)))


def _without_others(data: ReportData) -> ReportData:
    return {key: value for key, value in data.items() if key not in _TRAINERS}


def _line(view: ReportData, stage: Found) -> str:
    """What the stage did, in a sentence."""
    if stage.kind == "sft":
        return _sft_line(stage.result)
    if stage.kind == "preference":
        return preference_line(view) or ""
    return _online_line(stage)


def _sft_line(sft: Mapping[str, Any]) -> str:
    examples, steps = (
        several(number(sft.get("examples_train")), "demonstration"),
        several(number(sft.get("steps")), "step"),
    )
    before, after = (plain(number(sft.get(key))) for key in ("eval_loss_before", "eval_loss_after"))
    unmeasured = sft.get("not_evaluated")
    if unmeasured is not None:
        return f"SFT learnt from {examples} in {steps}. It was not evaluated: {unmeasured}."
    return f"SFT learnt from {examples} in {steps}; the loss on held-out demonstrations went from {before} to {after} nats per token."


def _online_line(stage: Found) -> str:
    modes = {"adapters": ", with all four roles as adapters on one model", "copies": ", with four full models"}
    how = modes.get(str(stage.result.get("mode")), "") if stage.kind == "ppo" else ""
    name = model_name(str(part(stage.result, "algorithm").get("name", stage.kind))).removesuffix(" policy")
    return f"{name} made {several(number(stage.result.get('steps')), 'round')} of answers, scores and updates{how}."


def online_figures(curve: Sequence[Mapping[str, Any]], prefix: str = "") -> list[Figure]:
    """Of online training: the reward, the distance, each reward's mean, the verdicts' shares, prompts without variance, length and entropy."""
    keys = dict.fromkeys(key for row in curve for key in row)
    means = {key.split("/")[1]: key for key in keys if key.startswith("rewards/") and key.endswith("/mean")}
    by_reward: dict[str, list[str]] = {}
    for key in keys:
        if key.startswith("verdicts/"):
            by_reward.setdefault(key.split("/")[1], []).append(key)
    whole = (
        ("reward", "Reward in training", "weighted sum", "Mean of all rewards together over the answers of a step."),
        ("kl_ref", "KL to the reference", "nats per answer", "How far the policy has moved from what it is held to."),
    )
    charts_of = [_of_key(curve, prefix, *row) for row in whole]
    charts_of += [
        (f"Reward: {name}", "Mean of its own value over the answers of a step, before weights.", _lines_of(f"{prefix}reward-{n}", f"Reward: {name}", "value", curve, {name: key}))
        for n, (name, key) in enumerate(means.items())
    ]  # fmt: skip
    charts_of += [
        (f"Verdicts: {name}", "Share of the answers with each verdict; the most frequent are drawn.",
         _lines_of(f"{prefix}verdicts-{n}", f"Verdicts: {name}", "share of answers", curve, {key.split("/", 2)[2]: key for key in _most_frequent(curve, of)}))
        for n, (name, of) in enumerate(by_reward.items())
    ]  # fmt: skip
    others = (
        ("frac_reward_zero_std", "Prompts without variance", "share of prompts", "Prompts whose answers all got the same reward: they teach nothing."),
        ("rewards/uncounted", "Answers not judged", "share of answers", "A verifier's time-outs and errors, masked."),
        ("completion_length", "Answer length in training", "tokens", "Mean length of the answers."),
        ("entropy", "Entropy in training", "nats per token", "How undecided the policy is at each word."),
    )  # fmt: skip
    charts_of += [_of_key(curve, prefix, *row) for row in others]
    return drawn(*charts_of)


def _of_key(
    curve: Sequence[Mapping[str, Any]], prefix: str, key: str, title: str, unit: str, caption: str
) -> tuple[str, str, Any | None]:
    name = f"{prefix}online-{key.replace('/', '-').replace('_', '-')}"
    return title, caption, _lines_of(name, title, unit, curve, {title: key})


def _lines_of(
    name: str, title: str, unit: str, curve: Sequence[Mapping[str, Any]], keys: Mapping[str, str]
) -> Any | None:
    series = []
    for look, (label, key) in zip(_LOOKS, keys.items(), strict=False):
        places = [(number(row.get("step")), number(row.get(key))) for row in curve]
        points = [(step, value) for step, value in places if step is not None and value is not None]
        if points:
            series.append(Series(label, [x for x, _ in points], [y for _, y in points], look))
    if not series:
        return None
    return charts.line_chart(name, series, title=title, x_label="step", y_label=unit, percent=unit.startswith("share"))


def _most_frequent(curve: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    total = {key: sum(number(row.get(key)) or 0.0 for row in curve) for key in keys}
    return sorted(keys, key=lambda key: -total[key])[:_MOST_LINES]
