"""Bytes that the parts of a stage take, by arithmetic. What is alive together adds up; the stage's
peak is that sum."""

from __future__ import annotations

import math
from dataclasses import dataclass

from burnish.planning.shape import ModelShape

PROGRAM = 0.62e9
"""Python, torch, transformers and what they load, measured."""
SLACK = 1.06
"""What the allocator holds beyond what is in use, measured."""
HEAP = 1.45
"""What a micro-batch takes of glibc's heap, of what it needs, where a step has several, measured:
each finds the holes that the one before left, and they do not fit."""
VARIATION = 0.5
"""Standard deviation of an example's length, of the mean: 0.24 in the shipped demonstrations, 0.7
in HH's pairs."""
CHUNK = 512
"""Scored positions whose logits are held at once (`burnish.algorithms.logprobs`)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that takes memory, in bytes; `passing` while a micro-batch is trained, and gone at
    other times."""

    name: str
    size: float
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of a number: `weight` of weights and activations; `master` of the float32 copy that the
    optimizer of 16-bit weights keeps (0 where the weights are float32 themselves); `matrix` of a
    frozen decoder's matrices (None: as weights). Weights are spread over `shards` devices; what
    learns is then held in float32 alone, and rounded layer by layer as it is gathered. An engine is
    split over `split` devices. `padded`: attention's inputs are, as on GPUs. `held`: of the
    matrices of a backbone under adapters (None: as `matrix`); `ends`: of a frozen embedding and
    head (None: as weights)."""

    weight: int = 4
    master: int = 0
    shards: int = 1
    matrix: int | None = None
    padded: bool = False
    split: int = 1
    held: float | None = None
    ends: int | None = None

    @property
    def learnt(self) -> int:
        """Bytes of a weight that learns, with Adam's two moments of it."""
        return 12 if self.shards > 1 else self.weight + self.master + 8

    def decoder(self, shape: ModelShape) -> float:
        """Bytes of the matrices of a frozen decoder."""
        return float((self.weight if self.matrix is None else self.matrix) * shape.decoder)


FLOAT32 = Precision()


def program() -> Part:
    """What is there before any model is."""
    return Part("program", PROGRAM)


def frozen(shape: ModelShape, name: str, precision: Precision = FLOAT32) -> Part:
    """A model that does not learn."""
    held, ends = precision.held, _ends(shape)
    matrices = precision.decoder(shape) if held is None else held * shape.decoder
    rest = precision.weight * (shape.parameters - shape.decoder - ends)
    rest += (precision.ends or precision.weight) * ends
    return Part(name, (matrices + rest) / precision.shards)


def _ends(shape: ModelShape) -> int:
    """Parameters of embedding and head, where they are tied once."""
    return shape.head * (1 if shape.tied else 2)


def learner(
    shape: ModelShape, name: str, *, rank: int | None, precision: Precision = FLOAT32
) -> Part:
    """What learns: weight and Adam's two moments of every weight, or of a LoRA set (its backbone
    not counted)."""
    count = shape.parameters if rank is None else shape.adapter(rank)
    return Part(name, precision.learnt * count / precision.shards)


def gathered(shape: ModelShape) -> Part:
    """What is whole on a device at a time where weights are spread: two layers, embedding and head,
    in 16 bits."""
    ends = _ends(shape)
    size = 2.0 * (2.0 * (shape.parameters - ends) / shape.layers + ends)
    return Part("gathered layers", size, passing=True)


def gradient(shape: ModelShape, *, rank: int | None, precision: Precision = FLOAT32) -> Part:
    """Of the one role that is being updated: no two have gradients at the same time."""
    count = shape.parameters if rank is None else shape.adapter(rank)
    # That of the embedding comes in two parts where the head shares its weight; both are alive when
    # they are added.
    twice = 4.0 * shape.head if rank is None and shape.tied else 0.0
    return Part("gradient", 4.0 * count / precision.shards + twice, passing=True)


def micro_batch(tokens: float, limit: int, *, examples: float, heap: float = HEAP) -> float:
    """Tokens of the largest micro-batch, where batches of `examples` have `tokens` in the mean and
    are cut evenly into as few as `limit` allows, `heap` times as many where they are several. Of a
    training's hundred batches the largest is 2.5 standard deviations away."""
    spread = min(0.9, 2.5 * VARIATION / math.sqrt(max(1.0, examples)))
    least, most = tokens * (1 - spread), tokens * (1 + spread)
    if most <= limit:
        return most
    full = most // limit > max(1, least // limit)  # some batch is several full ones
    several = limit if full else most / math.ceil(most / limit)
    return max(limit if least <= limit else 0, heap * several)


def activations(
    shape: ModelShape, tokens: float, *, recompute: bool = False, precision: Precision = FLOAT32
) -> Part:
    """What a micro-batch of `tokens` leaves for its backward pass, and the few wide tensors in
    flight."""
    in_flight = 6 * shape.mlp + 4 * shape.width
    return Part(
        "activations of a micro-batch",
        precision.weight
        * tokens
        * (shape.kept_per_token(recompute=recompute, padded=precision.padded) + in_flight),
        passing=True,
    )


def rounded(shape: ModelShape, precision: Precision) -> Part:
    """The shorter copies of matrices that learn, which the backward pass multiplies with again."""
    return Part("rounded matrices", precision.decoder(shape), passing=True)


def widened(shape: ModelShape, precision: Precision) -> Part:
    """The one quantized matrix that is multiplied with, and what its codes are looked up by."""
    return Part("widened matrix", 2.0 * precision.weight * shape.width * shape.mlp, passing=True)


def logits(shape: ModelShape, scored: float, *, buffers: int = 1) -> Part:
    """The chunk of logits; two buffers where the entropy is asked for."""
    return Part(
        "logits of a chunk", 4.0 * min(CHUNK, scored) * shape.vocabulary * buffers, passing=True
    )


def engine(
    shape: ModelShape, *, rows: int, length: int, precision: Precision = FLOAT32, int8: bool = False
) -> Part:
    """The sampler's own copy of the decoder (with `int8` of the head as well; none where sampling
    goes through transformers, which runs the policy's own weights), the cache of `rows` sequences
    of `length` tokens, and its logits."""
    weights = float(shape.decoder + shape.head) if int8 else precision.decoder(shape)
    if precision.ends is not None and precision.ends < precision.weight:
        weights += precision.weight * _ends(shape)  # widened while it writes
    if shape.fallback is not None:
        weights = 0.0
    cache = precision.weight * shape.cache_per_token * rows * length
    return Part("sampler", (weights + cache) / precision.split + 8.0 * rows * shape.vocabulary)


def training(
    shape: ModelShape,
    tokens: float,
    scored: float,
    *,
    rank: int | None,
    recompute: bool = False,
    precision: Precision = FLOAT32,
    roles: tuple[str, ...] = ("model",),
    buffers: int = 1,
) -> list[Part]:
    """What training takes: the frozen backbone under adapters, the `roles` that learn, and the
    largest micro-batch, of `tokens` that scores `scored` of them."""
    return [
        *([] if rank is None else [frozen(shape, "backbone", precision)]),
        *(
            learner(
                shape, f"{role}{'' if rank is None else ' adapter'}", rank=rank, precision=precision
            )
            for role in roles
        ),
        gradient(shape, rank=rank, precision=precision),
        *([gathered(shape)] if precision.shards > 1 else []),
        activations(shape, tokens, recompute=recompute, precision=precision),
        *([logits(shape, scored, buffers=buffers)] if scored else []),
        *([rounded(shape, precision)] if rank is None and precision.matrix else []),
        *([] if precision.held is None else [widened(shape, precision)]),
    ]


def in_turns(parts: list[Part], sampler: Part) -> list[Part]:
    """What is alive at the larger of two moments: while roles are trained, and while the sampler,
    which sleeps then, writes."""
    return max(parts, [*(part for part in parts if not part.passing), sampler], key=total)


def total(parts: list[Part]) -> float:
    """The peak of a stage with these parts, in bytes."""
    return SLACK * sum(part.size for part in parts)
