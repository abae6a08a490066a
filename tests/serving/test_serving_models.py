"""What is loaded to be served: a model with an adapter on it writes what the adapter would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.generation.base import Request, SamplingParams
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import save_policy
from burnish.stages.serve import make_ready


def test_an_adapter_is_merged_into_what_is_served(tiny: Backbone, tmp_path: Path):
    lora = LoraSpec(4, 8.0)
    add_adapter(tiny, "policy", lora, seed=0)
    view = View(tiny, "policy", lora)
    with torch.no_grad():
        for number, parameter in enumerate(view.parameters().values()):
            parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(number))
    save_policy(view, tmp_path, base="tiny")
    ready = make_ready("tiny", adapter=tmp_path / "adapter")
    prompt, params = (5, 6, 7), SamplingParams(12, temperature=0.0)
    written = ready.engine.generate([Request(prompt, 0)], params)[0]
    plain = make_ready("tiny").engine.generate([Request(prompt, 0)], params)[0]
    assert written.tokens != plain.tokens
    with torch.no_grad():
        told = view.logprobs(Batch((TokenSequence(prompt, written.tokens),))).logprobs_P
    assert written.model_logprobs == pytest.approx(told.tolist(), abs=1e-3)


def test_what_is_no_adapter_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="holds no adapter"):
        make_ready("tiny", adapter=tmp_path)
