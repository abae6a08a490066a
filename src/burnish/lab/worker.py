"""What other processes do for a lab: light to import, for each of them imports it."""

from __future__ import annotations

import os
import threading
from multiprocessing import parent_process
from typing import Any

from burnish.lab.experiments import PROCEDURES
from burnish.lab.settings import Experiment, Lab


def measure(lab: Lab, name: Experiment, seed: int) -> dict[str, Any]:
    """One experiment in one world."""
    return PROCEDURES[name].measure(lab, seed)


def end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever: it ends with it."""
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
