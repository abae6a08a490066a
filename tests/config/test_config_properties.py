"""Whatever is given for a recipe: it is taken, or refused in one line that names the key; quickly,
and nothing else happens."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipe_inputs import EXTREMES, KEYS, NUMBERS, Leaf, cannot_be, encoded, flow, numbers, values

import burnish
from burnish.config.yaml_file import dump_yaml
from contract import Tally

SETTINGS = settings(
    derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


def in_file(leaf: Leaf, value: Any, path: Path) -> Callable[[], Any]:
    path.write_text(flow(leaf.values(value)), encoding="utf-8", newline="")
    return lambda: burnish.load(path)


def as_override(leaf: Leaf, value: Any) -> Callable[[], Any]:
    """The same as overrides, a stage's by the stage's name."""
    given = leaf.values(value)
    overrides = [f"{key}={flow(inner)}" for key, inner in given.items() if key != "stages"]
    names = given["stages"] if isinstance(given["stages"], dict) else {}
    overrides.append(f"stages={flow(list(names) if names else given['stages'])}")
    overrides += [f"{name}={flow(inner)}" for name, inner in names.items() if inner != {}]
    return lambda: burnish.load(None, *overrides)


def extremes() -> Tally:
    """Every number of the schema with every value that none takes."""
    tally = Tally("numbers, every key of every kind of stage")
    for leaf in NUMBERS:
        for value in EXTREMES:
            if cannot_be(leaf, value):
                tally.hold(
                    (leaf.key, value),
                    as_override(leaf, value),
                    refused=True,
                    names=f'"{leaf.place}',
                )
    return tally


def drawn_numbers(count: int) -> Tally:
    tally = Tally("numbers, drawn")
    folder = Path(tempfile.mkdtemp())

    @settings(SETTINGS, max_examples=count)
    @given(st.sampled_from(NUMBERS), numbers, st.booleans())
    def hold(leaf: Leaf, value: Any, written: bool) -> None:
        attempt = in_file(leaf, value, folder / "r.yaml") if written else as_override(leaf, value)
        tally.hold((leaf.key, value), attempt, refused=cannot_be(leaf, value))

    hold()
    return tally


def drawn_values(count: int) -> Tally:
    tally = Tally("config, any key and any value")
    folder = Path(tempfile.mkdtemp())

    @settings(SETTINGS, max_examples=count)
    @given(st.sampled_from(KEYS), values, st.booleans())
    def hold(leaf: Leaf, value: Any, written: bool) -> None:
        attempt = in_file(leaf, value, folder / "r.yaml") if written else as_override(leaf, value)
        tally.hold((leaf.key, value), attempt, refused=cannot_be(leaf, value), lines=6)

    hold()
    return tally


def drawn_texts(count: int) -> Tally:
    tally = Tally("YAML")
    folder = Path(tempfile.mkdtemp())

    @settings(SETTINGS, max_examples=count)
    @given(encoded)
    def hold(text: bytes) -> None:
        path = folder / "r.yaml"
        path.write_bytes(text)

        def attempt() -> None:
            recipe = burnish.load(path)
            path.write_text(dump_yaml(recipe), encoding="utf-8", newline="")
            assert burnish.load(path) == recipe

        tally.hold(text, attempt, lines=6)

    hold()
    return tally


@pytest.mark.parametrize(
    ("make", "least"),
    [
        (extremes, 2000),
        (lambda: drawn_numbers(300), 300),
        (lambda: drawn_values(400), 400),
        (lambda: drawn_texts(400), 400),
    ],
    ids=["every number", "numbers", "values", "YAML"],
)
def test_whatever_is_given_is_taken_or_refused_in_a_line(
    make: Callable[[], Tally], least: int, record_property: Callable[[str, object], None]
) -> None:
    tally = make()
    print(tally)
    record_property("rate", str(tally))
    assert tally.broken == []
    assert sum(tally.counts.values()) >= least
