"""JSON that every reader takes, and one line for what cannot be read."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path

import pytest

import burnish
from burnish.errors import UserError
from burnish.jsonio import dumps, json_lines, read_object, undefined_as_null


def test_figures_that_do_not_exist_are_null_and_all_others_stay():
    tree = {"a": math.nan, "b": [1, 1.5, -math.inf, {"c": (math.inf, True, None, "nan")}], 3: 0.1}
    assert undefined_as_null(tree) == {
        "a": None,
        "b": [1, 1.5, None, {"c": [None, True, None, "nan"]}],
        3: 0.1,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, {"a": math.nan}]])
def test_the_writer_itself_refuses_what_json_lacks(value: object):
    with pytest.raises(ValueError, match="JSON compliant"):
        dumps(value)


def test_half_a_surrogate_pair_can_be_written():
    text = dumps({"ü": "a\ud800b"})
    assert json.loads(text.encode()) == {"ü": "a\ud800b"}
    assert dumps({"ü": "é"}) == '{"ü": "é"}'
    assert json_lines([{"a": math.nan}, {"b": 1}]) == '{"a": null}\n{"b": 1}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"), (b" \n", "empty"), (b'{"a": 1', "damaged: it is not JSON"), (b"\xff\xfe\x00", "damaged: it is not JSON"),  # noqa: E501
        (b"[1]", "holds no JSON object"), (b"7", "holds no JSON object"), (b"[" * 100_000, "damaged: it is not JSON"),  # noqa: E501
    ],
)  # fmt: skip
def test_a_file_that_is_no_object_is_told_in_one_line(tmp_path: Path, content: bytes, said: str):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError) as told:
        read_object(path, hint="Remove it.")
    assert said in str(told.value)
    assert str(told.value).endswith("Remove it.")
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_a_folder_in_a_files_place_and_a_missing_file(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read"):
        read_object(tmp_path, hint="Remove it.")
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "none", hint="")


def _dumps_calls(source: str) -> int:
    """Calls of json.dumps or json.dump that do not refuse NaN."""
    found = 0
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in ("dumps", "dump") and getattr(node.func.value, "id", None) == "json":
            found += not any(key.arg == "allow_nan" for key in node.keywords)
    return found


ELSEWHERE = {
    # what is hashed, measured or compared
    "annotation/ai/judge.py": 1, "annotation/app/api.py": 1, "annotation/snapshot.py": 2,
    "data/columns.py": 3,
    "data/labelled.py": 1, "data/labelled_fields.py": 1, "data/render.py": 1,
    "environments/base.py": 1, "stages/stored.py": 1,
    "annotation/service/rows.py": 1, "labels/groups.py": 1, "labels/traces.py": 1,
    "annotation/client.py": 1,
    "annotation/service/browsing.py": 3, "stages/engines.py": 1, "execution/publish.py": 1,
    "execution/journal.py": 1,
    # what one process of ours tells another, or is read back at once
    "config/load.py": 1, "config/recipe_file.py": 2, "config/recipe.py": 1,
    "config/preference.py": 1, "api/calls.py": 1, "api/sweep.py": 2, "cli/evaluate.py": 1,
    "stages/artifacts.py": 1, "models/outline.py": 1, "rewards/maths.py": 1,
    "rewards/maths_worker.py": 2, "runs/manifest.py": 2,
    "sandbox/judge.py": 2, "sandbox/supervisor.py": 2, "listening.py": 1,
    # what is shown
    "annotation/app/security.py": 1, "annotation/app/item_pages.py": 1, "config/describe.py": 2,
    "data/layouts.py": 1, "data/templates.py": 1, "evaluation/report.py": 1,
    "annotation/app/language.py": 1, "lab/report.py": 1, "cli/options.py": 1,
}  # fmt: skip
"""Calls of the library's own writer, none of which writes a file."""


def test_what_is_written_goes_through_the_one_writer():
    package = Path(burnish.__file__).parent
    calls = {
        p.relative_to(package).as_posix(): _dumps_calls(p.read_text("utf-8"))
        for p in package.rglob("*.py")
    }
    more = {name: count for name, count in calls.items() if count > ELSEWHERE.get(name, 0)}
    assert not more, "use burnish.jsonio"


def test_keys_in_order_nothing_between_and_values_of_other_kinds():
    assert dumps({"b": 1, "a": [1, 2]}, sort_keys=True, compact=True) == '{"a":[1,2],"b":1}'
    assert dumps({"a": Path("x\ud800")}, default=str) == '{"a": "x\\ud800"}'
