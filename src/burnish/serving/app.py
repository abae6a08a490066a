"""The HTTP side: routes, keys, bodies, and errors in OpenAI's form."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Sequence
from functools import partial

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from burnish.listening import KnownHosts
from burnish.serving.answers import Json
from burnish.serving.call import Call, ClientGoneError, EventStream, Served, prompt_tokens
from burnish.serving.errors import RefusedError, error_body
from burnish.serving.protocol import Body, ChatRequest, CompletionRequest, read_body

_BODY = 8 * 1024 * 1024


def create_app(served: Served, *, hosts: Sequence[str] = ()) -> FastAPI:
    """The application. `hosts` are the names that it answers to; empty: any."""
    app = FastAPI(title="Burnish", openapi_url=None, docs_url=None, redoc_url=None)
    card = {
        "id": served.names[0], "object": "model", "created": int(time.time()),
        "owned_by": "burnish",
        "max_model_len": served.worker.max_length,
    }  # fmt: skip

    @app.get("/health")
    def health() -> Json:
        if served.worker.ended:
            raise RefusedError("the server is shutting down.", status=503)
        return {"status": "ok", "load": served.worker.load}

    @app.get("/v1/models")
    def models(request: Request) -> Json:
        _check_key(request, served)
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name:path}")
    def model(name: str, request: Request) -> Json:
        _check_key(request, served)
        _check_name(name, served)
        return card

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        return await _answer(request, served, ChatRequest)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        return await _answer(request, served, CompletionRequest)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> Response:
        headers = {"Retry-After": "1"} if error.status in (429, 503) else {}
        return JSONResponse(error.body, status_code=error.status, headers=headers)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        text = f"{request.method} {request.url.path}: {error.detail}."
        return JSONResponse(
            error_body(text, status=error.status_code),
            status_code=error.status_code,
            headers=error.headers,
        )

    app.add_middleware(KnownHosts, hosts=tuple(hosts), refusal=partial(error_body, status=403))
    return app


async def _answer(request: Request, served: Served, kind: type[Body]) -> Response:
    """Have a request's completions written, and answer whole or as a stream."""
    _check_key(request, served)
    body = read_body(kind, await _read(request))
    _check_name(body.model, served)
    # in a thread: others' streams need not wait for a long conversation
    prompts = await asyncio.to_thread(prompt_tokens, body, served)
    call = Call(body, prompts, served, request.receive)
    if not body.stream:
        return await call.whole()
    try:
        first = await call.event()
    except ClientGoneError:
        call.close()
        return Response(status_code=499)
    except BaseException:
        call.close()
        raise
    return EventStream(call, first)


async def _read(request: Request) -> bytes:
    """The body. JSON must be called so: a page of another site could send anything else here."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusedError("send the body as Content-Type: application/json.", status=415)
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _BODY:
            raise RefusedError(f"at most {_BODY // 2**20} MiB can be sent here.", status=413)
    return bytes(body)


def _check_key(request: Request, served: Served) -> None:
    if served.key is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), served.key.encode())
    if scheme.lower() != "bearer" or not right:
        raise RefusedError(
            "Incorrect API key provided: send it as Authorization: Bearer KEY.",
            status=401,
            code="invalid_api_key",
        )


def _check_name(name: str, served: Served) -> None:
    if name not in served.names:
        raise RefusedError(
            f"The model `{name[:200]}` does not exist: this server has `{served.names[0]}`.",
            status=404,
            code="model_not_found",
            param="model",
        )
