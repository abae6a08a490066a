"""The maths verifier on generated answers: numbers in many forms against exact arithmetic, and
texts of every kind, broken ones too."""

# ruff: noqa: SIM905
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.errors import UserError
from burnish.rewards.maths import UNCOUNTED, MathsReward, gold_answer

ALWAYS_THE_SAME = settings(
    max_examples=120,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
VERDICTS = {"correct", "wrong", "unparsed", *UNCOUNTED}
FULL_WIDTH = str.maketrans("0123456789-", "０１２３４５６７８９－")
ARABIC = str.maketrans("0123456789-", "٠١٢٣٤٥٦٧٨٩−")


@pytest.fixture(scope="module")
def reward() -> Iterator[MathsReward]:
    one = MathsReward(timeout=2.0)
    yield one
    one.close()


def decimal(value: Fraction) -> str | None:
    """All its digits, where they end within six places."""
    places = next((n for n in range(7) if (value * 10**n).denominator == 1), None)
    if places is None:
        return None
    digits = str(abs(value * 10**places).numerator).rjust(places + 1, "0")
    whole, rest = digits[: len(digits) - places], digits[len(digits) - places :]
    return "-" * (value < 0) + whole + (f".{rest}" if rest else "")


def of_any(value: Fraction) -> list[str]:
    """Ways of writing any fraction."""
    n, d, sign, a = value.numerator, value.denominator, "-" * (value < 0), abs(value.numerator)
    return [
        f"{n}/{d}", f"{n} / {d}", f"({n}/{d})", f"-({-n}/{d})", f"({n})/({d})", f"${n}/{d}$",
        rf"\({n}/{d}\)", f"x = {n}/{d}",
        rf"{sign}\frac{{{a}}}{{{d}}}", rf"\frac{{{n}}}{{{d}}}", rf"\frac{{{-n}}}{{{-d}}}",
        rf"{sign}\dfrac{{{3 * a}}}{{{3 * d}}}",
        rf"\left(\frac{{{n}}}{{{d}}}\right)", rf"\frac{{\frac{{{n}}}{{7}}}}{{\frac{{{d}}}{{7}}}}",
        rf"{sign}\sqrt{{\frac{{{n * n}}}{{{d * d}}}}}",
        f"{n - d}/{d} + 1", rf"1 + \frac{{{n - d}}}{{{d}}}", rf"{n} \cdot \frac{{1}}{{{d}}}",
        rf"{n} \times {d}^{{-1}}", f"{n} * {d}^(-1)",
        rf"{n} \div {d}", f"{n} ÷ {d}", f"{n}/{d} apples", f"{n}/{d}.", f"**{n}/{d}**",
        rf"\text{{{n}/{d}}}", f"The answer is {n}/{d}",
        f"{n}/{d}".translate(FULL_WIDTH), f"{n}/{d}".translate(ARABIC),
    ]  # fmt: skip


def of_some(value: Fraction) -> list[str]:
    """Ways of writing this one because it is whole, ends as a decimal, or is more than 1."""
    found, a, sign = [], abs(value), "-" * (value < 0)
    text = decimal(value)
    if text is not None:
        found += [
            text,
            f"{text}0" if "." in text else f"{text}.0",
            f"${text}$",
            text.replace("-", "−"),
        ]
        for power in (-3, 2):
            short = decimal(value / Fraction(10) ** power)
            found += (
                [rf"{short} \times 10^{{{power}}}", f"{short} × 10^{power}", f"{short}e{power}"]
                if short
                else []
            )
    if value.denominator == 1 and a >= 1000:
        grouped = f"{value.numerator:,}"
        found += [
            grouped,
            *(grouped.replace(",", mark) for mark in ("{,}", r"\,", " ", "\xa0", r",\!")),
        ]
    if value.denominator > 1 and a > 1:
        whole, rest = divmod(a.numerator, a.denominator)
        found += [
            rf"{sign}{whole}\frac{{{rest}}}{{{a.denominator}}}",
            f"{sign}{whole} {rest}/{a.denominator}",
        ]
    if value.denominator in (3, 9, 11):
        whole, rest = divmod(a.numerator, a.denominator)
        block = str(Fraction(rest, a.denominator) * 99).rjust(2, "0")
        found += [rf"{sign}{whole}.\overline{{{block}}}", f"{sign}{whole}.({block})"]
    return found


FRACTIONS = st.one_of(
    st.integers(-12, 12).map(Fraction),
    st.builds(Fraction, st.integers(-40, 40), st.integers(1, 12)),
    st.builds(Fraction, st.integers(-(10**4), 10**4), st.sampled_from([10, 100, 1000, 40])),
    st.integers(-(10**7), 10**7).map(Fraction),
    st.builds(Fraction, st.integers(-(10**12), 10**12), st.integers(1, 99)),
)
CHANGES: list[Callable[[Fraction], Fraction]] = [
    lambda q: q, lambda q: -q, lambda q: q + 1, lambda q: q * 10, lambda q: q / 100,
    lambda q: 2 * q, lambda q: q + Fraction(1, 1000),
    lambda q: 1 / q if q else q + 2,
]  # fmt: skip


@st.composite
def pairs_of_numbers(draw: st.DrawFn) -> tuple[str, str, bool]:
    """Two texts and whether they write the same number; half of them do."""
    first = draw(FRACTIONS)
    second = draw(
        st.just(first) | st.sampled_from(CHANGES).map(lambda change: change(first)) | FRACTIONS
    )
    a, b = (
        draw(st.sampled_from(of_any(q)) | st.sampled_from(of_some(q) or of_any(q)))
        for q in (first, second)
    )
    return a, b, first == second


@ALWAYS_THE_SAME
@given(pairs_of_numbers())
def test_numbers_are_correct_where_they_are_equal_and_nowhere_else(
    reward: MathsReward, pair: tuple[str, str, bool]
):
    gold, answer, equal = pair
    verdicts = [
        one.verdict
        for one in reward.judge(
            [rf"\boxed{{{answer}}}", rf"\boxed{{{gold}}}"], answer=[gold, answer]
        )
    ]
    if equal:
        assert verdicts == ["correct"] * 2
    else:
        assert "correct" not in verdicts
        assert not set(UNCOUNTED) & set(verdicts)


PIECES = st.sampled_from(
    [
        *"1 2 -3 0 12 1,000 3.14 .5 x y n e i B the apples or and 1/0 0/0 10! 9!! 10000!"
        " 10**10**10 1e400 1e-400 4:00 2:3 (A) 101_2".split(),
        *r"\pi \infty -\infty \emptyset \mathbb{R} 10^{20} 30^\circ \frac \sqrt \left( \right)"
        r" \left \text{ \boxed{ \frac{1}{0} \$5 50\%".split(),
        *"½ ٣ ３ −2 –7 x² 30° é 💥 ∞ √2 ∛8 ² ₂ ⁻¹ Ⅷ ① ㎏ १२ \ud800 \x00 \u202e \n 1\xa0000".split(
            " "
        ),
        *r"% & # ~ \\ $ \{ \} { } ( ) [ ] | ^ _ = < > ! ? , ; : . ... ' \le \pm \cup \to".split(),
        "5 cm",
        "3 m/s",
        "4:30 PM",
        "no solution",
        r"1, 2, \ldots, n",
        r"1.\overline{3}",
        "9" * 50,
        "9" * 5000,
        "(" * 300,
        "</answer>",
        "####",
        r"\begin{pmatrix}",
        r"\end{pmatrix}",
        r"\sum_{k=1}^{n} k",
        r"\int_0^1 x dx",
        r"\lim_{x\to 0}",
        r"\pmod{7}",
        "May 5",
        "2024-02-30",
        "",
    ]
)
SHAPES = (
    r"\frac{%s}{%s}", r"\sqrt[%s]{%s}", "(%s, %s)", r"\left[%s, %s\right)", r"\{%s, %s\}",
    "%s + %s", "%s-%s", "%s%s", "%s %s", "%s^{%s}",
    "%s = %s", "%s < %s", r"\begin{pmatrix}%s & 1 \\ %s & 2\end{pmatrix}", r"\text{%s} %s",
    "$%s$%s", "|%s|/%s", "%s or %s",
    r"%s \cup %s", "%s!:%s", "%s mod %s",
)  # fmt: skip
TEXTS = st.recursive(
    PIECES | st.text(max_size=6),
    lambda inner: (
        st.builds(lambda shape, a, b: shape % (a, b), st.sampled_from(SHAPES), inner, inner)
        | st.builds(lambda a, n: a * n, inner, st.sampled_from([2, 7, 60]))
    ),
    max_leaves=6,
)


@ALWAYS_THE_SAME
@given(TEXTS, TEXTS)
def test_of_any_two_texts_there_is_a_verdict_in_time_and_of_a_text_with_itself_it_is_not_wrong(
    reward: MathsReward, gold: str, answer: str
):
    try:
        gold_answer(gold)
    except UserError:
        return
    begun = time.process_time()
    found = reward.judge([rf"\boxed{{{answer}}}", answer, rf"\boxed{{{gold}}}"], answer=[gold] * 3)
    assert time.process_time() - begun < 1.0  # of this process; a worker has its own limit
    assert {one.verdict for one in found} <= VERDICTS
    if (
        gold.count("{") == gold.count("}")
        and r"\boxed" not in gold
        and "####" not in gold
        and "answer>" not in gold
    ):
        assert found[2].verdict == "correct"
