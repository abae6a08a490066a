"""The second engine: transformers' own model with its own cache, for every shape that the native
engine lacks.

It runs the role's own module, adapter active, so it holds no copy of the weights, and whatever
transformers computes for a family (sliding windows, sinks, soft caps, experts, latent attention,
convolutions, state spaces) is what is sampled. It is slower: a batch is prefilled together and
decoded until its last row is done, in Python, layer by layer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from burnish.generation.base import Request, SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight, check_room, draw
from burnish.models.adapters import activate
from burnish.models.roles import View
from burnish.models.weights import Weights
from burnish.records import Completion

_PADDABLE = {"full_attention", "sliding_attention"}
"""Kinds of layers that a masked token on the left is known to leave alone."""
_SHORT, _LONG = 3, 11  # tokens of the two prompts that show whether padding changes anything


class TransformersEngine:
    """Generates completions with a role's own weights, as they are when `generate` is called:
    `load` has nothing to take over from them.

    Args:
        view: the policy.
        end_tokens: ids that end a completion.
        max_rows: how many sequences are decoded side by side.
        prefill_tokens: prompts are run together up to this many tokens, padding counted.
    """

    def __init__(
        self,
        view: View,
        *,
        end_tokens: frozenset[int],
        max_rows: int = 64,
        prefill_tokens: int = 4096,
    ) -> None:
        self._finisher = Finisher(view.backbone.tokenizer, end_tokens)
        self._max_rows, self._prefill_tokens = max_rows, prefill_tokens
        self._view = view
        self._pads: bool | None = None
        self.version = 0

    def load(self, weights: Weights, *, version: int) -> None:
        """Sample with the role's weights from now on. Raises ValueError if they are another
        model's, which would have to be copied."""
        tensor = next(iter(weights.values()))()
        own = {own.data_ptr() for own in self._model.state_dict().values()}
        if tensor.data_ptr() not in own:
            raise ValueError("transformers' engine samples the model that it was made with")
        self.version = version

    def sleep(self) -> None:
        """Generate nothing until the next `load`; there is no memory to give back."""
        self.version = -1

    @torch.no_grad()
    def generate(
        self,
        requests: Sequence[Request],
        params: SamplingParams,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> list[Completion]:
        """One completion for each request, in their order. `progress` is told of the tokens drawn
        after each step.

        Raises ValueError if a prompt and its completion do not fit the model's context,
        RuntimeError if the engine sleeps.
        """
        if not requests:
            return []
        if self.version < 0:
            raise RuntimeError("the engine sleeps: load weights first")
        with self.open() as session:
            sequences = [session.add(request, params) for request in requests]
            session.arrange()
            while session.unfinished:
                drawn = session.step()
                if progress is not None:
                    progress(len(drawn))
        return [s.completion for s in sequences if s.completion is not None]

    def open(
        self, *, max_rows: int | None = None, max_length: int | None = None
    ) -> TransformersSession:
        """A call that requests can join and leave while it runs: at most `max_rows` (the engine's)
        side by side, of `max_length` (what the model can read) tokens each.

        Raises RuntimeError if the engine sleeps.
        """
        if self.version < 0:
            raise RuntimeError("the engine sleeps: load weights first")
        longest = self._view.backbone.turned_alike
        return TransformersSession(
            self._view,
            self._finisher,
            pads=self._can_pad,
            prefill_tokens=self._prefill_tokens,
            max_rows=max_rows or self._max_rows,
            max_length=min(max_length or longest, longest),
        )

    def _can_pad(self) -> bool:
        """Whether a prompt gives the same logits when it is filled up on the left. Found out once,
        by trying."""
        if self._pads is None:
            config = self._model.config.get_text_config()
            kinds = set(getattr(config, "layer_types", None) or ())
            stateful = bool(getattr(self._model, "_is_stateful", False))
            self._pads = kinds <= _PADDABLE and not stateful and self._padding_changes_nothing()
        return self._pads

    def _padding_changes_nothing(self) -> bool:
        """Two short prompts, and a token behind each: side by side, and the shorter one alone."""
        vocabulary = self._model.get_input_embeddings().weight.shape[0]
        ids = [(7 * place + 5) % vocabulary for place in range(_LONG)]
        short, long = tuple(ids[:_SHORT]), tuple(ids)
        seen = []
        for prompts in ([short, long], [short]):
            tokens_UT, mask_UT = _left_padded(prompts)
            state = _Cached(self._model, mask_UT)
            first = state.forward(tokens_UT)[0]
            second = state.forward(torch.full((len(prompts), 1), ids[-1]))[0]
            seen.append(torch.stack((first, second)).float().log_softmax(dim=-1))
        padded, alone = seen
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 5e-2
        return bool(torch.allclose(padded, alone, atol=tolerance, rtol=tolerance))

    @property
    def _model(self) -> Any:
        return self._view.backbone.model


class TransformersSession:
    """See `TransformersEngine.open`, which makes it. A batch is written to its end, and what has
    joined meanwhile makes the next one.

    Args:
        view: the role.
        finisher: says where a completion ends.
        pads: whether a prompt may be filled up on the left.
        prefill_tokens: prompts are run together up to this many tokens, padding counted.
        max_rows: sequences side by side.
        max_length: tokens of a prompt and its completion.
    """

    def __init__(
        self, view: View, finisher: Finisher, *, pads: Callable[[], bool], prefill_tokens: int,
        max_rows: int, max_length: int,
    ) -> None:  # fmt: skip
        self._view, self._finisher, self._pads = view, finisher, pads
        self._prefill_tokens, self._max_rows = prefill_tokens, max_rows
        self.max_length = max_length
        self._waiting: list[InFlight] = []
        self._batch: list[InFlight] = []
        self._state: _Cached | None = None
        self._open = ExitStack()
        self._open.enter_context(_cached_attention(view.backbone.model))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unfinished(self) -> bool:
        """Whether anything is still to be written."""
        return bool(self._waiting or self._batch)

    def add(self, request: Request, params: SamplingParams, *, top_logprobs: int = 0) -> InFlight:
        """Have one more completion written, as `NativeSession.add`."""
        check_room(request, params, context=self.max_length)
        sequence = InFlight(request, params, top_logprobs)
        self._waiting.append(sequence)
        return sequence

    def arrange(self) -> None:
        """Put like lengths beside each other among those that wait, so that little is padded."""
        self._waiting.sort(key=lambda s: (len(s.request.prompt_tokens), s.request.prompt_tokens))

    def cancel(self, sequence: InFlight) -> None:
        """Write no more of this one; nothing happens where it is finished already."""
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if sequence in self._batch:
            self._keep([row for row, other in enumerate(self._batch) if other is not sequence])

    @torch.no_grad()
    def step(self) -> list[InFlight]:
        """One token for each sequence of the batch; Returns these. Raises UserError where the
        model's logits are no numbers."""
        activate(self._view.backbone, self._view.adapter)
        logits_BV = self._next_logits()
        batch = self._batch
        if logits_BV is None:
            return []
        draw(batch, logits_BV, self._finisher)
        rows = []
        for row, sequence in enumerate(batch):
            sequence.completion = sequence.finished(self._finisher)
            if sequence.completion is None:
                rows.append(row)
        self._keep(rows)
        return batch

    def close(self) -> None:
        """Let go of everything, whatever is still being written."""
        self._waiting, self._batch, self._state = [], [], None
        self._open.close()

    def _next_logits(self) -> Tensor | None:
        """Of the batch that runs, or of a new one's prompts; a prompt that several share is run
        once. None: nothing is to be done."""
        if self._batch and self._state is not None:
            return self._state.forward(torch.tensor([[s.tokens[-1]] for s in self._batch]))
        self._batch = self._together()
        prompts = list(dict.fromkeys(s.request.prompt_tokens for s in self._batch))
        if not prompts:
            return None
        tokens_UT, mask_UT = _left_padded(prompts)
        self._state = _Cached(self._view.backbone.model, mask_UT)
        logits_UV = self._state.forward(tokens_UT)
        numbers = {prompt: number for number, prompt in enumerate(prompts)}
        return logits_UV[self._state.keep([numbers[s.request.prompt_tokens] for s in self._batch])]

    def _together(self) -> list[InFlight]:
        """What runs next: the first that waits, and of the others those that fit beside it; only
        prompts of its length where padding would change results."""
        batch: list[InFlight] = []
        prompts: set[tuple[int, ...]] = set()
        longest, left = 0, []
        lengths = {len(s.request.prompt_tokens) for s in self._waiting}
        padding = len(lengths) > 1 and self._pads()
        for sequence in self._waiting:
            prompt = sequence.request.prompt_tokens
            widest = max(longest, len(prompt))
            fits = prompt in prompts or (len(prompts) + 1) * widest <= self._prefill_tokens
            alike = padding or len(prompt) == longest
            if batch and not (fits and alike and len(batch) < self._max_rows):
                left.append(sequence)
                continue
            longest = widest
            batch.append(sequence)
            prompts.add(prompt)
        self._waiting = left
        return batch

    def _keep(self, rows: list[int]) -> None:
        """Go on with these rows of the batch."""
        if len(rows) == len(self._batch):
            return
        self._batch = [self._batch[row] for row in rows]
        if rows and self._state is not None:
            self._state.keep(rows)
        elif not rows:
            self._state = None


class _Cached:
    """A batch in the model's own cache, whatever kind that is, and the mask of what was padded
    (None: nothing was)."""

    def __init__(self, model: Any, mask_BT: Tensor | None) -> None:
        self._model = model
        self._device = model.get_input_embeddings().weight.device
        self._mask_BT = None if mask_BT is None else mask_BT.to(self._device)
        self._cache: Any = None  # made by the model, of its own kind
        takes_it = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._last = {"logits_to_keep": 1} if takes_it else {}

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """[B, V]: the logits behind these tokens, which the cache takes in."""
        inputs: dict[str, Any] = dict(self._last)
        if self._mask_BT is not None:
            if self._cache is not None:
                self._mask_BT = torch.cat(
                    (self._mask_BT, torch.ones_like(self._mask_BT[:, :1])), dim=1
                )
            positions_BT = (self._mask_BT.cumsum(dim=1) - 1).clamp(min=0)
            inputs |= {
                "attention_mask": self._mask_BT,
                "position_ids": positions_BT[:, -tokens_BT.shape[1] :],
            }
        output = self._model(
            input_ids=tokens_BT.to(self._device),
            past_key_values=self._cache,
            use_cache=True,
            **inputs,
        )
        self._cache = output.past_key_values
        return output.logits[:, -1]

    def keep(self, rows: list[int]) -> Tensor:
        """Make the batch of these of its rows; one can come several times. Returns their numbers as
        a tensor."""
        index = torch.tensor(rows, device=self._device)
        self._cache.reorder_cache(index)
        if self._mask_BT is not None:
            self._mask_BT = self._mask_BT[index]
        return index


def _left_padded(prompts: Sequence[tuple[int, ...]]) -> tuple[Tensor, Tensor | None]:
    """Tokens [U, T] and the mask [U, T] of the real ones; None where all are. A prompt is filled up
    with its first token."""
    longest = max(map(len, prompts))
    tokens_UT = torch.tensor([[p[0]] * (longest - len(p)) + list(p) for p in prompts])
    if all(len(p) == longest for p in prompts):
        return tokens_UT, None
    gaps_U1 = torch.tensor([[longest - len(p)] for p in prompts])
    return tokens_UT, (torch.arange(longest)[None] >= gaps_U1).long()


@contextmanager
def _cached_attention(model: Any) -> Iterator[None]:
    """The model with transformers' own attention, which reads the cache, and without recomputation,
    which forbids one."""
    before = model.config._attn_implementation
    recomputing = [
        m for m in model.modules() if getattr(m, "gradient_checkpointing", False) and m.training
    ]
    _set_attention(model, "sdpa" if model._supports_sdpa else "eager", before)
    _set_training(recomputing, False)
    try:
        yield
    finally:
        _set_attention(model, before, model.config._attn_implementation)
        _set_training(recomputing, True)


def _set_attention(model: Any, name: str, present: str) -> None:
    if name != present:
        model.set_attn_implementation(name)


def _set_training(modules: Sequence[nn.Module], on: bool) -> None:
    """Of these modules alone, and of none that is inside them."""
    for module in modules:
        module.training = on
