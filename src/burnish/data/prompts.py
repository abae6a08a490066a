"""Which prompts come when, and which are held out: both pure functions of a seed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Generic

from burnish.data.columns import Item, Record
from burnish.errors import UserError
from burnish.records import Demonstration, PreferenceGroup, Prompt


class Stream(Generic[Item]):
    """Shuffled items without end, as a pure function of (seed, step): a run that resumes needs its
    step and no more.

    Items are prompts, or whatever a loop trains on. The stream is one permutation of all of them
    after another, cut into batches; an epoch that does not divide evenly goes on into the next one
    inside a batch, so within an epoch each item comes exactly once. Only a batch across that border
    (or one larger than the number of items) can hold an item twice.
    """

    def __init__(self, items: Sequence[Item], *, seed: int, batch_size: int) -> None:
        if not items:
            raise UserError("there is no data to draw batches from. Give at least one row.")
        if batch_size < 1:
            raise UserError(f"must be at least 1, not {batch_size}.", field="batch_size")
        self.items, self.seed, self.batch_size = tuple(items), seed, batch_size

    def batch(self, step: int) -> list[Item]:
        """The `batch_size` items of step 0, 1, 2, ..."""
        if step < 0:
            raise ValueError(f"steps count from 0, not {step}")
        count = len(self.items)
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return [
            self.items[_permutation(count, self.seed, at // count)[at % count]] for at in positions
        ]


def split_by_prompt(
    items: Sequence[Record], *, heldout: float | int, seed: int, salt: str = ""
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Split into (training, held out) so that no prompt, and no continuation of its dialogue, is on
    both sides.

    The side is decided by a hash of `seed` and the conversation's opening: its system and first
    user turn, white space and case folded. It therefore depends on no row's place. The opening
    rather than the whole prompt, because in HH one row in sixteen goes on with, or starts like,
    another row's dialogue. `heldout` is a share in (0, 1), met on average, and then rows added
    later move no other row; or a whole number of openings, met exactly. Another `salt` is another
    hash: what is split again needs one, for by the same hash it lies on one side already.

    Raises UserError when `heldout` is out of range or leaves one side empty.
    """
    places = {start: _hash(f"{salt}{seed}/{start}") for start in map(opening, items)}
    if isinstance(heldout, float) and 0 < heldout < 1:
        out = {start for start, place in places.items() if place < heldout * 2**64}
    elif type(heldout) is int and heldout > 0:
        out = set(sorted(places, key=lambda start: (places[start], start))[:heldout])
    else:
        raise UserError(
            f"must be a share between 0 and 1 or a number of prompts, not {heldout!r}.",
            field="heldout",
        )
    if not 0 < len(out) < len(places):
        raise NoSplit(heldout, len(places))
    training = tuple(item for item in items if opening(item) not in out)
    return training, tuple(item for item in items if opening(item) in out)


def split_or_all(
    items: Sequence[Record], *, heldout: float, seed: int, salt: str = ""
) -> tuple[tuple[Record, ...], tuple[Record, ...], str | None]:
    """(training, held out, None) as `split_by_prompt` has them; where that leaves a side empty,
    (all, none, why).

    So one row, or two, can be trained on, as one does first with everything new; a share of 0 holds
    nothing out, and one of 1 everything, for evaluation alone.
    """
    if heldout == 1:
        return (), tuple(items), None
    if not heldout:
        return tuple(items), (), "data.heldout is 0"
    try:
        training, out = split_by_prompt(items, heldout=heldout, seed=seed, salt=salt)
    except NoSplit as error:
        return (
            tuple(items),
            (),
            f"a share of {heldout:g} of {error.prompts} different prompts holds none out",
        )
    return training, out, None


class NoSplit(UserError):
    """A share of so few prompts leaves one side empty."""

    def __init__(self, heldout: float | int, prompts: int) -> None:
        problem = f"{heldout!r} of {prompts} different prompts leaves one side without any."
        super().__init__(problem, field="heldout", hint="Give a number between, or more data.")
        self.prompts = prompts


def opening(item: Demonstration | Prompt | PreferenceGroup) -> str:
    """What decides on which side an item is: its system and first user turn, white space and case
    folded."""
    messages = item.prompt.messages if isinstance(item, PreferenceGroup) else item.messages
    first = next(
        (i for i, message in enumerate(messages) if message["role"] == "user"), len(messages)
    )
    return "\n".join(
        " ".join(message["content"].split()).casefold() for message in messages[: first + 1]
    )


@lru_cache(maxsize=8)
def _permutation(count: int, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of range(count): sorting by a hash is the same on every version of every
    library."""
    return tuple(sorted(range(count), key=lambda i: (_hash(f"{seed}/{epoch}/{i}"), i)))


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
