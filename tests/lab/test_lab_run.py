"""`burnish lab`: a small file from its text to its page; fits; alarms; what goes on after a
kill."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from burnish.cli.main import main
from burnish.lab import alarms, fits, mitigations
from burnish.lab.alarms import EITHER, HEALTHY
from burnish.lab.experiments import PROCEDURES
from burnish.lab.run import fingerprints
from burnish.lab.settings import Lab
from burnish.statistics.alarms import Check, Start

SMALL = """
name: small
seeds: 3
world: {vocabulary: 4, max_length: 12}
labels: {pairs: 60}
exact: {length: 3, pairs: 40, n: [1, 4, 16]}
curves: {points: 6, max_kl: 4.0, n: [1, 4, 16], answers: 512}
scaling: {pairs: [40, 160], features: [tokens, pairs], kl: 3.0}
noise: {flipped: [0.0, 0.3], pairs: 80}
length_bias: {strengths: [0.0, 0.3], pairs: 80}
mitigations: {members: 3, pairs: 40, n: 16, answers: 512}
alarms: {pairs: 40, biased_pairs: 60, healthy_pairs: 300, other_pairs: 60, checks: 5, max_kl: 3.0, answers: 16, start_answers: 64}
"""  # noqa: E501


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    (folder / "small.yaml").write_text(SMALL, encoding="utf-8")
    main_ok([str(folder / "small.yaml"), "--out", str(folder / "out")])
    return folder


def main_ok(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["lab", *arguments])
    assert not ended.value.code


def test_a_small_file_gives_typed_results_and_a_page(done: Path):
    results = json.loads((done / "out" / "results.json").read_text(encoding="utf-8"))
    assert results["version"] == 1
    assert list(results["experiments"]) == list(PROCEDURES)
    exact = results["experiments"]["exact"]["facts"]
    assert exact["uniform_8_of_64_kl"] == pytest.approx(2.078, abs=5e-4)
    gold = results["experiments"]["curves"]["curves"][0]["lines"]["gold"]
    assert len(gold) == 6
    assert all(one["low"] <= one["value"] <= one["high"] and one["n"] == 3 for one in gold)
    page = (done / "out" / "report.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in page for name in PROCEDURES)
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="http', page)


def test_a_world_that_is_missing_or_damaged_is_measured_again_to_the_same_figures(
    done: Path, capsys: pytest.CaptureFixture[str]
):
    before = (done / "out" / "results.json").read_bytes()
    worlds = sorted((done / "out" / "worlds").glob("*.json"))
    assert len(worlds) == 3 * len(PROCEDURES)
    (done / "out" / "worlds" / "curves-1.json").unlink()
    (done / "out" / "worlds" / "noise-2.json").write_text('{"figures": {}, "seal": "no"}')
    main_ok([str(done / "small.yaml"), "--out", str(done / "out"), "processes=2"])
    assert f"{3 * len(PROCEDURES) - 2} of {3 * len(PROCEDURES)}" in capsys.readouterr().err
    assert (done / "out" / "results.json").read_bytes() == before


def test_a_change_measures_again_only_what_it_touches():
    first, other = fingerprints(Lab()), fingerprints(Lab.model_validate({"noise": {"pairs": 99}}))
    assert {name for name in first if first[name] != other[name]} == {"noise"}
    worlds = fingerprints(Lab.model_validate({"world": {"end": 0.1}}))
    assert not {name for name in first if first[name] == worlds[name]}
    more = fingerprints(Lab.model_validate({"seeds": 99, "processes": 7}))
    assert more == first


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seedz: 1", 'row 1, field "seedz": there is no such key. Did you mean "seed'),
        ("labels: {flipped: 0.5}", "expected a number from 0 and below 0.5, given 0.5"),
        ("mitigations: {n: 1024, answers: 512}", "raise answers, or lower n"),
        ("curves: {n: [1, 4096], answers: 512}", "raise answers, or lower n"),
        ("scaling: {pairs: [500, 500]}", "500 is listed twice"),
        ("noise: {flipped: [0.1, 0.1]}", "0.1 is listed twice"),
        ("length_bias: {strengths: [0.1, 0, 0.1]}", "0.1 is listed twice"),
        ("alarms: {answers: 400}", "raise start_answers, or lower answers"),
        ("exact: {length: 5}\nworld: {vocabulary: 32}", "too many to enumerate"),
        ("name: ../elsewhere", 'field "name"'),
    ],
)
def test_mistakes_are_one_line(
    text: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["lab", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "bad.yaml" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["rl", "best_of_n"])
def test_fits_find_planted_curves_and_their_peaks(form: fits.Form):
    rng, d = np.random.default_rng(0), np.linspace(0.1, 4.0, 40)
    planted = fits.value(d, 1.2, 0.5, form)
    assert fits.fit(d, planted, form) == pytest.approx((1.2, 0.5))
    noisy = planted + 0.05 * rng.normal(size=(20, 1)) * d + 0.01 * rng.normal(size=(20, 40))
    found = fits.fitted(d, noisy, form, resamples=500)
    for estimate, value in ((found.alpha, 1.2), (found.beta, 0.5)):
        assert estimate.low < value < estimate.high
    fine = np.linspace(0.01, 10.0, 100_000)
    top = fine[fits.value(fine, 1.2, 0.5, form).argmax()]
    assert fits.peak(1.2, 0.5, form) == pytest.approx(top, abs=1e-3)
    assert found.peak.low < top < found.peak.high


def test_a_curve_that_never_falls_has_no_peak():
    assert fits.peak(1.0, -0.1, "rl") == np.inf
    assert fits.peak(-1.0, 0.1, "best_of_n") == 0.0


def _check(step: int, proxy: float, judge: float) -> Check:
    return Check(step, proxy, judge, 0.01, 1.0)


def test_the_slope_rings_where_the_judge_stops_following():
    start = Start({0: 0.0}, {0: 0.0}, 1.0, 1.0, 10.0, 0.8, 0.05, 0.0)
    settings = Lab().alarms.model_copy(update={"window": 4})
    follows = [_check(step, 0.2 * step, 0.16 * step) for step in range(1, 9)]
    assert alarms.first_slope_alarm(follows, start, settings) is None
    stops = [*follows, *(_check(step, 0.2 * step, 1.28) for step in range(9, 14))]
    # by hand: of the last four, J = 1.12, 1.28, 1.28, 1.28 on P = 1.4, 1.6, 1.8, 2.0: slope 0.24
    assert alarms.first_slope_alarm(stops, start, settings) == 10


def test_in_time_is_by_the_loss_and_ever_where_there_is_none():
    told = [(3, 3), (4, 3), (None, 3), (None, None), (24, None)]
    assert [alarms._by(*one) for one in told] == [True, False, False, False, True]


@pytest.mark.slow
def test_the_bars_hold_on_the_worlds_that_were_not_tuned_on():
    lab = Lab()
    runs = [alarms.measure(lab, seed) for seed in range(20)]
    counts = {row.name: row.figures for row in alarms.summarize(lab, runs).rows}
    for kind in ("few labels", "annotators like length"):
        assert counts[f"{kind}: {EITHER}"]["in_time"] >= 18
        assert counts[f"{kind}: {EITHER}"]["by_peak"] >= 10
    assert counts[f"{HEALTHY}: {EITHER}"]["rang"] <= 2
    gains = [mitigations.measure(lab, seed) for seed in range(8)]
    rows = {row.name: row.figures["gain"] for row in mitigations.summarize(lab, gains).rows}
    assert rows["few labels: min of 5"].value >= 0.4
    assert rows["annotators like length: length taken off"].value >= 0.9
    for way in ("mean of 5", "min of 5", "mean − sd"):
        estimate = rows[f"annotators like length: {way}"]
        assert estimate.low < 0.0 < estimate.high
