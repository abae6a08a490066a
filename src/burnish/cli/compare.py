"""`burnish compare FOLDER ...`: what several evaluations found, taken together, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from burnish.errors import UserError

_AGREE = ("weights", "constitution")


def table(folders: Sequence[Path]) -> str:
    """A row for each pair of models and judge; of measurements on suites, a row for each model and
    for each pair and task. Raises UserError for a folder without an evaluation,
    and for judges of one name that are not the same."""
    from burnish.stages.evaluated import VERDICTS

    measured = [place for folder in folders for place in [_measured_in(folder)] if place]
    if len(measured) == len(folders):
        on_suites = suites_table(measured)
        judged = [place for place in measured if (place / VERDICTS).is_file()]
        return f"{on_suites}\n\n{_judged(judged)}" if len(judged) == len(folders) else on_suites
    return _judged([_evaluation_in(folder) for folder in folders])


def suites_table(places: Sequence[Path]) -> str:
    """The models of several measurements on suites, as if they had been measured together: a model
    that several folders have is told apart by its folder. Raises UserError where a folder is given
    twice, where they share no task, or where items of one name are not the same."""
    from burnish.evaluation.suites.compare import corrected, findings
    from burnish.evaluation.suites.report import compared_text
    from burnish.evaluation.suites.table import Task
    from burnish.stages.evaluated import read_rows
    from burnish.stages.suites import ITEMS

    parts = [_result(place)["suites"] for place in places]
    names = [name for one in parts for name in one["models"]]
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    models: list[str] = []
    for place, folder, one in zip(places, _told_apart(places), parts, strict=True):
        called = {
            name: name if names.count(name) == 1 else f"{name}@{folder}" for name in one["models"]
        }
        models += called.values()
        for row in read_rows(place / ITEMS):
            if row["values"] is not None:
                named = {**row, "model": called[row["model"]]}
                rows.setdefault((row["suite"], row["task"]), []).append(named)
    twice = next((name for name in models if models.count(name) > 1), None)
    if twice is not None:
        hint = "Name each measurement's folder once."
        raise UserError(f"two models are called {twice}.", file=places[-1], hint=hint)
    shared = [
        task
        for task in parts[0]["tasks"]
        if {row["model"] for row in rows[task["suite"], task["task"]]} == set(models)
    ]
    if not shared:
        raise UserError("these measurements share no task.", file=places[-1])
    tasks = []
    for one in shared:
        own = rows[one["suite"], one["task"]]
        _same_items(own, one["task"], places[-1])
        task = Task(one["task"], one["form"], "", one["about"], one["licence"])
        tasks.append(findings(task, one["suite"], own, models, margin=parts[0]["margin"]))
    suites = {**parts[0], "models": models, "tasks": corrected(tasks)}
    return compared_text({"evaluate": {"suites": suites}})


def _told_apart(places: Sequence[Path]) -> list[str]:
    """The measurements' folders: in a word where no other has the same, and else whole."""
    shorts = [_short(place) for place in places]
    return [
        short if shorts.count(short) == 1 else place.as_posix()
        for short, place in zip(shorts, places, strict=True)
    ]


def _short(place: Path) -> str:
    """A measurement's folder in a word: the run's, not the stage's."""
    whole = place.resolve()
    return whole.parent.name if whole.name == "evaluate" else whole.name


def _same_items(rows: Sequence[Mapping[str, Any]], task: str, file: Path) -> None:
    sizes: dict[str, Any] = {}
    for row in rows:
        if sizes.setdefault(row["item"], row.get("bytes")) != row.get("bytes"):
            raise UserError(
                f"the item {row['item']} of {task} is not the same in both measurements.",
                file=file,
                hint="Compare measurements on the same items.",
            )


def _measured_in(folder: Path) -> Path | None:
    """The folder of the last finished measurement on suites in a run's folder, or the folder
    itself; None: there is none."""
    places = [folder, *(one.parent for one in sorted(folder.glob("*/items.jsonl"), reverse=True))]
    done = (one for one in places if (one / "items.jsonl").is_file())
    return next((one for one in done if (one / "stage.json").is_file()), None)


def _judged(places: Sequence[Path]) -> str:
    """The contests of several evaluations by judges."""
    from burnish.evaluation.pooled import Evaluation, contests
    from burnish.stages.evaluated import VERDICTS, read_rows

    results = [_result(place) for place in places]
    _same_judges(places, results)
    evaluations = [
        Evaluation(
            read_rows(place / "answers.jsonl"),
            read_rows(place / VERDICTS),
            str(result.get("reference")),
        )
        for place, result in zip(places, results, strict=True)
    ]
    found = contests(evaluations)
    if not found:
        raise UserError("no judge has compared two models on the same prompts.", file=places[0])
    rows = [_row(contest) for contest in found]
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = ["  ".join(name.ljust(widths[name]) for name in names).rstrip()]
    lines += ["  ".join(row[name].ljust(widths[name]) for name in names).rstrip() for row in rows]
    return "\n".join([*lines, "", *_notes(results)])


def _row(contest: Any) -> dict[str, str]:
    from burnish.evaluation.words import Interval, percent, share_with_interval

    def share(found: Any) -> str:
        return share_with_interval(Interval(found.value, found.low, found.high, found.n))

    return {
        "Judge": contest.judge,
        "Preferred": f"{contest.a} over {contest.b}",
        "Prompts": str(contest.win_rate.n),
        "Win rate": share(contest.win_rate),
        "At equal length": share(contest.length_controlled),
        "p": f"{contest.p:.3f}",
        "p (Holm)": f"{contest.holm:.3f}",
        "Detectable": percent(contest.detectable),
        "Each evaluation": " ".join(percent(rate) for rate in contest.seeds),
    }


def _notes(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each judge is worth, and how the columns are to be read."""
    from burnish.evaluation.summary import judge_in_words

    found = []
    for judge in {
        str(one["name"]): one for result in results for one in result.get("judges", ())
    }.values():
        who = judge_in_words(str(judge["name"]))
        if judge.get("unfit"):
            found.append(f"{who} is no evidence: {judge['unfit']}.")
        if judge.get("gameable"):
            found.append(
                f"{who} can be fooled: it prefers an answer that says nothing to the reference's."
            )
    return [
        *found,
        (
            "Intervals are over prompts, a prompt being one unit under all seeds; Holm's p is"
            " corrected for all rows of a judge."
        ),
    ]


def _evaluation_in(folder: Path) -> Path:
    """The folder of the last finished evaluation in a run's folder, or the folder itself."""
    if (folder / "answers.jsonl").is_file() and (folder / "verdicts.jsonl").is_file():
        return folder
    found = sorted(
        place.parent
        for place in folder.glob("*/verdicts.jsonl")
        if (place.parent / "stage.json").is_file()
    )
    if not found:
        hint = "Name a folder that `burnish evaluate` or a recipe with the stage evaluate has made."
        raise UserError("there is no finished evaluation in this folder.", file=folder, hint=hint)
    return found[-1]


def _result(place: Path) -> dict[str, Any]:
    from burnish.jsonio import read_object

    return read_object(place / "result.json", hint="Evaluate again.")


def _same_judges(places: Sequence[Path], results: Sequence[Mapping[str, Any]]) -> None:
    known: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    for place, result in zip(places, results, strict=True):
        for judge in result.get("judges", ()):
            first, other = known.setdefault(str(judge["name"]), (place, judge))
            key = next((key for key in _AGREE if judge.get(key) != other.get(key)), None)
            if key is not None:
                problem = f"the judge {judge['name']} has other {key} here than in {first}."
                raise UserError(
                    problem,
                    file=place / "result.json",
                    hint="Compare evaluations by the same judge.",
                )
