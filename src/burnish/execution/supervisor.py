"""Engines as actors of a Ray cluster: the one module that imports Ray, when it is asked for.

An actor ends with the process that made it. A killed actor raises at once, a node that has vanished
within Ray's health checks, and a call that never returns is the pool's deadline: here is nothing
but the line to an actor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from burnish.errors import UserError
from burnish.execution.orders import Event, Order, Started
from burnish.execution.server import EngineServer, EngineSpec


class ActorLine:
    """One engine as an actor."""

    def __init__(self, ray: Any, spec: EngineSpec, name: str) -> None:
        self._ray = ray
        actor = ray.remote(EngineServer)
        # an engine that died is replaced by the pool, which refits it
        self._actor = actor.options(
            num_cpus=spec.threads, max_restarts=0, max_task_retries=0
        ).remote(spec)
        self._name = name

    def started(self) -> Event:
        """See `threaded.Line`."""
        self._ray.get(self._actor.__ray_ready__.remote())
        return Started()

    def ask(self, order: Order) -> Event:
        """See `threaded.Line`."""
        return self._ray.get(self._actor.answer.remote(order))

    def end(self) -> None:
        """See `threaded.Line`."""
        self._ray.kill(self._actor)

    def last_words(self, error: Exception) -> str:
        """Ray's name for what happened, and its first line."""
        return f"Ray says {type(error).__name__} ({str(error).strip().splitlines()[0]:.200})"


def actor_fleet(spec: EngineSpec, *, address: str, engines: int) -> Callable[[str], ActorLine]:
    """What connects to engines on a cluster, for a `ThreadedFleet`.

    Raises UserError where Ray is not installed, there is no such cluster, or it has not the CPUs
    for so many engines: at once, rather than waiting for what may never come.
    """
    ray = _ray()
    if not ray.is_initialized():
        where = {} if address == "local" else {"address": address}
        try:
            ray.init(**where, log_to_driver=False, include_dashboard=False if not where else None)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(
                f"no Ray cluster answers at {address}: {str(error).splitlines()[0]}.",
                field="scale.address",
                hint="Start one (`ray start --head`), or take local, which starts one here.",
            ) from error
    wanted, there = engines * spec.threads, ray.available_resources().get("CPU", 0.0)
    if there < wanted:
        raise UserError(
            f"{engines} engines of {spec.threads} threads need {wanted} CPUs of the Ray cluster,"
            f" and {there:g} are free.",
            field="scale.engines",
            hint="Ask for fewer engines, or fewer threads.",
        )
    return lambda name: ActorLine(ray, spec, name)


def _ray() -> Any:
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            "scale.address names a Ray cluster, and Ray is not installed.",
            field="scale.address",
            hint=(
                "pip install 'burnish[scale]'; without address, engines are processes of this"
                " machine."
            ),
        ) from error
    return ray
