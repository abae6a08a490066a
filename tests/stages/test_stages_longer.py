"""What counts as the same stage trained on: more steps or epochs and nothing else, but for what is
tolerated anyway."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.stages.settled import _is_longer

STEPS = {
    "settings": {"steps": 4, "epochs": 1, "lr": 0.1},
    "code": {"a": "1"},
    "own_code": {"r.py": "1"},
    "seed": 0,
}
EPOCHS = {"settings": {"epochs": 1.5, "lr": 0.1}, "code": {"a": "1"}, "own_code": {}, "seed": 0}


def _with(inputs: dict[str, Any], **changes: Any) -> dict[str, Any]:
    settings = {name: value for name, value in changes.items() if name in ("steps", "epochs", "lr")}
    rest = {name: value for name, value in changes.items() if name not in settings}
    return {**inputs, **rest, "settings": {**inputs["settings"], **settings}}


@pytest.mark.parametrize("finished", [True, False])
def test_more_steps_or_epochs_are_longer_and_less_or_the_same_are_not(finished: bool):
    assert _is_longer(STEPS, _with(STEPS, steps=5), finished=finished)
    assert _is_longer(EPOCHS, _with(EPOCHS, epochs=2.0), finished=finished)
    for other in (
        _with(STEPS, steps=3),
        STEPS,
        _with(STEPS, epochs=2),
        _with(STEPS, steps=5, epochs=2),
    ):
        assert not _is_longer(STEPS, other, finished=finished)
    for other in (
        _with(EPOCHS, epochs=1.0),
        EPOCHS,
        _with(EPOCHS, epochs=2.0, lr=0.2),
        _with(EPOCHS, epochs=2.0, seed=1),
    ):
        assert not _is_longer(EPOCHS, other, finished=finished)
    assert not _is_longer({"settings": {"count": 4}}, {"settings": {"count": 5}}, finished=finished)


def test_code_that_changed_too_is_taken_where_it_is_taken_without_more_steps():
    other_version = _with(STEPS, steps=5, code={"a": "2"})
    assert _is_longer(STEPS, other_version, finished=True)
    assert not _is_longer(STEPS, other_version, finished=False)
    mended = _with(STEPS, steps=5, own_code={"r.py": "2"})
    assert _is_longer(STEPS, mended, finished=False)
    assert not _is_longer(STEPS, mended, finished=True)
