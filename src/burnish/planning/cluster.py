"""A step of an online stage on many GPUs, by arithmetic: memory on each, and time with the engines
on the trainers' GPUs or on GPUs of their own.

Trainers hold float32 shards of what learns with Adam's moments (12 bytes a weight), shards of what
does not learn in 16 bits, and layers gathered one ahead; engines hold 16-bit weights, split over
the GPUs of one computer where they are large. Shares of the peaks are assumptions until they are
measured (MATHS_SHARE, READ_SHARE).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from burnish.planning.machine import Machine
from burnish.planning.memory import CHUNK, Part, gathered
from burnish.planning.shape import ModelShape

MATHS_SHARE = 0.40
"""Of the peak of 16-bit products that passes and updates reach."""
READ_SHARE = 0.60
"""Of the memory's bandwidth that decoding reaches."""
SUM_SECONDS = 12e-6
"""Of a sum over the GPUs that one engine is split over; a layer has two."""
USABLE = 0.90
"""Of a GPU's memory that an engine may fill."""
ENGINE_OWN = 2e9
"""Bytes that an engine takes besides weights and cache."""
MOST_WEIGHTS = 1 / 3
"""Of what an engine may fill, for weights: the rest is its cache's. Beyond, it is split further."""


@dataclass(frozen=True, slots=True)
class Round:
    """What a step does: `sequences` of `prompt` + `answer` tokens are written, read in `passes`
    over models of this shape, and learnt from by `learners`.

    Args:
        shape: of every role.
        sequences: answers a step.
        prompt: tokens of a prompt.
        answer: tokens of the longest answer.
        micro_batch_tokens: tokens of a micro-batch.
        rank: of the adapters; None: every weight learns.
        learners: roles that learn (policy, critic).
        frozen: whole models that do not learn, beside a backbone under adapters.
        passes: times that every sequence is read without learning.
        epochs: times that it is learnt from.
    """

    shape: ModelShape
    sequences: int
    prompt: float
    answer: float
    micro_batch_tokens: int
    rank: int | None
    learners: int = 1
    frozen: int = 1
    passes: int = 1
    epochs: float = 1.0

    @property
    def learnt(self) -> int:
        """Numbers that one learner learns."""
        return self.shape.parameters if self.rank is None else self.shape.adapter(self.rank)


@dataclass(frozen=True, slots=True)
class Division:
    """Who has which GPUs, and what a step takes then, in seconds.

    Args:
        trainers: GPUs that train.
        engines: GPUs that write; 0: those that train, in turns.
        tensor_parallel: GPUs of one engine.
        room: sequences that an engine's cache has room for.
        training: bytes on a GPU that trains.
        generate: the sampling of all answers.
        passes: the reading of them.
        update: the learning from them.
        publish: the weights' way to the engines.
    """

    trainers: int
    engines: int
    tensor_parallel: int
    room: int
    training: float
    generate: float
    passes: float
    update: float
    publish: float

    @property
    def in_step(self) -> float:
        """Seconds of a step whose answers are the present policy's."""
        return self.generate + self.passes + self.update + self.publish

    @property
    def one_off(self) -> float:
        """Seconds of a step that trains while the next answers are written by the policy before it;
        on the same GPUs nothing runs side by side."""
        if not self.engines:
            return self.in_step
        return max(self.generate, self.passes + self.update) + self.publish

    @property
    def idle(self) -> float:
        """Share of all GPUs' time without work, one step off."""
        if not self.engines:
            return 0.0
        busy = self.trainers * (self.passes + self.update) + self.engines * self.generate
        return 1.0 - busy / ((self.trainers + self.engines) * self.one_off)

    @property
    def used(self) -> float:
        """Share of the peak that reading and learning reach, over a whole step in step."""
        share = self.trainers / (self.trainers + self.engines)
        return MATHS_SHARE * share * (self.passes + self.update) / self.in_step


def held(work: Round, trainers: int) -> list[Part]:
    """What a GPU that trains holds at all times."""
    weights = 2.0 * work.shape.parameters / trainers
    models = [Part("frozen models", work.frozen * weights)] if work.frozen else []
    backbone = [] if work.rank is None else [Part("backbone", weights)]
    return [*backbone, Part("what learns", work.learners * 12.0 * work.learnt / trainers), *models]


def training(work: Round, trainers: int) -> list[Part]:
    """What it holds while it trains, layers being computed again in the backward pass."""
    shape, tokens = work.shape, work.micro_batch_tokens
    layer = 4 * shape.width + 2 * (shape.heads + shape.kv_heads) * shape.head_dim + 3 * shape.mlp
    return [
        *held(work, trainers),
        Part("gradient", 4.0 * work.learnt / trainers),
        gathered(shape),
        Part("inputs of layers", 2.0 * tokens * shape.layers * shape.width),
        Part("one layer's activations", 2.0 * tokens * layer),
        Part("logits of a chunk", 8.0 * CHUNK * shape.vocabulary),
    ]


def tensor_parallel(shape: ModelShape, machine: Machine) -> int | None:
    """GPUs that one engine is split over: as few of 1, 2, 4, ... as leave most memory to its cache;
    the node's if none does; None where even they do not hold it."""
    usable = USABLE * machine.memory - ENGINE_OWN
    most = min(machine.node, machine.devices)
    sizes = [1 << power for power in range(most.bit_length()) if 1 << power <= most]
    weights = 2.0 * shape.parameters
    fitting = [size for size in sizes if weights / size <= MOST_WEIGHTS * usable]
    split = fitting[0] if fitting else sizes[-1]
    return split if weights / split < usable else None


def divisions(work: Round, machine: Machine) -> list[Division]:
    """Every way to give the GPUs out that the memory allows, the fastest first (one step off where
    that can be)."""
    split = tensor_parallel(work.shape, machine)
    if split is None:
        return []
    shares = range(0, machine.devices // 2 + 1, split)
    found = [_division(work, machine, engines, split) for engines in shares]
    return sorted((one for one in found if one is not None), key=lambda one: one.one_off)


def _division(work: Round, machine: Machine, engines: int, split: int) -> Division | None:
    trainers = machine.devices - engines
    writers = engines or trainers
    beside = 0.0 if engines else sum(part.size for part in held(work, trainers))
    peak = sum(part.size for part in training(work, trainers))
    per_token = 2.0 * work.shape.cache_per_token / split
    own = 2.0 * work.shape.parameters / split
    free = USABLE * machine.memory - ENGINE_OWN - own - beside
    room = int(free / (per_token * (work.prompt + work.answer)))
    if peak > machine.memory or room < 1 or writers < split:
        return None
    rate = trainers * machine.flops * MATHS_SHARE
    tokens = work.sequences * (work.prompt + work.answer)
    scored, context = work.sequences * work.answer, (work.prompt + work.answer) / 2
    read = work.shape.forward_flops(tokens, scored, context=context)
    learn = work.shape.training_flops(
        tokens, scored, lora=work.rank is not None, recompute=True, context=context
    )
    return Division(
        trainers,
        engines,
        split,
        room,
        peak,
        _generate(work, machine, writers, split, room),
        work.passes * read / rate,
        work.learners * work.epochs * learn / rate,
        publishing(work, machine, apart=bool(engines)),
    )


def _generate(work: Round, machine: Machine, gpus: int, split: int, room: int) -> float:
    """Seconds until the longest answer of all is written: each engine's share in as many waves as
    its cache makes of it, and the reading of the prompts."""
    share = math.ceil(work.sequences / (gpus // split))
    waves = [room] * (share // room) + ([share % room] if share % room else [])
    steps = sum(_decode(work, machine, split, rows) for rows in waves)
    prompts = work.shape.forward_flops(work.sequences * work.prompt, work.sequences)
    return work.answer * steps + prompts / (gpus * machine.flops * MATHS_SHARE)


def _decode(work: Round, machine: Machine, split: int, rows: int) -> float:
    """Seconds of a token of `rows` sequences at their mean length: the weights and the cache are
    read, or multiplied where that takes longer."""
    shape, length = work.shape, work.prompt + work.answer / 2
    cache = 2.0 * shape.cache_per_token * rows * length
    read = (2.0 * shape.parameters + cache) / split / machine.bandwidth
    flops = shape.forward_flops(rows, rows, context=length)
    multiply = flops / split / (machine.flops * MATHS_SHARE)
    sums = 2 * shape.layers * SUM_SECONDS if split > 1 else 0.0
    return max(read, multiply) / READ_SHARE + sums


def publishing(work: Round, machine: Machine, *, apart: bool) -> float:
    """Seconds until the engines have the new weights, or adapter: over one link where they have
    GPUs of their own; else what a GPU lacks of the whole, over its own."""
    size = 2.0 * (work.shape.parameters if work.rank is None else work.learnt)
    if apart:
        return size / (machine.inner if machine.devices <= machine.node else machine.link)
    if machine.devices <= machine.node:
        return size / machine.inner
    return size * (1.0 - machine.node / machine.devices) / machine.link
