"""Having a model label a project's items, through the store as any annotator's answers go."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from burnish.annotation.ai.judge import Judge, Tally
from burnish.annotation.records import Answer
from burnish.annotation.snapshot import Entry, add_answers, take_snapshot
from burnish.annotation.store import Store
from burnish.errors import UserError


@dataclass
class Labelling:
    """What came of it. `left` counts items of kinds that a model does not answer, or that it gave
    no readable verdict on."""

    labels: int = 0
    left: int = 0
    cached: int = 0
    tally: Tally = field(default_factory=Tally)


def label_project(
    store: Store,
    project: str,
    judge: Judge,
    *,
    annotator: str,
    limit: int | None = None,
    parallel: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Labelling:
    """Have `judge` answer the work items that `annotator` (of kind "ai") has not answered, at most
    `limit` of them.

    Each answer is kept as soon as it is there. People's places at an item are not taken: a model
    labels beside them. Items with a known answer are asked too, so that the model's pass rate is
    known.

    Raises UserError if a person has that name.
    """
    snapshot = take_snapshot(store, project)
    store.add_annotator(annotator, kind="ai")
    if store.kind_of(annotator) != "ai":
        raise UserError(
            f'"{annotator}" is a person\'s name.', hint="Give the model another with --name."
        )
    done = {one.item_id for one in snapshot.answers if one.annotator == annotator}
    todo = list(
        islice((e for e in snapshot.entries if e.part == "work" and e.item_id not in done), limit)
    )
    found = Labelling()

    def answer(entry: Entry) -> tuple[Entry, Answer | None, Tally]:
        tally = Tally()
        return entry, judge.answer(entry, snapshot.settings, tally), tally

    with ThreadPoolExecutor(max(1, parallel)) as pool:
        for number, (entry, said, tally) in enumerate(pool.map(answer, todo), start=1):
            found.tally.add(tally)
            if said is None:
                found.left += 1
            else:
                found.labels += add_answers(store, project, annotator, [(entry.item_id, said)])
            progress(number, len(todo))
    found.cached = judge.cache.hits
    return found
