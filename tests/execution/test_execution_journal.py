"""Rollouts on disk: every field comes back as it was, torn and changed records do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from burnish.execution.journal import Journal, JournalledSampler
from burnish.records import Completion, Message, Prompt, Rollout

PROMPTS = [Prompt(name, (Message(role="user", content=f"Say {name}."),)) for name in "ab"]


def _rollout(prompt: Prompt, seed: int, **changes: object) -> Rollout:
    fields = {
        "text": f"ü {seed} \ud800",
        "tokens": (seed, 7),
        "sampler_logprobs": (-0.1 * seed, -1e-3),
        "finish_reason": "stop",
        "model_logprobs": (-0.25, -0.5),
        **changes,
    }
    return Rollout(prompt, (1, 2, 3), Completion(**fields), 5, {"environment": 0.1 * seed})


def _four(seed: int = 1) -> list[Rollout]:
    return [_rollout(prompt, seed + number) for prompt in PROMPTS for number in range(2)]


def test_rollouts_come_back_as_they_were(tmp_path: Path):
    journal, rollouts = Journal(tmp_path / "journal"), _four()
    journal.add(5, "first", PROMPTS, rollouts)
    journal.add(5, "second", PROMPTS, _four(9))
    again = Journal(tmp_path / "journal")
    assert again.find(5, "first", PROMPTS) == rollouts
    assert again.find(5, "second", PROMPTS) == _four(9)
    assert again.find(5, "third", PROMPTS) is None
    assert again.find(6, "first", PROMPTS) is None


numbers = st.lists(st.floats(-1e4, 0.0, width=64), max_size=5).map(tuple)


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple),
    text=st.text(max_size=9),
    sampler=numbers,
    model=numbers,
    mask=st.lists(st.booleans(), max_size=5).map(tuple),
    finish=st.sampled_from(["stop", "length"]),
)
def test_whatever_a_completion_holds_is_kept_exactly(
    tmp_path_factory: pytest.TempPathFactory, tokens, text, sampler, model, mask, finish
):
    rollout = _rollout(
        PROMPTS[0], 0, tokens=tokens, text=text, sampler_logprobs=sampler, model_logprobs=model,
        response_mask=mask, finish_reason=finish,
    )  # fmt: skip
    journal = Journal(tmp_path_factory.mktemp("journal"))
    journal.add(0, "key", PROMPTS[:1], [rollout])
    assert journal.find(0, "key", PROMPTS[:1]) == [rollout]


def test_a_record_torn_at_any_byte_is_as_good_as_not_there(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.add(0, "first", PROMPTS, _four())
    path = next(tmp_path.iterdir())
    whole = path.stat().st_size
    journal.add(0, "second", PROMPTS, _four(9))
    data = path.read_bytes()
    for cut in (whole, whole + 1, whole + 55, whole + 200, len(data) - 1):
        path.write_bytes(data[:cut])
        assert journal.find(0, "first", PROMPTS) == _four()
        assert journal.find(0, "second", PROMPTS) is None
        # what is written behind it takes its place
        journal.add(0, "third", PROMPTS, _four(3))
        assert journal.find(0, "third", PROMPTS) == _four(3)
        assert [table["key"] for _, table, _ in journal._records(0)] == ["first", "third"]


def test_a_record_with_a_changed_bit_is_not_believed(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.add(0, "key", PROMPTS, _four())
    path = next(tmp_path.iterdir())
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert journal.find(0, "key", PROMPTS) is None


class Drawing:
    """A sampler that never draws the same twice."""

    def __init__(self) -> None:
        self.drawn = 0

    def load(self, view: object, *, version: int) -> None:
        pass

    def sleep(self) -> None:
        pass

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        self.drawn += 1
        return [_rollout(p, 10 * self.drawn + k) for p in prompts for k in range(samples)]


def _journalled(folder: Path, *, how: str = "", covered: int = 0) -> JournalledSampler:
    return JournalledSampler(Drawing(), Journal(folder), how=how, covered=lambda: covered)


def test_what_was_drawn_is_not_drawn_again(tmp_path: Path):
    first, second = _journalled(tmp_path), _journalled(tmp_path)
    for sampler in (first, second):
        sampler.load(None, version=3)
    rounds = [first.generate(PROMPTS, samples=2, round=number) for number in (3, 103)]
    assert [second.generate(PROMPTS, samples=2, round=number) for number in (3, 103)] == rounds
    assert (second._inner.drawn, second.replayed) == (0, 8)


@pytest.mark.parametrize(
    ("prompts", "samples", "round_", "version", "how"),
    [
        (PROMPTS[::-1], 2, 3, 3, ""),
        (PROMPTS, 1, 3, 3, ""),
        (PROMPTS, 2, 4, 3, ""),
        (PROMPTS, 2, 3, 4, ""),
        (PROMPTS, 2, 3, 3, "another temperature"),
        ([Prompt("a", (Message(role="user", content="Other."),)), PROMPTS[1]], 2, 3, 3, ""),
    ],
)
def test_only_the_very_same_question_is_answered_from_it(
    tmp_path: Path, prompts: list[Prompt], samples: int, round_: int, version: int, how: str
):
    first, second = _journalled(tmp_path), _journalled(tmp_path, how=how)
    first.load(None, version=3)
    first.generate(PROMPTS, samples=2, round=3)
    second.load(None, version=version)
    second.generate(prompts, samples=samples, round=round_)
    assert second._inner.drawn == 1


def test_what_the_oldest_checkpoint_covers_is_dropped(tmp_path: Path):
    sampler = _journalled(tmp_path, covered=2)
    for version in (1, 2, 3):
        Journal(tmp_path).add(version, "key", PROMPTS, _four())
    sampler.load(None, version=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000002.rollouts", "000003.rollouts",
    ]  # fmt: skip
