"""The shape of a decoder-only model, from its configuration alone: parameters, FLOPs and bytes
follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish.errors import UserError
from burnish.models.loading.folder import read_json_object
from burnish.models.outline import Outline, outline
from burnish.models.sampled import turned_alike, why_not_native

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
    """Attention with grouped keys, a gated MLP, a head that may share the embedding's weight; what
    differs is counted."""

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
    counted: Outline | None = None
    """What was counted of the model itself, where its type is known; None: it is taken to be like
    Llama."""

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, source: Path | None = None, max_length: int | None = None
    ) -> ModelShape:
        """From what stands in a model's config.json; sequences have at most `max_length` tokens,
        where that is known.

        Raises UserError naming a field that is missing or of no use, and for a type of model that
        is not supported.
        """
        inner = config.get("text_config", config)
        if not isinstance(inner, Mapping):
            raise UserError("text_config is no JSON object.", file=source)
        _refuse_no_sizes(inner, source)
        if "model_type" in config:
            return cls._of(outline(config, file=source), max_length)
        try:
            heads, width = int(inner["num_attention_heads"]), int(inner["hidden_size"])
            return cls(
                layers=int(inner["num_hidden_layers"]),
                width=width,
                mlp=int(inner["intermediate_size"]),
                heads=heads,
                kv_heads=int(inner.get("num_key_value_heads") or heads),
                head_dim=int(inner.get("head_dim") or width // heads),
                vocabulary=int(inner["vocab_size"]),
                tied=bool(inner.get("tie_word_embeddings", False)),
                context=int(inner.get("max_position_embeddings", 2048)),
            )
        except (KeyError, TypeError) as error:
            raise UserError(
                f"the configuration lacks a size ({error.args[0]}), so the model's size is not"
                " known.",
                file=source,
                hint="A configuration without model_type must say every size.",
            ) from error

    @classmethod
    def _of(cls, counted: Outline, max_length: int | None) -> ModelShape:
        """A mixture's `mlp` is the width of the experts that a token goes through, in the mean of
        all layers."""
        config = counted.settings
        layers, heads, width = (
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["hidden_size"],
        )
        latent = config.get("qk_nope_head_dim", 0) + config.get("qk_rope_head_dim", 0)
        context = config["max_position_embeddings"]
        return cls(
            layers=layers,
            width=width,
            mlp=round(counted.feed_forward / (3 * width * layers)),
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=latent or config.get("head_dim") or width // heads,
            vocabulary=config["vocab_size"],
            tied=bool(config.get("tie_word_embeddings")),
            context=context,
            fallback=why_not_native(
                config, longest=None if max_length is None else min(max_length, context)
            ),
            counted=counted,
        )

    @classmethod
    def read(cls, path: Path, *, max_length: int | None = None) -> ModelShape:
        """From a config.json, or a folder that holds one."""
        file = path / "config.json" if path.is_dir() else path
        return cls.from_config(read_json_object(file), source=file, max_length=max_length)

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the linear maps of one layer like Llama's."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            (self.width, q), (self.width, kv), (self.width, kv), (q, self.width),
            (self.width, self.mlp), (self.width, self.mlp), (self.mlp, self.width),
        )  # fmt: skip

    @property
    def decoder(self) -> int:
        """Parameters of the linear maps of all layers, every expert's included."""
        if self.counted is not None:
            return self.counted.matrices
        return self.layers * sum(a * b for a, b in self.linears)

    @property
    def stored_in_bfloat16(self) -> bool:
        """Whether the configuration says so."""
        settings = {} if self.counted is None else self.counted.settings
        return str(settings.get("dtype") or settings.get("torch_dtype")) == "bfloat16"

    @property
    def active(self) -> int:
        """Those that one token goes through: fewer than `decoder` in a mixture of experts."""
        return self.decoder if self.counted is None else self.counted.active

    @property
    def head(self) -> int:
        """Parameters of the language-model head, and of the embedding."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All of them, tied weights once."""
        if self.counted is not None:
            return self.counted.parameters
        return (
            self.decoder + self.head * (1 if self.tied else 2) + (2 * self.layers + 1) * self.width
        )

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA set of this rank on every linear map, or on those that its type has
        it on."""
        if self.counted is not None:
            return rank * self.counted.adapted
        return self.layers * rank * sum(a + b for a, b in self.linears)

    @property
    def longest_sampled(self) -> int:
        """Tokens of the longest sequence that the model is sampled to."""
        alike = None if self.counted is None else turned_alike(self.counted.settings)
        return min(self.context, alike or self.context)

    @property
    def cache_per_token(self) -> int:
        """Numbers that the keys and values of one token take."""
        if self.counted is not None:
            return self.counted.cached
        return 2 * self.layers * self.kv_heads * self.head_dim

    def kept_per_token(self, *, recompute: bool = False, padded: bool = False) -> int:
        """Numbers that one token leaves for the backward pass of all layers, or with `recompute` of
        one layer and the inputs of the others.

        A layer keeps its two inputs and their normalized forms; the queries, keys and values and
        the output of attention; gate, up and their product (`burnish.models.lean`). `padded`:
        attention as GPUs run it keeps its inputs padded, keys and values for every query head, with
        the prompt's for every answer (5.5 to 7 times the queries' size, 11 with long prompts).
        """
        attention = (7 * self.heads if padded else 2 * (self.heads + self.kv_heads)) * self.head_dim
        layer = 4 * self.width + attention + 3 * self.mlp
        return layer + self.layers * self.width if recompute else self.layers * layer

    def forward_flops(self, tokens: float, scored: float, *, context: float = 0.0) -> float:
        """Of a forward pass: 2 for each weight of the decoder that a token goes through, 2 for each
        weight of the head and each scored token, and attention over `context` tokens on average."""
        attended = (
            self.layers * self.heads * self.head_dim
            if self.counted is None
            else self.counted.attended
        )
        attention = 4.0 * attended * tokens * context
        return 2.0 * self.active * tokens + 2.0 * self.head * scored + attention

    def training_flops(
        self,
        tokens: float,
        scored: float,
        *,
        lora: bool,
        recompute: bool = False,
        context: float = 0.0,
    ) -> float:
        """Forward and backward: with every weight trained three times the forward pass, with a
        frozen backbone twice it; with `recompute` the layers once more."""
        once = self.forward_flops(tokens, scored, context=context)
        again = self.forward_flops(tokens, 0, context=context) if recompute else 0.0
        return (2.0 if lora else 3.0) * once + again


def _refuse_no_sizes(config: Mapping[str, Any], source: Path | None) -> None:
    for name in _SIZES:
        value = config.get(name)
        # Gemma 3n has one for each layer.
        sizes: list[Any] = (
            value if isinstance(value, list) and name == "intermediate_size" else [value]
        )
        if not all(size is None or (type(size) is int and size >= 1) for size in sizes):
            raise UserError(
                f"it is {value!r}, and a size is a whole number of at least 1.",
                file=source,
                field=name,
            )
