"""What made a run: fingerprints of configuration, data and code, and the machine."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from burnish.atomic import disk_errors, write_json
from burnish.errors import UserError
from burnish.jsonio import read_object
from burnish.system import peak_memory, total_memory, trim_heap, try_lock

_ABSENT: Any = object()
_SEAL = "seal"
_HASH = re.compile(r"[0-9a-f]{64}")
_STANDS_FOR = {
    "data.hashes.": "the contents of data.",
    "model.contents.": "the contents of model.",
    "code.": "the code of ",
    "own_code.": "the code of ",
    "reads.": "the input ",
    "after.": "the stage ",
}
_PACKAGES = ("burnish", "torch", "transformers", "tokenizers", "peft", "numpy", "safetensors")


def fingerprint(value: Any) -> str:
    """A hash of a JSON-like value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes; of a folder, of its files' relative names and bytes."""
    if path.is_dir():
        return fingerprint(
            {str(f.relative_to(path)): file_hash(f) for f in sorted(path.rglob("*")) if f.is_file()}
        )
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """`write_json` of an object, with a hash of itself."""
    write_json(path, {**value, _SEAL: fingerprint(value)})


def read_sealed(path: Path, problem: UserError) -> dict[str, Any]:
    """What `write_sealed` wrote; a file without a seal is taken as it is.

    Raises FileNotFoundError where there is none, and `problem` where it is not what was written.
    """
    try:
        found = read_object(path, hint="")
        seal = found.pop(_SEAL, None)
        if seal is not None and seal != fingerprint(found):
            raise problem
    except FileNotFoundError:
        raise
    except (UserError, ValueError, TypeError):
        raise problem from None
    return found


def environment() -> dict[str, Any]:
    """Versions and machine, read without importing anything heavy."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(total_memory() / 1e9, 1),
        **found,
    }


def peak_memory_gb() -> float:
    """The most memory (resident, in 10⁹ bytes) this process has had since `reset_peak_memory`, or
    since it started."""
    return peak_memory() / 1e9


def release_memory() -> None:
    """Collect garbage and hand freed memory back to the system: what torch keeps of a GPU's, and
    what the C library keeps for later (glibc only)."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    trim_heap()


def explain_difference(
    old: Mapping[str, Any], new: Mapping[str, Any], *, at: str = ""
) -> list[str]:
    """One line for each leaf that differs: "ppo.clip: 0.2 -> 0.3".

    A leaf that is a hash says only that it changed, and under `data.hashes`, `model.contents`,
    `code` and `reads` is named as
    what it stands for: "the contents of data.prompts changed", "the code of trainers changed", "the
    input start changed".
    """
    lines: list[str] = []
    for key in dict.fromkeys((*old, *new)):
        path = f"{at}.{key}" if at else str(key)
        before, after = (_as_json(side[key]) if key in side else _ABSENT for side in (old, new))
        if all(isinstance(side, Mapping) or side is _ABSENT for side in (before, after)):
            lines += explain_difference(_mapping(before), _mapping(after), at=path)
        elif before is _ABSENT or after is _ABSENT or before != after:
            lines.append(_explain_leaf(path, before, after))
    return lines


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the folder: a second process gets a UserError. The kernel lets go of the lock when the
    process dies, however it dies."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a+", encoding="utf-8")
    with file:
        if not try_lock(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise UserError(
                f"another process (pid {holder}) is running in this folder.",
                file=folder,
                hint="Wait for it, or choose another --out.",
            )
        with disk_errors(folder):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _explain_leaf(path: str, before: Any, after: Any) -> str:
    parts = [
        part for side in (before, after) for part in (side if isinstance(side, list) else [side])
    ]
    if any(isinstance(part, str) and _HASH.fullmatch(part) for part in parts):
        prefix = next((prefix for prefix in _STANDS_FOR if path.startswith(prefix)), "")
        subject = f"{_STANDS_FOR.get(prefix, '')}{path.removeprefix(prefix)}"
        verb = "is new" if before is _ABSENT else "is gone" if after is _ABSENT else "changed"
        return f"{subject} {verb}"
    shown = (
        "(not set)" if side is _ABSENT else json.dumps(side, ensure_ascii=False)
        for side in (before, after)
    )
    return f"{path}: {' -> '.join(shown)}"


def _as_json(value: Any) -> Any:
    """The value as it comes back from a record on disk: a tuple is a list there."""
    return json.loads(json.dumps(value))


def _mapping(side: Any) -> Mapping[str, Any]:
    return {} if side is _ABSENT else side
