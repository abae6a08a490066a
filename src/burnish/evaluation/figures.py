"""The report's figures: which part of the data each chart shows, and the words beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from burnish import charts
from burnish.charts import Bar, Look, Point, Series
from burnish.evaluation.contests import contests, drawn_apart, in_text, looks, model_name
from burnish.evaluation.stages import ReportData
from burnish.evaluation.summary import GOLD, REWARD_MODEL, compare, judges
from burnish.evaluation.words import estimate, number, part, plain, rows_of

Rows = Sequence[Mapping[str, Any]]


# Field of the curve, title, unit, caption.
_ONLINE_CURVES = (
    (
        "reward",
        "Reward",
        "mean of a step",
        (
            "Mean reward of the answers, all rewards together; it starts at the level of the policy"
            " that training began with."
        ),
    ),
    (
        "kl_ref",
        "KL to the reference",
        "nats per answer",
        "How far the policy has moved from what it is held to.",
    ),
    (
        "frac_reward_zero_std",
        "Prompts without variance",
        "share of prompts",
        "Prompts whose answers all got the same reward: they teach nothing.",
    ),
    (
        "rewards/uncounted",
        "Answers not judged",
        "share of answers",
        "A verifier's time-outs and errors, masked.",
    ),
    ("completion_length", "Answer length", "tokens", "Mean length of the answers during training."),
    (
        "entropy",
        "Entropy",
        "nats per token",
        "How undecided the policy is at each word. Near 0 it always says the same.",
    ),
)
_HEALTH_CURVES = (
    ("truncation_rate", "Cut-off answers", "share of answers",
        "Answers that ran into the token limit."),
    ("approx_kl", "approx_kl", "nats per token", "How far one update moves the policy."),
    ("clipfrac", "clipfrac", "share of tokens", "Tokens whose update was clipped."),
    ("explained_variance", "explained_variance", "share",
        "How well the critic predicts returns: 1 is perfect, 0 no better than a constant."),
    ("value_loss", "value_loss", "loss", "The critic's loss."),
    ("policy_loss", "policy_loss", "loss", "The policy's loss; its level says little."),
    ("beta", "beta (β)", "weight", "The weight of the KL penalty."),
)  # fmt: skip
_LOOKS: tuple[Look, ...] = ("main", "second", "third")
"""Of the lines in one chart: no more are drawn."""
_ACCURACIES: tuple[tuple[str, str, Look], ...] = (
    ("accuracy", "Reward model, against the annotators", "main"),
    ("ceiling", "Ceiling: what the annotators' noise allows", "second"),
    ("gold_accuracy", "Reward model, against the gold taste", "main"),
    ("longer_wins", "Baseline: the longer answer wins", "third"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with its title and caption."""

    title: str
    caption: str
    chart: Markup


def outcome_figures(data: ReportData, prefix: str = "") -> list[Figure]:
    """Who wins, and which properties of the answers moved; `prefix` begins the identifiers."""
    found = part(data, "evaluate")
    weights = next(
        (part(judge, "weights") for judge in judges(data) if judge.get("kind") == "taste"), {}
    )
    bars = [
        Bar(
            f"{model_name(a)} over {in_text(b)}, {'gold taste' if judge == GOLD else judge}",
            rate.value,
            rate.low,
            rate.high,
            _look_of(judge),
        )
        for a, b in contests(data)
        for judge in (str(row.get("name")) for row in judges(data))
        if (rate := compare(data, a, b, judge)) is not None
    ]
    shown, look = drawn_apart(data), looks(data)
    measured = {str(m.get("name", "?")): part(m, "properties") for m in rows_of(found, "models")}
    models = [(name, properties) for name, properties in measured.items() if name in shown]
    names = dict.fromkeys(name for _, properties in models for name in properties)
    rows = [
        (_weighted(name, number(weights.get(name))), _shares(models, name, look)) for name in names
    ]
    few = (
        ""
        if len(models) == len(measured)
        else " Of three models: the two that the verdict compares, and the first."
    )
    titles = ("How often each model is preferred", "What changed in the answers")
    return drawn(
        (
            titles[0],
            (
                "Share of held-out prompts won, ties counting half, with 95 % intervals over"
                " prompts. The dashed line is 50 %: no difference."
            ),
            charts.bar_chart(f"{prefix}win-rates", bars, title=titles[0], reference=0.5),
        ),
        (
            titles[1],
            "Mean of each property that the gold taste is made of, with its weight. Further right"
            " is more of it." + few,
            charts.dot_plot(f"{prefix}properties", rows, title=titles[1]),
        ),
    )


def _look_of(judge: str) -> Look:
    return "second" if judge == REWARD_MODEL else "main"


def sft_figures(sft: Mapping[str, Any], prefix: str = "") -> list[Figure]:
    """The loss of supervised fine-tuning."""
    train = series(rows_of(sft, "curve"), "loss", "training")
    heldout = series(rows_of(sft, "eval_curve"), "loss", "held out", look="second")
    loss = charts.line_chart(
        f"{prefix}sft-loss",
        [*smoothed(train), heldout],
        title="SFT loss",
        x_label="step",
        y_label="nats per token",
    )
    return drawn(
        (
            "SFT loss",
            "How surprised the model is by the demonstrations. Lower is better; held out counts.",
            loss,
        )
    )


def online_figures(rows: Rows, prefix: str = "") -> list[Figure]:
    """Of online training: the reward, the distance and their trade, each reward's mean, the
    verdicts' shares, prompts without variance, length and entropy."""
    reward, kl, *rest = (_curve(rows, *row, prefix=prefix) for row in _ONLINE_CURVES)
    return drawn(
        reward,
        kl,
        (
            "Reward against KL",
            (
                "What each step away from the reference bought: pale early, strong late. Where it"
                " is flat, more distance bought nothing."
            ),
            _reward_against_kl(rows, prefix),
        ),
        *_components(rows, prefix),
        *_verdicts(rows, prefix),
        *rest,
    )


def _components(rows: Rows, prefix: str) -> Iterator[tuple[str, str, Markup | None]]:
    """The mean of each of several rewards."""
    keys = dict.fromkeys(
        key for row in rows for key in row if key.startswith("rewards/") and key.endswith("/mean")
    )
    for position, key in enumerate(keys):
        title = f"Reward: {key.split('/')[1]}"
        chart = _lines_of(f"{prefix}reward-{position}", title, "value", rows, {title: key})
        yield title, "Mean of its own value over the answers of a step, before weights.", chart


def _verdicts(rows: Rows, prefix: str) -> Iterator[tuple[str, str, Markup | None]]:
    """The shares of each verifier's verdicts."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith("verdicts/"))
    for position, name in enumerate(dict.fromkeys(key.split("/")[1] for key in keys)):
        own = _most_frequent(rows, [key for key in keys if key.split("/")[1] == name])
        lines = {key.split("/", 2)[2]: key for key in own}
        chart = _lines_of(
            f"{prefix}verdicts-{position}", f"Verdicts: {name}", "share of answers", rows, lines
        )
        yield (
            f"Verdicts: {name}",
            "Share of the answers with each verdict; the most frequent are drawn.",
            chart,
        )


def _lines_of(
    name: str, title: str, unit: str, rows: Rows, keys: Mapping[str, str]
) -> Markup | None:
    lines = [
        series(rows, key, label, look=look)
        for look, (label, key) in zip(_LOOKS, keys.items(), strict=False)
    ]
    drawable = [line for line in lines if line.x]
    if not drawable:
        return None
    share = unit.startswith("share")
    return charts.line_chart(
        name, drawable, title=title, x_label="step", y_label=unit, percent=share
    )


def _most_frequent(rows: Rows, keys: Sequence[str]) -> list[str]:
    total = {key: sum(number(row.get(key)) or 0.0 for row in rows) for key in keys}
    return sorted(keys, key=lambda key: -total[key])[: len(_LOOKS)]


def health_figures(rows: Rows, prefix: str = "") -> list[Figure]:
    """What an expert checks of online training: clipping, the critic, β."""
    return drawn(*(_curve(rows, *row, prefix=prefix) for row in _HEALTH_CURVES))


def reward_figures(data: ReportData, prefix: str = "") -> list[Figure]:
    """The reward model's accuracy beside its bounds, its calibration and its training."""
    reward = part(data, "reward")
    rows = rows_of(reward, "curve")
    bars = [
        Bar(name, found.value, found.low, found.high, look)
        for key, name, look in _ACCURACIES
        if (found := estimate(reward.get(key))) is not None
    ]
    loss = [
        *smoothed(series(rows, "loss", "training")),
        series(rows, "eval_loss", "held out", look="second"),
    ]
    right = [
        *smoothed(series(rows, "accuracy", "training")),
        series(rows, "eval_accuracy", "held out", look="second"),
    ]
    return drawn(
        (
            "Pairs ranked as the annotators did",
            "On held-out prompts, with 95 % intervals. The dashed line is a coin.",
            charts.bar_chart(
                f"{prefix}rm-accuracy", bars, title="Accuracy on held-out pairs", reference=0.5
            ),
        ),
        (
            "Calibration",
            (
                "When it says 80 %, is it right 8 times in 10? On the dashed line it is. Larger"
                " dots hold more pairs."
            ),
            charts.calibration_plot(f"{prefix}rm-calibration", _bins(reward), title="Calibration"),
        ),
        (
            "Loss",
            "Bradley–Terry loss; 0.69 is a coin.",
            charts.line_chart(
                f"{prefix}rm-loss", loss, title="Loss", x_label="step", y_label="nats per pair"
            ),
        ),
        (
            "Accuracy",
            "Share of pairs ranked right, step by step; 50 % is a coin.",
            charts.line_chart(
                f"{prefix}rm-steps",
                right,
                title="Accuracy",
                x_label="step",
                y_label="share of pairs",
                percent=True,
            ),
        ),
    )


def drawn(*figures: tuple[str, str, Markup | None]) -> list[Figure]:
    """Those for which there was something to draw."""
    return [Figure(title, caption, chart) for title, caption, chart in figures if chart is not None]


def _weighted(name: str, weight: float | None) -> str:
    return str(name) if weight is None else f"{name} (×{weight:g})"


def _shares(
    models: Sequence[tuple[str, Mapping[str, Any]]], name: str, look: Mapping[str, Look]
) -> list[tuple[str, float, Look]]:
    """(model, value, look) of one property for the models that have it as a share."""
    return [
        (model_name(who), value, look[who])
        for who, properties in models
        if (value := number(properties.get(name))) is not None and 0.0 <= value <= 1.0
    ]


def _bins(reward: Mapping[str, Any]) -> list[tuple[float, float, int]]:
    return [
        (predicted, observed, int(size))
        for row in rows_of(reward, "calibration")
        if (predicted := number(row.get("predicted"))) is not None
        and (observed := number(row.get("observed"))) is not None
        and (size := number(row.get("count")))
    ]


def _curve(
    rows: Rows, key: str, title: str, unit: str, caption: str, *, prefix: str
) -> tuple[str, str, Markup | None]:
    lines = smoothed(series(rows, key, title, spread=f"{key}_std"))
    name = f"{prefix}online-{key.replace('/', '-').replace('_', '-')}"
    return (
        title,
        caption,
        charts.line_chart(
            name,
            lines,
            title=title,
            x_label="step",
            y_label=unit,
            percent=unit.startswith("share of"),
        ),
    )


def _reward_against_kl(rows: Rows, prefix: str) -> Markup | None:
    known = [tuple(number(row.get(key)) for key in ("step", "kl_ref", "reward")) for row in rows]
    places = [
        (s, kl, reward)
        for s, kl, reward in known
        if s is not None and kl is not None and reward is not None
    ]
    last = max((step for step, _, _ in places), default=1.0)
    points = [
        Point(
            kl, r, f"Step {s:g}: KL {plain(kl)}, reward {plain(r)}", s / last if last > 0 else 1.0
        )
        for s, kl, r in places
    ]
    every = -(-len(points) // 200) or 1
    return charts.scatter(
        f"{prefix}reward-kl",
        points[::every],
        title="Reward against KL",
        x_label="KL to the reference, nats",
        y_label="reward",
    )


def series(
    rows: Rows, key: str, name: str, *, look: Look = "main", spread: str | None = None
) -> Series:
    """The rows with a finite step and value; with a band of ± `spread` where every one of them has
    that too."""
    known = [
        (s, v, row)
        for row in rows
        if (s := number(row.get("step"))) is not None and (v := number(row.get(key))) is not None
    ]
    x, y = [s for s, _, _ in known], [v for _, v, _ in known]
    widths = [
        w
        for _, _, row in known
        if spread is not None and (w := number(row.get(spread))) is not None
    ]
    if not known or len(widths) < len(known):
        return Series(name, x, y, look)
    low, high = ([v + sign * w for v, w in zip(y, widths, strict=True)] for sign in (-1.0, 1.0))
    return Series(name, x, y, look, low, high)


def smoothed(series: Series) -> list[Series]:
    """A noisy curve as its moving average over a fifteenth of its points, above the pale values
    themselves."""
    window = len(series.x) // 15
    if window < 3:
        return [series]
    low, high = (
        None if v is None else charts.moving_average(v, window=window)
        for v in (series.low, series.high)
    )
    line = Series(
        series.name,
        series.x,
        charts.moving_average(series.y, window=window),
        series.look,
        low,
        high,
    )
    return [Series(series.name, series.x, series.y, series.look, faint=True), line]
