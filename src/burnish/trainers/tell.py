"""Metrics of rollouts and rewards, by our names and by those that TRL's users know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from burnish.algorithms.advantages import spread_in_groups
from burnish.records import Reward, Rollout


def rollout_metrics(
    rollouts: Sequence[Rollout], rewards: Sequence[Reward], *, size: int
) -> dict[str, float]:
    """Of rollouts in groups of `size`; rewards that are not counted are, as their number and share,
    and enter no mean.

    `reward_std` is the mean of the groups' standard deviations, or that of all rewards where groups
    have one member.
    """
    if not rollouts:
        return {}
    counted = [i for i, reward in enumerate(rewards) if reward.counted]
    found = _completions(rollouts)
    if len(counted) < len(rewards) or any(reward.verdicts for reward in rewards):
        found["rewards/uncounted"] = (len(rewards) - len(counted)) / len(rewards)
        found |= _verdicts(rewards)
    if not counted:
        return found
    values_B = torch.tensor([rewards[i].value for i in counted])
    found |= {"reward": float(values_B.mean()), "reward_std": float(values_B.std(correction=0))}
    if size > 1:
        spread_G = spread_in_groups(
            rewards_B=values_B, groups_B=torch.tensor([i // size for i in counted])
        )
        found |= {
            "reward_std": float(spread_G.mean()),
            "frac_reward_zero_std": float((spread_G == 0).float().mean()),
        }
    names = dict.fromkeys(name for i in counted for name in rewards[i].components)
    for name in names:
        part_B = torch.tensor(
            [rewards[i].components[name] for i in counted if name in rewards[i].components]
        )
        found |= {
            f"rewards/{name}/mean": float(part_B.mean()),
            f"rewards/{name}/std": float(part_B.std(correction=0)),
        }
    return found


def _completions(rollouts: Sequence[Rollout]) -> dict[str, float]:
    lengths = [r.completion.drawn for r in rollouts]
    cut_off = [r.completion.finish_reason == "length" for r in rollouts]
    ended = [length for length, cut in zip(lengths, cut_off, strict=True) if not cut]
    mean, share = sum(lengths) / len(lengths), sum(cut_off) / len(cut_off)
    found = {
        "completion_length": mean,
        "completion_length_max": float(max(lengths)),
        "truncation_rate": share,
        "completions/mean_length": mean,
        "completions/min_length": float(min(lengths)),
        "completions/max_length": float(max(lengths)),
        "completions/clipped_ratio": share,
    }
    if ended:
        found["completions/mean_terminated_length"] = sum(ended) / len(ended)
    return found


def _verdicts(rewards: Sequence[Reward]) -> dict[str, float]:
    """The share of completions with each verdict, by reward."""
    counts = Counter(
        (name, verdict) for reward in rewards for name, verdict in reward.verdicts.items()
    )
    of_reward = Counter(name for reward in rewards for name in reward.verdicts)
    return {
        f"verdicts/{name}/{verdict}": n / of_reward[name]
        for (name, verdict), n in sorted(counts.items())
    }
