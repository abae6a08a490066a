"""The tensor batch: ragged sequences laid end to end, and the one definition of alignment and mask.

Alignment. `logprobs[t]` scores `tokens[t]`: it is computed from the hidden state of the token
before it. `response_mask` True means trained. A per-token column has one entry for each trained
token, sequence after sequence (suffix `_P`); nothing is ever padded on the way to the model.

Layout. Sequences that follow one another and have the same prompt can share it: the prompt then
stands once as a segment of its own, and each response is a segment whose attention also sees that
parent. The result is exact, because positions and visible keys are those of the unshared sequence.

Shape suffixes: N sequences, T tokens in the layout, P trained tokens, _BT a padded matrix with B =
N rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One sequence: `prompt` is never trained; `response_mask` picks the trained tokens of
    `response` (None: all)."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    response_mask: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ValueError(
                "a sequence needs at least one prompt token: the first response token is scored"
                " from it"
            )
        if self.response_mask is not None and len(self.response_mask) != len(self.response):
            raise ValueError(
                f"response_mask has {len(self.response_mask)} entries for {len(self.response)}"
                " tokens"
            )

    @property
    def trained(self) -> int:
        """How many tokens are trained."""
        return len(self.response) if self.response_mask is None else sum(self.response_mask)

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of a layout, attending causally to themselves and to the whole of
    segment `parent`."""

    start: int
    stop: int
    parent: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model needs to run a batch in one pass without padding."""

    tokens_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    targets_P: Tensor  # the trained tokens
    predecessors_P: Tensor  # where in T the hidden state stands that scores each of them
    last_N: Tensor  # where in T each sequence ends

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on `device`."""
        move = (self.tokens_T, self.positions_T, self.targets_P, self.predecessors_P, self.last_N)
        tokens, positions, targets, predecessors, last = (x.to(device) for x in move)
        return Layout(tokens, positions, self.segments, targets, predecessors, last)


@dataclass(frozen=True)
class Batch:
    """N sequences and their per-token columns (each a tensor [P])."""

    sequences: tuple[TokenSequence, ...]
    columns: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    share_prompts: bool = True

    def __post_init__(self) -> None:
        for name, column_P in self.columns.items():
            if column_P.shape != (self.trained_tokens,):
                raise ValueError(
                    f"column {name!r} has shape {tuple(column_P.shape)}, not"
                    f" ({self.trained_tokens},)"
                )

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, name: str) -> Tensor:
        return self.columns[name]

    @cached_property
    def counts_N(self) -> Tensor:
        """Trained tokens of each sequence."""
        return torch.tensor([s.trained for s in self.sequences], dtype=torch.long)

    @property
    def trained_tokens(self) -> int:
        """P: the trained tokens of all sequences."""
        return sum(s.trained for s in self.sequences)

    @cached_property
    def sequence_of_P(self) -> Tensor:
        """The row of the sequence that each trained token belongs to."""
        return torch.repeat_interleave(torch.arange(len(self)), self.counts_N)

    def with_columns(self, **columns: Tensor) -> Batch:
        """The same sequences with more columns."""
        return Batch(self.sequences, {**self.columns, **columns}, self.share_prompts)

    def select(self, rows: Sequence[int]) -> Batch:
        """The sequences at `rows`, in that order, with their parts of every column."""
        counts = [int(count) for count in self.counts_N]
        parts: dict[str, tuple[Tensor, ...]] = {
            name: torch.split(column_P, counts) for name, column_P in self.columns.items()
        }
        columns = {name: torch.cat([split[r] for r in rows]) for name, split in parts.items()}
        return Batch(tuple(self.sequences[r] for r in rows), columns, self.share_prompts)

    def padded(self, values_P: Tensor) -> tuple[Tensor, Tensor]:
        """`(values_BT, mask_BT)`: one row a sequence, trained tokens first, zeros behind, mask True
        on the former."""
        width = int(self.counts_N.max()) if len(self) else 0
        mask_BT = torch.arange(width) < self.counts_N[:, None]
        values_BT = values_P.new_zeros(mask_BT.shape)
        values_BT[mask_BT] = values_P
        return values_BT, mask_BT

    def micro_batches(self, max_tokens: int) -> list[list[int]]:
        """Rows cut, in order, into even micro-batches of at most `max_tokens` tokens as they will
        be laid out.

        A sequence that shares the prompt of the one before costs its response alone; one that is
        longer than `max_tokens` makes a micro-batch of its own.
        """
        costs = [
            (
                len(s.response)
                if self.share_prompts and row > 0 and s.prompt == self.sequences[row - 1].prompt
                else len(s)
            )
            for row, s in enumerate(self.sequences)
        ]
        return cut(costs, max_tokens, opening=[len(s) for s in self.sequences])

    @cached_property
    def layout(self) -> Layout:
        """The packed form of these sequences."""
        return _lay_out(self.sequences, self.share_prompts)


def cut(
    costs: Sequence[int], limit: int, *, opening: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices cut, in order, into as few runs as possible whose costs add up to at most `limit`,
    the dearest run as cheap as can be.

    `opening` is what each item costs where it is a run's first (None: the same). An item dearer
    than `limit` makes a run of its own. Even runs need less memory than full ones and a rest.
    """
    opening = costs if opening is None else opening
    runs = _fill(costs, opening, limit)
    low, high = 0, limit  # the least limit that makes no more runs lies in (low, high]
    while high - low > 1:
        middle = (low + high) // 2
        tried = _fill(costs, opening, middle)
        if len(tried) > len(runs):
            low = middle
        else:
            high, runs = middle, tried
    return runs


def _fill(costs: Sequence[int], opening: Sequence[int], limit: int) -> list[list[int]]:
    """Indices in order, each run as full as `limit` lets it be."""
    runs: list[list[int]] = []
    used = 0
    for index, cost in enumerate(costs):
        if runs and used + cost <= limit:
            runs[-1].append(index)
            used += cost
        else:
            runs.append([index])
            used = opening[index]
    return runs


def groups_of(sequences: Sequence[TokenSequence]) -> Iterable[list[int]]:
    """Rows of consecutive sequences with the same prompt."""
    run: list[int] = []
    for row, sequence in enumerate(sequences):
        if run and sequence.prompt != sequences[run[0]].prompt:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _lay_out(sequences: Sequence[TokenSequence], share_prompts: bool) -> Layout:
    tokens: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    targets: list[int] = []
    predecessors: list[int] = []
    last: list[int] = []

    def place(new: Sequence[int], first_position: int, parent: int | None) -> int:
        start = len(tokens)
        tokens.extend(new)
        positions.extend(range(first_position, first_position + len(new)))
        segments.append(Segment(start, len(tokens), parent))
        return start

    for rows in groups_of(sequences) if share_prompts else ([r] for r in range(len(sequences))):
        prompt = sequences[rows[0]].prompt
        shared = len(rows) > 1
        prompt_end, parent = 0, None
        if shared:
            prompt_end, parent = place(prompt, 0, None) + len(prompt), len(segments) - 1
        for row in rows:
            sequence = sequences[row]
            response = sequence.response
            if shared and response:
                start = place(response, len(prompt), parent)
            elif shared:
                start = prompt_end
            else:
                start = place((*prompt, *response), 0, None) + len(prompt)
                prompt_end = start
            for offset, token in enumerate(response):
                if sequence.response_mask is None or sequence.response_mask[offset]:
                    targets.append(token)
                    predecessors.append(start + offset - 1 if offset else prompt_end - 1)
            last.append(start + len(response) - 1 if response else prompt_end - 1)
    return Layout(
        _long(tokens),
        _long(positions),
        tuple(segments),
        _long(targets),
        _long(predecessors),
        _long(last),
    )


def _long(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.long)
