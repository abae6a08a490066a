"""The application: routes, the guard before them, what refusals become, and the threads beside
them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlencode

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from burnish._version import __version__
from burnish.annotation.app import (
    account_pages,
    api,
    crowd_pages,
    images_api,
    item_pages,
    items_api,
    owner_pages,
    pages,
    people_api,
    people_pages,
    review_api,
    review_pages,
    sign_on_pages,
)
from burnish.annotation.app.context import LoginNeededError, Site, page_address
from burnish.annotation.app.language import reader_language
from burnish.annotation.app.proxies import Behind, local_path
from burnish.annotation.app.refused import REFUSALS
from burnish.annotation.app.security import Guard
from burnish.annotation.service import webhooks, work
from burnish.annotation.service.refusals import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    TooManyError,
)
from burnish.errors import UserError

_STATUS = {NotFoundError: 404, ForbiddenError: 403, ConflictError: 409, TooManyError: 429}
_CHAT_THREADS = 64
# more would wait for the interpreter while they hold locks: with 12, PostgreSQL's p95 was twice as
# long
_THREADS = 4


def create_app(
    site: Site,
    *,
    hosts: Iterable[str] = (),
    root_path: str = "",
    trusted: Iterable[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> FastAPI:
    """The service over a site's database. `hosts` are the names it answers to (empty: any),
    `root_path` the prefix and `trusted` the addresses of proxies in front (`proxies.Behind`); `say`
    hears of failures."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        site.chat_threads = anyio.CapacityLimiter(_CHAT_THREADS)
        beside = [
            webhooks.Background(lambda: work.sweep(site.database), every=5.0, say=say),
            webhooks.Background(lambda: webhooks.deliver(site.database), every=2.0, say=say),
        ]
        for thread in beside:
            thread.start()
        yield
        for thread in beside:
            thread.stop()

    app = FastAPI(
        title="Burnish annotation",
        version=__version__,
        lifespan=life,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="Preference collection: projects, items, tasks, answers.",
    )
    app.state.site = site
    for router in (
        *(part.router for part in (api, people_api, items_api, images_api, review_api)),
        review_api.tasks,
    ):
        app.include_router(router, responses=REFUSALS)
    for page in (
        pages,
        account_pages,
        crowd_pages,
        owner_pages,
        people_pages,
        item_pages,
        review_pages,
        sign_on_pages,
    ):
        app.include_router(page.router, include_in_schema=False)
    app.include_router(images_api.shown, include_in_schema=False)
    app.mount(
        "/static", StaticFiles(directory=Path(__file__).parent.parent / "static"), name="static"
    )
    _handle(app, site)
    app.add_middleware(
        Guard, hosts=tuple(hosts), uploads=lambda path: path.endswith(("/upload", "/images"))
    )
    # the last that is added is the outermost
    app.add_middleware(Behind, root_path=root_path, trusted=tuple(trusted))
    return app


def _handle(app: FastAPI, site: Site) -> None:
    @app.exception_handler(UserError)
    def refused(request: Request, error: UserError) -> Response:
        status = _STATUS.get(type(error), 422)
        headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooManyError) else {}
        caller = site.caller_or_none(request)
        message = reader_language(request, caller).refusal(error)
        if _is_api(request):
            detail = {"detail": message, "field": error.field}
            return JSONResponse(detail, status_code=status, headers=headers)
        response = site.page(request, "error.html", status=status, message=message, caller=caller)
        response.headers.update(headers)
        return response

    @app.exception_handler(LoginNeededError)
    def unknown(request: Request, error: LoginNeededError) -> Response:
        if _is_api(request):
            return JSONResponse({"detail": "log in, or send a token"}, status_code=401)
        here = page_address(request)
        if here in ("/", "/projects") or not account_pages.is_here(here):
            return RedirectResponse("/login", status_code=303)
        return RedirectResponse(f"/login?{urlencode({'next': here})}", status_code=303)

    @app.exception_handler(RequestValidationError)
    def unfit(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if _is_api(request):
            return JSONResponse(
                {"detail": f"{field}: {first['msg']}", "field": field}, status_code=422
            )
        return site.page(request, "error.html", status=422, message=f"{field}: {first['msg']}")

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if _is_api(request):
            return JSONResponse(
                {"detail": error.detail}, status_code=error.status_code, headers=error.headers
            )
        message = "There is no such page." if error.status_code == 404 else str(error.detail)
        return site.page(request, "error.html", status=error.status_code, message=message)


def _is_api(request: Request) -> bool:
    return local_path(request.scope).startswith("/api/")
