"""A recipe's plan: for each stage its memory by part, its time, and the people it asks; what would make it fit.

Pure arithmetic over a model's shape, the sizes of the data and a machine's rates. Times are estimates: answers are taken
to be as long as the demonstrations'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.algorithms.recipes import resolve
from burnish.config.schema import Lora, Optimiser, Recipe, Sampling
from burnish.models.sampled import SLOWER
from burnish.planning import memory
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
REFERENCE_FREE = ("simpo", "orpo", "cpo")
"""Losses that hold no reference."""
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
class StagePlan:
    """One stage: parts of its memory at its peak, and its time in seconds."""

    name: str
    parts: tuple[Part, ...]
    seconds: float

    @property
    def peak(self) -> float:
        """Bytes, on each device."""
        return memory.total(list(self.parts))


@dataclass(frozen=True, slots=True)
class Annotation:
    """What is asked of people: `rankings` of `responses` answers each."""

    rankings: int
    responses: int
    hours: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a recipe in their order, and the annotation, if any."""

    stages: tuple[StagePlan, ...]
    annotation: Annotation | None

    @property
    def peak(self) -> float:
        """Bytes, on each device: the largest of the stages."""
        return max((stage.peak for stage in self.stages), default=0.0)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)


def make_plan(
    recipe: Recipe, shape: ModelShape, data: DataSize, machine: Machine, *, stages: Sequence[str] | None = None
) -> Plan:
    """The plan of `recipe`, or of some of its stages, for a model of this shape on this machine."""
    how = _Estimate(recipe, shape, data, machine)
    estimates = {
        "sft": how.sft, "collect": how.collect, "reward": how.reward, "preference": how.preference, "ppo": how.ppo,
        "online": how.online, "evaluate": how.evaluate,
    }  # fmt: skip
    wanted = [s for s in estimates if s in (recipe.stages if stages is None else stages)]
    if data.comparisons:
        wanted = [s for s in wanted if s != "collect"]  # people's comparisons are given
    annotation = how.annotation() if "collect" in wanted else None
    return Plan(tuple(estimates[stage]() for stage in wanted), annotation)


def settings_that_fit(
    recipe: Recipe, shape: ModelShape, data: DataSize, machine: Machine, *, stages: Sequence[str] | None = None
) -> tuple[str, ...] | None:
    """The mildest changes to the recipe with which it fits the machine's memory; None if none of them is enough."""
    # 8-bit products are the native engine's, on CPUs that sum them exactly.
    narrowing = machine.is_cpu and machine.int8 and shape.fallback is None
    for changes in _milder(recipe, narrowing=narrowing):
        changed = _changed(recipe, changes)
        if make_plan(changed, shape, data, machine, stages=stages).peak <= machine.memory:
            return tuple(
                f"{key}={_flow(value) if isinstance(value, dict) else value}" for key, value in changes.items()
            )
    return None


def _milder(recipe: Recipe, *, narrowing: bool) -> Iterator[dict[str, Any]]:
    """From what costs nothing but a little speed to what trains less."""
    trainers = [s for s in ("sft", "reward", "preference", "ppo", "online") if s in recipe.stages]
    adapters: dict[str, Any] = {}
    for stage in ("ppo", "online"):
        if stage in trainers and getattr(recipe, stage).roles == "copies":
            adapters[f"{stage}.roles"] = "adapters"
    for stage in ("sft", "reward", "preference"):
        if stage in trainers and getattr(recipe, stage).lora is None:
            adapters[f"{stage}.lora"] = {"r": 16, "alpha": 32.0}
    smaller = [{f"{s}.optimiser.micro_batch_tokens": size for s in trainers} for size in (512, 256, 128)]
    yield from smaller
    recompute = {f"{s}.optimiser.gradient_checkpointing": True for s in trainers}
    yield recompute
    yield {**recompute, **smaller[-1]}
    samplers = [s for s in ("collect", "ppo", "online", "evaluate") if s in recipe.stages]
    narrow = {f"{s}.sampling.products": "int8" for s in samplers} if narrowing else {}
    if narrow:
        yield from ({**narrow, **cut} for cut in ({}, *smaller))
        yield {**narrow, **recompute, **smaller[-1]}
    if adapters:
        yield adapters
        yield from ({**adapters, **cut} for cut in smaller)
        yield {**adapters, **narrow, **recompute, **smaller[-1]}


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    raw = recipe.model_dump()
    for key, value in changes.items():
        *way, last = key.split(".")
        at = raw
        for name in way:
            at = at[name]
        at[last] = value
    return Recipe.model_validate(raw)


def _flow(value: object) -> str:
    """As it is typed on the command line."""
    if not isinstance(value, dict):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return "{" + ", ".join(f"{k}: {v:g}" for k, v in value.items()) + "}"


@dataclass(frozen=True)
class _Estimate:
    recipe: Recipe
    shape: ModelShape
    data: DataSize
    machine: Machine

    def sft(self) -> StagePlan:
        """Training on demonstrations, and the held-out loss now and then."""
        config, data = self.recipe.sft, self.data
        count = data.demonstrations or data.comparisons
        rank = _rank(config.lora)
        length = data.prompt_tokens + data.answer_tokens
        scored = data.answer_tokens / length
        parts = self._training(config.optimiser, rank, config.batch_size, length, scored=scored)
        evaluations = 1 + max(1, config.epochs * count / config.batch_size / config.eval_every)
        heldout = data.heldout_demonstrations or data.heldout_comparisons
        seconds = self._train(config.epochs * count, length, data.answer_tokens, rank, config.optimiser)
        seconds += self._forward(evaluations * heldout, length, data.answer_tokens)
        return StagePlan("sft", tuple(parts), seconds + STAGE_SECONDS)

    def collect(self) -> StagePlan:
        """Sampling K answers to each prompt."""
        config = self.recipe.collect
        prompts = min(config.prompts or self.data.prompts, self.data.prompts)
        count = prompts * config.responses_per_prompt
        parts = [memory.program(), self._frozen("model"), self._engine(count, config.sampling)]
        return StagePlan("collect", tuple(parts), self._generate(count, config.sampling) + STAGE_SECONDS)

    def reward(self) -> StagePlan:
        """Bradley–Terry on the comparisons; then the SFT model's answers to 64 prompts, to set gain and bias."""
        config, data = self.recipe.reward, self.data
        people = data.comparisons > 0
        responses = 2 if people else self.recipe.collect.responses_per_prompt
        prompts = data.comparisons if people else min(self.recipe.collect.prompts or data.prompts, data.prompts)
        heldout = data.heldout_comparisons if people else prompts * self.recipe.data.heldout
        rank = _rank(config.lora)
        tokens = data.prompt_tokens + responses * data.answer_tokens
        parts = self._training(config.optimiser, rank, config.batch_size, tokens)
        evaluations = 2 + config.epochs * prompts / config.batch_size / config.eval_every
        seconds = self._train(config.epochs * prompts, tokens, 0.0, rank, config.optimiser)
        seconds += self._forward(evaluations * heldout, tokens, 0.0)
        seconds += self._generate(64, self.recipe.ppo.sampling)
        return StagePlan("reward", tuple(parts), seconds + STAGE_SECONDS)

    def preference(self) -> StagePlan:
        """The reference's pass, training on all answers to each prompt, evaluations; later rounds sample and compare first."""
        config, data = self.recipe.preference, self.data
        people = data.comparisons > 0
        offered = 2 if people else self.recipe.collect.responses_per_prompt
        answers = 2 if config.pairs == "extremes" else offered
        prompts = data.comparisons if people else min(self.recipe.collect.prompts or data.prompts, data.prompts)
        heldout = data.heldout_comparisons if people else prompts * self.recipe.data.heldout
        seconds, rank = 0.0, _rank(config.lora)
        for round_ in range(config.rounds):
            if round_:
                prompts = min(config.online.prompts or data.prompts, data.prompts)
                answers = 2 if config.pairs == "extremes" else config.online.responses_per_prompt
                seconds += self._generate(prompts * config.online.responses_per_prompt, config.online.sampling)
            tokens, scored = data.prompt_tokens + answers * data.answer_tokens, answers * data.answer_tokens
            name = config.loss.name
            reads = (0 if name in REFERENCE_FREE else 1) + (2 if name == "kto" else 0) * (tokens / answers / tokens)
            evaluations = 3 + config.epochs * prompts / config.batch_size / config.eval_every
            seconds += self._train(config.epochs * prompts, tokens, scored, rank, config.optimiser)
            seconds += self._forward(reads * prompts + evaluations * heldout, tokens, scored)
        tokens = data.prompt_tokens + answers * data.answer_tokens
        scored = answers * data.answer_tokens / tokens
        parts = self._training(config.optimiser, rank, config.batch_size, tokens, scored=scored)
        if config.rounds > 1:
            parts.append(self._engine(prompts * config.online.responses_per_prompt, config.online.sampling))
        return StagePlan("preference", tuple(parts), seconds + STAGE_SECONDS)

    def ppo(self) -> StagePlan:
        """Rollouts, four passes over them, and the updates of policy and critic."""
        config, data = self.recipe.ppo, self.data
        adapters = config.roles == "adapters"
        rollouts = config.prompts_per_step * config.responses_per_prompt
        length = data.prompt_tokens + data.answer_tokens
        rank = config.lora.r if adapters else None
        parts = self._training(
            config.optimiser, rank, rollouts / config.mini_batches, length, scored=data.answer_tokens / length,
            roles=("policy", "critic"), buffers=2,
        )  # fmt: skip
        if adapters:
            parts.append(self._adapter("reward adapter", (self.recipe.reward.lora or config.lora).r))
        else:
            parts += [self._frozen("reward model"), self._frozen("reference")]
        parts = memory.in_turns(parts, self._engine(rollouts, config.sampling))
        single = config.epochs * config.mini_batches == 1 and config.sampling.follows_the_model
        step = self._generate(rollouts, config.sampling)
        step += (1 if single else 2) * self._forward(rollouts, length, data.answer_tokens)
        step += 2 * self._forward(rollouts, length, 0.0)
        step += config.epochs * self._train(rollouts, length, data.answer_tokens, rank, config.optimiser)
        step += (config.critic_epochs or config.epochs) * self._train(rollouts, length, 0.0, rank, config.optimiser)
        return StagePlan("ppo", tuple(parts), config.steps * step + STAGE_SECONDS)

    def online(self) -> StagePlan:
        """Rollouts in groups that share their prompt, passes over them as far as the algorithm needs them, and updates."""
        config, data = self.recipe.online, self.data
        row = resolve(config.algorithm.name, config.algorithm.exchanged())
        adapters = config.roles == "adapters"
        size = config.responses_per_prompt
        rollouts = config.prompts_per_step * size
        answer = min(data.answer_tokens or config.sampling.max_new_tokens, config.sampling.max_new_tokens)
        length = data.prompt_tokens / size + answer
        examples = max(rollouts / config.mini_batches, 1.0)
        rank = config.lora.r if adapters else None
        learning = ("policy", "critic") if row.needs_critic else ("policy",)
        parts = self._training(
            config.optimiser, rank, examples, length, scored=answer / length, roles=learning, buffers=2,
        )  # fmt: skip
        if row.needs_reference and not adapters:
            parts.append(self._frozen("reference"))
        parts = memory.in_turns(parts, self._engine(rollouts, config.sampling))
        several = config.epochs * config.mini_batches > 1
        late = row.kl == "loss" and config.kl_target is None  # the loss has the distance from the reference soon enough
        early = row.needs_reference and not config.sampling.follows_the_model and not late
        passes = row.needs_reference + (several or early)
        step = self._generate(rollouts, config.sampling, prompts=config.prompts_per_step)
        step += passes * self._forward(rollouts, length, answer)
        step += config.epochs * self._train(rollouts, length, answer, rank, config.optimiser)
        if row.needs_critic:
            step += self._forward(rollouts, length, 0.0)
            step += (config.critic_epochs or config.epochs) * self._train(rollouts, length, 0.0, rank, config.optimiser)
        return StagePlan("online", tuple(parts), config.steps * step + STAGE_SECONDS)

    def evaluate(self) -> StagePlan:
        """Every model answers the held-out prompts; the reward model and the reference read the answers."""
        config, data = self.recipe.evaluate, self.data
        prompts = min(config.prompts or data.heldout_prompts, data.heldout_prompts)
        count, length = prompts * config.responses_per_prompt, data.prompt_tokens + data.answer_tokens
        models = 1 + config.base + sum(stage in self.recipe.stages for stage in ("preference", "ppo", "online"))
        judge = self.recipe.reward.lora
        parts = [memory.program(), self._frozen("reference"), self._frozen("model")]
        parts.append(self._frozen("reward model") if judge is None else self._adapter("reward adapter", judge.r))
        parts.append(self._engine(count, config.sampling))
        each = self._generate(count, config.sampling)
        each += 2 * self._forward(count, length, data.answer_tokens) + self._forward(count, length, 0.0)
        return StagePlan("evaluate", tuple(parts), models * each + STAGE_SECONDS)

    def annotation(self) -> Annotation:
        """Reading K answers at 200 words a minute and a prompt, and 5 seconds of thought for each of them."""
        config = self.recipe.collect
        prompts = min(config.prompts or self.data.prompts, self.data.prompts)
        rankings = prompts * config.panel.annotators_per_item
        words = 0.75 * (self.data.prompt_tokens + config.responses_per_prompt * self.data.answer_tokens)
        seconds = words / 200 * 60 + 5.0 * config.responses_per_prompt
        return Annotation(rankings, config.responses_per_prompt, rankings * seconds / 3600)

    @property
    def _precision(self) -> Precision:
        machine, matrix = self.machine, 2 if self.recipe.model.products == "bfloat16" else None
        master = 4 if machine.weight_bytes < 4 else 0
        return Precision(machine.weight_bytes, master, machine.devices, matrix, padded=not machine.is_cpu)

    def _frozen(self, name: str) -> Part:
        return memory.frozen(self.shape, name, self._precision)

    def _adapter(self, name: str, rank: int) -> Part:
        """An adapter set that does not learn."""
        return Part(name, self._precision.weight * self.shape.adapter(rank))

    def _training(
        self,
        how: Optimiser,
        rank: int | None,
        examples: float,
        length: float,
        *,
        scored: float = 0.0,
        roles: tuple[str, ...] = ("model",),
        buffers: int = 1,
    ) -> list[Part]:
        """The program and a learner whose batches have `examples` of `length` tokens, of which it scores the share `scored`."""
        heap = memory.HEAP if self.machine.is_cpu else 1.0  # a GPU's allocator is another
        tokens = memory.micro_batch(examples * length, how.micro_batch_tokens, examples=examples, heap=heap)
        parts = memory.training(
            self.shape, tokens, scored * tokens, rank=rank, recompute=how.gradient_checkpointing, precision=self._precision,
            roles=roles, buffers=buffers,
        )  # fmt: skip
        return [memory.program(), *parts]

    def _engine(self, count: int, sampling: Sampling) -> Part:
        rows, length = min(DECODE_ROWS, count), round(2 * self.data.prompt_tokens) + sampling.max_new_tokens
        narrow = sampling.products == "int8"  # auto may be either: the plan is for the larger
        return memory.engine(self.shape, rows=rows, length=length, precision=self._precision, int8=narrow)

    def _train(self, examples: float, tokens: float, scored: float, rank: int | None, how: Optimiser) -> float:
        flops = self.shape.training_flops(
            examples * tokens, examples * scored, lora=rank is not None, recompute=how.gradient_checkpointing, context=tokens / 2
        )  # fmt: skip
        return flops / (TRAINING_SHARE * self._rate)

    def _forward(self, examples: float, tokens: float, scored: float) -> float:
        return self.shape.forward_flops(examples * tokens, examples * scored, context=tokens / 2) / (
            TRAINING_SHARE * self._rate
        )

    def _generate(self, count: float, sampling: Sampling, *, prompts: float | None = None) -> float:
        """Every step reads all weights once and multiplies them with as many rows as are in flight; `prompts` are different."""
        answer = min(self.data.answer_tokens or sampling.max_new_tokens, sampling.max_new_tokens)
        asked = count if prompts is None else prompts
        rows = min(DECODE_ROWS, count)
        narrow = sampling.products != "model" and self.shape.fallback is None
        flops = INT8_FASTER * self.machine.flops if narrow else self.machine.flops
        precision = self._precision
        matrices, head = (1, 1) if narrow else (precision.matrix or precision.weight, precision.weight)
        read = (matrices * self.shape.decoder + head * self.shape.head) / self.machine.bandwidth
        work = rows * self.shape.forward_flops(1, 1, context=self.data.prompt_tokens) / flops
        steps = count * answer / max(rows, 1) / self.machine.devices
        prefill = self.shape.forward_flops(asked * self.data.prompt_tokens, asked) / (flops * self.machine.devices)
        slower = 1.0 if self.shape.fallback is None else SLOWER
        return slower * (steps * max(read, work) + prefill) / DECODING_SHARE

    @property
    def _rate(self) -> float:
        return self.machine.flops * self.machine.devices


def _rank(lora: Lora | None) -> int | None:
    return None if lora is None else lora.r
