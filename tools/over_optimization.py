"""The pictures and tables of docs/over-optimization.md, from a folder that `burnish lab` has
written; of experiments that it does not hold they stay as they are.

python tools/over_optimization.py runs/over-optimization
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from burnish.lab.figures import figures
from burnish.lab.report import table_of
from burnish.lab.results import Curve, Findings, Fit, Results, Row
from burnish.lab.words import sentences
from burnish.statistics.estimate import Estimate

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "over-optimization.md"
STYLE = (ROOT / "src" / "burnish" / "evaluation" / "templates" / "report.css").read_text("utf-8")
PICTURES = {
    "curves": ("rl", "best-of-n"),
    "exact": ("exact-kl", "exact-gold"),
    "scaling": ("scaling",),
    "noise": ("noise",),
    "length_bias": ("length-bias",),
    "mitigations": ("few-labels", "noisy-labels", "biased-labels"),
}


def main(folder: Path) -> None:
    """Write docs/images/lab-*.svg and the tables between the page's marks."""
    results = read(json.loads((folder / "results.json").read_text("utf-8")))
    for name, files in PICTURES.items():
        if name not in results.experiments:
            continue
        drawn = figures(name, results.experiments[name], results)
        for file, figure in zip(files, drawn, strict=True):
            path = ROOT / "docs" / "images" / f"lab-{file}.svg"
            path.write_text(standalone(str(figure.chart)), encoding="utf-8")
    page = PAGE.read_text("utf-8")
    told = dict(zip(results.experiments, sentences(results), strict=True))
    for name, found in results.experiments.items():
        page = put(page, f"{name} sentence", told[name].text)
        if found.rows:
            page = put(page, f"{name} table", markdown(table_of(found)))
    PAGE.write_text(page, encoding="utf-8")


def put(page: str, mark: str, text: str) -> str:
    """The page with `text` between the marks of that name."""
    pattern = re.compile(rf"(<!-- lab: {mark} -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        return page
    return pattern.sub(lambda match: f"{match[1]}{text}\n{match[2]}", page)


def markdown(rows: list[dict[str, str]]) -> str:
    """A table."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *(list(row.values()) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def standalone(chart: str) -> str:
    """A chart as a file of its own, with the report's light colours on white."""
    colours = re.search(r":root \{(.*?)\}", STYLE, re.DOTALL)
    rules = [line for line in STYLE.splitlines() if re.match(r"svg text|svg \.|\.[a-z.]+ \{", line)]
    drawn = [
        line
        for line in rules
        if re.match(r"svg|\.(grid|reference|whisker|rail|line|band|bar|mark|hit)\b", line)
    ]
    font = 'svg { font-family: system-ui, "Segoe UI", Roboto, Arial, sans-serif; }'
    style = f"<style>svg {{{colours[1] if colours else ''}}} {font} {' '.join(drawn)}</style>"
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', chart)
    assert size is not None
    paper = (
        f'<rect x="-8" y="-8" width="{int(size[1]) + 16}" height="{int(size[2]) + 16}"'
        ' fill="#fff"/>'
    )
    chart = chart.replace(
        f'viewBox="0 0 {size[1]} {size[2]}"',
        f'viewBox="-8 -8 {int(size[1]) + 16} {int(size[2]) + 16}"'
        ' xmlns="http://www.w3.org/2000/svg"',
    )
    return re.sub(r"(<svg[^>]*>)", lambda match: f"{match[1]}{style}{paper}", chart, count=1) + "\n"


def read(data: dict[str, Any]) -> Results:
    """The typed results of results.json."""
    experiments = {name: _findings(found) for name, found in data["experiments"].items()}
    return Results(data["name"], data["burnish"], data["seeds"], data["settings"], experiments)


def _findings(data: dict[str, Any]) -> Findings:
    curves = [
        Curve(
            one["name"],
            one["x"],
            {name: [_figure(point) for point in line] for name, line in one["lines"].items()},
            None if one["fit"] is None else _fit(one["fit"]),
        )
        for one in data["curves"]
    ]
    rows = [
        Row(row["name"], {name: _figure(figure) for name, figure in row["figures"].items()})
        for row in data["rows"]
    ]
    return Findings(curves, rows, {name: _figure(fact) for name, fact in data["facts"].items()})


def _fit(data: dict[str, Any]) -> Fit:
    parts = {name: _figure(data[name]) for name in ("alpha", "beta", "peak")}
    return Fit(data["form"], rms=data["rms"], **parts)


def _figure(value: Any) -> Any:
    """An Estimate, whose missing bounds are infinite."""
    if not isinstance(value, dict):
        return value
    bounds = {"value": float("inf"), "low": float("-inf"), "high": float("inf")}
    known = {name: bounds[name] if value[name] is None else value[name] for name in bounds}
    return Estimate(**known, n=value["n"], method=value["method"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
