"""Behind a proxy: whose word is believed about the client, and under which prefix the pages stand.

`scope["root_path"]` is the prefix from here on, and `scope["path"]` begins with it, whether the
proxy took it off or not.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from burnish.errors import UserError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Network = IPv4Network | IPv6Network

_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")


class Behind:
    """ASGI middleware, outermost.

    Args:
        app: what is behind the proxy.
        root_path: the prefix under which the proxy shows the pages, such as "/labels"; "" for none.
        trusted: addresses and networks of proxies. What such a one says in X-Forwarded-For, -Proto,
            -Host and -Prefix is believed; what anybody else says there is not heard.
    """

    def __init__(self, app: App, *, root_path: str = "", trusted: Iterable[str] = ()) -> None:
        self._app, self._root, self._trusted = (
            app,
            read_prefix(root_path),
            tuple(map(read_network, trusted)),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on as the client made it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        root = self._root
        scope = dict(scope)
        if self._is_trusted((scope.get("client") or ("",))[0]):
            root = _forwarded_prefix(headers, root)
            self._believe(scope, headers)
        path = scope["path"]
        if root and path != root and not path.startswith(f"{root}/"):
            path = root + path
            scope["raw_path"] = root.encode() + scope.get("raw_path", scope["path"].encode())
        scope |= {"root_path": root, "path": f"{root}/" if path == root else path}
        await self._app(scope, receive, _under(root, send))

    def _is_trusted(self, address: str) -> bool:
        try:
            known = ip_address(address)
        except ValueError:
            return False
        return any(known in network for network in self._trusted)

    def _believe(self, scope: Scope, headers: dict[bytes, str]) -> None:
        """The client's address, scheme and the name it asked for, as the proxy tells them."""
        told = [
            part.strip() for part in headers.get(b"x-forwarded-for", "").split(",") if part.strip()
        ]
        # From the right, since what stands on the left a client may have written itself.
        client = next(
            (address for address in reversed(told) if not self._is_trusted(address)), None
        )
        if client is not None:
            scope["client"] = (client, 0)
        proto = headers.get(b"x-forwarded-proto", "").split(",")[-1].strip().lower()
        if proto in ("http", "https"):
            scope["scheme"] = proto
        host = headers.get(b"x-forwarded-host", "").split(",")[-1].strip()
        if host:
            others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
            scope["headers"] = [*others, (b"host", host.encode("latin-1", "replace"))]


def local_path(scope: Scope) -> str:
    """A request's path without the prefix."""
    return scope["path"].removeprefix(scope.get("root_path", "")) or "/"


def read_prefix(text: str) -> str:
    """A prefix as "/a/b"; "" and "/" are none. Raises UserError for what is no path."""
    prefix = text.strip().rstrip("/")
    if prefix and not prefix.startswith("/"):
        prefix = f"/{prefix}"
    if not _PREFIX.fullmatch(prefix):
        raise UserError(
            f'"{text}" is no prefix of a path.', field="root_path", hint="Give one such as /labels."
        )
    return prefix


def read_network(text: str) -> Network:
    """An address or a network. Raises UserError for what is neither."""
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise UserError(
            f'"{text}" is no address of a proxy.', field="trusted_proxy",
            hint="Give an address such as 10.0.0.5, or a network such as 10.0.0.0/24.",
        ) from error  # fmt: skip


def _forwarded_prefix(headers: dict[bytes, str], otherwise: str) -> str:
    given = headers.get(b"x-forwarded-prefix", "").split(",")[-1].strip().rstrip("/")
    return given if given and _PREFIX.fullmatch(given) else otherwise


def _under(root: str, send: Send) -> Send:
    """Redirects of this server's own lead to where the prefix is."""
    if not root:
        return send

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                (name, _moved(name, value, root.encode())) for name, value in message["headers"]
            ]
        await send(message)

    return sending


def _moved(name: bytes, value: bytes, root: bytes) -> bytes:
    return root + value if name.lower() == b"location" and value.startswith(b"/") else value
