"""Reference log-probabilities: right, computed once, and found again only by the same model and the
same tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.roles import View
from burnish.trainers import reference

SEQUENCES = [
    TokenSequence((258, 10), (20, 21, 22)),
    TokenSequence((258, 10), (30, 31), (True, False)),
    TokenSequence((258, 11, 12), (40, 41)),
]


def test_sums_over_the_trained_tokens(tiny: Backbone):
    view = View(tiny)
    found = reference.answer_logprobs(view, SEQUENCES, max_tokens=8)
    with torch.no_grad():
        alone = [float(view.logprobs(Batch((s,))).logprobs_P.sum()) for s in SEQUENCES]
    assert found.tolist() == pytest.approx(alone, abs=1e-5)


def test_the_second_time_nothing_is_run(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lines: list[str] = []
    first = reference.cached_answer_logprobs(
        View(tiny), SEQUENCES, max_tokens=8, cache=tmp_path, say=lines.append
    )
    assert not lines
    assert len(list(tmp_path.iterdir())) == 1

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(reference, "answer_logprobs", refuse)
    again = reference.cached_answer_logprobs(
        View(load_backbone("tiny")), SEQUENCES, max_tokens=8, cache=tmp_path, say=lines.append
    )
    assert torch.equal(first, again)
    assert lines == ["reference: 3 log-probabilities taken from the cache"]
    changed = [SEQUENCES[0], replace(SEQUENCES[1], response_mask=None), SEQUENCES[2]]
    other = load_backbone("tiny")
    with torch.no_grad():
        other.model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    for view, sequences, limit in (
        (View(tiny), changed, 8),  # other tokens are scored
        (View(tiny), SEQUENCES[::-1], 8),
        (View(other), SEQUENCES, 8),  # another model
        (View(tiny), SEQUENCES, 16),  # another order of summation
    ):
        with pytest.raises(AssertionError, match="run again"):
            reference.cached_answer_logprobs(view, sequences, max_tokens=limit, cache=tmp_path)


def test_a_torn_file_is_made_again(tiny: Backbone, tmp_path: Path):
    first = reference.cached_answer_logprobs(View(tiny), SEQUENCES, max_tokens=8, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    again = reference.cached_answer_logprobs(View(tiny), SEQUENCES, max_tokens=8, cache=tmp_path)
    assert torch.equal(first, again)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_policy_is_no_reference(tiny: Backbone, tmp_path: Path):
    add_adapter(tiny, "policy", LoraSpec(4, 8.0), seed=0)
    with pytest.raises(ValueError, match="without an adapter"):
        reference.cached_answer_logprobs(
            View(tiny, "policy"), SEQUENCES, max_tokens=8, cache=tmp_path
        )
