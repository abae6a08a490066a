"""The board's pages: all runs, one run, several side by side. Nothing can be changed through it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from burnish.board.reading import RunView, StageView, curves_of, find_runs, overview, read
from burnish.charts import Look, Series, line_chart
from burnish.evaluation.graph_figure import Box, draw
from burnish.evaluation.graph_figure import Look as BoxLook
from burnish.evaluation.words import duration
from burnish.listening import KnownHosts

FIRST = ("loss", "eval_loss", "reward", "accuracy", "eval_accuracy", "rewards/margins", "kl",
    "entropy",
         "completions/mean_length", "clip_ratio", "grad_norm")  # fmt: skip
"""What is shown of a stage without asking, where it has them."""
_LOOKS: tuple[Look, ...] = ("main", "second", "third")
_BOXES: dict[str, BoxLook] = {
    "waiting": "waiting", "running": "better", "stopped": "worse", "done": "main",
}  # fmt: skip
_EVERY = 5  # seconds after which a page of something that runs is read again
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"
)


def create_app(root: Path, *, hosts: Sequence[str] = ()) -> FastAPI:
    """The application over the runs in a folder. `hosts` are the names that it answers to."""
    app = FastAPI(title="Burnish board", openapi_url=None, docs_url=None, redoc_url=None)
    pages = Environment(loader=PackageLoader("burnish.board"), autoescape=True)
    pages.filters |= {"duration": duration}
    style = (files("burnish.evaluation") / "templates" / "report.css").read_text(encoding="utf-8")

    def page(name: str, *, live: bool = False, status: int = 200, **values: Any) -> HTMLResponse:
        every = _EVERY if live else None
        text = pages.get_template(name).render(style=style, every=every, root=root, **values)
        return HTMLResponse(text, status, {"content-security-policy": _POLICY})

    @app.get("/")
    def index() -> Response:
        runs = [overview(path, folder) for path, folder in find_runs(root).items()]
        runs.sort(key=lambda run: -run.touched)
        live = any(run.state == "running" for run in runs)
        return page("index.html.j2", live=live or not runs, runs=runs)

    @app.get("/run/{path:path}")
    def run(path: str) -> Response:
        folder = find_runs(root).get(path)
        if folder is None:
            return page("missing.html.j2", status=404, path=path)
        view = read(path, folder)
        drawn = _graph(view)
        stages = [(stage, _charts(stage)) for stage in view.stages]
        live = view.state == "running" or view.problem is not None
        return page("run.html.j2", live=live, run=view, graph=drawn, stages=stages)

    @app.get("/report/{path:path}")
    def report(path: str) -> Response:
        folder = find_runs(root).get(path)
        file = None if folder is None else folder / "report.html"
        if file is None or not file.is_file():
            return page("missing.html.j2", status=404, path=path)
        return FileResponse(file, media_type="text/html")

    @app.get("/compare")
    def compare(request: Request, run: list[str] = Query(default=[])) -> Response:
        known = find_runs(root)
        views = [read(path, known[path]) for path in run if path in known][: len(_LOOKS)]
        live = any(view.state == "running" for view in views)
        return page("compare.html.j2", live=live, runs=views, charts=_side_by_side(views))

    app.add_middleware(KnownHosts, hosts=tuple(hosts), refusal=lambda text: {"detail": text})
    return app


def _graph(run: RunView) -> dict[str, Any]:
    """The stages as a drawing, for a desk and for a phone."""
    boxes = [
        Box(stage.name, (*_kind(stage), how_far(stage)), _BOXES[stage.state], stage.reads)
        for stage in run.stages
    ]
    drawn = {wide: draw(f"stages-{wide}", boxes, columns=columns) for wide, columns in
             (("wide", 5), ("narrow", 2))}  # fmt: skip
    return {wide: drawing for wide, drawing in drawn.items() if drawing is not None}


def _kind(stage: StageView) -> tuple[str, ...]:
    """A stage's kind, where its name does not say it."""
    return () if stage.kind == stage.name else (stage.kind,)


def how_far(stage: StageView) -> str:
    """A stage's state in the few words that a box has room for."""
    if stage.state == "done" and stage.seconds is not None:
        return f"done in {duration(stage.seconds)}"
    if stage.state == "running" and stage.rows:
        return f"step {len(stage.rows)}" + (f" of {stage.total}" if stage.total else "")
    if stage.state == "stopped" and stage.rows:
        return f"stopped at step {len(stage.rows)}"
    return stage.state


def _charts(stage: StageView) -> list[tuple[str, Markup]]:
    """The curves of the metrics that matter most in this stage, each with the metric's name."""
    curves = curves_of(stage)
    shown = [name for name in FIRST if name in curves and len(curves[name][0]) > 1]
    return [
        (name, _chart(f"{stage.name}-{number}", stage.name, name, [Series(name, *curves[name])]))
        for number, name in enumerate(shown)
    ]


def _side_by_side(runs: Sequence[RunView]) -> dict[str, list[tuple[str, Markup]]]:
    """By stage: the same metric of it in several runs, one chart each."""
    found: dict[tuple[str, str], list[Series]] = {}
    for run, look in zip(runs, _LOOKS, strict=False):
        for stage in run.stages:
            curves = curves_of(stage)
            for name in FIRST:
                if name in curves:
                    series = Series(run.path, *curves[name], look=look)
                    found.setdefault((stage.name, name), []).append(series)
    drawn: dict[str, list[tuple[str, Markup]]] = {}
    for number, ((stage, name), series) in enumerate(found.items()):
        if len(series) > 1 and max(len(one.x) for one in series) > 1:
            chart = _chart(f"pair-{number}", stage, name, series)
            drawn.setdefault(stage, []).append((name, chart))
    return drawn


def _chart(name: str, stage: str, metric: str, series: Sequence[Series]) -> Markup:
    """A metric over steps; its name stands above it on the page."""
    chart = line_chart(
        name.replace(".", "-"), series, title=f"{stage}: {metric}", x_label="step", y_label=""
    )
    assert chart is not None  # every series has points
    return chart
