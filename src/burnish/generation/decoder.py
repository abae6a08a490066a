"""The decoder's own weights, in the form in which thin products run fastest, and its forward pass
over tokens laid end to end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.generation.calibration import Calibration, Matrix
from burnish.generation.sampled_model import SampledModel
from burnish.models.int8 import Int8Matrix
from burnish.models.thin import Norm, Thin
from burnish.models.weights import Weights

ACTIVATIONS = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""`attend(layer, q, k, v)`: what each token sees of the others."""
Rope = Mapping[str, tuple[Tensor, Tensor]]
"""(cosines, signed sines) by position, for each kind of layer."""


@dataclass
class Layer:
    """One decoder layer; q, k and v side by side, gate and up side by side, with the norms before
    them. `after_*` are norms of what is added to the residual stream, which Gemma 3 has."""

    qkv: Matrix
    qkv_bias: Tensor | None
    q_norm: Norm | None
    k_norm: Norm | None
    out: Matrix
    gate_up: Matrix
    down: Matrix
    after_attention: Norm | None
    after_mlp: Norm | None


class Decoder:
    """A decoder, projections fused; the embedding, and a head in its own precision, are the very
    tensors that `load` was given.

    Args:
        model: its shape. Its weights are taken by `load`.
        products: the precision of the matrices, `torch.int8` included.
        calibration: what 8-bit products are fitted to.
    """

    def __init__(
        self, model: SampledModel, *, products: torch.dtype, calibration: Calibration
    ) -> None:
        config = model.config
        self._products, self._calibration = products, calibration
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = (
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        )
        self._eps = config.rms_norm_eps
        self._rotary = model.rotary
        gemma = config.model_type.startswith("gemma")
        self._norm_shift = 1.0 if gemma else 0.0  # Gemma's norms multiply by 1 + w
        self._embedding_scale = config.hidden_size**0.5 if gemma else 1.0
        self._attention_scale = (
            getattr(config, "query_pre_attn_scalar", None) or self.head_dim
        ) ** -0.5
        kind = getattr(config, "hidden_activation", None) or config.hidden_act
        self._activation = ACTIVATIONS[kind]
        # Gemma 3 turns local and global layers by different frequencies.
        local = config.model_type == "gemma3_text"
        self._layer_types = tuple(config.layer_types) if local else ("",) * config.num_hidden_layers
        self._layers: list[Layer] = []
        self._head: Matrix | None = None
        self._head_state: tuple[int, int] | None = None
        self.embedding = torch.empty(0)

    @property
    def layers(self) -> int:
        """How many it holds: none while it sleeps."""
        return len(self._layers)

    def load(self, weights: Weights) -> None:
        """Take over the weights as they are now, in place after the first time."""
        weights = {name.removeprefix("model."): make for name, make in weights.items()}
        norm = Norm(weights["norm.weight"]() + self._norm_shift, self._eps)
        stored = weights["embed_tokens.weight"]()
        # what is held narrower than what flows between layers is widened until the engine sleeps
        self.embedding = stored.to(norm.weight_K.dtype)
        if "lm_head.weight" in weights:
            stored = weights["lm_head.weight"]()
            self._take_head(stored, stored.to(norm.weight_K.dtype), norm)
        else:
            self._take_head(stored, self.embedding, norm)
        for number in range(len(self._layer_types)):
            at = f"layers.{number}."
            own = {
                name.removeprefix(at): make for name, make in weights.items() if name.startswith(at)
            }
            self._take(number, own)

    def fit_anew(self, weights: Weights) -> None:
        """Round all weights again, by what has been observed."""
        self._head_state = None
        self.load(weights)

    def sleep(self) -> None:
        """Give the copy back until the next `load`."""
        self._layers = []
        if self._products != torch.int8:
            self._head = None
        self.embedding = self.embedding.new_empty(0)

    def _take_head(self, stored: Tensor, weight: Tensor, norm: Norm) -> None:
        """The head is shared with the backbone; in 8 bits it is a copy, made anew where the weight
        that is `stored` there has changed."""
        if self._products != torch.int8:
            self._head = Thin(weight.T, norm)
            return
        state = (stored.data_ptr(), stored._version)
        if self._head_state == state and isinstance(self._head, Int8Matrix):
            self._head = self._head.after(norm)
        else:
            self._head = Int8Matrix.of(weight, self._calibration.absmax(-1, "head"), norm)
        self._head_state = state

    def _take(self, number: int, weights: Mapping[str, Callable[[], Tensor]]) -> None:
        """Bring one layer's weights into the form that decoding wants; one layer at a time, so that
        the rest need not be."""
        held = self._layers[number] if number < len(self._layers) else None

        def norm(name: str) -> Norm | None:
            return Norm(weights[name]() + self._norm_shift, self._eps) if name in weights else None

        def matrix(name: str, *names: str, norm: Norm | None = None) -> Matrix:
            weight_NK = torch.cat([weights[f"{n}.weight"]() for n in names])
            if self._products == torch.int8:
                return Int8Matrix.of(weight_NK, self._calibration.absmax(number, name), norm)
            present = None if held is None else getattr(held, name)
            if isinstance(present, Thin):
                return present.renewed(weight_NK.T, norm)
            return Thin.of(weight_NK.T.to(self._products), norm)

        biases = [f"self_attn.{p}_proj.bias" for p in "qkv"]
        four = "pre_feedforward_layernorm.weight" in weights
        after = norm("post_attention_layernorm.weight")
        before_mlp = norm("pre_feedforward_layernorm.weight") if four else after
        layer = Layer(
            qkv=matrix(
                "qkv", *(f"self_attn.{p}_proj" for p in "qkv"), norm=norm("input_layernorm.weight")
            ),
            qkv_bias=torch.cat([weights[n]() for n in biases]) if biases[0] in weights else None,
            q_norm=norm("self_attn.q_norm.weight"),
            k_norm=norm("self_attn.k_norm.weight"),
            out=matrix("out", "self_attn.o_proj"),
            gate_up=matrix("gate_up", "mlp.gate_proj", "mlp.up_proj", norm=before_mlp),
            down=matrix("down", "mlp.down_proj"),
            after_attention=after if four else None,
            after_mlp=norm("post_feedforward_layernorm.weight"),
        )
        self._layers[number : number + 1] = [layer]

    def rope(self, places: int) -> Rope:
        """The rotary embedding of the first places, made once a call: cosines, and sines whose
        first half is negated."""
        positions = torch.arange(places, device=self.embedding.device)[None]
        found: dict[str, tuple[Tensor, Tensor]] = {}
        for kind in dict.fromkeys(self._layer_types):
            cos, sin = self._rotary(self.embedding[:1, None], positions, *([kind] if kind else []))
            half = sin.shape[-1] // 2
            signed_sin = torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)
            # Queries and keys are both multiplied with these: the scale of their product is in
            # them.
            scale = self._attention_scale**0.5
            found[kind] = cos[0] * scale, signed_sin * scale
        return found

    def hidden(self, tokens_T: Tensor, positions_T: Tensor, rope: Rope, attend: Attend) -> Tensor:
        """The decoder over T tokens; Returns [T, D] before the final norm."""
        x = F.embedding(tokens_T, self.embedding)
        if self._embedding_scale != 1.0:
            x = x * torch.tensor(self._embedding_scale, dtype=x.dtype)
        turns = {
            k: (cos[positions_T][:, None], sin[positions_T][:, None])
            for k, (cos, sin) in rope.items()
        }
        for number, layer in enumerate(self._layers):
            qkv = self._calibration.observe(number, "qkv", layer.qkv, x).product(x)
            if layer.qkv_bias is not None:
                qkv = qkv + layer.qkv_bias
            heads = qkv.view(len(qkv), -1, self.head_dim)
            qk, v = heads[:, : -self.kv_heads], heads[:, -self.kv_heads :]
            if layer.q_norm is not None and layer.k_norm is not None:
                qk = torch.cat(
                    (layer.q_norm(qk[:, : self.heads]), layer.k_norm(qk[:, self.heads :])), dim=1
                )
            qk = _rotate(qk, *turns[self._layer_types[number]])
            mixed = attend(number, qk[:, : self.heads], qk[:, self.heads :], v).flatten(-2)
            x = _plus(
                x,
                self._calibration.observe(number, "out", layer.out, mixed),
                mixed,
                layer.after_attention,
            )
            inner = self._calibration.observe(number, "gate_up", layer.gate_up, x).gated(
                x, self._activation
            )
            x = _plus(
                x,
                self._calibration.observe(number, "down", layer.down, inner),
                inner,
                layer.after_mlp,
            )
        return x

    def write_logits(self, hidden_BD: Tensor, out_BV: Tensor) -> None:
        """The logits of hidden states that are before the final norm."""
        assert self._head is not None
        self._calibration.observe(-1, "head", self._head, hidden_BD).product(hidden_BD, out=out_BV)


def _plus(residual: Tensor, matrix: Matrix, x: Tensor, norm: Norm | None) -> Tensor:
    """residual + x W, or + norm(x W)."""
    return matrix.added(residual, x) if norm is None else residual + norm(matrix.product(x))


def _rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary embedding (Su et al., arXiv:2104.09864), halves convention; the first half of
    `signed_sin` is negated."""
    half = x.shape[-1] // 2
    return (x * cos).addcmul_(torch.cat((x[..., half:], x[..., :half]), dim=-1), signed_sin)
