"""A backbone: one causal language model in memory with its tokenizer, run over packed layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from burnish.batch import Batch, Layout, Segment
from burnish.errors import UserError
from burnish.models import packed_attention
from burnish.models.check import eager_logits, refuse_if_different
from burnish.models.dropout import Dropping, recomputing
from burnish.models.lean import keep_less
from burnish.models.loading.load import load_model
from burnish.models.loading.weights import finite, refuse_not_finite
from burnish.models.matmul import use_fast_exact_matmul
from burnish.models.narrow import narrow_ends, rows_of
from burnish.models.precision import multiply_in_bfloat16
from burnish.models.quantized import frozen_weights, quantize
from burnish.models.sampled import turned_alike
from burnish.models.stored import Quantization
from burnish.models.supported import ModelType, model_type
from burnish.models.trunk import Trunk, full
from burnish.models.unpacked import run_in_rows
from burnish.ranks import world


@dataclass(eq=False)
class Backbone:
    """A Hugging Face causal model whose attention is packed.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        reference: where it came from.
        quantised: its weights went through a quantised file.
        products: the precision of products with the decoder's matrices.
        dropping: whether adapters on it drop at the moment.
        stream: the precision of what flows between layers, and of what learns.
        saved: the precision that weights are written in.
        quantization: how the frozen matrices are held; "none": as numbers.
    """

    model: Any
    tokenizer: Any
    reference: str
    quantised: bool = False
    products: torch.dtype = torch.float32
    dropping: Dropping = field(default_factory=Dropping)
    stream: torch.dtype = torch.float32
    saved: torch.dtype = torch.float32
    quantization: Quantization | Literal["none"] = "none"

    @property
    def config(self) -> Any:
        """The model's own configuration."""
        return self.model.config

    @property
    def kind(self) -> ModelType:
        """What the table of supported models says of this one."""
        return model_type(self.config.model_type)

    @property
    def decoder(self) -> nn.Module:
        """The stack below the language-model head."""
        return self.model.model

    @cached_property
    def trunk(self) -> Trunk:
        """The module inside whose forward roles read the weights."""
        return Trunk(self.model)

    @property
    def embeddings(self) -> Tensor:
        """[V, D]: the weight of the language-model head; on several ranks a shard of it, outside of
        `Trunk.say`."""
        return self.model.get_output_embeddings().weight

    @property
    def logit_scale(self) -> float:
        """What hidden · Wᵀ is multiplied with to give the logits."""
        settings = {name: getattr(self.config, name, None) for name in self.kind.logits}
        return (settings.get("logit_scale") or 1.0) / (settings.get("logits_scaling") or 1.0)

    @property
    def logit_softcap(self) -> float | None:
        """c, where logits z are capped to c tanh(z / c)."""
        name = "final_logit_softcapping"
        return getattr(self.config, name, None) if name in self.kind.logits else None

    def logits(self, hidden_XD: Tensor) -> Tensor:
        """[X, V] of [X, D]: for a few positions; losses go through
        `burnish.algorithms.logprobs`."""
        logits_XV = rows_of(self.embeddings, hidden_XD) * self.logit_scale
        cap = self.logit_softcap
        return logits_XV if cap is None else torch.tanh(logits_XV / cap) * cap

    @property
    def width(self) -> int:
        """D: the size of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def context(self) -> int:
        """The longest sequence in tokens that the model was made for."""
        return int(self.config.max_position_embeddings)

    @property
    def turned_alike(self) -> int:
        """Tokens up to which a sequence can grow without its first tokens being turned otherwise:
        the longest sampled."""
        rope = {
            "rope_parameters": getattr(self.config, "rope_parameters", None),
            "max_position_embeddings": self.context,
        }
        return min(self.context, turned_alike(rope) or self.context)

    def longest(self, max_length: int) -> int:
        """Tokens that a sampled sequence may have where a recipe allows `max_length`."""
        return min(max_length, self.turned_alike)

    @property
    def window(self) -> int | None:
        """Tokens that a layer with a sliding window sees; None where every layer sees the whole
        sequence."""
        window = getattr(self.config, "sliding_window", None)
        kinds = getattr(self.config, "layer_types", None)
        return int(window) if window and (kinds is None or "sliding_attention" in kinds) else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.device

    @property
    def samples_exactly(self) -> bool:
        """Whether a sampler with merged weights has the trainer's own distribution, but for the
        order of summation."""
        return self.products == self.stream

    @cached_property
    def parameter_count(self) -> int:
        """Parameters of the model itself, adapters not counted, tied weights once."""
        own = sum(p.numel() for name, p in self.model.named_parameters() if "lora_" not in name)
        maps = frozen_weights(self.model).values()
        return own + sum(one.in_features * one.out_features for one in maps)

    def layout_of(self, batch: Batch) -> Layout:
        """The layout in which `hidden` takes a batch: prompts are shared, unless that would not be
        exact."""
        if batch.share_prompts and self._changes_frequencies(batch.layout):
            return replace(batch, share_prompts=False).layout
        return batch.layout

    def hidden(self, layout: Layout) -> Tensor:
        """[T, D]: the last hidden states, after the final norm."""
        layout = layout.to(self.device)
        if self.kind.trained == "unpacked":
            return run_in_rows(layout, self._run_rows, width=self.width)
        if len(layout.segments) > 1 and self._changes_frequencies(layout):
            return run_in_rows(layout, self._run_alone, width=self.width, alone=True)
        self.dropping.read(layout.tokens_T, layout.positions_T, layout.segments)
        output = self.decoder(
            input_ids=layout.tokens_T[None],
            position_ids=layout.positions_T[None],
            use_cache=False,
            segments=layout.segments,
        )
        return output.last_hidden_state[0]

    def _run_rows(self, tokens_NL: Tensor) -> Tensor:
        self.dropping.read_rows(tokens_NL)
        return self.decoder(input_ids=tokens_NL, use_cache=False).last_hidden_state

    def _run_alone(self, tokens_1L: Tensor) -> Tensor:
        segments = (Segment(0, tokens_1L.shape[1]),)
        self.dropping.read_rows(tokens_1L)
        return self.decoder(
            input_ids=tokens_1L, use_cache=False, segments=segments
        ).last_hidden_state

    def _changes_frequencies(self, layout: Layout) -> bool:
        """Whether a sequence of the layout is beyond the length from which all its positions, the
        prompt's as well, are turned by other frequencies."""
        if self.turned_alike == self.context or not len(layout.positions_T):
            return False
        return int(layout.positions_T.max()) >= self.turned_alike

    def recompute_layers(self, on: bool) -> None:
        """Keep only each layer's input for the backward pass and run the layer again there (Chen et
        al., arXiv:1604.06174).

        Less memory for one more forward pass; the numbers are the same.
        """
        run_again = recomputing(self.dropping)
        for layer in self.model.model.layers:
            layer.gradient_checkpointing = on
            layer._gradient_checkpointing_func = run_again
            # of the layer alone, which asks for this flag; what is inside stays in evaluation mode
            layer.training = on

    def freeze(self) -> None:
        """No gradient for any weight of the model."""
        self.model.requires_grad_(False)

    def content_hash(self) -> str:
        """A hash of the configuration's shape and of every base weight (adapters left out)."""
        digest = hashlib.sha256()
        weights = dict(self.model.state_dict())
        for name, quantized in frozen_weights(self.model).items():
            weights |= {name: quantized.codes, f"{name} scales": quantized.scales}
        for name, tensor in sorted(weights.items()):
            if "lora_" not in name:
                digest.update(name.replace("base_layer.", "").encode())
                whole = full(tensor.detach()).cpu().contiguous()
                digest.update(whole.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_backbone(
    reference: str,
    *,
    dtype: torch.dtype = torch.float32,
    products: torch.dtype | None = None,
    trained: bool = False,
    device: torch.device | str = "cpu",
    scalar_head: bool = False,
    adapters: Sequence[Path] = (),
    quantization: Quantization | Literal["none"] = "none",
    say: Callable[[str], None] = lambda _: None,
) -> Backbone:
    """Load a model reference (see `burnish.models.sources.resolve`; `tiny` is made in memory),
    whole and checked, with the adapters in these folders merged.

    With `products` bfloat16 the decoder's linear maps are frozen, stored and multiplied in it
    (`burnish.models.precision`), or where every weight is `trained`, multiplied in it alone;
    without it they are in `dtype` like the rest. With `quantization` they are frozen and held in 8
    or 4 bits (`burnish.models.quantized`), and multiplied in `products` as they would be otherwise.
    Where they are frozen so, embedding and head stay in bfloat16 too if that is what they are
    stored in (`burnish.models.narrow`). With `scalar_head` the folder is a reward model's, which
    has a score for a language-model head. Raises UserError if the reference resolves to nothing,
    the model is not whole (`burnish.models.loading.load`), or it cannot be driven by Burnish.
    """
    if torch.device(device).type == "cpu":
        use_fast_exact_matmul()
    _refuse_sharded(quantization)
    frozen = products == torch.bfloat16 or quantization != "none"
    holds = frozen and not trained and dtype == torch.float32 and world() == 1
    loaded = load_model(
        reference, dtype=dtype, scalar_head=scalar_head, adapters=adapters, narrow=holds, say=say
    )
    model = loaded.model if loaded.narrow else _placed(loaded.model, dtype, device)
    backbone = Backbone(
        model.to(device).eval(), loaded.tokenizer, reference, loaded.quantised, stream=dtype,
        saved=loaded.stored if frozen and dtype == torch.float32 else dtype,
    )  # fmt: skip
    _tell(backbone.kind, say)
    backbone = _checked(backbone)
    if holds:
        narrow_ends(backbone.model)
    if quantization != "none":
        products = products or dtype
        quantize(backbone.decoder, quantization, products=products)
        for parameter in backbone.model.parameters():  # or the whole file stays mapped for them
            parameter.data = parameter.data.clone()
        return replace(backbone, products=products, quantization=quantization)
    return _narrowed(backbone, products, trained)


def _refuse_sharded(quantization: str) -> None:
    if quantization != "none" and world() > 1:
        raise UserError(
            "quantized weights are not shared out among processes.",
            field="scale.trainers",
            hint="Leave scale.trainers out, or set lora.quantization: none.",
        )


_told: set[str] = set()


def _tell(kind: ModelType, say: Callable[[str], None]) -> None:
    """What a user should know of this type of model, once."""
    if kind.name in _told:
        return
    _told.add(kind.name)
    if kind.trained == "unpacked":
        say(
            f"{kind.name}: packing would not be exact, so each sequence is run by itself (exact,"
            " slower)"
        )
    if kind.experts:
        say(
            f"{kind.name}: a mixture of experts; no router loss is added, under LoRA experts and"
            " router stay frozen"
        )


def _narrowed(backbone: Backbone, products: torch.dtype | None, trained: bool) -> Backbone:
    if products == torch.bfloat16 and backbone.stream == torch.float32:
        multiply_in_bfloat16(backbone.decoder, trained=trained)
        refuse_not_finite(backbone.model, {}, backbone.reference)
        return replace(backbone, products=torch.bfloat16)
    return replace(backbone, products=backbone.stream)


def _placed(model: nn.Module, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    return model.to(device=device, dtype=dtype).eval()


def _checked(backbone: Backbone) -> Backbone:
    """The backbone, driven by Burnish, whose logits are those of transformers. Raises UserError if
    they are not."""
    expected = eager_logits(backbone)
    if not finite(expected):
        raise UserError(
            "the model's logits are not finite, though its weights are.",
            file=backbone.reference,
            hint="Look at its config.json (norms, rotary positions, scales).",
        )
    own = "sdpa" if backbone.model._supports_sdpa else "eager"
    backbone.model.set_attn_implementation(
        packed_attention.NAME if backbone.kind.trained == "packed" else own
    )
    keep_less(backbone.model)
    refuse_if_different(backbone, expected)
    if backbone.tokenizer.pad_token_id is None:
        backbone.tokenizer.pad_token = backbone.tokenizer.eos_token
    return backbone
