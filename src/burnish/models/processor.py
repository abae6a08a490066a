"""What the processor says of itself (Linux; elsewhere it says nothing)."""

from __future__ import annotations

from pathlib import Path

_INFO = Path("/proc/cpuinfo")


def flags() -> set[str]:
    """Its instruction sets, in the kernel's names."""
    return {*_field("flags").split(), *_field("Features").split()}


def vendor() -> str:
    """Who made it, in the kernel's words: "GenuineIntel", "AuthenticAMD", or nothing."""
    return _field("vendor_id")


def _field(name: str) -> str:
    """Of the first core."""
    try:
        lines = _INFO.read_text().splitlines()
    except OSError:
        return ""
    return next(
        (
            value.strip()
            for key, _, value in (line.partition(":") for line in lines)
            if key.strip() == name
        ),
        "",
    )
