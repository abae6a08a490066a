"""Parts that several sections of a recipe are made of. Torch-free."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Section(BaseModel):
    """A part of a recipe. Unknown keys are errors; values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Lora(Section):
    """Low-rank adapters on every linear layer (arXiv:2106.09685)."""

    r: Positive = 8
    """Rank."""
    alpha: PositiveFloat = 16.0
    """Scale: the update is (alpha / r) · B·A."""


class Optimiser(Section):
    """AdamW with a schedule; shared by every trainer."""

    learning_rate: PositiveFloat = 1e-4
    """Peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up; cosine and linear end at 0."""
    warmup: Fraction = 0.05
    """Share of the steps in which the rate rises linearly from 0."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay, on matrices only."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    """Adam's β1 and β2."""
    eps: PositiveFloat = 1e-8
    """Adam's ε."""
    max_grad_norm: PositiveFloat = 1.0
    """The global gradient norm is clipped to this."""
    micro_batch_tokens: Positive = 1024
    """Tokens run through the model at once. Smaller needs less memory; the gradient is the same."""
    gradient_checkpointing: bool = False
    """Keep only each layer's input and run the layer again in the backward pass: less memory, a third more time."""
    max_skipped_steps: int = Field(default=5, ge=0)
    """Steps in a row whose loss or gradient is not finite are skipped and counted; one more than this stops the run."""


class Checkpointing(Section):
    """How often a trainer's whole state goes to disk."""

    every: Positive = 10
    """Steps between checkpoints."""
    keep: Positive = 2
    """How many are kept."""


class Passes(Section):
    """What every trainer that makes passes over fixed data is told."""

    epochs: PositiveFloat = 1.0
    """Passes over the data."""
    batch_size: Positive = 16
    """Examples per step."""
    optimiser: Optimiser = Optimiser()
    """The optimiser."""
    eval_every: Positive = 10
    """Steps between evaluations on the held-out part."""
    checkpoint: Checkpointing = Checkpointing()
    """Checkpoints."""


class Sampling(Section):
    """How completions are drawn."""

    temperature: NonNegative = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Nucleus: the fewest most likely tokens whose probability reaches this."""
    top_k: int = Field(default=0, ge=0)
    """Only this many most likely tokens; 0: all."""
    min_p: Fraction = 0.0
    """Only tokens at least this many times as likely as the most likely (arXiv:2407.01082); 0: all."""
    repetition_penalty: PositiveFloat = 1.0
    """Logits of tokens that were seen are divided by this where positive, multiplied where negative; 1: off."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """A completion ends where one of these strings appears."""
    max_new_tokens: Positive = 64
    """Longest completion in tokens."""
    products: Literal["model", "int8", "auto"] = "model"
    """int8: the sampler rounds weights and the inputs of every product to 8 bits. About twice as fast on a CPU with VNNI units
    (`burnish doctor` says), from a slightly different distribution, for which PPO corrects as `ppo.importance_cap` says.
    auto: int8 on a CPU that has such units, else the model's own."""

    @property
    def follows_the_model(self) -> bool:
        """Whether tokens are drawn from the model's own distribution at `temperature`, nothing truncated, penalised or rounded."""
        exact = (self.top_p, self.top_k, self.min_p, self.repetition_penalty) == (1.0, 0, 0.0, 1.0)
        return exact and self.products == "model"
