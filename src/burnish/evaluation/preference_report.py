"""What the report says of preference optimisation: a sentence, its curves, and the two ways in
which it is known to mislead."""

from __future__ import annotations

from dataclasses import replace

from markupsafe import Markup

from burnish import charts
from burnish.charts import Bar, Look
from burnish.evaluation.contests import model_name
from burnish.evaluation.figures import Figure, Rows, drawn, series, smoothed
from burnish.evaluation.stages import ReportData, focused, found_of
from burnish.evaluation.words import (
    Interval,
    Remark,
    count,
    estimate,
    number,
    part,
    rows_of,
    several,
    share_with_interval,
    with_interval,
)

_ACCURACIES: tuple[tuple[str, str, Look], ...] = (
    ("accuracy", "Policy's rewards, against the annotators", "main"),
    ("ceiling", "Ceiling: what the annotators' noise allows", "second"),
    ("gold_accuracy", "Policy's rewards, against the gold taste", "main"),
    ("longer_wins", "Baseline: the longer answer wins", "third"),
    ("accuracy_longer", "Where the preferred answer is longer", "second"),
    ("accuracy_shorter", "Where it is shorter", "second"),
)
# Title, unit, caption, the two lines of the chart (field of the curve, name).
_CURVES = (
    (
        "Rewards",
        "implicit reward",
        (
            "Of the better and of the worse answer of a pair. They should part; it is best if the"
            " upper one does not sink."
        ),
        (("rewards/chosen", "better answer"), ("rewards/rejected", "worse answer")),
    ),
    (
        "Log-probabilities",
        "nats per answer",
        (
            "How likely the policy finds the answers of a pair. The better ones falling is the"
            " known failure of DPO."
        ),
        (("logps/chosen", "better answer"), ("logps/rejected", "worse answer")),
    ),
    (
        "Pairs ranked right",
        "share of pairs",
        "By the policy's own rewards, step by step; 50 % is a coin.",
        (("rewards/accuracies", "training"), ("eval_rewards/accuracies", "held out")),
    ),
    (
        "Preference loss",
        "loss",
        "Its level depends on the loss; held out counts.",
        (("loss", "training"), ("eval_loss", "held out")),
    ),
    (
        "Distance from the reference",
        "nats per answer",
        (
            "How much less likely the answers in the data have become: KL(π_ref ‖ π) where the"
            " reference wrote them."
        ),
        (("kl_from_reference", "answers in the data"),),
    ),
)


def preference_line(data: ReportData) -> str | None:
    """What preference optimisation did, in a sentence or two."""
    found = part(data, "preference")
    if not found:
        return None
    pairs, prompts = (
        several(number(found.get("pairs_train")), "pair"),
        several(number(found.get("prompts_train")), "prompt"),
    )
    steps = several(number(found.get("steps")), "step")
    rounds = number(found.get("rounds"))
    what = f"{model_name(str(found.get('loss'))).removesuffix(' policy')}"
    text = f"{what} learnt from {pairs} of answers to {prompts} in {steps}"
    text += f", in {count(rounds)} rounds." if rounds and rounds > 1 else "."
    accuracy, falls = estimate(found.get("accuracy")), estimate(found.get("chosen_falls"))
    if found.get("not_evaluated") is not None:
        text += f" It was not evaluated: {found['not_evaluated']}."
    if accuracy is not None:
        text += (
            f" Its rewards rank {share_with_interval(accuracy)} of held-out pairs as the annotators"
            " did."
        )
    if falls is not None:
        text += f" The better answer became less likely in {share_with_interval(falls)} of them."
    return text


def preference_figures(data: ReportData, prefix: str = "") -> list[Figure]:
    """Accuracy beside its bounds, and the curves."""
    found = part(data, "preference")
    rows = rows_of(found, "curve")
    bars = [
        Bar(name, value.value, value.low, value.high, look)
        for key, name, look in _ACCURACIES
        if (value := estimate(found.get(key))) is not None
    ]
    return drawn(
        (
            "Held-out pairs ranked as the annotators did",
            "By the policy's implicit rewards, with 95 % intervals. The dashed line is a coin.",
            charts.bar_chart(
                f"{prefix}preference-accuracy",
                bars,
                title="Pairs ranked as the annotators did",
                reference=0.5,
            ),
        ),
        *(_curve(rows, *row, prefix=prefix) for row in _CURVES),
    )


def preference_warnings(data: ReportData) -> list[Remark]:
    """Chosen and rejected answers that both sink; an accuracy that length explains; of every such
    stage."""
    checks = [
        (stage, check)
        for stage in found_of(data, "preference")
        for view in (focused(data, stage),)
        for check in (_about_sinking(view), _about_length(view))
    ]
    return [
        check if stage.alone else replace(check, title=f"{check.title} ({stage.name})")
        for stage, check in checks
        if check is not None
    ]


def _about_sinking(data: ReportData) -> Remark | None:
    found = part(data, "preference")
    both, chosen, rejected = (
        estimate(found.get(name)) for name in ("both_fall", "rise_chosen", "rise_rejected")
    )
    if both is None or chosen is None or rejected is None or chosen.high is None:
        return None
    if both.value <= 0.5 or chosen.high >= 0.0:
        return None
    text = (
        f"In {share_with_interval(both)} of held-out pairs the better and the worse answer both"
        f" became less likely (the better one by {with_interval(_fallen(chosen), 1)} nats): the"
        " policy moved to answers that nobody compared. Try fewer steps, a larger beta, or an SFT"
        " term (loss.sft.weight)."
    )
    return Remark("Better and worse answers both sink", text)


def _about_length(data: ReportData) -> Remark | None:
    """Right where the preferred answer is longer and no better than a coin where it is shorter, or
    the other way round."""
    found = part(data, "preference")
    longer, shorter = (
        estimate(found.get(name)) for name in ("accuracy_longer", "accuracy_shorter")
    )
    if longer is None or shorter is None or longer.low is None or shorter.low is None:
        return None
    if (longer.low > 0.5) == (shorter.low > 0.5):
        return None
    side, other = ("longer", "shorter") if longer.low > 0.5 else ("shorter", "longer")
    good, bad = (longer, shorter) if side == "longer" else (shorter, longer)
    text = (
        f"The policy's rewards are right on {share_with_interval(good)} of held-out pairs whose"
        f" better answer is the {side} one, and on {share_with_interval(bad)} where it is the"
        f" {other} one: it has not been shown to have learnt more than to prefer {side} answers."
    )
    return Remark("Length explains the gain", text)


def _fallen(rise: Interval) -> Interval:
    low, high = (None if v is None else -v for v in (rise.high, rise.low))
    return Interval(-rise.value, low, high, rise.n)


def _curve(
    rows: Rows,
    title: str,
    unit: str,
    caption: str,
    lines: tuple[tuple[str, str], ...],
    *,
    prefix: str,
) -> tuple[str, str, Markup | None]:
    looks: tuple[Look, ...] = ("main", "second")
    found = [
        series(rows, key, name, look=look) for (key, name), look in zip(lines, looks, strict=False)
    ]
    name = f"{prefix}preference-" + title.lower().replace(" ", "-")
    # The first curve is drawn step by step, so it is the noisy one; what was measured now and then
    # is not smoothed.
    shown = [s for line in found if line.x for s in smoothed(line)]
    share = unit.startswith("share")
    return (
        title,
        caption,
        charts.line_chart(name, shown, title=title, x_label="step", y_label=unit, percent=share),
    )
