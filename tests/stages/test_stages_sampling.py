"""The sampler behind the loops: which random numbers a completion has."""

from __future__ import annotations

import families
from burnish.config.sections import Sampling
from burnish.data.curriculum import PromptSource
from burnish.environments.base import Step
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.records import Message, Prompt, Rollout
from burnish.stages.sampling import PromptSampler, Writer, engine_here, numbered, prompt_sampler
from burnish.stages.turns import ConversationSampler

HOW = {"seed": 0, "max_length": 200, "purpose": "test"}


def _prompt(name: str, text: str = "What is 2+2?") -> Prompt:
    return Prompt(name, (Message(role="user", content=text),))


def _sampler(tiny: Backbone, tokens: int = 10) -> PromptSampler:
    return prompt_sampler(View(tiny), Sampling(max_new_tokens=tokens), **HOW)


def _tokens(rollouts: list[Rollout]) -> list[tuple[int, ...]]:
    return [rollout.completion.tokens for rollout in rollouts]


def test_numbers_go_on_where_a_prompt_stands_again():
    a, b = _prompt("a"), _prompt("b")
    found = [(prompt.id, number) for prompt, number in numbered([a, b, a, a], 2)]
    assert found == [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("a", 3), ("a", 4), ("a", 5)]


def test_a_prompt_that_stands_n_times_draws_n_times(tiny: Backbone):
    sampler, prompt = _sampler(tiny), _prompt("a")
    found = _tokens(sampler.generate([prompt] * 4, samples=2))
    assert len(set(found)) == 8
    assert found == _tokens(sampler.generate([prompt] * 4, samples=2))
    # four times two is eight times one
    assert found == _tokens(sampler.generate([prompt], samples=8))


def test_company_changes_nothing_for_a_prompt_that_stands_once(tiny: Backbone):
    sampler, a, b = _sampler(tiny), _prompt("a"), _prompt("b")
    alone = _tokens(sampler.generate([a], samples=2))
    assert _tokens(sampler.generate([b, a, b], samples=2))[2:4] == alone
    assert _tokens(sampler.generate([b, a, b], samples=2, round=1))[2:4] != alone


def test_prompts_of_one_text_and_different_names_draw_independently(tiny: Backbone):
    found = _tokens(_sampler(tiny).generate([_prompt("a"), _prompt("b")], samples=3))
    assert len(set(found)) == 6


def test_a_batch_across_an_epochs_end_has_no_twins(tiny: Backbone):
    """Three prompts in batches of five: every batch holds some of them twice."""
    source = PromptSource([_prompt(name, f"Say {name}.") for name in "abc"], seed=0)
    sampler = _sampler(tiny)
    for step in range(3):
        found = _tokens(sampler.generate(source.take(5), samples=2, round=step))
        assert len(set(found)) == 10


class _Echo:
    """An environment that says one word, for ever."""

    role = "user"
    tools = ()

    def reset(self, prompt: Prompt) -> None:
        """Nothing to show."""

    def step(self, text: str) -> Step:
        return Step("On.", 0.0, False)


def test_episodes_of_one_prompt_are_different_too(tiny: Backbone):
    sampling = Sampling(max_new_tokens=8)
    engine = engine_here(View(tiny), sampling, max_length=200)
    writer = Writer.of(engine, tiny, sampling, **HOW)
    sampler = ConversationSampler(writer, make=_Echo, max_turns=2)
    prompt = _prompt("a")
    found = _tokens(sampler.generate([prompt, prompt, _prompt("b"), prompt], samples=2))
    assert len(set(found)) == 8
    assert found == _tokens(sampler.generate([prompt, prompt, _prompt("b"), prompt], samples=2))


def test_a_longrope_model_is_sampled_to_its_original_context_and_it_is_said():
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.5],
        "long_factor": [3.0, 9.0],
        "original_max_position_embeddings": 64, "partial_rotary_factor": 0.5,
    }  # fmt: skip
    backbone = families.random_backbone(
        "phi3", rope_parameters=rope, original_max_position_embeddings=64
    )
    lines: list[str] = []
    sampling = Sampling(max_new_tokens=20)
    prompt_sampler(
        View(backbone), sampling, seed=0, max_length=64, purpose="test", say=lines.append
    )
    assert not [line for line in lines if "longrope" in line and "sampled up to" in line]
    sampler = prompt_sampler(
        View(backbone), sampling, seed=0, max_length=65, purpose="test", say=lines.append
    )
    assert any("up to 64 tokens, not 65" in line for line in lines)
    for rollout in sampler.generate([_prompt("a")], samples=2):
        assert len(rollout.prompt_tokens) + len(rollout.completion.tokens) <= 64
