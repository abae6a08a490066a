"""Models measured on suites: what stage `evaluate` does with its key `suites`.

Every item's log-likelihoods or answers of every model stand in items.jsonl. They are written part
by part, so that a measurement which was killed goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from burnish.config.rewards import CodeReward, MathsReward
from burnish.evaluation.suites.compare import corrected, findings
from burnish.evaluation.suites.items import Item
from burnish.evaluation.suites.scores import of_answers, of_likelihoods
from burnish.evaluation.suites.table import Suite, Task, suites_of
from burnish.jsonio import dumps
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.records import Message, Prompt, Reward, Rollout
from burnish.runs.manifest import release_memory
from burnish.stages.behind_endpoint import behind_endpoint, is_endpoint
from burnish.stages.context import Step
from burnish.stages.evaluated import read_rows, write_rows
from burnish.stages.likelihoods import Likelihoods
from burnish.stages.rewards import build_scorer
from burnish.stages.sampling import PromptSampler
from burnish.stages.suite_sources import items
from burnish.stages.turns import ConversationSampler, make_sampler

ITEMS = "items.jsonl"
_CHUNK = 40  # items measured between two files
_VERIFIERS = {"maths": MathsReward(name="maths"), "code": CodeReward(name="code")}


def measured(step: Step) -> dict[str, Any]:
    """Measure every model of the stage on its suites; what the report shows of it."""
    config = step.settings
    suites = suites_of(config.suites)
    models = {one.shown: step.run.reference(one) for one in step.node.inputs["models"]}
    loaded = [
        (suite, task, items(task, count=config.items, say=step.say_once))
        for suite in suites
        for task in suite.tasks
    ]
    for _, task, _ in loaded:
        step.say_once(f"{task.name}: {task.licence}")
    rows = list[dict[str, Any]]()
    for number, (name, source) in enumerate(models.items()):
        started = time.monotonic()
        subject = _Subject(step, source)
        for suite, task, own in loaded:
            rows += _rows(step, subject, suite, task, own, name=name, number=number)
        took = time.monotonic() - started
        step.say(f"measured {name} on {', '.join(one.name for one in suites)} in {took:.0f} s")
        del subject
        release_memory()
    write_rows(step.folder / ITEMS, rows)
    return {
        "names": [suite.name for suite in suites],
        "models": list(models),
        "margin": config.margin.model_dump(),
        "sampling": config.sampling.in_words,
        "tasks": found_in(rows, loaded, list(models), margin=config.margin.model_dump()),
    }


def found_in(
    rows: Sequence[Mapping[str, Any]],
    loaded: Sequence[tuple[Suite, Task, Sequence[Item]]],
    models: Sequence[str],
    *,
    margin: Mapping[str, float],
) -> list[dict[str, Any]]:
    """The findings of every task from the rows of items.jsonl."""
    found = []
    for suite, task, _ in loaded:
        own = [row for row in rows if (row["suite"], row["task"]) == (suite.name, task.name)]
        counted = [row for row in own if row["values"] is not None]
        found.append(findings(task, suite.name, counted, models, margin=margin))
        found[-1]["uncounted"] = len(own) - len(counted)
        found[-1]["cut"] = sum(bool(row.get("cut")) for row in own)
    return corrected(found)


class _Subject:
    """A model that is loaded once something is to be measured on it."""

    def __init__(self, step: Step, source: str) -> None:
        self.step, self.source = step, source

    @cached_property
    def backbone(self) -> Backbone:
        """Its weights, in float32."""
        return self.step.load(self.source, exact=True)

    @cached_property
    def likelihoods(self) -> Likelihoods:
        """What scores texts under it."""
        return Likelihoods(View(self.backbone))

    def answers(self, prompts: Sequence[Prompt], *, samples: int) -> list[Rollout]:
        """So many answers to each prompt, side by side."""
        if is_endpoint(self.source):
            return behind_endpoint(self.step, self.source, samples=samples)(prompts)
        return self.sampler.generate(prompts, samples=samples)

    @cached_property
    def sampler(self) -> PromptSampler | ConversationSampler:
        """What samples the model."""
        step = self.step
        return make_sampler(
            None, View(self.backbone), step.settings.sampling, seed=step.seed,
            max_length=step.recipe.model.max_length, purpose="suites", say=step.say_once,
        )  # fmt: skip


def _rows(
    step: Step,
    subject: _Subject,
    suite: Suite,
    task: Task,
    own: Sequence[Item],
    *,
    name: str,
    number: int,
) -> Iterator[dict[str, Any]]:
    """A model's rows of one task, part by part; what an earlier start has left is taken over."""
    mark = _mark(subject.source, task, own)
    for start in range(0, len(own), _CHUNK):
        part = step.folder / "parts" / f"suites-{number}-{mark}-{start:06d}.jsonl"
        if not part.is_file():
            write_rows(part, _measure(subject, task, own[start : start + _CHUNK]))
        for row in read_rows(part):
            yield {"suite": suite.name, "task": task.name, "model": name, **row}


def _mark(source: str, task: Task, own: Sequence[Item]) -> str:
    """What a part is of: another model, task or set of items has another name."""
    text = dumps([source, task.name, task.form, [asdict(one) for one in own]], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _measure(subject: _Subject, task: Task, own: Sequence[Item]) -> list[dict[str, Any]]:
    if task.by_likelihood:
        return _by_likelihood(subject.likelihoods, task, own)
    return _by_answers(subject, task, own)


def _by_likelihood(
    likelihoods: Likelihoods, task: Task, own: Sequence[Item]
) -> list[dict[str, Any]]:
    if task.form == "prose":
        scored = likelihoods.passages([item.choices[0] for item in own])
    else:
        scored = likelihoods.continuations([pair for item in own for pair in item.pairs])
    rows, place = [], 0
    for item in own:
        parts = scored[place : place + len(item.choices)]
        place += len(item.choices)
        logprobs = [part.total for part in parts]
        row = {
            "item": item.id,
            "cluster": item.cluster,
            "logprobs": logprobs,
            "tokens": [len(part.logprobs) for part in parts],
            "bytes": item.lengths,
            "values": of_likelihoods(item, task.form, logprobs),
        }
        rows.append(row | ({"cut": cut} if (cut := max(part.cut for part in parts)) else {}))
    return rows


def _by_answers(subject: _Subject, task: Task, own: Sequence[Item]) -> list[dict[str, Any]]:
    samples = task.samples
    rollouts = subject.answers([_prompt(task, item) for item in own], samples=samples)
    rewards = _judged(subject.step, task, rollouts) if task.form == "checked" else None
    rows = []
    for place, item in enumerate(own):
        answers = [one.completion.text for one in rollouts[place * samples : (place + 1) * samples]]
        if rewards is None:
            values: dict[str, float] | None = of_answers(item, task.form, answers)
        else:
            reward = rewards[place]
            values = {"right": float(reward.value >= 1.0)} if reward.counted else None
        rows.append(
            {"item": item.id, "cluster": item.cluster, "answers": answers, "values": values}
        )
    return rows


def _prompt(task: Task, item: Item) -> Prompt:
    plain = (Message(role="user", content=item.context),)
    messages: Any = item.messages or plain
    return Prompt(f"{task.name}/{item.id}", tuple(messages), item.columns)


def _judged(step: Step, task: Task, rollouts: Sequence[Rollout]) -> list[Reward]:
    scorer = build_scorer(step, [_VERIFIERS[task.reward]])
    try:
        return scorer.score(rollouts)
    finally:
        scorer.close()
