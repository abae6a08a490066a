"""A recipe run several times: over values of its keys, and over seeds; one table with intervals
over the seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from burnish.api.calls import RecipeLike, load, run, values_of
from burnish.api.result import Result
from burnish.atomic import write_json
from burnish.errors import UserError

MOST_RUNS = 1000
_SHOWN = ("eval_loss", "eval_accuracy", "loss", "accuracy", "reward", "kl_ref")
_OF_MODELS = ("gold", "reward", "accuracy")


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several seeds: their mean, and the 95 % interval of it (Student's t); None of
    one seed."""

    mean: float
    low: float | None
    high: float | None
    seeds: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def spread(values: Sequence[float]) -> Spread:
    """The mean of some seeds' values with its interval: mean ± t · s/√n, t of n − 1 degrees of
    freedom."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Spread(mean, None, None, n)
    half = float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    return Spread(mean, mean - half, mean + half, n)


@dataclass(frozen=True)
class Sweep:
    """What came of it.

    Args:
        folder: in which each run has its own, `VARIANT/seed-N`.
        results: the runs, by variant and seed.
    """

    folder: Path
    results: Mapping[str, Mapping[int, Result]]

    @property
    def figures(self) -> dict[str, dict[str, Spread]]:
        """Each variant's figures over its seeds: those of the last step of each stage, and of each
        evaluated model."""
        found: dict[str, dict[str, Spread]] = {}
        for variant, seeds in self.results.items():
            each = [figures_of(result) for result in seeds.values()]
            names = dict.fromkeys(name for one in each for name in one)
            found[variant] = {
                name: spread([one[name] for one in each if name in one]) for name in names
            }
        return found

    @property
    def table(self) -> Any:
        """A row a variant, a column a figure, as text with intervals: a pandas DataFrame, or a list
        of dicts without pandas."""
        rows = [
            {"variant": variant, **{name: str(value) for name, value in figures.items()}}
            for variant, figures in self.figures.items()
        ]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    def __str__(self) -> str:
        return "\n".join(_lines(self.figures))

    def _repr_html_(self) -> str:
        table = self.table
        return table.to_html(index=False) if hasattr(table, "to_html") else f"<pre>{self}</pre>"


def sweep(
    recipe: RecipeLike,
    *overrides: str,
    over: Mapping[str, Sequence[Any]] | None = None,
    variants: Sequence[Mapping[str, Any]] | None = None,
    seeds: Sequence[int] | None = None,
    out: str | Path | None = None,
    say: Callable[[str], None] | None = None,
    **options: Any,
) -> Sweep:
    """Run a recipe for every combination of values, each with every seed; what is done already is
    not done again.

    Args:
        recipe: as `run` takes it.
        overrides: for all of the runs.
        over: dotted keys and the values of each: every combination is run.
        variants: instead, the combinations themselves: a mapping of dotted keys to values each.
        seeds: None: the recipe's `seeds`, or its `seed`.
        out: the folder; by default `runs/NAME-sweep`.
        say: is given a line at the start of each run.
        options: of `run`.

    Stages that two variants have in common are done once a seed: a later run takes them over from
    an earlier one.
    """
    if isinstance(recipe, Mapping):
        place = (
            Path(out) if out is not None else Path("runs") / f"{recipe.get('name', 'run')}-sweep"
        )
        recipe = values_of(recipe, place)
    base = load(recipe, *overrides)
    combinations = list(_combinations(over or {}, variants))
    chosen = tuple(seeds) if seeds is not None else base.seeds or (base.seed,)
    if not chosen or len(combinations) * len(chosen) > MOST_RUNS:
        raise UserError(
            f"these are {len(combinations) * len(chosen)} runs; 1 to {MOST_RUNS} are taken.",
            field="seeds",
        )
    folder = Path(out) if out is not None else Path("runs") / f"{base.name}-sweep"
    names = _names(combinations)
    loaded = {}
    for name, changes in zip(
        names, combinations, strict=True
    ):  # all of them, before the first is run
        texts = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        loaded[name] = {
            seed: load(recipe, *overrides, "seeds=[]", f"seed={seed}", *texts) for seed in chosen
        }
    results: dict[str, dict[int, Result]] = {name: {} for name in names}
    for name, by_seed in loaded.items():
        for seed, one in by_seed.items():
            place = folder / name / f"seed-{seed}"
            if say is not None:
                say(f"{name}, seed {seed}: {place}")
            earlier = next((found[seed] for found in results.values() if seed in found), None)
            fork = earlier.folder if earlier is not None and not place.exists() else None
            results[name][seed] = run(one, out=place, fork=fork, **options)
    done = Sweep(folder, results)
    write_json(folder / "sweep.json", _as_json(done, names, combinations))
    return done


def figures_of(result: Result) -> dict[str, float]:
    """The figures of a run that are worth comparing, by `stage/metric`, and `evaluate/model/judge`
    of what was evaluated."""
    found: dict[str, float] = {}
    rows = result.metrics
    rows = rows.to_dict("records") if hasattr(rows, "to_dict") else rows
    for row in rows:  # the last step that has a figure counts
        for name in _SHOWN:
            if isinstance(row.get(name), int | float) and np.isfinite(row[name]):
                found[f"{row['stage']}/{name}"] = float(row[name])
    for stage, findings in result.results.items():
        for model in findings.get("models") or ():
            found |= {f"{stage}/{model['name']}/{key}": value for key, value in _judged(model)}
        for model in (findings.get("verifiable") or {}).get("models") or ():
            found |= {f"{stage}/{model['name']}/{key}": value for key, value in _judged(model)}
    return found


def _judged(model: Any) -> Iterator[tuple[str, float]]:
    for key in _OF_MODELS if isinstance(model, Mapping) else ():
        value = model.get(key)
        value = value.get("value") if isinstance(value, Mapping) else value
        if isinstance(value, int | float) and np.isfinite(value):
            yield key, float(value)


def _combinations(
    over: Mapping[str, Sequence[Any]], variants: Sequence[Mapping[str, Any]] | None
) -> Iterator[dict[str, Any]]:
    if over and variants:
        raise UserError("over and variants are both given: choose one.", field="variants")
    if variants is not None:
        yield from (dict(one) for one in variants)
        return
    for key, values in over.items():
        if isinstance(values, str) or not isinstance(values, Iterable) or not list(values):
            raise UserError("must be a list of values.", field=key, hint="For instance [0.1, 0.3].")
    yield from (dict(zip(over, values, strict=True)) for values in product(*over.values()))


def _names(combinations: Sequence[Mapping[str, Any]]) -> list[str]:
    """A folder's name for each, of the last parts of its keys; whole keys where those are the
    same."""
    for part in (lambda key: key.rpartition(".")[2], lambda key: key):
        names = [
            ",".join(f"{part(key)}={_word(value)}" for key, value in one.items()) or "all"
            for one in combinations
        ]
        if len(set(names)) == len(names) and all(
            len({*map(part, one)}) == len(one) for one in combinations
        ):
            return names
    return [f"{number:03d}" for number in range(len(combinations))]


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")[:40] or "_"


def _lines(figures: Mapping[str, Mapping[str, Spread]]) -> Iterator[str]:
    """A table as text: a row a figure, a column a variant, so that it fits where there are many
    figures."""
    names = dict.fromkeys(name for one in figures.values() for name in one)
    cells = [
        ["", *figures],
        *([name, *(str(one.get(name, "")) for one in figures.values())] for name in names),
    ]
    widths = [max(len(row[place]) for row in cells) for place in range(len(figures) + 1)]
    yield from (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def _as_json(
    done: Sweep, names: Sequence[str], combinations: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    figures = done.figures
    return {
        name: {
            "changes": dict(changes),
            "seeds": list(done.results[name]),
            "figures": {
                key: {"mean": one.mean, "low": one.low, "high": one.high}
                for key, one in figures[name].items()
            },
        }
        for name, changes in zip(names, combinations, strict=True)
    }
