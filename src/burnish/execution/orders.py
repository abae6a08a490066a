"""What an engine outside this process is asked for and what it answers: data, sent over a pipe."""

from __future__ import annotations

from dataclasses import dataclass

from burnish.generation.base import Request, SamplingParams
from burnish.records import Completion


@dataclass(frozen=True, slots=True)
class Publication:
    """Weights of one version where engines find them. `checksum` is over every tensor's name,
    shape, precision and bytes."""

    version: int
    folder: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Load:
    """Sample with these weights from now on; answered by `Loaded`."""

    publication: Publication


@dataclass(frozen=True, slots=True)
class Generate:
    """Write a completion for each request; answered by `Written` with the same number."""

    number: int
    requests: tuple[Request, ...]
    params: SamplingParams


Order = Load | Generate


@dataclass(frozen=True, slots=True)
class Started:
    """The engine is there, without weights."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The engine samples these weights; `checksum` is of what it has read."""

    version: int
    checksum: str


@dataclass(frozen=True, slots=True)
class Written:
    """The completions of an order, written with the weights of one version."""

    number: int
    version: int
    completions: tuple[Completion, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The order cannot be carried out by any engine: a mistake of the user's."""

    problem: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Died:
    """The engine is gone, or of no more use."""

    reason: str


Event = Started | Loaded | Written | Failed | Died
