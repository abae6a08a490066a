"""Log-probabilities of whole answers under a frozen model: computed once, kept on disk by
content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from burnish.atomic import write_bytes
from burnish.batch import Batch, TokenSequence
from burnish.models.roles import View, finite
from burnish.ranks import dealt, first, told


@torch.no_grad()
def answer_logprobs(view: View, sequences: Sequence[TokenSequence], *, max_tokens: int) -> Tensor:
    """[N]: Σ log π over the trained tokens of each sequence, in nats. Neighbours with the same
    prompt run it once."""
    batch = Batch(tuple(sequences))
    found = torch.zeros(len(batch))

    def sums(piece: Batch) -> Tensor:
        logprobs_P = view.logprobs(piece).logprobs_P.float()
        return torch.zeros(len(piece)).index_add_(0, piece.sequence_of_P, logprobs_P)

    cuts = batch.micro_batches(max_tokens)
    for rows, sums_N in zip(cuts, dealt(sums, [batch.select(r) for r in cuts]), strict=True):
        found[rows] = sums_N
    return found


def cached_answer_logprobs(
    view: View,
    sequences: Sequence[TokenSequence],
    *,
    max_tokens: int,
    cache: Path | None,
    say: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """`answer_logprobs`, read from `cache` if the same model has read the same tokens before in the
    same way.

    The key is a hash of everything that the numbers follow from: the weights, the tokens (so the
    data, the template and the tokenizer), what of them is scored, and how the sums were made
    (precision, micro-batches, threads, version of torch), for a run must not depend on whether
    another filled the cache. `view` must be a bare backbone. Raises UserError where some of them
    are no finite numbers.
    """
    if view.adapter is not None:
        raise ValueError("a reference is a backbone without an adapter")
    if cache is None:
        return finite(answer_logprobs(view, sequences, max_tokens=max_tokens), _WHAT)
    path = cache / f"{_key(view, sequences, max_tokens)}.safetensors"
    known = told(lambda: _read(path))
    if known is not None and len(known) == len(sequences):
        say(f"reference: {len(known)} log-probabilities taken from the cache")
        return known
    found = finite(answer_logprobs(view, sequences, max_tokens=max_tokens), _WHAT)
    if first():
        write_bytes(path, save({"logprobs": found}))
    return found


def _read(path: Path) -> Tensor | None:
    """What is in the cache; None where it is not there, or not whole: it is made again."""
    try:
        return load_file(path)["logprobs"]
    except (OSError, KeyError, SafetensorError):
        return None


_WHAT = "log-probabilities of answers under the reference model"


def _key(view: View, sequences: Sequence[TokenSequence], max_tokens: int) -> str:
    backbone = view.backbone
    how = (
        backbone.content_hash(),
        str(backbone.embeddings.dtype),
        str(backbone.products),
        str(backbone.device),
        max_tokens,
        torch.get_num_threads(),
        torch.__version__,
    )
    digest = hashlib.sha256(repr(how).encode())
    for sequence in sequences:
        digest.update(repr((sequence.prompt, sequence.response, sequence.response_mask)).encode())
    return digest.hexdigest()[:32]
