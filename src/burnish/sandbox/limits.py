"""What a program may use up, and the names of the tiers. Torch-free, plain numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from burnish.errors import UserError

Tier = Literal["bubblewrap", "landlock"]
TIERS: tuple[Tier, ...] = ("bubblewrap", "landlock")  # the strongest first

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one program.

    `seconds`     the program's own time (processor time, and time in which all of it sleeps) for
        one test in the stdin
                  form; for loading and all calls together in the function form; and once more for
                  the tests themselves. In wall clock 20 times as much is a guard that decides only
                  on a program that nothing else ends
    `cpu_seconds` processor time of each process of the program; the kernel counts whole seconds
    `memory_mb`   address space of each process, and resident memory of all of them together
    `processes`   processes and threads that a program may start beside its first (bubblewrap; none
        but threads under
                  Landlock)
    `open_files`  open files of each process
    `disk_mb`     what fits into its /tmp, which lives in memory; 0: nothing can be written (always
        so under Landlock)
    `output_kb`   standard output of one test, and the size of one result in the function form
    """

    seconds: float = 6.0
    cpu_seconds: int = 4
    memory_mb: int = 512
    processes: int = 4
    open_files: int = 64
    disk_mb: int = 16
    output_kb: int = 1024

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            least = (
                0
                if entry.name in ("processes", "disk_mb")
                else 128
                if entry.name == "memory_mb"
                else 0.1
            )
            if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
                raise UserError(f"must be at least {least}, not {value!r}.", field=entry.name)
            if entry.name != "seconds" and not isinstance(value, int):
                raise UserError(f"must be a whole number, not {value!r}.", field=entry.name)

    def as_dict(self) -> dict[str, Any]:
        """The limits as plain data."""
        return asdict(self)

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel keeps for each process, by the names of the module
        `resource`."""
        return {
            "RLIMIT_AS": self.memory_mb * MIB,
            "RLIMIT_CPU": self.cpu_seconds,
            "RLIMIT_FSIZE": self.disk_mb * MIB,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }
