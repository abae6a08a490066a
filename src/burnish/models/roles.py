"""Roles: policy, critic, reward model and reference as views.

A view is a backbone seen through one adapter set (or none) and, for the critic and the reward
model, a scalar head. With `adapters` the four roles share one frozen backbone in memory; with
`copies` each has a backbone of its own.
Nothing downstream can tell which: a loss sees log-probabilities, values and scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from burnish.algorithms.logprobs import TokenLogprobs, token_logprobs
from burnish.batch import Batch, Layout
from burnish.errors import UserError
from burnish.models.adapters import (
    LoraSpec,
    activate,
    adapter_parameters,
    add_adapter,
    copy_adapter,
)
from burnish.models.backbone import Backbone
from burnish.models.heads import ScalarHead
from burnish.models.trunk import cut_alike

if TYPE_CHECKING:
    from burnish.models.ensemble import RewardModel


@dataclass(eq=False)
class View:
    """One role. `adapter` None is the bare backbone; `lora` is the shape of the adapter set, if
    there is one.

    What a role says (log-probabilities, values, scores) is on the CPU, wherever its model is: a few
    numbers a token, which losses and advantages then treat the same way on every device. Gradients
    flow back through the copy.
    """

    backbone: Backbone
    adapter: str | None = None
    lora: LoraSpec | None = None
    head: ScalarHead | None = None

    def __post_init__(self) -> None:
        if self.head is not None:
            self.head.to(self.backbone.device)

    @property
    def drops(self) -> bool:
        """Whether its adapter leaves a share of its inputs out at an update."""
        return self.lora is not None and self.lora.dropout > 0.0

    def hidden(self, batch: Batch) -> Tensor:
        """[T, D]: the last hidden states of the batch, as `Backbone.layout_of` lays it out."""
        return self.backbone.trunk.say(partial(self._hidden, self.backbone.layout_of(batch)))

    def _hidden(self, layout: Layout) -> Tensor:
        activate(self.backbone, self.adapter)
        return self.backbone.hidden(layout)

    def logprobs(
        self, batch: Batch, *, temperature: float = 1.0, entropy: bool = False
    ) -> TokenLogprobs:
        """The log-probability [P] of each trained token, and the entropy [P] of its distribution if
        asked for (nats)."""
        layout = self.backbone.layout_of(batch).to(self.backbone.device)
        say = partial(self._logprobs, layout, temperature=temperature, entropy=entropy)
        return self.backbone.trunk.say(say)

    def _logprobs(self, layout: Layout, *, temperature: float, entropy: bool) -> TokenLogprobs:
        found = token_logprobs(
            hidden_PD=self._hidden(layout)[layout.predecessors_P],
            weight_VD=self.backbone.embeddings,
            targets_P=layout.targets_P,
            scale=self.backbone.logit_scale,
            softcap=self.backbone.logit_softcap,
            temperature=temperature,
            entropy=entropy,
        )
        entropy_P = None if found.entropy_P is None else found.entropy_P.cpu()
        return TokenLogprobs(found.logprobs_P.cpu(), entropy_P)

    def values(self, batch: Batch) -> Tensor:
        """[P]: the value of the state each trained token was chosen in (the tokens before it)."""
        layout = self.backbone.layout_of(batch)
        return self.backbone.trunk.say(partial(self._head, layout, layout.predecessors_P))

    def scores(self, batch: Batch) -> Tensor:
        """[N]: the score of each sequence, read at its last token."""
        layout = self.backbone.layout_of(batch)
        return self.backbone.trunk.say(partial(self._head, layout, layout.last_N))

    def parameters(self) -> dict[str, nn.Parameter]:
        """What training this role changes: the adapter set, or else every weight of the backbone;
        and the head."""
        if self.adapter is not None:
            named = dict(adapter_parameters(self.backbone, self.adapter))
        else:
            named = {n: p for n, p in self.backbone.model.named_parameters() if "lora_" not in n}
        if self.head is not None:
            named |= {f"head.{n}": p for n, p in self.head.named_parameters()}
        return named

    def train_mode(self) -> list[nn.Parameter]:
        """Ask for gradients of this role's parameters; returns them in a fixed order."""
        parameters = list(self.parameters().values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        return parameters

    def state_dict(self) -> dict[str, Tensor]:
        """The trained tensors, and the head's gain and bias."""
        state = {name: p.detach() for name, p in self.parameters().items()}
        if self.head is not None:
            state |= {f"head.{name}": b for name, b in self.head.named_buffers()}
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Put `state` back. Raises ValueError if its names are not this role's."""
        mine = self.state_dict()
        if mine.keys() != state.keys():
            raise ValueError(
                f"the state is another role's: {sorted(mine.keys() ^ state.keys())[:3]} differ"
            )
        for name, tensor in mine.items():
            tensor.copy_(cut_alike(state[name], tensor))

    def _head(self, layout: Layout, positions_X: Tensor) -> Tensor:
        """[X]: what the head says at these positions."""
        if self.head is None:
            raise ValueError("this role has no scalar head")
        hidden_TD = self._hidden(layout)
        return self.head(hidden_TD[positions_X.to(self.backbone.device)]).cpu()


def finite(values_N: Tensor, what: str) -> Tensor:
    """The values. Raises UserError, naming `what` they are, where some of them are no finite
    numbers."""
    bad = int((~values_N.isfinite()).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(values_N)} {what} are no finite numbers.",
            hint=(
                "That model's weights have grown too large: train it again with a lower learning"
                " rate, or name another."
            ),
        )
    return values_N


@dataclass(frozen=True)
class Roles:
    """The four models of RLHF (Ouyang et al., arXiv:2203.02155), as far as an algorithm needs them;
    None is not there."""

    policy: View
    critic: View | None = None
    reward: RewardModel | None = None
    reference: View | None = None

    def backbones(self) -> list[Backbone]:
        """The distinct backbones in memory: one with `adapters`, with `copies` one for each role
        that is there."""
        views = (self.policy, self.critic, self.reward, self.reference)
        return list(dict.fromkeys(view.backbone for view in views if view is not None))


def adapter_roles(
    base: Backbone,
    *,
    lora: LoraSpec,
    critic: bool,
    reference: bool,
    moving: bool = False,
    reward: View | None = None,
    critic_from_reward_model: bool = True,
    seed: int,
) -> Roles:
    """A policy as a fresh adapter set on the frozen `base`, with what its algorithm needs beside
    it.

    The reference is the bare backbone, at no cost; a `moving` one is a set that starts as nothing
    and can take over the policy's weights. The critic is a set of its own whose head says 0. Beside
    a `reward` model that is an adapter set of the same backbone it has that one's shape, and starts
    as it is, its head included, unless that is not wanted.
    """
    base.freeze()
    add_adapter(base, "policy", lora, seed=seed)
    valuing = anchor = None
    if critic:
        valuing = _critic_beside(
            base, reward, lora, from_reward_model=critic_from_reward_model, seed=seed
        )
    if reference and moving:
        add_adapter(base, "reference", lora, seed=seed)
        anchor = View(base, "reference", lora)
    elif reference:
        anchor = View(base)
    return Roles(policy=View(base, "policy", lora), critic=valuing, reward=reward, reference=anchor)


def _critic_beside(
    base: Backbone, reward: View | None, lora: LoraSpec, *, from_reward_model: bool, seed: int
) -> View:
    head = ScalarHead(base.width, zero=True)
    if reward is None:
        add_adapter(base, "critic", lora, seed=seed)
        return View(base, "critic", lora, head)
    if (
        reward.backbone is not base
        or reward.adapter is None
        or reward.lora is None
        or reward.head is None
    ):
        raise ValueError(
            "roles on one backbone need a reward model that is an adapter set of it, with a head"
        )
    shape = replace(reward.lora, dropout=lora.dropout)
    add_adapter(base, "critic", shape, seed=seed)
    if from_reward_model:
        copy_adapter(base, reward.adapter, "critic")
        head.load_state_dict(reward.head.state_dict())
    return View(base, "critic", shape, head)


def take_over(source: View, target: View) -> None:
    """Give `target` the weights of `source`, a role of the same shape."""
    theirs = {
        _unnamed(name, source.adapter): tensor for name, tensor in source.state_dict().items()
    }
    target.load_state_dict(
        {name: theirs[_unnamed(name, target.adapter)] for name in target.state_dict()}
    )


def _unnamed(name: str, adapter: str | None) -> str:
    return name if adapter is None else name.replace(f".{adapter}.", ".")
