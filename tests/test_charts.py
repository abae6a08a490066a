from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from burnish.charts import (
    Bar,
    Point,
    Series,
    bar_chart,
    calibration_plot,
    dot_plot,
    line_chart,
    moving_average,
    number_format,
    scatter,
    thinned,
)


def parsed(chart):
    """Every chart is well-formed XML, with a title and a description that it names."""
    root = ElementTree.fromstring(chart)
    ids = {element.get("id") for element in root.iter()}
    assert root.get("role") == "img"
    assert set(root.get("aria-labelledby").split()) <= ids
    return root


def texts(root):
    return [element.text for element in root.iter("text")]


def test_points_stand_where_the_axes_say():
    """x 0..10 and y 0..4: the point (5, 2) is halfway between the outermost grid lines and
    ticks."""
    root = parsed(
        line_chart(
            "c", [Series("s", [0, 5, 10], [0, 2, 4])], title="t", x_label="step", y_label="u"
        )
    )
    places = [tuple(map(float, pair.split())) for pair in root.find("path").get("d")[1:].split("L")]
    assert places[1] == pytest.approx(
        ((places[0][0] + places[2][0]) / 2, (places[0][1] + places[2][1]) / 2)
    )
    grid = [float(line.get("y1")) for line in root.iter("line") if line.get("class") == "grid"]
    assert (max(grid), min(grid)) == pytest.approx((places[0][1], places[2][1]))
    assert {"0", "10", "4", "step", "u"} <= set(texts(root))
    assert "s, step 5: 2.00" in [title.text for title in root.iter("title")]


def test_a_band_encloses_its_line():
    root = parsed(
        line_chart(
            "c",
            [Series("s", [0, 1], [1, 1], low=[0, 0], high=[2, 2])],
            title="t",
            x_label="x",
            y_label="y",
        )
    )
    band = next(p for p in root.iter("path") if "band" in p.get("class"))
    heights = [float(pair.split()[1]) for pair in band.get("d")[1:].split("L")]
    line = next(p for p in root.iter("path") if "line" in p.get("class"))
    assert min(heights) < float(line.get("d")[1:].split("L")[0].split()[1]) < max(heights)


def test_nothing_to_draw_is_no_chart():
    assert line_chart("c", [Series("s", [], [])], title="t", x_label="x", y_label="y") is None
    assert scatter("c", [], title="t", x_label="x", y_label="y") is None
    assert bar_chart("c", [], title="t", reference=0.5) is None
    assert calibration_plot("c", [], title="t") is None
    assert dot_plot("c", [], title="t") is None


@pytest.mark.parametrize(
    "values", [[3.0], [0.0, 0.0], [-5.0, -5.0], [1e-9, 2e-9], [1e12, 3e12], [-0.3, 0.7]]
)
def test_any_range_gets_an_axis(values):
    root = parsed(
        line_chart(
            "c", [Series("s", range(len(values)), values)], title="t", x_label="x", y_label="y"
        )
    )
    ticks = [e.text for e in root.iter("text") if e.get("class") == "tick end"]
    assert len(ticks) >= 2
    assert len(set(ticks)) == len(ticks)
    assert "nan" not in ElementTree.tostring(root, encoding="unicode")


def test_bars_are_as_long_as_their_values():
    root = parsed(
        bar_chart("c", [Bar("a", 0.25, 0.2, 0.3), Bar("b", 0.75)], title="t", reference=0.5)
    )
    short, long = (float(r.get("width")) for r in root.iter("rect"))
    assert long == pytest.approx(3 * short, rel=0.01)
    assert "25\u00a0% (20 to 30\u00a0%)" in texts(root)
    assert len([line for line in root.iter("line") if line.get("class") == "whisker"]) == 3


def test_every_text_is_escaped():
    evil = "<script>&\"'"
    for chart in (
        line_chart(
            "c",
            [Series(evil, [0, 1], [0, 1]), Series("b", [0], [1])],
            title=evil,
            x_label=evil,
            y_label=evil,
        ),
        bar_chart("c", [Bar(evil, 0.5)], title=evil, reference=0.5),
        scatter(
            "c", [Point(0, 0, evil), Point(1, 1, evil)], title=evil, x_label=evil, y_label=evil
        ),
        dot_plot("c", [(evil, [(evil, 0.5, "main")])], title=evil),
    ):
        assert "<script" not in str(chart)
        assert evil in [t.text for t in parsed(chart).iter("title")]


def test_calibration_and_dots_say_their_numbers():
    root = parsed(calibration_plot("c", [(0.2, 0.25, 10), (0.8, 0.75, 30)], title="t"))
    assert "5\u00a0%" in root.find("desc").text
    root = parsed(
        dot_plot(
            "c",
            [("direct", [("Base model", 0.3, "third"), ("PPO policy", 0.9, "main")])],
            title="t",
        )
    )
    assert "direct: Base model 30\u00a0%, PPO policy 90\u00a0%" in root.find("desc").text


def test_long_series_are_thinned_to_means_of_runs():
    thin = thinned(Series("s", list(range(1000)), [float(i % 2) for i in range(1000)]), most=100)
    assert len(thin.x) == 100
    assert set(thin.y) == {0.5}
    assert thin.x[0] == 4.5
    short = Series("s", [0], [1])
    assert thinned(short) is short


def test_moving_average_by_hand():
    assert moving_average([0.0, 3.0, 6.0, 0.0], window=3) == pytest.approx([1.5, 3.0, 3.0, 3.0])


def test_numbers_get_the_decimals_that_tell_them_apart():
    assert number_format([0.0, 0.02], digits=1)(0.02) == "0.02"
    assert number_format([0.0, 500.0], digits=1)(1500.0) == "1,500"
    assert number_format([0.0, 1.0])(-1.0) == "−1.0"
    tiny = number_format([0.0, 2e-6], digits=1)
    assert [tiny(v) for v in (0.0, 2e-6, -6e-6, 0.0012)] == ["0", "2e−6", "−6e−6", "0.0012"]
    flat = number_format([0.0, 1e-5], digits=1)
    assert [flat(v) for v in (0.69501, 0.69502)] == ["0.69501", "0.69502"]
    assert re.fullmatch(r"1e-0?9", number_format([0.0, 1e-9], digits=1)(1e-9).replace("−", "-"))


@pytest.mark.parametrize(
    ("steps", "ticks"),
    [([1, 2, 3], ["1", "2", "3"]), ([3], ["3"]), ([0.0, 0.5, 1.0], None)],
)
def test_between_whole_steps_there_is_no_tick(steps: list[float], ticks: list[str] | None):
    series = Series("loss", steps, [1.0] * len(steps))
    drawn = line_chart("c", [series], title="Loss", x_label="step", y_label="loss")
    found = re.findall(r'class="tick middle"[^>]*>([^<]*)<', str(drawn))
    assert found == ticks if ticks else "0.2" in found


@pytest.mark.parametrize("judge", ["gold", "people of the project watched", "x" * 300])
def test_a_legend_leaves_the_unit_its_room(judge: str):
    """Names that would be drawn over it lose their middles; what is spoken has them whole."""
    unit = "standard deviations at the start"
    lines = [Series("reward", [0, 1], [0, 1]), Series(judge, [0, 1], [1, 0], "second")]
    drawn = str(line_chart("c", lines, title="Both", x_label="step", y_label=unit))
    shown = re.findall(r'<text class="unit" x="([\d.-]+)" y="13.0">([^<]*)<', drawn)
    assert shown[0][1] == "reward"
    # 6.6 a letter, and the sample of the first line stands 27 before its name
    assert float(shown[0][0]) - 27 >= 6.6 * len(unit)
    assert (shown[1][1] == judge) == (len(judge) < 20)
    assert shown[1][1][0] == judge[0]
    assert shown[1][1][-1] == judge[-1]
    assert f"{judge}: from" in drawn
