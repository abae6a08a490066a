"""The native engine: continuous batching in torch for Llama-shaped models, in process.

The engine holds its own copy of the decoder's weights, adapters merged, projections fused and stored in the form in which thin
products run fastest (`burnish.models.thin`, `burnish.models.int8`); `load` refreshes it in place. Its cost is one more copy of the
decoder (the embedding is shared with the backbone), which `sleep` gives back while the weights are trained. The KV cache
is allocated once a call: a prompt that several requests share is run once and copied; a finished request leaves the batch
at once and a waiting one takes its row. On a GPU a decode step is recorded once for each size and launched as one (CUDA graphs).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from burnish.batch import Segment
from burnish.generation.base import Request, SamplingParams
from burnish.generation.finish import Finisher
from burnish.generation.in_flight import InFlight, draw, in_flight
from burnish.models.backbone import Backbone
from burnish.models.device import Graphs
from burnish.models.int8 import Int8Matrix
from burnish.models.matmul import small_products
from burnish.models.packed_attention import attend_to_segments
from burnish.models.roles import View
from burnish.models.sampled import why_not_native, window_of
from burnish.models.thin import Norm, Thin
from burnish.models.weights import merge_on_demand
from burnish.records import Completion

_ACTIVATIONS = {"silu": F.silu, "gelu": F.gelu, "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh")}
_SEEN = 128  # places by which the cache that a recorded step reads grows
# What 8-bit products are fitted to: prose, code, numbers and marks, so that most input channels show how large they get.
_SPECIMEN = """The quick brown fox jumps over the lazy dog. In 1969, people first walked on the Moon; it took 8 days.
def add(a, b):
    return a + b

Dear Sir, thank you very much for your kind letter! How are you? (Yes, 3.14 is close to pi.)"""

Matrix = Thin | Int8Matrix


@dataclass
class _Layer:
    """One decoder layer; q, k and v side by side, gate and up side by side, with the norms before them. `after_*` are norms of
    what is added to the residual stream, which Gemma 3 has."""

    qkv: Matrix
    qkv_bias: Tensor | None
    q_norm: Norm | None
    k_norm: Norm | None
    out: Matrix
    gate_up: Matrix
    down: Matrix
    after_attention: Norm | None
    after_mlp: Norm | None


_LINEARS = (*(f"self_attn.{p}_proj" for p in "qkvo"), *(f"mlp.{p}_proj" for p in ("gate", "up", "down")))
_NORMS = (
    "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
    "self_attn.q_norm", "self_attn.k_norm",
)  # fmt: skip
_WEIGHTS = {f"{name}.weight" for name in (*_LINEARS, *_NORMS)} | {f"self_attn.{p}_proj.bias" for p in "qkv"}


def missing_feature(backbone: Backbone, *, longest: int | None = None) -> str | None:
    """What the engine lacks for this model, as the end of a sentence; None if it runs it, sequences of `longest` tokens included."""
    reason = why_not_native(backbone.model.config.to_dict(), longest=longest)
    name = _unknown_weight(backbone) if reason is None else None
    return reason if name is None else f"it does not know the weight {name}"


def _unknown_weight(backbone: Backbone) -> str | None:
    """A layer's weight that the engine would leave out."""
    for name, _ in backbone.model.named_parameters():
        _, layers, at = name.partition("layers.")
        _, _, own = at.partition(".")
        if layers and "lora_" not in own and own.replace(".base_layer.", ".") not in _WEIGHTS:
            return name
    return None


class NativeEngine:
    """Generates completions with the weights of one role. `burnish.generation.engine.make_engine` says whether it can.

    Args:
        view: the policy; its backbone's tokenizer decodes, its shape is taken over.
        end_tokens: ids that end a completion.
        max_rows: how many sequences are decoded side by side.
        prefill_tokens: prompts are run together up to this many tokens.
        products: the precision of the matrices, `torch.int8` included; None: that of the view's backbone.

    Raises ValueError for a model that it cannot run.
    """

    def __init__(
        self,
        view: View,
        *,
        end_tokens: frozenset[int],
        max_rows: int = 64,
        prefill_tokens: int = 2048,
        products: torch.dtype | None = None,
    ) -> None:
        reason = missing_feature(view.backbone)
        if reason is not None:
            raise ValueError(f"the native engine cannot sample this model: {reason}")
        config = view.backbone.config
        self._tokenizer = view.backbone.tokenizer
        self._finisher = Finisher(self._tokenizer, end_tokens)
        self._max_rows, self._prefill_tokens = max_rows, prefill_tokens
        self._products = products or view.backbone.products
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._eps = config.rms_norm_eps
        self._context = min(view.backbone.context, window_of(config.to_dict()) or view.backbone.context)
        self._rotary = view.backbone.model.model.rotary_emb
        gemma = config.model_type.startswith("gemma")
        self._norm_shift = 1.0 if gemma else 0.0  # Gemma's norms multiply by 1 + w
        self._embedding_scale = config.hidden_size**0.5 if gemma else 1.0
        self._attention_scale = (getattr(config, "query_pre_attn_scalar", None) or self._head_dim) ** -0.5
        kind = getattr(config, "hidden_activation", None) or config.hidden_act
        self._activation = _ACTIVATIONS[kind]
        # Gemma 3 turns local and global layers by different frequencies.
        local = config.model_type == "gemma3_text"
        self._layer_types = tuple(config.layer_types) if local else ("",) * config.num_hidden_layers
        self._layers: list[_Layer] = []
        self._head: Matrix
        self._head_state: tuple[int, int] | None = None
        self._peaks: dict[tuple[int, str], Tensor] = {}
        self._recording = False
        self.version = -1
        self.load(view, version=0)
        if self._products == torch.int8:
            self._fit(view)

    @torch.no_grad()
    def load(self, view: View, *, version: int) -> None:
        """Take over the role's present weights, in place after the first time."""
        weights = {name.removeprefix("model."): make for name, make in merge_on_demand(view).items()}
        self._embedding = weights["embed_tokens.weight"]()
        head = weights["lm_head.weight"]() if "lm_head.weight" in weights else self._embedding
        self._take_head(head, Norm(weights["norm.weight"]() + self._norm_shift, self._eps))
        for number in range(view.backbone.config.num_hidden_layers):
            at = f"layers.{number}."
            own = {name.removeprefix(at): make for name, make in weights.items() if name.startswith(at)}
            self._take(number, own)
        self.version = version

    def sleep(self) -> None:
        """Give the copy of the weights back until the next `load`."""
        self._layers, self.version = [], -1

    def _fit(self, view: View) -> None:
        """See how large the input channels of each product get, and round the weights anew by that. Once an engine, on a text
        that is always the same: what a request gives must depend on no other request, and a resumed run, whose engine is made with
        the weights of the start as well, draws what the first would have drawn."""
        tokens = self._tokenizer(_SPECIMEN)["input_ids"][: self._context - 1]
        self._recording = True
        self.generate([Request(tuple(tokens), 0)], SamplingParams(1))
        self._recording = False
        self._head_state = None
        self.load(view, version=0)

    def _watched(self, number: int, name: str, matrix: Matrix, x: Tensor) -> Matrix:
        """The matrix, which is about to be multiplied with `x`; how large its inputs get is kept while 8-bit products are fitted."""
        if self._recording:
            self._peaks[number, name] = matrix.inputs(x).abs().amax(dim=0)
        return matrix

    def _take_head(self, weight: Tensor, norm: Norm) -> None:
        """The head is shared with the backbone; in 8 bits it is a copy, made anew where the weight has changed."""
        if self._products != torch.int8:
            self._head = Thin(weight.T, norm)
            return
        state = (weight.data_ptr(), weight._version)
        if self._head_state == state and isinstance(self._head, Int8Matrix):
            self._head = self._head.after(norm)
        else:
            self._head = Int8Matrix.of(weight, self._peaks.get((-1, "head")), norm)
        self._head_state = state

    def _take(self, number: int, weights: Mapping[str, Callable[[], Tensor]]) -> None:
        """Bring one layer's weights into the form that decoding wants; one layer at a time, so that the rest need not be."""
        held = self._layers[number] if number < len(self._layers) else None

        def norm(name: str) -> Norm | None:
            return Norm(weights[name]() + self._norm_shift, self._eps) if name in weights else None

        def matrix(name: str, *names: str, norm: Norm | None = None) -> Matrix:
            weight_NK = torch.cat([weights[f"{n}.weight"]() for n in names])
            if self._products == torch.int8:
                return Int8Matrix.of(weight_NK, self._peaks.get((number, name)), norm)
            present = None if held is None else getattr(held, name)
            if isinstance(present, Thin):
                return present.renewed(weight_NK.T, norm)
            return Thin.of(weight_NK.T.to(self._products), norm)

        biases = [f"self_attn.{p}_proj.bias" for p in "qkv"]
        four = "pre_feedforward_layernorm.weight" in weights
        after = norm("post_attention_layernorm.weight")
        before_mlp = norm("pre_feedforward_layernorm.weight") if four else after
        layer = _Layer(
            qkv=matrix("qkv", *(f"self_attn.{p}_proj" for p in "qkv"), norm=norm("input_layernorm.weight")),
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

    @torch.no_grad()
    def generate(
        self, requests: Sequence[Request], params: SamplingParams, *, progress: Callable[[int], None] | None = None
    ) -> list[Completion]:
        """One completion for each request, in their order. `progress` is told of the tokens drawn after each step.

        Raises ValueError if a prompt and its completion do not fit the model's context, RuntimeError if the engine sleeps.
        """
        if not requests:
            return []
        if not self._layers:
            raise RuntimeError("the engine sleeps: load weights first")
        sequences = in_flight(requests, params, context=self._context)
        longest = max(len(r.prompt_tokens) for r in requests) + params.max_new_tokens
        rows = min(self._max_rows, len(requests))
        # One block, which goes back to the system whole: [layer, keys or values, row, head, place, width].
        shape = (len(self._layers), 2, rows, self._kv_heads, longest, self._head_dim)
        self._cache = self._embedding.new_zeros(shape)
        places = torch.arange(longest, device=self._embedding.device)[None]
        self._turns: dict[str, tuple[Tensor, ...]] = {}
        for kind in dict.fromkeys(self._layer_types):
            cos, sin = self._rotary(self._embedding[:1, None], places, *([kind] if kind else []))
            half = sin.shape[-1] // 2
            turn = cos[0], torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)
            # Queries and keys are both multiplied with these: the scale of their product is in them.
            self._turns[kind] = tuple(x * self._attention_scale**0.5 for x in turn)
        self._logits_RV = self._embedding.new_empty(rows, len(self._embedding))
        self._scratch_RV = torch.empty_like(self._logits_RV, dtype=torch.float32)
        # What a step reads, and the recorded steps, which hold on to these very tensors.
        self._latest_2R = torch.zeros(2, rows, dtype=torch.long, device=self._embedding.device)
        graphs = Graphs(self._embedding.device) if self._embedding.device.type != "cpu" else None
        waiting = sequences[::-1]
        active: list[InFlight] = []
        done: list[Completion | None] = [None] * len(requests)
        try:
            while waiting or active:
                fresh = self._admit(waiting, rows - len(active), idle=not active)
                if active:
                    self._decode(active, graphs)
                if fresh:  # after the step, which may write into rows beyond its own
                    self._prefill(fresh, first_row=len(active))
                active += fresh
                logits_BV = self._logits_RV[: len(active)]
                draw(active, logits_BV, params, self._finisher, scratch_RV=self._scratch_RV)
                if progress is not None:
                    progress(len(active))
                self._retire(active, params, done)
        finally:  # whatever happened, nothing of this call stays, on a GPU least of all
            self._cache = self._logits_RV = self._scratch_RV = self._latest_2R = self._embedding[:0]
        return [completion for completion in done if completion is not None]

    def _admit(self, waiting: list[InFlight], free: int, *, idle: bool) -> list[InFlight]:
        """Take waiting requests for the free rows, up to the prefill budget; a prompt seen in the same call costs nothing.

        A prompt run alone costs as much as a whole decode step, and shares nothing with the others of its group: so rows
        are filled once a quarter of them is free, not one by one.
        """
        if not idle and free < min(max(1, self._max_rows // 4), len(waiting)):
            return []
        taken: list[InFlight] = []
        budget, seen = self._prefill_tokens, set[tuple[int, ...]]()
        while waiting and len(taken) < free:
            prompt = waiting[-1].request.prompt_tokens
            cost = 0 if prompt in seen else len(prompt)
            if taken and cost > budget:
                break
            budget -= cost
            seen.add(prompt)
            taken.append(waiting.pop())
        return taken

    def _retire(self, active: list[InFlight], params: SamplingParams, done: list[Completion | None]) -> None:
        """Take finished sequences out; the last row moves into the gap, so active rows stay 0, 1, 2, ..."""
        for row in range(len(active) - 1, -1, -1):
            sequence = active[row]
            done[sequence.index] = sequence.finished(params, self._finisher)
            if done[sequence.index] is None:
                continue
            last = active.pop()
            if last is not sequence:
                active[row] = last
                self._cache[:, :, row, :, : last.length] = self._cache[:, :, len(active), :, : last.length]

    def _prefill(self, fresh: list[InFlight], *, first_row: int) -> None:
        """Run the prompts end to end, fill their rows of the cache and of the logits."""
        rows_of: dict[tuple[int, ...], list[int]] = {}
        for offset, sequence in enumerate(fresh):
            rows_of.setdefault(sequence.request.prompt_tokens, []).append(first_row + offset)
        device = self._embedding.device
        tokens = torch.tensor([t for prompt in rows_of for t in prompt], device=device)
        positions = torch.cat([torch.arange(len(prompt)) for prompt in rows_of]).to(device)
        ends = np.cumsum([len(prompt) for prompt in rows_of]).tolist()
        segments = tuple(Segment(end - len(prompt), end) for prompt, end in zip(rows_of, ends, strict=True))
        # Each row gets its prompt's keys and values: which tokens' they are, and where they go.
        pairs = [(segment, row) for segment, rows in zip(segments, rows_of.values(), strict=True) for row in rows]
        source = torch.cat([torch.arange(segment.start, segment.stop) for segment, _ in pairs]).to(device)
        row_of = torch.cat([torch.full((segment.stop - segment.start,), row) for segment, row in pairs]).to(device)
        vectors, place = self._vectors(), self._places(row_of, positions[source])

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            for known, new in zip(vectors[number], (k, v), strict=True):
                known.index_put_((place,), new[source])
            query, key, value = (x.transpose(0, 1)[None] for x in (q, k, v))
            return attend_to_segments(query, key, value, segments, scaling=1.0)[0]

        hidden = self._run(tokens, positions, attend)
        last = {row: segment.stop - 1 for segment, row in pairs}
        self._write_logits(hidden[[last[first_row + offset] for offset in range(len(fresh))]], first_row)

    def _decode(self, active: list[InFlight], graphs: Graphs | None) -> None:
        """One step: the last token of every active sequence."""
        lengths = [s.length for s in active]
        rows, seen = len(active), max(lengths) + 1
        if graphs is not None:
            rows, seen = self._recorded_size(rows, seen)
        idle = [0] * (rows - len(active))  # rows that nobody waits for: what they give is not read
        latest = torch.tensor([[s.tokens[-1] for s in active] + idle, lengths + idle])
        self._latest_2R[:, :rows].copy_(latest)
        step = partial(self._step, rows, seen)
        if graphs is None:
            step()
        else:
            graphs.run((rows, seen), step)

    def _recorded_size(self, rows: int, seen: int) -> tuple[int, int]:
        """The size of the recorded step that serves this one: powers of two rows, cache in pieces."""
        most_rows, most_seen = self._latest_2R.shape[1], self._cache.shape[4]
        return min(1 << (rows - 1).bit_length(), most_rows), min(-(-seen // _SEEN) * _SEEN, most_seen)

    def _step(self, rows: int, seen: int) -> None:
        """The latest token of the first `rows` sequences, on `seen` places of the cache. Reads `_latest_2R` and the cache, writes
        the cache and `_logits_RV`; nothing in it depends on what stands in them, or waits for the device."""
        tokens, positions = self._latest_2R[:, :rows].unbind()
        unseen = torch.arange(seen, device=positions.device) > positions[:, None]
        bias = self._embedding.new_zeros(unseen.shape).masked_fill_(unseen, -torch.inf)
        bias = bias.repeat_interleave(self._kv_heads, dim=0)[:, None]
        heads, width = self._kv_heads, self._head_dim
        vectors, place = self._vectors(), self._places(torch.arange(rows, device=positions.device), positions)
        known = self._cache[:, :, :rows, :, :seen].view(len(self._layers), 2, -1, seen, width)
        layers = [x.unbind() for x in (vectors[:, 0], vectors[:, 1], known[:, 0].transpose(2, 3), known[:, 1])]

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys_into, values_into, turned_keys, values = (each[number] for each in layers)
            keys_into.index_put_((place,), k)
            values_into.index_put_((place,), v)
            # The query heads that share a key head stand in the place of query positions: keys are never repeated. A row's
            # heads are sequences of their own.
            return _attention(q.reshape(rows * heads, -1, width), turned_keys, values, bias).view(rows, -1, width)

        self._write_logits(self._run(tokens, positions, attend), 0)

    def _vectors(self) -> Tensor:
        """[layer, keys or values, *, width]: the cache's vectors, a layer's laid end to end."""
        return self._cache.view(len(self._layers), 2, -1, self._head_dim)

    def _places(self, rows_T: Tensor, positions_T: Tensor) -> Tensor:
        """[T, head]: which of a layer's vectors become the keys, and which the values, of tokens in these rows."""
        cells = rows_T[:, None] * self._kv_heads + torch.arange(self._kv_heads, device=rows_T.device)
        return cells * self._cache.shape[4] + positions_T[:, None]

    def _run(
        self, tokens_T: Tensor, positions_T: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """The decoder over T tokens; `attend(layer, q, k, v)` says what each of them sees. Returns [T, D] before the final norm."""
        x = F.embedding(tokens_T, self._embedding)
        if self._embedding_scale != 1.0:
            x = x * torch.tensor(self._embedding_scale, dtype=x.dtype)
        turns = {k: (cos[positions_T][:, None], sin[positions_T][:, None]) for k, (cos, sin) in self._turns.items()}
        for number, layer in enumerate(self._layers):
            qkv = self._watched(number, "qkv", layer.qkv, x).product(x)
            if layer.qkv_bias is not None:
                qkv = qkv + layer.qkv_bias
            heads = qkv.view(len(qkv), -1, self._head_dim)
            qk, v = heads[:, : -self._kv_heads], heads[:, -self._kv_heads :]
            if layer.q_norm is not None and layer.k_norm is not None:
                qk = torch.cat((layer.q_norm(qk[:, : self._heads]), layer.k_norm(qk[:, self._heads :])), dim=1)
            qk = _rotate(qk, *turns[self._layer_types[number]])
            mixed = attend(number, qk[:, : self._heads], qk[:, self._heads :], v).flatten(-2)
            x = _plus(x, self._watched(number, "out", layer.out, mixed), mixed, layer.after_attention)
            inner = self._watched(number, "gate_up", layer.gate_up, x).gated(x, self._activation)
            x = _plus(x, self._watched(number, "down", layer.down, inner), inner, layer.after_mlp)
        return x

    def _write_logits(self, hidden_BD: Tensor, first_row: int) -> None:
        rows = self._logits_RV[first_row : first_row + len(hidden_BD)]
        self._watched(-1, "head", self._head, hidden_BD).product(hidden_BD, out=rows)


def _plus(residual: Tensor, matrix: Matrix, x: Tensor, norm: Norm | None) -> Tensor:
    """residual + x W, or + norm(x W)."""
    return matrix.added(residual, x) if norm is None else residual + norm(matrix.product(x))


def _attention(q: Tensor, turned_k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of few queries on many keys, [N, few, d] on [N, d, many], `bias` added to the scores. Two batched products take
    half of the time of a CPU's fused kernel."""
    with small_products():
        return torch.bmm(q, turned_k).add_(bias).softmax(dim=-1).bmm(v)


def _rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotary embedding (Su et al., arXiv:2104.09864), halves convention; the first half of `signed_sin` is negated."""
    half = x.shape[-1] // 2
    return (x * cos).addcmul_(torch.cat((x[..., half:], x[..., :half]), dim=-1), signed_sin)
