"""Fixtures shared by all rooms: the tiny model, and the real one where it is in the cache."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import nullcontext

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker has one core: numpy reads this as it is imported
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
import torch
import typer
from hypothesis import HealthCheck, settings

import processors
from burnish.models import matmul
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.sources import cached_models

# A busy machine is no fault of the code: examples may take their time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
torch.set_num_threads(min(2, torch.get_num_threads()))


def pytest_configure() -> None:
    """With several workers (pytest -n) each has a core of its own, and so have the runs that it
    starts: threads that wait for one another on shared cores would slow all of them down."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker.startswith("gw") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})
        torch.set_num_threads(1)


if processors.pretended_vendor() is not None:
    matmul.vendor = processors.pretended_vendor


@pytest.fixture(autouse=True)
def other_processor() -> Iterator[None]:
    with processors.OtherRounding() if processors.rounds_otherwise() else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def one_tree_of_commands() -> Iterator[None]:
    """Typer makes every command anew in each call, which a process of its own does once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="session")
def smollm() -> Backbone:
    if not any(alias == "smollm2-135m" for alias, _, _ in cached_models()):
        pytest.skip("smollm2-135m is not in the cache: run `make model`")
    return load_backbone("smollm2-135m")
