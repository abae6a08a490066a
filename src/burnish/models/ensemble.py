"""Several reward models as one: members whose scores are combined, and scores from which length is
taken out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from burnish.batch import Batch
from burnish.models.backbone import Backbone
from burnish.models.roles import View

Combine = Literal["mean", "min", "mean-sd"]


@dataclass(frozen=True, slots=True)
class ScoreRule:
    """How the scores s_m of M members become one, of a response of L tokens:

        t_m = s_m − slopes_m · L;   score = gain · c(t_1 … t_M) + bias,

    c being the mean, the least (min), or the mean less `sd_weight` times the standard deviation
    over members (mean-sd; arXiv:2310.02743). `gain` and `bias` are set as a scalar head's are.
    """

    combine: Combine
    slopes: tuple[float, ...]
    sd_weight: float = 1.0
    gain: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.combine not in get_args(Combine) or not self.slopes:
            raise ValueError(f"no rule combines {len(self.slopes)} members by {self.combine!r}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @staticmethod
    def of_dict(values: dict[str, Any]) -> ScoreRule:
        """What `to_dict` gave."""
        return ScoreRule(**{**values, "slopes": tuple(values["slopes"])})


def without_length(scores_MN: Tensor, lengths_N: Tensor, rule: ScoreRule) -> Tensor:
    """[M, N]: each member's scores less its slope times the length."""
    slopes_M1 = torch.tensor(rule.slopes, dtype=scores_MN.dtype)[:, None]
    return scores_MN - slopes_M1 * lengths_N.to(scores_MN.dtype)


def combined(scores_MN: Tensor, rule: ScoreRule) -> Tensor:
    """[N]: c of the members' scores, before gain and bias."""
    if rule.combine == "min":
        return scores_MN.amin(dim=0)
    mean_N = scores_MN.mean(dim=0)
    if rule.combine == "mean":
        return mean_N
    return mean_N - rule.sd_weight * scores_MN.std(dim=0, correction=0)


@dataclass(eq=False)
class RewardEnsemble:
    """Reward models that score as one by a rule. Members that are adapter sets share a backbone."""

    views: tuple[View, ...]
    rule: ScoreRule

    @property
    def backbone(self) -> Backbone:
        """The first member's."""
        return self.views[0].backbone

    def scores_and_spread(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """([N] scores, [N] the standard deviation of the members' scores of each)."""
        scores_MN = torch.stack([view.scores(batch) for view in self.views])
        lengths_N = torch.tensor([len(one.response) for one in batch.sequences])
        members_MN = without_length(scores_MN, lengths_N, self.rule)
        score_N = self.rule.gain * combined(members_MN, self.rule) + self.rule.bias
        return score_N, members_MN.std(dim=0, correction=0)

    def scores(self, batch: Batch) -> Tensor:
        """[N]: the score of each sequence."""
        return self.scores_and_spread(batch)[0]


RewardModel = View | RewardEnsemble
"""What scores: one reward model, or several."""


def scores_and_spread(model: RewardModel, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """([N] scores, [N] the members' standard deviation; None of a single model)."""
    if isinstance(model, RewardEnsemble) and len(model.views) > 1:
        return model.scores_and_spread(batch)
    return model.scores(batch), None


def gain_of(model: RewardModel) -> float:
    """What differences of scores are divided by to be Bradley–Terry's log-odds; of an ensemble the
    members' mean, which for the mean of the scores is exact where their gains are one."""
    if isinstance(model, View):
        assert model.head is not None  # or it would not score
        return float(model.head.gain)
    gains = [float(view.head.gain) for view in model.views if view.head is not None]
    return model.rule.gain * sum(gains) / len(gains)


def members_of(model: RewardModel) -> tuple[View, ...]:
    """Its members; of a single model itself."""
    return model.views if isinstance(model, RewardEnsemble) else (model,)
