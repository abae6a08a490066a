"""The section `preference`: a loss chosen by name, its own defaults, what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

import burnish
from burnish.algorithms.preference_losses import LOSSES
from burnish.errors import UserError


@pytest.mark.parametrize("name", list(LOSSES))
def test_every_row_of_the_table_can_be_named(name: str):
    loss = burnish.load(None, f"preference.loss.name={name}").preference.loss
    assert loss.name == name
    assert loss.sft.weight == (1.0 if name in ("orpo", "cpo") else 0.0)


def test_another_loss_starts_with_its_own_defaults(tmp_path: Path):
    file = tmp_path / "r.yaml"
    file.write_text("preference: {loss: {name: dpo, beta: 0.7, sft: {weight: 0.2}}}\n")
    assert burnish.load(file).preference.loss.beta == 0.7
    assert (
        burnish.load(file, "preference.loss.name=dpo").preference.loss.beta == 0.7
    )  # naming the same loss keeps its options
    simpo = burnish.load(file, "preference.loss.name=simpo").preference.loss
    assert (simpo.beta, simpo.gamma, simpo.sft.weight) == (2.0, 1.0, 0.0)


def test_naming_a_part_of_the_sft_term_leaves_the_rest():
    sft = burnish.load(None, "preference.loss.name=cpo", "preference.loss.sft.weight=0.5").preference.loss.sft
    assert (sft.weight, sft.average) == (0.5, "sum")
    sft = burnish.load(None, "preference.loss.name=orpo", "preference.loss.sft.prompt=true").preference.loss.sft
    assert (sft.weight, sft.average, sft.prompt) == (1.0, "answer", True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["preference.loss.name=sigmoid"], "dpo"),
        (["preference.loss.gamma=1"], "there is no such key"),
        (["preference.loss_type=sigmoid"], r"Here it is called preference\.loss\.name"),
        (["preference.cpo_alpha=1"], r"preference\.loss\.sft\.weight"),
        (["preference.loss.name=rdpo", "preference.loss.label_noise=0.5"], "from 0 to 0.499, given 0.5"),
        (["preference.loss.name=kto", "preference.batch_size=1"], "at least 2"),
        (["preference.rounds=2", "preference.online.sampling.temperature=0"], "nothing to compare"),
        (
            ["preference.rounds=2", "preference.online.judge=reward_model", "stages=[sft,collect,preference]"],
            "needs the stage reward",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: list[str], said: str):
    with pytest.raises(UserError, match=said):
        burnish.load(None, *changes)
