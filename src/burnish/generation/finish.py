"""Where a completion ends, and which text its tokens stand for: the one place that every engine
asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from burnish.generation.base import SamplingParams
from burnish.records import Completion


@dataclass(frozen=True)
class Finisher:
    """What ends a completion and what it says.

    Args:
        tokenizer: decodes.
        end_tokens: ids that end a completion besides `SamplingParams.stop_token_ids`.
    """

    tokenizer: Any
    end_tokens: frozenset[int]

    def ends(self, params: SamplingParams) -> frozenset[int]:
        """The ids that end a completion."""
        return self.end_tokens.union(params.stop_token_ids)

    def stopped(self, tokens: Sequence[int], params: SamplingParams) -> bool:
        """Whether the last token drawn ends the completion, by itself or by completing a stop
        string."""
        return tokens[-1] in self.ends(params) or self._holds_stop(tokens, params)

    def completion(
        self,
        tokens: Sequence[int],
        params: SamplingParams,
        *,
        sampler_logprobs: Sequence[float],
        model_logprobs: Sequence[float],
    ) -> Completion:
        """The record of a completion that has come to its end."""
        return Completion(
            text=self.text(tokens, params),
            tokens=tuple(tokens),
            sampler_logprobs=tuple(sampler_logprobs),
            finish_reason="stop" if self.stopped(tokens, params) else "length",
            model_logprobs=tuple(model_logprobs),
        )

    def text(self, tokens: Sequence[int], params: SamplingParams) -> str:
        """What the tokens say, up to the first stop string, without the token that ends them."""
        said = tokens[:-1] if tokens and tokens[-1] in self.ends(params) else tokens
        text = self.decoded(said)
        starts = [text.find(stop) for stop in params.stop if stop in text]
        return text[: min(starts)] if starts else text

    def _holds_stop(self, tokens: Sequence[int], params: SamplingParams) -> bool:
        """Whether a stop string stands at the end (in the last token, or across the last few)."""
        if not params.stop:
            return False
        longest = max(len(text.encode()) for text in params.stop)  # a token holds at least one byte
        tail = self.decoded(tokens[-(longest + 4) :])
        return any(text in tail for text in params.stop)

    def decoded(self, tokens: Sequence[int]) -> str:
        """Special tokens are kept: reasoning marks, channels and stop strings may be such. Only
        padding, and what begins a text, mean nothing in an answer."""
        blank = {self.tokenizer.pad_token_id, self.tokenizer.bos_token_id}
        return self.tokenizer.decode([token for token in tokens if token not in blank])
