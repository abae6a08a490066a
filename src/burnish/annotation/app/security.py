"""What stands before every route: headers, bounds on bodies, known hosts, and requests from other
sites kept out."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from burnish.annotation.app.proxies import local_path
from burnish.listening import host_name

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self';"
    " connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
_SAFE = ("GET", "HEAD", "OPTIONS")
BODY_LIMIT = 2 * 1024 * 1024
UPLOAD_LIMIT = 128 * 1024 * 1024


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        hosts: names in the Host header that are answered; empty: any. It keeps other sites from
            reaching a server on this machine by a name of their own (DNS rebinding).
        uploads: whether a path takes uploads, whose bodies may be longer.
    """

    def __init__(
        self,
        app: App,
        *,
        hosts: Iterable[str] = (),
        uploads: Callable[[str], bool] = lambda path: False,
    ) -> None:
        self._app, self._hosts, self._uploads = app, frozenset(hosts), uploads
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        sender = self._with_headers(local_path(scope), send)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _answer(sender, *refusal)
            return
        limit = UPLOAD_LIMIT if self._uploads(scope["path"]) else BODY_LIMIT
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            await _answer(sender, 413, f"at most {limit // 1024} KiB can be sent here")
            return
        meter = _Meter(receive, sender, limit)
        try:
            await self._app(scope, meter.receive, meter.send)
        except Exception:
            if not meter.over:
                raise
        if meter.over and not meter.started:
            await _answer(sender, 413, f"at most {limit // 1024} KiB can be sent here")

    def _refusal(self, scope: Scope, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts and host_name(host) not in self._hosts:
            return (
                421,
                (
                    f'this server does not answer to the name "{host_name(host)[:100]}"; start it'
                    " with --allow-host"
                ),
            )
        if scope["method"] in _SAFE:
            return None
        if headers.get(b"sec-fetch-site", b"same-origin") not in (b"same-origin", b"none"):
            return 403, "requests from other sites are not taken"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host.lower():
            return 403, _another_name(origin.decode("latin-1"), host)
        return None

    def _with_headers(self, path: str, send: Send) -> Send:
        added = self._headers
        if path.startswith("/static/"):
            added = [
                *(h for h in added if h[0] != b"cache-control"),
                (b"cache-control", b"no-cache"),
            ]

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(h for h in added if h[0] not in there)]
            await send(message)

        return sending


class _Meter:
    """Counts a body as it comes; over the limit it ends the request."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._left = receive, send, limit
        self.over = self.started = False

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.over = True
            return {"type": "http.disconnect"}
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.over and not self.started:
            return  # what the route makes of a body that was cut off is of no use to anybody
        self.started = True
        await self._send(message)


def _another_name(origin: str, host: str) -> str:
    """Either another site's page asks, or a proxy has put its own name for this server into the
    Host header."""
    return (
        f'a page of "{origin}" asks this server, which is called "{host}" here, so nothing is done.'
        " If a proxy stands in front: let it pass the name (nginx: proxy_set_header Host $host),"
        " or send X-Forwarded-Host and start the server with --trusted-proxy"
    )


async def _answer(send: Send, status: int, detail: str) -> None:
    body = json.dumps({"detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
