"""Plans: sums by hand, what grows with what, and settings that make a run fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import burnish
from burnish.config.recipe import Recipe
from burnish.planning import memory
from burnish.planning.estimate import STAGE_SECONDS, DataSize
from burnish.planning.machine import Machine, free_memory, this_machine
from burnish.planning.memory import Part
from burnish.planning.plan import make_plan, settings_that_fit
from burnish.planning.shape import ModelShape

SMOLLM2 = ModelShape(30, 576, 1536, 9, 3, 64, 49152, True, 8192)
SEVEN = ModelShape(32, 4096, 14336, 32, 8, 128, 32000, False, 32768)
DATA = DataSize(300, 50, 300, 100, 0, 0, prompt_tokens=40.0, answer_tokens=35.0)
CPU = Machine("a CPU", 16e9, 400e9, 20e9)


STAGES = "stages={sft: {}, sample: {}, compare: {}, reward: {}, ppo: {start: sft}, evaluate: {}}"


def _recipe(*changes: str) -> Recipe:
    return burnish.load(
        None, *([] if changes and changes[0].startswith("stages=") else [STAGES]), *changes
    )


def test_copies_by_hand():
    """Policy and critic with two moments each, one gradient, two frozen models; a shared gradient
    buffer of the head."""
    stage = make_plan(
        _recipe("ppo.share_backbone=false"), SMOLLM2, DATA, CPU, stages=["ppo"]
    ).stages[0]
    sizes = {part.name: part.size for part in stage.parts}
    n = SMOLLM2.parameters
    assert sizes["policy"] == sizes["critic"] == 12 * n
    assert sizes["gradient"] == 4 * n + 4 * 49152 * 576
    assert sizes["reward model"] == sizes["reference"] == 4 * n
    assert stage.peak == pytest.approx(memory.SLACK * sum(sizes.values()))


def test_adapters_need_less_than_copies_and_smaller_micro_batches_less_than_large():
    peak = lambda *changes: make_plan(_recipe(*changes), SMOLLM2, DATA, CPU, stages=["ppo"]).peak  # noqa: E731
    copies, adapters, small = (
        peak("ppo.share_backbone=false"),
        peak(),
        peak("ppo.optimizer.micro_batch_tokens=512"),
    )
    assert small < adapters < copies


def test_time_of_training_is_flops_over_rate():
    def sft(epochs):
        return (
            make_plan(_recipe(f"sft.epochs={epochs}", "sft.eval_every=100000"), SMOLLM2, DATA, CPU)
            .stages[0]
            .seconds
        )

    one_pass = SMOLLM2.training_flops(300 * 75, 300 * 35, lora=True, context=37.5) / (0.5 * 400e9)
    assert sft(3) - sft(2) == pytest.approx(one_pass)


def test_a_run_that_does_not_fit_is_told_what_would():
    tight = Machine("a small CPU", 4.6e9, 400e9, 20e9)
    recipe = _recipe("ppo.share_backbone=false", "sft.lora=null", "reward.lora=null")
    assert make_plan(recipe, SMOLLM2, DATA, tight).peak > tight.memory
    changes = settings_that_fit(recipe, SMOLLM2, DATA, tight)
    assert changes is not None
    assert "ppo.share_backbone=true" in changes
    # as a user would type them
    fixed = _recipe("ppo.share_backbone=false", "sft.lora=null", "reward.lora=null", *changes)
    assert make_plan(fixed, SMOLLM2, DATA, tight).peak <= tight.memory
    assert settings_that_fit(recipe, SEVEN, DATA, tight) is None


def test_the_mildest_change_comes_first():
    def changes(*stages: str) -> tuple[str, ...] | None:
        peak = make_plan(_recipe(), SMOLLM2, DATA, CPU, stages=stages).peak
        almost = Machine("almost enough", peak - 1e8, 400e9, 20e9)
        return settings_that_fit(_recipe(), SMOLLM2, DATA, almost, stages=stages)

    trainers = ("sft", "reward", "ppo")
    assert changes(*trainers) == tuple(
        f"{stage}.optimizer.micro_batch_tokens=512" for stage in trainers
    )
    assert changes("evaluate") == tuple(
        f"{s}.sampling.quantization=int8" for s in ("sample", "reward", "ppo", "evaluate")
    )


def test_a_gpu_is_not_offered_products_that_it_does_not_have():
    peak = make_plan(
        _recipe(),
        SEVEN,
        DATA,
        Machine("a GPU", 80e9, 990e12, 3350e9, weight_bytes=2, is_cpu=False),
        stages=["evaluate"],
    ).peak
    almost = Machine("a GPU", peak - 1e8, 990e12, 3350e9, weight_bytes=2, is_cpu=False)
    assert settings_that_fit(_recipe(), SEVEN, DATA, almost, stages=["evaluate"]) is None


def test_a_cpu_is_not_offered_products_that_it_does_not_have():
    peak = make_plan(_recipe(), SEVEN, DATA, CPU, stages=["evaluate"]).peak
    for has in (True, False):
        almost = Machine("a CPU", peak - 1e8, 400e9, 20e9, int8=has)
        changes = settings_that_fit(_recipe(), SEVEN, DATA, almost, stages=["evaluate"])
        assert any("quantization=int8" in change for change in changes or ()) == has


def test_seven_billion_parameters_on_gpus():
    """A float32 shard, moments and the gradient: 16 bytes a trained weight, spread over the
    devices."""
    eight = Machine("8 GPUs", 80e9, 990e12, 3350e9, devices=8, weight_bytes=2, is_cpu=False)
    one = Machine("1 GPU", 80e9, 990e12, 3350e9, devices=1, weight_bytes=2, is_cpu=False)
    recipe = _recipe("ppo.share_backbone=false", "sft.lora=null", "reward.lora=null")
    sft = make_plan(recipe, SEVEN, DATA, eight).stages[0]
    sizes = {part.name: part.size for part in sft.parts}
    assert sizes["model"] + sizes["gradient"] == pytest.approx(16 * SEVEN.parameters / 8)
    assert make_plan(recipe, SEVEN, DATA, eight).peak < eight.memory
    assert make_plan(recipe, SEVEN, DATA, one).peak > one.memory
    assert (
        make_plan(recipe, SEVEN, DATA, eight).seconds < make_plan(recipe, SEVEN, DATA, one).seconds
    )


def test_annotation_by_hand():
    """288 prompts, 3 annotators, 4 answers of 35 tokens: 135 words at 200 a minute, and 20 s of
    thought, a ranking."""
    recipe = _recipe(
        "sample.count=288", "sample.responses=4", "compare.by.panel.annotators_per_item=3"
    )
    asked = make_plan(recipe, SMOLLM2, DATA, CPU).annotation
    assert asked is not None
    assert asked.rankings == 864
    assert asked.hours == pytest.approx(864 * (0.75 * (40 + 4 * 35) / 200 * 60 + 20) / 3600)


def test_peoples_comparisons_need_no_collecting():
    data = DataSize(0, 0, 300, 100, 300, 100, 100.0, 50.0)
    recipe = _recipe("stages=[sft, reward, ppo, evaluate]", "data.comparisons=c.jsonl")
    made = make_plan(recipe, SMOLLM2, data, CPU)
    assert [stage.name for stage in made.stages] == ["sft", "reward", "ppo", "evaluate"]
    assert made.annotation is None


def test_this_machine():
    machine = this_machine(seconds=0.02)
    assert machine.flops > 1e8
    assert machine.bandwidth > 1e8
    assert 0 < free_memory() < 1e14


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from burnish.planning import machine

    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 200000\n")
    monkeypatch.setattr(machine, "_GROUP", tmp_path)
    assert free_memory() == 500_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 500_000


def test_preference_optimisation_by_hand():
    """All 300 prompts with 4 answers each: a pass of training, one of the reference,
    evaluations."""
    changes = ("stages=[sft, sample, compare, dpo]", "dpo.eval_every=100000", "data.heldout=0.1")

    def stage(*more: str):
        return make_plan(_recipe(*changes, *more), SMOLLM2, DATA, CPU, stages=["dpo"]).stages[0]

    tokens, scored, rate = 40 + 4 * 35, 4 * 35, 0.5 * 400e9
    one_pass = (
        SMOLLM2.training_flops(300 * tokens, 300 * scored, lora=True, context=tokens / 2) / rate
    )
    reads = SMOLLM2.forward_flops(300 * tokens, 300 * scored, context=tokens / 2) / rate
    assert stage("dpo.epochs=2").seconds - stage().seconds == pytest.approx(one_pass, rel=0.01)
    assert stage().seconds - stage("dpo.loss.name=simpo").seconds == pytest.approx(reads, rel=1e-6)
    assert stage("dpo.loss.name=kto").seconds > stage().seconds
    assert stage("dpo.pairs=extremes").seconds < 0.7 * stage().seconds
    # with adapters no second model is held; with every weight trained, none either
    names = {part.name for part in stage().parts}
    assert "reference" not in names
    full = stage("dpo.lora=null")
    assert {part.name for part in full.parts} == {
        "program",
        "model",
        "gradient",
        "activations of a micro-batch",
        "logits of a chunk",
    }


def test_rounds_are_planned_one_by_one():
    """Each has sampling, comparisons and training of its own; comparing by a reward model reads
    every answer, a panel none."""
    once = ("stages=[sft, reward, sample, compare, dpo]", "data.comparisons=c.jsonl")
    rounds = (
        "stages={sft: {}, reward: {}, rounds: {repeat: 2, stages: [sample, compare, dpo]}}",
        once[1],
    )
    one, two = (make_plan(_recipe(*changes), SMOLLM2, DATA, CPU) for changes in (once, rounds))
    names = [
        f"rounds.{number}.{name}" for number in (1, 2) for name in ("sample", "compare", "dpo")
    ]
    assert [stage.name for stage in two.stages] == ["sft", "reward", *names]
    assert [stage.seconds for stage in two.stages[2:]] == 2 * [
        stage.seconds for stage in one.stages[2:]
    ]
    judged = make_plan(_recipe(*once, "compare.by={reward: reward}"), SMOLLM2, DATA, CPU)
    compared = {
        plan.stages[3].seconds: {part.name for part in plan.stages[3].parts}
        for plan in (one, judged)
    }
    assert sorted(compared) == [one.stages[3].seconds, judged.stages[3].seconds]
    assert "reward model" in compared[judged.stages[3].seconds] - compared[one.stages[3].seconds]
    assert one.annotation is not None
    assert judged.annotation is None


def test_answers_of_several_policies_are_all_sampled_and_compared():
    one, two = (
        make_plan(
            _recipe("stages=[sft, sample, compare]", f"sample.models={models}"), SMOLLM2, DATA, CPU
        )
        for models in ("[sft]", "[base, sft]")
    )
    assert two.stages[1].seconds - one.stages[1].seconds == pytest.approx(
        one.stages[1].seconds - STAGE_SECONDS
    )
    assert one.annotation is not None
    assert two.annotation is not None
    assert (one.annotation.responses, two.annotation.responses) == (4, 8)


def test_what_each_stage_reads_is_its_own():
    """Sizes by the stage's name: twice the demonstrations take twice the passes."""
    recipe = _recipe(
        "stages={a: {kind: sft}, b: {kind: sft}}", "a.eval_every=100000", "b.eval_every=100000"
    )
    sizes = {"a": DATA, "b": replace(DATA, demonstrations=600)}
    plan = make_plan(recipe, SMOLLM2, sizes, CPU)
    one_pass = SMOLLM2.training_flops(300 * 75, 300 * 35, lora=True, context=37.5) / (0.5 * 400e9)
    # in two epochs
    assert plan.stages[1].seconds - plan.stages[0].seconds == pytest.approx(2 * one_pass)


def test_a_reward_model_that_is_no_adapter_is_a_model_of_its_own_beside_adapters():
    shared, own = (
        {
            part.name: part.size
            for part in (
                make_plan(_recipe(*changes), SMOLLM2, DATA, CPU, stages=["ppo"]).stages[0].parts
            )
        }
        for changes in ((), ("reward.lora=null",))
    )
    assert "reward adapter" in shared
    assert "reward adapter" not in own
    assert own["reward model"] == 4 * SMOLLM2.parameters


def _online(*changes: str) -> Recipe:
    return _recipe("stages=[grpo]", "grpo.rewards=[{name: maths}]", *changes)


def test_the_online_stage_counts_the_roles_that_its_algorithm_needs():
    """Copies: GRPO keeps a frozen reference, Dr. GRPO none, PPO a critic that is trained as
    well."""
    plans = {
        name: (
            make_plan(
                _online(f"grpo.algorithm.name={name}", "grpo.share_backbone=false"),
                SMOLLM2,
                DATA,
                CPU,
            ).stages[0]
        )
        for name in ("grpo", "dr-grpo", "ppo")
    }
    sizes = {name: {part.name: part.size for part in stage.parts} for name, stage in plans.items()}
    n = SMOLLM2.parameters
    assert sizes["grpo"]["reference"] == 4 * n
    assert "reference" not in sizes["dr-grpo"]
    assert sizes["ppo"]["critic"] == sizes["ppo"]["policy"] == 12 * n
    assert "critic" not in sizes["grpo"]
    assert plans["dr-grpo"].seconds < plans["grpo"].seconds < plans["ppo"].seconds


def test_a_group_runs_its_prompt_once():
    """Two prompts of 8 answers cost less than 16 of one, by the forward and backward work of 14
    prompts."""

    def seconds(prompts, size):
        return make_plan(
            _online(
                "grpo.steps=1",
                f"grpo.prompts_per_step={prompts}",
                f"grpo.responses_per_prompt={size}",
                "grpo.algorithm={name: ppo, beta: 0}",
            ),
            SMOLLM2,
            DATA,
            CPU,
        ).seconds

    assert seconds(2, 8) < seconds(16, 1)


def test_milder_settings_for_the_online_stage():
    changes = settings_that_fit(
        _online("grpo.share_backbone=false"), SMOLLM2, DATA, Machine("small", 2.4e9, 400e9, 20e9)
    )
    assert changes is not None
    assert "grpo.share_backbone=true" in changes


def test_the_sampler_sleeps_while_roles_are_trained():
    lasting, passing = Part("model", 10.0), Part("activations", 5.0, passing=True)
    assert memory.in_turns([lasting, passing], Part("sampler", 4.0)) == [lasting, passing]
    assert memory.in_turns([lasting, passing], Part("sampler", 6.0)) == [
        lasting,
        Part("sampler", 6.0),
    ]


def test_the_largest_micro_batch_by_hand():
    spread = 1 + 2.5 * memory.VARIATION / 100**0.5  # of a batch of 100 examples: an eighth
    # one, larger than the mean
    assert memory.micro_batch(500, 1024, examples=100) == pytest.approx(500 * spread)
    # some batches fit into one that is nearly full
    assert memory.micro_batch(1000, 1024, examples=100) == 1024
    # two halves
    assert memory.micro_batch(1400, 1024, examples=100) == pytest.approx(memory.HEAP * 700 * spread)
    # few examples: some batches are twice as long as others
    assert memory.micro_batch(1400, 1024, examples=4) == pytest.approx(memory.HEAP * 1024)


def test_a_gpu_is_planned_with_its_own_attention_and_precision():
    """Attention's inputs are kept padded there; in bfloat16 a step reads half of the decoder's
    bytes."""
    gpu = Machine("a GPU", 80e9, 990e12, 3350e9, is_cpu=False)
    recipe = _recipe("sft.batch_size=1")  # one micro-batch, so that a CPU's heap has no holes yet
    here, there = (
        make_plan(recipe, SMOLLM2, DATA, m, stages=["sft"]).stages[0] for m in (CPU, gpu)
    )
    kept = [
        next(p.size for p in s.parts if p.name.startswith("activations")) for s in (here, there)
    ]
    layer = 4 * SMOLLM2.width + 3 * SMOLLM2.mlp  # numbers a token, with attention's to be added
    attention = [2 * (SMOLLM2.heads + SMOLLM2.kv_heads), 7 * SMOLLM2.heads]
    numbers = [
        SMOLLM2.layers * (layer + a * SMOLLM2.head_dim) + 6 * SMOLLM2.mlp + 4 * SMOLLM2.width
        for a in attention
    ]
    assert kept[1] / kept[0] == pytest.approx(numbers[1] / numbers[0])
    wide, narrow = (
        make_plan(_recipe(f"model.dtype={p}"), SEVEN, DATA, gpu, stages=["sample"]).seconds
        for p in ("float32", "bfloat16")
    )
    assert narrow < wide


def test_a_model_that_is_sampled_through_transformers_has_no_copy_and_takes_longer():
    fallback = replace(SMOLLM2, fallback="it does not run models of type phi3")
    native, other = (
        make_plan(_recipe(), shape, DATA, CPU, stages=["sample"]).stages[0]
        for shape in (SMOLLM2, fallback)
    )
    sampler = [part for stage in (native, other) for part in stage.parts if part.name == "sampler"]
    assert sampler[0].size - sampler[1].size == pytest.approx(4.0 * SMOLLM2.decoder)
    assert other.seconds > native.seconds
    changes = settings_that_fit(_recipe(), fallback, DATA, Machine("small", 3e9, 400e9, 20e9)) or ()
    assert not any("int8" in change for change in changes)


def test_a_shape_says_how_its_model_is_sampled():
    config = dict(
        model_type="phi3",
        num_attention_heads=4,
        hidden_size=64,
        num_hidden_layers=2,
        intermediate_size=96,
        vocab_size=264,
        pad_token_id=0,
    )
    assert "phi3" in str(ModelShape.from_config(config).fallback)
    assert ModelShape.from_config({**config, "model_type": "llama"}).fallback is None


QWEN = {
    "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936,
    "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip


def _held(config: dict[str, object], *changes: str) -> dict[str, float]:
    recipe = _recipe("stages={ppo: {rewards: [{name: length}]}}", *changes)
    plan = make_plan(recipe, ModelShape.from_config(config), DATA, CPU)
    return {part.name: part.size for part in plan.stages[0].parts}


def test_what_frozen_matrices_take_by_hand():
    """int8: a byte a weight; 4 bits: half a byte and a sixteenth for the scales. Embedding and head
    in bfloat16 where the model is stored in it and its matrices are not multiplied in float32."""
    shape = ModelShape.from_config(QWEN)
    rest = shape.parameters - shape.decoder - shape.head
    stored = {**QWEN, "dtype": "bfloat16"}
    bits = {"none": 4.0, "int8": 1.0, "int4": 0.5625, "nf4": 0.5625}
    for kind, size in bits.items():
        change = f"ppo.lora.quantization={kind}"
        held = size * shape.decoder + 4 * rest
        assert _held(QWEN, change)["backbone"] == pytest.approx(held + 4 * shape.head)
        narrow = 4 if kind == "none" else 2
        assert _held(stored, change)["backbone"] == pytest.approx(held + narrow * shape.head)
        assert ("widened matrix" in _held(QWEN, change, "ppo.sampling.max_new_tokens=8")) == (
            kind != "none"
        )
    both = _held(stored, "model.dtype=bfloat16")
    assert both["backbone"] == pytest.approx(2 * shape.decoder + 4 * rest + 2 * shape.head)


def test_the_engine_widens_what_is_held_narrow():
    """A float32 copy of the decoder, and of an embedding that the backbone holds in bfloat16."""
    shape = ModelShape.from_config(QWEN)
    stored = {**QWEN, "dtype": "bfloat16"}
    samples = ("ppo.optimizer.micro_batch_tokens=16", "ppo.lora.quantization=int8")
    wide, narrow = (_held(config, *samples)["sampler"] for config in (QWEN, stored))
    assert narrow - wide == pytest.approx(4 * shape.head)


def test_what_is_evaluated_is_in_float32_whatever_is_trained_in():
    recipe = _recipe(STAGES, "model.dtype=bfloat16")
    stages = make_plan(recipe, SMOLLM2, DATA, CPU, stages=["evaluate"]).stages
    sizes = {part.name: part.size for part in stages[0].parts}
    assert sizes["reference"] == sizes["model"] == 4 * SMOLLM2.parameters
