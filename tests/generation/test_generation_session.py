"""Requests join and leave an open call: each gets what it gets alone, whatever its company asks
for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.generation.native import NativeEngine
from burnish.generation.transformers_engine import TransformersEngine
from burnish.models.backbone import Backbone
from burnish.models.roles import View

PROMPTS = [(5, 6, 7), (9,), (11, 12, 13, 14, 15, 16), (9, 8)]
PARAMS = [
    SamplingParams(12, temperature=0.0),
    SamplingParams(7, temperature=1.0),
    SamplingParams(20, temperature=0.8, top_p=0.9),
    SamplingParams(5, temperature=0.0, repetition_penalty=1.3),
]
JOBS = [
    (Request(prompt, 100 + i), params)
    for i, (prompt, params) in enumerate(zip(PROMPTS, PARAMS, strict=True))
]


def native(tiny: Backbone, **options: Any) -> NativeEngine:
    return NativeEngine.of(View(tiny), end_tokens=frozenset({0}), **options)


def transformers(tiny: Backbone, **options: Any) -> TransformersEngine:
    return TransformersEngine(View(tiny), end_tokens=frozenset({0}), **options)


ENGINES = pytest.mark.parametrize("make", [native, transformers])
Make = Callable[..., Any]


@ENGINES
def test_each_gets_what_it_gets_alone_whenever_it_joins(make: Make, tiny: Backbone):
    engine = make(tiny)
    alone = [engine.generate([request], params)[0] for request, params in JOBS]
    with engine.open(max_rows=3) as session:
        sequences = [session.add(*JOBS[0])]
        for job in JOBS[1:]:
            session.step()
            sequences.append(session.add(*job))
        while session.unfinished:
            session.step()
    for sequence, completion in zip(sequences, alone, strict=True):
        assert sequence.completion is not None
        assert sequence.completion.tokens == completion.tokens
        assert sequence.completion.finish_reason == completion.finish_reason
        assert sequence.completion.sampler_logprobs == pytest.approx(
            completion.sampler_logprobs, abs=1e-5
        )


@ENGINES
def test_who_leaves_changes_nothing_for_the_others(make: Make, tiny: Backbone):
    engine = make(tiny)
    alone = [engine.generate([request], params)[0] for request, params in JOBS]
    with engine.open() as session:
        sequences = [session.add(request, params) for request, params in JOBS]
        session.step()
        session.step()
        gone, drawn = sequences[2], len(sequences[2].tokens)
        session.cancel(gone)
        session.cancel(gone)
        while session.unfinished:
            session.step()
    assert gone.completion is None
    assert len(gone.tokens) == drawn
    for number in (0, 1, 3):
        completion = sequences[number].completion
        assert completion is not None
        assert completion.tokens == alone[number].tokens


def test_the_cache_grows_with_what_comes(tiny: Backbone):
    engine = native(tiny)
    params = SamplingParams(40, temperature=1.0)
    requests = [Request((3 + i, *range(20, 20 + 5 * i)), i) for i in range(6)]
    expected = [completion.tokens for completion in engine.generate(requests, params)]
    with engine.open(rows=1, places=4) as session:
        sequences = [session.add(request, params) for request in requests[:1]]
        session.step()
        sequences += [session.add(request, params) for request in requests[1:]]
        while session.unfinished:
            session.step()
    assert [s.completion and s.completion.tokens for s in sequences] == expected


@ENGINES
def test_alternatives_are_the_most_likely_tokens_of_the_model(make: Make, tiny: Backbone):
    request = Request((5, 6, 7), 3)
    params = SamplingParams(4, temperature=0.7, top_p=0.5)
    with make(tiny).open() as session:
        asked = session.add(request, params, top_logprobs=3)
        other = session.add(request, params)
        while session.unfinished:
            session.step()
    tokens = tuple(asked.tokens)
    assert other.alternatives == []
    assert len(asked.alternatives) == len(tokens)
    with torch.no_grad():
        batch = Batch((TokenSequence((5, 6, 7), tokens),))
        hidden = View(tiny).hidden(batch)[2 : 2 + len(tokens)]
        logprobs = tiny.logits(hidden).log_softmax(dim=-1)
    for best, row in zip(asked.alternatives, logprobs, strict=True):
        top = row.topk(3)
        assert [token for token, _ in best] == top.indices.tolist()
        assert [logprob for _, logprob in best] == pytest.approx(top.values.tolist(), abs=1e-4)


@ENGINES
def test_what_does_not_fit_is_refused_at_the_door(make: Make, tiny: Backbone):
    engine = make(tiny)
    with engine.open(max_length=16) as session:
        assert session.max_length == 16
        with pytest.raises(ValueError, match="the model's context is 16"):
            session.add(Request((1,) * 10, 0), SamplingParams(7))
        with pytest.raises(UserError, match="no tokens"):
            session.add(Request((), 0), SamplingParams(7))
        assert session.step() == []
    engine.sleep()
    with pytest.raises(RuntimeError, match="sleeps"):
        engine.open()
