"""LoRA adapter sets on one backbone (Hu et al., arXiv:2106.09685): h = Wx + (α/r)·B(Ax), with B = 0
at the start.

The layers are PEFT's; what is ours is that several sets live on one frozen backbone and one of
them, or none, is active at a time. On disk a set has PEFT's own layout.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MethodType
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from burnish.errors import UserError
from burnish.jsonio import dumps
from burnish.models.backbone import Backbone
from burnish.models.dropout import AdapterDropout
from burnish.models.precision import narrowed
from burnish.models.quantized import QuantizedLinear, unread
from burnish.models.trunk import full
from burnish.ranks import first

_HEADER = 256  # bytes that a tensor takes in a file's header, besides its name
_PREFIX = "base_model.model."
_PRODUCTS = {  # precisions in which a layer's products may be made, by that of its input
    torch.float64: (torch.float64,),
    torch.float32: (torch.float32, torch.bfloat16),
    torch.bfloat16: (torch.bfloat16,),
    torch.float16: (torch.float16,),
}


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """The shape of an adapter set.

    Args:
        r: rank.
        alpha: α; what is added is scaled by α / r, with `rslora` by α / √r (arXiv:2312.03732).
        targets: names of the linear layers that it is on; None: all that the model's type has
            adapters on.
        dora: the length of each row is learnt apart (arXiv:2402.09353):
            W' = m (W + sBA) / ‖W + sBA‖ by rows, where the gradient takes ‖·‖ for a constant.
        dropout: share of the adapter's inputs that are 0 at an update, the others scaled up
            (`burnish.models.dropout`).
    """

    r: int
    alpha: float
    targets: tuple[str, ...] | None = None
    rslora: bool = False
    dora: bool = False
    dropout: float = 0.0


def add_adapter(backbone: Backbone, name: str, spec: LoraSpec, *, seed: int) -> None:
    """Put a fresh set called `name` on the backbone's linear layers; A is drawn from `seed`, B is
    0. Leaves it inactive. Raises UserError for layers that the model does not have, and for DoRA
    over weights in bfloat16."""
    if name in adapter_names(backbone):
        raise ValueError(f"the backbone has an adapter {name!r} already")
    targets = _targets(backbone, spec)
    frozen = [p for p in backbone.model.parameters() if not p.requires_grad]
    with torch.random.fork_rng(devices=[]), unread(backbone.model, unless=spec.dora):
        torch.manual_seed(seed)
        config = _lora_config(spec, targets, exclude_modules=["lm_head"])
        with warnings.catch_warnings():
            # several sets on one model are what we want
            warnings.filterwarnings("ignore", "Already found a `peft_config`")
            inject_adapter_in_model(config, backbone.model, adapter_name=name)
    for parameter in frozen:  # injecting a set must not wake another
        parameter.requires_grad_(False)
    for parameter in adapter_parameters(
        backbone, name
    ).values():  # PEFT takes over the precision of the layer below
        parameter.data = parameter.data.to(backbone.stream)
    for place, layer in _named_layers(backbone):
        cast(Any, layer).forward = MethodType(_forward, layer)
        if spec.dropout and name in layer.lora_A:
            layer.lora_dropout[name] = AdapterDropout(
                spec.dropout, name=f"{place} {name}", dropping=backbone.dropping
            )
    activate(backbone, None)


def adapter_names(backbone: Backbone) -> list[str]:
    """The sets on this backbone."""
    return list(dict.fromkeys(name for layer in _layers(backbone) for name in layer.lora_A))


def activate(backbone: Backbone, name: str | None) -> None:
    """Make `name` the only active set; None runs the bare backbone. Gradients stay as they were
    asked for."""
    for layer in _layers(backbone):
        layer._disable_adapters = name is None
        layer._active_adapter = [] if name is None else [name]


def adapter_parameters(backbone: Backbone, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one set, by their names in the model."""
    marks = tuple(f".{part}.{name}." for part in ("lora_A", "lora_B", "lora_magnitude_vector"))
    return {n: p for n, p in backbone.model.named_parameters() if any(mark in n for mark in marks)}


def copy_adapter(backbone: Backbone, source: str, target: str) -> None:
    """Give set `target` the weights of set `source` (a critic starts as the reward model)."""
    with torch.no_grad():
        for layer in _layers(backbone):
            for part in (layer.lora_A, layer.lora_B, layer.lora_magnitude_vector):
                if source in part:
                    _weight(part, target).copy_(_weight(part, source))


def average_adapters(
    backbone: Backbone, sources: Sequence[str], target: str, spec: LoraSpec
) -> LoraSpec:
    """Put the average of what the sets `sources`, all of this shape, add to the weights on the
    backbone as set `target`, and return its shape.

    (1/N) Σ s B_i A_i = s [B_1/N … B_N/N] [A_1; …; A_N]: exact, of N times the rank.
    """
    if spec.dora:
        raise ValueError("the average of DoRA sets is no set of adapters")
    several = len(sources)
    scaled = math.sqrt(several) if spec.rslora else several  # s stays what it is
    whole = replace(spec, r=several * spec.r, alpha=scaled * spec.alpha)
    add_adapter(backbone, target, whole, seed=0)
    with torch.no_grad():
        for layer in (layer for layer in _layers(backbone) if target in layer.lora_A):
            _weight(layer.lora_A, target).copy_(
                torch.cat([_weight(layer.lora_A, one) for one in sources])
            )
            _weight(layer.lora_B, target).copy_(
                torch.cat([_weight(layer.lora_B, one) / several for one in sources], dim=1)
            )
    return whole


def delta(layer: object, name: str | None) -> Tensor | None:
    """(α/r)·BA, what set `name` adds to the weight of `layer`, or with DoRA what it changes in it;
    None where nothing is changed. Whole on every rank."""
    if name is None or not isinstance(layer, LoraLayer) or name not in layer.lora_A:
        return None
    b, a = full(_weight(layer.lora_B, name)), full(_weight(layer.lora_A, name))
    added = layer.scaling[name] * (b @ a)
    if name not in layer.lora_magnitude_vector:
        return added
    weight = full(cast(nn.Linear, layer.get_base_layer()).weight)
    whole = weight + added
    length = full(_weight(layer.lora_magnitude_vector, name)) / whole.norm(dim=1)
    return length[:, None] * whole - weight


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """As safetensors that transformers and PEFT read, wherever the tensors are."""
    save_file(
        {name: t.cpu().contiguous() for name, t in tensors.items()}, path, metadata={"format": "pt"}
    )


_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.int8: "I8", torch.bool: "BOOL",
}  # fmt: skip


def stream_tensors(weights: Mapping[str, Callable[[], Tensor]], path: Path) -> None:
    """`save_tensors` of tensors that are made one after the other, and let go as they are
    written. The header, whose place must be known first, is written last: it needs no more than
    each tensor's shape."""
    room = _HEADER * (len(weights) + 1) + sum(2 * len(name) for name in weights)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    with path.open("wb") as file:
        file.seek(8 + room)
        at = 0
        for name, make in weights.items():
            tensor = make().detach().cpu().contiguous()
            header[name] = {
                "dtype": _NAMES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [at, at + tensor.nbytes],
            }
            at += tensor.nbytes
            if tensor.numel():
                file.write(tensor.flatten().view(torch.uint8).numpy().data)
        text = dumps(header).encode()
        if len(text) > room:
            raise ValueError(f"the header of {path} takes {len(text)} bytes, and {room} were kept")
        file.seek(0)
        file.write(room.to_bytes(8, "little") + text.ljust(room))


def save_adapter(
    backbone: Backbone, name: str, spec: LoraSpec, folder: Path, *, base: str, task_type: str
) -> None:
    """Write a set in PEFT's layout: adapter_config.json and adapter_model.safetensors. All ranks
    call it together, and rank 0 writes."""
    shards = get_peft_model_state_dict(backbone.model, adapter_name=name)
    weights = {key: full(tensor) for key, tensor in shards.items()}
    if not first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors({_PREFIX + k: v for k, v in weights.items()}, folder / "adapter_model.safetensors")
    targets = sorted({k.split(".lora_")[0].rsplit(".", 1)[-1] for k in weights})
    config = _lora_config(
        spec, targets, base_model_name_or_path=base, task_type=task_type, inference_mode=True
    )
    for name, value in vars(config).items():
        if isinstance(
            value, set
        ):  # PEFT would write it in an order that changes from process to process
            setattr(config, name, sorted(value))
    config.save_pretrained(str(folder))


def load_adapter(backbone: Backbone, name: str, folder: Path) -> LoraSpec:
    """Read a set that `save_adapter` or PEFT wrote onto the backbone, as `name`. Raises UserError
    if it does not fit."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        raise UserError(
            "this folder holds no LoRA adapter that can be read.", file=folder
        ) from error
    spec = _spec_of(config, backbone)
    add_adapter(backbone, name, spec, seed=0)
    parameters = adapter_parameters(backbone, name)
    wanted = {  # PEFT writes a length without the name of its module
        n.replace(f".{name}.", ".").replace("_vector.weight", "_vector"): p
        for n, p in parameters.items()
    }
    given = {n.removeprefix(_PREFIX): w for n, w in weights.items() if "lora_" in n}
    if wanted.keys() != given.keys() or any(wanted[n].shape != given[n].shape for n in wanted):
        raise UserError(
            "this adapter was made for another model.",
            file=folder,
            hint=f"It names {config.get('base_model_name_or_path')!r} as its base.",
        )
    with torch.no_grad():
        for parameter_name, parameter in wanted.items():
            parameter.copy_(given[parameter_name])
    return spec


def _forward(layer: Any, x: Tensor) -> Tensor:
    """The same sum as PEFT's own forward, with fewer passes over memory, where the weight below is
    frozen."""
    base = layer.get_base_layer()
    quantized = isinstance(base, QuantizedLinear)
    if layer._disable_adapters or not layer._active_adapter:
        return base(x)
    (name,) = layer._active_adapter
    if name not in layer.lora_A:
        return base(x)
    a, b = _weight(layer.lora_A, name), _weight(layer.lora_B, name)
    dropout = layer.lora_dropout[name]
    drops = isinstance(dropout, AdapterDropout) and dropout.on
    weight = base if quantized else base.weight
    if (
        (not quantized and weight.requires_grad)
        or name in layer.lora_variant
        or not x.dtype == a.dtype == b.dtype
        or _products(weight) not in _PRODUCTS[x.dtype]
    ):
        layer.training = drops  # where lengths are learnt apart, PEFT looks at this too
        return type(layer).forward(layer, x)
    kept = dropout.kept(x) if drops else None
    grown = 1.0 / (1.0 - dropout.p) if drops else 1.0
    return _LoraLinear.apply(x, weight, base.bias, a, b, layer.scaling[name], kept, grown)


def _products(weight: Tensor | QuantizedLinear) -> torch.dtype:
    """The precision that products with a frozen matrix are made in."""
    return weight.products if isinstance(weight, QuantizedLinear) else weight.dtype


def _wide(weight: Tensor | QuantizedLinear) -> Tensor:
    """[N, K] in that precision."""
    return weight.widened(weight.products) if isinstance(weight, QuantizedLinear) else weight


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + bias + s (x Aᵀ) Bᵀ with W frozen. The adapter's part is added in place to the
    output, and to the gradient of x, instead of being made, scaled and added in passes of their
    own. With W in bfloat16 all products are made in it. Of a quantized W codes alone are kept, and
    widened again for the backward pass.

    With `kept` [T, D] bool the adapter reads `grown` · (kept ⊙ x) in the place of x; of that, what
    is kept for the backward pass is a byte a number."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | QuantizedLinear,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        scaling: float,
        kept: Tensor | None = None,
        grown: float = 1.0,
    ) -> Tensor:
        products, wide = _products(weight), _wide(weight)
        a, b = a.to(products), b.to(products)
        bias = None if bias is None else bias.to(products)
        flat = narrowed(x, products).flatten(0, -2)
        inner = flat @ a.T if kept is None else (flat * kept) @ a.T
        scaling = scaling * grown  # what is left out and what is scaled up are both linear in x
        y = flat @ wide.T if bias is None else torch.addmm(bias, flat, wide.T)
        y.addmm_(inner, b.T, alpha=scaling)
        held = None if isinstance(weight, QuantizedLinear) else weight
        ctx.save_for_backward(flat, inner, held, a, b, kept)
        ctx.scaling, ctx.quantized = scaling, weight if held is None else None
        return y.unflatten(0, x.shape[:-1]).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        flat, inner, held, a, b, kept = ctx.saved_tensors
        weight = ctx.quantized if held is None else held
        wide = grad.dtype
        by_y = grad.flatten(0, -2).to(_products(weight))
        by_inner = (by_y @ b).mul_(ctx.scaling)
        by_x = None
        if ctx.needs_input_grad[0]:
            by_x = by_y @ _wide(weight)
            if kept is None:
                by_x.addmm_(by_inner, a)
            else:
                by_x.add_((by_inner @ a).mul_(kept))
            by_x = by_x.unflatten(0, grad.shape[:-1]).to(wide)
        read = flat if kept is None else flat * kept
        by_a = (by_inner.T @ read).to(wide) if ctx.needs_input_grad[3] else None
        by_b = (by_y.T @ inner).mul_(ctx.scaling).to(wide) if ctx.needs_input_grad[4] else None
        return by_x, None, None, by_a, by_b, None, None, None


def _weight(part: nn.ModuleDict, name: str) -> Tensor:
    return cast(nn.Linear, part[name]).weight


def _lora_config(spec: LoraSpec, targets: list[str], **options: Any) -> LoraConfig:
    # PEFT declares an int, but scales by alpha / r and takes any number.
    alpha = cast(int, spec.alpha)
    return LoraConfig(
        r=spec.r,
        lora_alpha=alpha,
        target_modules=targets,
        lora_dropout=spec.dropout,
        bias="none",
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        **options,
    )


def _targets(backbone: Backbone, spec: LoraSpec) -> list[str]:
    known = backbone.kind.lora
    unknown = [name for name in spec.targets or () if name not in known]
    if unknown:
        raise UserError(
            f"adapters cannot be put on {unknown[0]!r} in a model of type {backbone.kind.name}.",
            field="lora.targets",
            hint=f"Its layers for adapters: {', '.join(known)}.",
        )
    if spec.dora and backbone.products != backbone.stream:
        raise UserError(
            "lengths are not learnt over weights in bfloat16.",
            field="lora.dora",
            hint="Set model.dtype: float32, or dora: false.",
        )
    return sorted(set(spec.targets or known))


def _spec_of(config: Mapping[str, Any], backbone: Backbone) -> LoraSpec:
    """The shape that an adapter_config.json tells of."""
    names = config.get("target_modules")
    named = tuple(sorted(names)) if isinstance(names, list) else None
    return LoraSpec(
        r=int(config["r"]),
        alpha=float(config["lora_alpha"]),
        targets=None if named == tuple(sorted(backbone.kind.lora)) else named,
        rslora=bool(config.get("use_rslora")),
        dora=bool(config.get("use_dora")),
        dropout=float(config.get("lora_dropout") or 0.0),
    )


def _layers(backbone: Backbone) -> Iterator[LoraLayer]:
    return (layer for _, layer in _named_layers(backbone))


def _named_layers(backbone: Backbone) -> Iterator[tuple[str, LoraLayer]]:
    return (
        (name, module)
        for name, module in backbone.model.named_modules()
        if isinstance(module, LoraLayer)
    )
