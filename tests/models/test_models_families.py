"""Every row of the table of supported types, on a tiny random model: what Burnish computes is what
transformers computes.

The oracle runs each sequence alone through transformers' own eager attention and eager experts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

import families
from burnish.batch import Batch, TokenSequence
from burnish.errors import UserError
from burnish.models import backbone as backbone_module
from burnish.models import packed_attention
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import load_backbone
from burnish.models.roles import View
from burnish.models.supported import SUPPORTED
from burnish.models.unpacked import whole_sequences
from burnish.models.weights import save_policy
from families import save_random_model

FOUND = {  # of the layers that a type can have, those that its tiny model has
    "deepseek_v3": set(SUPPORTED["deepseek_v3"].lora) - {"q_proj"},
    "deepseek_v3-no_query_rank": set(SUPPORTED["deepseek_v3"].lora) - {"q_a_proj", "q_b_proj"},
}
TOLERANCE = 2e-5  # of the largest number compared


def _drawn(seed: int, length: int) -> tuple[int, ...]:
    return tuple(
        torch.randint(3, 250, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    )


PROMPT = _drawn(0, 7)
VARIANTS = {  # what else stands behind a type, beside the row's own tiny model
    "granitemoehybrid-experts": ("granitemoehybrid",
        dict(num_local_experts=4, num_experts_per_tok=2)),
    "llama4_text-dense": ("llama4_text", dict(moe_layers=[])),
    "deepseek_v3-no_query_rank": ("deepseek_v3", dict(q_lora_rank=None)),
    "gemma3_text-capped": ("gemma3_text",
        dict(final_logit_softcapping=2.0, attn_logit_softcapping=None)),
    "llama-rope": ("llama", dict(rope_parameters={
        "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
    })),
}  # fmt: skip
NAMES = [*(name for name, row in SUPPORTED.items() if not row.text_part), *VARIANTS]
SEQUENCES = (
    TokenSequence(_drawn(1, 5), _drawn(2, 9)),
    TokenSequence(PROMPT, _drawn(3, 8)),
    TokenSequence(PROMPT, _drawn(4, 3)),
    TokenSequence(_drawn(5, 2), _drawn(6, 20)),
)
WEIGHTS = torch.linspace(-1, 2, sum(len(s.response) for s in SEQUENCES))


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """name -> folder with the tiny random model of that type, made once."""

    def made(name: str) -> Path:
        kind, changes = VARIANTS.get(name, (name, {}))
        return save_random_model(kind, tmp_path_factory.mktemp(name), **changes)

    return cache(made)


def theirs(folder: Path) -> Any:
    """The model as transformers runs it by itself."""
    return AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32
    ).eval()


def logits_of(model: Any) -> list[Tensor]:
    """[tokens, V] of each sequence, run alone."""
    return [
        model(input_ids=torch.tensor([s.prompt + s.response]), use_cache=False).logits[0]
        for s in SEQUENCES
    ]


def close(ours: Tensor, expected: Tensor, what: str = "") -> float:
    """The largest difference, which must be small beside the largest number."""
    difference, largest = float((ours - expected).abs().max()), float(expected.abs().max())
    assert difference <= TOLERANCE * max(largest, 1.0), f"{what} {difference:.1e} of {largest:.1e}"
    return difference


def _kind(name: str) -> str:
    return VARIANTS.get(name, (name,))[0]


def test_every_type_has_a_model_here():
    whole = {whole for whole, *_ in families.WHOLE.values()}
    assert families.SETTINGS.keys() | whole == SUPPORTED.keys()
    assert whole == {name for name, row in SUPPORTED.items() if row.text_part}


@pytest.mark.parametrize("name", NAMES)
def test_logits_and_gradients_are_those_of_transformers(name: str, folder_of: Any):
    model = theirs(folder_of(name))
    expected = logits_of(model)
    scores = [
        logits[len(s.prompt) - 1 : -1]
        .log_softmax(-1)
        .gather(1, torch.tensor(s.response)[:, None])[:, 0]
        for s, logits in zip(SEQUENCES, expected, strict=True)
    ]
    (torch.cat(scores) * WEIGHTS).sum().backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    view = View(load_backbone(str(folder_of(name))))
    batch = Batch(SEQUENCES)
    with torch.no_grad():
        logits = view.backbone.logits(view.hidden(batch))
    for places, logits_alone in zip(whole_sequences(batch.layout.segments), expected, strict=True):
        close(logits[list(places)], logits_alone.detach(), "logits")
    for recompute in (False, True):
        view.backbone.recompute_layers(recompute)
        view.train_mode()
        logprobs = view.logprobs(batch).logprobs_P
        close(logprobs.detach(), torch.cat(scores).detach(), "logprobs")
        (logprobs * WEIGHTS).sum().backward()
        ours = {n: p.grad for n, p in view.backbone.model.named_parameters() if p.grad is not None}
        assert ours.keys() == gradients.keys()
        largest = max(float(g.abs().max()) for g in gradients.values())
        for label, gradient in gradients.items():
            assert float((ours[label] - gradient).abs().max()) <= 1e-4 * largest, label
        view.backbone.model.zero_grad(set_to_none=True)


@pytest.mark.parametrize("name", NAMES)
def test_no_sequence_sees_its_neighbour(name: str, folder_of: Any):
    view = View(load_backbone(str(folder_of(name))))
    other = TokenSequence(_drawn(7, 6), _drawn(8, 17))
    with torch.no_grad():
        before = view.logprobs(Batch(SEQUENCES[1:])).logprobs_P
        after = view.logprobs(Batch((other, *SEQUENCES[1:3], other, SEQUENCES[3]))).logprobs_P
    mine = [0] * 17 + [1] * 11 + [0] * 17 + [1] * 20
    close(after[torch.tensor(mine).bool()], before)


def test_longrope_turns_each_sequence_by_its_own_length(tmp_path: Path):
    """Sequences of 14, 15, 10 and 22 tokens, and other frequencies from 15 tokens on."""
    rope = {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.5],
        "long_factor": [3.0, 9.0],
        "original_max_position_embeddings": 14, "partial_rotary_factor": 0.5,
    }  # fmt: skip
    save_random_model("phi3", tmp_path, rope_parameters=rope, original_max_position_embeddings=14)
    expected = [
        logits[len(s.prompt) - 1 : -1]
        .log_softmax(-1)
        .gather(1, torch.tensor(s.response)[:, None])[:, 0]
        for s, logits in zip(SEQUENCES, logits_of(theirs(tmp_path)), strict=True)
    ]
    view = View(load_backbone(str(tmp_path)))
    close(view.logprobs(Batch(SEQUENCES)).logprobs_P.detach(), torch.cat(expected).detach())
    short = Batch(SEQUENCES[:3:2])  # none beyond: packed, as ever
    assert view.backbone.layout_of(short) is short.layout
    close(view.logprobs(short).logprobs_P.detach(), torch.cat(expected[:3:2]).detach())


@pytest.mark.parametrize(
    ("name", "parts"), [("lfm2", ["by itself"]), ("mixtral", ["no router loss"]), ("llama", []), ("qwen3_next", ["by itself", "no router loss"])]  # noqa: E501
)  # fmt: skip
def test_what_a_user_should_know_is_said_once(
    name: str, parts: list[str], folder_of: Any, monkeypatch: Any
):
    monkeypatch.setattr(backbone_module, "_told", set())
    said: list[str] = []
    for _ in range(2):
        load_backbone(str(folder_of(name)), say=said.append)
    assert len(said) == len(parts)
    assert all(part in line and name in line for part, line in zip(parts, said, strict=True))


def test_a_model_that_computes_something_else_is_refused(folder_of: Any, monkeypatch: Any):
    """As if a new version of transformers capped the scores of this type, and told attention by
    another name."""
    attend = packed_attention.attend_to_segments
    monkeypatch.setattr(
        packed_attention,
        "attend_to_segments",
        lambda *a, softcap, **k: attend(*a, softcap=None, **k),
    )
    with pytest.raises(
        UserError, match=r"type gemma2 gives other logits here than in transformers"
    ):
        load_backbone(str(folder_of("gemma2")))


SPEC = LoraSpec(4, 8.0)


def _adapted(folder: Path) -> View:
    """The model with an adapter that has been trained one step, away from nothing."""
    backbone = load_backbone(str(folder))
    backbone.freeze()
    add_adapter(backbone, "policy", SPEC, seed=0)
    view = View(backbone, "policy", SPEC)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for label, parameter in view.parameters().items():
            if "lora_B" in label:
                parameter.normal_(0.0, 0.1, generator=generator)
    optimizer = torch.optim.SGD(view.train_mode(), lr=1e-3)
    before = view.logprobs(Batch(SEQUENCES)).logprobs_P.mean()
    (-before).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in view.parameters().values())
    optimizer.step()
    optimizer.zero_grad()
    assert view.logprobs(Batch(SEQUENCES)).logprobs_P.mean() > before
    return view


@pytest.mark.parametrize("name", NAMES)
def test_adapters_are_trained_merged_and_read_by_others(name: str, folder_of: Any, tmp_path: Path):
    view = _adapted(folder_of(name))
    targets = {label.split(".lora_")[0].rsplit(".", 1)[-1] for label in view.parameters()}
    assert targets == FOUND.get(name, set(SUPPORTED[_kind(name)].lora))
    batch = Batch(SEQUENCES)
    with torch.no_grad():
        ours = view.backbone.logits(view.hidden(batch))
    save_policy(view, tmp_path, base=str(folder_of(name)))
    stored, again = (load_file(f / "model.safetensors") for f in (folder_of(name), tmp_path))
    assert {n: w.shape for n, w in stored.items()} == {
        n: w.shape for n, w in again.items()
    }  # names of the family
    reloaded = load_backbone(str(tmp_path))
    peft = PeftModel.from_pretrained(theirs(folder_of(name)), str(tmp_path / "adapter"))
    with torch.no_grad():
        ours_again = reloaded.logits(reloaded.hidden(batch.layout))
        close(ours_again, ours, "reloaded")
        for model in (theirs(tmp_path), peft):
            for places, logits in zip(
                whole_sequences(batch.layout.segments), logits_of(model), strict=True
            ):
                close(ours[list(places)], logits, type(model).__name__)


@pytest.mark.parametrize("name", NAMES)
def test_the_experts_and_the_router_of_a_mixture_are_named_frozen(name: str, folder_of: Any):
    view = _adapted(folder_of(name))
    marks = (".experts.", ".router.", ".block_sparse_moe.", ".mlp.gate.")
    experts = [
        n for n, _ in view.backbone.model.named_parameters() if any(mark in n for mark in marks)
    ]
    dense = name in ("granitemoehybrid", "llama4_text-dense")
    assert bool(experts) == (SUPPORTED[_kind(name)].experts and not dense)
    assert not any(mark in label for label in view.parameters() for mark in marks)


@pytest.mark.parametrize("name", families.WHOLE)
def test_the_text_part_of_a_whole_model_is_trained_and_saved_alone(
    name: str, folder_of: Any, tmp_path: Path
):
    _, text, *_ = families.WHOLE[name]
    expected = logits_of(theirs(folder_of(text)))
    said: list[str] = []
    backbone = load_backbone(
        str(families.save_whole_model(name, tmp_path / "whole")), say=said.append
    )
    assert "4 weights for images, sound and drafts are left out" in "".join(said)
    assert backbone.kind is SUPPORTED[text]
    layout = Batch(SEQUENCES).layout
    with torch.no_grad():
        logits = backbone.logits(backbone.hidden(layout))
    save_policy(View(backbone), tmp_path / "saved", base="")
    saved = theirs(tmp_path / "saved")
    assert saved.config.model_type == text
    for places, alone, again in zip(
        whole_sequences(layout.segments), expected, logits_of(saved), strict=True
    ):
        close(logits[list(places)], alone.detach(), "loaded")
        close(again.detach(), alone.detach(), "saved")


def test_a_weight_of_no_known_part_is_refused(tmp_path: Path):
    families.save_whole_model("gemma3", tmp_path, others=("thinking_tower.a.weight",))
    with pytest.raises(UserError, match=r"no place for thinking_tower\.a\.weight"):
        load_backbone(str(tmp_path))


def test_a_whole_model_with_a_text_part_of_another_type_is_refused(tmp_path: Path):
    families.save_whole_model("mistral3", tmp_path)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(
        config.replace('"model_type": "mistral"', '"model_type": "gpt_neox"')
    )
    with pytest.raises(UserError, match="type gpt_neox are not supported"):
        load_backbone(str(tmp_path))
