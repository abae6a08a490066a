"""Settings as a form: what is shown is what is read back, and what is wrong is named and kept."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.annotation.app.settings_form import as_typed, form_of, read_form
from burnish.annotation.settings import Settings, read_settings
from burnish.errors import UserError


def _sent(groups: list[dict[str, Any]]) -> dict[str, str]:
    """What a browser sends for these controls."""
    fields = [field for group in groups for field in group["fields"]]
    return {
        f["name"]: "1" if f["control"] == "checkbox" else str(f["value"])
        for f in fields
        if f["control"] != "checkbox" or f["value"]
    }


@pytest.mark.parametrize(
    "given",
    [
        {},
        {
            "kind": "likert",
            "attributes": [{"name": "kind hearted", "low": 0, "high": 3, "help": "a | b"}],
            "flags": [],
        },
        {
            "tie": False,
            "both_bad": False,
            "steps": 7,
            "quota": 12,
            "lease_minutes": 2.5,
            "price_per_task": 0.25,
        },
        {
            "critique": "required",
            "milestones": [10, 100],
            "skip_reasons": ["zu schwer", "other"],
            "currency": "CHF",
        },
    ],
)
def test_what_is_shown_is_what_is_read_back(given: dict[str, Any]):
    settings = Settings.model_validate(given)
    form = _sent(form_of(settings.model_dump()))
    assert read_settings(read_form(form)) == settings
    assert _sent(as_typed(form)) == form


def test_every_setting_has_a_control():
    shown = {
        field["name"] for group in form_of(Settings().model_dump()) for field in group["fields"]
    }
    assert shown == set(Settings.model_fields)


@pytest.mark.parametrize(
    ("name", "typed", "said"),
    [
        ("overlap", "many", 'field "overlap": must be a whole number, not "many"'),
        ("overlap", "0", 'field "overlap"'),
        ("pass_mark", "seven", 'field "pass_mark": must be a number'),
        (
            "attributes",
            "helpful | one | 5",
            'field "attributes": must be a whole number, not "one"',
        ),
        ("attributes", "helpful | 5 | 1", "high must be above low"),
        ("milestones", "25, x", 'field "milestones"'),
        ("kind", "no such", 'field "kind"'),
        ("skip_reasons", "", 'field "skip_reasons"'),
    ],
)
def test_what_is_wrong_is_named_and_kept(name: str, typed: str, said: str):
    form = _sent(form_of(Settings().model_dump())) | {name: typed}
    with pytest.raises(UserError, match=said):
        read_settings(read_form(form))
    assert _sent(as_typed(form))[name] == typed
