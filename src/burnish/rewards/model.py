"""A trained reward model as a reward: scores rollouts, gives no gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.ensemble import RewardModel, scores_and_spread
from burnish.models.roles import finite
from burnish.ranks import dealt
from burnish.records import Completion, Prompt, Reward, Rollout
from burnish.rewards.base import Judged, Judgement, Scope, scoped

SPREAD = "reward_spread"
"""What the standard deviation of the members' scores is called among components."""


class RewardModelScorer:
    """Scores rollouts with a reward model.

    The model was trained on responses that end with the template's own end token, the first of
    `end_tokens`. A completion that was cut off, or ended at a stop string, has none, so one is
    added for scoring: the model
    then judges a text that stops in mid-sentence, as the annotators did, instead of reading its
    score from a place it was never trained at.
    """

    name = "reward_model"

    def __init__(self, view: RewardModel, *, end_tokens: Sequence[int], max_tokens: int) -> None:
        self._view, self._end_tokens, self._max_tokens = view, tuple(end_tokens), max_tokens

    @torch.no_grad()
    def score(self, rollouts: Sequence[Rollout]) -> list[Reward]:
        """One reward for each rollout, in order; of several members their spread is a component.
        Raises UserError where the model's scores are no finite numbers."""
        if not rollouts:
            return []
        batch = Batch(tuple(self._sequence(rollout) for rollout in rollouts))
        pieces = [batch.select(rows) for rows in batch.micro_batches(self._max_tokens)]
        found = dealt(partial(scores_and_spread, self._view), pieces)
        scores_B = finite(torch.cat([scores for scores, _ in found]), "scores of the reward model")
        spreads = [value for _, spread in found if spread is not None for value in spread.tolist()]
        if not spreads:
            return [Reward(score, {self.name: score}) for score in scores_B.tolist()]
        return [
            Reward(score, {self.name: score, SPREAD: spread})
            for score, spread in zip(scores_B.tolist(), spreads, strict=True)
        ]

    def _sequence(self, rollout: Rollout) -> TokenSequence:
        tokens = rollout.completion.tokens
        ended = bool(tokens) and tokens[-1] in self._end_tokens
        return TokenSequence(
            rollout.prompt_tokens, tokens if ended else (*tokens, self._end_tokens[0])
        )


class ScopedModelReward:
    """A reward model on the part of the completion that its scope says.

    `full` reads the tokens that the sampler drew. `answer` reads the prompt and then `answer_of`
    the completion, tokenised
    as a response of its own: reasoning tokens are not there for the model, so they cannot please
    it.
    """

    on_every_rank = True
    """All ranks are asked together, for each holds a share of the weights."""

    def __init__(
        self,
        view: RewardModel,
        *,
        scope: Scope,
        end_tokens: Sequence[int],
        max_tokens: int,
        render: Callable[[Prompt], tuple[int, ...]] | None = None,
    ) -> None:
        """`render` writes prompts in this model's tokens, where its tokenizer is not the policy's;
        None: they are the same."""
        self._scorer = RewardModelScorer(view, end_tokens=end_tokens, max_tokens=max_tokens)
        self.view, self._tokenizer, self._render = view, view.backbone.tokenizer, render
        self._scope: Scope = scope

    def score(self, rollouts: Sequence[Rollout]) -> list[Judgement]:
        """The model's score of each."""
        return list(self.judged(rollouts).judgements)

    def judged(self, rollouts: Sequence[Rollout]) -> Judged:
        """The same, with the members' spread, where there are several."""
        rewards = self._scorer.score([self._seen(r) for r in rollouts])
        spreads = tuple(reward.components.get(SPREAD) for reward in rewards)
        logged = {SPREAD: spreads} if any(value is not None for value in spreads) else {}
        return Judged(tuple(Judgement(reward.value) for reward in rewards), logged)

    def _seen(self, rollout: Rollout) -> Rollout:
        if self._scope == "full" and self._render is None:
            return rollout
        text = scoped(rollout.completion.text, self._scope)
        tokens = tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])
        prompt = rollout.prompt_tokens if self._render is None else self._render(rollout.prompt)
        completion = Completion(text, tokens, (), rollout.completion.finish_reason)
        return Rollout(rollout.prompt, prompt, completion, rollout.weight_version)
