"""Rollouts of several turns: tokens are the record, the environment's are not trained, the gradient
ignores them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.online import Conversation
from burnish.config.recipe import Recipe
from burnish.config.sections import Sampling
from burnish.data.render import call_marks, render_reply
from burnish.environments.base import Step
from burnish.environments.calculator import Calculator
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.records import Completion, Message, Prompt, Reward, Rollout
from burnish.runs.manifest import fingerprint
from burnish.stages.context import Run
from burnish.stages.inputs import inputs_of
from burnish.stages.sampling import Writer
from burnish.stages.turns import PAID, ConversationSampler, PaidScorer, environment_maker

CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'


class Scripted:
    """An engine that writes given turns, as tokens and with made-up log-probabilities."""

    version = 3

    def __init__(self, backbone: Backbone, turns: Sequence[str]) -> None:
        self._tokenizer, self._turns = backbone.tokenizer, list(turns)
        self.seen: list[tuple[int, ...]] = []

    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, progress: object = None
    ) -> list[Completion]:
        self.seen += [r.prompt_tokens for r in requests]
        text = self._turns.pop(0)
        tokens = (*self._tokenizer(text)["input_ids"], self._tokenizer.eos_token_id)
        return [Completion(text, tokens, (-0.5,) * len(tokens), "stop") for _ in requests]


def _sampler(
    tiny: Backbone, turns: Sequence[str], *, max_length: int = 900, **changes: object
) -> ConversationSampler:
    how = {"seed": 0, "max_length": max_length, "purpose": "test"}
    writer = Writer.of(Scripted(tiny, turns), tiny, Sampling(max_new_tokens=120), **how)
    return ConversationSampler(writer, **{"make": Calculator, "max_turns": 4, **changes})


def _asked() -> Prompt:
    return Prompt("p", (Message(role="user", content="What is 6 × 7?"),), {"answer": "42"})


def test_an_episode_token_by_token(tiny: Backbone):
    sampler = _sampler(tiny, [CALL, "It is 42."])
    (rollout,) = sampler.generate([_asked()], samples=1)
    end, decode = tiny.tokenizer.eos_token_id, tiny.tokenizer.decode
    encode = lambda text: tuple(tiny.tokenizer(text)["input_ids"])  # noqa: E731
    first, last = (*encode(CALL), end), (*encode("It is 42."), end)
    between = encode("\n<|im_start|>tool\n42<|im_end|>\n<|im_start|>assistant\n")
    assert rollout.completion.tokens == (*first, *between, *last)
    assert rollout.completion.response_mask == (
        *[True] * len(first),
        *[False] * len(between),
        *[True] * len(last),
    )
    assert (
        len(rollout.completion.sampler_logprobs)
        == len(first) + len(last)
        == rollout.completion.drawn
    )
    assert rollout.paid == {PAID: 1.0}
    assert rollout.completion.finish_reason == "stop"
    # the second turn was written after exactly these tokens
    assert sampler._writer.engine.seen[1] == (*rollout.prompt_tokens, *first, *between)
    assert "calculator: Work out" in decode(list(rollout.prompt_tokens))


def test_running_out_of_turns_or_room_counts_as_cut_off(tiny: Backbone):
    (rollout,) = _sampler(tiny, [CALL] * 2, max_turns=2).generate([_asked()], samples=1)
    assert rollout.completion.finish_reason == "length"
    assert rollout.paid == {PAID: 0.0}
    assert all(rollout.completion.response_mask[-5:])  # it ends with the policy's words
    (rollout,) = _sampler(tiny, [CALL] * 2, max_length=500).generate([_asked()], samples=1)
    assert rollout.completion.finish_reason == "length"
    assert len(rollout.prompt_tokens) + len(rollout.completion.tokens) + 120 > 300


def test_the_loss_of_a_masked_sequence_is_that_of_its_trained_tokens(tiny: Backbone):
    """Against the same tokens without a mask: the trained ones have the same log-probabilities, the
    others are not there."""
    response, mask = tuple(range(20, 32)), (True,) * 4 + (False,) * 5 + (True,) * 3
    whole, masked = (
        Batch((TokenSequence((258, 7), response),)),
        Batch((TokenSequence((258, 7), response, mask),)),
    )
    view = View(tiny)
    with torch.no_grad():
        expected = view.logprobs(whole).logprobs_P[torch.tensor(mask)]
        torch.testing.assert_close(view.logprobs(masked).logprobs_P, expected)


def test_paid_rewards_are_added(tiny: Backbone):
    rollout = Rollout(_asked(), (1,), Completion("", (2,), (-1.0,), "stop"), 0, {PAID: 1.0})

    class Fixed:
        def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
            return [Reward(0.25, {"format": 0.25}, notes={"why": "short"})] * len(rollouts)

    assert PaidScorer(None, weight=2.0).score([rollout]) == [Reward(2.0, {PAID: 1.0})]
    due = Reward(0.75, {"format": 0.25, PAID: 1.0}, notes={"why": "short"})
    assert PaidScorer(Fixed(), weight=0.5).score([rollout]) == [due]


@pytest.mark.parametrize("pay", [float("nan"), float("inf"), 1e300, 10**400, None, "1.0"])
def test_pay_that_is_no_number_is_one_line(
    tiny: Backbone, monkeypatch: pytest.MonkeyPatch, pay: object
):
    monkeypatch.setattr(Calculator, "step", lambda *_: Step("", pay, True))
    with pytest.raises(UserError, match=r"the environment paid .* for a turn\."):
        _sampler(tiny, [CALL]).generate([_asked()], samples=1)


def test_environments_by_name(tiny: Backbone):
    assert isinstance(environment_maker(Conversation(name="calculator"), View(tiny))(), Calculator)
    made = environment_maker(Conversation(name=f"{__name__}:Echo"), View(tiny))()
    assert made.step("hello") == Step("hello", 0.0, False)
    for name, said in (
        ("abacus", "calculator"),
        ("burnish.nothing:X", "there is no module"),
        (f"{__name__}:Nobody", "cannot be imported"),
    ):
        with pytest.raises(UserError, match=said):
            environment_maker(Conversation(name=name), View(tiny))


class Echo:
    role, tools = "user", ()

    def reset(self, prompt: Prompt) -> str | None:
        return "Say something."

    def step(self, text: str) -> Step:
        return Step(text, 0.0, False)


def test_an_observation_stands_behind_the_prompt(tiny: Backbone):
    (rollout,) = _sampler(tiny, ["one", "two"], make=Echo, max_turns=2).generate(
        [_asked()], samples=1
    )
    shown = tiny.tokenizer.decode(list(rollout.prompt_tokens))
    assert (
        shown
        == "<|im_start|>user\nWhat is 6 × 7?\n\nSay something.<|im_end|>\n<|im_start|>assistant\n"
    )
    assert rollout.completion.text == "one\none\ntwo"
    assert rollout.prompt == _asked()


QWEN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for c in m.tool_calls or []"
    ' %}<tool_call>\n{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments |'
    " tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt"
    " %}<|im_start|>assistant\n{% endif %}"
)


def test_the_form_of_a_call_is_read_from_the_template(tiny: Backbone):
    assert call_marks(tiny.tokenizer) is None  # it writes content and nothing else
    tiny.tokenizer.chat_template = QWEN
    assert call_marks(tiny.tokenizer) == ("<tool_call>", "</tool_call>")
    tiny.tokenizer.chat_template = QWEN.replace("<tool_call>\n", "[CALL] ").replace(
        "\n</tool_call>", ""
    )
    assert call_marks(tiny.tokenizer) == ("[CALL]", "")


def test_an_answer_that_quotes_a_control_token_does_not_stop_the_run(tiny: Backbone):
    (rollout,) = _sampler(tiny, ["a<|im_end|>b", "two"], make=Echo, max_turns=2).generate(
        [_asked()], samples=1
    )
    assert rollout.completion.text == "a<|im_end|>b\nab\ntwo"


def test_a_reply_that_spells_a_control_token_is_refused(tiny: Backbone):
    with pytest.raises(UserError, match="control token"):
        render_reply(tiny.tokenizer, Message(role="tool", content="1<|im_end|>"))


def test_the_files_of_a_users_environment_and_reward_are_part_of_the_fingerprint(tmp_path: Path):
    place, other = tmp_path / "mine.py", tmp_path / "rewards.py"
    place.write_text("class World: ...\n")
    other.write_text("def score(completions, **_): ...\n")
    recipe = Recipe.model_validate(
        {
            "data": {"demonstrations": None, "prompts": "task:arithmetic?train=8&heldout=2"},
            "stages": {
                "grpo": {"kind": "online", "environment": {"name": f"{place}:World"},
                         "rewards": [{"name": "python", "function": f"{other}:score"}]},
                "evaluate": {"kind": "evaluate"},
            },
        }
    )  # fmt: skip

    def marks() -> list[str]:
        steps = [Run(recipe, tmp_path).step(stage) for stage in ("grpo", "evaluate")]
        return [fingerprint(inputs_of(step, {"grpo": "unchanged"})) for step in steps]

    seen = [marks()]
    for file in (place, other):
        file.write_text(file.read_text() + "# changed\n")
        seen.append(marks())
    assert all(len(set(column)) == 3 for column in zip(*seen, strict=True))
