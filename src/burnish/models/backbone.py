"""A backbone: one causal language model in memory with its tokenizer, run over packed layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from burnish.batch import Layout, Segment
from burnish.errors import UserError
from burnish.models import packed_attention
from burnish.models.lean import keep_less
from burnish.models.loading.load import load_model
from burnish.models.loading.weights import finite, refuse_not_finite
from burnish.models.matmul import use_fast_exact_matmul
from burnish.models.precision import multiply_in_bfloat16
from burnish.models.supported import ModelType, model_type


@dataclass(eq=False)
class Backbone:
    """A Hugging Face causal model whose attention is packed, its tokenizer, and where it came from."""

    model: Any
    tokenizer: Any
    reference: str
    quantised: bool = False
    products: torch.dtype = torch.float32

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

    @property
    def embeddings(self) -> Tensor:
        """[V, D]: the weight of the language-model head."""
        return self.model.get_output_embeddings().weight

    @property
    def width(self) -> int:
        """D: the size of a hidden state."""
        return int(self.config.hidden_size)

    @property
    def context(self) -> int:
        """The longest sequence in tokens that the model was made for, and that no sliding window cuts short."""
        window = getattr(self.config, "sliding_window", None)
        longest = int(self.config.max_position_embeddings)
        return min(longest, int(window)) if window else longest

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embeddings.device

    @property
    def samples_exactly(self) -> bool:
        """Whether a sampler with merged weights has the trainer's own distribution, but for the order of summation."""
        return self.products == self.embeddings.dtype

    @cached_property
    def parameter_count(self) -> int:
        """Parameters of the model itself, adapters not counted, tied weights once."""
        return sum(p.numel() for name, p in self.model.named_parameters() if "lora_" not in name)

    def hidden(self, layout: Layout) -> Tensor:
        """[T, D]: the last hidden states, after the final norm."""
        layout = layout.to(self.device)
        output = self.decoder(
            input_ids=layout.tokens_T[None],
            position_ids=layout.positions_T[None],
            use_cache=False,
            segments=layout.segments,
        )
        return output.last_hidden_state[0]

    def recompute_layers(self, on: bool) -> None:
        """Keep only each layer's input for the backward pass and run the layer again there (Chen et al., arXiv:1604.06174).

        Less memory for one more forward pass; the numbers are the same.
        """
        for layer in self.model.model.layers:
            layer.gradient_checkpointing = on
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
            layer.training = on  # of the layer alone, which asks for this flag; what is inside stays in evaluation mode

    def freeze(self) -> None:
        """No gradient for any weight of the model."""
        self.model.requires_grad_(False)

    def content_hash(self) -> str:
        """A hash of the configuration's shape and of every base weight (adapters left out)."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            if "lora_" not in name:
                digest.update(name.replace("base_layer.", "").encode())
                digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_backbone(
    reference: str,
    *,
    dtype: torch.dtype = torch.float32,
    products: torch.dtype | None = None,
    trained: bool = False,
    device: torch.device | str = "cpu",
    scalar_head: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Backbone:
    """Load a model reference (see `burnish.models.sources.resolve`; `tiny` is made in memory), whole and checked.

    With `products` bfloat16 the decoder's linear maps are frozen, stored and multiplied in it (`burnish.models.precision`), or
    where every weight is `trained`, multiplied in it alone; without it they are in `dtype` like the rest. With `scalar_head` the folder is a reward
    model's, which has a score for a language-model head. Raises UserError if the reference resolves to nothing, the model
    is not whole (`burnish.models.loading.load`), or it cannot be driven by Burnish.
    """
    if torch.device(device).type == "cpu":
        use_fast_exact_matmul()
    loaded = load_model(reference, dtype=dtype, scalar_head=scalar_head, say=say)
    loaded.model.set_attn_implementation(packed_attention.NAME)
    backbone = Backbone(_placed(loaded.model, dtype, device), loaded.tokenizer, reference, loaded.quantised)
    return _checked(_narrowed(backbone, products, trained))


def _narrowed(backbone: Backbone, products: torch.dtype | None, trained: bool) -> Backbone:
    if products == torch.bfloat16 and backbone.embeddings.dtype == torch.float32:
        multiply_in_bfloat16(backbone.decoder, trained=trained)
        refuse_not_finite(backbone.model, {}, backbone.reference)
        return replace(backbone, products=torch.bfloat16)
    return replace(backbone, products=backbone.embeddings.dtype)


def _placed(model: nn.Module, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    keep_less(model)
    return model.to(device=device, dtype=dtype).eval()


def _checked(backbone: Backbone) -> Backbone:
    """Refuse a model whose logits are not hidden · Wᵀ (soft-capped or scaled logits) or whose attention ignores segments."""
    tokens = torch.arange(3, 7)
    layout = Layout(tokens, torch.arange(4), (Segment(0, 4),), tokens[:0], tokens[:0], tokens[-1:])
    with torch.no_grad():
        ours = backbone.hidden(layout) @ backbone.embeddings.T
        theirs = backbone.model(
            input_ids=tokens[None].to(backbone.device),
            position_ids=torch.arange(4)[None].to(backbone.device),
            use_cache=False,
            segments=layout.segments,
        ).logits[0]
    if not finite(theirs):
        raise UserError(
            "the model's logits are not finite, though its weights are.",
            file=backbone.reference,
            hint="Look at its config.json (norms, rotary positions, scales).",
        )
    if not torch.allclose(ours.float(), theirs.float(), atol=1e-2, rtol=1e-2):
        raise UserError(
            f"models of type {backbone.config.model_type} transform their logits, which Burnish does not support yet."
        )
    if backbone.tokenizer.pad_token_id is None:
        backbone.tokenizer.pad_token = backbone.tokenizer.eos_token
    return backbone
