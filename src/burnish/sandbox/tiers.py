"""Which tier this machine offers, why not a stronger one, and how a process of each tier is
started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from burnish.errors import UserError
from burnish.sandbox import confine, seccomp
from burnish.sandbox.limits import MIB, TIERS, Limits, Tier

NOBODY = 65534  # the overflow uid of Linux, "nobody" on most systems
_INSIDE = ("burnish.sandbox.confine", "burnish.sandbox.harness", "burnish.sandbox.judge")
"""Modules whose text runs inside; by their whole names, so that a reward that is paid by them
counts as reaching them."""
_FLAGS = ("-I", "-S", "-B", "-X", "utf8")
_HINTS = {
    "bubblewrap": (
        "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap libseccomp2; Fedora: dnf"
        " install bubblewrap)."
    ),
    "namespaces": (
        "Allow unprivileged user namespaces (in a container: run it with --security-opt"
        " seccomp=unconfined; on Ubuntu 24.04: sysctl"
        " kernel.apparmor_restrict_unprivileged_userns=0), or accept the tier landlock."
    ),
    "landlock": (
        "The tier landlock needs Linux 5.13 or newer with Landlock enabled, and libseccomp (apt"
        " install libseccomp2)."
    ),
}


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python for the sandbox: its file, its prefix, and what must be readable for it to run."""

    executable: str
    prefix: str
    version: str

    @property
    def readable(self) -> tuple[str, ...]:
        """Folders and files, as they are named on the host."""
        libraries = [
            p for p in ("/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32") if os.path.isdir(p)
        ]
        own = [
            self.executable,
            *(p for p in (f"{self.prefix}/lib", f"{self.prefix}/lib64") if os.path.isdir(p)),
        ]
        own += ["/nix/store"] if self.executable.startswith("/nix/store/") else []
        # Where the loader looks for libraries outside its own folders, such as /usr/local/lib.
        own += ["/etc/ld.so.cache"] if os.path.exists("/etc/ld.so.cache") else []
        return tuple(dict.fromkeys([*libraries, *own]))


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything needed to start sandboxed processes of one tier."""

    tier: Tier
    interpreter: Interpreter
    bpf: bytes | None
    bwrap: str = ""
    disable_userns: bool = False
    sources: tuple[str, str] = ("", "")  # of the harness and of the judge


def drop_privileges() -> None:
    """Become nobody, for good, if this process is root."""
    if os.getuid() == 0 or os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def settle(tier: Tier, *, python: str | None) -> Setting:
    """What it takes to start processes of this tier. Raises UserError, with what to do, where the
    machine cannot.

    Call it after `drop_privileges`, and after the sources were read: a user's home may be closed to
    nobody.
    """
    if tier not in TIERS:
        raise UserError(f"must be one of {', '.join(TIERS)}, not {tier!r}.", field="tier")
    if not sys.platform.startswith("linux"):
        raise UserError(
            f"running untrusted programs needs Linux, and this is {sys.platform}.",
            hint="Run the code rewards on a Linux machine or in a Linux container.",
        )
    interpreter = _interpreter(python)
    if tier == "landlock":
        return _landlock(interpreter)
    bwrap = shutil.which("bwrap", path="/usr/bin:/usr/local/bin:/bin:/run/current-system/sw/bin")
    if bwrap is None:
        raise UserError(
            "the tier bubblewrap is not available: bwrap is not installed.",
            hint=_HINTS["bubblewrap"],
        )
    manual = subprocess.run(
        [bwrap, "--help"], capture_output=True, text=True, timeout=20, check=False
    ).stdout
    setting = Setting(
        "bubblewrap",
        interpreter,
        seccomp.deny_list(namespaces=True),
        bwrap,
        "--disable-userns" in manual,
        _SOURCES["bubblewrap"],
    )
    _try(setting, _HINTS["namespaces"])
    return setting


def available(*, python: str | None = None) -> dict[Tier, Setting | UserError]:
    """Every tier with its setting, or the reason why it cannot be had here."""
    found: dict[Tier, Setting | UserError] = {}
    for tier in TIERS:
        try:
            found[tier] = settle(tier, python=python)
        except UserError as error:
            found[tier] = error
    return found


def command(
    setting: Setting, limits: Limits, *, judge: bool, control: int, seccomp_file: int | None
) -> list[str]:
    """The command line of one sandboxed process; `control` is its end of the socket."""
    rlimits = limits.rlimits()
    if setting.tier == "bubblewrap":
        # bwrap's own init and the harness (in the stdin form its child too) are not the program's.
        rlimits["RLIMIT_NPROC"] = 3 + limits.processes
    if judge:
        rlimits["RLIMIT_CPU"] = 24 * 3600  # it lives on; the supervisor's clock watches each check
    python = [
        setting.interpreter.executable,
        *_FLAGS,
        "-c",
        setting.sources[judge],
        str(control),
        repr(rlimits),
    ]
    if setting.tier == "landlock":
        devices = [
            path for path in ("/dev/null", "/dev/zero", "/dev/urandom") if os.path.exists(path)
        ]
        return [*python, repr(((*setting.interpreter.readable, *devices), setting.bpf))]
    return [*_bwrap(setting, limits, seccomp_file), "--", *python]


def _bwrap(setting: Setting, limits: Limits, seccomp_file: int | None) -> list[str]:
    line = [
        setting.bwrap,
        "--unshare-all",
        "--unshare-user",
        "--uid",
        str(NOBODY),
        "--gid",
        str(NOBODY),
    ]
    line += ["--disable-userns"] if setting.disable_userns else []
    line += ["--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    for path in setting.interpreter.readable:
        line += ["--ro-bind", path, path]
    for path in ("/lib", "/lib32", "/lib64", "/libx32"):
        if os.path.islink(path):
            line += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            line += ["--ro-bind", path, path]
    for device in ("null", "zero", "urandom", "random"):
        line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    # No /proc: nothing that solves a task reads it, and it tells of other processes. The root is a
    # file system in memory without a size limit until it is closed for writing; only /tmp, with a
    # limit, stays open.
    line += (
        ["--size", str(limits.disk_mb * MIB), "--tmpfs", "/tmp"]
        if limits.disk_mb
        else ["--dir", "/tmp"]
    )
    line += ["--remount-ro", "/", "--chdir", "/tmp"]
    return [*line, "--seccomp", str(seccomp_file)] if seccomp_file is not None else line


def _landlock(interpreter: Interpreter) -> Setting:
    if confine.landlock_abi() < 1:
        raise UserError(
            "the tier landlock is not available: the kernel has no Landlock.",
            hint=_HINTS["landlock"],
        )
    bpf = seccomp.deny_list(namespaces=False)
    if bpf is None:
        # Landlock alone hides no process: a program could signal the trainer, or leave processes
        # behind.
        raise UserError(
            "the tier landlock is not available: libseccomp is not installed.",
            hint=_HINTS["landlock"],
        )
    setting = Setting("landlock", interpreter, bpf, sources=_SOURCES["landlock"])
    _try(setting, _HINTS["landlock"])
    return setting


def _try(setting: Setting, hint: str) -> None:
    """Start one process of this tier and hear it say that it is ready."""
    from burnish.sandbox.worker import Ended, Worker

    worker = None
    try:
        worker = Worker(setting, Limits(), judge=False)
        worker.ready(seconds=30)
    except (Ended, OSError) as error:
        said = worker.last_words() if worker is not None else ""
        raise UserError(
            f"the tier {setting.tier} is not available: it does not start here ({said or error}).",
            hint=hint,
        ) from error
    finally:
        if worker is not None:
            worker.kill()


def _interpreter(python: str | None) -> Interpreter:
    """The Python given; else Burnish's own, if the unprivileged user can read it; else the
    system's."""
    wanted = [python] if python else [sys.executable, "/usr/bin/python3"]
    for path in wanted:
        try:
            answer = subprocess.run(
                [path, "-I", "-S", "-c",
                    "import sys,os;print(os.path.realpath(sys.executable),sys.base_prefix,"
                 "'%d.%d' % sys.version_info[:2], sys.version_info >= (3, 10), sep='\\n')"],
                capture_output=True, text=True, timeout=20, check=False, cwd="/", env={},
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0:
            executable, prefix, version, enough = answer.stdout.split("\n")[:4]
            if enough == "True":
                return Interpreter(executable, prefix, version)
    raise UserError(
        f"no Python for the sandbox: {' and '.join(wanted)} cannot be run by the unprivileged user"
        " (nobody).",
        hint=(
            "Install a system Python of version 3.10 or newer (apt install python3), or run Burnish"
            " as a user other than root."
        ),
    )


def _sources() -> dict[Tier, tuple[str, str]]:
    """The programs that run inside, (harness, judge) by tier; in the second tier they confine
    themselves first."""
    here = Path(__file__).parent
    confining, harness, judging = (
        (here / f"{name.rpartition('.')[2]}.py").read_text() for name in _INSIDE
    )
    supply = (
        f"import sys\n_m = type(sys)('burnish.sandbox.harness')\nexec({harness!r}, _m.__dict__)\n"
        "sys.modules[_m.__name__] = _m\n"
    )
    inside = (harness, supply + judging)
    return {
        "bubblewrap": inside,
        "landlock": (f"{confining}\n{inside[0]}", f"{confining}\n{inside[1]}"),
    }


_SOURCES = _sources()
