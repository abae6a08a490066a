"""The report's part on checked answers: the verdict by accuracy, the closing table, and the section
with its figures. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish import charts
from burnish.charts import Bar, Series
from burnish.evaluation.contests import contests, drawn_apart, in_text, looks, model_name, question
from burnish.evaluation.figures import Figure
from burnish.evaluation.stages import ReportData
from burnish.evaluation.summary import Verdict
from burnish.evaluation.words import (
    UNKNOWN,
    Interval,
    Remark,
    count,
    estimate,
    number,
    part,
    percent,
    plain,
    rows_of,
    share_with_interval,
    with_interval,
)


def verdict(data: ReportData) -> Verdict | None:
    """Whether the last policy is right more often than what it began as, from the interval of the
    difference on held-out prompts.

    None where no answers were checked, or fewer than two models.
    """
    found = _main_contest(data)
    if found is None:
        return None
    after, before, row = found
    gap = estimate(row.get("difference"))
    if gap is None:
        return None
    of_after, of_before = (estimate(_model(data, name).get("accuracy")) for name in (after, before))
    shares = f"{_share(of_after)} of held-out prompts, the {in_text(before)} {_share(of_before)}"
    interval = _points_interval(gap)
    details, asked = tuple(_grounds(row, gap)), question(data, after, before)
    what = f"The {in_text(after)} is right on {shares}: a difference of {interval}"
    if gap.low is not None and gap.low > 0:
        return Verdict("better", "Yes, it got better", f"{what}.", details, asked)
    if gap.high is not None and gap.high < 0:
        return Verdict("worse", "No, it got worse", f"{what}.", details, asked)
    return Verdict(
        "not shown",
        "Not shown",
        f"{what}, which contains 0: the difference may be chance.",
        details,
        asked,
    )


def closing_rows(data: ReportData) -> list[dict[str, str]]:
    """A row for each model: accuracy, the largest pass@k, reward, tokens, entropy, what was cut
    off; empty without checked answers."""
    models = rows_of(_verifiable(data), "models")
    shared = [{int(k) for k in part(m, "pass_at")} for m in models]
    largest = max(set.intersection(*shared), default=1) if shared else 1
    evaluated = {str(m.get("name")): m for m in rows_of(part(data, "evaluate"), "models")}
    return [
        {
            "Model": model_name(str(m.get("name", "?"))),
            "Accuracy": share_with_interval(estimate(m.get("accuracy"))),
            **({f"pass@{largest}": share_with_interval(_pass(m, largest))} if largest > 1 else {}),
            "Reward": with_interval(estimate(m.get("reward"))),
            "Tokens": with_interval(estimate(m.get("tokens")), digits=1),
            "Entropy": with_interval(estimate(m.get("entropy"))),
            "Truncated": percent(
                number(evaluated.get(str(m.get("name")), {}).get("truncation_rate"))
            ),
        }
        for m in models
    ]


def outcome_figures(data: ReportData, prefix: str = "") -> list[Figure]:
    """Accuracy of each model, and how pass@k grows with k."""
    bars, lines = _bars(data), _pass_lines(data)
    return _drawn(
        (
            "Right answers",
            (
                "Share of held-out prompts answered rightly, with 95 % intervals over prompts. The"
                " dashed line is the first model's."
            ),
            (
                charts.bar_chart(
                    f"{prefix}accuracy", bars, title="Right answers", reference=bars[0].value
                )
                if bars
                else None
            ),
        ),
        (
            "pass@k",
            (
                "Chance that at least one of k answers is right, without bias. Where only pass@1"
                " rose, the policy chooses better among what the model could do before."
            ),
            (
                charts.line_chart(
                    f"{prefix}pass-at-k",
                    lines,
                    title="pass@k",
                    x_label="k",
                    y_label="share of prompts",
                    percent=True,
                )
                if lines
                else None
            ),
        ),
    )


def _bars(data: ReportData) -> list[Bar]:
    """The accuracy of each model."""
    models, look = rows_of(_verifiable(data), "models"), looks(data)
    return [
        Bar(
            model_name(str(m.get("name"))),
            found.value,
            found.low,
            found.high,
            look.get(str(m.get("name")), "main"),
        )
        for m in models
        if (found := estimate(m.get("accuracy"))) is not None
    ]


def _pass_lines(data: ReportData) -> list[Series]:
    """pass@k of each model that is drawn apart and has more than one k."""
    models, look, shown = rows_of(_verifiable(data), "models"), looks(data), drawn_apart(data)
    return [
        Series(
            model_name(str(m.get("name"))),
            [k for k, _ in places],
            [v for _, v in places],
            look.get(str(m.get("name")), "main"),
        )
        for m in models
        if str(m.get("name")) in shown
        and len(
            places := [
                (float(k), found.value)
                for k in part(m, "pass_at")
                if (found := _pass(m, int(k))) is not None
            ]
        )
        > 1
    ]


def section(data: ReportData) -> dict[str, Any] | None:
    """What the section shows: sentences, tables, the verifier's error rates; None where no answers
    were checked."""
    found = _verifiable(data)
    models = rows_of(found, "models")
    if not models:
        return None
    tables = [
        _pass_table(models),
        _contest_table(data),
        _tag_table(models),
        _component_table(models),
        _verdict_table(models),
        _group_table(models),
    ]
    return {
        "lines": _lines(found, models),
        "tables": [t for t in tables if t["rows"]],
        "verifier": _verifier_facts(part(found, "maths_verifier")),
    }


def _lines(found: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [str(name) for name in found.get("verifiers") or []]
    rule = (
        f"An answer is right if {' and '.join(names)} {'say' if len(names) > 1 else 'says'} so."
        if names
        else (
            "No reward of this run checks answers: one is called right if its reward reaches"
            " pass_at of the stage."
        )
    )
    missed = sum(int(number(m.get("uncounted")) or 0) for m in models)
    drawn = sum(int(number(m.get("completions")) or 0) for m in models)
    lost = (
        f"Of {drawn:,} answers {missed:,} could not be judged, through no fault of theirs; they are"
        " left out."
    )
    return [rule, lost]


def _pass_table(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ks = sorted({int(k) for m in models for k in part(m, "pass_at")})
    rows = [
        {
            "Model": model_name(str(m.get("name"))),
            **{f"pass@{k}": share_with_interval(_pass(m, k)) for k in ks},
        }
        for m in models
        if ks
    ]
    return {"rows": rows, "caption": "pass@k, with 95 % intervals over prompts"}


def _contest_table(data: ReportData) -> dict[str, Any]:
    rows = [
        {
            "Comparison": f"{model_name(after)} and {in_text(before)}",
            "Difference": _points_interval(gap),
            "Newly right": count(number(row.get("gained"))),
            "Newly wrong": count(number(row.get("lost"))),
            "McNemar's p": _p_value(number(row.get("mcnemar_p"))),
            "Detectable": f"{100 * (number(row.get('detectable')) or 0.0):.1f} points",
        }
        for after, before in contests(data)
        if (row := _compared(data, after, before)) is not None
        and (gap := estimate(row.get("difference"))) is not None
    ]
    return {
        "rows": rows,
        "caption": (
            "Differences on the same prompts; newly right and wrong, and McNemar's exact test, of"
            " each prompt's first answer; the smallest true difference that this many prompts would"
            " show four times in five"
        ),
    }


def _tag_table(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    tags = dict.fromkeys(tag for m in models for tag in part(m, "by_tag"))
    rows = [
        {
            "Tag": tag,
            **{_name(m): share_with_interval(estimate(part(m, "by_tag").get(tag))) for m in models},
        }
        for tag in tags
    ]
    return {"rows": rows, "caption": "Right answers by the prompts' tags"}


def _component_table(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = dict.fromkeys(name for m in models for name in part(m, "components"))
    rows = [
        {
            "Reward": name,
            **{_name(m): with_interval(estimate(part(m, "components").get(name))) for m in models},
        }
        for name in names
    ]
    return {"rows": rows, "caption": "Each reward's own value, before weights, on held-out prompts"}


def _verdict_table(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = dict.fromkeys(
        (name, said) for m in models for name, of in part(m, "verdicts").items() for said in of
    )
    rows = [
        {
            "Verdict": f"{name}: {said}",
            **{
                _name(m): count(number(part(part(m, "verdicts"), name).get(said)) or 0.0)
                for m in models
            },
        }
        for name, said in keys
    ]
    return {"rows": rows, "caption": "How many answers got which verdict"}


def _group_table(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = [
        {
            "Model": model_name(str(m.get("name"))),
            "All the same": percent(number(group.get("share"))),
            "All best": percent(number(group.get("all_best"))),
            "All worst": percent(number(group.get("all_worst"))),
        }
        for m in models
        if (group := part(m, "no_variance"))
    ]
    return {
        "rows": rows,
        "caption": (
            "Prompts whose answers all got the same reward: nothing can be learnt by comparing them"
        ),
    }


def _verifier_facts(rates: Mapping[str, Any]) -> list[Remark]:
    if not rates:
        return []
    pairs = f"of the labelled pairs that ship, {count(number(rates.get('pairs')))} in all"
    facts = [
        ("False positives", rates.get("false_positive"), f"wrong answers called right, {pairs}"),
        (
            "False negatives",
            rates.get("false_negative"),
            f"right answers not called right, {pairs}",
        ),
    ]
    return [Remark(title, _rate(estimate(found)), note) for title, found, note in facts]


def _main_contest(data: ReportData) -> tuple[str, str, Mapping[str, Any]] | None:
    for after, before in contests(data):
        row = _compared(data, after, before)
        if row is not None:
            return after, before, row
    return None


def _compared(data: ReportData, after: str, before: str) -> Mapping[str, Any] | None:
    """The comparison of the two, whichever way round it was stored."""
    rows = rows_of(_verifiable(data), "comparisons")
    found = next((row for row in rows if (row.get("a"), row.get("b")) == (after, before)), None)
    if found is None:
        other = next((row for row in rows if (row.get("a"), row.get("b")) == (before, after)), None)
        found = None if other is None else _turned(other)
    return found


def _turned(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A comparison seen from the other side."""
    gap = estimate(row.get("difference"))
    low, high = (
        None if gap is None or bound is None else -bound
        for bound in (gap and gap.high, gap and gap.low)
    )
    turned = None if gap is None else {"value": -gap.value, "low": low, "high": high, "n": gap.n}
    return {**row, "difference": turned, "gained": row.get("lost"), "lost": row.get("gained")}


def _grounds(row: Mapping[str, Any], gap: Interval) -> list[str]:
    prompts = f"{gap.n:,} prompts that were held out" if gap.n else "Held-out prompts"
    lines = [f"{prompts}; both models answered each of them, and every answer was checked."]
    least = number(row.get("detectable"))
    if least:
        lines.append(
            f"With this many prompts, a true difference under about {100 * least:.0f} points would"
            " be missed more than one time in five."
        )
    gained, lost, p = (number(row.get(key)) for key in ("gained", "lost", "mcnemar_p"))
    if gained is not None and lost is not None and p is not None:
        lines.append(
            f"Of the first answers {gained:.0f} became right and {lost:.0f} became wrong (exact"
            f" McNemar test: {_p_value(p)})."
        )
    return lines


def _verifiable(data: ReportData) -> Mapping[str, Any]:
    return part(part(data, "evaluate"), "verifiable")


def _model(data: ReportData, name: str) -> Mapping[str, Any]:
    return next((m for m in rows_of(_verifiable(data), "models") if m.get("name") == name), {})


def _name(model: Mapping[str, Any]) -> str:
    return model_name(str(model.get("name", "?")))


def _pass(model: Mapping[str, Any], k: int) -> Interval | None:
    return estimate(part(model, "pass_at").get(str(k)))


def _share(found: Interval | None) -> str:
    return UNKNOWN if found is None else percent(found.value, 1)


def _rate(found: Interval | None) -> str:
    """A share of a few per cent, with its interval."""
    if found is None or found.low is None or found.high is None:
        return UNKNOWN if found is None else percent(found.value, 1)
    return f"{percent(found.value, 1)} ({100 * found.low:.1f} to {percent(found.high, 1)})"


def _points_interval(gap: Interval) -> str:
    """A difference of shares in points: "+21.0 points (15.2 to 27.1)"."""
    value = plain(100 * gap.value, 1)
    sign = "+" if gap.value > 0 else ""
    if gap.low is None or gap.high is None:
        return f"{sign}{value} points"
    return (
        f"{sign}{value} points (95\u00a0% interval {plain(100 * gap.low, 1)} to"
        f" {plain(100 * gap.high, 1)})"
    )


def _p_value(p: float | None) -> str:
    return UNKNOWN if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _drawn(*figures: tuple[str, str, Any | None]) -> list[Figure]:
    return [Figure(title, caption, chart) for title, caption, chart in figures if chart is not None]
