"""Weights on disk: whole models as safetensors that `from_pretrained` reads, adapters merged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.models.adapters import (
    LoraSpec,
    adapter_names,
    delta,
    load_adapter,
    save_adapter,
    save_tensors,
    stream_tensors,
)
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.ensemble import RewardEnsemble, ScoreRule
from burnish.models.heads import ScalarHead
from burnish.models.loading.weights import finite
from burnish.models.quantized import QuantizedLinear, frozen_weights
from burnish.models.roles import View
from burnish.models.trunk import full
from burnish.ranks import first, tell, world

T = TypeVar("T")
_HEAD, _MEMBERS, _SCORING = "head.safetensors", "members", "scoring.json"
Weights = Mapping[str, Callable[[], Tensor]]
"""Every weight of a model by its name, as a function that makes the whole tensor: one at a time, so
that a merged copy of all of them need never stand in memory."""


class Load(Protocol):
    """Loads a model reference; with `scalar_head`, a reward model's folder."""

    def __call__(self, reference: str, /, *, scalar_head: bool = ...) -> Backbone:
        """The model in memory."""
        ...


def merge_on_demand(view: View) -> Weights:
    """For every weight of the role's model, as one that never had adapters, a function that makes
    it; tied weights once.

    On several ranks they are for `led`: each is made by all ranks together.
    """
    model = view.backbone.model
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)
    }
    tied = {"lm_head.weight"} if view.backbone.config.tie_word_embeddings else set()

    @torch.no_grad()
    def make(name: str, tensor: Tensor | QuantizedLinear) -> Tensor:
        layer = layers.get(name.rsplit(".", 1)[0])
        added = (
            delta(layer, view.adapter) if layer is not None and name.endswith(".weight") else None
        )
        whole = tensor.weight if isinstance(tensor, QuantizedLinear) else full(tensor)
        return whole if added is None else whole + added

    found: dict[str, Callable[[], Tensor]] = {}
    quantized = frozen_weights(model)
    for name, tensor in (model.state_dict() | quantized).items():
        if "lora_" not in name and name not in tied:
            clean = name.replace(".base_layer.", ".")
            found[clean] = partial(make, clean, tensor)
    if not (view.backbone.trunk.sharded and first()):
        return found
    return {name: partial(_together, name, make) for name, make in found.items()}


def _together(name: str, make: Callable[[], Tensor]) -> Tensor:
    """What rank 0 makes of its shard while the others, in `led`, make theirs of the same name."""
    tell(("make", name))
    return make()


def led(view: View, act: Callable[[], T]) -> T | None:
    """What `act` gives on rank 0, where it may make the role's merged weights, in any order; the
    other ranks help to make them, and get None.

    In one process it is the call of `act`. An error of rank 0 is raised on every rank.
    """
    if world() == 1:
        return act()
    if first():
        try:
            result = act()
        except Exception as error:
            tell(("error", error))
            raise
        tell(("end", None))
        return result
    makers = merge_on_demand(view)
    while True:
        word, what = tell(None)
        if word == "error":
            raise what
        if word == "end":
            return None
        makers[what]()


def merged(view: View) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of every weight of the role's model, adapters merged."""
    return ((name, make()) for name, make in merge_on_demand(view).items())


def save_model(view: View, folder: Path) -> None:
    """The role as a plain causal language model with its tokenizer; adapters are merged into it.
    All ranks call it together, and rank 0 writes."""
    led(view, partial(_save_model, view, folder))


def _save_model(view: View, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    _write(view, _as_saved(view), folder / "model.safetensors")
    _save_surroundings(view.backbone, folder)


def _as_saved(view: View) -> Weights:
    """The merged weights, in the precision that the model is written in. Making one raises
    UserError where that cannot hold it."""
    dtype = view.backbone.saved

    def make(name: str, whole: Callable[[], Tensor]) -> Tensor:
        tensor = whole()
        narrow = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if not finite(narrow) and finite(tensor):
            raise UserError(
                f"the weight {name} has grown too large for {str(dtype).removeprefix('torch.')}, in"
                " which this model is stored.",
                hint="Train with model.dtype: float32.",
            )
        return narrow

    return {name: partial(make, name, whole) for name, whole in merge_on_demand(view).items()}


def _write(view: View, weights: Weights, path: Path) -> None:
    """One weight after the other, so that a merged model never stands in memory; but where the
    family's checkpoints have other names and shapes than the model (experts), all at once."""
    shapes = _shapes(view.backbone)
    empty = {
        name: torch.empty(shapes[name], dtype=view.backbone.saved, device="meta")
        for name in weights
        if name in shapes
    }
    published = _as_published(view.backbone, dict(empty))
    if {n: t.shape for n, t in published.items()} != {n: t.shape for n, t in empty.items()}:
        made = {name: make() for name, make in weights.items()}
        save_tensors(_as_published(view.backbone, made), path)
        return
    stream_tensors(weights, path)


def _shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Of every weight of the model itself, by its name without adapters."""
    found = {
        name.replace(".base_layer.", "."): tuple(tensor.shape)
        for name, tensor in backbone.model.state_dict().items()
        if "lora_" not in name
    }
    maps = frozen_weights(backbone.model).items()
    return found | {
        name.replace(".base_layer.", "."): (one.out_features, one.in_features) for name, one in maps
    }


def save_policy(view: View, folder: Path, *, base: str) -> None:
    """The role as `save_model` writes it; a policy that is an adapter in PEFT's layout too, under
    `adapter/`."""
    save_model(view, folder)
    _save_own_adapter(view, folder / "adapter", base=base, task_type="CAUSAL_LM")


def _save_own_adapter(view: View, folder: Path, *, base: str, task_type: str) -> None:
    """The role's adapter in PEFT's layout, where it is one."""
    if view.adapter is not None and view.lora is not None:
        save_adapter(view.backbone, view.adapter, view.lora, folder, base=base, task_type=task_type)


def save_reward_model(view: View, folder: Path, *, base: str) -> None:
    """The reward model as `AutoModelForSequenceClassification` (one label) reads it: gain folded
    into the score weight.

    That class has no bias, so its scores are ours minus a constant: b·gain + bias, which stands in
    `head.safetensors` beside it. An adapter reward model is written in PEFT's layout too, under
    `adapter/`. All ranks call it together, and rank 0 writes.
    """
    if view.head is None:
        raise ValueError("a reward model has a head")
    head = {name: full(tensor.detach()) for name, tensor in view.head.state_dict().items()}
    led(view, partial(_save_scored, view, folder, head))
    _save_own_adapter(view, folder / "adapter", base=base, task_type="SEQ_CLS")


def _save_scored(view: View, folder: Path, head: dict[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    score = (head["linear.weight"] * head["gain"]).to(view.backbone.saved)
    weights = {n: make for n, make in _as_saved(view).items() if not n.startswith("lm_head.")}
    _write(view, {**weights, "score.weight": lambda: score}, folder / "model.safetensors")
    save_tensors(head, folder / _HEAD)
    _save_surroundings(view.backbone, folder)
    config = json.loads((folder / "config.json").read_text())
    config["architectures"] = [
        a.replace("ForCausalLM", "ForSequenceClassification")
        for a in config.get("architectures") or []
    ]
    config |= {
        "id2label": {"0": "score"},
        "label2id": {"score": 0},
        "pad_token_id": view.backbone.tokenizer.pad_token_id,
    }
    (folder / "config.json").write_text(dumps(config, indent=2, sort_keys=True) + "\n")


def load_head(folder: Path, width: int) -> ScalarHead:
    """The scalar head that `save_reward_model` wrote."""
    head = ScalarHead(width)
    try:
        head.load_state_dict(load_file(folder / _HEAD))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{_HEAD} is missing or does not fit the model.",
            file=folder,
            hint="Name a folder that the reward stage wrote.",
        ) from error
    return head


def save_members(
    views: Sequence[View], folder: Path, *, place: Path, base: str, rule: ScoreRule | None
) -> None:
    """Beside the reward model in `folder`, which will stand at `place`: its members, adapter sets
    on `base`, each with its head; and the rule by which they score, where they do.

    A single member is the model itself: of it the rule alone is written.
    """
    if len(views) > 1:
        for number, view in enumerate(views):
            assert view.adapter is not None and view.lora is not None and view.head is not None  # noqa: PT018
            own = folder / _MEMBERS / str(number)
            _save_own_adapter(view, own / "adapter", base=base, task_type="SEQ_CLS")
            save_tensors(view.head.state_dict(), own / _HEAD)
    if rule is not None:
        here = os.path.relpath(base, place) if Path(base).exists() else None
        told = {"rule": rule.to_dict(), "base": base, "base_from_here": here}
        (folder / _SCORING).write_text(dumps(told, indent=2, sort_keys=True) + "\n")


def rule_of(folder: Path) -> ScoreRule | None:
    """How the reward model in a folder scores, where that is not by its head alone. Raises
    UserError for a damaged file."""
    path = folder / _SCORING
    if not path.is_file():
        return None
    if world() > 1:
        raise UserError(
            "a reward model that scores by a rule (members, length) is read by one process.",
            file=folder,
            hint="Leave scale.trainers out.",
        )
    try:
        return ScoreRule.of_dict(json.loads(path.read_text())["rule"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "this file does not say how scores are combined.",
            file=path,
            hint="Run the reward stage again.",
        ) from error


def load_reward_adapter(
    backbone: Backbone, folder: Path, *, name: str = "reward"
) -> View | RewardEnsemble:
    """A reward model, or each of its members, as an adapter set on a backbone that is in memory
    already."""
    rule = rule_of(folder)
    if rule is None:
        return _adapter_on(backbone, folder, name)
    if len(rule.slopes) == 1:
        return RewardEnsemble((_adapter_on(backbone, folder, name),), rule)
    places = [folder / _MEMBERS / str(number) for number in range(len(rule.slopes))]
    views = [_adapter_on(backbone, place, f"{name}_{place.name}") for place in places]
    return RewardEnsemble(tuple(views), rule)


def _adapter_on(backbone: Backbone, folder: Path, name: str) -> View:
    if name in adapter_names(backbone):
        raise ValueError(f"the backbone has an adapter {name!r} already")
    spec: LoraSpec = load_adapter(backbone, name, folder / "adapter")
    return View(backbone, name, spec, load_head(folder, backbone.width))


def load_reward_model(folder: Path, load: Load = load_backbone) -> View | RewardEnsemble:
    """A reward model with a backbone of its own: a full copy, or, where it has members, the model
    that they stand on, with each of them as an adapter set."""
    rule = rule_of(folder)
    if rule is None:
        return load_first_member(folder, load)
    if len(rule.slopes) == 1:
        return RewardEnsemble((load_first_member(folder, load),), rule)
    return load_reward_adapter(load(_base_of_members(folder)), folder)


def load_first_member(folder: Path, load: Load = load_backbone) -> View:
    """One reward model as a full copy: of several members the first. Its backbone is loaded, by
    `load`, as a causal model whose language-model head goes unused."""
    backbone = load(str(folder), scalar_head=True)
    return View(backbone, head=load_head(folder, backbone.width))


def _base_of_members(folder: Path) -> str:
    """What members stand on: as seen from their folder, which a copied run keeps, or by name."""
    told = json.loads((folder / _SCORING).read_text())
    here = told["base_from_here"]
    if here is not None and (folder / here).is_dir():
        return str((folder / here).resolve())
    if here is not None and not Path(told["base"]).exists():
        raise UserError(
            f"the members of this reward model stand on {told['base']}, which is not there.",
            file=folder,
            hint="Put it back, or copy the whole run.",
        )
    return str(told["base"])


def _as_published(backbone: Backbone, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names and shapes of the family's checkpoints, which transformers joins
    when it loads them (experts)."""
    return revert_weight_conversion(backbone.model, weights)


def _save_surroundings(backbone: Backbone, folder: Path) -> None:
    config = type(backbone.config).from_dict(backbone.config.to_dict())
    config.architectures = [type(backbone.model).__name__]
    config.dtype = backbone.saved
    config.save_pretrained(folder)
    backbone.model.generation_config.save_pretrained(folder)
    backbone.tokenizer.save_pretrained(folder)
