"""Servers on this machine: the socket, the names they answer to, and who is kept out."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from burnish.errors import UserError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def listen(host: str, port: int) -> socket.socket:
    """The listening socket. Raises UserError for an address or a port that cannot be had."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise UserError(
            f"{host}:{port} cannot be listened on ({error}).", hint="Choose another with --port."
        ) from error
    listening.listen(512)
    return listening


def in_url(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def answered_names(host: str, more: Sequence[str] = ()) -> list[str]:
    """Names in the Host header that are answered. Who listens everywhere and names none answers to
    all."""
    if host in ("0.0.0.0", "::") and not more:
        return []
    return [*LOOPBACK_NAMES, host.lower(), *(name.lower() for name in more)]


def host_name(host: str) -> str:
    """A Host header without the port; `[::1]:80` and `::1` alike."""
    if host.startswith("["):
        return host[1:].split("]")[0].lower()
    return host.rsplit(":", 1)[0].lower() if host.count(":") == 1 else host.lower()


class KnownHosts:
    """ASGI middleware: only these names are answered, so that no page of another site reaches a
    server on this machine by a name of its own (DNS rebinding), and no page of another site at all.

    Args:
        app: what is guarded.
        hosts: the names (`answered_names`); empty: any.
        refusal: makes the JSON body of an answer that refuses, of a text.
    """

    def __init__(
        self, app: App, *, hosts: Iterable[str], refusal: Callable[[str], dict[str, Any]]
    ) -> None:
        self._app, self._hosts, self._refusal = app, frozenset(hosts), refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        problem = None
        if self._hosts and host_name(host) not in self._hosts:
            problem = f'this server does not answer to the name "{host_name(host)[:100]}"'
        elif not _same_site(headers, host):
            problem = "requests from other sites' pages are not taken"
        if problem is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps(self._refusal(problem)).encode()
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 403, "headers": head})
        await send({"type": "http.response.body", "body": body})


def _same_site(headers: dict[bytes, str], host: str) -> bool:
    """What no browser sent has neither of these headers."""
    origin = headers.get(b"origin")
    if origin is not None:
        return urlsplit(origin).netloc.lower() == host.lower()
    return headers.get(b"sec-fetch-site", "none") in ("same-origin", "none")
