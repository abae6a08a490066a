"""A small client of the REST API, for scripts and for models that label.

with Client("http://127.0.0.1:8321", token) as client:
    while (task := client.next(project)) is not None:
        client.answer(task, strength=1)
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from burnish.errors import UserError

_MOST_BYTES = (
    1_900_000  # of the 2 MiB that the server takes, with room for what goes round the rows
)


class Client:
    """Talks to one server with one token. Every method raises UserError with the server's reason
    where it refuses.

    Args:
        url: where the server is.
        token: an API token; its scopes decide what may be done.
        patience: seconds for which a request that is not answered is sent again. All requests that
            are repeated are
            harmless to repeat: an answer counts once however often it arrives.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = 30.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=30.0, transport=transport
        )
        self._patience = patience

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def projects(self) -> list[dict[str, Any]]:
        """The projects that the token's account is a member of."""
        return self._call("GET", "/projects")

    def create_project(self, name: str, *, guidelines: str = "", **settings: Any) -> int:
        """A new project; returns its id."""
        body = {"name": name, "guidelines": guidelines, "settings": settings}
        return self._call("POST", "/projects", body, again=False)["id"]

    def add_items(
        self, project: int, rows: Iterable[Mapping[str, Any]], *, at_once: int = 500
    ) -> dict[str, int]:
        """Put items in, at most `at_once` and what one request may carry at a time; returns how
        many were added and how many were there already. Raises UserError for a row that is too
        large for a request of its own.
        """
        total = {"added": 0, "there_already": 0}
        batch: list[dict[str, Any]] = []
        size = 0
        for number, row in enumerate(rows, 1):
            added = len(json.dumps(dict(row)).encode()) + 2
            if added > _MOST_BYTES:
                raise UserError(
                    f"has {added:,} bytes; an item has at most {_MOST_BYTES:,}.", row=number
                )
            if batch and (len(batch) == at_once or size + added > _MOST_BYTES):
                self._add(project, batch, total)
                batch, size = [], 0
            batch.append(dict(row))
            size += added
        if batch:
            self._add(project, batch, total)
        return total

    def next(self, project: int) -> dict[str, Any] | None:
        """The task in hand, or the next one; None if there is none."""
        return self._call("POST", f"/projects/{project}/next", {})

    def answer(self, task: Mapping[str, Any], **answer: Any) -> dict[str, Any]:
        """Answer a task, in terms of places (0 is shown first): `strength`, `ranks`, `ratings`,
        `text`, `flags`, `critique` ..."""
        return self._call("POST", f"/leases/{task['lease']}/answer", answer)

    def skip(self, task: Mapping[str, Any], reason: str) -> dict[str, Any]:
        """Skip a task."""
        return self.answer(task, skipped=reason)

    def undo(self, project: int) -> dict[str, Any]:
        """Take the last answer back."""
        return self._call("POST", f"/projects/{project}/undo", {}, again=False)

    def progress(self, project: int) -> dict[str, Any]:
        """How far a project is."""
        return self._call("GET", f"/projects/{project}/progress")

    def stats(self, project: int) -> dict[str, Any]:
        """The dashboard's figures."""
        return self._call("GET", f"/projects/{project}/stats")

    def add_image(self, project: int, content: bytes) -> str:
        """Keep an image (PNG, JPEG, GIF or WebP); returns the Markdown that shows it in a prompt or
        an answer."""
        files = {"file": ("image", content)}
        return self._send(
            "POST", f"/projects/{project}/images", None, None, True, files=files
        ).json()["markdown"]

    def invite(self, project: int, *, role: str = "annotator", uses: int = 1) -> str:
        """An invitation link."""
        return self._call(
            "POST", f"/projects/{project}/invitations", {"role": role, "uses": uses}, again=False
        )["link"]

    def export(self, project: int, *, layout: str = "paired", file: str = "jsonl") -> bytes:
        """The labels as a file's bytes."""
        return self._send(
            "GET", f"/projects/{project}/export", {"layout": layout, "file": file}, None, True
        ).content

    def _add(self, project: int, batch: list[dict[str, Any]], total: dict[str, int]) -> None:
        for name, count in self._call(
            "POST", f"/projects/{project}/items", {"items": batch}
        ).items():
            total[name] += count

    def _call(self, method: str, path: str, body: Any = None, *, again: bool = True) -> Any:
        response = self._send(method, path, None, body, again)
        return None if response.status_code == 204 else response.json()

    def _send(
        self, method: str, path: str, query: Any, body: Any, again: bool, **more: Any
    ) -> httpx.Response:
        until, pause = time.monotonic() + self._patience, 0.2
        while True:
            try:
                response = self._http.request(method, path, params=query, json=body, **more)
                if response.status_code < 500 or not again or time.monotonic() > until:
                    break
            except httpx.TransportError as error:
                if not again or time.monotonic() > until:
                    raise UserError(f"the server cannot be reached ({error}).") from error
            time.sleep(pause)
            pause = min(2 * pause, 3.0)
        if response.is_success:
            return response
        try:
            found = response.json()
            raise UserError(str(found["detail"]), field=None)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"the server answered {response.status_code}.") from None
