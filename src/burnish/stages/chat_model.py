"""A local model as a chat model: what an endpoint does, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.sections import Sampling
from burnish.data.render import quotable, render_prompt
from burnish.models.backbone import load_backbone
from burnish.models.device import AUTO, resolve
from burnish.models.roles import View
from burnish.records import Message, Prompt
from burnish.stages.chat_settings import settle_as_in_its_run
from burnish.stages.sampling import prompt_sampler


class LocalChat:
    """`reference` is a folder, a hub id or an alias; the random numbers of an answer follow from
    (seed, conversation)."""

    def __init__(
        self, reference: str, *, max_new_tokens: int = 256, temperature: float = 0.0, seed: int = 0,
        max_length: int = 2048, say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.name = reference
        self._view = View(load_backbone(reference, device=resolve(AUTO), say=say))
        self._view.backbone.freeze()
        settle_as_in_its_run(self._view.backbone, reference)
        sampling = Sampling(max_new_tokens=max_new_tokens, temperature=temperature)
        self._max_length = min(max_length, self._view.backbone.context)
        self._sampler = prompt_sampler(
            self._view, sampling, seed=seed, max_length=self._max_length, purpose="chat", say=say
        )

    def complete(self, messages: Sequence[Message]) -> str:
        """The answer to a conversation. Raises UserError where it leaves no room for one."""
        return self.complete_all([messages])[0][0]

    def complete_all(
        self, conversations: Sequence[Sequence[Message]], *, samples: int = 1
    ) -> list[list[str]]:
        """`samples` answers to each conversation, all written together."""
        prompts = [
            self._prompt(repr([(m["role"], m["content"]) for m in talk]), talk)
            for talk in conversations
        ]
        texts = [
            rollout.completion.text for rollout in self._sampler.generate(prompts, samples=samples)
        ]
        return [texts[i : i + samples] for i in range(0, len(texts), samples)]

    def _prompt(self, name: str, messages: Sequence[Message]) -> Prompt:
        """The conversation, which quotes what models wrote, without tokens that would end a turn in
        it."""
        return Prompt(name, quotable(self._view.backbone.tokenizer, messages))

    @torch.no_grad()
    def choose(self, messages: Sequence[Message], options: Sequence[str]) -> tuple[float, ...]:
        """softmax over the options of log P(option | conversation), each option's tokens summed."""
        tokenizer = self._view.backbone.tokenizer
        prompt = render_prompt(
            tokenizer, self._prompt("question", messages), max_tokens=self._max_length - 8
        )
        endings = [
            tuple(tokenizer(option, add_special_tokens=False)["input_ids"]) for option in options
        ]
        batch = Batch(tuple(TokenSequence(prompt, ending) for ending in endings))
        logprobs = self._view.logprobs(batch).logprobs_P.split([len(ending) for ending in endings])
        return tuple(
            torch.stack([part.sum() for part in logprobs]).double().softmax(dim=0).tolist()
        )
