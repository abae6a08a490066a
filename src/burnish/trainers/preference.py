"""PreferenceTraining optimisation: one trainer for every row of
`burnish.algorithms.preference_losses.LOSSES`.

All answers to a prompt are one batch element: the prompt is run once, each answer once, whatever
the number of its comparisons. The loss of a step is Σ over its prompts of the mean over the
prompt's comparisons, divided by the prompts; of KTO, which judges answers singly, the mean over the
step's answers. Both add the SFT term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from burnish.algorithms.preference_losses import LOSSES, PreferenceLoss, kto_kl, own_loss
from burnish.batch import Batch, TokenSequence, cut
from burnish.config.own_loss import OwnLoss
from burnish.config.preference import PreferenceTraining
from burnish.data.preferences import desirability
from burnish.data.prompts import Stream
from burnish.models.roles import View, finite
from burnish.ranks import dealt
from burnish.runs.metrics import Writer
from burnish.trainers.best import require_heldout
from burnish.trainers.groups import Pairs, RankedGroup, pairs_of
from burnish.trainers.learner import Term
from burnish.trainers.loop import Progress
from burnish.trainers.passes import train_in_passes
from burnish.trainers.reference import answer_logprobs, cached_answer_logprobs

FALL = 1e-3
"""Nats by which an answer's log-probability must have dropped to count as fallen: above what
rounding does."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt's answers with what the frozen model says of them.

    Args:
        group: answers and judgements.
        reference: Σ log π_ref of each answer; None where the loss holds no reference.
        stranger: KTO's: this prompt with an answer to another; `stranger_reference` is its Σ log
            π_ref.
    """

    group: RankedGroup
    reference: tuple[float, ...] | None = None
    stranger: TokenSequence | None = None
    stranger_reference: float = 0.0

    @property
    def cost(self) -> int:
        """Tokens run."""
        return self.group.cost + (len(self.stranger) if self.stranger is not None else 0)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step's terms share: the denominators that make them add up to means over the whole
    step, and KTO's z."""

    prompts: float
    answers: float
    sft: float
    kl: float = 0.0


@dataclass(frozen=True)
class _Answers:
    """The answers of some examples as tensors [N], one after another."""

    groups: Sequence[RankedGroup]
    tokens: Tensor
    reference: Tensor | None
    pairs: Pairs
    desirable: Tensor  # probability, NaN where nothing was said


def loss_row(config: PreferenceTraining) -> tuple[PreferenceLoss, dict[str, Any]]:
    """(row of the table, options of its function) that a recipe chose."""
    loss = config.loss
    if isinstance(loss, OwnLoss):
        return own_loss(loss.function(), loss.takes()), loss.options
    return LOSSES[loss.name], loss.model_dump(exclude={"name", "sft"})


def prepare(
    reference: View,
    groups: Sequence[RankedGroup],
    *,
    config: PreferenceTraining,
    seed: int,
    cache: Path | None,
    measured: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> list[Example]:
    """Examples of `groups`, with the reference's log-probabilities where the loss needs them or,
    `measured`, metrics do.

    KTO's strangers: the groups in an order that `seed` shuffles, each prompt with an answer to the
    one before.
    """
    row, _ = loss_row(config)
    examples = [Example(group) for group in groups]
    if row.unpaired and len(groups) > 1:
        order = Stream(range(len(groups)), seed=seed, batch_size=len(groups)).batch(0)
        for place, number in enumerate(order):
            other = groups[order[place - 1]].sequences
            chosen = other[place % len(other)]
            own = replace(chosen, prompt=groups[number].sequences[0].prompt)
            examples[number] = replace(examples[number], stranger=own)
    if not (row.reference or measured) or not groups:
        return examples
    sequences = [
        s for e in examples for s in (*e.group.sequences, *([e.stranger] if e.stranger else []))
    ]
    limit = config.optimizer.micro_batch_tokens
    values = iter(
        cached_answer_logprobs(
            reference, sequences, max_tokens=limit, cache=cache, say=say
        ).tolist()
    )
    return [
        replace(
            e,
            reference=tuple(next(values) for _ in e.group.sequences),
            stranger_reference=next(values) if e.stranger is not None else 0.0,
        )
        for e in examples
    ]


def train_preferences(
    view: View,
    train: Sequence[Example],
    heldout: Sequence[Example],
    *,
    config: PreferenceTraining,
    seed: int,
    folder: Path,
    progress: Progress | None = None,
    writers: Sequence[Writer] = (),
) -> None:
    """Train `view` (adapter or whole model) in place; resumes what was begun in `folder`."""
    require_heldout(config, heldout)

    def evaluation() -> dict[str, float]:
        return {
            f"eval_{name}": value for name, value in evaluate(view, heldout, config=config).items()
        }

    train_in_passes(
        view,
        train,
        terms=partial(terms, view, config=config),
        cost=lambda example: example.cost,
        evaluate=evaluation,
        metrics=means,
        config=config,
        seed=seed,
        folder=folder,
        progress=progress,
        writers=writers,
    )


def terms(
    view: View, examples: Sequence[Example], *, config: PreferenceTraining
) -> Iterator[Callable[[], Term]]:
    """The loss of a step in micro-batches."""
    step = step_of(view, examples, config=config)
    for run in cut([e.group.cost for e in examples], config.optimizer.micro_batch_tokens):
        yield partial(preference_term, view, [examples[i] for i in run], config=config, step=step)


def step_of(view: View, examples: Sequence[Example], *, config: PreferenceTraining) -> Step:
    """The denominators of a step; with KTO also z, which is of the whole step and carries no
    gradient."""
    row, _ = loss_row(config)
    answers = _answers(examples, config)
    weight = _chosen_weight(answers, config)
    tokens = _scored_tokens(answers, config.loss.sft.prompt)
    share = {
        "answer": float(len(examples)),
        "sum": float(len(examples)),
        "batch": float((weight * tokens).sum()),
    }
    kl = 0.0
    strangers = [(e.stranger, e.stranger_reference) for e in examples if e.stranger is not None]
    if row.unpaired and strangers:
        limit = config.optimizer.micro_batch_tokens
        logprobs = answer_logprobs(view, [s for s, _ in strangers], max_tokens=limit)
        kl = float(kto_kl(logprobs=logprobs, ref_logprobs=torch.tensor([r for _, r in strangers])))
    judged = float((~answers.desirable.isnan()).sum())
    return Step(
        float(len(examples)), max(judged, 1.0), max(share[config.loss.sft.average], 1e-9), kl
    )


def preference_term(
    view: View, examples: Sequence[Example], *, config: PreferenceTraining, step: Step
) -> Term:
    """The loss of some of a step's examples, and the sums its metrics are made of."""
    prompt = config.loss.sft.prompt and config.loss.sft.weight > 0
    sequences = tuple(s for e in examples for s in e.group.sequences)
    batch = Batch(tuple(_with_prompt(s) for s in sequences) if prompt else sequences)
    logprobs_P = view.logprobs(batch).logprobs_P
    of_P = batch.sequence_of_P
    total_N = torch.zeros(len(batch), dtype=logprobs_P.dtype).index_add(0, of_P, logprobs_P)
    if not prompt:
        return _term(total_N, total_N, _answers(examples, config), config=config, step=step)
    in_answer_P = torch.cat(
        [torch.arange(len(s.prompt) - 1 + s.trained) >= len(s.prompt) - 1 for s in sequences]
    )
    answers_N = torch.zeros_like(total_N).index_add(0, of_P[in_answer_P], logprobs_P[in_answer_P])
    return _term(answers_N, total_N, _answers(examples, config), config=config, step=step)


@torch.no_grad()
def evaluate(
    view: View, examples: Sequence[Example], *, config: PreferenceTraining
) -> dict[str, float]:
    """The loss and metrics on held-out examples; empty where there are none."""
    if not examples:
        return {}
    found = dealt(lambda term: term(), list(terms(view, examples, config=config)))
    sums: dict[str, Tensor] = {}
    for term in found:
        for name, value in term.sums.items():
            sums[name] = sums[name] + value if name in sums else value
    return means(
        {
            "loss": sum(float(t.loss) for t in found),
            **{name: float(value) for name, value in sums.items()},
        }
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """What the policy says of one example's answers: Σ log π, and the loss's implicit reward, of
    each."""

    logprobs: tuple[float, ...]
    rewards: tuple[float, ...]


def score(view: View, examples: Sequence[Example], *, config: PreferenceTraining) -> list[Scored]:
    """Log-probabilities and implicit rewards of every answer. Raises UserError where they are no
    finite numbers."""
    row, options = loss_row(config)
    sequences = [s for e in examples for s in e.group.sequences]
    limit = config.optimizer.micro_batch_tokens
    logprobs = finite(
        answer_logprobs(view, sequences, max_tokens=limit), "log-probabilities of answers"
    )
    answers = _answers(examples, config)
    reference = torch.zeros_like(logprobs) if answers.reference is None else answers.reference
    rewards = row.rewards(
        logprobs=logprobs, ref_logprobs=reference, tokens=answers.tokens, options=options
    )
    counts = [len(e.group.sequences) for e in examples]
    parts = zip(logprobs.split(counts), rewards.split(counts), strict=True)
    return [Scored(tuple(l.tolist()), tuple(r.tolist())) for l, r in parts]  # noqa: E741


def means(values: Mapping[str, float]) -> dict[str, float]:
    """A step's sums as its metrics: sums over chosen answers become means over them, and so on."""
    counts = {name: value for name, value in values.items() if name.startswith("n/")}
    found = {}
    for name, value in values.items():
        if name in counts:
            continue
        base, _, per = name.partition("|")
        if not per:
            found[base] = value
        elif counts.get(f"n/{per}", 0.0) > 0:
            found[base] = value / counts[f"n/{per}"]
    if "rewards/chosen" in found and "rewards/rejected" in found:
        found["rewards/margins"] = found["rewards/chosen"] - found["rewards/rejected"]
    return found


def _term(
    answers_N: Tensor, total_N: Tensor, answers: _Answers, *, config: PreferenceTraining, step: Step
) -> Term:
    """The loss from the answers' log-probabilities (`total_N`: with the prompt's, where the SFT
    term counts them)."""
    row, options = loss_row(config)
    reference = answers.reference
    if row.unpaired:
        loss = _unpaired_loss(row, options, answers_N, answers, step)
    else:
        loss = _paired_loss(row, options, answers_N, answers, config, step)
    rewards_N = row.rewards(
        logprobs=answers_N.detach(),
        ref_logprobs=torch.zeros(()) if reference is None else reference,
        tokens=answers.tokens,
        options=options,
    )
    sums = _sums(rewards_N, answers_N.detach(), answers)
    if row.unpaired:
        sums["kl"] = torch.tensor(step.kl * len(answers.groups) / step.prompts)
    sft = config.loss.sft
    if sft.weight > 0:
        nll_N = -total_N
        if sft.average == "answer":
            nll_N = nll_N / _scored_tokens(answers, sft.prompt)
        nll = (_chosen_weight(answers, config) * nll_N).sum() / step.sft
        sums["nll_loss"] = nll.detach()
        loss = loss + sft.weight * nll
    return Term(loss, sums)


def _paired_loss(
    row: PreferenceLoss,
    options: Mapping[str, Any],
    logprobs_N: Tensor,
    answers: _Answers,
    config: PreferenceTraining,
    step: Step,
) -> Tensor:
    pairs = answers.pairs
    given: dict[str, Any] = {"probability": pairs.probability, "margin": pairs.margin}
    columns: dict[str, Tensor] = {"logprobs": logprobs_N}
    if row.reference:
        assert answers.reference is not None
        columns["reference"] = answers.reference
    if row.lengths:
        columns["tokens"] = answers.tokens
    names = {"logprobs": "{}_logprobs", "reference": "ref_{}_logprobs", "tokens": "{}_tokens"}
    for name, column in columns.items():
        given[names[name].format("chosen")] = column[pairs.better]
        given[names[name].format("rejected")] = column[pairs.worse]
    per_pair = row.function(**given, **options).per_token
    weight = pairs.weight * pairs.strength if config.weight_by_strength else pairs.weight
    return (per_pair * weight).sum() / step.prompts


def _unpaired_loss(
    row: PreferenceLoss,
    options: Mapping[str, Any],
    logprobs_N: Tensor,
    answers: _Answers,
    step: Step,
) -> Tensor:
    assert answers.reference is not None
    judged = ~answers.desirable.isnan()
    per_answer = row.function(
        logprobs=logprobs_N[judged],
        ref_logprobs=answers.reference[judged],
        kl=step.kl,
        probability=answers.desirable[judged],
        **options,
    ).per_token
    return per_answer.sum() / step.answers


def _sums(rewards_N: Tensor, logprobs_N: Tensor, answers: _Answers) -> dict[str, Tensor]:
    """Sums to be divided by their counts: `name|of` by `n/of` (see `means`).

    Chosen and rejected answers are the sides of each decided pair, a prompt's pairs weighing
    together as one; or, without pairs, the answers more likely desirable than not, and the others.
    """
    pairs, reference = answers.pairs, answers.reference
    good_N, bad_N = torch.zeros_like(rewards_N), torch.zeros_like(rewards_N)
    if len(pairs.better):
        weight = pairs.weight * pairs.decided
        good_N.index_add_(0, pairs.better, weight)
        bad_N.index_add_(0, pairs.worse, weight)
    else:
        weight = pairs.weight
        good_N += (answers.desirable > 0.5).float()
        bad_N += (answers.desirable < 0.5).float()
    sides = {"chosen": good_N, "rejected": bad_N}
    sums = {f"n/{side}": w.sum() for side, w in sides.items()}
    columns = {"rewards": rewards_N, "logps": logprobs_N, "length": answers.tokens}
    sums |= {
        f"{name}/{side}|{side}": (w * x).sum()
        for name, x in columns.items()
        for side, w in sides.items()
    }
    if len(pairs.better):
        lead = rewards_N[pairs.better] - rewards_N[pairs.worse]
        right = torch.where(lead == 0, 0.5, (lead > 0).float())
        sums |= {"rewards/accuracies|pairs": (weight * right).sum(), "n/pairs": weight.sum()}
    if reference is not None:
        h_N = logprobs_N - reference
        sums |= {f"falls/{side}|{side}": (w * (h_N < -FALL)).sum() for side, w in sides.items()}
        sums |= {
            "kl_from_reference|answers": -h_N.sum(),
            "n/answers": torch.tensor(float(len(h_N))),
        }
    return sums


def _answers(examples: Sequence[Example], config: PreferenceTraining) -> _Answers:
    groups = [e.group for e in examples]
    known = all(e.reference is not None for e in examples)
    desirable: list[float] = []
    for group in groups:
        for p in group.labels or desirability(len(group.sequences), group.comparisons):
            hard = float("nan") if p is None or p == 0.5 else float(p > 0.5)
            desirable.append(hard if p is None or not config.soft_labels else p)
    return _Answers(
        groups,
        torch.tensor([s.trained for g in groups for s in g.sequences], dtype=torch.float32),
        torch.tensor([r for e in examples for r in e.reference or ()]) if known else None,
        pairs_of(groups, soft=config.soft_labels, margin=config.margin),
        torch.tensor(desirable, dtype=torch.float32),
    )


def _chosen_weight(answers: _Answers, config: PreferenceTraining) -> Tensor:
    """[N]: how much each answer counts in the SFT term.

    The better side of each pair, a prompt's pairs making a mean, times the strength of its
    preference if labels are soft; with KTO an answer's probability of being desirable, a prompt's
    answers making a mean.
    """
    weight_N = torch.zeros_like(answers.tokens)
    if loss_row(config)[0].unpaired:
        sizes = torch.tensor([float(len(g.sequences)) for g in answers.groups for _ in g.sequences])
        return answers.desirable.nan_to_num(0.0) / sizes
    pairs = answers.pairs
    strength = (
        pairs.strength if config.soft_labels or config.weight_by_strength else pairs.decided.float()
    )
    return weight_N.index_add_(0, pairs.better, pairs.weight * strength)


def _with_prompt(sequence: TokenSequence) -> TokenSequence:
    """The same tokens, with all but the first of the prompt scored as well."""
    mask = sequence.response_mask or (True,) * len(sequence.response)
    before = (True,) * (len(sequence.prompt) - 1)
    return TokenSequence(
        sequence.prompt[:1], (*sequence.prompt[1:], *sequence.response), (*before, *mask)
    )


def _scored_tokens(answers: _Answers, prompt: bool) -> Tensor:
    """[N]: the tokens that the SFT term scores."""
    if not prompt:
        return answers.tokens
    return answers.tokens + torch.tensor(
        [float(len(s.prompt) - 1) for g in answers.groups for s in g.sequences]
    )
