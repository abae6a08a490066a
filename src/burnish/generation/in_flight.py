"""Requests that are being written, and the draw of a token for each: what every engine does with
its logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.sampling import logprob_of, penalise_repetition, sample, uniforms
from burnish.records import Completion


@dataclass(eq=False)
class InFlight:
    """A request and what has been drawn for it so far; its completion once it has come to its end.

    `alternatives[t]` are the `top_logprobs` most likely tokens at t with their log-probabilities,
    those of the model as `model_logprobs`; empty where none are asked for.
    """

    request: Request
    params: SamplingParams
    top_logprobs: int = 0
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    model_logprobs: list[float] = field(default_factory=list)
    alternatives: list[tuple[tuple[int, float], ...]] = field(default_factory=list)
    completion: Completion | None = None

    @property
    def length(self) -> int:
        """Tokens whose keys and values are needed to go on: the prompt and what was drawn but for
        the last."""
        return len(self.request.prompt_tokens) + len(self.tokens) - 1

    def finished(self, finisher: Finisher) -> Completion | None:
        """The completion, if the last token drawn was its last."""
        params = self.params
        if len(self.tokens) < params.max_new_tokens and not finisher.stopped(self.tokens, params):
            return None
        return finisher.completion(
            self.tokens, params, sampler_logprobs=self.logprobs, model_logprobs=self.model_logprobs
        )


def check_room(request: Request, params: SamplingParams, *, context: int) -> None:
    """Raise UserError for a prompt without tokens, ValueError if a prompt and its completion do not
    fit the model's `context`."""
    if not request.prompt_tokens:
        raise UserError("a prompt has no tokens: there is nothing to go on from.")
    length = len(request.prompt_tokens) + params.max_new_tokens
    if length > context:
        raise ValueError(
            f"a prompt and its completion need {length} tokens; the model's context is {context}"
        )


def draw(
    active: Sequence[InFlight],
    logits_BV: Tensor,
    finisher: Finisher,
    *,
    scratch_RV: Tensor | None = None,
) -> None:
    """Append one token to each active sequence, drawn from its row of the logits with its own
    random number.

    `scratch_RV` (float32, R ≥ B) saves memory of that size. Raises UserError where the logits are
    no numbers.
    """
    first = active[0].params
    if all(sequence.params == first for sequence in active):
        _draw_alike(active, logits_BV, first, finisher, scratch_RV)
        return
    alike: dict[SamplingParams, list[int]] = {}
    for row, sequence in enumerate(active):
        alike.setdefault(sequence.params, []).append(row)
    for params, rows in alike.items():
        _draw_alike([active[row] for row in rows], logits_BV[rows], params, finisher, scratch_RV)


def _draw_alike(
    active: Sequence[InFlight],
    logits_BV: Tensor,
    params: SamplingParams,
    finisher: Finisher,
    scratch_RV: Tensor | None,
) -> None:
    """`draw` for sequences with the same parameters."""
    shaped_BV = _shaped(active, logits_BV, params, finisher)
    seeds = np.array([s.request.seed for s in active], dtype=np.uint64)
    places = np.array([len(s.tokens) for s in active], dtype=np.uint64)
    tokens_B, logprobs_B = sample(
        shaped_BV,
        uniforms(seeds, places),
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        min_p=params.min_p,
        scratch_RV=scratch_RV,
    )
    untouched = shaped_BV is logits_BV and params.temperature in (0.0, 1.0) and not params.truncates
    model_logprobs_B = logprobs_B if untouched else logprob_of(logits_BV, tokens_B)
    rows = zip(
        active, tokens_B.tolist(), logprobs_B.tolist(), model_logprobs_B.tolist(), strict=True
    )
    for sequence, token, logprob, model_logprob in rows:
        if not (math.isfinite(logprob) and math.isfinite(model_logprob)):
            raise UserError(
                "the model's logits are no finite numbers, so no token can be drawn.",
                hint="Its weights hold NaN or infinity, or have grown too large: "
                "train again with a lower learning rate, or name a model that is whole.",
            )
        sequence.tokens.append(token)
        sequence.logprobs.append(logprob)
        sequence.model_logprobs.append(model_logprob)
    _keep_alternatives(active, logits_BV)


def _keep_alternatives(active: Sequence[InFlight], logits_BV: Tensor) -> None:
    """The most likely tokens of the model itself, for those that ask for them."""
    rows = [row for row, sequence in enumerate(active) if sequence.top_logprobs]
    if not rows:
        return
    most = max(active[row].top_logprobs for row in rows)
    top_BK, ids_BK = logits_BV[rows].float().log_softmax(dim=-1).topk(most, dim=-1)
    for row, ids, logprobs in zip(rows, ids_BK.tolist(), top_BK.tolist(), strict=True):
        best = tuple(zip(ids, logprobs, strict=True))
        active[row].alternatives.append(best[: active[row].top_logprobs])


def _shaped(
    active: Sequence[InFlight], logits_BV: Tensor, params: SamplingParams, finisher: Finisher
) -> Tensor:
    """The logits with repetition penalised and early ends forbidden; the same tensor where there is
    nothing to do."""
    shaped_BV = logits_BV
    if params.repetition_penalty != 1.0:
        seen_BV = torch.zeros_like(logits_BV, dtype=torch.bool)
        for row, sequence in enumerate(active):
            seen_BV[row, list({*sequence.request.prompt_tokens, *sequence.tokens})] = True
        shaped_BV = penalise_repetition(logits_BV, seen_BV, params.repetition_penalty)
    early = [
        row for row, sequence in enumerate(active) if len(sequence.tokens) < params.min_new_tokens
    ]
    if early:
        shaped_BV = shaped_BV.clone() if shaped_BV is logits_BV else shaped_BV
        for token in finisher.ends(params):
            shaped_BV[early, token] = -torch.inf
    return shaped_BV
