"""The lab's report: one HTML page that loads nothing and runs no script."""

from __future__ import annotations

import json
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from burnish.lab.figures import figures
from burnish.lab.results import Findings, Results
from burnish.lab.words import Figure, headline, sentences, signed, spoken

_COLUMNS = {
    "gold": "Gold",
    "kl": "KL",
    "length": "Length",
    "peak_gold": "Highest gold",
    "peak_kl": "KL there",
    "median_peak_kl": "KL there, median",
    "accuracy": "Accuracy",
    "gain": "Above one model",
    "worlds": "Worlds",
    "lost": "Gold was lost",
    "rang": "Rang",
    "in_time": "In time",
    "by_peak": "By the peak",
    "median_kl": "At a KL of, median",
}
_INTROS = {
    "exact": "Every string is listed, so that nothing here is estimated but over worlds.",
    "curves": (
        "The policy that is best under the proxy at each KL, found exactly, and the best of n"
        " answers of the first policy."
    ),
    "scaling": "The same labels, more of them, and reward models that see more of an answer.",
    "noise": "Some labels say the opposite of what the annotator meant.",
    "length_bias": "Annotators give longer answers more than gold does.",
    "mitigations": (
        "Ensembles, length taken off the score, and as many labels as the ensemble has in one"
        " model."
    ),
    "alarms": (
        "Fresh answers of the policy, judged on the way. A rings where the judge's slope on the"
        " proxy is under half of what it was at the start; B where answers are longer by three"
        " tenths and the proxy liked length at the start."
    ),
}


def render(results: Results) -> str:
    """The page."""
    environment = Environment(
        loader=ChoiceLoader([PackageLoader("burnish.lab"), PackageLoader("burnish.evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    told = dict(zip(results.experiments, sentences(results), strict=True))
    sections = [
        {
            "id": name,
            "title": told[name].title,
            "sentence": told[name].text,
            "intro": _INTROS[name],
            "figures": figures(name, found, results),
            "rows": table_of(found),
            "fits": _fits(found),
        }
        for name, found in results.experiments.items()
    ]
    return environment.get_template("lab.html.j2").render(
        name=results.name,
        headline=headline(results),
        worlds=len(results.seeds),
        first=results.seeds[0],
        version=results.burnish,
        sections=sections,
        settings=json.dumps(results.settings, indent=2, ensure_ascii=False),
    )


def table_of(found: Findings) -> list[dict[str, str]]:
    """The rows in words."""
    columns = list(dict.fromkeys(name for row in found.rows for name in row.figures))
    shown = [name for name in columns if name not in ("kl", "peak_kl")]
    return [
        {"": row.name, **{_COLUMNS[name]: _cell(name, row.figures.get(name)) for name in shown}}
        for row in found.rows
    ]


def _cell(column: str, figure: Figure) -> str:
    digits = 1 if column in ("length", "median_kl", "median_peak_kl") else 2
    return signed(figure) if column == "gain" else spoken(figure, digits)


def _fits(found: Findings) -> list[dict[str, Any]]:
    """Gao's curves in figures."""
    formulas = {"rl": "d (α − β log d)", "best_of_n": "d (α − β d)"}
    return [
        {
            "": curve.name,
            "Curve": formulas[curve.fit.form],
            "α": spoken(curve.fit.alpha),
            "β": spoken(curve.fit.beta),
            "Peak at d": spoken(curve.fit.peak),
            "Left over (rms)": spoken(curve.fit.rms, 3),
        }
        for curve in found.curves
        if curve.fit is not None
    ]
