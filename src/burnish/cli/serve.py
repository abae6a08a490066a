"""`burnish serve`: a model behind the interface of OpenAI's API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.numbers import within
from burnish.cli.shared import AllowHost, Host, Port, Traceback
from burnish.errors import UserError
from burnish.listening import answered_names, in_url, is_loopback, listen


def serve(
    model: Annotated[
        str, typer.Argument(help="A model reference, or a run's folder (its policy).")
    ],
    adapter: Annotated[
        Path | None,
        typer.Option(help="A folder with an adapter to merge (PEFT's).", show_default=False),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="The environment variable with the key that clients must send.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What clients call the model [default: MODEL].", show_default=False),
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(
            callback=within("Tokens"),
            help="Tokens of a prompt and its answer [default: what the model can read].",
            show_default=False,
        ),
    ] = None,
    max_rows: Annotated[
        int, typer.Option(callback=within("Responses"), help="Answers written side by side.")
    ] = 16,
    queue: Annotated[
        int,
        typer.Option(callback=within("Count"), help="Answers that may wait or be written at once."),
    ] = 64,
    timeout: Annotated[
        float, typer.Option(callback=within("Seconds"), help="Seconds that an answer may take.")
    ] = 600.0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    quantization: Annotated[
        str, typer.Option(help="none, int8, or auto: int8 where the processor is fast at it.")
    ] = "none",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, or auto.")] = "auto",
    allow_host: AllowHost = None,
    traceback: Traceback = False,
) -> None:
    """Serve a model over HTTP as OpenAI's API does: chat and completions, whole or streamed, until
    Ctrl-C.

    Example: `burnish serve runs/quickstart --port 8000`
    """
    _one_of("--dtype", dtype, ("float32", "bfloat16"))
    _one_of("--quantization", quantization, ("none", "int8", "auto"))
    key = _key(api_key_env)
    listening = listen(host, port)  # before a model is read for nothing
    try:
        _run(
            listening,
            model,
            adapter=adapter,
            name=name,
            key=key,
            host=host,
            allow_host=allow_host or [],
            limits=(max_length, max_rows, queue, timeout),
            how={"dtype": dtype, "quantization": quantization, "device": device},
        )
    finally:
        listening.close()


def _one_of(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise UserError(f'must be one of {", ".join(choices)}, not "{value}".', field=option)


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"the environment variable {variable} is not set.",
            field="--api-key-env",
            hint="Set it to the key that clients shall send.",
        )
    return key


def _run(
    listening: Any,
    model: str,
    *,
    adapter: Path | None,
    name: str | None,
    key: str | None,
    host: str,
    allow_host: list[str],
    limits: tuple[int | None, int, int, float],
    how: dict[str, Any],
) -> None:
    import uvicorn

    from burnish.serving.app import create_app
    from burnish.serving.call import Served
    from burnish.serving.worker import Worker
    from burnish.stages.serve import make_ready

    max_length, max_rows, queue, timeout = limits
    typer.echo(f"loading {model} ...", err=True)
    ready = make_ready(model, adapter=adapter, max_length=max_length, say=_say, **how)

    def session() -> Any:
        return ready.engine.open(max_rows=max_rows, max_length=ready.max_length)

    worker = Worker(session, ready.finisher, queue=queue, timeout=timeout, say=_say)
    names = tuple(dict.fromkeys((name or model, model)))
    served = Served(worker, names, ready.tokenizer, ready.vocabulary, key)
    app = create_app(served, hosts=answered_names(host, allow_host))
    _announce(host, listening.getsockname()[1], names[0], worker.max_length, key=key is not None)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=10, timeout_keep_alive=30,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        worker.close()


def _announce(host: str, port: int, name: str, max_length: int, *, key: bool) -> None:
    if not is_loopback(host):
        lacking = "" if key else ", and no key is asked for (--api-key-env)"
        _say(
            f"warning: other machines reach this server. It speaks plain HTTP{lacking}; "
            "put a proxy with HTTPS in front of it"
        )
    _say(
        f'"{name}" (up to {max_length} tokens) on http://{in_url(host)}:{port}/v1 (Ctrl-C ends it)'
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
