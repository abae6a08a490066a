"""Engines as a service for an online stage: what `scale.engines` asks for, started, fed, watched
and ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from burnish.atomic import disk_errors
from burnish.config.scale import Scale
from burnish.config.sections import Sampling
from burnish.errors import UserError
from burnish.execution.journal import JOURNAL, Journal, JournalledSampler, Sampler
from burnish.execution.pool import Patience, Pool
from burnish.execution.probe import GapProbe
from burnish.execution.processes import process_fleet
from burnish.execution.publish import Publisher, shared_folder
from burnish.execution.served import ProbedSampler, ServedEngine
from burnish.execution.server import EngineSpec
from burnish.execution.supervisor import actor_fleet
from burnish.execution.threaded import Line, ThreadedFleet
from burnish.generation.native import missing_feature
from burnish.generation.sampled_model import SampledModel
from burnish.jsonio import dumps
from burnish.models.roles import View
from burnish.ranks import first
from burnish.runs.checkpoint import steps_in
from burnish.runs.metrics import read_metrics
from burnish.stages.context import Step
from burnish.stages.sampling import end_tokens_of

LOG = "engines.jsonl"
"""What engines did, a line for each step, in the stage's folder. It tells of this machine, as
timing.jsonl does: two runs with the same metrics may have other lines."""


def check_engines(
    scale: Scale, sampling: Mapping[str, Sampling], *, device: torch.device, lacking: str | None
) -> None:
    """Raises UserError, naming the keys, where engines cannot be a service.

    Args:
        scale: the recipe's section.
        sampling: how online stages sample, by their key.
        device: where the recipe's models are.
        lacking: what the native engine lacks for the model, as the end of a sentence.
    """
    if not scale.engines:
        return
    here = "Leave scale.engines out: the stage then samples in its own process."
    problem = None
    if not sampling:
        problem = "no stage of this recipe trains on rollouts, so nothing would ask engines."
    elif lacking is not None:
        problem = (
            f"scale.engines needs Burnish's own engine, which cannot sample this model: {lacking}."
        )
    elif device.type != "cpu":
        problem = f"engines of their own sample on the CPU, and model.device is {device.type}."
    for key, how in sampling.items():
        if problem is None and how.quantization != "none":
            problem = f"scale.engines does not go with {key}.quantization {how.quantization}."
    if problem is not None:
        raise UserError(problem, field="scale.engines", hint=here)


@contextmanager
def served_engine(step: Step, view: View, sampling: Sampling) -> Iterator[ServedEngine | None]:
    """The engines that the recipe asks for, as one, ended with the block; None where it asks for
    none, and on ranks that are not the first, which alone asks them."""
    scale, backbone = step.recipe.scale, view.backbone
    if not scale.engines or not first():
        yield None
        return
    longest = backbone.longest(step.recipe.model.max_length)
    check_engines(
        scale,
        {f"{step.name}.sampling": sampling},
        device=backbone.device,
        lacking=missing_feature(backbone, longest=longest),
    )
    spec = EngineSpec(
        SampledModel.of(backbone),
        frozenset(end_tokens_of(backbone)),
        backbone.device.type,
        torch.get_num_threads(),
    )
    patience = scale.deadline
    # before the engines, which nobody would end where it cannot be made
    publisher = Publisher(
        _publications(step.folder) if scale.address is None else step.folder / "published"
    )
    engine = ServedEngine(
        Pool(
            ThreadedFleet(_connect(scale, spec)),
            engines=scale.engines,
            patience=Patience(patience.start, patience.publish, patience.generate),
            restarts=scale.restarts.engines,
            say=lambda line: step.say(f"{step.name}: {line}"),
        ),
        publisher,
        record=lambda row: _append(step.folder / LOG, row),
    )
    try:
        yield engine
    finally:
        engine.close()


def _connect(scale: Scale, spec: EngineSpec) -> Callable[[str], Line]:
    """What starts engines: as actors of a Ray cluster, or as processes here."""
    if scale.address is None:
        return process_fleet(spec)
    return actor_fleet(spec, address=scale.address, engines=scale.engines)


def probed(step: Step, view: View, sampler: Sampler, engine: ServedEngine | None) -> Sampler:
    """The sampler whose engines are looked at, where there are any."""
    scale = step.recipe.scale
    if not scale.engines:
        return sampler
    return ProbedSampler(sampler, engine, GapProbe(view, limit=scale.stop_at_gap))


@contextmanager
def journalled(step: Step, sampler: Sampler) -> Iterator[Sampler]:
    """The sampler with its rollouts on disk before they are trained on, where the recipe wants
    that; what is on disk goes when the block ends well."""
    if not (step.recipe.scale.engines and step.recipe.scale.journal):
        yield sampler
        return
    folder = step.folder / JOURNAL
    settings = step.settings.model_dump(mode="json", include={"sampling", "environment"})
    how = {**settings, "seed": step.seed, "max_length": step.recipe.model.max_length}
    kept = JournalledSampler(
        sampler,
        Journal(folder),
        how=json.dumps(how, sort_keys=True),
        covered=lambda: _oldest_checkpoint(step.folder),
    )
    yield kept
    if kept.replayed:
        step.say(
            f"{step.name}: {kept.replayed} rollouts were taken from the journal, not drawn anew"
        )
    if first():
        shutil.rmtree(folder, ignore_errors=True)


def engine_findings(folder: Path) -> dict[str, Any]:
    """What the stage's record says of its engines; empty where it had none."""
    log = folder / LOG
    rows = read_metrics(log)
    if not rows:
        return {}
    mean = lambda name: sum(row[name] for row in rows) / len(rows)  # noqa: E731
    return {
        "engines": {
            "engines": max(row["engines"] for row in rows),
            "restarted": sum(row["restarted"] for row in rows),
            "resent": sum(row["resent"] for row in rows),
            "publish_seconds": round(mean("publish_seconds") + mean("load_seconds"), 3),
            "generate_seconds": round(mean("generate_seconds"), 3),
            "largest_gap": max(row.get("gap", 0.0) for row in rows),
        }
    }


def _publications(folder: Path) -> Path:
    """Where this process publishes what the stage in `folder` trains. What processes before it have
    left there goes: the run's lock says that they are no more."""
    name = f"burnish-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"
    here = shared_folder(f"{name}-{os.getpid()}")
    for left in here.parent.glob(f"{name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    return here


def _oldest_checkpoint(folder: Path) -> int:
    """The step of the oldest checkpoint that a run could still go back to; 0: its start."""
    return min(steps_in(folder / "checkpoints"), default=0)


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with disk_errors(path), path.open("a", encoding="utf-8") as file:
        file.write(dumps(row) + "\n")
