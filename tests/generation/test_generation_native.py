"""The native engine against transformers, and against the trainer's own log-probabilities."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MinPLogitsWarper,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from burnish.batch import Batch, Segment, TokenSequence
from burnish.data.columns import prompts as load_prompts
from burnish.data.sources import read_rows
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.models import int8, packed_attention
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sources import resolve
from burnish.models.tiny import tiny_tokenizer
from burnish.models.weights import merge_on_demand

PROMPTS = [tuple([258, *range(40, 40 + n)]) for n in (3, 9, 1, 6, 3)]


def _engine(backbone: Backbone, **options: int) -> NativeEngine:
    return NativeEngine.of(View(backbone), end_tokens=frozenset({256}), **options)


def _greedy(model: LlamaForCausalLM, prompt: tuple[int, ...], count: int) -> list[int]:
    """The oracle: the model's own forward on the whole sequence, once a token."""
    tokens = list(prompt)
    while len(tokens) < len(prompt) + count:
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == 256:
            break
    return tokens[len(prompt) :]


FAMILIES = [
    (Qwen2ForCausalLM, Qwen2Config),
    (Qwen3ForCausalLM, Qwen3Config),
    (GemmaForCausalLM, GemmaConfig),
    (Gemma3ForCausalLM, partial(Gemma3TextConfig, query_pre_attn_scalar=13, sliding_window=64)),
]


def _family(kind: type, config: Callable[..., object]) -> Backbone:
    """A small random model whose norms and biases matter."""
    model = _small(kind, config)
    for name, parameter in model.named_parameters():
        if "bias" in name or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.set_attn_implementation(packed_attention.NAME)
    return Backbone(model, tiny_tokenizer(), "test")


def _small(kind: type, config: Callable[..., object]) -> torch.nn.Module:
    torch.manual_seed(0)
    return (
        kind(
            config(
                vocab_size=259,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=128,
                tie_word_embeddings=False,
                eos_token_id=256,
            )
        )
        .float()
        .eval()
    )


@pytest.mark.parametrize(("kind", "config"), [*FAMILIES, (None, None)])
def test_greedy_equals_the_models_own_forward(tiny: Backbone, kind: type, config: type):
    backbone = tiny if kind is None else _family(kind, config)
    found = _engine(backbone, max_rows=2).generate(
        [Request(p, 0) for p in PROMPTS], SamplingParams(12, temperature=0.0)
    )
    backbone.model.set_attn_implementation("eager")
    assert [list(c.tokens) for c in found] == [_greedy(backbone.model, p, 12) for p in PROMPTS]


@pytest.mark.parametrize(("kind", "config"), FAMILIES)
def test_sampler_and_trainer_agree_in_every_family(kind: type, config: type):
    backbone = _family(kind, config)
    requests = [Request(p, i) for i, p in enumerate(PROMPTS)]
    completions = _engine(backbone).generate(requests, SamplingParams(20))
    batch = Batch(
        tuple(
            TokenSequence(r.prompt_tokens, c.tokens)
            for r, c in zip(requests, completions, strict=True)
        )
    )
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    torch.testing.assert_close(
        View(backbone).logprobs(batch).logprobs_P, sampler, atol=1e-4, rtol=1e-4
    )


def test_a_bias_that_the_engine_would_leave_out_is_refused():
    backbone = _family(LlamaForCausalLM, partial(LlamaConfig, attention_bias=True))
    with pytest.raises(ValueError, match="attention_bias"):
        _engine(backbone)


def test_a_sliding_window_bounds_what_the_native_engine_takes():
    backbone = _family(*FAMILIES[-1])
    assert backbone.context == 128
    with pytest.raises(ValueError, match="context is 64"):
        _engine(backbone).generate([Request(tuple(range(60)), 0)], SamplingParams(5))


def test_the_same_request_gives_the_same_tokens_in_any_company(tiny: Backbone):
    requests = [Request(p, request_seed(i)) for i, p in enumerate(PROMPTS * 4)]
    params = SamplingParams(16, temperature=1.0)
    together = _engine(tiny, max_rows=20).generate(requests, params)
    few_rows = _engine(tiny, max_rows=3, prefill_tokens=8).generate(requests, params)
    alone = [_engine(tiny).generate([r], params)[0] for r in requests[:4]]
    assert [c.tokens for c in together] == [c.tokens for c in few_rows]
    assert [c.tokens for c in together[:4]] == [c.tokens for c in alone]


def test_sampler_and_trainer_agree_with_an_adapter(tiny: Backbone):
    tiny.freeze()
    add_adapter(tiny, "policy", LoraSpec(4, 8.0), seed=0)
    view = View(tiny, "policy", LoraSpec(4, 8.0))
    engine = NativeEngine.of(view, end_tokens=frozenset({256}))
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(0))
    engine.load(merge_on_demand(view), version=1)
    requests = [Request(p, i) for i, p in enumerate(PROMPTS)]
    completions = engine.generate(requests, SamplingParams(20, temperature=0.8))
    batch = Batch(
        tuple(
            TokenSequence(r.prompt_tokens, c.tokens)
            for r, c in zip(requests, completions, strict=True)
        )
    )
    sampler = torch.tensor([x for c in completions for x in c.sampler_logprobs])
    torch.testing.assert_close(
        view.logprobs(batch, temperature=0.8).logprobs_P, sampler, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("products", [None, torch.int8])
def test_an_engine_that_slept_writes_what_it_would_have_written(
    tiny: Backbone, products: torch.dtype | None
):
    if products == torch.int8 and not int8.available():
        pytest.skip("no 8-bit products here")
    engine = NativeEngine.of(View(tiny), end_tokens=frozenset({256}), products=products)
    requests = [Request(p, i) for i, p in enumerate(PROMPTS)]
    awake = engine.generate(requests, SamplingParams(12))
    engine.sleep()
    with pytest.raises(RuntimeError, match="sleeps"):
        engine.generate(requests, SamplingParams(12))
    engine.load(merge_on_demand(View(tiny)), version=3)
    assert engine.generate(requests, SamplingParams(12)) == awake
    assert engine.version == 3


def test_both_logprobs_are_what_their_names_say(tiny: Backbone):
    params = SamplingParams(
        16, temperature=0.7, top_k=20, top_p=0.9, min_p=0.01, repetition_penalty=1.2
    )
    requests = [Request(p, i) for i, p in enumerate(PROMPTS)]
    completions = _engine(tiny).generate(requests, params)
    view = View(tiny)
    batch = Batch(
        tuple(
            TokenSequence(r.prompt_tokens, c.tokens)
            for r, c in zip(requests, completions, strict=True)
        )
    )
    raw = torch.tensor([x for c in completions for x in c.model_logprobs])
    torch.testing.assert_close(view.logprobs(batch).logprobs_P, raw, atol=1e-4, rtol=1e-4)
    for request, completion in zip(requests, completions, strict=True):
        tokens = list(request.prompt_tokens)
        for token, logprob in zip(completion.tokens, completion.sampler_logprobs, strict=True):
            ids = torch.tensor([tokens])
            logits = tiny.model(
                ids,
                position_ids=torch.arange(len(tokens))[None],
                segments=(Segment(0, len(tokens)),),
            )
            last = (
                RepetitionPenaltyLogitsProcessor(1.2)(ids, logits.logits[:, -1].detach().clone())
                / 0.7
            )
            for warper in (TopKLogitsWarper(20), TopPLogitsWarper(0.9), MinPLogitsWarper(0.01)):
                last = warper(None, last)
            assert logprob == pytest.approx(float(last.log_softmax(-1)[0, token]), abs=1e-4)
            tokens.append(token)


def test_a_stop_string_ends_a_completion(tiny: Backbone):
    """The tiny model writes random bytes: each letter is a token, so two letters lie across two
    tokens."""
    free = _engine(tiny).generate([Request(PROMPTS[0], i) for i in range(40)], SamplingParams(40))
    read = tiny.tokenizer.decode
    seed, at = next(
        (seed, at)
        for seed, c in enumerate(free)
        for at in range(2, len(c.tokens) - 1)
        if all(read([t]).isascii() and read([t]).isalpha() for t in c.tokens[at : at + 2])
    )
    stop = read(free[seed].tokens[at : at + 2])
    found = _engine(tiny).generate(
        [Request(PROMPTS[0], seed)], SamplingParams(40, stop=("never there", stop))
    )[0]
    assert found.finish_reason == "stop"
    assert found.tokens == free[seed].tokens[: at + 2]
    assert found.text == read(found.tokens[:-2])


def test_stop_tokens_end_as_end_tokens_do(tiny: Backbone):
    free = _engine(tiny).generate([Request(PROMPTS[0], 3)], SamplingParams(10))[0]
    found = _engine(tiny).generate(
        [Request(PROMPTS[0], 3)], SamplingParams(10, stop_token_ids=(free.tokens[4],))
    )[0]
    assert found.tokens == free.tokens[: free.tokens.index(free.tokens[4]) + 1]
    assert found.finish_reason == "stop"


def test_end_tokens_end_and_are_kept(tiny: Backbone):
    engine = NativeEngine.of(View(tiny), end_tokens=frozenset(range(0, 259, 3)))
    completions = engine.generate([Request(PROMPTS[0], i) for i in range(30)], SamplingParams(5))
    for completion in completions:
        assert (completion.finish_reason == "stop") == (completion.tokens[-1] % 3 == 0)
        assert all(token % 3 for token in completion.tokens[:-1])
        assert completion.finish_reason == "stop" or len(completion.tokens) == 5
    assert {c.finish_reason for c in completions} == {"stop", "length"}


def test_end_tokens_wait_for_min_new_tokens(tiny: Backbone):
    engine = NativeEngine.of(View(tiny), end_tokens=frozenset(range(0, 259, 2)))
    completions = engine.generate(
        [Request(PROMPTS[0], i) for i in range(10)], SamplingParams(5, min_new_tokens=4)
    )
    assert all(len(c.tokens) >= 4 for c in completions)


def test_no_requests_no_completions(tiny: Backbone):
    assert _engine(tiny).generate([], SamplingParams(4)) == []


def test_what_does_not_fit_the_context_is_refused(tiny: Backbone):
    with pytest.raises(ValueError, match="context is 1024"):
        _engine(tiny).generate([Request(tuple([1] * 1020), 0)], SamplingParams(8))


@pytest.mark.real
def test_greedy_equals_transformers_generate_on_the_real_model(smollm: Backbone):
    """64 prompts, from a few tokens to several turns, in our batches and in theirs."""
    questions = [
        prompt.messages[0]
        for prompt in load_prompts(read_rows("builtin:quickstart/prompts")).items[:64]
    ]
    talks = [
        [*questions[i - i % 4 : i : 2], {"role": "assistant", "content": "Good question."}, q]
        if i % 4
        else [q]
        for i, q in enumerate(questions)
    ]
    render = partial(
        smollm.tokenizer.apply_chat_template,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=False,
    )
    prompts = [tuple(render(talk)) for talk in talks]
    end, pad = smollm.tokenizer.eos_token_id, smollm.tokenizer.pad_token_id
    found = NativeEngine.of(View(smollm), end_tokens=frozenset({end}), max_rows=24).generate(
        [Request(p, 0) for p in prompts], SamplingParams(24, temperature=0.0)
    )
    theirs = AutoModelForCausalLM.from_pretrained(resolve("smollm2-135m").folder)
    for start in range(0, 64, 16):
        some = prompts[start : start + 16]
        width = max(map(len, some))
        padded = torch.tensor([[pad] * (width - len(p)) + list(p) for p in some])
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in some])
        output = theirs.generate(
            padded, attention_mask=mask, max_new_tokens=24, do_sample=False, pad_token_id=pad
        )
        for tokens, completion in zip(
            output[:, width:].tolist(), found[start : start + 16], strict=True
        ):
            assert tokens[: len(completion.tokens)] == list(completion.tokens)
            assert completion.finish_reason == "stop" or len(completion.tokens) == 24
    prompts = prompts[:4]
    requests = [Request(p, i) for i, p in enumerate(prompts)]
    sampled = NativeEngine.of(View(smollm), end_tokens=frozenset({end})).generate(
        requests, SamplingParams(24)
    )
    batch = Batch(
        tuple(
            TokenSequence(r.prompt_tokens, c.tokens) for r, c in zip(requests, sampled, strict=True)
        )
    )
    with torch.no_grad():
        trainer = View(smollm).logprobs(batch).logprobs_P
    torch.testing.assert_close(
        trainer,
        torch.tensor([x for c in sampled for x in c.sampler_logprobs]),
        atol=1e-4,
        rtol=1e-4,
    )
