"""The shape of a decoder-only model, from its configuration alone: parameters, FLOPs and bytes follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.models.loading.folder import read_json_object
from burnish.models.sampled import why_not_native

_SIZES = (
    "num_attention_heads",
    "hidden_size",
    "num_hidden_layers",
    "intermediate_size",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A Llama-shaped model: attention with grouped keys, a gated MLP, a head that may share the embedding's weight."""

    layers: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    context: int
    fallback: str | None = None
    """Why the model is sampled through transformers; None: by the native engine."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, source: Path | None = None) -> ModelShape:
        """From what stands in a model's config.json. Raises UserError naming the field that is missing."""
        whole, config = config, config.get("text_config", config)
        if not isinstance(config, Mapping):
            raise UserError("text_config is no JSON object.", file=source)
        _refuse_no_sizes(config, source)
        try:
            heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
            return cls(
                layers=int(config["num_hidden_layers"]),
                width=width,
                mlp=int(config["intermediate_size"]),
                heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_dim=int(config.get("head_dim") or width // heads),
                vocabulary=int(config["vocab_size"]),
                tied=bool(config.get("tie_word_embeddings", False)),
                context=int(config.get("max_position_embeddings", 2048)),
                fallback=why_not_native(whole) if "model_type" in whole else None,
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"the configuration lacks a size ({error.args[0]}), so the model's size is not known.",
                file=source,
                hint="Plans are made for decoder-only models of the Llama kind.",
            ) from error

    @classmethod
    def read(cls, path: Path) -> ModelShape:
        """From a config.json, or a folder that holds one."""
        file = path / "config.json" if path.is_dir() else path
        return cls.from_config(read_json_object(file), source=file)

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linear maps of one layer."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            (self.width, q), (self.width, kv), (self.width, kv), (q, self.width),
            (self.width, self.mlp), (self.width, self.mlp), (self.mlp, self.width),
        )  # fmt: skip

    @property
    def decoder(self) -> int:
        """Parameters of the linear maps of all layers."""
        return self.layers * sum(a * b for a, b in self.linears)

    @property
    def head(self) -> int:
        """Parameters of the language-model head, and of the embedding."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All of them, tied weights once."""
        return self.decoder + self.head * (1 if self.tied else 2) + (2 * self.layers + 1) * self.width

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA set of this rank on every linear map."""
        return self.layers * rank * sum(a + b for a, b in self.linears)

    @property
    def cache_per_token(self) -> int:
        """Numbers that the keys and values of one token take."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def kept_per_token(self, *, recompute: bool = False, padded: bool = False) -> int:
        """Numbers that one token leaves for the backward pass of all layers, or with `recompute` of one layer and the
        inputs of the others.

        A layer keeps its two inputs and their normalised forms; the queries, keys and values and the output of attention;
        gate, up and their product (`burnish.models.lean`). `padded`: attention as GPUs run it keeps its inputs padded, keys and values
        for every query head, with the prompt's for every answer (5.5 to 7 times the queries' size, 11 with long prompts).
        """
        attention = (7 * self.heads if padded else 2 * (self.heads + self.kv_heads)) * self.head_dim
        layer = 4 * self.width + attention + 3 * self.mlp
        return layer + self.layers * self.width if recompute else self.layers * layer

    def forward_flops(self, tokens: float, scored: float, *, context: float = 0.0) -> float:
        """Of a forward pass: 2 for each weight of the decoder and each token, 2 for each weight of the head and each scored
        token, and attention over `context` tokens on average."""
        attention = 4.0 * self.layers * self.heads * self.head_dim * tokens * context
        return 2.0 * self.decoder * tokens + 2.0 * self.head * scored + attention

    def training_flops(
        self, tokens: float, scored: float, *, lora: bool, recompute: bool = False, context: float = 0.0
    ) -> float:
        """Forward and backward: with every weight trained three times the forward pass, with a frozen backbone twice it;
        with `recompute` the layers once more."""
        once = self.forward_flops(tokens, scored, context=context)
        again = self.forward_flops(tokens, 0, context=context) if recompute else 0.0
        return (2.0 if lora else 3.0) * once + again


def _refuse_no_sizes(config: Mapping[str, Any], source: Path | None) -> None:
    for name in _SIZES:
        value = config.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise UserError(f"it is {value!r}, and a size is a whole number of at least 1.", file=source, field=name)
