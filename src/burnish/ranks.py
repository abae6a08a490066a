"""The processes that train one model together, as every room sees them.

Every rank runs the same loop. Rank 0 alone does what must happen once (asking an engine, writing a
file) and tells the others; passes through a model are dealt among all. In one process each of these
functions is the plain call, so that no loop asks whether it has company. What crosses processes is
a `Group`, which `burnish.execution.ranks` brings. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Piece = TypeVar("Piece")


class Group(Protocol):
    """Processes that agree. All of them call the same methods in the same order."""

    rank: int
    world: int

    def tell(self, value: Any) -> Any:
        """The value of rank 0, on every rank."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The values of all ranks, in their order, on every rank."""
        ...


class _Alone:
    """One process."""

    rank, world = 0, 1

    def tell(self, value: Any) -> Any:
        return value

    def gather(self, value: Any) -> list[Any]:
        return [value]


_group: Group = _Alone()


@contextmanager
def joined(group: Group) -> Iterator[None]:
    """Be one of `group` as long as the body runs."""
    global _group
    before, _group = _group, group
    try:
        yield
    finally:
        _group = before


def rank() -> int:
    """Which of the processes this is, from 0."""
    return _group.rank


def world() -> int:
    """How many there are."""
    return _group.world


def first() -> bool:
    """Whether this is the one that writes files and talks to the person watching."""
    return _group.rank == 0


def tell(value: Any) -> Any:
    """Rank 0's value, on every rank."""
    return _group.tell(value)


def gathered(value: T) -> list[T]:
    """Every rank's value, in the order of ranks, on every rank."""
    return _group.gather(value)


def told(compute: Callable[[], T]) -> T:
    """What `compute` gives on rank 0, on every rank; an error of it is raised on every rank."""
    if _group.world == 1:
        return compute()
    value, error = None, None
    if first():
        try:
            value = compute()
        except Exception as problem:
            _group.tell((None, problem))
            raise
    value, error = _group.tell((value, None))
    if error is not None:
        raise error
    return value


def dealt(of: Callable[[Piece], T], pieces: Sequence[Piece]) -> list[T]:
    """`of` each piece, in their order, on every rank: rank r computes pieces r, r + W, r + 2W, ...

    All ranks make as many calls, for a pass through shards takes all of them: who has no piece left
    computes the first one again and drops it.
    """
    mine = pieces[_group.rank :: _group.world]
    calls = -(-len(pieces) // _group.world)
    results = [of(mine[k] if k < len(mine) else pieces[0]) for k in range(calls)]
    by_rank = gathered(results[: len(mine)])
    return [by_rank[i % _group.world][i // _group.world] for i in range(len(pieces))]
