"""The recipe: every option of a run, with its default and what it means. Torch-free.

Where a paper names a value, it is the default. One unit throughout: batch sizes count prompts or
completions as the field's docstring says, lengths count tokens, rates are per optimizer step.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from burnish.config.bounds import (
    Probability,
    Rows,
    Tokens,
)
from burnish.config.sections import (
    Section,
    Source,
    Sources,
)

Drop = Literal["empty", "duplicate", "too_long"]
"""A reason for which a row may be left out."""
_TEMPLATE_INPUTS = ("messages", "tools", "documents", "add_generation_prompt")


class Model(Section):
    """The pretrained model that the run starts from."""

    name: str = "smollm2-135m"
    """A local folder, a hub id (owner/name), the alias smollm2-135m, or tiny (random, for
    tests)."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the decoder's matrices are multiplied in it, and stored in it where they are
    frozen, with embedding and head where the model comes in it; the rest is float32, and what is
    written has the precision of the model. Faster on GPUs, and on processors with bfloat16 units
    (`burnish doctor` says). Evaluation uses float32."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """Where models are sampled and trained: cpu, cuda or one of several GPUs (cuda:1); auto takes a
    GPU where torch finds one."""
    max_length: Tokens = 512
    """The longest sequence (prompt and response) in tokens; a longer row is an error or dropped, as
    `data.drop` says."""
    chat_template: str | None = None
    """A chat template instead of the model's own: the path of a .jinja file, or the template
    itself. It is saved beside what is trained."""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """Options of the chat template, such as {enable_thinking: false}; the same in training,
    sampling and evaluation. A row's own column of this name goes before."""
    date: datetime.date | None = None
    """The day that chat templates print as today's. None: the day on which the run was first
    started, which its recipe.yaml then holds, so that it resumes to the same numbers on another."""

    @field_validator("chat_template_kwargs")
    @classmethod
    def _no_reserved_option(cls, value: dict[str, Any]) -> dict[str, Any]:
        taken = next((name for name in value if name in _TEMPLATE_INPUTS), None)
        if taken is not None:
            raise ValueError(f"{taken} is given to the template anyway: leave it out")
        return value


class Data(Section):
    """What the run reads. A source is a path (.jsonl, .json, .parquet, .gz, a folder), a hub id, or
    builtin:quickstart/NAME; or {source: PATH, split: NAME, heldout_split: NAME}. Splits called
    test, validation and the like are held out (docs/data.md)."""

    demonstrations: Sources | None = None
    """Rows with `messages` or `prompt`/`completion`, or `text`, for SFT: a source or a list of
    them. None: SFT trains on the preferred answers of `comparisons`."""
    prompts: str | Source | tuple[str | Source, ...] | None = None
    """Rows with `prompt` (or GSM8K's `question` and `answer`), for collecting, PPO and evaluation:
    a source or a list of them. `task:arithmetic?digits=2` and its like are made on the spot
    (docs/rewards.md). Rows with hidden tests are code tasks (docs/sandbox.md). None: the prompts of
    `comparisons`; evaluation without those takes the demonstrations'."""
    instruction: str | None = None
    """Text put behind each prompt of `prompts`, after an empty line: how to give the final answer,
    for instance."""
    comparisons: Sources | None = None
    """Rows with `chosen`/`rejected` that people have labelled already: a source or a list of them.
    None: those of a stage of the kind compare."""
    store: str | None = None
    """Instead of `comparisons`: the store that `burnish annotate` keeps, a file or an SQLAlchemy
    URL (a password belongs in ~/.pgpass). Its labels are read when the run begins; new ones change
    the fingerprint of what is trained on them."""
    project: str | None = None
    """Which project of the `store` is read."""
    strength: Literal["ignore", "probability", "margin"] = "probability"
    """What a stated strength of preference becomes: nothing, a soft label nearer to ½, or a margin
    inside the loss."""
    reliability_weighted: bool = True
    """Weight each of the store's votes by its annotator's estimated reliability; off: every vote
    counts the same."""
    human_share: Probability | None = None
    """Thin the store's labels until people, and not models, gave this share of them; None: take
    all."""
    dimension: str | None = None
    """Learn what annotators preferred by one dimension (helpful, harmless, ...) of the store's
    project; None: on the whole."""
    split_column: str | None = "split"
    """The column that says which rows are held out (test, validation, dev, heldout, ...) and which
    are trained on (train). Rows without it are trained on; another value is an error. None: no
    column is looked at."""
    heldout: Probability = 0.1
    """The share that is held out, by a hash of the prompt, of each source that does not say itself
    what is. 0: none, and nothing is evaluated on it."""
    limit: Rows | None = None
    """Read at most this many rows of each source; where files or splits are held out, as many of
    those too."""
    system: str | None = None
    """A system's turn, put before conversations that begin with none, in training, sampling and
    evaluation alike."""
    drop: Drop | tuple[Drop, ...] = ("duplicate",)
    """Rows that are left out and counted: duplicate (of one before it), empty (a field that holds
    nothing), too_long (longer than `model.max_length`). What is empty or too long and not named
    here is an error."""

    @property
    def dropped(self) -> frozenset[str]:
        """Which rows are left out."""
        return frozenset((self.drop,) if isinstance(self.drop, str) else self.drop)

    @property
    def labelled(self) -> bool:
        """Whether comparisons are given, so that no stage need make any."""
        return self.comparisons is not None or self.store is not None

    @model_validator(mode="after")
    def _one_source_of_comparisons(self) -> Data:
        if (self.store is None) != (self.project is None):
            raise ValueError("store and project belong together: give both")
        if self.store is not None and self.comparisons is not None:
            raise ValueError("comparisons and store are both given: choose one")
        return self
