"""On a real GPU: its numbers are the CPU's, its recorded steps are the plain ones, a whole run ends
in a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import burnish
from burnish.batch import Batch, TokenSequence
from burnish.generation.base import Request, SamplingParams
from burnish.generation.native import NativeEngine
from burnish.models.backbone import load_backbone
from burnish.models.device import Graphs, peak_gb, reset_peak
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand
from burnish.planning.machine import this_machine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]

ROOT = Path(__file__).parents[2]
REQUESTS = [Request(tuple(range(3, 5 + i % 7)), seed=i) for i in range(40)]


def _engine(
    device: str,
    products: torch.dtype | None = None,
    model: str = "tiny",
    ends: frozenset[int] = frozenset(range(40, 50)),
) -> NativeEngine:
    backbone = load_backbone(model, device=device, products=products)
    return NativeEngine.of(View(backbone), end_tokens=ends, max_rows=12)


def test_gradients_are_the_cpus():
    batch = Batch(tuple(TokenSequence((1, 2, 3), tuple(range(4, 9 + i))) for i in range(9)))
    found = []
    for device in ("cpu", "cuda"):
        view = View(load_backbone("tiny", device=device))
        parameters = view.train_mode()
        scored = view.logprobs(batch, entropy=True)
        (scored.logprobs_P.mean() + scored.entropy_P.mean()).backward()
        found.append([scored.logprobs_P.detach(), *(p.grad.cpu() for p in parameters)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("products", [None, torch.bfloat16])
def test_recorded_steps_draw_what_plain_ones_draw(
    products: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
):
    params = SamplingParams(150, temperature=0.9, top_p=0.95)
    recorded = _engine("cuda", products, ends=frozenset({40})).generate(REQUESTS, params)
    monkeypatch.setattr(Graphs, "run", lambda self, key, step: step())
    plain = _engine("cuda", products, ends=frozenset({40})).generate(REQUESTS, params)
    assert [c.tokens for c in recorded] == [c.tokens for c in plain]
    assert max(len(c.tokens) for c in plain) > 128  # so that more than one size was recorded


def test_greedy_answers_are_the_cpus():
    here, there = (
        _engine(d).generate(REQUESTS, SamplingParams(24, temperature=0.0)) for d in ("cpu", "cuda")
    )
    assert [c.tokens for c in there] == [c.tokens for c in here]
    for one, other in zip(here, there, strict=True):
        assert other.model_logprobs == pytest.approx(one.model_logprobs, abs=1e-4)


@pytest.mark.real
def test_greedy_answers_of_the_real_model_are_the_cpus(smollm):
    requests = [
        Request(tuple(smollm.tokenizer(f"The number {i} is")["input_ids"]), 0) for i in range(16)
    ]
    here, there = (
        _engine(d, model=smollm.reference).generate(requests, SamplingParams(24, temperature=0.0))
        for d in ("cpu", "cuda")
    )
    same = sum(a.tokens == b.tokens for a, b in zip(here, there, strict=True))
    assert same >= 15  # two tokens may be as likely to the last digit


def test_a_loaded_engine_forgets_its_recorded_steps():
    backbone = load_backbone("tiny", device="cuda")
    engine = NativeEngine.of(View(backbone), end_tokens=frozenset(), max_rows=4)
    before = engine.generate(REQUESTS[:4], SamplingParams(12))
    engine.sleep()
    with torch.no_grad():
        backbone.model.model.norm.weight.mul_(3.0)
    engine.load(merge_on_demand(View(backbone)), version=1)
    after = engine.generate(REQUESTS[:4], SamplingParams(12))
    told = View(backbone).logprobs(
        Batch(
            tuple(
                TokenSequence(r.prompt_tokens, c.tokens)
                for r, c in zip(REQUESTS, after, strict=False)
            )
        )
    )
    assert [c.tokens for c in before] != [c.tokens for c in after]
    sampled = [x for c in after for x in c.sampler_logprobs]
    assert told.logprobs_P.tolist() == pytest.approx(sampled, abs=1e-3)


def test_this_gpu_is_measured():
    machine = this_machine(torch.device("cuda", 0), products="bfloat16", seconds=0.05)
    assert not machine.is_cpu
    assert machine.flops > 1e12
    assert machine.memory > 1e9


def test_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    reset_peak()
    folder = burnish.run(
        burnish.load("recipes/tiny.yaml", "model.device=cuda", "ppo.steps=2"), out=tmp_path / "run"
    )
    assert (folder / "report.html").is_file()
    assert (peak_gb() or 0) > 0.01
    assert json.loads((folder / "ppo" / "stage.json").read_text())["peak_memory_gb"] > 0
