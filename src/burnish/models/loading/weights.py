"""Whether what was loaded is the model that config.json describes: no weight missing, left over,
misshapen or not finite."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from burnish.errors import UserError
from burnish.models.loading.folder import CONFIG, StoredTensor

_PREFIXES = (
    "_orig_mod.",
    "module.",
    "base_model.model.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)
"""What torch.compile, DistributedDataParallel, PEFT, FSDP and its recomputation put before or into
every name."""
_BENIGN = re.compile(r"(inv_freq|(cos|sin)_cached|position_ids|masked_bias|_extra_state)$")
_HEADS = re.compile(r"^(v_head|score|classifier|value_head|qa_outputs)\.")
_AT_ONCE = 2**22  # numbers that are looked at
_NAMED = 3  # weights named in a message


def refuse_larger_than_stored(
    config: Any, tensors: Mapping[str, StoredTensor], folder: Path
) -> None:
    """Refuse a count of layers or experts that the stored weights cannot fill: making them would
    not end."""
    widest = max((max(tensor.shape, default=1) for tensor in tensors.values()), default=1)
    most = max(len(tensors), widest)
    for name, value in sorted(vars(config.get_text_config()).items()):
        counts = re.search(r"layers|experts|blocks", name) is not None and isinstance(value, int)
        if counts and value > most:
            raise UserError(
                f"it says {name}: {value}, and the files hold {len(tensors)} weights.",
                file=folder / CONFIG,
                hint="Copy or download the model again.",
            )


def refuse_more_than_stored(
    skeleton: nn.Module, tensors: Mapping[str, StoredTensor], folder: Path
) -> None:
    """Refuse a model that has many more parameters than the files: naming each would first fill the
    memory with them."""
    needed, stored = (
        sum(p.numel() for p in skeleton.parameters()),
        sum(t.size for t in tensors.values()),
    )
    if needed > 4 * stored + 10_000_000:
        raise UserError(
            f"it describes a model of {needed:,} parameters, and the files hold {stored:,}.",
            file=folder / CONFIG,
            hint="Copy or download the model again.",
        )


def refuse_missing(
    missing: Collection[str], tensors: Mapping[str, StoredTensor], folder: Path
) -> None:
    """Refuse a model that lacks weights: transformers would fill them with random numbers."""
    if not missing:
        return
    prefix = _common_prefix(tensors)
    if prefix:
        raise UserError(
            f'the name of every weight has "{prefix}" in it, so {_list(missing)} {_are(missing)}'
            " missing.",
            file=folder,
            hint=f'Save the model inside the wrapper, or take "{prefix}" off the names.',
        )
    adapted = [name for name in tensors if ".lora_" in name or ".base_layer." in name]
    if adapted:
        raise UserError(
            f"these weights are those of a model with an adapter in it ({adapted[0]}), so"
            f" {_list(missing)} {_are(missing)} missing.",
            file=folder,
            hint="Merge the adapter (merge_and_unload) and save again, or save the adapter alone.",
        )
    raise UserError(
        f"{_list(missing)} {_are(missing)} missing from the weights.",
        file=folder,
        hint="Copy or download the model again, or name the whole one.",
    )


def refuse_unexpected(unexpected: Collection[str], folder: Path) -> None:
    """Refuse weights that the model has no place for: it is not the model that was saved. Old
    buffers are no weights."""
    left = [name for name in unexpected if not _BENIGN.search(name)]
    if not left:
        return
    heads = [name for name in left if _HEADS.match(name)]
    hint = (
        "Its config.json belongs to another model, or it was saved with parts that this type of"
        " model does not have."
    )
    if heads:
        hint = (
            "This was saved as a reward, value or classification model: name the language model"
            " itself."
        )
    raise UserError(f"the model has no place for {_list(heads or left)}.", file=folder, hint=hint)


def refuse_misshapen_ends(skeleton: Any, tensors: Mapping[str, StoredTensor], folder: Path) -> None:
    """Refuse an embedding or a head of another shape than config.json says, before transformers
    ties the two."""
    ends = [
        part.weight
        for part in (skeleton.get_input_embeddings(), skeleton.get_output_embeddings())
        if part is not None
    ]
    shapes = {
        name: tuple(p.shape)
        for name, p in skeleton.named_parameters(remove_duplicate=False)
        if any(p is end for end in ends)
    }
    refuse_misshapen(
        [
            (n, tensors[n].shape, shape)
            for n, shape in shapes.items()
            if n in tensors and tensors[n].shape != shape
        ],
        folder,
    )


def refuse_misshapen(mismatched: Iterable[tuple[str, Any, Any]], folder: Path) -> None:
    """Refuse weights of another shape than config.json says."""
    for name, stored, needed in sorted(mismatched, key=lambda each: each[0]):
        raise UserError(
            f"the weight {name} is {_shape(stored)}, and config.json makes it {_shape(needed)}.",
            file=folder,
            hint="The two are not of one model: copy or download it again.",
        )


@torch.no_grad()
def refuse_not_finite(model: nn.Module, tensors: Mapping[str, Tensor], where: Path | str) -> None:
    """Refuse NaN and infinities in any parameter or buffer of a loaded model, naming the first.

    `tensors` are the stored ones, where they are known: they tell a weight that became infinite in
    a narrower dtype from one that was stored so. One pass of sums: a sum is finite only if all its
    terms are.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if finite(tensor):
            continue
        stored = tensors.get(name)
        if stored is not None and stored.dtype != tensor.dtype and finite(stored):
            raise UserError(
                f"the weight {name} holds values too large for {_dtype(tensor)} (it is stored as"
                f" {_dtype(stored)}).",
                file=where,
                hint="Load it in a wider dtype.",
            )
        bad = int((~tensor.isfinite()).sum())
        raise UserError(
            f"the weight {name} holds values that are not finite ({bad:,} of {tensor.numel():,}).",
            file=where,
            hint="The model is damaged, or its training diverged: take an earlier checkpoint.",
        )


def finite(tensor: Tensor) -> bool:
    """Whether all values of a floating-point tensor are finite; True for others."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    wide = tensor.dtype if tensor.dtype == torch.float64 else torch.float32
    # A sum of finite values can still pass the largest number there is: only then is each looked
    # at. By rows, for a sum in another precision first makes a copy in it.
    rows = max(1, _AT_ONCE * len(tensor) // tensor.numel()) if tensor.ndim else 1
    for piece in tensor.split(rows) if tensor.ndim else (tensor,):
        if not bool(piece.sum(dtype=wide).isfinite()) and not bool(piece.isfinite().all()):
            return False
    return True


def _common_prefix(names: Iterable[str]) -> str | None:
    every = [*names]
    return next((prefix for prefix in _PREFIXES if all(prefix in name for name in every)), None)


def _list(names: Collection[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _are(names: Collection[str]) -> str:
    return "are" if len(names) > 1 else "is"


def _shape(shape: Any) -> str:
    return " x ".join(str(int(length)) for length in shape) or "a single number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
