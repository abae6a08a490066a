"""The graph that says what a recipe of the older form says: each kind of stage once, every policy
from the SFT model."""

from __future__ import annotations

from typing import Any

from burnish.config.kinds import KINDS
from burnish.config.line import LinePpo, LineRecipe
from burnish.config.making import Judges
from burnish.config.online import Algorithm, Importance
from burnish.config.recipe import Recipe
from burnish.config.sections import Section


def to_graph(line: LineRecipe) -> Recipe:
    """A recipe in whose graph the same is done; the stage `collect` becomes `sample` and
    `compare`."""
    stages: dict[str, Any] = {}
    start = "sft" if "sft" in line.stages else "base"
    makers = {
        "sft": lambda: {"sft": _section("sft", start="base", **dict(line.sft))},
        "collect": lambda: _collect(line, start),
        "reward": lambda: {
            "reward": _section(
                "reward", start=start, sampling=line.ppo.sampling, **dict(line.reward)
            )
        },
        "preference": lambda: _preference(line, start),
        "ppo": lambda: {"ppo": _ppo(line.ppo, start)},
        "online": lambda: {
            line.online.algorithm.name: _section(
                "online", start=start, rewards=line.rewards, **dict(line.online)
            )
        },
        "evaluate": lambda: {"evaluate": _evaluate(line)},
        "report": lambda: {"report": KINDS["report"].section()},
    }
    for kind, make in makers.items():
        given = kind == "collect" and line.data.labelled
        if kind in line.stages and not given:
            stages |= make()
    shared = {
        name: getattr(line, name)
        for name in ("name", "seed", "threads", "report_to", "model", "scale", "data", "taste")
    }
    return Recipe(**shared, stages=stages)


def _collect(line: LineRecipe, start: str) -> dict[str, Section]:
    config = line.collect
    sample = _section(
        "sample",
        models=(start,),
        count=config.prompts,
        responses=config.responses_per_prompt,
        sampling=config.sampling,
    )
    compare = _section(
        "compare",
        by=(Judges(panel=config.panel),),
        reliability_weighted=config.reliability_weighted,
    )
    return {"sample": sample, "compare": compare}


_SHARED = (
    "share_backbone", "steps", "prompts_per_step", "responses_per_prompt", "epochs",
    "critic_epochs", "num_mini_batches", "sampling", "lora",
    "optimizer", "critic_learning_rate", "gamma", "gae_lambda", "value_clip_range", "vf_coef",
    "target_kl", "checkpoint",
)  # fmt: skip
_TRICKS = (
    "normalize_rewards", "clip_rewards", "clip_advantages", "critic_from_reward_model",
    "critic_warmup_steps",
    "missing_eos_penalty", "ptx_coef", "ptx_batch_size", "ent_coef",
)  # fmt: skip


def _parts(old: LinePpo) -> dict[str, Any]:
    """What the older section says of the row's parts."""
    return {
        "whiten": old.tricks.normalize_advantages,
        "kl_estimator": old.kl.estimator,
        "beta": old.kl.beta,
        "clip_low": old.clip,
        "clip_high": old.clip,
        "dual_clip": old.dual_clip,
    }


def _ppo(old: LinePpo, start: str) -> Section:
    """The row `ppo` with what the older section says."""
    usual = _parts(LinePpo())
    changed = {name: value for name, value in _parts(old).items() if value != usual[name]}
    cap = old.importance_cap
    return _section(
        "online",
        start=start,
        algorithm=Algorithm(name="ppo", **changed),
        importance=Importance(kind="none") if cap is None else Importance(cap=cap),
        kl_target=old.kl.target,
        kl_horizon=old.kl.horizon,
        **{name: getattr(old, name) for name in _SHARED},
        **{name: getattr(old.tricks, name) for name in _TRICKS},
    )


def _preference(line: LineRecipe, start: str) -> dict[str, Section]:
    """One stage, or for several rounds the first and then, each time, answers, comparisons and
    training from there."""
    settings = line.preference.model_dump(exclude={"rounds", "online"})
    config, stages = line.preference.online, dict[str, Section]()
    loss = line.preference.loss.name
    for number in range(1, line.preference.rounds + 1):
        prefix = "" if line.preference.rounds == 1 else f"rounds.{number}."
        before = f"rounds.{number - 1}.{loss}" if number > 1 else start
        if number > 1:
            judge = (
                Judges(panel=line.collect.panel)
                if config.judge == "panel"
                else Judges(reward="reward")
            )
            stages[f"{prefix}sample"] = _section(
                "sample",
                models=(before,),
                count=config.prompts,
                responses=config.responses_per_prompt,
                sampling=config.sampling,
            )
            weighted = line.collect.reliability_weighted
            stages[f"{prefix}compare"] = _section(
                "compare", by=(judge,), reliability_weighted=weighted
            )
        held_to = before if config.reference == "previous" else start
        stages[f"{prefix}{loss}"] = _section(
            "preference", **settings, start=before, reference=held_to
        )
    return stages


def _section(kind: str, **settings: Any) -> Section:
    return KINDS[kind].section(**settings)


def _evaluate(line: LineRecipe) -> Section:
    config = line.evaluate
    own = "online" not in line.stages  # otherwise it is that stage's
    return _section(
        "evaluate",
        count=config.prompts,
        responses_per_prompt=config.responses_per_prompt,
        sampling=config.sampling,
        base=config.base,
        samples=config.samples,
        rewards=(line.rewards or None) if own else None,
    )
