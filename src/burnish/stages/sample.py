"""Stage `sample`: one policy or several write answers to training prompts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from burnish.data.prompts import Stream
from burnish.models.roles import View
from burnish.records import Prompt
from burnish.runs.manifest import release_memory
from burnish.stages.artifacts import ANSWERS, Answered, read_answers, write_answers
from burnish.stages.context import Step
from burnish.stages.sampling import fitting, prompt_sampler

_CHUNK = 32  # prompts sampled between two files, so that a killed run loses little


def run(step: Step) -> None:
    """Sample, part by part; the parts of all policies together are the stage's answers."""
    written: list[Sequence[Answered]] = []
    for number, artifact in enumerate(step.node.inputs["models"]):
        written.append(_answers_of(step, artifact.shown, step.run.reference(artifact), number))
    together = [_joined(answers) for answers in zip(*written, strict=True)]
    write_answers(step.folder / ANSWERS, together)
    words = [len(response.split()) for one in together for response in one.responses]
    step.finish(
        {
            "prompts": len(together),
            "responses_per_prompt": len(together[0].responses) if together else 0,
            "models": [artifact.shown for artifact in step.node.inputs["models"]],
            "words": sum(words) / len(words) if words else None,
        }
    )


def _answers_of(step: Step, name: str, reference: str, number: int) -> list[Answered]:
    """Those of one policy, what an earlier start has left taken over."""
    config = step.settings
    backbone = step.load(reference)
    sampler = prompt_sampler(
        View(backbone), config.sampling, seed=step.seed, max_length=step.recipe.model.max_length,
        purpose="collect" if number == 0 else f"collect/{number}", say=step.say_once,
    )  # fmt: skip
    prompts = _asked(step, fitting(step, backbone, step.prompts.train, config.sampling, "prompts"))
    progress, answers = step.progress(), list[Answered]()
    for start in range(0, len(prompts), _CHUNK):
        part = _part(step.folder, number, start)
        if not (part / ANSWERS).is_file():
            chunk = prompts[start : start + _CHUNK]
            rollouts = sampler.generate(chunk, samples=config.responses)
            texts = [rollout.completion.text for rollout in rollouts]
            each = [
                texts[i * config.responses : (i + 1) * config.responses] for i in range(len(chunk))
            ]
            part.mkdir(parents=True, exist_ok=True)
            write_answers(
                part / ANSWERS,
                [
                    Answered(prompt, tuple(own), (name,) * len(own))
                    for prompt, own in zip(chunk, each, strict=True)
                ],
            )
            if progress is not None:
                tokens = sum(len(rollout.completion.tokens) for rollout in rollouts)
                progress(min(start + _CHUNK, len(prompts)), len(prompts), tokens, {})
        answers += read_answers(part)
    del backbone, sampler
    release_memory()
    return answers


def _asked(step: Step, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that get answers, each once: the first `count`, and in later rounds the next
    ones."""
    unique = list({prompt.id: prompt for prompt in prompts}.values())
    count = step.settings.count
    if count is None or count >= len(unique):
        return unique
    earlier = takewhile(lambda node: node.name != step.name, step.run.graph)
    before = sum(node.kind == step.node.kind for node in earlier)
    if not before:
        return unique[:count]
    return Stream(unique, seed=step.recipe.seed, batch_size=count).batch(before - 1)


def _part(folder: Path, number: int, start: int) -> Path:
    return folder / "parts" / f"{number}-{start:06d}"


def _joined(answers: Sequence[Answered]) -> Answered:
    """The answers of all policies to one prompt."""
    responses = tuple(text for one in answers for text in one.responses)
    return Answered(
        answers[0].prompt, responses, tuple(name for one in answers for name in one.models)
    )
