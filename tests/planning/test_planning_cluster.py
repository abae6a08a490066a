"""Two runs on paper: every number to two digits."""

from dataclasses import replace

import pytest

from burnish.planning import cluster
from burnish.planning.cluster import Division, Round, divisions, held, training
from burnish.planning.machine import Machine
from burnish.planning.shape import ModelShape

SEVENTY = ModelShape.from_config(
    {
        "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "intermediate_size": 28672, "vocab_size": 128256,
        "max_position_embeddings": 8192,
    }
)  # fmt: skip
SEVEN = ModelShape.from_config(
    {
        "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064,
        "max_position_embeddings": 8192,
    }
)  # fmt: skip
H100 = Machine("H100", 80e9, 989e12, 3.35e12, devices=64, weight_bytes=2, is_cpu=False)
NODE = replace(H100, devices=8)
PPO = Round(SEVENTY, 1024, 512, 1024, 4096, None, learners=2, frozen=2, passes=4)
ADAPTERS = replace(PPO, rank=16, frozen=0)
GRPO = Round(SEVEN, 1024, 512, 2048, 16384, None, learners=1, frozen=1, passes=2)


def close(value: float) -> object:
    return pytest.approx(value, rel=0.03)


def gigabytes(parts: list[cluster.Part]) -> float:
    return sum(part.size for part in parts) / 1e9


def test_the_shapes_are_those_of_the_tables():
    assert SEVENTY.parameters / 1e9 == close(70.55)
    assert SEVENTY.adapter(16) / 1e6 == close(207)
    assert 2 * SEVENTY.cache_per_token == 320 * 1024
    assert SEVEN.parameters / 1e9 == close(7.62)
    assert SEVEN.adapter(16) / 1e6 == close(40)


def test_memory_of_seventy_billion():
    assert gigabytes(held(PPO, 64)) == close(2 * 13.2 + 2 * 2.2)
    assert gigabytes(training(PPO, 64)) == close(49.9)
    assert gigabytes(training(ADAPTERS, 64)) == close(17.0)
    assert gigabytes(training(ADAPTERS, 8)) == close(33.0)
    assert gigabytes([part for part in training(PPO, 64) if part.name in _WORK]) == close(14.7)


_WORK = ("gathered layers", "inputs of layers", "one layer's activations", "logits of a chunk")


def test_memory_of_seven_billion():
    assert gigabytes(training(GRPO, 8)) == close(26.8)
    assert gigabytes(training(replace(GRPO, rank=16, frozen=0), 8)) == close(11.6)


def _of(work: Round, gpus: Machine, engines: int) -> Division:
    return next(one for one in divisions(work, gpus) if one.engines == engines)


def test_seventy_billion_together():
    one = _of(PPO, H100, 0)
    assert one.tensor_parallel == 8
    assert one.room == close(342)
    assert one.generate == close(17)
    assert one.passes == close(35)
    assert one.update == close(69)
    assert one.publish == close(2.5)
    assert one.in_step == one.one_off == close(124)
    assert one.used == close(0.34)


def test_seventy_billion_apart():
    one = _of(PPO, H100, 16)
    assert one.generate == close(54)
    assert one.passes + one.update == close(139)
    assert one.publish == close(2.8)
    assert (one.in_step, one.one_off) == (close(196), close(141))
    assert one.idle == pytest.approx(0.17, abs=0.01)
    halves = [one for one in divisions(PPO, H100) if one.engines == 32]
    assert not halves, "32 trainers hold 85 GB each"
    assert _of(PPO, replace(H100, memory=100e9), 32).one_off == close(211)


def test_one_node_takes_seventy_billion_with_adapters():
    one = _of(ADAPTERS, NODE, 0)
    assert one.room == close(540)
    assert not divisions(PPO, NODE)


def test_seven_billion_together_and_apart():
    one = _of(GRPO, NODE, 0)
    assert one.tensor_parallel == 1
    assert one.room == close(282)
    assert (one.generate, one.passes, one.update) == (close(29), close(24), close(47))
    assert one.in_step == close(100)
    assert one.used == close(0.28)
    apart = _of(GRPO, NODE, 2)
    assert (apart.one_off, apart.in_step) == (close(95), close(180))
    assert apart.idle == pytest.approx(0.02, abs=0.01)
    assert _of(GRPO, NODE, 4).one_off == close(142)


def test_publishing_to_another_machine():
    slow = replace(H100, link=1.25e9)
    assert cluster.publishing(PPO, slow, apart=True) == close(113)
    assert cluster.publishing(ADAPTERS, slow, apart=True) == close(0.33)
    assert cluster.publishing(ADAPTERS, H100, apart=True) == close(0.0083)


def test_an_engine_that_no_node_holds_has_no_division():
    small = replace(H100, memory=20e9)
    assert cluster.tensor_parallel(SEVENTY, small) is None
    assert divisions(PPO, small) == []
