"""`burnish serve` as it is typed: what is wrong is said before a model is read, and who could
listen in is warned of."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import uvicorn

from burnish.cli.main import main


def typed(*arguments: str) -> int:
    try:
        main(["serve", *arguments])
    except SystemExit as ending:
        return int(ending.code or 0)
    return 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Instead of serving for ever: the applications that would have been served."""
    found: list[Any] = []

    def run(server: uvicorn.Server, sockets: Any = None) -> None:
        found.append(server.config.app)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no/such model"], "neither a folder, nor a hub id"),
        (["tiny", "--adapter", "nowhere"], "this folder holds no adapter"),
        (["tiny", "--api-key-env", "BURNISH_NOT_SET"], "BURNISH_NOT_SET is not set"),
        (["tiny", "--max-length", "4096"], "reads at most 1024 tokens, not 4096"),
        (["tiny", "--dtype", "float8"], '--dtype": must be one of float32, bfloat16'),
        (["tiny", "--quantization", "q4"], "must be one of none, int8, auto"),
        (["tiny", "--host", "not an address"], "cannot be listened on"),
        (["tiny", "--device", "cuda:7"], "model.device"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], asked: list[Any]
):
    assert typed(*arguments, *([] if "--host" in arguments else ["--port", "0"])) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("burnish: ")
    assert said in last
    assert not asked


def test_a_port_that_is_taken_is_said_before_the_model_is_read(
    capsys: pytest.CaptureFixture[str],
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert typed("tiny", "--port", str(other.getsockname()[1])) == 2
    told = capsys.readouterr().err
    assert "cannot be listened on" in told
    assert "loading" not in told


def test_only_this_machine_is_served_unless_asked_and_then_it_is_said(
    capsys: pytest.CaptureFixture[str], asked: list[Any], monkeypatch: pytest.MonkeyPatch
):
    assert typed("tiny", "--port", "0") == 0
    told = capsys.readouterr().err
    assert "warning" not in told
    assert "http://127.0.0.1:" in told
    assert typed("tiny", "--port", "0", "--host", "0.0.0.0") == 0
    assert "plain HTTP, and no key is asked for (--api-key-env)" in capsys.readouterr().err
    monkeypatch.setenv("BURNISH_KEY", "secret")
    assert typed("tiny", "--port", "0", "--host", "0.0.0.0", "--api-key-env", "BURNISH_KEY") == 0
    told = capsys.readouterr().err
    assert "plain HTTP;" in told
    assert "secret" not in told
    assert len(asked) == 3
