"""Parts that several sections of a recipe are made of. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from burnish.config.bounds import (
    BatchSize,
    Bounds,
    Coefficient,
    Count,
    CountOrNone,
    Decay,
    Epochs,
    LearningRate,
    PositiveFinite,
    PositiveProbability,
    Probability,
    Temperature,
    Tokens,
)


class Section(BaseModel):
    """A part of a recipe. Unknown keys are errors, and numbers that are not finite; values do not
    change after loading."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Source(Section):
    """A source whose splits are named, where their own names do not say which is for what."""

    source: str
    """A path, a hub id or builtin:NAME."""
    split: str | None = None
    """The split to train on: of a hub dataset, of a folder's files, or a value of the column split.
    None: train."""
    heldout_split: str | None = None
    """The split that is held out. None: those called test, validation and the like, or where
    `split` is named a share."""
    heldout: str | None = None
    """Another source, all of which is held out (`heldout_split` is then one of its splits)."""
    dataset: str | None = None
    """Of a folder with a `dataset_info.json` as LLaMA-Factory has it: the set's name there."""
    columns: dict[str, str] = Field(default={})
    """What the source calls a column, by what it is called here: {prompt: question, completion:
    answer}."""
    system: str | None = None
    """A system's turn, put before conversations that begin with none. None: that of
    `data.system`."""
    weight: PositiveFinite = 1.0
    """How often each row that is trained on counts: 2 takes it twice, 0.5 takes half of the rows,
    by hash."""


Sources = str | Source | tuple[str | Source, ...]
"""One source or several."""
Reference = Annotated[str, Field(min_length=1, max_length=4096)]
"""A stage by its name, a folder, a hub id, or `base`, the recipe's pretrained model."""


class Lora(Section):
    """Low-rank adapters on linear layers (arXiv:2106.09685). Embeddings and heads are never trained
    beside them."""

    r: Annotated[int, Bounds(ge=1, le=4096)] = 8
    """The adapters' rank: how many directions each layer may change in; more is more capacity and
    more memory."""
    alpha: PositiveFinite = 16.0
    """The adapters' scale: what they add to a layer is (alpha / r) · B·A, so that alpha / r acts
    like a second learning rate."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """The linear layers that adapters are put on, as `[q_proj, v_proj]`; which there are is told by
    `burnish models supported`. null: all of them."""
    rslora: bool = False
    """Scale by alpha / √r instead of alpha / r, so that a higher rank learns as fast
    (arXiv:2312.03732)."""
    dora: bool = False
    """Learn the length of each row of the weights apart from its direction (arXiv:2402.09353). It
    takes more time and memory, and `dtype: float32`."""
    dropout: Annotated[float, Bounds(ge=0.0, lt=1.0)] = 0.0
    """Share of the numbers that each adapter reads which are left out at an update, the others
    scaled up by 1 / (1 − dropout): against overfitting where data is scarce; 0.05 is usual.
    Sampling and evaluation leave nothing out."""

    quantization: Literal["none", "int8", "int4", "nf4"] = "none"
    """How the frozen matrices under the adapters are held in memory: int8 in a quarter of what
    float32 takes, int4 or nf4 in a seventh (QLoRA, arXiv:2305.14314). They are widened at each
    product, so that training is slower; what is saved has the adapters merged into what the codes
    stand for."""


class Optimizer(Section):
    """AdamW with a schedule; shared by every trainer."""

    learning_rate: LearningRate = 1e-4
    """The size of a step at its highest, after the warm-up. With adapters 1e-4 to 5e-4 is usual,
    with every weight trained 1e-6 to 1e-5."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up; cosine and linear end at 0."""
    warmup: Probability = 0.05
    """Share of the steps in which the rate rises linearly from 0."""
    weight_decay: Annotated[float, Bounds(ge=0.0, le=10.0)] = 0.0
    """How strongly weights are pulled towards 0 at each step (decoupled, on matrices only); 0: not
    at all."""
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    """Adam's β1 and β2: how long it remembers gradients and their squares."""
    eps: Annotated[float, Bounds(ge=1e-30, le=1.0)] = 1e-8
    """Adam's ε, added to what it divides by, so that tiny gradients make no huge steps."""
    max_grad_norm: PositiveFinite = 1.0
    """The global gradient norm is clipped to this."""
    micro_batch_tokens: Annotated[int, Bounds(ge=1, le=2**31 - 1)] = 1024
    """Tokens run through the model at once. Smaller needs less memory; the gradient is the same."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input and run the layer again in the backward pass: less memory, a
    third more time."""
    max_skipped_steps: CountOrNone = 5
    """Steps in a row whose loss or gradient is not finite are skipped and counted; one more than
    this stops the run."""


class Checkpointing(Section):
    """How often a trainer's whole state goes to disk."""

    every: Count = 10
    """Steps between checkpoints."""
    keep: Count = 2
    """How many checkpoints are kept, the newest ones."""


class Passes(Section):
    """What every trainer that makes passes over fixed data is told."""

    epochs: Epochs = 1.0
    """How often the whole data is gone through; 0.5 is half of it."""
    batch_size: BatchSize = 16
    """Examples that one optimizer step learns from, whatever fits into memory at once."""
    optimizer: Optimizer = Optimizer()
    """How weights are updated: AdamW, its learning rate and schedule."""
    eval_every: Count = 10
    """Steps between evaluations on the held-out part."""
    max_steps: Count | None = None
    """Optimizer steps, in place of what `epochs` would make; data is gone through again where it is
    too short."""
    keep: Literal["last", "best"] = "last"
    """Which weights the stage ends with: the last, or those of the best evaluation."""
    best_by: Literal["loss", "accuracy"] = "loss"
    """What the best evaluation has: the lowest loss, or the highest accuracy (of comparisons)."""
    patience: CountOrNone = 0
    """End after so many evaluations in a row that are no better than the best before; 0: never."""
    checkpoint: Checkpointing = Checkpointing()
    """How often the whole state is saved, to go on from after an interruption."""

    def examples(self, count: float) -> float:
        """How many examples the steps learn from, where there are `count` of them."""
        if self.max_steps is None:
            return self.epochs * count
        return self.max_steps * min(self.batch_size, count)


class SftTerm(Section):
    """The negative log-likelihood of the chosen answer, added to the loss."""

    weight: Coefficient = 0.0
    """What this term counts for beside the preference loss; 0 leaves it out."""
    average: Literal["answer", "batch", "sum"] = "answer"
    """answer: each answer's mean over its tokens. batch: the mean over all chosen tokens of a step.
    sum: the whole answer's."""
    prompt: bool = False
    """Count the prompt's tokens too; the prompt is then run once for each answer."""


class ComparedPasses(Passes):
    """What a trainer on comparisons is told besides."""

    soft_labels: bool = True
    """Use the share of annotators as the label's probability p; off: the majority's answer as a
    certainty."""
    margin: Coefficient = 0.0
    """By how much the better answer must lead, times the strength |2p − 1|."""


class Sampling(Section):
    """How completions are drawn."""

    temperature: Temperature = 1.0
    """How random answers are: 1 is the model's own distribution, less is safer, 0 always takes the
    likeliest token (greedy)."""
    top_p: PositiveProbability = 1.0
    """Draw from the fewest most likely tokens whose probabilities add up to this (nucleus); 1: from
    all."""
    top_k: CountOrNone = 0
    """Draw from this many most likely tokens only; 0: from all."""
    min_p: Probability = 0.0
    """Only tokens at least this many times as likely as the most likely (arXiv:2407.01082); 0:
    all."""
    repetition_penalty: Annotated[float, Bounds(ge=0.01, le=100.0)] = 1.0
    """Logits of tokens that were seen are divided by this where positive, multiplied where
    negative; 1: off."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A completion ends where one of these strings appears."""
    max_new_tokens: Tokens = 64
    """The longest completion in tokens; what is longer is cut off, and counted."""
    quantization: Literal["none", "int8", "auto"] = "none"
    """int8: the sampler rounds weights and the inputs of every product to 8 bits. About twice as
    fast on a CPU with VNNI units (`burnish doctor` says), refused on one without them, from a
    slightly different distribution, for which online training corrects as its `importance` says.
    auto: int8 on a CPU that has such units, else the model's own."""

    @property
    def greedy(self) -> str | None:
        """The setting that makes all completions of a prompt the same, as in "top_k is 1"; None:
        none does."""
        if self.temperature == 0:
            return "temperature is 0"
        if self.top_k == 1:
            return "top_k is 1"
        return "min_p is 1" if self.min_p == 1 else None

    @property
    def follows_the_model(self) -> bool:
        """Whether tokens are drawn from the model's own distribution at `temperature`, nothing
        truncated, penalised or rounded."""
        exact = (self.top_p, self.top_k, self.min_p, self.repetition_penalty) == (1.0, 0, 0.0, 1.0)
        return exact and self.quantization == "none"

    @property
    def in_words(self) -> str:
        """As a report says it: "temperature 0.7, top_p 0.9, at most 64 tokens"."""
        usual = {
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "quantization": "none",
        }
        parts = [
            f"{name} {value}"
            for name, plain in usual.items()
            if (value := getattr(self, name)) != plain
        ]
        drawn = "greedy" if self.temperature == 0 else f"temperature {self.temperature:g}"
        return ", ".join([drawn, *parts, f"at most {self.max_new_tokens} tokens"])


class EvaluationSampling(Sampling):
    """How models that are evaluated are sampled: as they would be used, which is not how they are
    trained."""

    temperature: Temperature = 0.7
    """How random answers are: 0 is greedy; 1, with nothing truncated, is the model's own
    distribution, and the only one that gives its KL."""
    top_p: PositiveProbability = 0.9
    """Draw from the fewest most likely tokens whose probabilities add up to this (nucleus); 1: from
    all."""


MOST_COMPLETIONS = 65_536


def check_step(completions: int, *, num_mini_batches: int) -> None:
    """Raises ValueError where a step of rollouts has more completions than a machine holds, or
    fewer than its mini-batches."""
    made_of = "(prompts_per_step × responses_per_prompt)"
    if completions > MOST_COMPLETIONS:
        raise ValueError(
            f"a step has {completions} completions {made_of}; at most {MOST_COMPLETIONS} are taken"
        )
    if num_mini_batches > completions:
        raise ValueError(f"num_mini_batches is more than the completions of a step {made_of}")
