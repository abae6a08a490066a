"""Models for annotators to chat with: the native engine in a process of its own, or an
OpenAI-compatible endpoint."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections.abc import Sequence
from typing import Any

from burnish.endpoint import Endpoint
from burnish.errors import UserError
from burnish.isolation import safe_spawning
from burnish.records import Message

_PATIENCE = 180.0  # seconds for one turn


class NativeChat:
    """A model in a process of its own: the server imports no torch, and stays quick while the model
    writes."""

    def __init__(
        self, model: str, *, temperature: float, max_new_tokens: int, seed: int = 0
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        options = {"temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
        self._process = context.Process(target=_write, args=(theirs, model, options), daemon=True)
        with safe_spawning():
            self._process.start()
        theirs.close()
        self._lock = threading.Lock()
        self._receive()  # loaded, or the reason why not

    def __call__(self, messages: Sequence[Message], count: int) -> list[str]:
        """`count` answers to a conversation. One at a time: who asks meanwhile waits."""
        with self._lock:
            try:
                self._ours.send((list(messages), count))
                return self._receive()
            except (EOFError, OSError) as error:
                raise UserError(
                    "the model's process has ended.", hint="Start the server again."
                ) from error

    def _receive(self) -> Any:
        if not self._ours.poll(_PATIENCE):
            self.close()
            raise UserError(f"the model did not answer within {_PATIENCE:.0f} seconds.")
        try:
            kind, value = self._ours.recv()
        except EOFError as error:
            raise UserError("the model's process has ended.") from error
        if kind == "error":
            raise UserError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join(timeout=5)


def _write(pipe: Any, model: str, options: dict[str, Any]) -> None:
    """The other process: load, then answer until the pipe closes."""
    try:
        from burnish.config.sections import Sampling
        from burnish.data.render import quotable
        from burnish.models.backbone import load_backbone
        from burnish.models.device import AUTO, resolve
        from burnish.models.roles import View
        from burnish.records import Prompt
        from burnish.stages.chat_settings import settle_as_in_its_run
        from burnish.stages.sampling import prompt_sampler
        from burnish.stages.serve import model_of

        reference = model_of(model)
        backbone = load_backbone(reference, device=resolve(AUTO), say=lambda line: None)
        settle_as_in_its_run(backbone, reference)
        sampling = Sampling(
            temperature=options["temperature"], max_new_tokens=options["max_new_tokens"]
        )
        sampler = prompt_sampler(
            View(backbone),
            sampling,
            seed=options["seed"],
            max_length=backbone.context,
            purpose="annotate",
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except Exception as error:
        pipe.send(("error", str(error)))
        return
    pipe.send(("ready", None))
    turn = 0
    while True:
        try:
            messages, count = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            prompt = Prompt("chat", quotable(backbone.tokenizer, messages))
            rollouts = sampler.generate([prompt], samples=count, round=turn)
            pipe.send(("texts", [r.completion.text.strip() for r in rollouts]))
        except Exception as error:
            pipe.send(("error", f"the model cannot answer: {error}"))
        turn += 1


class EndpointChat:
    """An OpenAI-compatible endpoint. The key comes from the environment, as `burnish.endpoint`
    says."""

    def __init__(self, url: str, model: str, *, temperature: float, max_new_tokens: int) -> None:
        self.endpoint = Endpoint(
            url,
            model,
            temperature=temperature,
            max_tokens=max_new_tokens,
            timeout=_PATIENCE / 2,
            retries=1,
        )

    def __call__(self, messages: Sequence[Message], count: int) -> list[str]:
        """`count` answers."""
        return self.endpoint.complete_all([messages], samples=count)[0]

    def close(self) -> None:
        """Nothing is held."""
