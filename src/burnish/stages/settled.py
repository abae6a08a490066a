"""What of a run's stages stands as it was made: the same settings, inputs and code, or a change
that is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from burnish.config.kinds import KINDS
from burnish.errors import UserError
from burnish.runs.manifest import explain_difference, fingerprint
from burnish.runs.stage_record import StageRecord, begun
from burnish.stages.context import Run
from burnish.stages.inputs import inputs_of


def record_of(this: Run, stage: str) -> StageRecord | None:
    """The record of a stage that is done; None of one that is not."""
    return StageRecord.read(this.place(stage) / "stage.json")


def settle(
    this: Run, wanted: Sequence[str], *, accept: bool, extend: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]], list[str]]:
    """(what each stage depends on, what of it was changed since it was begun and taken all the
    same, by stage; the stages that go on to more steps or epochs).

    A finished or begun stage whose inputs are no longer the same is never mixed with new ones, and
    never thrown away: it is an error. A finished stage is not refused because of another version of
    the package; what differs is said. The user's own code may be mended while a stage is under way.
    More steps or epochs go on from the last checkpoint. What only later stages read need not be
    there yet.
    """
    needed = {*wanted, *(parent for stage in wanted for parent in this.graph.ancestors(stage))}
    inputs: dict[str, dict[str, Any]] = {}
    prints: dict[str, str] = {}
    accepted: dict[str, list[str]] = {}
    longer: list[str] = []
    for node in (node for node in this.graph if node.name in needed):
        step = this.step(node.name)
        inputs[node.name] = inputs_of(step, prints)
        record = record_of(this, node.name)
        if record is not None:
            old, before = record.inputs, record.accepted
        else:
            old, _, before = begun(this.place(node.name))
        if before and node.name in wanted:
            accepted[node.name] = list(before)
        looked_at = not KINDS[node.kind].always and node.name in wanted
        if looked_at and old is not None and fingerprint(old) != fingerprint(inputs[node.name]):
            changes = explain_difference(old, inputs[node.name])
            finished = record is not None
            follows = _is_longer(old, inputs[node.name], finished=finished)
            if follows and (extend or not _rate_depends_on_the_length(node.settings)):
                longer.append(node.name)
                record = None
            elif follows and not accept:
                raise _longer(this, node.name, changes)
            elif not accept and not is_tolerated(old, inputs[node.name], finished=finished):
                raise _changed(this, node.name, changes)
            accepted[node.name] = [*before, *changes]
            this.say(f"{node.name}: goes on although {_several(changes)}")
        prints[node.name] = (
            record.fingerprint if record is not None else fingerprint(inputs[node.name])
        )
    return {stage: inputs[stage] for stage in wanted}, accepted, longer


def is_tolerated(old: Mapping[str, Any], new: Mapping[str, Any], *, finished: bool) -> bool:
    """Whether nothing differs but the package's code, in a finished stage, or the user's own, in
    one under way."""
    apart = "code" if finished else "own_code"
    kept = [{key: value for key, value in side.items() if key != apart} for side in (old, new)]
    return fingerprint(kept[0]) == fingerprint(kept[1])


def _is_longer(old: Mapping[str, Any], new: Mapping[str, Any], *, finished: bool) -> bool:
    """Whether the stage is to be trained on: nothing differs, but for what is tolerated, than that
    it has more steps, or, where it makes passes over its data, more epochs."""
    settings = [side.get("settings", {}) for side in (old, new)]
    # beside steps, epochs are passes over a batch of rollouts
    key = "steps" if "steps" in settings[0] else "epochs"
    if settings[0].get("max_steps") is not None and settings[1].get("max_steps") is not None:
        key = "max_steps"  # which stands in place of epochs
    if key not in settings[0] or key not in settings[1] or settings[1][key] <= settings[0][key]:
        return False
    same = {**new, "settings": {**settings[1], key: settings[0][key]}}
    return is_tolerated(old, same, finished=finished)


def _rate_depends_on_the_length(settings: Any) -> bool:
    """Whether what was trained so far would have been trained at another learning rate."""
    optimizer = getattr(settings, "optimizer", None)
    return optimizer is None or optimizer.schedule != "constant" or optimizer.warmup > 0


def _longer(this: Run, stage: str, changes: Sequence[str]) -> UserError:
    return UserError(
        f"the stage {stage} was run with other settings ({_several(changes)}), and its learning"
        " rate followed the former length.",
        file=this.folder,
        hint=(
            "Add --extend to go on from its last checkpoint all the same, at the rate of the new"
            f" length from there; or run again with --fork {this.folder} --out NEW_FOLDER."
        ),
    )


def _changed(this: Run, stage: str, changes: Sequence[str]) -> UserError:
    return UserError(
        f"the stage {stage} was run with other settings ({_several(changes)}).",
        file=this.folder,
        hint=(
            f"Nothing was changed. To keep what still fits, run again with --fork {this.folder}"
            " --out NEW_FOLDER; to start over, choose another --out; to go on as it is, add"
            " --accept-change."
        ),
    )


def _several(changes: Sequence[str]) -> str:
    return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
