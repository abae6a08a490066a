"""A recipe's plan: for each stage its memory by part, its time, and the people it asks; what would make it fit.

Pure arithmetic over a model's shape, the sizes of the data and a machine's rates. Times are estimates: answers are taken
to be as long as the demonstrations'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.algorithms.recipes import resolve
from burnish.config.graph import Graph, Node, graph_of
from burnish.config.making import Sample
from burnish.config.online import Online
from burnish.config.preference import Preference
from burnish.config.recipe import Recipe
from burnish.config.schema import Evaluate, RewardModel, Sft
from burnish.config.sections import Lora, Optimiser, Sampling
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
    recipe: Recipe,
    shape: ModelShape,
    data: DataSize | Mapping[str, DataSize],
    machine: Machine,
    *,
    stages: Sequence[str] | None = None,
) -> Plan:
    """The plan of `recipe`, or of some of its stages, for a model of this shape on this machine; `data` is what every stage reads,
    or by the stage's name."""
    graph = graph_of(recipe)
    planned: list[StagePlan] = []
    annotation = None
    for node in graph:
        estimate = ESTIMATES.get(node.kind)
        if estimate is None or (stages is not None and node.name not in stages):
            continue
        size = data[node.name] if isinstance(data, Mapping) else data
        how = _Estimate(recipe, graph, node, shape, size, machine)
        planned.append(estimate(how))
        if node.kind == "compare" and any(one.panel is not None for one in node.settings.by):
            annotation = how.annotation()
    return Plan(tuple(planned), annotation)


def settings_that_fit(
    recipe: Recipe,
    shape: ModelShape,
    data: DataSize | Mapping[str, DataSize],
    machine: Machine,
    *,
    stages: Sequence[str] | None = None,
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
    trainers = {name: s for name, s in recipe.stages.items() if isinstance(s, _TRAINED)}
    adapters: dict[str, Any] = {}
    for name, section in trainers.items():
        if isinstance(section, Online):
            adapters |= {f"{name}.roles": "adapters"} if section.roles == "copies" else {}
        elif section.lora is None:
            adapters[f"{name}.lora"] = {"r": 16, "alpha": 32.0}
    smaller = [{f"{s}.optimiser.micro_batch_tokens": size for s in trainers} for size in (512, 256, 128)]
    yield from smaller
    recompute = {f"{s}.optimiser.gradient_checkpointing": True for s in trainers}
    yield recompute
    yield {**recompute, **smaller[-1]}
    samplers = [name for name, s in recipe.stages.items() if isinstance(s, Sample | Online | Evaluate)]
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
        stage = max((name for name in raw["stages"] if key.startswith(f"{name}.")), key=len)
        *way, last = key.removeprefix(f"{stage}.").split(".")
        at = raw["stages"][stage]
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
    graph: Graph
    node: Node
    shape: ModelShape
    data: DataSize
    machine: Machine

    def sft(self) -> StagePlan:
        """Training on demonstrations, and the held-out loss now and then."""
        config, data = self.node.settings, self.data
        count = data.demonstrations or data.comparisons
        rank = _rank(config.lora)
        length = data.prompt_tokens + data.answer_tokens
        scored = data.answer_tokens / length
        parts = self._training(config.optimiser, rank, config.batch_size, length, scored=scored)
        evaluations = 1 + max(1, config.epochs * count / config.batch_size / config.eval_every)
        heldout = data.heldout_demonstrations or data.heldout_comparisons
        seconds = self._train(config.epochs * count, length, data.answer_tokens, rank, config.optimiser)
        seconds += self._forward(evaluations * heldout, length, data.answer_tokens)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def sample(self) -> StagePlan:
        """Sampling K answers to each prompt."""
        config = self.node.settings
        prompts = min(config.count or self.data.prompts, self.data.prompts)
        count = prompts * config.responses
        parts = [memory.program(), self._frozen("model"), self._engine(count, config.sampling)]
        seconds = len(self.node.inputs["models"]) * self._generate(count, config.sampling)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def compare(self) -> StagePlan:
        """A panel costs next to nothing; a reward model reads every answer."""
        prompts, answers = self._answers()
        parts, seconds = [memory.program()], 0.0
        if any(one.reward is not None or one.judge is not None for one in self.node.settings.by):
            parts.append(self._frozen("reward model"))
            seconds = self._forward(prompts, self.data.prompt_tokens + answers * self.data.answer_tokens, 0.0)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def reward(self) -> StagePlan:
        """Bradley–Terry on the comparisons; then a policy's answers to 64 prompts, to set gain and bias."""
        config, data = self.node.settings, self.data
        prompts, responses = self._answers()
        heldout = self._heldout(prompts)
        rank = _rank(config.lora)
        tokens = data.prompt_tokens + responses * data.answer_tokens
        parts = self._training(config.optimiser, rank, config.batch_size, tokens)
        evaluations = 2 + config.epochs * prompts / config.batch_size / config.eval_every
        seconds = self._train(config.epochs * prompts, tokens, 0.0, rank, config.optimiser)
        seconds += self._forward(evaluations * heldout, tokens, 0.0)
        seconds += self._generate(64, config.sampling)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def preference(self) -> StagePlan:
        """The reference's pass, training on all answers to each prompt, evaluations."""
        config, data = self.node.settings, self.data
        prompts, offered = self._answers()
        answers = 2 if config.pairs == "extremes" else offered
        heldout = self._heldout(prompts)
        rank, name = _rank(config.lora), config.loss.name
        tokens, scored = data.prompt_tokens + answers * data.answer_tokens, answers * data.answer_tokens
        reads = (0 if name in REFERENCE_FREE else 1) + (2 if name == "kto" else 0) * (tokens / answers / tokens)
        evaluations = 3 + config.epochs * prompts / config.batch_size / config.eval_every
        seconds = self._train(config.epochs * prompts, tokens, scored, rank, config.optimiser)
        seconds += self._forward(reads * prompts + evaluations * heldout, tokens, scored)
        parts = self._training(config.optimiser, rank, config.batch_size, tokens, scored=scored / tokens)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def select(self) -> StagePlan:
        """A reward model reads every answer; rules cost next to nothing."""
        prompts, answers = self._answers()
        parts, seconds = [memory.program()], 0.0
        if not self.node.settings.rewards:
            parts.append(self._frozen("reward model"))
            seconds = self._forward(prompts, self.data.prompt_tokens + answers * self.data.answer_tokens, 0.0)
        return StagePlan(self.node.name, tuple(parts), seconds + STAGE_SECONDS)

    def revise(self) -> StagePlan:
        """An answer, and for each round a critique and a revision."""
        config = self.node.settings
        prompts = min(config.count or self.data.prompts, self.data.prompts)
        count = prompts * (1 + 2 * config.rounds)
        parts = [memory.program()]
        if config.endpoint is None:
            parts += [self._frozen("model"), self._engine(prompts, config.sampling)]
        return StagePlan(self.node.name, tuple(parts), self._generate(count, config.sampling) + STAGE_SECONDS)

    def merge(self) -> StagePlan:
        """One model beside the sum, which is in double precision."""
        parts = [memory.program(), self._frozen("model"), Part("sum", 8.0 * self.shape.parameters)]
        return StagePlan(self.node.name, tuple(parts), STAGE_SECONDS * len(self.node.inputs["models"]))

    def _answers(self) -> tuple[int, int]:
        """(prompts, answers to each) that are compared or learnt from: those of a stage, or people's pairs."""
        node = self.node
        if node.kind not in ("compare", "select"):
            compared = node.input("comparisons")
            if compared is None or compared.stage is None:
                return self.data.comparisons, 2
            node = self.graph[compared.stage]
        # a stage that compares, or one that selects pairs
        made = node.input("answers")
        assert made is not None  # nothing else makes answers
        assert made.stage is not None
        sampled = self.graph[made.stage]
        prompts = min(sampled.settings.count or self.data.prompts, self.data.prompts)
        return prompts, sampled.settings.responses * len(sampled.inputs["models"])

    def _heldout(self, prompts: int) -> float:
        """Compared prompts that are held out."""
        compared = self.node.input("comparisons")
        own = compared is None or compared.stage is None
        return self.data.heldout_comparisons if own else prompts * self.recipe.data.heldout

    def _reward_rank(self, otherwise: Lora | None) -> int | None:
        """The rank of the reward model's adapters, where it is made by a stage; None: it is no adapter."""
        artifact = self.node.input("reward")
        if artifact is None or artifact.stage is None:
            return _rank(otherwise)
        return _rank(getattr(self.graph[artifact.stage].settings, "lora", None))  # an average is no adapter

    def online(self) -> StagePlan:
        """Rollouts in groups that share their prompt, passes over them as far as the algorithm needs them, and updates."""
        config, data = self.node.settings, self.data
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
        scored = self.node.input("reward") is not None
        if scored:
            judge = self._reward_rank(config.lora) if adapters else None
            parts.append(self._frozen("reward model") if judge is None else self._adapter("reward adapter", judge))
        parts = memory.in_turns(parts, self._engine(rollouts, config.sampling))
        several = config.epochs * config.mini_batches > 1
        late = row.kl == "loss" and config.kl_target is None  # the loss has the distance from the reference soon enough
        early = row.needs_reference and not config.sampling.follows_the_model and not late
        passes = row.needs_reference + (several or early)
        step = self._generate(rollouts, config.sampling, prompts=config.prompts_per_step)
        step += passes * self._forward(rollouts, length, answer)
        step += config.epochs * self._train(rollouts, length, answer, rank, config.optimiser)
        step += scored * self._forward(rollouts, length, 0.0)
        if row.needs_critic:
            step += self._forward(rollouts, length, 0.0)
            step += (config.critic_epochs or config.epochs) * self._train(rollouts, length, 0.0, rank, config.optimiser)
        return StagePlan(self.node.name, tuple(parts), config.steps * step + STAGE_SECONDS)

    def evaluate(self) -> StagePlan:
        """Every model answers the held-out prompts; the reward model and the reference read the answers."""
        config, data = self.node.settings, self.data
        prompts = min(config.count or data.heldout_prompts, data.heldout_prompts)
        count, length = prompts * config.responses_per_prompt, data.prompt_tokens + data.answer_tokens
        models = len(self.node.inputs["models"])
        judge = self._reward_rank(None)
        parts = [memory.program(), self._frozen("reference"), self._frozen("model")]
        if self.node.input("reward") is not None:
            parts.append(self._frozen("reward model") if judge is None else self._adapter("reward adapter", judge))
        parts.append(self._engine(count, config.sampling))
        each = self._generate(count, config.sampling)
        each += 2 * self._forward(count, length, data.answer_tokens) + self._forward(count, length, 0.0)
        return StagePlan(self.node.name, tuple(parts), models * each + STAGE_SECONDS)

    def annotation(self) -> Annotation:
        """Reading K answers at 200 words a minute and a prompt, and 5 seconds of thought for each of them."""
        prompts, responses = self._answers()
        settings = self.node.settings
        rankings = round(
            sum(
                share * prompts * one.panel.annotators_per_item
                for one, share in zip(settings.by, settings.shares(), strict=True)
                if one.panel is not None
            )
        )
        words = 0.75 * (self.data.prompt_tokens + responses * self.data.answer_tokens)
        seconds = words / 200 * 60 + 5.0 * responses
        return Annotation(rankings, responses, rankings * seconds / 3600)

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


_TRAINED = Sft | RewardModel | Preference | Online
ESTIMATES: Mapping[str, Callable[[_Estimate], StagePlan]] = {
    "sft": _Estimate.sft,
    "sample": _Estimate.sample,
    "compare": _Estimate.compare,
    "select": _Estimate.select,
    "revise": _Estimate.revise,
    "merge": _Estimate.merge,
    "reward": _Estimate.reward,
    "preference": _Estimate.preference,
    "online": _Estimate.online,
    "evaluate": _Estimate.evaluate,
}
"""By the kind of stage, what says what it needs."""
