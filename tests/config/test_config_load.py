"""Reading a configuration: what a file and overrides mean, and what each mistake is told as."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

import burnish
from burnish.config.describe import describe_fields
from burnish.config.hints import ABSENT, ALIASES
from burnish.config.kinds import KINDS
from burnish.config.load import load_config
from burnish.config.recipe import Recipe
from burnish.config.yaml_file import dump_yaml
from burnish.errors import UserError


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Adam(Part):
    kind: Literal["adam"] = "adam"
    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)


class Sgd(Part):
    kind: Literal["sgd"] = "sgd"
    rate: float = 0.1
    momentum: float = 0.0


class Suite(Part):
    name: str
    weight: float = 1.0


class Lora(Part):
    r: Annotated[int, Field(ge=1)] = 8
    alpha: float = 16.0


class Stage(Part):
    epochs: Annotated[int, Field(ge=1)] = 2
    lora: Lora | None = Lora(r=4)
    optimizer: Annotated[Adam | Sgd, Field(discriminator="kind")] = Adam(rate=5e-4)
    schedule: Literal["cosine", "linear"] = "cosine"


class Root(Part):
    name: str = "run"
    active: bool = True
    limit: int | None = None
    clip: Annotated[float, Field(gt=0.0)] = 0.2
    numbers: list[float] = []
    suites: list[Suite] = []
    stage: Stage = Stage()
    lora: Lora | None = None

    @model_validator(mode="after")
    def _fits(self) -> Root:
        if self.limit == 13:
            raise ValueError("limit is 13, of all numbers")
        return self


class Needy(Part):
    seed: int
    part: Suite


def load(text: str, tmp_path: Path, *overrides: str, **options: Any) -> Root:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(Root, path, overrides, **options)


def refusal(text: str, tmp_path: Path, *overrides: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(text, tmp_path, *overrides, **options)
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_nothing_given_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(Root, None) == Root()
    for empty in ("", "# only a comment\n", "---\n", "{}"):
        assert load(empty, tmp_path) == Root()


def test_naming_one_key_leaves_the_others_of_that_place(tmp_path: Path) -> None:
    loaded = load("stage: {lora: {alpha: 2}, optimizer: {betas: [0.5, 0.6]}}", tmp_path)
    assert loaded.stage.lora == Lora(r=4, alpha=2.0)
    assert loaded.stage.optimizer == Adam(rate=5e-4, betas=(0.5, 0.6))
    assert loaded.stage.epochs == 2


def test_null_switches_an_optional_section_off_and_a_mapping_on(tmp_path: Path) -> None:
    loaded = load("stage: {lora: null}\nlora: {}", tmp_path)
    assert loaded.stage.lora is None
    assert loaded.lora == Lora()
    assert load("", tmp_path, "lora.r=2").lora == Lora(r=2)
    assert load("stage: {lora: null}", tmp_path, "stage.lora.r=3").stage.lora == Lora(r=3)


def test_another_kind_of_section_starts_afresh(tmp_path: Path) -> None:
    assert load("stage: {optimizer: {kind: sgd, momentum: 0.9}}", tmp_path).stage.optimizer == Sgd(
        momentum=0.9
    )
    assert load(
        "", tmp_path, "stage.optimizer.kind=sgd", "stage.optimizer.rate=2.0"
    ).stage.optimizer == Sgd(rate=2.0)
    assert load("", tmp_path, "stage.optimizer={kind: sgd}").stage.optimizer == Sgd()
    assert load("stage: {optimizer: {kind: adam}}", tmp_path).stage.optimizer == Adam(rate=5e-4)


def test_a_key_named_as_a_discriminator_elsewhere_is_an_ordinary_key() -> None:
    class Kinded(Part):
        kind: str = "plain"
        other: int = 1

    class Both(Part):
        plain: Kinded = Kinded(other=2)
        optimizer: Annotated[Adam | Sgd, Field(discriminator="kind")] = Adam()

    assert load_config(Both, None, ["plain.kind=special"]).plain == Kinded(kind="special", other=2)


def test_order_of_defaults_file_and_overrides(tmp_path: Path) -> None:
    loaded = load("limit: 2\nstage: {epochs: 8}", tmp_path, "stage.epochs=9", "stage.epochs=10")
    assert (loaded.limit, loaded.stage.epochs, loaded.clip) == (2, 10, type(loaded)().clip)


def test_required_keys_may_come_from_overrides() -> None:
    loaded = load_config(Needy, None, ["seed=3", "part.name=a"])
    assert loaded == Needy(seed=3, part=Suite(name="a"))
    with pytest.raises(UserError, match=r'field "part\.name": this is required, and missing'):
        load_config(Needy, None, ["seed=3", "part.weight=2"])


def test_list_items_by_index(tmp_path: Path) -> None:
    text = "numbers: [1, 2]\nsuites: [{name: a}, {name: b, weight: 3}]"
    loaded = load(text, tmp_path, "numbers.1=5", "suites.1.name=c", "stage.optimizer.betas.0=0.5")
    assert loaded.numbers == [1.0, 5.0]
    assert loaded.suites == [Suite(name="a"), Suite(name="c", weight=3.0)]
    assert loaded.stage.optimizer == Adam(rate=5e-4, betas=(0.5, 0.999))
    assert "item 2 of a list of 2" in refusal(text, tmp_path, "numbers.2=5")
    assert "item -1 of a list of 2" in refusal(text, tmp_path, "numbers.-1=5")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E+4", 1e4),
        ("-2e3", None),
        ("1.5e-3", 1.5e-3),
        (".5e1", 5.0),
        ("5.e1", 50.0),
        ("3", 3.0),
        (".inf", float("inf")),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, written: str, value: float | None) -> None:
    if value is None:
        assert "given -2000.0" in refusal(f"clip: {written}", tmp_path)
        return
    assert load(f"clip: {written}", tmp_path).clip == value
    assert load("", tmp_path, f"clip={written}").clip == value


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-01",
        "2024-13-45",
        "1e",
        "e5",
        "no",
        "on",
        "y",
        "1:30",
        "010",
        "08",
        "=",
        "0o9",
        "v1.2",
        "'1e-4'",
        '"yes"',
        "über",
    ],
)
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    assert load(f"name: {text}", tmp_path).name == text.strip("'\"")
    assert load("", tmp_path, f"name={text}").name == text.strip("'\"")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip: -1", 'recipe.yaml, row 1, field "clip": expected more than 0, given -1.'),
        ("\n\nclip: fast", 'recipe.yaml, row 3, field "clip": expected a number, given "fast".'),
        (
            "stage:\n  epochs: 2.5",
            'recipe.yaml, row 2, field "stage.epochs": expected a whole number, given 2.5.',
        ),
        (
            "stage: {epochs: true}",
            'recipe.yaml, row 1, field "stage.epochs": expected a whole number, given true.',
        ),
        (
            "stage: {epochs: '3'}",
            (
                'recipe.yaml, row 1, field "stage.epochs": expected a whole number, given "3". Take'
                " the quotes off."
            ),
        ),
        (
            "stage: {epochs: 0}",
            'recipe.yaml, row 1, field "stage.epochs": expected 1 or more, given 0.',
        ),
        ("active: 1", 'recipe.yaml, row 1, field "active": expected true or false, given 1.'),
        ("active:", 'recipe.yaml, row 1, field "active": expected true or false, given null.'),
        (
            "name: 12",
            (
                'recipe.yaml, row 1, field "name": expected text, given 12. Put it in double quotes'
                " (on a command line: '\"12\"')."
            ),
        ),
        (
            "stage: {schedule: cosin}",
            (
                "recipe.yaml, row 1, field \"stage.schedule\": expected 'cosine' or 'linear', given"
                ' "cosin".'
            ),
        ),
        (
            "stage: 3",
            'recipe.yaml, row 1, field "stage": expected a section (keys and values), given 3.',
        ),
        (
            "stage:\n  lora: [1]",
            (
                'recipe.yaml, row 2, field "stage.lora": expected a section (keys and values),'
                " given [1]."
            ),
        ),
        (
            "numbers:\n- 1\n- x",
            'recipe.yaml, row 3, field "numbers.1": expected a number, given "x".',
        ),
        (
            "suites:\n- weight: 2",
            'recipe.yaml, row 2, field "suites.0.name": this is required, and missing.',
        ),
        (
            "stage: {optimizer: {betas: [1]}}",
            'recipe.yaml, row 1, field "stage.optimizer.betas.1": this is required, and missing.',
        ),
        (
            "stage:\n  optimizer:\n    betas: [1, x]",
            'recipe.yaml, row 3, field "stage.optimizer.betas.1": expected a number, given "x".',
        ),
        (
            "stage: {optimizer: {kind: lion}}",
            (
                "recipe.yaml, row 1, field \"stage.optimizer.kind\": expected 'adam', 'sgd', given"
                ' "lion".'
            ),
        ),
        ("limit: 13", "recipe.yaml: limit is 13, of all numbers."),
    ],
)
def test_wrong_values_are_told_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(text, tmp_path) == told


def test_a_mistake_in_an_override_names_the_override(tmp_path: Path) -> None:
    assert (
        refusal("clip: 0.1", tmp_path, "clip=0.3", "clip=-2")
        == 'override "clip=-2", field "clip": expected more than 0, given -2.'
    )
    assert (
        refusal("", tmp_path, "stage.lora={r: 0}")
        == 'override "stage.lora={r: 0}", field "stage.lora.r": expected 1 or more, given 0.'
    )


@pytest.mark.parametrize("override", ["clip", "=1", ".clip=1", "stage..epochs=1", "clip.=1", ""])
def test_overrides_of_another_form(tmp_path: Path, override: str) -> None:
    assert f'the override "{override}" is not of the form key.subkey=value' in refusal(
        "", tmp_path, override
    )


def test_overrides_that_lead_nowhere(tmp_path: Path) -> None:
    assert 'looks for "x" inside a value' in refusal("", tmp_path, "clip.x=1")
    assert "cannot be read" in refusal("", tmp_path, "clip=[1")
    assert "cannot be read" in refusal("", tmp_path, "stage={epochs: 1, epochs: 2}")


def test_the_first_five_mistakes_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    text = "clip: x\nactive: 3\nname: 4\nlimit: y\nnumbers: 5\nstage: 6\nlora: 7\n"
    lines = refusal(text, tmp_path).splitlines()
    assert len(lines) == 6
    assert [line.split('"')[1] for line in lines[:5]] == [
        "name",
        "active",
        "limit",
        "clip",
        "numbers",
    ]
    assert lines[5] == "and 2 more"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("clp: 1", 'Did you mean "clip"?'),
        ("epochs: 1", 'Did you mean "stage.epochs"?'),
        ("stage: {epoch: 1}", 'Did you mean "stage.epochs"?'),
        (
            "stage: {optimizer: {kind: sgd, momentun: 1}}",
            'Did you mean "stage.optimizer.momentum"?',
        ),
        ("stage: {lora: {beta: 1}}", 'Did you mean "stage.optimizer.betas"?'),
        ("stage: {lora: {zzz: 1}}", "Known here: r, alpha."),
        ("suites: [{name: a, weigth: 2}]", 'Did you mean "suites.*.weight"?'),
        ("stage: {num_generations: 1}", "Here it is called stage.many."),
        ("3: 1", "Known here: name, active, limit, clip, numbers, suites, stage, lora."),
    ],
)
def test_unknown_keys_name_the_nearest_right_one(tmp_path: Path, text: str, hint: str) -> None:
    told = refusal(text, tmp_path, aliases={"num_generations": "stage.many"})
    assert told.startswith('recipe.yaml, row 1, field "')
    assert told.endswith(f'": there is no such key. {hint}')


def test_an_unknown_key_inside_the_wrong_kind_is_told_at_its_place(tmp_path: Path) -> None:
    assert 'row 3, field "stage.optimizer.momentum": there is no such key' in refusal(
        "stage:\n  optimizer:\n    momentum: 1", tmp_path
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("clip: 1\nclip: 2", 'recipe.yaml: line 2, column 1: the key "clip" stands twice.'),
        (
            "stage:\n  epochs: 1\n  lora: {r: 1, r: 2}",
            'recipe.yaml: line 3, column 16: the key "r" stands twice.',
        ),
        (
            "stage: [1",
            "recipe.yaml: line 1, column 10: expected ',' or ']', but got '<stream end>'.",
        ),
        (
            "clip: 1\n\tname: a",
            "recipe.yaml: line 2, column 1: found character '\\t' that cannot start any token.",
        ),
        ("name: a: b", "recipe.yaml: line 1, column 8: mapping values are not allowed here."),
        ("name: *gone", "recipe.yaml: line 1, column 7: found undefined alias 'gone'."),
        ("- 1\n- 2", "recipe.yaml: a recipe is a mapping of keys to values."),
        ("just words", "recipe.yaml: a recipe is a mapping of keys to values."),
    ],
)
def test_broken_yaml_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert refusal(text, tmp_path) == told


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [ls]",
        "name: !!binary aGk=",
        "name: !!set {a, b}",
        "? [a, b]\n: 1",
        "? {a: b}\n: 1",
        "stage: &a {lora: *a}",
        "limit: 0b_",
        "name: \x07",
        "a: 1\n---\nb: 2",
        "<<: 3",
        "name: " + "[" * 5000,
        "limit: " + "9" * 5000,
    ],
)
def test_strange_yaml_is_refused_without_a_stack_trace(tmp_path: Path, text: str) -> None:
    told = refusal(text, tmp_path)
    assert told.startswith("recipe.yaml")
    assert "\n" not in told


def test_merge_keys_are_not_taken_for_keys_that_stand_twice(tmp_path: Path) -> None:
    text = "stage: {lora: &a {r: 2, alpha: 3}}\nlora: {<<: *a, r: 5}"
    assert load(text, tmp_path).lora == Lora(r=5, alpha=3.0)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("")
    with pytest.raises(
        UserError,
        match=r"quickstrat\.yaml: there is no such file\. Did you mean .*quickstart\.yaml",
    ):
        load_config(Root, tmp_path / "quickstrat.yaml")
    with pytest.raises(UserError, match=r"there is no such file\.$"):
        load_config(Root, tmp_path / "no folder" / "x.yaml")
    with pytest.raises(UserError, match="this is a folder"):
        load_config(Root, tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: über".encode("latin-1"))
    with pytest.raises(UserError, match="not a text file in UTF-8"):
        load_config(Root, tmp_path / "latin.yaml")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["r", "stage", "kind", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
anything = st.dictionaries(
    st.sampled_from([*Root.model_fields, "x"]),
    json_values | st.dictionaries(st.sampled_from([*Stage.model_fields, "r"]), json_values),
)


@given(anything)
def test_whatever_stands_in_a_file_it_loads_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "anything.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=False))
    assert len(load_or_told(path).splitlines()) <= 6


def load_or_told(path: Path) -> str:
    try:
        return type(load_config(Root, path)).__name__
    except UserError as error:
        return str(error)


finite = st.floats(allow_nan=False)
roots = st.builds(
    Root,
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
    | st.sampled_from(
        [
            "1e-4",
            "2024-01-01",
            "no",
            "null",
            "~",
            "=",
            "0x1",
            "1_0",
            ".inf",
            "a: b",
            "- x",
            "#",
            "1:30",
            "\x85",
            "a\u2028b\n c ",
        ]
    ),
    active=st.booleans(),
    limit=st.none() | st.integers().filter(lambda n: n != 13),
    clip=st.floats(min_value=0, exclude_min=True, allow_nan=False),
    numbers=st.lists(finite, max_size=3),
    suites=st.lists(
        st.builds(
            Suite,
            name=st.text(
                st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4
            ),
            weight=finite,
        ),
        max_size=2,
    ),
    stage=st.builds(
        Stage,
        epochs=st.integers(min_value=1),
        lora=st.none() | st.builds(Lora, r=st.integers(1, 64), alpha=finite),
        optimizer=st.builds(Adam, rate=finite, betas=st.tuples(finite, finite))
        | st.builds(Sgd, rate=finite, momentum=finite),
        schedule=st.sampled_from(["cosine", "linear"]),
    ),
    lora=st.none() | st.builds(Lora, r=st.integers(1, 64), alpha=finite),
)


@given(roots)
def test_dumped_configurations_load_to_themselves(
    tmp_path_factory: pytest.TempPathFactory, config: Root
) -> None:
    path = tmp_path_factory.getbasetemp() / "dumped.yaml"
    text = dump_yaml(config)
    path.write_text(text, encoding="utf-8", newline="")
    again = load_config(Root, path)
    assert again == config
    assert dump_yaml(again) == text


@given(roots)
def test_any_value_may_be_given_as_an_override(config: Root) -> None:
    dumped = config.model_dump(mode="json")
    overrides = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
        for key, value in dumped.items()
        if key not in ("name", "numbers", "suites", "stage")
    ]
    loaded = load_config(Root, None, overrides)
    assert {key: getattr(loaded, key) for key in ("active", "limit", "clip", "lora")} == {
        key: getattr(config, key) for key in ("active", "limit", "clip", "lora")
    }


def test_dump_is_readable(tmp_path: Path) -> None:
    config = Root(name="1e-4", suites=[Suite(name="größer")])
    assert (
        dump_yaml(config)
        == "name: '1e-4'\nactive: true\nlimit: null\nclip: 0.2\nnumbers: []\nsuites:\n- name:"
        " größer\n  weight: 1.0\nstage:\n  epochs: 2\n  lora:\n    r: 4\n    alpha: 16.0\n "
        " optimizer:\n    kind: adam\n    rate: 0.0005\n    betas:\n    - 0.9\n    - 0.999\n "
        " schedule: cosine\nlora: null\n"
    )


def test_aliases_name_keys_that_exist() -> None:
    known = {option.key for option in describe_fields(Recipe)} | set(KINDS)
    known |= {
        f"{kind}.{option.key}"
        for kind, row in KINDS.items()
        for option in describe_fields(row.section)
    }
    known |= {key.replace("by.*.", "by.") for key in known}
    for tool, here in ALIASES.items():
        named = re.split(r"[ ,:(]", here)[0]
        assert any(key == named or key.endswith(f".{named}") for key in known), f"{tool}: {here}"
    assert not [word for word in (*ALIASES, *ABSENT) if word in known]
    assert not ALIASES.keys() & ABSENT.keys()


AXOLOTL = """
base_model adapter load_in_4bit lora_r lora_alpha lora_dropout lora_target_linear datasets val_set_size output_dir sequence_len
sample_packing pad_to_sequence_len gradient_accumulation_steps micro_batch_size num_epochs lr_scheduler learning_rate
bf16 tf32 early_stopping_patience wandb_project warmup_steps warmup_ratio evals_per_epoch saves_per_epoch flash_attention
gradient_checkpointing weight_decay deepspeed fsdp train_on_inputs dataset_prepared_path rl logging_steps max_steps
"""  # noqa: E501
LLAMA_FACTORY = """
model_name_or_path stage do_train finetuning_type lora_rank lora_target dataset template cutoff_len output_dir
per_device_train_batch_size gradient_accumulation_steps learning_rate num_train_epochs val_size quantization_bit
lr_scheduler_type warmup_ratio bf16 max_samples overwrite_output_dir pref_beta pref_loss eval_steps eval_strategy save_steps
per_device_eval_batch_size logging_steps reward_model
"""  # noqa: E501
TRL = """
model_name_or_path dataset_name learning_rate beta output_dir use_peft eval_strategy load_best_model_at_end
push_to_hub per_device_train_batch_size gradient_accumulation_steps max_length max_prompt_length max_completion_length
num_generations loss_type reward_funcs use_vllm bf16 torch_dtype attn_implementation packing max_steps num_train_epochs
save_steps save_total_limit run_name resume_from_checkpoint logging_steps total_episodes assistant_only_loss lora_target_modules
"""  # noqa: E501


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo", None])
@pytest.mark.parametrize("word", sorted({*AXOLOTL.split(), *LLAMA_FACTORY.split(), *TRL.split()}))
def test_the_words_of_other_trainers_are_understood(word: str, stage: str | None) -> None:
    """Typed behind a recipe, or into a stage's section (where it may be the right word)."""
    key = word if stage is None else f"{stage}.{word}"
    with pytest.raises(UserError) as caught:
        burnish.load(None, "stages=[sft, sample, compare, dpo, grpo]", f"{key}={{}}")
    told = str(caught.value)
    assert "Known here" not in told
    assert f'override "{key}={{}}"' in told
    if stage is None:
        assert f'there is no stage and no key "{word}". ' in told
    elif word not in type(burnish.load(None, f"stages=[{stage}]").stages[stage]).model_fields:
        assert f'field "stages.{key}": there is no such key. ' in told


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "learning_rate=1",
            'Did you mean "sft.optimizer.learning_rate" (or reward.optimizer.learning_rate,',
        ),
        ("sft.learning_rate=1", 'Did you mean "sft.optimizer.learning_rate"?'),
        (
            "sft.optimiser.lr=1",
            (
                'override "sft.optimiser.lr=1", field "stages.sft.optimiser": there is no such key.'
                " Here it is called optimizer."
            ),
        ),
        (
            "sftt.epochs=1",
            'override "sftt.epochs=1": there is no stage and no key "sftt". Did you mean "sft"?',
        ),
        ("output_dir=out", "The run's folder is given on the command line: --out FOLDER."),
        ("ppo.max_new_tokens=3", 'Did you mean "ppo.sampling.max_new_tokens"?'),
        (
            "ppo.tricks.beta=3",
            (
                "Here it is called algorithm.whiten, and else the same words without tricks around"
                " them."
            ),
        ),
        ("ppo.kl.beta=3", 'Did you mean "ppo.algorithm.kl"?'),
        ("sft.seed=3", 'Did you mean "seed"?'),
        ("bf16=true", "Here it is called model.dtype (bfloat16)."),
        (
            "rewards=[{name: maths}]",
            'there is no stage and no key "rewards". Did you mean "ppo.rewards" (or grpo.rewards',
        ),
        (
            "collect.prompts=3",
            "Here it is called sample, which writes answers, and compare, which has them compared.",
        ),
        ("compare.panel.size=3", 'Did you mean "compare.by.panel"?'),
        ("evaluate.prompts=3", "given 3. How many are taken is said by count."),
        ("sample.prompts=3", "given 3. How many are taken is said by count."),
        ("sample.responses_per_prompt=3", 'Did you mean "sample.responses"?'),
    ],
)
def test_what_an_unknown_key_may_have_meant(override: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        burnish.load(None, "stages=[sft, sample, compare, reward, ppo, grpo, evaluate]", override)


def test_config_stays_free_of_torch() -> None:
    code = "import sys; import burnish.config.recipe_file; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert shown.stdout.strip() == "False"


def test_a_recipe_may_be_json(tmp_path: Path) -> None:
    values = {"clip": 1e-05, "name": "a\tb", "numbers": [1e300, -0.0]}
    loaded = load(json.dumps(values), tmp_path)
    assert (loaded.clip, loaded.name, loaded.numbers) == (1e-05, "a\tb", [1e300, -0.0])
