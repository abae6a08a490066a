"""The engine that runs transformers' own model: against `generate`, against whole forward passes,
against itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

import families
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Engine, Request, SamplingParams, request_seed
from burnish.generation.engine import make_engine
from burnish.generation.native import NativeEngine
from burnish.generation.transformers_engine import TransformersEngine
from burnish.models import packed_attention
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.supported import SUPPORTED
from burnish.models.weights import merge_on_demand
from burnish.records import Completion

END = frozenset({256})
PROMPTS = [tuple([258, *range(40, 40 + n)]) for n in (3, 9, 1, 6, 3)]
NEW = 14  # tokens, so that sequences go well beyond every window
ENGINES = [NativeEngine.of, TransformersEngine]


def _engine(backbone: Backbone, **options: int) -> TransformersEngine:
    return TransformersEngine(View(backbone), end_tokens=END, **options)


def _requests(prompts: Sequence[tuple[int, ...]] = PROMPTS) -> list[Request]:
    return [Request(prompt, request_seed(number)) for number, prompt in enumerate(prompts)]


@torch.no_grad()
def _logprobs(model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> torch.Tensor:
    """[T]: of the completion's tokens, by one pass over the whole sequence, without a cache."""
    logits = model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits[
        0, len(prompt) - 1 : -1
    ]
    return logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("name", families.SETTINGS)
def test_greedy_tokens_and_logprobs_are_the_models_own(name: str):
    """Of every type in the table; prompts of four lengths run in one call."""
    backbone = families.random_backbone(name)
    engine = _engine(backbone)
    greedy = engine.generate(_requests(), SamplingParams(NEW, temperature=0.0))
    drawn = engine.generate(_requests(), SamplingParams(NEW))
    assert engine._pads == (SUPPORTED[name].trained == "packed")
    assert backbone.model.config._attn_implementation == packed_attention.NAME  # as it was
    model = backbone.model
    model.set_attn_implementation("eager")
    for prompt, completion in zip(PROMPTS, greedy, strict=True):
        own = model.generate(
            torch.tensor([prompt]),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=256,
            pad_token_id=257,
        )
        assert list(completion.tokens) == own[0, len(prompt) :].tolist()
    for prompt, completion in zip(PROMPTS, drawn, strict=True):
        assert completion.sampler_logprobs == completion.model_logprobs
        expected = _logprobs(model, prompt, completion.tokens)
        torch.testing.assert_close(
            torch.tensor(completion.model_logprobs), expected, atol=2e-4, rtol=2e-4
        )


def test_both_engines_draw_the_same(tiny: Backbone):
    params = SamplingParams(20, temperature=0.8, top_k=40, top_p=0.95, repetition_penalty=1.1)
    by_native, by_transformers = (
        kind(View(tiny), end_tokens=END).generate(_requests(PROMPTS * 3), params)
        for kind in ENGINES
    )
    assert [c.tokens for c in by_native] == [c.tokens for c in by_transformers]
    for name in ("sampler_logprobs", "model_logprobs"):
        a, b = (
            torch.tensor([x for c in found for x in getattr(c, name)])
            for found in (by_native, by_transformers)
        )
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["phi3", "lfm2", "gpt_oss"])
def test_the_same_request_gives_the_same_tokens_in_any_company(name: str):
    backbone, params = families.random_backbone(name), SamplingParams(16)
    requests = _requests(PROMPTS * 4)
    together = _engine(backbone).generate(requests, params)
    few_rows = _engine(backbone, max_rows=3, prefill_tokens=8).generate(requests, params)
    alone = [_engine(backbone).generate([request], params)[0] for request in requests[:4]]
    assert [c.tokens for c in together] == [c.tokens for c in few_rows]
    assert [c.tokens for c in together[:4]] == [c.tokens for c in alone]
    gap = torch.tensor(together[1].sampler_logprobs) - torch.tensor(alone[1].sampler_logprobs)
    assert float(gap.abs().max()) < 1e-4


def test_sampler_and_trainer_agree_with_an_adapter_and_follow_its_weights():
    backbone = families.random_backbone("olmo2")
    backbone.freeze()
    add_adapter(backbone, "policy", LoraSpec(4, 8.0), seed=0)
    add_adapter(backbone, "other", LoraSpec(4, 8.0), seed=1)
    view = View(backbone, "policy", LoraSpec(4, 8.0))
    engine = TransformersEngine(view, end_tokens=END)
    before = engine.generate(_requests(), SamplingParams(16))
    generator = torch.Generator().manual_seed(0)
    for label, parameter in backbone.model.named_parameters():
        if "lora_B" in label:
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    engine.load(merge_on_demand(view), version=1)
    completions = engine.generate(_requests(), SamplingParams(16, temperature=0.8))
    assert engine.version == 1
    assert [c.tokens for c in completions] != [c.tokens for c in before]
    batch = Batch(
        tuple(TokenSequence(p, c.tokens) for p, c in zip(PROMPTS, completions, strict=True))
    )
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    torch.testing.assert_close(
        view.logprobs(batch, temperature=0.8).logprobs_P, sampler, atol=1e-4, rtol=1e-4
    )


def test_sequences_end_where_longrope_would_turn_their_first_tokens_otherwise():
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.5],
        "long_factor": [3.0, 9.0],
        "original_max_position_embeddings": 14, "partial_rotary_factor": 0.5,
    }  # fmt: skip
    backbone = families.random_backbone(
        "phi3", rope_parameters=rope, original_max_position_embeddings=14
    )
    view, prompt = View(backbone), PROMPTS[0]
    assert (backbone.turned_alike, backbone.context) == (14, 256)
    (completion,) = _engine(backbone).generate(
        [Request(prompt, 1)], SamplingParams(10, min_new_tokens=10)
    )
    trained = view.logprobs(Batch((TokenSequence(prompt, completion.tokens),))).logprobs_P.detach()
    torch.testing.assert_close(
        trained, torch.tensor(completion.model_logprobs), atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="need 15 tokens; the model's context is 14"):
        _engine(backbone).generate([Request(prompt, 1)], SamplingParams(11))


def test_both_logprobs_are_what_their_names_say():
    backbone = families.random_backbone("smollm3")
    params = SamplingParams(
        12, temperature=0.7, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2
    )
    completions = _engine(backbone).generate(_requests(), params)
    model = backbone.model
    model.set_attn_implementation("eager")
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        raw = _logprobs(model, prompt, completion.tokens)
        torch.testing.assert_close(
            torch.tensor(completion.model_logprobs), raw, atol=1e-4, rtol=1e-4
        )
        tokens = list(prompt)
        for token, logprob in zip(completion.tokens, completion.sampler_logprobs, strict=True):
            ids = torch.tensor([tokens])
            logits = model(ids, use_cache=False).logits[:, -1].detach().clone()
            last = RepetitionPenaltyLogitsProcessor(1.2)(ids, logits) / 0.7
            for warper in (TopKLogitsWarper(20), TopPLogitsWarper(0.9), MinPLogitsWarper(0.01)):
                last = warper(None, last)
            assert logprob == pytest.approx(float(last.log_softmax(-1)[0, token]), abs=1e-4)
            tokens.append(token)


def test_recomputation_in_training_does_not_take_the_cache_away():
    """Layers that are run again in the backward pass refuse a cache: the engine switches that off,
    and on again."""
    backbone = families.random_backbone("olmo2")
    plain = _engine(backbone).generate(_requests(), SamplingParams(8))
    backbone.recompute_layers(True)
    assert _engine(backbone).generate(_requests(), SamplingParams(8)) == plain
    layers = backbone.model.model.layers
    assert all(layer.gradient_checkpointing and layer.training for layer in layers)
    assert not any(layer.mlp.training for layer in layers)


def test_the_model_is_left_as_it_was_when_sampling_fails():
    backbone = families.random_backbone("olmo2")
    backbone.recompute_layers(True)

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _engine(backbone).generate(_requests(), SamplingParams(8), progress=stop)
    assert backbone.model.config._attn_implementation == packed_attention.NAME
    assert all(layer.training for layer in backbone.model.model.layers)


def test_an_engine_that_sleeps_says_so_and_wakes():
    backbone = families.random_backbone("phi3")
    engine = _engine(backbone)
    awake = engine.generate(_requests(), SamplingParams(6))
    engine.sleep()
    assert engine.version == -1
    with pytest.raises(RuntimeError, match="sleeps"):
        engine.generate(_requests(), SamplingParams(6))
    engine.load(merge_on_demand(View(backbone)), version=3)
    assert engine.generate(_requests(), SamplingParams(6)) == awake


# --- which engine ---


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("phi3", {}, "models of type phi3"),
        ("llama", {"hidden_act": "relu", "attention_bias": False}, "activation 'relu'"),
    ],
)
def test_what_the_native_engine_lacks_goes_through_transformers(
    name: str, changes: dict[str, Any], reason: str
):
    backbone, told = families.random_backbone(name, **changes), list[str]()
    engine = make_engine(View(backbone), end_tokens=END, quantization="auto", say=told.append)
    assert isinstance(engine, TransformersEngine)
    (line,) = told
    assert all(part in line for part in (reason, "through transformers", "times the time"))
    (completion, *_) = engine.generate(_requests(), SamplingParams(8))
    backbone.model.set_attn_implementation("eager")
    expected = _logprobs(backbone.model, PROMPTS[0], completion.tokens)
    torch.testing.assert_close(
        torch.tensor(completion.model_logprobs), expected, atol=1e-4, rtol=1e-4
    )
    with pytest.raises(ValueError, match="cannot sample this model"):
        NativeEngine.of(View(backbone), end_tokens=END)


def test_sequences_longer_than_a_sliding_window_go_through_transformers():
    backbone, told = families.random_backbone("mistral", sliding_window=20), list[str]()
    view = View(backbone)
    assert isinstance(make_engine(view, end_tokens=END, longest=20), NativeEngine)
    engine = make_engine(view, end_tokens=END, longest=21, say=told.append)
    assert isinstance(engine, TransformersEngine)
    assert "20 tokens, and sequences may have 21" in told[0]


def test_a_weight_that_the_native_engine_does_not_know_goes_through_transformers():
    """Query and key norms are no part of a Llama; a model that has them must not be sampled
    without."""
    backbone = families.random_backbone("llama", attention_bias=False, mlp_bias=False)
    backbone.model.model.layers[1].self_attn.add_module("k_scale", torch.nn.Linear(4, 4))
    told: list[str] = []
    assert isinstance(
        make_engine(View(backbone), end_tokens=END, say=told.append), TransformersEngine
    )
    assert "model.layers.1.self_attn.k_scale.weight" in told[0]


def test_the_native_engine_is_taken_where_it_can_be_and_nothing_is_said(tiny: Backbone):
    told: list[str] = []
    assert isinstance(make_engine(View(tiny), end_tokens=END, say=told.append), NativeEngine)
    assert not told


def test_eight_bits_by_name_are_refused_and_auto_is_not():
    view = View(families.random_backbone("olmo2"))
    with pytest.raises(
        UserError, match=r"(?s)sampling\.quantization.*int8.*models of type olmo2.*auto or none"
    ):
        make_engine(view, end_tokens=END, quantization="int8")
    assert isinstance(make_engine(view, end_tokens=END, quantization="auto"), TransformersEngine)


# --- requests that are not the usual kind, to both engines ---


def _made(kind: type, backbone: Backbone) -> Engine:
    return kind(View(backbone), end_tokens=END)


@pytest.mark.parametrize("kind", ENGINES)
def test_nothing_asked_nothing_given(kind: type, tiny: Backbone):
    assert _made(kind, tiny).generate([], SamplingParams(4)) == []


@pytest.mark.parametrize("kind", ENGINES)
def test_a_prompt_without_tokens_is_refused(kind: type, tiny: Backbone):
    with pytest.raises(UserError, match="no tokens"):
        _made(kind, tiny).generate([Request(PROMPTS[0], 0), Request((), 0)], SamplingParams(4))


@pytest.mark.parametrize("kind", ENGINES)
def test_the_context_can_be_filled_to_its_last_token(kind: type, tiny: Backbone):
    tiny.model.config.max_position_embeddings = 40
    engine = _made(kind, tiny)
    params = SamplingParams(30, min_new_tokens=30)
    (completion,) = engine.generate([Request(tuple(range(10, 20)), 0)], params)
    assert len(completion.tokens) == 30
    with pytest.raises(ValueError, match="need 41 tokens; the model's context is 40"):
        engine.generate([Request(tuple(range(10, 21)), 0)], params)


@pytest.mark.parametrize("kind", ENGINES)
def test_one_token_is_drawn_where_one_is_asked_for(kind: type, tiny: Backbone):
    found = _made(kind, tiny).generate(_requests([(65,), (65, 66)]), SamplingParams(1))
    assert [len(c.tokens) for c in found] == [1, 1]
    assert all(c.finish_reason == ("stop" if c.tokens[-1] == 256 else "length") for c in found)


@pytest.mark.parametrize("kind", ENGINES)
def test_an_end_token_drawn_first_is_a_completion_of_no_text(kind: type, tiny: Backbone):
    """The last prompt ends at once, the first goes on, in one batch: rows leave it in any order."""
    free = _made(kind, tiny).generate(_requests(), SamplingParams(6, temperature=0.0))
    first = free[-1].tokens[0]
    ended = _made(kind, tiny).generate(
        _requests(), SamplingParams(6, temperature=0.0, stop_token_ids=(first,))
    )
    assert (ended[-1].tokens, ended[-1].finish_reason) == ((first,), "stop")
    for whole, short in zip(free, ended, strict=True):
        stop = whole.tokens.index(first) + 1 if first in whole.tokens else len(whole.tokens)
        assert short.tokens == whole.tokens[:stop]


@pytest.mark.parametrize("kind", ENGINES)
def test_a_stop_string_across_tokens_ends_a_completion(kind: type, tiny: Backbone):
    """The tiny model writes bytes, one a token."""
    free = _made(kind, tiny).generate(
        [Request(PROMPTS[0], seed) for seed in range(40)], SamplingParams(40)
    )
    read = tiny.tokenizer.decode
    seed, at = next(
        (seed, at)
        for seed, c in enumerate(free)
        for at in range(2, len(c.tokens) - 1)
        if all(read([t]).isascii() and read([t]).isalpha() for t in c.tokens[at : at + 2])
    )
    stop = read(free[seed].tokens[at : at + 2])
    (found,) = _made(kind, tiny).generate(
        [Request(PROMPTS[0], seed)], SamplingParams(40, stop=("never there", stop))
    )
    assert found.tokens == free[seed].tokens[: at + 2]
    assert (found.text, found.finish_reason) == (read(found.tokens[:-2]), "stop")


@pytest.mark.parametrize("kind", ENGINES)
def test_a_hundred_requests_of_one_prompt(kind: type, tiny: Backbone):
    requests = [Request(PROMPTS[0], request_seed(number)) for number in range(100)]
    steps: list[int] = []
    found = _made(kind, tiny).generate(requests, SamplingParams(5), progress=steps.append)
    assert len({c.tokens for c in found}) == 100
    assert sum(steps) == sum(len(c.tokens) for c in found)
    assert found[70] == _same(
        _made(kind, tiny).generate([requests[70]], SamplingParams(5))[0], found[70]
    )


def _same(one: Completion, other: Completion) -> Completion:
    """`other`, if the two are the same but for rounding."""
    assert one.tokens == other.tokens
    torch.testing.assert_close(
        torch.tensor(one.sampler_logprobs), torch.tensor(other.sampler_logprobs), atol=1e-4, rtol=0
    )
    return other


@pytest.mark.parametrize("kind", ENGINES)
def test_the_smallest_temperatures(kind: type, tiny: Backbone):
    """0 is greedy, and says the model's own log-probability; 0.01 nearly is, and says its own,
    close to 0."""
    greedy, cold = (
        _made(kind, tiny).generate(_requests(), SamplingParams(6, temperature=t))
        for t in (0.0, 0.01)
    )
    assert all(c.sampler_logprobs == c.model_logprobs for c in greedy)
    assert all(-20 < value <= 0 for c in cold for value in c.sampler_logprobs)
    view = View(tiny)
    batch = Batch(tuple(TokenSequence(p, c.tokens) for p, c in zip(PROMPTS, cold, strict=True)))
    for temperature, values in ((0.01, "sampler_logprobs"), (1.0, "model_logprobs")):
        expected = view.logprobs(batch, temperature=temperature).logprobs_P
        drawn = torch.tensor([x for c in cold for x in getattr(c, values)])
        torch.testing.assert_close(drawn, expected, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("kind", ENGINES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    "how", [{"temperature": 0.0}, {}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.5}]
)
def test_logits_that_are_no_numbers_are_an_error(
    kind: type, value: float, how: dict[str, Any], tiny: Backbone
):
    engine = _made(kind, tiny)
    with torch.no_grad():
        tiny.model.model.norm.weight.fill_(value)
    engine.load(merge_on_demand(View(tiny)), version=1)
    with pytest.raises(UserError, match="no finite numbers"):
        engine.generate(_requests(), SamplingParams(4, **how))
    assert tiny.model.config._attn_implementation == packed_attention.NAME
