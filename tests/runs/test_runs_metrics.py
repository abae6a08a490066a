"""Metrics: exact, valid JSON, and cut back to the byte."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from burnish.errors import UserError
from burnish.runs.metrics import MetricLog, make_writers, read_metrics


def write(path: Path, steps: range, log: MetricLog | None = None) -> MetricLog:
    log = log or MetricLog(path)
    for step in steps:
        log.log(step, {"loss": 1 / (step + 1), "tokens": step})
    return log


def test_rows_keep_their_order_and_read_back_exactly(tmp_path: Path) -> None:
    path = tmp_path / "made" / "metrics.jsonl"
    log = MetricLog(path)
    log.log(1, {"zeta": 0.1 + 0.2, "alpha": 3})
    assert path.read_text() == '{"step": 1, "zeta": 0.30000000000000004, "alpha": 3}\n'
    log.close()
    assert read_metrics(path) == [{"step": 1, "zeta": 0.1 + 0.2, "alpha": 3}]


def test_not_finite_values_are_valid_json_and_come_back(tmp_path: Path) -> None:
    path = tmp_path / "m"
    MetricLog(path).log(1, {"a": math.nan, "b": math.inf, "c": -math.inf})

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(path.read_text(), parse_constant=refuse) == {
        "step": 1,
        "a": "nan",
        "b": "inf",
        "c": "-inf",
    }
    (row,) = read_metrics(path)
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (math.inf, -math.inf)


@given(st.floats(allow_nan=False))
def test_every_float_reads_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, value: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "floats.jsonl"
    log = MetricLog(path)
    log.truncate_to(0)
    log.log(1, {"x": value})
    log.close()
    assert read_metrics(path)[0]["x"].hex() == value.hex()


@pytest.mark.parametrize(
    "torn", [b"", b'{"step": 5, "lo', b'{"step": 5, "loss": 0.1, "tokens": 5}']
)
def test_resumed_log_equals_an_uninterrupted_one(tmp_path: Path, torn: bytes) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    write(whole, range(1, 9)).close()

    killed = write(cut, range(1, 4))
    position = killed.position()
    write(cut, range(4, 5), killed)
    killed.close()
    with cut.open("ab") as file:
        file.write(torn)

    resumed = MetricLog(cut)
    resumed.truncate_to(position)
    assert resumed.position() == position
    write(cut, range(4, 9), resumed).close()
    assert cut.read_bytes() == whole.read_bytes()


def test_a_log_that_lost_lines_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "m"
    log = write(path, range(1, 4))
    position = log.position()
    log.close()
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(UserError, match="lost lines"):
        MetricLog(path).truncate_to(position)
    assert path.stat().st_size == 20


def test_reading_passes_over_a_torn_last_line_only(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 0.5}]
    path.write_bytes(b'{"step": 1, "loss": 0.5}\n{"step": 2, "lo\n{"step": 3}\n')
    with pytest.raises(UserError, match="m, row 2: this line is not a JSON object"):
        read_metrics(path)
    assert read_metrics(tmp_path / "nothing") == []


def test_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write(tmp_path / "m", range(1, 2))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        log.position()


class Recorder:
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.closed = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((step, dict(values)))

    def close(self) -> None:
        self.closed = True


def test_writers_get_the_same_numbers_and_are_closed(tmp_path: Path) -> None:
    recorder = Recorder()
    log = MetricLog(tmp_path / "m", writers=[recorder])
    log.log(7, {"loss": math.inf})
    log.close()
    assert recorder.rows == [(7, {"loss": math.inf})]
    assert recorder.closed


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")],
)
def test_a_missing_tracker_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        UserError, match=rf"{name} is not installed.*pip install 'burnish\[{name}\]'"
    ):
        make_writers([name], folder=tmp_path, run="run", stage="sft", config={})


def test_a_resumed_run_goes_on_in_its_wandb_curve_and_another_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []
    recorder = Recorder()
    run = SimpleNamespace(
        log=lambda values, step: recorder.log(step, values), finish=recorder.close
    )

    def init(**arguments: Any) -> SimpleNamespace:
        begun.append(arguments)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for folder in ("one", "one", "two"):
        (writer,) = make_writers(
            ["wandb"], folder=tmp_path / folder, run="run", stage="sft", config={"seed": 1}
        )
    writer.log(3, {"loss": 0.5})
    writer.close()
    assert recorder.rows == [(3, {"loss": 0.5})]
    assert recorder.closed
    first, again, other = (arguments["id"] for arguments in begun)
    assert first == again != other
    assert all(
        arguments["resume"] == "allow" and arguments["config"] == {"seed": 1} for arguments in begun
    )
