"""Format, length, repetition and language, by worked values."""

from __future__ import annotations

import re

import pytest

from burnish.errors import UserError
from burnish.rewards.rules import (
    FormatReward,
    LanguageReward,
    LengthReward,
    format_value,
    language_value,
    length_value,
    repetition_value,
)


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        ("think-answer", "<think>a</think><answer>b</answer>", 1),
        ("think-answer", " <think>\na\n</think>\n<answer>b</answer>\n", 1),
        ("think-answer", "<think>a</think><answer>b</answer> and more", 0),
        ("think-answer", "<think></think><answer>b</answer>", 0),
        ("think-answer", "<think>a</think><answer> </answer>", 0),
        ("think-answer", "<think>a<think>b</think><answer>c</answer>", 0),
        ("think-answer", "<think>a</think><answer>b</answer><answer>c</answer>", 0),
        ("think-answer", "<answer>b</answer><think>a</think>", 0),
        ("think", "<think>a</think> b", 1),
        ("think", "<think>a</think> ", 0),
        ("think", "b <think>a</think> b", 0),
        ("answer", "so <answer>5</answer>.", 1),
        ("answer", "<answer>5</answer><answer>6</answer>", 0),
        ("boxed", r"so \boxed{5}", 1),
        ("boxed", r"so \boxed{}", 0),
        ("boxed", r"so \boxed{5", 0),
    ],
)
def test_forms(form, text, value):
    assert format_value(text, form) == value


def test_a_pattern_of_ones_own_covers_the_whole_text():
    reward = FormatReward(None, r"Answer: .+")
    assert reward(["Answer: 5\n6", "The Answer: 5"]) == [1.0, 0.0]
    assert [j.verdict for j in reward.judge(["Answer: 5", "5"])] == ["formed", "malformed"]
    with pytest.raises(UserError, match="is no regular expression"):
        FormatReward(None, "(")


def test_length_by_its_formula():
    # least 4, free 10, limit 20: 2/4; 1; 1; (20 − 15)/10; 0; 0
    assert [length_value(n, least=4, free=10, limit=20) for n in (2, 4, 10, 15, 20, 99)] == [
        0.5,
        1,
        1,
        0.5,
        0,
        0,
    ]
    assert LengthReward(free=1, limit=3)(["a b", "a"], [[1, 2], [1]]) == [0.5, 1.0]
    assert LengthReward(free=1, limit=3, unit="words")(["a b", "a"], [[1], [1, 2, 3]]) == [0.5, 1.0]


def test_repetition_by_its_formula():
    # a b c a b c: trigrams abc bca cab abc: 3 of 4 distinct
    assert repetition_value("a b c a b c", 3) == -0.25
    assert repetition_value("A b a B", 2) == pytest.approx(-1 / 3)  # ab ba ab, case folded
    assert repetition_value("no two are alike", 3) == 0.0
    assert repetition_value("a b", 3) == 0.0
    assert repetition_value("x " * 101, 1) == pytest.approx(1 / 101 - 1)


@pytest.mark.parametrize(
    ("text", "language", "low", "high"),
    [
        ("The answer is that the ball will fall to the floor.", "en", 1, 1),
        ("The answer is that the ball will fall to the floor.", "de", 0, 0.5),
        ("Die Antwort ist, dass der Ball auf den Boden fällt.", "de", 1, 1),
        ("Die Antwort ist, dass der Ball auf den Boden fällt.", "en", 0, 0.5),
        ("La respuesta es que la pelota cae al suelo.", "es", 1, 1),
        ("La réponse est que la balle tombe dans le jardin.", "fr", 1, 1),
        ("答案是五。", "zh", 1, 1),
        ("答案是五。", "en", 0, 0),
        ("答えは五です。", "ja", 1, 1),
        ("答えは五です。", "zh", 0.0, 0.5),
        ("Ответ: пять", "ru", 1, 1),
        ("x = 5", "en", 1, 1),
        ("= 5", "en", 0, 0),
        ("", "en", 0, 0),
    ],
)
def test_language(text, language, low, high):
    assert low <= language_value(text, language) <= high


def test_a_mixture_counts_by_letters():
    assert language_value("abc где", "ru") == 0.5


def test_language_of_a_column_goes_first():
    reward = LanguageReward("en", column="lang")
    assert reward(["Ответ", "Ответ"], lang=["ru", None]) == [1.0, 0.0]
    with pytest.raises(UserError, match='does not know "xx"'):
        LanguageReward("xx")


def test_a_pattern_that_backtracks_is_stopped_told_and_not_counted():
    reward = FormatReward(None, r"(a|aa)+[^a]")
    with pytest.warns(
        UserWarning,
        match=r"did not come to an end within 1 s on a text of 60 characters: it backtracks",
    ):
        slow, fine = reward.judge(["a" * 60, "aab"])
    assert (slow.verdict, slow.counted) == ("pattern-timeout", False)
    assert (fine.value, fine.verdict) == (1.0, "formed")


@pytest.mark.parametrize(
    "pattern",
    [r"(?P<x>a)(?P=x)", r"\d{2,3}", r"(?i)AA", "a.a", r"[\w-]+", r"(?<=^)aa", r"a\Z|aa\Z"],
)
def test_patterns_mean_what_they_mean_in_re(pattern):
    for text in ("aa", "AA", "a\na", "12", "b", "aa\n"):
        expected = re.compile(pattern, re.DOTALL).fullmatch(text) is not None
        assert format_value(text, None, FormatReward(None, pattern)._pattern) == float(expected)
