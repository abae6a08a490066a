"""The maths verifier: where the answer is found, how it is compared, and what happens to
comparisons that hang or crash."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from burnish.errors import UserError
from burnish.evaluation.verifiable import labelled_pairs, verifier_rates
from burnish.rewards import maths_worker
from burnish.rewards.cleaning import clean
from burnish.rewards.extract import boxed, extract, last_number
from burnish.rewards.maths import MathsReward, MathsVerifier, gold_answer
from burnish.rewards.numbers import equal, read_number

GSM8K = (
    Path(__file__).parents[2].parent / "shared" / "data" / "gsm8k" / "example_model_solutions.jsonl"
)


@pytest.fixture(scope="module")
def verifier():
    one = MathsVerifier(timeout=3.0)
    yield one
    one.close()


@pytest.mark.parametrize(
    ("text", "answer", "place"),
    [
        (r"#### 5 <answer>4</answer> \boxed{3} then 9", "3", "boxed"),
        (r"\boxed{1} \boxed{\frac{1}{2}} 9", r"\frac{1}{2}", "boxed"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
        (r"\boxed 7 and 8", "7", "boxed"),
        (r"\boxed{7", "7", "number"),
        ("#### 5 <answer>4</answer> 9", "4", "answer"),
        ("<answer>3</answer><answer>4</answer>", "4", "answer"),
        ("2 is\n#### 5 apples\n\n", "5 apples", "####"),
        ("2 is\n#### 5\nQuestion: 9?", "5", "####"),
        ("#### Step 1: 4 + 5\nThe answer is 9.", "9", "number"),
        ("#### Step 1\n4 + 4\n#### 2. Step\nso 8", "8", "number"),
        ("##### 7\nso 8", "8", "number"),
        ("#### 7 and that took 12 minutes", "7", "####"),
        ("#### 7\n####", "7", "####"),
        ("#### 5\n#### 6", "6", "####"),
        ("from 3 to 1,234.50.", "1,234.50", "number"),
        ("it is -3", "-3", "number"),
        ("10-3", "3", "number"),
        ("**42**", "42", "number"),
        ("half, 3/4, of it", "3/4", "number"),
        ("costs $5.", "$5", "number"),
        ("up by 12%.", "12%", "number"),
    ],
)
def test_the_first_rule_that_holds_and_its_last_occurrence(text, answer, place):
    assert extract(text) == (answer, place)


@pytest.mark.parametrize(
    "text", ["", "no idea", r"\boxed{}", r"5 but \boxed{ }", "<answer> </answer> 5", "Room A7B"]
)
def test_no_answer(text):
    assert extract(text) is None


def test_pieces_of_the_rule():
    assert boxed(r"\boxed{a\}b}") == r"a\}b"
    assert last_number("no") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.5", Fraction(2469, 2)),
        ("-3", -3),
        ("−3", -3),
        ("2 1/2", Fraction(5, 2)),
        (r"2\frac12", Fraction(5, 2)),
        ("-2 1/2", Fraction(-5, 2)),
        ("1.2e3", 1200),
        (r"1.2 \times 10^{-3}", Fraction(12, 10000)),
        ("3 million", 3_000_000),
        ("seven", 7),
        ("$5", 5),
        ("5 apples", 5),
        ("1 000 000", 1_000_000),
        ("12 345", 12345),
        ("1/0", None),
        ("5 or 6", None),
        ("3x", None),
        ("", None),
        ("1,23", None),
        ("1e999", None),
    ],
)
def test_numbers_are_read_exactly(text, value):
    found = read_number(clean(text))
    assert (None if found is None else found.value) == value


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.1", "1/10", True),
        ("1/3", "0.3333", True),  # |1/3 − 0.3333| = 1/30000 ≤ 1/20000
        ("1/3", "0.3334", False),  # 1/15000 > 1/20000
        ("1/3", "0.333", False),  # three places only
        ("0.33333", "0.3333", False),  # both decimals
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5%", "0.5", False),
        ("1%", "1", False),
        ("5 m", "500 cm", True),
        ("5 m", "5 s", False),
        ("1 week", "7 days", True),
        ("1 inch", "2.54 cm", True),
        ("$1", "100 cents", True),
        ("$1", "€1", False),
        ("3 apples", "3 pears", True),  # unknown units are read over
    ],
)
def test_numbers_are_compared_by_the_rules(a, b, same):
    x, y = read_number(a), read_number(b)
    assert x is not None
    assert y is not None
    assert equal(x, y) is equal(y, x) is same


_DAY = [
    ("4:00", "4:00", True), ("4:00", "04:00", True), ("4:00", "4:00 PM", True),
    ("4:00", "4 a.m.", True), ("4:00", "4:00:00", True),
    ("4:00 PM", "16:00", True), ("4:00 am", "04:00", True), ("12:00 AM", "0:00", True),
    ("12:30 p.m.", "12:30", True),
    ("0:00", "24:00", True), ("midnight", "0:00", True), ("noon", "12:00", True),
    ("4:30 PM", "4.30 pm", True),
    ("16:30", "16:30 PM", True), ("12:30 AM", "12:30 at night", True),
    ("9 pm", "9:00 at night", True),
    ("4:00", "16:00", False), ("4:30", "16:30", False), ("1:00", "13:00", False),
    ("04:00", "16:00", False), ("04:00", "4 PM", False),
    ("4:00 AM", "16:00", False), ("4:00 am", "4:00 pm", False), ("0:30", "12:30", False),
    ("0:00", "12:00", False),
    ("0:30", "12:30 pm", False), ("noon", "0:00", False), ("noon", "midnight", False),
    ("4:00", "4:01", False),
    ("4:00:30", "4:00", False), ("11:59 pm", "12:00 am", False), ("24:00", "12:00", False),
    ("4:00 PM", "4:00 in the morning", False),
]  # fmt: skip


@pytest.mark.parametrize(("a", "b", "same"), _DAY)
def test_times_are_equal_where_they_are_the_same_second_of_the_day(verifier, a, b, same):
    assert verifier.compare([(a, b), (b, a)]) == ["correct" if same else "wrong"] * 2


def test_known_false_positives_of_the_library(verifier):
    pairs = [
        ("y = 2x + 1", "y = 3x + 5"),
        ("2x + 3y - 6 = 0", "x + y - 1 = 0"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
        ("10^{-20}", "10^{-30}"),
        (r"5 \text{ m}", r"5 \text{ cm}"),
        ("2^{100}", "2^{100}+1"),
    ]
    assert verifier.compare(pairs) == ["wrong"] * len(pairs)
    assert verifier.compare([(a, a) for a, _ in pairs]) == ["correct"] * len(pairs)


def test_a_box_that_is_spoken_of_hides_none_that_holds_an_answer():
    assert boxed("The answer is \\boxed{9} where \\boxed{ } marks it") == "9"
    assert boxed("\\boxed{8} or rather \\boxed{9}, in \\boxed{}") == "9"
    assert boxed("\\boxed{}") == ""
    assert extract("12: \\boxed{}") is None


def test_a_bracket_that_is_turned_away_holds_its_end_out(verifier):
    pairs = [
        ("[0,1)", "[0,1["),
        ("(0,1]", "]0,1]"),
        ("(0,1)", "]0,1["),
        ("[0,1[", "[0,1)"),
        ("[0,1]", "[0,1["),
        ("(0,1]", "]0,1["),
    ]
    assert verifier.compare(pairs) == ["correct"] * 4 + ["wrong"] * 2


def test_comparisons_that_hang_are_masked_and_cost_those_behind_them_no_time():
    """Each limit starts when its own call starts: the last pair waits for three limits in the
    queue, and is judged."""
    one = MathsVerifier(timeout=1.0)
    try:
        endless = "\\sum_{k=1}^{10^7} \\sin(k)"
        found = one.compare(
            [(endless, "2^{2}+x"), (endless, "3^{2}+x"), (endless, "5^{2}+x"), ("x+1", "1+x")]
        )
        assert found == ["verifier-timeout"] * 3 + ["correct"]
    finally:
        one.close()


def test_after_many_time_outs_in_one_call_the_others_have_less_time(monkeypatch):
    from burnish.rewards import maths

    given: list[float] = []
    send = maths._Worker.send
    monkeypatch.setattr(maths, "_UNHURRIED", 1)
    monkeypatch.setattr(
        maths._Worker,
        "send",
        lambda self, pair, seconds: (given.append(seconds), send(self, pair, seconds)),
    )
    one = MathsVerifier(timeout=0.6)
    try:
        endless = "\\sum_{k=1}^{10^7} \\sin(k)"
        assert one._ask([(endless, "2+x"), (endless, "3+x"), ("x+1", "1+x")]) == {
            (endless, "2+x"): "verifier-timeout",
            (endless, "3+x"): "verifier-timeout",
            ("x+1", "1+x"): "correct",
        }
        assert given == pytest.approx([0.6, 0.1, 0.1])
    finally:
        one.close()


def test_the_time_of_a_batch_is_bounded_and_what_is_left_is_not_judged_rather_than_wrong(
    monkeypatch,
):
    """By a clock on which each comparison takes ten seconds: of eight, five are begun in 15 * 3 + 8
    / 4 seconds."""
    from burnish.rewards import maths

    clock, send = [0.0], maths._Worker.send

    def slow(self, pair, seconds):
        send(self, pair, seconds)
        clock[0] += 10.0

    monkeypatch.setattr(maths, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(maths._Worker, "send", slow)
    one = MathsVerifier(timeout=3.0)
    try:
        pairs = [(f"x+{n}", f"{n}+x") for n in range(1, 9)]
        assert one.compare(pairs) == ["correct"] * 5 + ["not-judged"] * 3
        assert one.compare(pairs) == ["correct"] * 8  # another time they are judged
    finally:
        one.close()


def test_where_no_time_is_left_to_see_whose_fault_it_is_nobody_is_blamed(monkeypatch):
    from burnish.rewards import maths

    one = MathsVerifier()
    monkeypatch.setattr(
        one,
        "_ask",
        lambda pairs, until: dict.fromkeys(
            pairs, "not-judged" if None in pairs[0] else maths.TIMEOUT
        ),
    )
    assert one.compare([("x+1", "1+x")]) == ["verifier-timeout"]
    assert one._sound == {}
    one.close()


@pytest.mark.parametrize(
    "answer",
    [
        "9^{9^{9^{9}}}",
        "9^9^9^9",
        "100000!",
        "10**10**10",
        "\\sum_{k=1}^{10^7} \\sin(k)",
        "2^{2^{100}}x",
        "(" * 900,
        "{" * 900,
    ],
)
def test_an_answer_that_the_verifier_cannot_bear_is_wrong_and_not_masked(answer):
    """Else a model could choose to be masked."""
    one = MathsVerifier(timeout=0.5)
    try:
        assert one.compare([("x+1", answer), ("2^{3}\\pi", answer)]) in (
            ["wrong"] * 2,
            ["unparsed"] * 2,
        )
    finally:
        one.close()


def test_a_worker_that_dies_is_an_error_of_the_verifier_and_is_replaced():
    one = MathsVerifier()
    try:
        assert one.compare([("x+1", "1+x")]) == ["correct"]
        os.kill(one._workers[0]._process.pid, signal.SIGKILL)
        one._workers[0]._process.wait()
        assert one.compare([("x+2", "2+x")]) == ["verifier-error"]
        assert one.compare([("x+2", "2+x"), ("x+3", "x+4")]) == [
            "correct",
            "wrong",
        ]  # an error is not remembered
    finally:
        one.close()


def test_time_limits_work_where_the_caller_is_no_main_thread():
    from concurrent.futures import ThreadPoolExecutor

    one = MathsVerifier()
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(one.compare, [("x+1", "1+x"), ("x+1", "2+x")]).result() == [
                "correct",
                "wrong",
            ]
    finally:
        one.close()


def test_verdicts_values_and_what_is_not_counted(monkeypatch):
    reward = MathsReward(values={"correct": 1.0, "wrong": -1.0, "unparsed": -2.0})
    monkeypatch.setattr(
        reward.verifier,
        "compare",
        lambda pairs: ["correct", "wrong", "verifier-timeout", "verifier-error"],
    )
    found = reward.judge(["1", "2", "3", "4", "nothing", "6"], answer=["1", 1, "1", "1", "1", None])
    assert [(j.value, j.verdict, j.counted) for j in found] == [
        (1.0, "correct", True),
        (-1.0, "wrong", True),
        (0.0, "verifier-timeout", False),
        (0.0, "verifier-error", False),
        (-2.0, "unparsed", True),
        (None, None, True),
    ]
    assert reward(["1", "2", "3", "4"], answer=["1"] * 4) == [1.0, -1.0, None, None]


def test_a_missing_or_empty_answer_is_named():
    with pytest.raises(UserError, match='the maths reward needs the column "answer"'):
        MathsReward()(["1"])
    with pytest.raises(UserError, match="a prompt's answer is empty"):
        MathsReward()(["1"], answer=[" "])


def test_gold_answers_of_published_sets():
    assert gold_answer("2+2 = 4\n#### 1,234") == "1,234"
    assert gold_answer(r"so \boxed{\frac{1}{2}}.") == r"\frac{1}{2}"
    assert gold_answer(" 12 ") == "12"


def test_a_worker_speaks_of_errors_and_goes_on():
    assert maths_worker.compare("x+1", "1+x") == "correct"
    assert maths_worker.compare("x+1", "") == "unparsed"


def test_the_labelled_pairs_and_the_rates_on_them():
    pairs = labelled_pairs()
    assert len({(p["gold"], p["completion"]) for p in pairs}) == len(pairs) >= 500
    assert min(sum(p["correct"] for p in pairs), sum(not p["correct"] for p in pairs)) >= 80
    rates = verifier_rates(pairs)
    assert rates["unjudged"] == 0
    assert rates["false_positive"]["value"] <= 0.01
    assert rates["false_negative"]["value"] <= 0.01
    wrong = [p for p in rates["mistakes"] if not p["correct"]]
    assert rates["false_positive"]["value"] == len(wrong) / sum(not p["correct"] for p in pairs)


def test_the_rates_count_both_ways():
    pairs = [
        {"gold": "1", "completion": "1", "correct": True},
        {"gold": "1", "completion": "2", "correct": True},
        {"gold": "1", "completion": "1.0", "correct": False},
        {"gold": "1", "completion": "3", "correct": False},
        {"gold": "1", "completion": "4", "correct": False},
    ]
    rates = verifier_rates(pairs)
    assert rates["false_negative"]["value"] == 1 / 2
    assert rates["false_positive"]["value"] == 1 / 3
    assert [p["completion"] for p in rates["mistakes"]] == ["2", "1.0"]


@pytest.mark.skipif(
    not GSM8K.is_file(),
    reason="GSM8K's model solutions (shared/data beside the repository) are not on this machine",
)
def test_published_judgements_of_model_solutions_are_met():
    rows = [json.loads(line) for line in GSM8K.read_text().splitlines()]
    pairs = [
        {
            "gold": row["ground_truth"].split("A:")[-1].strip(),
            "completion": one["solution"],
            "correct": one["is_correct"],
        }
        for row in rows
        for one in row.values()
        if isinstance(one, dict)
    ]
    rates = verifier_rates(pairs)
    assert len(pairs) >= 200
    assert rates["unjudged"] == 0
    assert rates["false_positive"]["value"] <= 0.01
    assert rates["false_negative"]["value"] <= 0.01
