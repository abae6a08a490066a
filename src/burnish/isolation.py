"""How Burnish starts a Python of its own: nothing in the current folder or in PYTHONPATH is
imported there.

`python -m` and `python -c` put the current folder in front of everything: a `json.py`, `pip.py` or
`math_verify.py` beside a user's data would run, and decide. Here an isolated interpreter gets only
the folders that packages are installed in.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
_PRESENT = {"", "."}


def installed_folders() -> list[str]:
    """The folders of this interpreter's path that installed packages are in, and the one that
    Burnish is in."""
    paths = sysconfig.get_paths()
    trusted = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        trusted.add(site.getusersitepackages())
    trusted = {os.path.realpath(folder) for folder in trusted}
    found = [
        folder
        for folder in sys.path
        if folder not in _PRESENT and os.path.isabs(folder) and os.path.realpath(folder) in trusted
    ]
    return list(dict.fromkeys([str(_PACKAGE_FOLDER), *found]))


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line that runs `main()` of an installed module in an isolated interpreter."""
    code = (
        f"import sys; own, *others = {installed_folders()!r}; sys.path.insert(0, own); "
        "sys.path += [folder for folder in others if folder not in sys.path]; "
        f"from {module} import main; sys.exit(main())"
    )
    return [sys.executable, "-I", "-X", "utf8", "-c", code, *arguments]


@contextmanager
def safe_spawning() -> Iterator[None]:
    """Processes that `multiprocessing` spawns meanwhile do not import from the current folder."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def quiet_environment() -> dict[str, str]:
    """The environment without what changes where an interpreter imports from."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
