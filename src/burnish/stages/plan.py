"""What a recipe will need: its data measured, its model's shape read, the plan made, printed and
checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from burnish.config.recipe import Recipe
from burnish.errors import UserError
from burnish.models import sources
from burnish.planning.cluster import Division, divisions
from burnish.planning.estimate import DataSize, StagePlan
from burnish.planning.machine import Machine
from burnish.planning.plan import Plan, settings_that_fit
from burnish.planning.shape import ModelShape
from burnish.stages.context import Run
from burnish.stages.inputs import reads_store
from burnish.stages.reading import Reading, Split

_CHARACTERS = 4.2  # of English, a token
_TEMPLATE = 8.0  # tokens that a chat template adds to a turn
_SAMPLE = 200  # rows whose lengths are looked at


def shape_of(
    reference: str, *, max_length: int | None = None, say: Callable[[str], None] = lambda _: None
) -> ModelShape:
    """The shape of the model that a recipe names, whose sequences have at most `max_length` tokens.

    Its weights are fetched only where its configuration cannot be had alone.
    """
    if sources.is_hub_id(reference):
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(reference, trust_remote_code=False).to_dict()
        except (OSError, ValueError) as error:
            raise UserError(
                f"the configuration of {reference} cannot be fetched from the hub.",
                hint="Name a local folder, or give its config.json with --model-config.",
            ) from error
        return ModelShape.from_config(config, max_length=max_length)
    folder = sources.resolve(reference, say=say).folder
    if folder is None:
        from burnish.models.tiny import tiny_model

        return ModelShape.from_config(tiny_model().config.to_dict(), max_length=max_length)
    return ModelShape.read(folder, max_length=max_length)


def data_sizes(run: Run, stages: Sequence[str]) -> dict[str, DataSize]:
    """What each of these stages reads, measured once for each set of sources."""
    measured: dict[str, DataSize] = {}
    found: dict[str, DataSize] = {}
    for stage in stages:
        data = run.graph[stage].data
        if data.store is not None and not any(reads_store(run.step(one)) for one in stages):
            # nobody need have labelled anything yet
            data = data.model_copy(update={"store": None, "project": None})
        key = data.model_dump_json()
        if key not in measured:
            measured[key] = _size(run.reading(data), run.recipe)
        found[stage] = measured[key]
    return found


def _size(reading: Reading, recipe: Recipe) -> DataSize:
    """Counts, and mean lengths estimated from the characters of the first rows; rows that would be
    dropped are left out."""
    data = reading.data
    pairs, prompts = reading.comparisons, reading.prompts
    wanted = data.demonstrations is not None or data.labelled
    # without any, prompts alone say how long texts are
    demos = reading.demonstrations if wanted else Split((), ())
    if data.labelled:
        rows = [
            (_tokens(g.prompt.messages), fmean(map(_answer, g.responses)))
            for g in pairs.train[:_SAMPLE]
        ]
    else:
        rows = [
            (_tokens(d.messages[:-1]), _answer(d.messages[-1]["content"]))
            for d in demos.train[:_SAMPLE]
        ]
    fit = [row for row in rows if sum(row) <= recipe.model.max_length] or [
        (float(recipe.model.max_length), 0.0)
    ]
    kept = len(fit) / len(rows) if rows and "too_long" in data.dropped else 1.0
    asked = [_tokens(p.messages) for p in prompts.train[:_SAMPLE]]
    prompt_tokens = [tokens for tokens in asked if tokens <= recipe.model.max_length] or [
        row[0] for row in fit
    ]
    own = data.demonstrations is not None
    return DataSize(
        demonstrations=round(kept * len(demos.train)) if own else 0,
        heldout_demonstrations=round(kept * len(demos.heldout)) if own else 0,
        prompts=len(prompts.train),
        heldout_prompts=len(prompts.heldout),
        comparisons=round(kept * len(pairs.train)),
        heldout_comparisons=round(kept * len(pairs.heldout)),
        prompt_tokens=fmean(prompt_tokens),
        answer_tokens=fmean(row[1] for row in fit),
    )


def _tokens(messages: Sequence[Mapping[str, str]]) -> float:
    return sum(len(m["content"]) / _CHARACTERS + _TEMPLATE for m in messages) + _TEMPLATE


def _answer(text: str) -> float:
    return len(text) / _CHARACTERS + 1


def refuse_what_cannot_fit(
    plan: Plan, recipe: Recipe, shape: ModelShape, data: Mapping[str, DataSize], machine: Machine
) -> None:
    """Raises UserError if a stage needs more memory than there is, with the settings that would
    make it fit."""
    if plan.peak <= machine.memory:
        return
    worst = max(plan.stages, key=lambda stage: stage.peak)
    changes = settings_that_fit(
        recipe, shape, data, machine, stages=[stage.name for stage in plan.stages]
    )
    raise UserError(
        f"the stage {worst.name} needs about {worst.peak / 1e9:.1f} GB of memory;"
        f" {machine.memory / 1e9:.1f} GB are free.",
        hint=(
            f"This would fit: {' '.join(changes)}"
            if changes
            else "No setting makes this model fit: take a smaller one."
        ),
    )


def summary(plan: Plan) -> str:
    """One line: the whole run's time and its largest stage's memory."""
    worst = max(plan.stages, key=lambda stage: stage.peak)
    return (
        f"plan: about {duration(plan.seconds)} in all, at most {worst.peak / 1e9:.1f} GB (in"
        f" {worst.name})"
    )


def table(plan: Plan, machine: Machine, *, wage: float) -> str:
    """The plan as text: a line a stage, the parts of its memory under it, annotation, sums."""
    each = " on each device" if machine.devices > 1 else ""
    lines = [
        (
            f"{machine.name}: {machine.memory / 1e9:.1f} GB free{each},"
            f" {_rate(machine.flops, 'FLOP/s')}, {_rate(machine.bandwidth, 'B/s')} from memory"
        ),
        "",
        f"{'stage':34}{'memory':>10}{'time':>12}",
    ]
    for stage in plan.stages:
        lines.append(f"{stage.name:34}{_gigabytes(stage.peak):>10}{duration(stage.seconds):>12}")
        lines += [f"  {part.name:32}{_gigabytes(part.size):>10}" for part in stage.parts]
    lines.append(f"{'whole run' + each:34}{_gigabytes(plan.peak):>10}{duration(plan.seconds):>12}")
    if plan.annotation is not None:
        asked = plan.annotation
        lines += [
            "",
            (
                f"annotation: {asked.rankings} rankings of {asked.responses} answers. The panel of"
                f" this recipe is simulated; people would need about {asked.hours:.1f} hours,"
                f" {asked.hours * wage:,.0f} at {wage:g} an hour."
            ),
        ]
    if machine.devices > 1:
        for stage in plan.stages:
            lines += _step_on_many(stage, machine)
    return "\n".join(lines)


def _step_on_many(stage: StagePlan, machine: Machine) -> list[str]:
    """A step of a stage that samples and learns in turns: who may have which GPUs, and how long it
    takes then."""
    if stage.round is None:
        return []
    work, found = stage.round, divisions(stage.round, machine)
    lines = [
        "",
        (
            f"a step of {stage.name} on {machine.devices:,} GPUs: {work.sequences:,} answers of at"
            f" most {work.answer:,.0f} tokens to prompts of {work.prompt:,.0f}, layers computed"
            " again in the backward pass"
        ),
    ]
    if not found:
        return [*lines, "  no way to give the GPUs out leaves room for trainers and engines"]
    together = [one for one in found if not one.engines]
    apart = [one for one in found if one.engines][:2]
    lines.append(
        f"  {'GPUs':26}{'GB, training':>14}{'sequences':>11}{'generate':>10}{'passes':>9}"
        f"{'update':>9}{'publish':>9}{'in step':>9}{'one off':>9}{'of peak':>9}"
    )
    lines += [_division_line(one) for one in sorted([*together, *apart], key=lambda x: x.one_off)]
    best = min(found, key=lambda one: one.in_step)
    lines.append(
        f"  GB on a GPU that trains; sequences that an engine of {best.tensor_parallel} has room"
        f" for. In step the fastest is {_who(best)}; a run may be one step off where engines have"
        " GPUs of their own."
    )
    return lines


def _division_line(one: Division) -> str:
    times = (one.generate, one.passes, one.update, one.publish, one.in_step, one.one_off)
    shown = "".join(f"{_seconds(value):>{9 + (at == 0)}}" for at, value in enumerate(times))
    return (
        f"  {_who(one):26}{one.training / 1e9:>14.1f}{one.room:>11,}{shown}{100 * one.used:>8.0f}%"
    )


def _who(one: Division) -> str:
    if not one.engines:
        return f"{one.trainers} in turns"
    return f"{one.trainers} train, {one.engines} write"


def _seconds(value: float) -> str:
    if value < 0.00095:
        return f"{1000 * value:.1g} ms"
    if value < 0.0995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 9.95 else f"{value:,.0f} s"


def duration(seconds: float) -> str:
    """For people: 45 s, 12 min, 3.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _rate(value: float, unit: str) -> str:
    power, letter = next(((p, s) for p, s in ((1e12, "T"), (1e9, "G")) if value >= p), (1e6, "M"))
    return f"{value / power:.0f} {letter}{unit}"
