"""`burnish lab`: every experiment in every world, over several processes, into a folder.

What one world gives is written as soon as it is there, with a fingerprint of what it depends on, so
that a run that was killed goes on where it was, and a change of the file does again only what it
touches. All random numbers come from the world's seed: neither the number of processes nor the
order in which they finish changes a figure.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from burnish._version import __version__
from burnish.atomic import clean_leftovers, write_json, write_text
from burnish.errors import UserError
from burnish.jsonio import undefined_as_null
from burnish.lab.experiments import PROCEDURES
from burnish.lab.report import render
from burnish.lab.results import Findings, Results
from burnish.lab.settings import Experiment, Lab
from burnish.lab.worker import measure
from burnish.runs.code import Code
from burnish.runs.manifest import fingerprint, read_sealed, run_lock, write_sealed
from burnish.system import end_with_parent

Say = Callable[[str], None]
Task = tuple[Experiment, int]
_PACKAGE = Path(__file__).parents[1]
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run(lab: Lab, folder: Path, *, say: Say = lambda line: None) -> Results:
    """Do what is not done yet; write results.json and report.html; give the results.

    Raises UserError where another process has the folder, or the disk refuses.
    """
    with run_lock(folder):
        clean_leftovers(folder)
        write_json(folder / "lab.json", lab.model_dump(mode="json"))
        found = _measured(lab, folder, say)
        seeds = _seeds(lab)
        experiments: dict[str, Findings] = {
            name: PROCEDURES[name].summarize(lab, [found[name, seed] for seed in seeds])
            for name in _experiments(lab)
        }
        settings = lab.model_dump(mode="json")
        results = Results(lab.name, __version__, seeds, settings, experiments)
        write_json(folder / "results.json", results.to_dict())
        write_text(folder / "report.html", render(results))
    return results


def _seeds(lab: Lab) -> list[int]:
    return list(range(lab.seed, lab.seed + lab.seeds))


def _experiments(lab: Lab) -> list[Experiment]:
    """In the order of the table, each once."""
    return [name for name in PROCEDURES if name in lab.experiments]


def _measured(lab: Lab, folder: Path, say: Say) -> dict[Task, dict[str, Any]]:
    """What every world gives: read where it is there already, else measured."""
    prints = fingerprints(lab)
    tasks: list[Task] = [(name, seed) for name in _experiments(lab) for seed in _seeds(lab)]
    found: dict[Task, dict[str, Any]] = {
        task: known for task in tasks if (known := _read(_path(folder, task), prints[task[0]]))
    }
    missing = [task for task in tasks if task not in found]
    if found:
        say(f"{len(found)} of {len(tasks)} measurements are there already")
    if missing:
        with _processes(min(lab.processes, len(missing))) as pool:
            waiting = {pool.submit(measure, lab, *task): task for task in missing}
            for task, figures in _finished(waiting):
                seal = {"fingerprint": prints[task[0]], "figures": undefined_as_null(figures)}
                write_sealed(_path(folder, task), seal)
                found[task] = seal["figures"]
                _tell(task[0], tasks, found, say)
    return found


def _finished(
    waiting: dict[Future[dict[str, Any]], Task],
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Tasks as they end."""
    while waiting:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield waiting.pop(future), future.result()


def _tell(name: Experiment, tasks: list[Task], found: dict[Task, Any], say: Say) -> None:
    """One line for an experiment of which the last world is done."""
    if all(task in found for task in tasks if task[0] == name):
        say(f"{name}: {sum(task[0] == name for task in tasks)} worlds")


def _path(folder: Path, task: Task) -> Path:
    return folder / "worlds" / f"{task[0]}-{task[1]}.json"


def _read(path: Path, expected: str) -> dict[str, Any] | None:
    """What is there, if it is of this file and this code; None: it is to be measured."""
    try:
        known = read_sealed(path, UserError("this file is damaged.", file=path))
    except (FileNotFoundError, UserError):
        return None
    return known.get("figures") if known.get("fingerprint") == expected else None


def fingerprints(lab: Lab) -> dict[Experiment, str]:
    """By experiment, a hash of the settings and of the code that its figures depend on."""
    code, settings = Code(_PACKAGE), lab.model_dump(mode="json")
    hashes = code.hashes("lab.worker")
    return {
        name: fingerprint(
            {
                "experiment": name,
                "code": hashes,
                **{key: settings[key] for key in ("world", "labels", *row.reads)},
            }
        )
        for name, row in PROCEDURES.items()
    }


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes of one thread each: more would share the cores and change the order of
    sums."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=end_with_parent)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
