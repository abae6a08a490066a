"""Burnish polishes pretrained language models with human feedback.

>>> import burnish
>>> recipe = burnish.load("recipes/tiny.yaml", "ppo.steps=2")
>>> result = burnish.run(recipe)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from burnish._version import __version__
from burnish.errors import UserError

if TYPE_CHECKING:
    from burnish.api.calls import dpo, evaluate, grpo, load, ppo, reward_model, run, sft
    from burnish.api.events import Event
    from burnish.api.result import Result
    from burnish.api.sweep import Sweep, sweep

__all__ = [
    "Event",
    "Result",
    "Sweep",
    "UserError",
    "__version__",
    "dpo",
    "evaluate",
    "grpo",
    "load",
    "ppo",
    "reward_model",
    "run",
    "sft",
    "sweep",
]

_PLACES = {
    "Event": "burnish.api.events",
    "Result": "burnish.api.result",
    "Sweep": "burnish.api.sweep",
    "sweep": "burnish.api.sweep",
}
_CALLS = "burnish.api.calls"


def __getattr__(name: str) -> Any:
    """The calls, brought when one is first asked for: `import burnish` brings neither torch nor
    pydantic."""
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module 'burnish' has no attribute {name!r}")
    return getattr(import_module(_PLACES.get(name, _CALLS)), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
