"""A run's chat template, its options and its day: settled once, recorded, and the same in every
stage."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

import burnish
from burnish.config.yaml_file import dump_yaml
from burnish.data.render import render_prompt
from burnish.errors import UserError
from burnish.records import Message, Prompt
from burnish.runs.manifest import explain_difference
from burnish.stages.chat_settings import dated, settle_as_in_its_run, template_text
from burnish.stages.context import Run
from burnish.stages.inputs import inputs_of

TEMPLATE = (
    "{{ strftime_now('%Y-%m-%d') + ('!' if loud is defined and loud else '') }}{% for m in messages"
    " %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endfor %}{% if"
    " add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
ASKED = Prompt("p", (Message(role="user", content="Hi"),))


def recipe(*changes: str):
    return burnish.load(
        None, "model.name=tiny", "stages=[sft]", "data.demonstrations=d.jsonl", *changes
    )


def shown(backbone) -> str:
    return backbone.tokenizer.decode(list(render_prompt(backbone.tokenizer, ASKED, max_tokens=99)))


def test_the_day_is_the_first_starts_wherever_the_run_is_taken_up(tmp_path: Path):
    first = dated(recipe(), tmp_path)
    assert first.model.date == date.today()
    old = first.model_copy(
        update={"model": first.model.model_copy(update={"date": date(2024, 2, 29)})}
    )
    (tmp_path / "recipe.yaml").write_text(dump_yaml(old))
    assert dated(recipe(), tmp_path).model.date == date(2024, 2, 29)  # resumed on another day
    assert dated(recipe(), tmp_path / "new", tmp_path).model.date == date(2024, 2, 29)  # forked
    assert dated(recipe("model.date=2025-03-01"), tmp_path).model.date == date(2025, 3, 1)


def test_another_day_and_another_template_are_differences_with_their_names(tmp_path: Path):
    file = tmp_path / "t.jinja"
    file.write_text(TEMPLATE)
    one = recipe("model.date=2025-03-01", f"model.chat_template={file}")
    before = inputs_of(Run(one, tmp_path).step("sft"), {})
    other = recipe("model.date=2025-03-02", f"model.chat_template={file}")
    assert explain_difference(before, inputs_of(Run(other, tmp_path).step("sft"), {})) == [
        'model.date: "2025-03-01" -> "2025-03-02"'
    ]
    moved = tmp_path / "moved.jinja"
    moved.write_text(TEMPLATE)
    same = recipe("model.date=2025-03-01", f"model.chat_template={moved}")
    assert inputs_of(Run(same, tmp_path).step("sft"), {}) == before
    file.write_text(TEMPLATE + " ")
    assert explain_difference(before, inputs_of(Run(one, tmp_path).step("sft"), {})) == [
        "model.chat_template changed"
    ]


def test_template_options_and_day_hold_for_the_runs_own_models(tmp_path: Path):
    file = tmp_path / "t.jinja"
    file.write_text(TEMPLATE)
    settled = recipe(
        "model.date=2025-03-01",
        f"model.chat_template={file}",
        "model.chat_template_kwargs={loud: true}",
    )
    backbone = Run(settled, tmp_path / "run").load("tiny")
    assert shown(backbone) == "2025-03-01!<|im_start|>user\nHi<|im_end|><|im_start|>assistant\n"
    model = tmp_path / "run" / "sft" / "model"
    backbone.tokenizer.save_pretrained(model)
    assert (model / "chat_template.jinja").read_text() == TEMPLATE
    (tmp_path / "run" / "recipe.yaml").write_text(dump_yaml(settled))
    settle_as_in_its_run(backbone, model)
    assert shown(backbone).startswith(f"{date.today()}!")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("model.chat_template=nowhere.jinja", "nowhere.jinja"),
        ("model.chat_template='{% if %}'", "not valid Jinja"),
        ("model.chat_template_kwargs={enable_thinking: false}", 'no option "enable_thinking"'),
    ],
)
def test_a_template_or_an_option_that_is_none_is_one_line(change: str, said: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"model\.chat_template") as caught:
        Run(recipe(change), tmp_path).load("tiny")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_that_a_template_is_given_anyway_are_refused():
    with pytest.raises(UserError, match="given to the template anyway"):
        recipe("model.chat_template_kwargs={messages: []}")


def test_a_template_may_be_given_as_text():
    assert template_text(recipe("model.chat_template='{{ messages }}'").model) == "{{ messages }}"
