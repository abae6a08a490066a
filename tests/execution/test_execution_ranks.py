"""Ranks: an update, a checkpoint and what is saved are those of one process, whatever is dealt to
whom."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch

from burnish import ranks
from burnish.models.trunk import Trunk, full, part

CUTS = {
    "even": [[0, 1, 2], [3, 4, 5]],
    "uneven": [[0, 1], [2, 3], [4, 5]],
    "fewer than ranks": [[0, 1, 2, 3, 4, 5]],
    "none": [],
}
KINDS = ("lora", "full", "full head")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


def _works() -> dict[str, Any]:
    works = {
        f"{kind}, {name}": partial(ranked.updates, kind, pieces)
        for kind in ("lora", "full")
        for name, pieces in CUTS.items()
    }
    works["again"] = partial(ranked.updates, "lora", CUTS["even"], recompute=True)
    return works


@pytest.fixture(scope="module")
def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    """What one process, two ranks and, behind them, one, two and three have made of each other's
    checkpoints."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = ranked.every(
        {
            **_works(),
            **{f"files, {k}": partial(ranked.files_of, k, folder / "one" / k) for k in ("lora",)},
            **{
                f"whole, {k}": partial(
                    ranked.state_of, k, folder / f"whole {k}", before=None, steps=4
                )
                for k in KINDS
            },
            **{
                f"half, {k}": partial(ranked.state_of, k, folder / f"one {k}", before=None, steps=2)
                for k in KINDS
            },
        }
    )
    two = ranked.on_ranks(
        partial(
            ranked.every,
            {
                **_works(),
                "nan": ranked.nan_on_one_rank,
                "files, lora": partial(ranked.files_of, "lora", folder / "two" / "lora"),
                **{
                    f"{name}, {k}": partial(
                        ranked.state_of, k, folder / f"{name} {k}",
                        before=folder / f"{before} {k}" if before else None, steps=steps
                    )
                    for k in KINDS
                    for name, before, steps in (
                        ("whole of two", None, 4),
                        ("two", None, 2),
                        ("two behind two", "two", 2),
                        ("two behind one", "one", 2),
                    )
                },
            },
        )
    )  # fmt: skip
    behind = ranked.every(
        {
            f"one behind two, {k}": partial(
                ranked.state_of, k, folder / f"end {k}", before=folder / f"two {k}", steps=2
            )
            for k in KINDS
        }
    )
    torch.set_num_threads(threads)
    return {"one": {**one, **behind}, "two": two}


def _close(one: Any, other: Any, *, exact: bool = False) -> None:
    for step, there in zip(one[0], other[0], strict=True):
        assert step.keys() == there.keys()
        for name, value in step.items():
            assert math.isclose(value, there[name], rel_tol=0 if exact else 1e-6), name
    assert one[1].keys() == other[1].keys()
    for name, tensor in one[1].items():
        if exact:
            assert torch.equal(tensor, other[1][name]), name
        else:
            torch.testing.assert_close(tensor, other[1][name], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", _works())
def test_updates_are_those_of_one_process(outcomes: dict[str, Any], name: str):
    _close(outcomes["one"][name], outcomes["two"][name])


def test_adapters_get_the_same_weights_bit_for_bit_where_sums_are_of_two(outcomes: dict[str, Any]):
    one, two = (outcomes[side]["lora, even"][1] for side in ("one", "two"))
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_what_is_no_number_on_one_rank_skips_the_step_on_all(outcomes: dict[str, Any]):
    broken, sound, skipped, same = outcomes["two"]["nan"]
    assert math.isnan(broken["loss"])
    assert same
    assert skipped == 1
    assert math.isfinite(sound["loss"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_goes_on_bit_for_bit_on_as_many_ranks(outcomes: dict[str, Any], kind: str):
    metrics, weights = outcomes["two"][f"whole of two, {kind}"]
    _close((metrics[2:], weights), outcomes["two"][f"two behind two, {kind}"], exact=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "name"), [("one", "one behind two"), ("two", "two behind one")])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(
    outcomes: dict[str, Any], kind: str, side: str, name: str
):
    """The embedding is the head too, and stands in the checkpoint once."""
    metrics, weights = outcomes["one"][f"whole, {kind}"]
    _close((metrics[2:], weights), outcomes[side][f"{name}, {kind}"])


def test_no_rank_writes_more_than_its_share(outcomes: dict[str, Any], folder: Path):
    shards = sorted((folder / "two full" / "checkpoint-2").glob("shard-*.safetensors"))
    (whole,) = (folder / "one full" / "checkpoint-2").glob("*.safetensors")
    assert len(shards) == 2
    assert all(path.stat().st_size < 0.6 * whole.stat().st_size for path in shards)


def test_what_is_saved_is_what_one_process_saves(outcomes: dict[str, Any], folder: Path):
    assert outcomes["one"]["files, lora"] == outcomes["two"]["files, lora"]
    one, two = (folder / side / "lora" for side in ("one", "two"))
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    assert len(names) > 8
    assert [n for n in names if (one / n).read_bytes() != (two / n).read_bytes()] == []


class _Pair:
    """A group of which this process is the second rank, and the first has said and gathered
    this."""

    rank, world = 1, 2

    def __init__(self, said: Any = None, gathered: Any = None) -> None:
        self._said, self._gathered = said, gathered

    def tell(self, value: Any) -> Any:
        return self._said

    def gather(self, value: Any) -> list[Any]:
        return [self._gathered, value]


def test_one_process_is_the_identity():
    assert (ranks.rank(), ranks.world(), ranks.first()) == (0, 1, True)
    assert ranks.told(lambda: 3) == 3
    assert ranks.dealt(lambda x: 2 * x, [1, 2, 3]) == [2, 4, 6]
    assert ranks.dealt(lambda x: x, []) == []
    tensor = torch.ones(2)
    assert full(tensor) is tensor
    assert part(tensor) is tensor
    assert Trunk(torch.nn.Linear(2, 2)).say(lambda: 5) == 5


def test_pieces_are_dealt_in_turn_and_come_back_in_their_order():
    calls = []

    def of(piece: int) -> int:
        calls.append(piece)
        return 10 * piece

    with ranks.joined(_Pair(gathered=[10, 30, 50])):
        assert ranks.dealt(of, [1, 2, 3, 4, 5]) == [10, 20, 30, 40, 50]
    assert calls == [2, 4, 1]  # as many as the first rank's, the last for company


def test_an_error_of_the_first_rank_is_raised_on_the_others():
    with ranks.joined(_Pair(said=(None, KeyError("x")))), pytest.raises(KeyError, match="x"):
        ranks.told(lambda: pytest.fail("the second rank computes nothing"))
