"""The native engine: continuous batching in torch for Llama-shaped models, in process.

The engine holds its own copy of the decoder's weights (`generation.decoder`, `burnish.models.thin`,
`burnish.models.int8`); `load` refreshes it in place. Its cost is one more copy of the decoder,
which `sleep` gives back while the weights are trained. `generation.session` has the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch

from burnish.generation.base import Request, SamplingParams
from burnish.generation.calibration import CALIBRATION_TEXT, Calibration
from burnish.generation.decoder import Decoder
from burnish.generation.finish import Finisher
from burnish.generation.sampled_model import SampledModel
from burnish.generation.session import NativeSession
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.sampled import why_not_native
from burnish.models.weights import Weights, merge_on_demand
from burnish.records import Completion

_LINEARS = (
    *(f"self_attn.{p}_proj" for p in "qkvo"),
    *(f"mlp.{p}_proj" for p in ("gate", "up", "down")),
)
_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
    "self_attn.q_norm", "self_attn.k_norm",
)  # fmt: skip
_WEIGHTS = {f"{name}.weight" for name in (*_LINEARS, *_NORMS)} | {
    f"self_attn.{p}_proj.bias" for p in "qkv"
}


def missing_feature(backbone: Backbone, *, longest: int | None = None) -> str | None:
    """What the engine lacks for this model, as the end of a sentence; None if it runs it, sequences
    of `longest` tokens included."""
    reason = why_not_native(backbone.model.config.to_dict(), longest=longest)
    names = (name for name, _ in backbone.model.named_parameters())
    name = _unknown_weight(names) if reason is None else None
    return reason if name is None else f"it does not know the weight {name}"


def _unknown_weight(names: Iterable[str]) -> str | None:
    """A layer's weight that the engine would leave out."""
    for name in names:
        _, layers, at = name.partition("layers.")
        _, _, own = at.partition(".")
        if layers and "lora_" not in own and own.replace(".base_layer.", ".") not in _WEIGHTS:
            return name
    return None


class NativeEngine:
    """Generates completions with the weights of one model. `burnish.generation.engine.make_engine`
    says whether it can.

    Args:
        model: its shape.
        weights: the first ones.
        version: what they are called.
        end_tokens: ids that end a completion.
        max_rows: how many sequences are decoded side by side.
        prefill_tokens: prompts are run together up to this many tokens.
        products: the precision of the matrices, `torch.int8` included; None: the model's.
    """

    def __init__(
        self,
        model: SampledModel,
        weights: Weights,
        *,
        version: int = 0,
        end_tokens: frozenset[int],
        max_rows: int = 64,
        prefill_tokens: int = 2048,
        products: torch.dtype | None = None,
    ) -> None:
        self._tokenizer = model.tokenizer
        self._finisher = Finisher(self._tokenizer, end_tokens)
        self._max_rows, self._prefill_tokens = max_rows, prefill_tokens
        self._context = model.context
        self._calibration = Calibration()
        products = products or model.products
        self._decoder = Decoder(model, products=products, calibration=self._calibration)
        self.version = -1
        self.load(weights, version=version)
        if products == torch.int8:
            self._calibrate(weights)

    @classmethod
    def of(
        cls,
        view: View,
        *,
        end_tokens: frozenset[int],
        max_rows: int = 64,
        prefill_tokens: int = 2048,
        products: torch.dtype | None = None,
    ) -> NativeEngine:
        """One for a role in memory, with its weights as version 0. Raises ValueError for a model
        that it cannot run."""
        reason = missing_feature(view.backbone)
        if reason is not None:
            raise ValueError(f"the native engine cannot sample this model: {reason}")
        return cls(
            SampledModel.of(view.backbone),
            merge_on_demand(view),
            end_tokens=end_tokens,
            max_rows=max_rows,
            prefill_tokens=prefill_tokens,
            products=products,
        )

    @torch.no_grad()
    def load(self, weights: Weights, *, version: int) -> None:
        """Take over the weights as they are now, in place after the first time."""
        self._decoder.load(weights)
        self.version = version

    def sleep(self) -> None:
        """Give the copy of the weights back until the next `load`."""
        self._decoder.sleep()
        self.version = -1

    @torch.no_grad()
    def _calibrate(self, weights: Weights) -> None:
        """Look how large the input channels of each product get, and round the weights anew by
        that.

        It is done once, when the engine is made, on a text that is always the same: what a request
        gives must depend on no other request, and a resumed run, whose engine is made with the
        weights of the start as well, draws what the first would have drawn.
        """
        tokens = self._tokenizer(CALIBRATION_TEXT)["input_ids"][: self._context - 1]
        with self._calibration.observing():
            self.generate([Request(tuple(tokens), 0)], SamplingParams(1))
        self._decoder.fit_anew(weights)

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
        longest = max(len(request.prompt_tokens) for request in requests) + params.max_new_tokens
        with self.open(
            rows=min(self._max_rows, len(requests)),
            places=min(longest, self._context),
            refill=max(1, self._max_rows // 4),
        ) as session:
            sequences = [session.add(request, params) for request in requests]
            while session.unfinished:
                drawn = session.step()
                if progress is not None:
                    progress(len(drawn))
        return [s.completion for s in sequences if s.completion is not None]

    def open(
        self, *, rows: int = 1, places: int = 256, refill: int = 1, max_rows: int | None = None,
        max_length: int | None = None,
    ) -> NativeSession:  # fmt: skip
        """A call that requests can join and leave while it runs, with the present weights.

        `rows` and `places` are what it has room for at first; it grows up to `max_rows` (the
        engine's) sequences of `max_length` (the model's context) tokens. Raises RuntimeError if the
        engine sleeps.
        """
        if not self._decoder.layers:
            raise RuntimeError("the engine sleeps: load weights first")
        return NativeSession(
            self._decoder, self._finisher,
            rows=rows, places=places, refill=refill, prefill_tokens=self._prefill_tokens,
            max_rows=max_rows or max(rows, self._max_rows),
            max_length=min(max_length or self._context, self._context),
        )  # fmt: skip
