"""Reports of recipes in which a kind of stage occurs several times, and the drawing of their
graph."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import combinations
from typing import Any

import pytest

from burnish.evaluation.contests import contests, drawn_apart, looks
from burnish.evaluation.graph_figure import Box, draw
from burnish.evaluation.report import closing_rows, render_report, verdict, warnings
from burnish.evaluation.verifiable_report import verdict as checked_verdict

SPACE = "\u00a0"


def interval(value: float, half: float, n: int = 120) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def evaluation(
    name: str, models: list[str], *, win_rate: float = 0.8, reference: str = "sft"
) -> dict[str, Any]:
    return {
        "name": name, "kind": "evaluate", "prompts": 120, "reference": reference,
        "judges": [{"name": "gold", "kind": "taste", "unfit": None, "gameable": False,
                "weights": {"direct": 1.0}}],
        "models": [
            {
                "name": m, "gold": interval(0.5, 0.1), "length": interval(20.0, 1.0),
                "truncation_rate": 0.0,
                "kl_ref": None if m == reference else interval(2.0, 0.5),
                "properties": {"direct": 0.5},
            }
            for m in models
        ],
        "comparisons": [
            {"a": a, "b": b, "judge": "gold", "win_rate": interval(win_rate, 0.1),
                "difference": interval(0.1, 0.05)}
            for b, a in combinations(models, 2)
        ],
        "samples": [{"prompt": f"Asked by {name}?",
                "responses": [{"model": m, "text": f"{m} says {name}"} for m in models]}],
    }  # fmt: skip


def stage(
    name: str, kind: str, reads: tuple[str, ...], starts: tuple[str, ...] = ()
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "row": None,
        "reads": list(reads),
        "starts": list(starts),
        "done": True,
    }


STAGES = [
    stage("sft", "sft", (), ("base",)),
    stage("sample", "sample", ("sft",)),
    stage("helpful", "compare", ("sample",)),
    stage("harmless", "compare", ("sample",)),
    stage("first", "reward", ("helpful",)),
    stage("second", "reward", ("harmless",)),
    stage("best", "select", ("sample", "first")),
    stage("revise", "revise", ("sft",)),
    stage("rounds.1.dpo", "preference", ("sft", "helpful"), ("sft",)),
    stage("checked", "evaluate", ("sft", "rounds.1.dpo")),
    stage("rounds.2.dpo", "preference", ("rounds.1.dpo", "helpful"), ("rounds.1.dpo",)),
    stage("soup", "merge", ("rounds.1.dpo", "rounds.2.dpo"), ("rounds.1.dpo", "rounds.2.dpo")),
    stage("rlvr+", "online", ("soup", "second"), ("soup",)),
    stage("evaluate", "evaluate", ("sft", "rounds.1.dpo", "rounds.2.dpo", "rlvr+")),
]


@pytest.fixture
def data() -> dict[str, Any]:
    curve = [
        {"step": s, "loss": 1.0 / s, "reward": float(s), "rewards/chosen": 0.1 * s}
        for s in range(1, 9)
    ]
    reward = {
        "pairs_train": 10, "accuracy": interval(0.6, 0.2), "longer_wins": interval(0.7, 0.1),
        "curve": [{"step": 1, "loss": 0.7, "accuracy": 0.5},
            {"step": 2, "loss": 0.6, "accuracy": 0.5}],
    }  # fmt: skip
    compared = {
        "prompts": 3,
        "responses_per_prompt": 4,
        "comparisons": 9,
        "alpha": interval(0.1, 0.1),
    }
    results = [
        {"name": "sft", "kind": "sft", "examples_train": 1, "steps": 8, "eval_loss_before": 2.0,
            "eval_loss_after": 1.0, "curve": curve},
        {"name": "sample", "kind": "sample", "prompts": 3, "responses_per_prompt": 4,
            "models": ["sft", "base"], "words": 2.5},
        {"name": "helpful", "kind": "compare", **compared,
            "annotators": [{"name": "careful", "votes": 5}]},
        {"name": "harmless", "kind": "compare", **compared,
            "annotators": [{"name": "careful", "votes": 6}],
         "judges": [{"by": "panel", "prompts": 2}, {"by": "judge", "prompts": 1}],
         "judged": {"pairs": 6, "flips": 2}},
        {"name": "first", "kind": "reward", **reward},
        {"name": "second", "kind": "reward", **reward},
        {"name": "best", "kind": "select", "make": "pairs", "prompts": 3, "kept": 4, "answers": 12,
            "without_any": 1, "mean_score": -0.5,
         "best_score": 1.5,
         "samples": [{"prompt": "Chosen for?", "best": "the best of all", "score": 1.5}]},
        {"name": "revise", "kind": "revise", "prompts": 2, "rounds": 2, "principles": 3,
            "changed": 1,
         "samples": [{"prompt": "Rewritten?", "initial": "rude", "revised": "polite",
                 "revisions": [{"principle": "Be nice.", "critique": "too rude"}]}]},
        {"name": "rounds.1.dpo", "kind": "preference", "loss": "dpo", "pairs_train": 1,
            "prompts_train": 1, "steps": 1, "curve": curve},
        evaluation("checked", ["base", "sft", "rounds.1.dpo"], win_rate=0.2),
        {"name": "rounds.2.dpo", "kind": "preference", "loss": "dpo", "pairs_train": 2,
            "prompts_train": 2, "steps": 2, "curve": curve},
        {"name": "soup", "kind": "merge", "of": "policies",
            "models": [{"name": "rounds.1.dpo", "weight": 0.25},
                {"name": "rounds.2.dpo", "weight": 0.75}]},
        {"name": "rlvr+", "kind": "online", "algorithm": {"name": "grpo"}, "steps": 3,
            "curve": curve},
        evaluation("evaluate", ["base", "sft", "rounds.1.dpo", "rounds.2.dpo", "rlvr+"]),
    ]  # fmt: skip
    newest = {result["kind"]: result for result in results}
    costs = [
        {"name": row["name"], "seconds": 2.0, "peak_memory_gb": 0.5, "status": "done"}
        for row in STAGES
    ]
    return {"name": "all", "graph": STAGES, "results": results, "stages": costs, **newest}


class Reader(HTMLParser):
    """Identifiers, and text as a reader sees it."""

    def __init__(self, html: str):
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.links += [(value or "")[1:] for key, value in attrs if key == "href" and tag == "a"]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace(SPACE, " ").split())


def test_the_last_model_is_compared_with_what_it_began_as_among_those_evaluated(
    data: dict[str, Any],
):
    """rlvr+ started from soup, which was not evaluated and is the average of two that were: the
    nearest comes first."""
    assert contests(data)[0] == ("rlvr+", "rounds.1.dpo")
    found = verdict(data)
    assert found.kind == "better"
    assert found.question == "Is the rlvr+ policy better than the rounds.1.dpo policy?"
    assert found.sentence.startswith(
        "The rlvr+ policy was preferred over the rounds.1.dpo policy on 80"
    )
    assert ("rounds.2.dpo", "rounds.1.dpo") in contests(data)
    assert ("rlvr+", "base") in contests(data)
    pairs = [frozenset(pair) for pair in contests(data)]
    assert len(pairs) == len(set(pairs))


@pytest.mark.parametrize(
    ("models", "after", "before"),
    [
        (["base", "sft"], "sft", "base"),
        (
            ["sft", "rounds.2.dpo"],
            "rounds.2.dpo",
            "sft",
        ),  # past rounds.1.dpo, which was not evaluated
        (["base", "rounds.2.dpo"], "rounds.2.dpo", "base"),
        (["sft", "base"], "sft", "base"),  # base began as nothing
        (["base", "sft", "runs/other/model"], "runs/other/model", "sft"),  # nothing is known of it
    ],
)
def test_what_the_verdict_compares(
    data: dict[str, Any], models: list[str], after: str, before: str
):
    changed = {**data, "evaluate": evaluation("evaluate", models)}
    assert contests(changed)[0] == (after, before)
    assert verdict(changed).question == "Did the model get better?"


def test_checked_answers_are_compared_whichever_way_round_they_were_stored(data: dict[str, Any]):
    gap = {"value": 0.25, "low": 0.1, "high": 0.5, "n": 40}
    row = {"a": "base", "b": "sft", "difference": gap, "gained": 12, "lost": 2, "mcnemar_p": 0.01}
    models = [{"name": name, "accuracy": interval(0.5, 0.1)} for name in ("sft", "base")]
    found = {
        **evaluation("evaluate", ["sft", "base"]),
        "verifiable": {"models": models, "comparisons": [row]},
    }
    said = checked_verdict({**data, "evaluate": found})
    assert said is not None
    assert said.kind == "worse"
    assert "−25.0 points (95\u00a0% interval −50.0 to −10.0)" in said.sentence
    assert any("2 became right and 12 became wrong" in line for line in said.details)


def test_a_chart_draws_no_two_models_alike(data: dict[str, Any]):
    shown = drawn_apart(data)
    assert shown == ["base", "rounds.1.dpo", "rlvr+"]
    assert len({looks(data)[name] for name in shown}) == 3


def test_distance_is_named_by_the_evaluation_s_reference(data: dict[str, Any]):
    assert "KL to SFT" in closing_rows(data)[0]
    rows = closing_rows(
        {
            **data,
            "evaluate": evaluation("evaluate", ["sft", "rounds.1.dpo"], reference="rounds.1.dpo"),
        }
    )
    assert [row["KL to rounds.1.dpo"] for row in rows] == ["2.0 (1.5 to 2.5)", "reference"]
    assert [row["Model"] for row in rows] == ["SFT policy", "rounds.1.dpo"]


def test_every_stage_of_a_kind_is_on_the_page_by_its_name(data: dict[str, Any]):
    page = Reader(render_report(data))
    for said in (
        "This is the evaluation evaluate.",
        "checked : No, in simulation. The rounds.1.dpo policy was preferred over the SFT policy",
        "Earlier evaluations",
        "Asked by checked?",
        "rounds.1.dpo says checked",
        "Asked by evaluate?",
        "sft SFT learnt from 1 demonstration in 8 steps",
        "rounds.1.dpo DPO learnt from 1 pair of answers to 1 prompt in 1 step.",
        "rounds.2.dpo DPO learnt from 2 pairs of answers to 2 prompts in 2 steps.",
        "rlvr+ GRPO made 3 rounds",
        "Reward models first On prompts",
        "second On prompts",
        "helpful Prompts 3",
        (
            "harmless Compared by a simulated panel (2 prompts) and a model with a constitution (1"
            " prompt). The model changed its mind on 2 of 6 pairs"
        ),
        "Of three models: the two that the verdict compares, and the first.",
        "11 votes of 1 annotator ",
        "sample sft and base together wrote 4 answers to each of 3 prompts, 2.5 words on average.",
        (
            "best Of 12 answers to 3 prompts the best and the worst became 2 pairs; the mean score"
            " is −0.50, that of each prompt's best answer 1.50. For 1 prompt none was good enough."
        ),
        "the best of all",
        (
            "Answers to 2 prompts were criticised and rewritten by 3 principles, 2 times each: 1 of"
            " them came out different"
        ),
        "Before rude",
        "by: Be nice. too rude",
        "After polite",
        (
            "soup The weights of the policies rounds.1.dpo (25 %) and rounds.2.dpo (75 %) were"
            " averaged."
        ),
    ):
        assert said in page.text, said
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) <= set(page.ids)


def test_a_single_stage_of_each_kind_has_no_heading(data: dict[str, Any]):
    single = [
        row
        for row in data["results"]
        if row["name"] in ("sft", "first", "helpful", "rounds.2.dpo", "evaluate")
    ]
    page = Reader(render_report({**data, "results": single}))
    assert "Reward model On prompts" in page.text
    assert "Training SFT learnt" in page.text
    assert "Earlier evaluations" not in page.text


def test_warnings_name_the_stage_where_there_are_several(data: dict[str, Any]):
    titles = [warning.title for warning in warnings(data)]
    assert "The reward model “first” is hardly better than counting words" in titles
    assert "The reward model “second” is hardly better than counting words" in titles
    assert {"Annotators agree little (helpful)", "Annotators agree little (harmless)"} <= set(
        titles
    )


def _boxes(drawing: str) -> dict[str, tuple[float, float, float, float]]:
    found = re.findall(
        r'<g class="node \w+"><title>([^,<]+)[^<]*</title><rect x="([\d.]+)" y="([\d.]+)"'
        r' width="([\d.]+)" height="([\d.]+)"',
        drawing,
    )
    return {name: (float(x), float(y), float(w), float(h)) for name, x, y, w, h in found}


@pytest.mark.parametrize("columns", [1, 2, 6, 20])
def test_boxes_stand_apart_within_the_drawing_and_after_what_they_read(columns: int):
    boxes = [Box(row["name"], ("kind", "2 s"), reads=tuple(row["reads"])) for row in STAGES]
    drawing = str(draw("d", boxes, columns=columns))
    places = _boxes(drawing)
    assert list(places) == [row["name"] for row in STAGES]
    width, height = map(float, re.findall(r'viewBox="0 0 (\d+) (\d+)"', drawing)[0])
    for x, y, w, h in places.values():
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    for (x, y, w, h), (a, b, c, d) in combinations(places.values(), 2):
        assert x + w <= a or a + c <= x or y + h <= b or b + d <= y
    if columns == 20:
        for row in STAGES:
            assert all(places[one][0] < places[row["name"]][0] for one in row["reads"])
    for row in STAGES:  # the last piece of every edge names its reader
        for one in row["reads"]:
            assert f"<title>{one} → {row['name']}</title>" in drawing


def test_a_drawing_shows_time_memory_kind_and_verdict_and_what_has_not_run(data: dict[str, Any]):
    waiting = {**stage("later", "evaluate", ("rlvr+",)), "done": False}
    html = render_report({**data, "graph": [*STAGES, waiting, stage("report", "report", ())]})
    page = Reader(html)
    # for a page and for a phone
    assert html.count("<title>rounds.2.dpo, preference, 2.0\u00a0s · 0.5\u00a0GB</title>") == 2
    assert "evaluate 2.0 s · 0.5 GB Yes, in simulation" in page.text
    assert '<g class="node worse"><title>checked' in html
    assert '<g class="node waiting"><title>later' in html
    assert "later evaluate not run yet" in page.text
    assert '"><title>report' not in html


def test_long_names_keep_both_ends_and_the_whole_is_said():
    name = "curriculum.12.with-a-very-long-name.preference"
    drawing = str(draw("d", [Box(name), Box("<b>", reads=(name,))], columns=6))
    assert f"<title>{name}</title>" in drawing
    assert ">curricul…reference<" in drawing
    assert "<b>" not in drawing
    assert draw("d", [], columns=6) is None
