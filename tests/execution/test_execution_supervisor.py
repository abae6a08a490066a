"""Engines as Ray actors: the tokens of an engine here, and a killed actor replaced."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from burnish.errors import UserError
from burnish.execution.orders import Event, Generate, Order
from burnish.execution.pool import Patience, Pool
from burnish.execution.publish import Publisher
from burnish.execution.server import EngineSpec
from burnish.execution.supervisor import actor_fleet
from burnish.execution.threaded import ThreadedFleet
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.generation.sampled_model import SampledModel
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand

END = frozenset({256})
REQUESTS = [Request(tuple([258, *range(40, 43 + k % 5)]), request_seed(k)) for k in range(12)]


def _spec(tiny: Backbone) -> EngineSpec:
    return EngineSpec(SampledModel.of(tiny), END, "cpu", 1)


def test_without_ray_the_extra_is_named(tiny: Backbone, monkeypatch: pytest.MonkeyPatch):
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "ray":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"burnish\[scale\]"):
        actor_fleet(_spec(tiny), address="local", engines=1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'burnish[scale]')")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.mark.scale
def test_actors_write_what_an_engine_here_writes_and_one_that_is_killed_is_replaced(
    cluster: Any, tiny: Backbone, tmp_path: Path
):
    with pytest.raises(UserError, match=r"3 engines of 1 threads need 3 CPUs.*and 2 are free"):
        actor_fleet(_spec(tiny), address="local", engines=3)
    connect = actor_fleet(_spec(tiny), address="local", engines=1)
    asked: list[int] = []

    def killed(name: str) -> Any:
        line = connect(name)
        ask = line.ask

        def dying(order: Order) -> Event:
            if isinstance(order, Generate):
                asked.append(order.number)
                if len(asked) == 1:
                    line.end()
            return ask(order)

        line.ask = dying
        return line

    lines: list[str] = []
    pool = Pool(
        ThreadedFleet(killed), engines=1, patience=Patience(300, 300, 300), restarts=1,
        say=lines.append,
    )  # fmt: skip
    pool.load(Publisher(tmp_path / "p").publish(merge_on_demand(View(tiny)), version=0))
    answers = pool.generate(REQUESTS, SamplingParams(8))
    pool.close()
    here = NativeEngine.of(View(tiny), end_tokens=END).generate(REQUESTS, SamplingParams(8))
    assert [answer.completion for answer in answers] == here
    assert pool.restarted == 1
    assert "ActorDiedError" in lines[0]
