"""Stages without a path between them at the same time, each in a process of its own (`--jobs`)."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from burnish.config.graph import Graph
from burnish.config.kinds import KINDS
from burnish.errors import UserError
from burnish.stages.context import Run
from burnish.system import usable_cores


@dataclass(frozen=True, slots=True)
class Room:
    """What stages that run at the same time share.

    Args:
        jobs: at most so many stages at a time.
        memory: bytes that are free.
        planned: bytes that a stage is planned to need at most, by its name.
    """

    jobs: int
    memory: float
    planned: Mapping[str, float]

    def takes(self, stage: str, running: Sequence[str]) -> bool:
        """Whether a stage may start beside those that run; alone it always may."""
        if not running:
            return True
        needed = sum(self.planned.get(name, 0.0) for name in (stage, *running))
        return len(running) < self.jobs and needed <= self.memory


def ready(graph: Graph, left: Sequence[str], running: Sequence[str], room: Room) -> tuple[str, ...]:
    """The stages that may start now, in the recipe's order: nothing that they rest on is left or
    running. What reads the whole run, as the report does, waits for everything before it."""
    names = list(graph.nodes)
    unfinished = {*left, *running}
    starting: list[str] = []
    for stage in left:
        before = graph.ancestors(stage)
        if KINDS[graph[stage].kind].always:
            before = tuple(names[: names.index(stage)])
        if not unfinished & {*before} and room.takes(stage, (*running, *starting)):
            starting.append(stage)
    return tuple(starting)


def run_side_by_side(
    this: Run,
    work: Mapping[str, tuple[Mapping[str, Any], Sequence[str]]],
    room: Room,
    finished: Callable[[str], None],
) -> None:
    """Run these stages, as many at a time as there is room for.

    Args:
        this: the run; its folder holds the resolved recipe.
        work: stages that are still to do, in the recipe's order; of each, what it depends on and
            what of that was changed and taken all the same.
        room: how many may run, and in what memory.
        finished: told the name of each stage that was done now.

    Raises the first error of a stage once the stages beside it have ended; no new one is started
    after it.
    """
    threads = max(1, (this.recipe.threads or usable_cores()) // room.jobs)
    left, error = list(work), None
    running: dict[str, _Child] = {}
    try:
        while left or running:
            for stage in () if error else ready(this.graph, left, list(running), room):
                left.remove(stage)
                running[stage] = _Child.start(this.folder, stage, work[stage], threads)
            if not running:
                break
            by_pipe = {child.pipe: stage for stage, child in running.items()}
            for pipe in wait(list(by_pipe)):
                stage = by_pipe[pipe]  # pyright: ignore[reportArgumentType]
                ended = running[stage].hear(this)
                if ended is None:
                    continue
                del running[stage]
                if ended.error is not None:
                    error = error or ended.error
                    if running:
                        this.say(f"{stage}: {ended.error} Waiting for {' and '.join(running)}.")
                else:
                    finished(stage)
    finally:
        for child in running.values():
            child.stop()
    if error is not None:
        raise error


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a stage ended: well, or by an error."""

    error: UserError | None = None


@dataclass(slots=True)
class _Child:
    """A process that runs one stage, and the pipe through which it tells of it."""

    stage: str
    process: BaseProcess
    pipe: Connection
    report: Callable[..., None] | None = None

    @classmethod
    def start(
        cls, folder: Path, stage: str, work: tuple[Mapping[str, Any], Sequence[str]], threads: int
    ) -> _Child:
        # A forked process would share the threads' locks of torch's libraries as they stood.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        inputs, accepted = work
        arguments = (folder, stage, dict(inputs), list(accepted), threads, theirs)
        process = context.Process(target=_work, args=arguments, name=stage)
        process.start()
        theirs.close()
        return cls(stage, process, ours)

    def hear(self, this: Run) -> _Ended | None:
        """Pass one message on; what ended the stage, if that is what it says."""
        try:
            kind, *told = self.pipe.recv()
        except EOFError:
            self.process.join()
            return _Ended(self._died())
        if kind == "line":
            this.say(told[0])
        elif kind == "step":
            self.report = self.report or this.progress(self.stage)
            if self.report is not None:
                self.report(*told)
        else:
            self.process.join()
            return _Ended(told[0])
        return None

    def _died(self) -> UserError:
        code = self.process.exitcode or 0
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return UserError(
            f"the process of the stage {self.stage} {how}.",
            hint=(
                "Run the command again: the stage goes on from its last checkpoint. If memory was"
                " short, leave --jobs out."
            ),
        )

    def stop(self) -> None:
        """End the process; the stage goes on from its last checkpoint when the run does."""
        self.process.terminate()
        self.process.join()


def _work(
    folder: Path,
    stage: str,
    inputs: dict[str, Any],
    accepted: list[str],
    threads: int,
    pipe: Connection,
) -> None:
    """What a child does: the stage, from the recipe in the run's folder."""
    import torch

    from burnish.config.recipe_file import load_recipe
    from burnish.stages.run_stage import run_stage

    torch.set_num_threads(threads)

    def progress(_: str) -> Callable[..., None]:
        return lambda *told: pipe.send(("step", *told))

    try:
        recipe = load_recipe(folder / "recipe.yaml")
        this = Run(recipe, folder, lambda line: pipe.send(("line", line)), progress)
        run_stage(this, stage, inputs, accepted)
        pipe.send(("ended", None))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except UserError as error:
        pipe.send(("ended", error))
