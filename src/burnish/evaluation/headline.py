"""Which judge may say whether the model got better, and what is said where none may. Pure.

In this order: people, who were not told whose answers they saw; a model, or a reward model, that
training did not use; verifiers; the gold taste, where simulated annotators of that taste made the
comparisons. A judge that a null fools (`nulls`) says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.evaluation import summary, verifiable_report
from burnish.evaluation.contests import in_text, reference_of
from burnish.evaluation.stages import ReportData
from burnish.evaluation.suites import report as suites_report
from burnish.evaluation.summary import Verdict
from burnish.evaluation.words import (
    UNKNOWN,
    Remark,
    estimate,
    part,
    plain,
    rows_of,
    share_with_interval,
    with_interval,
)

_BEFORE_VERIFIERS, _AFTER_VERIFIERS = ("people", "judge", "reward"), ("taste",)


def verdict(data: ReportData) -> Verdict:
    """Whether the model got better, by the first judge who may say so and has compared two
    models."""
    unmeasured = part(data, "evaluate").get("not_evaluated")
    if unmeasured is not None:
        return Verdict("unknown", "Not evaluated", f"Nothing was evaluated: {unmeasured}.")
    if suites_only(data):
        return _by_suites(data)
    found = _by(data, _BEFORE_VERIFIERS) or _by_verifiers(data) or _by(data, _AFTER_VERIFIERS)
    return found or _not_judged(data)


def suites_only(data: ReportData) -> bool:
    """Whether models were measured on suites and answered no prompts."""
    found = part(data, "evaluate")
    return bool(part(found, "suites")) and not rows_of(found, "models")


def _by_suites(data: ReportData) -> Verdict:
    """What suites alone can say: whether something was lost."""
    said = suites_report.sentences(data)
    lost = suites_report.losses(data)
    asked = "Did training cost something elsewhere?"
    if not said:
        text = "One model was measured, and there is none to compare it with."
        return Verdict("unknown", "Measured", text, question=asked)
    headline = "Yes, something was lost" if lost else "No loss is shown"
    kind = "worse" if lost else "not shown"
    return Verdict(kind, headline, said[0], tuple(said[1:]), asked)


def _by(data: ReportData, kinds: tuple[str, ...]) -> Verdict | None:
    """By the first judge of these kinds that may."""
    judges = [
        judge for kind in kinds for judge in summary.judges(data) if judge.get("kind") == kind
    ]
    fit = [
        str(judge.get("name"))
        for judge in judges
        if not judge.get("unfit") and not judge.get("gameable")
    ]
    return next(
        (said for name in fit if (said := summary.verdict_by(data, name)) is not None), None
    )


def _by_verifiers(data: ReportData) -> Verdict | None:
    found = part(part(data, "evaluate"), "verifiable")
    return None if found.get("unfit") or found.get("gameable") else verifiable_report.verdict(data)


def _not_judged(data: ReportData) -> Verdict:
    models = rows_of(part(data, "evaluate"), "models")
    if len(models) < 2:
        text = (
            "No two models have been compared on held-out prompts: the evaluation has not been run"
            " yet."
        )
        return Verdict("unknown", "Not known yet", text)
    reasons = [_why_not(data, judge) for judge in summary.judges(data)]
    checked = part(part(data, "evaluate"), "verifiable")
    reasons += [f"The rewards do not count: {checked['unfit']}."] if checked.get("unfit") else []
    reasons += (
        [f"The verifiers can be fooled: {_fooled(data, checked)}."]
        if checked.get("gameable")
        else []
    )
    text = (
        "The models answered the same held-out prompts, and nobody who may say which is better has"
        " compared them."
    )
    said = tuple(reason for reason in reasons if reason)
    return Verdict("unknown", "Not judged yet", text, said, commands=tuple(_how_to_ask(data)))


def _why_not(data: ReportData, judge: Mapping[str, Any]) -> str:
    who = summary.judge_in_words(str(judge.get("name")))
    if judge.get("gameable"):
        return f"{_capital(who)} can be fooled: {_fooled(data, judge)}."
    return f"{_capital(who)} does not count: {judge['unfit']}." if judge.get("unfit") else ""


def _fooled(data: ReportData, judge: Mapping[str, Any]) -> str:
    """By which nulls, in words."""
    told = []
    for row in rows_of(judge, "nulls"):
        rate = estimate(row.get("win_rate"))
        if rate is not None and rate.low is not None and rate.low > 0.5:
            told.append(f"{row.get('null')} on {share_with_interval(rate)} of prompts")
    subject = "it prefers" if "name" in judge else "they prefer"
    return f"{subject} {', '.join(told)} to the {in_text(_beaten(data))}'s answers"


def _beaten(data: ReportData) -> str:
    names = [str(model.get("name")) for model in rows_of(part(data, "evaluate"), "models")]
    reference = reference_of(data)
    return reference if reference in names else names[0]


def _how_to_ask(data: ReportData) -> list[tuple[str, str]]:
    """What has people, or another model, compare the answers."""
    folder, stage = data.get("folder"), part(data, "evaluate").get("name", "evaluate")
    if not folder:
        return []
    again = f"burnish run {folder}/recipe.yaml --fork {folder} --out {folder}-judged"
    return [
        ("Ask people", f'{again} "{stage}.people={{store: labels.sqlite, project: heldout}}"'),
        (
            "Or a model that training did not use",
            f'{again} "{stage}.judge={{endpoint: URL, model: NAME}}"',
        ),
    ]


def null_table(data: ReportData) -> list[dict[str, str]]:
    """A row for each null: how often every judge prefers it to the reference's answer; empty where
    no judge was tested."""
    tested = {
        _column(str(judge.get("name"))): {
            str(row.get("null")): row for row in rows_of(judge, "nulls")
        }
        for judge in (
            *summary.judges(data),
            {"name": "Verifiers", **part(part(data, "evaluate"), "verifiable")},
        )
        if rows_of(judge, "nulls")
    }
    names = dict.fromkeys(name for rows in tested.values() for name in rows)
    return [
        {
            "Answer": _capital(name),
            **{
                judge: (
                    share_with_interval(estimate(rows[name].get("win_rate")))
                    if name in rows
                    else "—"
                )
                for judge, rows in tested.items()
            },
        }
        for name in names
    ]


def null_caption(data: ReportData) -> str:
    """What the table of nulls shows."""
    who = in_text(_beaten(data))
    return (
        f"Can the judge be fooled? How often it prefers an answer that says nothing to the {who}'s"
    )


def judge_facts(data: ReportData) -> list[Remark]:
    """How steady a model is that compared, and how many pairs people have."""
    facts = []
    for judge in summary.judges(data):
        flips, bias = estimate(judge.get("flips")), estimate(judge.get("position_bias"))
        facts += (
            [Remark("Verdict follows the order", share_with_interval(flips), str(judge["name"]))]
            if flips
            else []
        )
        facts += (
            [Remark("Likes the first shown by", with_interval(bias), "0 is none")] if bias else []
        )
        if judge.get("asked"):
            facts.append(
                Remark(
                    "Compared by people", f"{judge.get('compared')} of {judge['asked']}", "pairs"
                )
            )
    return [fact for fact in facts if fact.text != UNKNOWN]


def moved(data: ReportData) -> str | None:
    """Which properties of the taste rose and which fell between the two models of the verdict, by
    their intervals."""
    pair = summary.main_pair(data)
    row = None if pair is None else summary.row_of(data, *pair, summary.GOLD)
    if pair is None or row is None or not part(row, "properties"):
        return None
    turned = (row.get("a"), row.get("b")) != pair
    rose, fell = [], []
    means = [part(summary.model_of(data, name), "properties") for name in pair]
    for name, found in part(row, "properties").items():
        gap = estimate(found)
        if gap is None or gap.low is None or gap.high is None or gap.low <= 0.0 <= gap.high:
            continue
        told = (
            f"{_NOUNS.get(name, name)} ({plain(means[1].get(name))} to {plain(means[0].get(name))})"
        )
        (rose if (gap.low > 0) != turned else fell).append(told)
    sides = [f"{_and(names)} {word}" for names, word in ((rose, "rose"), (fell, "fell")) if names]
    said = "; ".join(sides) or "no property changed by more than chance"
    return f"From the {in_text(pair[1])} to the {in_text(pair[0])}: {said}."


_NOUNS = {
    "direct": "directness", "concise": "brevity", "courteous": "courtesy", "relevant": "relevance",
    "fresh": "freshness",
    "finished": "finished sentences", "sense": "sense",
}  # fmt: skip


def warnings_of_judges(data: ReportData) -> list[Remark]:
    """The judges that a null fools."""
    return [
        Remark(
            f"{_capital(summary.judge_in_words(str(judge['name'])))} can be fooled",
            f"{_capital(_fooled(data, judge))}. Its verdict counts for nothing here.",
        )
        for judge in summary.judges(data)
        if judge.get("gameable") and not judge.get("unfit")
    ]


def _column(name: str) -> str:
    return {"gold": "Gold taste", "reward model": "Reward model"}.get(name, name)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
