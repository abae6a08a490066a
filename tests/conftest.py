"""Fixtures shared by all rooms: the tiny model, and the real one where it is in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import processors
import pytest
import torch
from hypothesis import HealthCheck, settings

from burnish.models import matmul
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.sources import cached_models

# A busy machine is no fault of the code: examples may take their time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
torch.set_num_threads(min(2, torch.get_num_threads()))

if processors.pretended_vendor() is not None:
    matmul.vendor = processors.pretended_vendor


@pytest.fixture(autouse=True)
def other_processor() -> Iterator[None]:
    with processors.OtherRounding() if processors.rounds_otherwise() else nullcontext():
        yield


@pytest.fixture
def tiny() -> Backbone:
    return load_backbone("tiny")


@pytest.fixture(scope="session")
def smollm() -> Backbone:
    if not any(alias == "smollm2-135m" for alias, _, _ in cached_models()):
        pytest.skip("smollm2-135m is not in the cache: run `make model`")
    return load_backbone("smollm2-135m")
