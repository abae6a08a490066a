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


@torch.no_grad()
def answer_logprobs(view: View, sequences: Sequence[TokenSequence], *, max_tokens: int) -> Tensor:
    """[N]: Σ log π over the trained tokens of each sequence, in nats. Neighbours with the same
    prompt run it once."""
    batch = Batch(tuple(sequences))
    found = torch.zeros(len(batch))
    for rows in batch.micro_batches(max_tokens):
        piece = batch.select(rows)
        sums = torch.zeros(len(piece)).index_add_(
            0, piece.sequence_of_P, view.logprobs(piece).logprobs_P.float()
        )
        found[rows] = sums
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
    try:
        found = load_file(path)["logprobs"]
        if len(found) == len(sequences):
            say(f"reference: {len(found)} log-probabilities taken from the cache")
            return found
    except (OSError, KeyError, SafetensorError):
        pass  # not there, or not whole: made again
    found = finite(answer_logprobs(view, sequences, max_tokens=max_tokens), _WHAT)
    write_bytes(path, save({"logprobs": found}))
    return found


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
