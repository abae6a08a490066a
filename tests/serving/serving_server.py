"""A server for tests, in a thread of their process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from burnish.listening import listen
from burnish.serving.app import create_app
from burnish.serving.call import Served
from burnish.serving.worker import Worker
from burnish.stages.serve import make_ready


@dataclass
class Server:
    """A server in a thread of this process, its parts, and a client."""

    url: str
    client: httpx.Client
    worker: Worker
    engine: Any
    tokenizer: Any

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json={"model": "tiny", **body})

    def idle(self, *, within: float = 10.0) -> bool:
        """Whether nothing is being written, or nothing soon."""
        until = time.monotonic() + within
        while self.worker.load and time.monotonic() < until:
            time.sleep(0.01)
        return not self.worker.load


@contextmanager
def serving(
    *, key: str | None = None, queue: int = 64, timeout: float = 60.0, max_rows: int = 8,
    slow: float = 0.0, wrap: Callable[[Any], Any] = lambda session: session,
) -> Iterator[Server]:  # fmt: skip
    """`slow`: seconds that each step takes beyond the model's; `wrap` may change a session."""
    ready = make_ready("tiny", max_length=512)

    def session() -> Any:
        opened = wrap(ready.engine.open(max_rows=max_rows, max_length=ready.max_length))
        step = opened.step

        def slowly() -> Any:
            time.sleep(slow)
            return step()

        opened.step = slowly if slow else step
        return opened

    worker = Worker(session, ready.finisher, queue=queue, timeout=timeout)
    served = Served(worker, ("tiny", "alias"), ready.tokenizer, ready.vocabulary, key)
    listening = listen("127.0.0.1", 0)
    app = create_app(served, hosts=["127.0.0.1", "localhost"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=30) as client:
            yield Server(url, client, worker, ready.engine, ready.tokenizer)
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        worker.close()
        listening.close()
