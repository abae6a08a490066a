"""What is worked out of a tokenizer once and kept with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Value = TypeVar("Value")


class _Kept:
    """A value and the state of the tokenizer that it was made from. Copies and pickles of a
    tokenizer go without."""

    def __init__(self, owner: Any, state: Any, value: Any) -> None:
        self.owner, self.state, self.value = owner, state, value

    def __deepcopy__(self, memo: Any) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


def kept(tokenizer: Any, name: str, state: Any, make: Callable[[], Value]) -> Value:
    """`make()`, called again only when `state` is another than the last time."""
    known = getattr(tokenizer, name, None)
    if known is None or known.owner is not tokenizer or known.state != state:
        known = _Kept(tokenizer, state, make())
        setattr(tokenizer, name, known)
    return known.value
