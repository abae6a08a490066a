"""What the preference family is told: DPO and its relatives. Torch-free; formulas in
docs/preferences.md."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializeAsAny,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from burnish.config.bounds import BatchSize, Bounds, Coefficient, PositiveCoefficient
from burnish.config.narrow import is_section
from burnish.config.own_loss import OwnLoss
from burnish.config.sections import ComparedPasses, Lora, Optimizer, Section, SftTerm

Noise = Annotated[float, Bounds(ge=0.0, le=0.499)]
"""Short of ½, where labels say nothing, and what robust DPO divides by is 0."""


class OrpoSftTerm(SftTerm):
    """ORPO's NLL."""

    weight: Coefficient = 1.0
    """What this term counts for beside the odds ratio."""


class CpoSftTerm(SftTerm):
    """CPO's NLL."""

    weight: Coefficient = 1.0
    """What this term counts for beside the preference loss."""
    average: Literal["answer", "batch", "sum"] = "sum"
    """sum: the whole answer's, as the paper writes it. answer: each answer's mean over its tokens.
    batch: TRL's, the mean over all chosen tokens of a step."""


class Loss(Section):
    """What every loss has that is not made with an NLL."""

    sft: SftTerm = SftTerm()
    """An SFT term, which keeps the chosen answers likely, added to the preference loss."""


class Dpo(Loss):
    """Direct preference optimisation (arXiv:2305.18290)."""

    name: Literal["dpo"] = "dpo"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """How strongly the policy is held to the reference; rewards are β·(log π − log π_ref)."""


class Cdpo(Loss):
    """Conservative DPO: labels are wrong with a known probability (Mitchell 2023)."""

    name: Literal["cdpo"] = "cdpo"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """How strongly the policy is held to the reference, as in DPO."""
    label_smoothing: Noise = 0.1
    """ε: the probability that a label is wrong; the target is 1 − ε."""


class Rdpo(Loss):
    """Robust DPO: the loss whose mean over flipped labels is DPO's on the true ones
    (arXiv:2403.00409)."""

    name: Literal["rdpo"] = "rdpo"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """How strongly the policy is held to the reference, as in DPO."""
    label_noise: Noise = 0.1
    """ε: the probability that a label was flipped."""


class DpoNorm(Loss):
    """Length-normalized DPO (arXiv:2411.15124): log-ratios are divided by the answer's tokens."""

    name: Literal["dpo_norm"] = "dpo_norm"
    """Which loss."""
    beta: PositiveCoefficient = 5.0
    """How strongly the policy is held to the reference, as in DPO, but on a mean over tokens:
    larger."""


class Ipo(Loss):
    """Identity preference optimisation (arXiv:2310.12036)."""

    name: Literal["ipo"] = "ipo"
    """Which loss."""
    tau: Annotated[float, Bounds(ge=1e-6, le=1e4)] = 0.1
    """τ: how strongly the policy is held to the reference; log-ratios are driven to differ by
    1/(2τ)."""
    average: bool = False
    """Divide log-ratios by the answer's tokens, as TRL does."""


class Hinge(Loss):
    """SLiC's hinge on DPO's rewards (arXiv:2305.10425, arXiv:2309.06657)."""

    name: Literal["hinge"] = "hinge"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """How strongly the policy is held to the reference, as in DPO."""


class Simpo(Loss):
    """SimPO (arXiv:2405.14734): mean log-probabilities, a target margin, no reference."""

    name: Literal["simpo"] = "simpo"
    """Which loss."""
    beta: PositiveCoefficient = 2.0
    """Scale of the mean log-probability of a token."""
    gamma: Coefficient = 1.0
    """γ: by how much the chosen answer's reward must lead."""


class Kto(Loss):
    """KTO (arXiv:2402.01306): answers judged singly. Pairs are taken apart."""

    name: Literal["kto"] = "kto"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """How strongly the policy is held to the reference, as in DPO."""
    desirable_weight: Coefficient = 1.0
    """λ_D: what an answer that was judged good counts for."""
    undesirable_weight: Coefficient = 1.0
    """λ_U: what an answer that was judged bad counts for; with more answers of one kind, weights
    that make the two kinds count alike are advised."""


class Orpo(Section):
    """ORPO (arXiv:2403.07691): NLL of the chosen answer, and the odds ratio of the two. No
    reference."""

    name: Literal["orpo"] = "orpo"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """λ of the paper: the weight of the odds ratio."""
    sft: OrpoSftTerm = OrpoSftTerm()
    """The paper's NLL. TRL's counts the prompt too and averages over the batch: `{weight: 1,
    average: batch, prompt: true}`."""


class Cpo(Section):
    """CPO (arXiv:2401.08417): DPO without a reference, and the chosen answer's NLL."""

    name: Literal["cpo"] = "cpo"
    """Which loss."""
    beta: PositiveCoefficient = 0.1
    """Scale of the log-probabilities in the loss, as DPO's β with no reference."""
    sft: CpoSftTerm = CpoSftTerm()
    """The paper's −log π(y_w|x). TRL averages it over the batch's tokens: `{weight: 1, average:
    batch}`."""


def _own_or_row(
    value: Any, of_the_table: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> Any:
    """A loss of the table, or a user's own, whose name holds a colon; a text is the name."""
    given = {"name": value} if isinstance(value, str) else value
    name = given.get("name") if is_section(given) else None
    if isinstance(given, OwnLoss) or not (isinstance(name, str) and ":" in name):
        return given if isinstance(given, OwnLoss) else of_the_table(given)
    if info.mode == "json":
        return OwnLoss.model_validate_json(json.dumps(given), strict=True)
    return OwnLoss.model_validate(given)


AnyLoss = Annotated[
    Dpo | Cdpo | Rdpo | DpoNorm | Ipo | Hinge | Simpo | Kto | Orpo | Cpo,
    Field(discriminator="name"),
]


LOSS_NAMES = ("dpo", "cdpo", "rdpo", "dpo_norm", "ipo", "hinge", "simpo", "kto", "orpo", "cpo")
"""The names of all losses."""


class PreferenceTraining(ComparedPasses):
    """What the trainer of the preference family is told."""

    loss: Annotated[SerializeAsAny[AnyLoss], WrapValidator(_own_or_row)] = Dpo()
    """Which loss, by `name`, and its options. The policy is called by that name. A function of your
    own: `file.py:NAME`."""
    batch_size: BatchSize = 8
    """Prompts per step, each with all its answers and comparisons."""
    lora: Lora | None = Lora(r=16, alpha=32.0)
    """Adapters that are trained in place of the weights. None trains every weight."""
    optimizer: Optimizer = Optimizer(learning_rate=2e-4)
    """How weights are updated: AdamW, its learning rate and schedule."""
    margin: Coefficient = 0.0
    """By how much the better answer must lead, times the strength |2p − 1|; a row's own margin is
    added."""
    weight_by_strength: bool = False
    """Weight each pair by the strength |2p − 1| of its preference."""
    pairs: Literal["all", "extremes"] = "all"
    """all: every comparison of a prompt. extremes: its best answer against its worst, which runs
    fewer tokens."""

    @model_validator(mode="after")
    def _consistent(self) -> PreferenceTraining:
        unpaired = isinstance(self.loss, Kto) or (
            isinstance(self.loss, OwnLoss) and "kl" in self.loss.takes()
        )
        if unpaired and self.batch_size < 2:
            raise ValueError(
                f"batch_size is 1: {self.loss.name} estimates its KL from the step's prompts, of"
                " which it needs at least 2"
            )
        if isinstance(self.loss, OwnLoss):
            self._heeds(self.loss.name, self.loss.takes())
        return self

    def _heeds(self, loss: str, takes: tuple[str, ...]) -> None:
        """Raise ValueError where a loss of one's own would pass over what the section asks for."""
        if self.margin and "margin" not in takes:
            raise ValueError(
                f"margin is {self.margin:g}, and the loss {loss} takes no margin: leave it out"
            )
        if self.soft_labels and "probability" not in takes:
            raise ValueError(f"the loss {loss} takes no probability: set soft_labels to false")
