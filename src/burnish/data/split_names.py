"""What the names of splits mean: trained on, or held out."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Literal

Part = Literal["train", "heldout"]

TRAIN = ("train", "training")
HELDOUT = ("heldout", "holdout", "test", "tests", "testing", "validation", "valid", "val", "dev",
    "development",
           "eval", "evaluation")  # fmt: skip

# how the hub names the files of a split
_SHARD = re.compile(r"(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}")
_ENDINGS = re.compile(r"(\.(jsonl|json|parquet|gz))+$")


def part_of(name: str) -> Part | None:
    """Whether a split of this name is trained on or held out; None where the name says neither, or
    both.

    `train`, `test`, `validation` and their like, also as a word of a longer name: `train_prefs`,
    `test-00`.
    """
    words = _words(name)
    trained, held = (any(word in words for word in known) for known in (TRAIN, HELDOUT))
    if trained == held:
        return None
    return "train" if trained else "heldout"


def holds_out_for(split: str, name: str) -> bool:
    """Whether the split `name` is what is held out for the training split `split`: the rest of
    their names is the same, as in `test_prefs` for `train_prefs`, and `validation` for `train`."""
    rests = []
    for one, part in ((split, "train"), (name, "heldout")):
        if part_of(one) != part:
            return False
        words = re.findall(r"[a-z]+|\d+", _folded(one))
        rests.append([word for word in words if word not in (*TRAIN, *HELDOUT)])
    return rests[0] == rests[1]


def split_of_path(path: PurePath) -> str | None:
    """The split that a file belongs to by its name, or by a folder it lies in (seen from the folder
    that was asked for).

    `data/train_prefs-00000-of-00001.parquet` is of `train_prefs`, as on the hub; `train-1.jsonl`
    and `train/part.jsonl` are of `train`, `dev.jsonl` is of `dev`. None: the path says nothing.
    """
    shard = _SHARD.match(path.name)
    if shard is not None and part_of(shard["split"]) is not None:
        return shard["split"]
    stem = _ENDINGS.sub("", path.name)
    name = next(
        (name for name in (stem, *reversed(path.parent.parts)) if part_of(name) is not None), None
    )
    if name is None or part_of(name) == "train":
        return None if name is None else "train"
    return next(word for word in _words(name) if word in HELDOUT)


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z]+", _folded(name))


def _folded(name: str) -> str:
    return re.sub(r"(held|hold)[ _-]?out", "heldout", name.casefold())
