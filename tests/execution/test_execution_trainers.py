"""Every trainer on two ranks: the metrics and the weights of one process."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import ranked
import torch


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """(metrics, weights) of every training, in one process and on two ranks."""
    folder = tmp_path_factory.mktemp("trainings")

    def works(number: str) -> dict[str, Any]:
        return {
            name: partial(train, folder / number / name) for name, train in ranked.TRAININGS.items()
        }

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = ranked.every(works("one"))
    torch.set_num_threads(threads)
    return {"one": one, "two": ranked.on_ranks(partial(ranked.every, works("two")))}


@pytest.mark.parametrize("name", ranked.TRAININGS)
def test_two_ranks_train_as_one_process(outcomes: dict[str, dict[str, Any]], name: str):
    """To 1e-6 of each metric (of those near 0, to 1e-6 of a nat), with the same rollouts: as many
    tokens, the same rewards."""
    (rows, weights), (theirs, other) = outcomes["one"][name], outcomes["two"][name]
    assert len(rows) == len(theirs) > 0
    for row, there in zip(rows, theirs, strict=True):
        assert row.keys() == there.keys()
        for metric, value in row.items():
            assert math.isclose(value, there[metric], rel_tol=2e-6, abs_tol=2e-6), metric
        assert [row.get(m) for m in ("reward", "completion_length")] == [
            there.get(m) for m in ("reward", "completion_length")
        ]
    assert weights.keys() == other.keys()
    for weight, tensor in weights.items():
        torch.testing.assert_close(tensor, other[weight], rtol=1e-4, atol=2e-6)
