"""A fleet of engines that are asked one question at a time: a thread for each waits for its
answers, so that whoever asks waits no longer than they choose."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

from burnish.execution.orders import Died, Event, Order


class Line(Protocol):
    """A connection to one engine. Its methods may block; what they raise means that the engine is
    gone."""

    def started(self) -> Event:
        """Wait until the engine is there."""
        ...

    def ask(self, order: Order) -> Event:
        """Have an order carried out."""
        ...

    def end(self) -> None:
        """Kill the engine; whoever waits for it is given an error."""
        ...

    def last_words(self, error: Exception) -> str:
        """Why the engine is gone."""
        ...


class ThreadedFleet:
    """Engines behind lines that `connect` makes, by name."""

    def __init__(self, connect: Callable[[str], Line]) -> None:
        self._connect = connect
        self._events: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
        self._lines: dict[str, Line] = {}
        self._orders: dict[str, queue.SimpleQueue[Order | None]] = {}

    def start(self, name: str) -> None:
        """See `pool.Fleet`."""
        self._lines[name] = line = self._connect(name)
        self._orders[name] = orders = queue.SimpleQueue()
        serve = threading.Thread(
            target=self._serve, args=(name, line, orders), name=name, daemon=True
        )
        serve.start()

    def send(self, name: str, order: Order) -> None:
        """See `pool.Fleet`."""
        self._orders[name].put(order)

    def next(self, seconds: float) -> tuple[str, Event] | None:
        """See `pool.Fleet`."""
        try:
            return self._events.get(timeout=seconds)
        except queue.Empty:
            return None

    def end(self, name: str) -> None:
        """See `pool.Fleet`."""
        self._orders.pop(name).put(None)
        self._lines.pop(name).end()

    def now(self) -> float:
        """See `pool.Fleet`."""
        return time.monotonic()

    def _serve(self, name: str, line: Line, orders: queue.SimpleQueue[Order | None]) -> None:
        try:
            self._events.put((name, line.started()))
            while (order := orders.get()) is not None:
                self._events.put((name, line.ask(order)))
        except Exception as error:  # whatever it was, this engine answers no more
            self._events.put((name, Died(line.last_words(error))))
