"""Log-probabilities of texts under a model, packed: continuations of a context, and passages.

The rule of tokens is lm-eval's: context and continuation are tokenised together, white space at the
context's end belongs to the continuation, and what is scored are the tokens behind the number of
tokens that the context has by itself. A text without context is scored behind the token that begins
a text (bos, or else eos). A tokenizer that puts a bos before every text does so here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models.roles import View
from burnish.trainers.stages import column

MICRO_BATCH_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Scored:
    """The log-probabilities of the scored tokens, in nats; `cut` tokens of the context did not fit
    the model and were left out."""

    logprobs: tuple[float, ...]
    cut: int = 0

    @property
    def total(self) -> float:
        """log p of the whole."""
        return sum(self.logprobs)


class Likelihoods:
    """Scores texts under one role of a model."""

    def __init__(self, view: View, *, max_tokens: int = MICRO_BATCH_TOKENS) -> None:
        self._view, self._max_tokens = view, max_tokens
        self._tokenizer = view.backbone.tokenizer
        self._longest = view.backbone.turned_alike
        self._prefix = _prefix(self._tokenizer)

    def continuations(self, pairs: Sequence[tuple[str, str]]) -> list[Scored]:
        """Each continuation behind its context; contexts that follow one another and are the same
        are run once."""
        sequences, cuts = [], []
        for context, continuation in pairs:
            before, scored = encoded(self._tokenizer, context, continuation, self._prefix)
            if len(scored) >= self._longest:
                problem = (
                    f"a continuation has {len(scored)} tokens; the model takes {self._longest}."
                )
                raise UserError(problem, hint="Measure it as prose, which is cut into windows.")
            cut = max(0, len(before) + len(scored) - self._longest)
            sequences.append(TokenSequence(before[cut:], scored))
            cuts.append(cut)
        return [
            Scored(logprobs, cut)
            for logprobs, cut in zip(self._scored(sequences), cuts, strict=True)
        ]

    def passages(self, texts: Sequence[str]) -> list[Scored]:
        """Each text from its first token; a longer one than the model takes in windows, of which
        each begins behind the last token of the one before."""
        sequences, owners = list[TokenSequence](), list[int]()
        for owner, text in enumerate(texts):
            tokens = tuple(_tokens(self._tokenizer, text))
            if tokens[:1] == (self._prefix,):
                tokens = tokens[1:]
            room = self._longest - 1
            for start in range(0, len(tokens), room):
                before = (tokens[start - 1] if start else self._prefix,)
                sequences.append(TokenSequence(before, tokens[start : start + room]))
                owners.append(owner)
        found: list[list[float]] = [[] for _ in texts]
        for owner, logprobs in zip(owners, self._scored(sequences), strict=True):
            found[owner] += logprobs
        return [Scored(tuple(logprobs)) for logprobs in found]

    @torch.no_grad()
    def _scored(self, sequences: Sequence[TokenSequence]) -> list[tuple[float, ...]]:
        if not sequences:
            return []
        batch = Batch(tuple(sequences))
        logprobs_P = column(
            lambda part: self._view.logprobs(part).logprobs_P, batch, max_tokens=self._max_tokens
        )
        parts = logprobs_P.double().split(batch.counts_N.tolist())
        return [tuple(part.tolist()) for part in parts]


def encoded(
    tokenizer: Any, context: str, continuation: str, prefix: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(tokens before, tokens that are scored). Raises UserError where nothing is left to score."""
    bare = context.rstrip()
    continuation, context = context[len(bare) :] + continuation, bare
    if not context:
        whole = tuple(_tokens(tokenizer, continuation))
        before, scored = (prefix,), whole[1:] if whole[:1] == (prefix,) else whole
    else:
        whole = tuple(_tokens(tokenizer, context + continuation))
        before = tuple(_tokens(tokenizer, context))
        scored = whole[len(before) :]
    if not scored:
        raise UserError(f"nothing of {continuation!r} is left to score behind {context[-40:]!r}.")
    return before, scored


def _tokens(tokenizer: Any, text: str) -> list[int]:
    """With the bos that the tokenizer itself puts first, and nothing else that is no text."""
    plain = tokenizer(text, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    own = tokenizer("a")["input_ids"][:1]
    return [bos, *plain] if bos is not None and own == [bos] and plain[:1] != [bos] else plain


def _prefix(tokenizer: Any) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise UserError(
        "this model's tokenizer has neither a token that begins a text nor one that ends it.",
        hint="Measure tasks whose items have a context.",
    )
