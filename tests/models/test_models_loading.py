"""Loading believes nothing: every weight must be there, have its shape and be finite, and the
vocabulary must fit."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from model_folders import SHAPE, random_llama, reconfigure, reweight, save, save_family, shard
from torch import Tensor

from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.loading.load import load_model
from burnish.models.roles import View
from burnish.models.supported import SUPPORTED, ModelType
from burnish.models.tiny import tiny_tokenizer
from burnish.models.weights import save_model

Weights = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "model")


def refused(folder: Path | str, match: str) -> str:
    """The one line by which a folder is refused."""
    with pytest.raises(UserError, match=match) as error:
        load_backbone(str(folder))
    line = str(error.value)
    assert "\n" not in line
    return line


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 40)[None], use_cache=False).logits


def with_nan(weights: Weights) -> Weights:
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    return weights


def with_infinity(weights: Weights) -> Weights:
    weights["model.norm.weight"][7] = -float("inf")
    return weights


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: {f"_orig_mod.{k}": v for k, v in w.items()}, '"_orig_mod." in it, so lm_head.weight'),  # noqa: E501
        (lambda w: {f"module.{k}": v for k, v in w.items()}, '"module." in it'),
        (lambda w: {f"base_model.model.{k}": v for k, v in w.items()}, '"base_model.model." in it'),
        (lambda w: {k: v for k, v in w.items() if "lm_head" not in k}, r"lm_head\.weight is missing"),  # noqa: E501
        (lambda w: {k: v for k, v in w.items() if "layers.1." not in k}, r"layers\.1\.input_layernorm.* and 6 more are missing"),  # noqa: E501
        (lambda w: {k.replace("q_proj.weight", "q_proj.base_layer.weight"): v for k, v in w.items()}, "an adapter in it"),  # noqa: E501
        (lambda w: {**w, "model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}, r"no place for model\.layers\.0\.self_attn\.q_proj\.bias"),  # noqa: E501
        (lambda w: {**w, "model.layers.2.mlp.up_proj.weight": torch.zeros(96, 64)}, r"no place for model\.layers\.2"),  # noqa: E501
        (lambda w: {**w, "v_head.summary.weight": torch.zeros(1, 64)}, "reward, value or classification"),  # noqa: E501
        (lambda w: {**w, "lm_head.weight": torch.zeros(300, 64)}, r"lm_head\.weight is 300 x 64, and config\.json makes it 264 x 64"),  # noqa: E501
        (lambda w: {**w, "model.norm.weight": torch.zeros(63)}, r"model\.norm\.weight is 63, and"),
        (lambda w: {k: v.T.contiguous() if "up_proj" in k else v for k, v in w.items()}, r"is 64 x 96, and config\.json makes it 96 x 64"),  # noqa: E501
        (with_nan, r"layers\.1\.mlp\.up_proj\.weight holds values that are not finite \(1 of 6,144\)"),  # noqa: E501
        (with_infinity, r"model\.norm\.weight holds values that are not finite \(1 of 64\)"),
        (lambda w: {**w, "model.norm.weight": torch.full((64,), 1e300, dtype=torch.float64)}, "too large for float32 .it is stored as float64"),  # noqa: E501
        (lambda w: {**w, "lm_head.weight": (w["lm_head.weight"] * 100).to(torch.int8)}, r"lm_head\.weight is stored as I8"),  # noqa: E501
        (lambda w: {**w, "lm_head.weight": w["lm_head.weight"].to(torch.float8_e4m3fn)}, r"lm_head\.weight is stored as F8_E4M3"),  # noqa: E501
        (lambda w: {}, "holds no weights"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_models_are_refused_by_name(
    folder: Path, change: Callable[[Weights], Weights], match: str
):
    assert str(folder) in refused(reweight(folder, change), match)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w,
        lambda w: {**w, "model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(8)},
        lambda w: {**w, "model.rotary_emb.inv_freq": torch.zeros(8)},
        lambda w: {k: v.to(torch.float64) for k, v in w.items()},
        lambda w: {k: v.half() if "norm" in k else v for k, v in w.items()},
    ],
    ids=["whole", "old rotary buffers", "new rotary buffer", "float64", "norms in float16"],
)
def test_weights_that_are_the_models_load(folder: Path, change: Callable[[Weights], Weights]):
    reweight(folder, change)
    torch.testing.assert_close(
        logits(load_model(str(folder)).model), logits(random_llama()), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("stored", ["neither twice", "head stored as well", "head stored alone"])
def test_a_tied_head_may_stand_in_the_file_or_not(tmp_path: Path, stored: str):
    folder = save(tmp_path / "tied", random_llama(tie_word_embeddings=True))

    def change(weights: Weights) -> Weights:
        embedding = weights.pop("model.embed_tokens.weight")
        names = {
            "neither twice": ["model.embed_tokens.weight"],
            "head stored as well": ["model.embed_tokens.weight", "lm_head.weight"],
            "head stored alone": ["lm_head.weight"],
        }[stored]
        return {**weights, **{name: embedding.clone() for name in names}}

    model = load_model(str(reweight(folder, change))).model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(
        logits(model), logits(random_llama(tie_word_embeddings=True)), atol=1e-6, rtol=1e-6
    )


def test_a_head_of_its_own_is_kept_and_saved_whatever_config_says(tmp_path: Path):
    untied = random_llama()
    folder = reconfigure(save(tmp_path / "model", untied), tie_word_embeddings=True)
    said: list[str] = []
    backbone = load_backbone(str(folder), say=said.append)
    assert any("not tied" in line for line in said)
    save_model(View(backbone), tmp_path / "again")
    torch.testing.assert_close(
        logits(load_model(str(tmp_path / "again")).model), logits(untied), atol=1e-6, rtol=1e-6
    )


def test_wider_weights_become_infinite_in_float16_and_are_named(folder: Path):
    reweight(
        folder,
        lambda w: {
            **w,
            "lm_head.weight": w["lm_head.weight"].index_fill(0, torch.tensor([2]), 1e5),
        },
    )
    load_model(str(folder))
    with pytest.raises(UserError, match=r"lm_head\.weight holds values too large for float16"):
        load_model(str(folder), dtype=torch.float16)


def test_large_finite_weights_are_finite(folder: Path):
    """Their sum is not: only a look at each tells."""
    reweight(folder, lambda w: {**w, "lm_head.weight": torch.full_like(w["lm_head.weight"], 3e38)})
    assert load_model(str(folder)).model is not None


@pytest.mark.parametrize(
    ("more", "tokens", "match"),
    [
        ({"vocab_size": 259}, ["answer", "<think>"], r"tokenizer has 261 tokens and the model's embedding 259 rows: none for 'answer', '<think>'"),  # noqa: E501
        ({"vocab_size": 258, "eos_token_id": 256}, [], "none for '<|im_start|>'"),
        ({"vocab_size": 300, "eos_token_id": 300}, [], "eos_token_id is 300, and the model has tokens 0 to 299"),  # noqa: E501
        ({"vocab_size": 300, "eos_token_id": [256, 999]}, [], "eos_token_id is 999"),
        ({"vocab_size": 300, "bos_token_id": -7}, [], "bos_token_id is -7"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_does_not_fit_is_refused(
    tmp_path: Path, more: dict, tokens: list[str], match: str
):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(tokens)
    whole = {"vocab_size": more["vocab_size"], "eos_token_id": 256, "pad_token_id": 257}
    folder = save(tmp_path / "model", random_llama(**whole), tokenizer)
    refused(
        reconfigure(reconfigure(folder, **more), "generation_config.json", **more),
        match.replace("|", r"\|"),
    )


def test_padding_of_the_embedding_is_fine(tmp_path: Path):
    load_backbone(str(save(tmp_path / "model", random_llama(vocab_size=320))))


def test_tokens_that_stand_for_images_may_have_no_row(tmp_path: Path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<image_soft_token>"]}
    )
    said: list[str] = []
    load_backbone(
        str(save(tmp_path / "model", random_llama(vocab_size=259), tokenizer)), say=said.append
    )
    assert "<image_soft_token>" in said[0]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        *(({"quant_method": method}, method) for method in (
            "gptq", "awq", "compressed-tensors", "torchao", "hqq", "quanto", "aqlm", "fbgemm_fp8", "bitnet", "nvfp4",  # noqa: E501
            "modelopt", "one of tomorrow")),
        ("int4", "int4"),
        ({"bits": 4}, "of a kind that is not named"),
    ],
)  # fmt: skip
def test_quantised_weights_are_refused_with_the_way_out(folder: Path, settings: object, match: str):
    line = refused(reconfigure(folder, quantization_config=settings), rf"quantised \({match}\)")
    assert "full-precision" in line


def test_no_quantisation_is_none(folder: Path):
    load_backbone(str(reconfigure(folder, quantization_config=None)))


def test_fp8_weights_are_widened(tmp_path: Path):
    """Blocks of 32 x 32 with a scale each: stored value times scale is the weight."""
    plain = random_llama()
    folder = save(tmp_path / "model", plain)
    linears = [n for n, _ in plain.named_parameters() if "_proj" in n]
    expected: Weights = {}

    def change(weights: Weights) -> Weights:
        for name in linears:
            rows, columns = weights[name].shape
            blocks = weights[name].reshape(rows // 32, 32, columns // 32, 32)
            scale = blocks.abs().amax((1, 3)) / 448
            narrow = (blocks / scale[:, None, :, None]).to(torch.float8_e4m3fn)
            expected[name] = (narrow.float() * scale[:, None, :, None]).reshape(rows, columns)
            weights[name] = narrow.reshape(rows, columns)
            weights[f"{name}_scale_inv"] = scale
        return weights

    reweight(folder, change)
    reconfigure(folder, quantization_config={"quant_method": "fp8", "weight_block_size": [32, 32]})
    said: list[str] = []
    backbone = load_backbone(str(folder), say=said.append)
    assert backbone.quantised
    assert "quantised (fp8); they are widened" in said[0]
    loaded = dict(backbone.model.named_parameters())
    for name in linears:
        torch.testing.assert_close(loaded[name], expected[name], atol=1e-7, rtol=1e-6)
    save_model(View(backbone), tmp_path / "again")
    assert "quantization_config" not in (tmp_path / "again" / "config.json").read_text()


def test_mxfp4_experts_are_widened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two values of 4 bits a byte, and a power of two for each 32 of them (OCP Microscaling, E2M1
    and E8M0)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    monkeypatch.setitem(SUPPORTED, "gpt_oss", ModelType("gpt_oss", "gpt-oss"))
    values = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])
    config = AutoConfig.for_model(
        "gpt_oss", **SHAPE, num_local_experts=4, num_experts_per_tok=2, head_dim=16
    )
    config.intermediate_size = 64
    torch.manual_seed(0)
    folder = save(tmp_path / "model", AutoModelForCausalLM.from_config(config).float())
    generator = torch.Generator().manual_seed(1)
    expected: Weights = {}

    def change(weights: Weights) -> Weights:
        for name in [n for n in weights if n.endswith(("gate_up_proj", "down_proj"))]:
            experts, columns, rows = weights.pop(
                name
            ).shape  # stored transposed: a row of blocks for each output
            codes = torch.randint(0, 16, (experts, rows, columns // 32, 32), generator=generator)
            powers = torch.randint(120, 125, (experts, rows, columns // 32), generator=generator)
            widened = values[codes] * torch.exp2(powers.float() - 127)[..., None]
            expected[name] = widened.flatten(2).transpose(1, 2)
            weights[f"{name}_blocks"] = (codes[..., 0::2] | (codes[..., 1::2] << 4)).to(torch.uint8)
            weights[f"{name}_scales"] = powers.to(torch.uint8)
        return weights

    reweight(folder, change)
    reconfigure(folder, quantization_config={"quant_method": "mxfp4"})
    loaded = dict(load_model(str(folder)).model.named_parameters())
    assert len(expected) == 4
    for name, widened in expected.items():
        torch.testing.assert_close(loaded[name], widened, atol=0, rtol=1e-6)


def test_code_in_a_folder_is_never_run_nor_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def ask(*_: object) -> str:
        raise AssertionError("a question was asked")

    monkeypatch.setattr("builtins.input", ask)
    ran = folder / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Tok: pass\nclass Cfg: pass\n")
    reconfigure(
        folder,
        "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["own.Tok", None]},
        tokenizer_class="Tok",
    )
    assert "own.Tok" in refused(folder, "needs code of its own")
    reconfigure(
        folder, "tokenizer_config.json", auto_map=..., tokenizer_class="PreTrainedTokenizerFast"
    )
    # Llama is known without it
    load_backbone(str(reconfigure(folder, auto_map={"AutoModelForCausalLM": "own.Model"})))
    reconfigure(
        folder,
        model_type="mine",
        auto_map={"AutoConfig": "own.Cfg", "AutoModelForCausalLM": "own.Model"},
    )
    refused(folder, "own.Cfg, own.Model.*which Burnish never runs")
    assert not ran.exists()


def test_shards_load_like_one_file(folder: Path):
    torch.testing.assert_close(
        logits(load_model(str(shard(folder, 3))).model),
        logits(random_llama()),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("names", "match"),
    [(["pytorch_model.bin"], "pickle"), (["model.pt"], "pickle"), (["x.Q4_0.gguf"], "only x.Q4_0.gguf"),  # noqa: E501
     (["consolidated.safetensors"], "only consolidated.safetensors"), ([], "holds no weights"),
     (["training_args.bin"], "holds no weights")],
)  # fmt: skip
def test_weights_of_another_format_are_refused(folder: Path, names: list[str], match: str):
    (folder / "model.safetensors").unlink()
    for name in names:
        (folder / name).write_bytes(b"\x80\x04")
    line = refused(folder, match)
    assert ("safetensors with save_pretrained" in line) == (match == "pickle")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser reads everything")
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "."])
def test_what_may_not_be_read_is_named(folder: Path, name: str):
    (folder / name).chmod(0)
    try:
        refused(folder, "cannot be read|no whole|cannot be loaded")
    finally:
        (folder / name).chmod(0o700)


def test_not_a_number_in_the_logits_is_not_called_a_transformation(folder: Path):
    line = refused(reconfigure(folder, rms_norm_eps=-1.0), "not finite")
    assert "transform" not in line


def test_families_load_with_their_own_names(tmp_path: Path):
    for kind, more in {"qwen3": {"head_dim": 16}, "mixtral": {"num_local_experts": 4}}.items():
        load_model(str(save_family(tmp_path / kind, kind, **more)))
