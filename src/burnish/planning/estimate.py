"""What every kind's plan is made of: a stage's memory by part, and the time of training, reading
and sampling.

Pure arithmetic over a model's shape, the sizes of the data and a machine's rates. Times are
estimates: answers are taken to be as long as the demonstrations'.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from burnish.config.graph import Graph, Node
from burnish.config.recipe import Recipe
from burnish.config.sections import Lora, Optimizer, Sampling
from burnish.config.watch import MOST_WAITING, PeopleWatch, RewardWatch, Watch
from burnish.models.sampled import SLOWER
from burnish.models.stored import BITS
from burnish.planning import memory
from burnish.planning.cluster import Round, tensor_parallel
from burnish.planning.machine import Machine
from burnish.planning.memory import Part, Precision
from burnish.planning.shape import ModelShape

TRAINING_SHARE = 0.5
"""Of the machine's product rate that training reaches, measured."""
DECODING_SHARE = 0.5
"""Of the limit that decoding reaches, measured."""
INT8_FASTER = 4.0
"""Products of 8-bit numbers beside float32's, measured."""
DECODE_ROWS = 64
"""Sequences side by side in the sampler."""
STAGE_SECONDS = 6.0
"""Loading, saving and the like, a stage."""


@dataclass(frozen=True, slots=True)
class DataSize:
    """What a run reads: counts, and mean lengths in tokens; answers of length 0 are not known."""

    demonstrations: int
    heldout_demonstrations: int
    prompts: int
    heldout_prompts: int
    comparisons: int
    heldout_comparisons: int
    prompt_tokens: float
    answer_tokens: float


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is asked of people: `rankings` of `responses` answers each."""

    rankings: int
    responses: int
    hours: float


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: parts of its memory at its peak, its time in seconds, what it asks of people, and
    what a step does of one that samples and learns in turns."""

    name: str
    parts: tuple[Part, ...]
    seconds: float
    annotation: Annotation | None = None
    round: Round | None = None

    @property
    def peak(self) -> float:
        """Bytes, on each device."""
        return memory.total(list(self.parts))


@dataclass(frozen=True)
class Forecast:
    """What a kind's plan is made with: a stage, the model's shape, the sizes of the data, the
    machine; and the sums all plans share.

    Args:
        recipe: the resolved recipe.
        graph: its stages.
        node: the stage that is planned.
        shape: the model's.
        data: what the stage reads.
        machine: what it runs on.
    """

    recipe: Recipe
    graph: Graph
    node: Node
    shape: ModelShape
    data: DataSize
    machine: Machine

    @property
    def settings(self) -> Any:
        """The stage's section of the recipe."""
        return self.node.settings

    def planned(
        self,
        parts: Iterable[Part],
        seconds: float,
        annotation: Annotation | None = None,
        step: Round | None = None,
    ) -> StagePlan:
        """The stage's plan, with the time that every stage takes besides."""
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS, annotation, step)

    def program(self) -> Part:
        """The process and its libraries."""
        return memory.program()

    def part(self, name: str, size: float) -> Part:
        """`size` bytes, by name."""
        return Part(name, size)

    def in_turns(self, parts: list[Part], sampler: Part) -> list[Part]:
        """What is alive at the larger of two moments: while roles are trained, and while the
        sampler writes."""
        return memory.in_turns(parts, sampler)

    def loading(self, models: int) -> float:
        """Seconds of loading so many models."""
        return STAGE_SECONDS * models

    def asked(self, rankings: int, responses: int) -> Annotation:
        """People reading K answers at 200 words a minute and a prompt, and 5 seconds of thought for
        each of them."""
        words = 0.75 * (self.data.prompt_tokens + responses * self.data.answer_tokens)
        seconds = words / 200 * 60 + 5.0 * responses
        return Annotation(rankings, responses, rankings * seconds / 3600)

    @staticmethod
    def rank_of(lora: Lora | None) -> int | None:
        """The rank of a section's adapters; None: every weight is trained."""
        return None if lora is None else lora.r

    def answers(self) -> tuple[int, int]:
        """(prompts, answers to each) that are compared or learnt from: those of a stage, or
        people's pairs."""
        compared = self.node.input("comparisons")
        node = (
            self.node if compared is None or compared.stage is None else self.graph[compared.stage]
        )
        made = node.input("answers")
        if made is None or made.stage is None:
            return self.data.comparisons, 2
        sampled = self.graph[made.stage]
        asked = getattr(sampled.settings, "count", None) or self.data.prompts
        responses = getattr(sampled.settings, "responses", 2)
        return min(asked, self.data.prompts), responses * max(
            len(sampled.inputs.get("models", ())), 1
        )

    def heldout(self, prompts: int) -> float:
        """Compared prompts that are held out."""
        compared = self.node.input("comparisons")
        own = compared is None or compared.stage is None
        return self.data.heldout_comparisons if own else prompts * self.recipe.data.heldout

    def reward_rank(self, otherwise: Lora | None) -> int | None:
        """The rank of the reward model's adapters, where it is made by a stage; None: it is no
        adapter."""
        artifact = self.node.input("reward")
        if artifact is None or artifact.stage is None:
            return self.rank_of(otherwise)
        # an average is no adapter
        return self.rank_of(getattr(self.graph[artifact.stage].settings, "lora", None))

    def reward_members(self) -> int:
        """How many members of the reward model read an answer."""
        made = self._reward_settings
        return 1 if getattr(made, "combine", "") == "weights" else getattr(made, "members", 1)

    def other_members(self) -> list[Part]:
        """The adapters of a reward model beside its first; an average of weights has their rank."""
        made = self._reward_settings
        several, rank = getattr(made, "members", 1), self.rank_of(getattr(made, "lora", None))
        if several == 1 or rank is None:
            return []
        return [self.part("other members", (several - 1) * self.adapter("", rank).size)]

    @property
    def _reward_settings(self) -> Any:
        """The section of the stage that makes the reward model; None: no stage does."""
        artifact = self.node.input("reward")
        return (
            None
            if artifact is None or artifact.stage is None
            else self.graph[artifact.stage].settings
        )

    @property
    def _quantization(self) -> str:
        """How the frozen matrices under the stage's adapters are held."""
        lora = getattr(self.settings, "lora", None)
        shared = getattr(self.settings, "share_backbone", True)
        return lora.quantization if lora is not None and shared else "none"

    @property
    def _precision(self) -> Precision:
        machine, matrix = self.machine, 2 if self.recipe.model.dtype == "bfloat16" else None
        held = BITS[self._quantization] / 8 if self._quantization != "none" else None
        narrow = (matrix or held) and self.shape.stored_in_bfloat16 and machine.devices == 1
        master = 4 if machine.weight_bytes < 4 else 0
        spread = machine.devices > 1
        split = tensor_parallel(self.shape, machine) if spread else 1
        return Precision(
            machine.weight_bytes,
            master,
            machine.devices,
            matrix,
            padded=not machine.is_cpu,
            held=held,
            ends=2 if narrow else None,
            split=split or min(machine.node, machine.devices),
        )

    def frozen(self, name: str, *, exact: bool = False) -> Part:
        """A whole model that does not learn; `exact`: in float32, whatever the recipe's dtype."""
        if exact:
            precision = replace(self._precision, held=None, matrix=None, ends=None)
        else:
            precision = replace(self._precision, held=None)
        return memory.frozen(self.shape, name, precision)

    def adapter(self, name: str, rank: int) -> Part:
        """An adapter set that does not learn."""
        return Part(name, self._precision.weight * self.shape.adapter(rank))

    def training(
        self,
        optimizer: Optimizer,
        rank: int | None,
        examples: float,
        length: float,
        *,
        scored: float = 0.0,
        roles: tuple[str, ...] = ("model",),
        buffers: int = 1,
    ) -> list[Part]:
        """The program and a learner whose batches have `examples` of `length` tokens, of which it
        scores the share `scored`."""
        heap = memory.HEAP if self.machine.is_cpu else 1.0  # a GPU's allocator is another
        tokens = memory.micro_batch(
            examples * length, optimizer.micro_batch_tokens, examples=examples, heap=heap
        )
        parts = memory.training(
            self.shape,
            tokens,
            scored * tokens,
            rank=rank,
            recompute=optimizer.gradient_checkpointing,
            precision=self._precision,
            roles=roles,
            buffers=buffers,
        )
        return [memory.program(), *parts]

    def engine(self, count: int, sampling: Sampling) -> Part:
        """What sampling `count` completions holds beside the model."""
        rows, length = (
            min(DECODE_ROWS, count),
            round(2 * self.data.prompt_tokens) + sampling.max_new_tokens,
        )
        narrow = sampling.quantization == "int8"  # auto may be either: the plan is for the larger
        return memory.engine(
            self.shape, rows=rows, length=length, precision=self._precision, int8=narrow
        )

    def train(
        self, examples: float, tokens: float, scored: float, rank: int | None, optimizer: Optimizer
    ) -> float:
        """Seconds of training on `examples` of `tokens`, of which `scored` are scored."""
        flops = self.shape.training_flops(
            examples * tokens,
            examples * scored,
            lora=rank is not None,
            recompute=optimizer.gradient_checkpointing,
            context=tokens / 2,
        )
        return flops / (TRAINING_SHARE * self._rate)

    def forward(self, examples: float, tokens: float, scored: float) -> float:
        """Seconds of reading them once."""
        return self.shape.forward_flops(
            examples * tokens, examples * scored, context=tokens / 2
        ) / (TRAINING_SHARE * self._rate)

    def generate(self, count: float, sampling: Sampling, *, prompts: float | None = None) -> float:
        """Seconds of sampling: every step reads all weights once and multiplies them with as many
        rows as are in flight; `prompts` are different."""
        answer = min(self.data.answer_tokens or sampling.max_new_tokens, sampling.max_new_tokens)
        asked = count if prompts is None else prompts
        rows = min(DECODE_ROWS, count)
        narrow = sampling.quantization != "none" and self.shape.fallback is None
        flops = INT8_FASTER * self.machine.flops if narrow else self.machine.flops
        precision = self._precision
        matrices, head = (
            (1, 1) if narrow else (precision.matrix or precision.weight, precision.weight)
        )
        read = (matrices * self.shape.decoder + head * self.shape.head) / self.machine.bandwidth
        work = rows * self.shape.forward_flops(1, 1, context=self.data.prompt_tokens) / flops
        steps = count * answer / max(rows, 1) / self.machine.devices
        prefill = self.shape.forward_flops(asked * self.data.prompt_tokens, asked) / (
            flops * self.machine.devices
        )
        slower = 1.0 if self.shape.fallback is None else SLOWER
        return slower * (steps * max(read, work) + prefill) / DECODING_SHARE

    def round(
        self, config: Any, rank: int | None, *, learners: int, frozen: int, passes: int
    ) -> Round:
        """What a step of an online stage does, answers taken to be as long as they may be."""
        epochs = [config.epochs, config.critic_epochs or config.epochs][:learners]
        return Round(
            self.shape,
            config.prompts_per_step * config.responses_per_prompt,
            self.data.prompt_tokens,
            config.sampling.max_new_tokens,
            config.optimizer.micro_batch_tokens,
            rank,
            learners,
            frozen,
            passes,
            sum(epochs) / learners,
        )

    def watching(self, watch: Watch | None, rank: int | None) -> list[Part]:
        """What a watch holds: the policy's best weights, those that people have not judged yet, and
        a reward model that judges."""
        if watch is None:
            return []
        parts: list[Part] = []
        if watch.keep == "best" or watch.action == "roll_back":
            kept = self.shape.parameters if rank is None else self.shape.adapter(rank)
            copies = 1 + MOST_WAITING * isinstance(watch.judge, PeopleWatch)
            parts.append(Part("kept weights", 4.0 * kept * copies))
        if isinstance(watch.judge, RewardWatch):
            parts.append(self.frozen("reward model of the watch"))
        return parts

    def watched(self, watch: Watch | None, steps: int, sampling: Sampling) -> float:
        """Seconds of a watch's checks: fresh answers, read by the reward, the policy and its
        start; at the start four to each prompt."""
        if watch is None:
            return 0.0
        answers = watch.prompts * (4 + math.ceil(steps / watch.every))
        length = self.data.prompt_tokens + min(
            self.data.answer_tokens or sampling.max_new_tokens, sampling.max_new_tokens
        )
        reads = 3 + isinstance(watch.judge, RewardWatch)
        return self.generate(answers, sampling) + reads * self.forward(answers, length, 0.0)

    @property
    def _rate(self) -> float:
        return self.machine.flops * self.machine.devices
