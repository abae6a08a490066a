"""Stages of the preference family: a loss chosen by name, its own defaults, what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import burnish
from burnish.algorithms.preference_losses import LOSSES
from burnish.errors import UserError


def loss(stage: str, *changes: str) -> Any:
    loaded = burnish.load(None, f"stages=[{stage}]", *changes).stages[stage]
    assert loaded.kind == "preference"
    return loaded.loss


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_row_of_the_table_can_be_named(name: str):
    found = loss("preference", f"preference.loss.name={name}")
    assert found.name == name
    assert found.sft.weight == (1.0 if name in ("orpo", "cpo") else 0.0)
    assert loss(name) == found  # a row's name says kind and loss at once


def test_another_loss_starts_with_its_own_defaults(tmp_path: Path):
    file = tmp_path / "r.yaml"
    file.write_text("stages: {dpo: {loss: {beta: 0.7, sft: {weight: 0.2}}}}\n")

    def loaded(*changes: str) -> Any:
        return burnish.load(file, *changes).stages["dpo"].loss

    assert loaded().beta == 0.7
    assert loaded("dpo.loss.name=dpo").beta == 0.7  # naming the same loss keeps its options
    for changes in (
        ["dpo.loss.name=simpo"],
        ["dpo.kind=simpo"],
        ["dpo={kind: simpo}"],
        ["dpo={loss: {name: simpo}}"],
    ):
        simpo = loaded(*changes)
        assert (simpo.name, simpo.beta, simpo.gamma, simpo.sft.weight) == ("simpo", 2.0, 1.0, 0.0)
    assert loaded("dpo.loss.name=simpo", "dpo.loss.beta=3.0").beta == 3.0
    assert loaded("dpo.loss={name: simpo, beta: 3.0}").beta == 3.0


def test_another_loss_in_rounds_starts_with_its_own_defaults(tmp_path: Path):
    file = tmp_path / "r.yaml"
    file.write_text(
        "data: {comparisons: c.jsonl}\nstages: {rounds: {repeat: 2, stages: {dpo: {loss: {beta:"
        " 0.7}, pairs: extremes}}}}\n"
    )
    for change, betas in (
        ("rounds.dpo.loss.name=simpo", [2.0, 2.0]),
        ("rounds.2.dpo.loss.name=simpo", [0.7, 2.0]),
    ):
        stages = burnish.load(file, change).stages.values()
        assert [one.loss.beta for one in stages] == betas
        assert {one.pairs for one in stages} == {"extremes"}


def test_naming_a_part_of_the_sft_term_leaves_the_rest():
    sft = loss("cpo", "cpo.loss.sft.weight=0.5").sft
    assert (sft.weight, sft.average) == (0.5, "sum")
    sft = loss("orpo", "orpo.loss.sft.prompt=true").sft
    assert (sft.weight, sft.average, sft.prompt) == (1.0, "answer", True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["dpo.loss.name=sigmoid"], "dpo"),
        (["dpo.loss.gamma=1"], "there is no such key"),
        (["dpo.loss_type=sigmoid"], r"Here it is called loss\.name"),
        (["dpo.cpo_alpha=1"], r"loss\.sft\.weight"),
        (["rdpo.loss.label_noise=0.5"], "from 0 to 0.499, given 0.5"),
        (["kto.batch_size=1"], "at least 2"),
        (["dpo.rounds=2"], "Rounds stand around stages: {repeat: 2, stages: {...}}"),
    ],
)
def test_what_does_not_fit_is_refused(changes: list[str], said: str):
    with pytest.raises(UserError, match=said):
        burnish.load(None, "stages=[dpo, rdpo, kto]", *changes)
