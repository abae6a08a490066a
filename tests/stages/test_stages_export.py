"""What a run exports loads elsewhere and says the same; adapters trained on one another become one
on the first model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

import burnish
from burnish.errors import UserError
from burnish.models.sources import ALIASES
from burnish.models.tiny import tiny_model, tiny_tokenizer
from burnish.stages.export import export

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}, with pleasure."} for i in range(16)]
PAIRS = [{"prompt": f"Say {i}.", "chosen": f"{i}!", "rejected": "No."} for i in range(16)]
INPUT = torch.tensor([[5, 17, 40, 9, 63, 21]])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "base"
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def run(base: str, tmp_path_factory: pytest.TempPathFactory) -> burnish.Result:
    lora, rate = {"r": 2, "alpha": 4}, {"learning_rate": 1e-2}
    recipe: dict[str, Any] = {
        "model": {"name": base},
        "data": {"demonstrations": ROWS, "comparisons": PAIRS, "heldout": 0.25},
        "stages": {
            "sft": {"epochs": 1, "batch_size": 4, "lora": lora, "optimizer": rate},
            "dpo": {
                "start": "sft",
                "batch_size": 4,
                "lora": {"r": 3, "alpha": 3},
                "optimizer": rate,
            },
            "evaluate": {
                "models": ["base", "dpo"],
                "taste": True,
                "sampling": {"max_new_tokens": 4},
                "count": 3,
            },
        },
    }
    return burnish.run(recipe, out=tmp_path_factory.mktemp("runs") / "run", threads=1, quiet=True)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(INPUT).logits.float()


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_an_adapter_on_the_original_model_says_what_the_merged_one_says(
    stage: str, run: burnish.Result, base: str, tmp_path: Path
):
    done = export(str(run), tmp_path / "adapter", to="adapter", stage=stage)
    assert done.base == base
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == base
    assert config["r"] == {"sft": 2, "dpo": 5}[stage]
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"
    )
    torch.testing.assert_close(logits(model), logits(run.model(stage)), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        logits(model), logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-3
    )
    assert not (tmp_path / "adapter" / "model.safetensors").exists()


def test_an_alias_is_exported_by_its_hub_id(run: burnish.Result, tmp_path: Path):
    shutil.copytree(run / "sft" / "model" / "adapter", tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "smollm2-135m"})
    )
    done = export(str(tmp_path / "adapter"), tmp_path / "out", to="adapter")
    assert done.base == ALIASES["smollm2-135m"].hub_id


def test_merged_in_another_type_and_in_shards(run: burnish.Result, tmp_path: Path):
    done = export(str(run), tmp_path / "out", dtype="bfloat16", shard_size="100KB")
    assert len(done.weights) > 1
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == set(done.weights)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16
    exact = run.model("dpo")
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, exact.state_dict()[name].to(torch.bfloat16))
    whole = export(str(run / "dpo"), tmp_path / "whole")
    assert whole.weights == ("model.safetensors",)
    assert torch.equal(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "whole")), logits(exact)
    )


def test_an_adapter_by_itself_is_merged_onto_its_base(run: burnish.Result, tmp_path: Path):
    export(str(run / "sft" / "model" / "adapter"), tmp_path / "out")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(merged), logits(run.model("sft")), atol=1e-4, rtol=1e-4)


def test_the_card_says_where_it_comes_from_what_was_measured_and_what_not_to_trust(
    run: burnish.Result, tmp_path: Path
):
    export(str(run), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    for words in (
        "`sft`: sft",
        "`dpo`: preference (dpo)",
        "Gold taste",
        "95 %",
        "## What to be careful of",
        "## Licences",
    ):
        assert words in body
    assert "stages:" in body


def test_what_cannot_be_exported_says_why(run: burnish.Result, base: str, tmp_path: Path):
    full = burnish.sft(
        base, ROWS, lora=None, batch_size=8, threads=1, quiet=True, out=tmp_path / "full"
    )
    for arguments, words in [
        ({"what": str(full), "to": "adapter"}, "every weight was trained"),
        (
            {"what": str(run), "stage": "evaluate"},
            'no model of a stage "evaluate". Models: sft, dpo',
        ),
        ({"what": str(run), "dtype": "int3"}, "must be one of float32"),
        ({"what": str(run), "to": "mlx"}, "must be merged, adapter or gguf"),
        ({"what": str(run), "shard_size": "much"}, '"much" is no size'),
        ({"what": "tiny"}, "made in memory"),
    ]:
        with pytest.raises(UserError, match=words):
            export(out=tmp_path / "out", **arguments)
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="is there already"):
        export(str(run), tmp_path / "out")
