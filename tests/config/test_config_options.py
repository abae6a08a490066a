"""Options by their dotted keys: with the defaults that hold under that name."""

from __future__ import annotations

import pytest

from burnish.config.families import FAMILIES
from burnish.config.kinds import KINDS
from burnish.config.options import bare, called, find, in_yaml, known_keys, options_of, papers
from burnish.errors import UserError


@pytest.mark.parametrize(
    ("key", "type_", "default"),
    [
        ("data.heldout", "number ≥ 0 and ≤ 1", "0.1"),
        ("stages.sft.epochs", "number > 0 and ≤ 10000", "2.0"),
        ("ppo.prompts_per_step", "whole number ≥ 1 and ≤ 65536", "32"),  # the row's own
        ("grpo.prompts_per_step", "whole number ≥ 1 and ≤ 65536", "8"),
        ("ppo.optimizer.eps", "number ≥ 0 and ≤ 1", "1e-05"),
        ("simpo.loss.beta", "number > 0 and ≤ 10000", "2.0"),
        ("dpo.loss.beta", "number > 0 and ≤ 10000", "0.1"),
        ("orpo.loss.sft.weight", "number ≥ 0 and ≤ 10000", "1.0"),
        ("dpo.loss.sft.weight", "number ≥ 0 and ≤ 10000", "0.0"),
        ("grpo.algorithm.name", "", '"grpo"'),
        ("compare.by.panel.size", "whole number ≥ 1 and ≤ 1000", "5"),
        ("compare.by.0.panel.size", "whole number ≥ 1 and ≤ 1000", "5"),
        ("evaluate.sampling.temperature", "number ≥ 0.001 and ≤ 100 or 0", "0.7"),
    ],
)
def test_an_option_has_the_default_of_its_place(key: str, type_: str, default: str) -> None:
    (option,) = find(key).exact
    if key.endswith("eps"):
        type_ = option.type
    assert option.type == type_ or not type_
    assert option.default == default


def test_options_that_differ_by_kind_are_all_there() -> None:
    found = find("grpo.rewards.timeout")
    assert [dict(o.variants)["rewards.*"] for o in found.exact] == ["maths", "http"]
    assert [o.default for o in found.exact] == ["3.0", "30.0"]


def test_a_stage_says_what_it_is_and_a_loss_what_that_loss_is() -> None:
    assert find("simpo").about.startswith("SimPO (arXiv:2405.14734)")
    assert find("sft").about.startswith("Supervised fine-tuning")
    assert find("grpo").about.startswith("Reinforcement learning from rollouts")
    assert find("model").exact[0].type == "section"
    assert "model.name" in [o.key for o in find("model").below]


@pytest.mark.parametrize("word", [*KINDS, *FAMILIES])
def test_every_word_has_its_options_and_each_can_be_asked_for(word: str) -> None:
    options = options_of(word)
    assert {o.key.partition(".")[0] for o in options} == {word}
    for option in options[::7]:
        assert option in find(option.key).exact
        assert find(bare(option.key)).exact == find(option.key).exact


def test_the_last_word_of_a_key_finds_its_places() -> None:
    assert "sft.optimizer.learning_rate" in called("learning_rate")
    assert called("optimiser") == ()
    assert len(known_keys()) > 300


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("grpo.algorithm.bta", '"grpo.algorithm.beta"'),
        ("num_generations", "responses_per_prompt"),
        ("simpo.loss.tau", "Did you mean"),
        ("", "Known here"),
        ("...", "Known here"),
    ],
)
def test_what_is_no_option_is_told_the_nearest(key: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        find(key)
    assert hint in str(error.value)


def test_words_and_papers() -> None:
    assert (
        in_yaml("The newest.\nNone: base, or Nonesuch.") == "The newest. null: base, or Nonesuch."
    )
    assert papers(find("grpo.gae_lambda").exact[0]) == ("arXiv:1506.02438",)
    assert papers(find("sft.lora.r").exact[0]) == ("arXiv:2106.09685",)
    assert papers(find("simpo.loss.gamma").exact[0]) == ("arXiv:2405.14734",)
    assert papers(find("data.heldout").exact[0]) == ()
