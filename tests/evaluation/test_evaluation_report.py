from __future__ import annotations

import copy
from html.parser import HTMLParser

import pytest

from burnish.evaluation.report import closing_rows, notes, render_report, verdict, warnings
from burnish.evaluation.summary import compare, costs, duration, in_text

VOID = {"meta", "br", "link", "img", "input", "hr"}


def interval(value, half, n=120):
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def model(name, gold, reward, words, cut):
    return {
        "name": name, "gold": interval(gold, 0.02), "reward": interval(reward, 0.1),
        "length": interval(words, 1.0), "truncation_rate": cut,
        "kl_ref": interval(6.4, 0.6) if name == "ppo" else None,
        "properties": {"direct": gold, "concise": 0.5},
    }  # fmt: skip


@pytest.fixture
def data():
    steps = range(1, 61)
    return {
        "name": "quickstart", "created": "2026-07-25T14:05:00+00:00", "version": "0.1.0",
        "command": "burnish run recipe.yaml",
        "model": {"name": "SmolLM2-135M-Instruct", "parameters": 134_515_008, "quantised": True},
        "machine": {"cores": 2, "memory_gb": 16.8, "platform": "Linux", "torch": "2.13.0"},
        "wall_seconds": 754.0, "peak_memory_gb": 3.92,
        "stages": [{"name": "sft", "seconds": 148.0, "peak_memory_gb": 2.9, "status": "done",
                "cached": True}],
        "sft": {"examples_train": 320, "examples_heldout": 36, "steps": 40, "tokens": 31000,
            "eval_loss_before": 2.61, "eval_loss_after": 1.74,
                "curve": [{"step": s, "loss": 2.0 / s} for s in steps],
                "eval_curve": [{"step": 0, "loss": 2.61}, {"step": 40, "loss": 1.74}]},
        "compare": {"prompts": 220, "responses_per_prompt": 4, "comparisons": 1320,
            "pairwise_agreement": interval(0.69, 0.02),
                    "alpha": interval(0.7, 0.04), "alpha_warning": None,
                    "soft_label_accuracy": interval(0.86, 0.02),
                    "majority_accuracy": interval(0.83, 0.02),
                    "annotators": [{"name": "careful", "votes": 812, "reliability": 0.91,
                            "gold_agreement": 0.84, "first_shown_share": 0.51}]},
        "reward": {"pairs_train": 1320, "pairs_heldout": 240, "steps": 28,
            "accuracy": interval(0.74, 0.05), "ceiling": interval(0.81, 0.04),
            "gold_accuracy": None,
                   "longer_wins": interval(0.38, 0.06), "brier": 0.183, "ece": 0.041,
                   "calibration": [{"predicted": 0.3, "observed": 0.35, "count": 24}],
                   "length_correlation": {"pearson": -0.31, "spearman": -0.28},
                   "curve": [{"step": 1, "loss": 0.69, "accuracy": 0.5}], "gain": 1.3,
                   "bias": -0.4},
        "online": {"algorithm": {"name": "ppo"}, "mode": "adapters", "steps": 60,
            "curve": [{"step": s, "reward": s / 50, "reward_std": 1.0, "kl_ref": s / 9,
                    "entropy": 2.0, "beta": 0.05} for s in steps]},
        "evaluate": {"prompts": 120,
                     "judges": [{"name": "gold", "kind": "taste", "unfit": None, "gameable": False,
                             "weights": {"direct": 1.0, "concise": 1.0}},
                                {"name": "reward model", "kind": "reward",
                                    "unfit": "it is what training was made to please",
                                    "gameable": False}],
                     "models": [model("base", 0.48, -1.1, 48.0, 0.71),
                         model("sft", 0.68, 0.0, 31.0, 0.05), model("ppo", 0.79, 1.3, 27.0, 0.02)],
                     "comparisons": [{"a": "ppo", "b": "sft", "judge": "gold",
                             "win_rate": interval(0.71, 0.08), "difference": interval(0.11, 0.03)},
                                     {"a": "ppo", "b": "sft", "judge": "reward model",
                                         "win_rate": interval(0.86, 0.06),
                                         "difference": interval(1.3, 0.1)}],
                     "samples": [{"prompt": f"Question {n}?",
                             "responses": [{"model": m, "text": f"{m} answer {n}", "gold": 0.5,
                                     "reward": None} for m in ("base", "sft",
                                     "ppo")]} for n in range(6)]},
        "recipe_yaml": "name: quickstart\n", "manifest": {"seed": 0},
    }  # fmt: skip


def win(data, value, half, judge="gold"):
    changed = copy.deepcopy(data)
    for row in changed["evaluate"]["comparisons"]:
        if row["judge"] == judge:
            row["win_rate"] = interval(value, half)
    return changed


def titles(data):
    return [warning.title for warning in warnings(data)]


def spoken(text):
    return text.replace("\u00a0", " ")


class Page(HTMLParser):
    """Checks that tags nest, and collects tags, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)


def test_the_page_nests_and_shows_every_part(data):
    page = Page(render_report(data))
    text = spoken(" ".join(page.text))
    for expected in (
        "Yes, in simulation",
        "135 M",
        "3.9 GB",
        "13 min",
        "812",
        "Question 0?",
        "ppo answer 5",
        "name: quickstart",
        "burnish run recipe.yaml",
        "SmolLM2-135M-Instruct (weights from a quantised file)",
        "25 July 2026, 14:05 UTC",
        "Glossary",
        "done, reused",
    ):
        assert expected in text
    assert "not run yet" not in text
    # stage meter, outcome, training, beta, reward model
    assert page.tags.count("svg") == 1 + 2 + 5 + 1 + 4


def test_identifiers_are_unique_and_links_lead_somewhere(data):
    attributes = Page(render_report(data)).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, name, value in attributes if tag == "a" and name == "href"} <= set(
        ids
    )


def test_the_page_loads_nothing_and_runs_nothing(data):
    html = render_report(data)
    page = Page(html)
    assert "http://" not in html
    assert "https://" not in html
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert "@import" not in html
    assert "url(" not in html
    assert [
        value
        for _, name, value in page.attributes
        if name == "src" or (name == "href" and not value.startswith("#"))
    ] == []
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]


PAYLOAD = (
    """</title></style><script>alert(1)</script><img src=x onerror=alert(1)>"' onload="alert(1)"""
)


def poisoned(value):
    if isinstance(value, str):
        return value + PAYLOAD
    if isinstance(value, dict):
        return {key: poisoned(v) for key, v in value.items()}
    return [poisoned(v) for v in value] if isinstance(value, list) else value


def test_no_text_from_outside_becomes_markup(data):
    """Every string of the data carries a payload; so do names of properties and models. The page
    has the same tags as before."""
    everything = poisoned(data)
    everything["evaluate"]["weights"] = {PAYLOAD: 1.0}
    everything["evaluate"]["models"][0]["properties"] = {PAYLOAD: 0.5}
    page = Page(render_report(everything))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert sum("<script>alert(1)</script>" in text for text in page.text) > 10


def test_samples_keep_a_payload_as_text_where_the_comparison_is_known(data):
    data["name"] = data["evaluate"]["samples"][0]["prompt"] = data["evaluate"]["samples"][0][
        "responses"
    ][0]["text"] = PAYLOAD
    html = render_report(data)
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)") >= 4  # title, heading, prompt, answer


def test_a_run_of_nothing_says_not_run_yet():
    text = " ".join(Page(render_report({})).text)
    assert text.count("not run yet") >= 5
    assert "Not known yet" in text
    assert (closing_rows({}), costs({}), warnings({})) == ([], [], [])


PARTS = (
    "name",
    "created",
    "model",
    "machine",
    "wall_seconds",
    "peak_memory_gb",
    "stages",
    "sft",
    "compare",
    "reward",
    "online",
    "evaluate",
    "recipe_yaml",
    "manifest",
    "command",
)


@pytest.mark.parametrize("missing", PARTS)
@pytest.mark.parametrize("replacement", ["gone", None, {}])
def test_any_part_may_be_missing(data, missing, replacement):
    if replacement == "gone":
        del data[missing]
    else:
        data[missing] = replacement
    Page(render_report(data))


@pytest.mark.parametrize("missing", ["sft", "compare", "reward", "online", "evaluate"])
def test_any_field_of_a_part_may_be_missing_or_not_a_number(data, missing):
    for field in list(data[missing]):
        for value in (None, float("nan"), []):
            changed = copy.deepcopy(data)
            changed[missing][field] = value
            Page(render_report(changed))


def test_better(data):
    found = verdict(data)
    assert found.kind == "better"
    assert (
        spoken(found.sentence)
        == "The PPO policy was preferred over the SFT policy on 71 % of held-out prompts (95 %"
        " interval 63 to 79 %)."
    )
    assert "120 prompts" in found.details[0]


def test_not_shown(data):
    found = verdict(win(data, 0.53, 0.09))
    assert (found.kind, found.headline) == ("not shown", "Not shown")
    assert "the interval contains 50 % (95 % interval 44 to 62 %)" in spoken(found.sentence)


def test_worse(data):
    found = verdict(win(data, 0.31, 0.08))
    assert (found.kind, found.headline) == ("worse", "No, in simulation")
    assert "on 31 % of held-out prompts only (95 % interval 23 to 39 %)" in spoken(found.sentence)


def test_a_bound_at_one_half_is_not_shown_and_one_just_above_is_written_with_a_decimal(data):
    assert verdict(win(data, 0.625, 0.125)).kind == "not shown"
    found = verdict(win(data, 0.604, 0.1))
    assert found.kind == "better"
    assert "95 % interval 50.4 to 70.4 %" in spoken(found.sentence)


def test_no_interval_shows_nothing(data):
    for row in data["evaluate"]["comparisons"]:
        row["win_rate"] = {"value": 1.0, "low": None, "high": None, "n": 1}
    assert verdict(data).kind == "not shown"
    Page(render_report(data))


def test_a_comparison_stored_the_other_way_round_is_turned(data):
    row = data["evaluate"]["comparisons"][0]
    row.update(a="sft", b="ppo", win_rate=interval(0.29, 0.08), difference=interval(-0.11, 0.03))
    found = compare(data, "ppo", "sft", "gold")
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.71, 0.63, 0.79))
    assert verdict(data).kind == "better"
    assert any("0.11 (0.08 to 0.14) more" in line for line in verdict(data).details)


def test_without_ppo_the_verdict_is_on_sft(data):
    data["evaluate"]["comparisons"] = [
        {"a": "sft", "b": "base", "judge": "gold", "win_rate": interval(0.8, 0.05)}
    ]
    assert spoken(verdict(data).sentence).startswith(
        "The SFT policy was preferred over the base model on 80 %"
    )


def test_closing_rows(data):
    rows = [{k: spoken(v) for k, v in row.items()} for row in closing_rows(data)]
    assert rows[2] == {
        "Model": "PPO policy", "Gold taste": "0.79 (0.77 to 0.81)",
        "Reward model": "1.30 (1.20 to 1.40)",
        "KL to SFT": "6.4 (5.8 to 7.0)", "Words": "27.0 (26.0 to 28.0)", "Truncated": "2 %",
    }  # fmt: skip
    assert [row["KL to SFT"] for row in rows] == ["—", "reference", "6.4 (5.8 to 7.0)"]
    assert rows[0]["Reward model"] == "−1.10 (−1.20 to −1.00)"


def test_without_kl_there_is_no_column_and_a_sentence_why(data):
    for model in data["evaluate"]["models"]:
        model["kl_ref"] = None
    data["evaluate"] |= {"sampling": "temperature 0.7", "no_kl": "KL is not shown: for a reason."}
    assert not any(name.startswith("KL") for name in closing_rows(data)[0])
    assert notes(data) == [
        "Answers were drawn at temperature 0.7.",
        "KL is not shown: for a reason.",
    ]
    assert "KL is not shown: for a reason." in render_report(data)


def test_a_clean_run_has_no_warnings(data):
    assert titles(data) == []


def test_warnings_of_chance_and_over_optimisation(data):
    assert titles(win(data, 0.53, 0.09)) == [
        "The difference may be chance",
        "Signs of over-optimisation",
    ]
    assert titles(win(win(data, 0.31, 0.08), 0.4, 0.05, "reward model")) == []


def test_warning_of_length_above_thirty_per_cent_only(data):
    data["evaluate"]["models"][2]["length"] = interval(31.0 * 1.29, 1.0)
    assert titles(data) == []
    data["evaluate"]["models"][2]["length"] = interval(31.0 * 1.35, 1.0)
    assert titles(data) == ["Answers grew longer"]
    assert "35 % more" in spoken(warnings(data)[0].text)


def test_warning_of_truncation_above_ten_per_cent_only(data):
    data["evaluate"]["models"][2]["truncation_rate"] = 0.10
    assert titles(data) == []
    data["evaluate"]["models"][2]["truncation_rate"] = 0.11
    assert titles(data) == ["Many answers are cut off"]


def test_warning_of_low_agreement_and_of_what_the_collection_says_itself(data):
    data["compare"]["alpha"] = interval(0.4, 0.05)
    assert titles(data) == ["Annotators agree little"]
    data["compare"].update(
        alpha=interval(0.8, 0.05), alpha_warning="only 12 items were labelled twice"
    )
    assert titles(data) == ["Agreement is uncertain"]
    assert warnings(data)[0].text == "Only 12 items were labelled twice."


def test_warning_of_a_reward_model_that_length_alone_matches(data):
    """Preferring the shorter answer gets 62 %: an accuracy whose interval reaches down to 60 % has
    not shown more."""
    data["reward"]["accuracy"] = interval(0.66, 0.06)
    assert titles(data) == ["The reward model is hardly better than counting words"]


def test_warning_of_a_single_judge_and_few_prompts(data):
    data["evaluate"]["comparisons"] = [
        {"a": "ppo", "b": "sft", "judge": "reward model", "win_rate": interval(0.8, 0.1, n=12)}
    ]
    assert titles(data) == ["Few held-out prompts"]
    assert verdict(data).headline == "Not judged yet"


def test_costs_count_votes_or_pairs(data):
    assert [(c.title, spoken(c.text)) for c in costs(data)][-1] == ("Labels", "812")
    del data["compare"]
    assert [(c.title, c.text, c.note) for c in costs(data)][-1] == (
        "Labels",
        "1,320",
        "compared pairs",
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (48, "48 s"), (99.9, "2 min"), (754, "13 min"), (11_100, "3 h 05 min")],
)
def test_durations(seconds, text):
    assert spoken(duration(seconds)) == text


def test_what_a_recipe_does_not_have_is_left_out(data):
    del data["reward"]
    for model in data["evaluate"]["models"]:
        model.pop("reward", None)
    assert all("Reward model" not in row for row in closing_rows(data))
    assert 'href="#reward"' in render_report(data)  # not known what was planned: it may come
    assert 'href="#reward"' not in render_report(
        {**data, "planned": ["sft", "preference", "evaluate"]}
    )
    del data["compare"]
    assert 'href="#annotators"' in render_report(data)
    page = render_report({**data, "planned": ["online", "evaluate"]})
    assert 'href="#annotators"' not in page
    assert 'id="annotators"' not in page


@pytest.mark.parametrize(
    ("difference", "text"),
    [
        ((0.05, 0.02, 0.07), "scores 0.05 (0.02 to 0.07) more on average"),
        ((-0.05, -0.07, -0.02), "scores 0.05 (0.02 to 0.07) less on average"),
        ((-0.004, -0.03, 0.02), "the difference is 0.00 (−0.03 to 0.02) on average"),
    ],
)
def test_a_difference_is_told_as_more_less_or_none(data, difference, text):
    for row in data["evaluate"]["comparisons"]:
        row["difference"] = {
            **dict(zip(("value", "low", "high"), difference, strict=True)),
            "n": 120,
        }
    assert text in spoken(" ".join(verdict(data).details))


def test_a_policy_of_any_name_is_a_noun_in_a_sentence():
    assert [in_text(name) for name in ("base", "sft", "grpo", "mine")] == [
        "base model",
        "SFT policy",
        "GRPO policy",
        "mine policy",
    ]
