"""A short list of real attacks, mild enough for any machine: what `burnish doctor` tries in each
tier.

Each program prints "contained" if every one of its attempts was refused, and what got through
otherwise. That word comes from inside the sandbox and proves nothing against a liar; it is our own
program that speaks here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from burnish.sandbox.client import Job, Sandbox
from burnish.sandbox.tasks import CodeTests

_TRY = """
import os, sys
through = []
def attempt(name, act):
    try:
        got = act()
        if got is not None and got is not False:
            through.append(name + "=" + repr(got)[:60])
    except (OSError, MemoryError, ImportError, AttributeError, ValueError):
        pass
"""
_END = '\nprint("contained" if not through else "; ".join(through))\n'
_SYSCALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*arguments):
    return libc.syscall(*map(ctypes.c_long, arguments)) >= 0 or None
import platform
arm = platform.machine() == "aarch64"
"""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: its name, what it attempts, and the program."""

    name: str
    what: str
    body: str

    @property
    def program(self) -> str:
        """The whole program."""
        return _TRY + self.body + _END


ATTACKS = (
    Attack(
        "files",
        "read password files, homes and mounted secrets",
        """
for path in ("/etc/passwd", "/etc/shadow", "/root/.bashrc", "/var/log/wtmp", "/proc/1/environ", "/proc/self/environ",
             "/run/secrets", "/sys/kernel/uevent_helper", "/dev/mem", "/dev/sda", "/dev/vda", "/dev/kmsg"):
    attempt(path, lambda: open(path, "rb").read(1) or "empty")
for path in ("/", "/home", "/root", "/etc", "/var", "/proc", "/run"):
    attempt("list " + path, lambda: [n for n in os.listdir(path) if n not in
            ("usr", "lib", "lib64", "lib32", "libx32", "dev", "tmp", "newroot", "oldroot", "bin", "sbin", "root", "home", "opt", "etc", "nix", "ld.so.cache", ".pyenv")] or None)
""",  # noqa: E501
    ),
    Attack(
        "environment",
        "read the trainer's environment",
        """
left = {k: v for k, v in os.environ.items() if k not in ("PWD", "LC_CTYPE")}
if left: through.append(repr(left)[:60])
""",
    ),
    Attack(
        "network",
        "open sockets and reach the network",
        """
import socket
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET):
    def reach():
        with socket.socket(family, socket.SOCK_STREAM if family in (socket.AF_INET, socket.AF_INET6) else socket.SOCK_RAW) as s:
            s.settimeout(0.5)
            s.connect({socket.AF_INET: ("127.0.0.1", 22), socket.AF_INET6: ("::1", 22)}.get(family, (0, 0)))
            return "connected"
    attempt(str(family), reach)
attempt("resolve", lambda: socket.getaddrinfo("example.org", 80))
""",  # noqa: E501
    ),
    Attack(
        "writing",
        "write outside /tmp",
        """
for path in ("/x", "/usr/lib/x", "/dev/x", "/dev/shm/x", "/etc/x", "/var/tmp/x", "/root/x", os.path.dirname(os.__file__) + "/x.py"):
    attempt(path, lambda: open(path, "w").write("x"))
attempt("chmod", lambda: os.chmod(os.__file__, 0o4777) is None)
attempt("rename", lambda: os.rename(os.__file__, "/tmp/os.py") is None)
""",  # noqa: E501
    ),
    Attack(
        "disk",
        "fill the disk",
        """
def fill():
    size = 0
    for n in range(40):
        with open("/tmp/f%d" % n, "wb") as f:
            for _ in range(25):
                size += f.write(bytes(1 << 20))
    return size
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
attempt("a gigabyte", fill)
""",
    ),
    Attack(
        "memory",
        "take 8 GB of memory",
        """
attempt("bytearray", lambda: len(bytearray(8 << 30)))
import mmap
attempt("mmap", lambda: len(mmap.mmap(-1, 8 << 30)))
""",
    ),
    Attack(
        "processes",
        "start 64 processes",
        """
import time
def breed():
    begun = []
    try:
        for _ in range(64):
            pid = os.fork()
            if pid == 0:
                time.sleep(3); os._exit(0)
            begun.append(pid)
        return len(begun)
    finally:
        for pid in begun: os.kill(pid, 9)
attempt("fork", breed)
""",
    ),
    Attack(
        "signals",
        "signal processes of the host",
        """
mine = {os.getpid(), os.getppid(), 1, 2}
for pid in list(range(3, 400)):
    if pid not in mine:
        attempt("kill %d" % pid, lambda: os.kill(pid, 0) is None)
""",
    ),
    Attack(
        "tracing",
        "trace and read other processes",
        _SYSCALL
        + """
attempt("ptrace", lambda: call(117 if arm else 101, 0, 0, 0, 0))
attempt("process_vm_readv", lambda: call(270 if arm else 310, os.getppid(), 0, 0, 0, 0, 0))
""",
    ),
    Attack(
        "namespaces",
        "nest user namespaces, mount, change root",
        _SYSCALL
        + """
for flags in (0x10000000, 0x10020000, 0x00020000, 0x40000000):
    attempt("unshare %x" % flags, lambda: call(97 if arm else 272, flags))
attempt("mount", lambda: call(40 if arm else 165, 0, 0, 0, 0, 0))
attempt("chroot", lambda: os.chroot("/tmp") is None)
""",
    ),
    Attack(
        "privileges",
        "become root",
        """
for name in ("setuid", "setgid", "seteuid", "setegid"):
    attempt(name, lambda: getattr(os, name)(0) is None)
attempt("setgroups", lambda: os.setgroups([0]) is None)
attempt("uid", lambda: os.getuid() == 0)
""",
    ),
    Attack(
        "kernel",
        "use BPF, io_uring, keyrings, userfaultfd, perf",
        _SYSCALL
        + """
ring = ctypes.create_string_buffer(256)
attempt("io_uring_setup", lambda: call(425, 4, ctypes.addressof(ring)))
attempt("bpf", lambda: call(280 if arm else 321, 0, ctypes.addressof(ring), 72))
attempt("userfaultfd", lambda: call(282 if arm else 323, 1))
attempt("keyctl", lambda: call(219 if arm else 250, 0, -3, 1))
""",
    ),
    Attack(
        "programs",
        "run other programs",
        """
attempt("/bin/sh", lambda: os.execv("/bin/sh", ["sh", "-c", "echo ran; exit 0"]))
attempt("/usr/bin/id", lambda: os.execv("/usr/bin/id", ["id"]))
""",
    ),
)


def attack(sandbox: Sandbox) -> Iterator[tuple[Attack, bool, str]]:
    """Try every attack: (attack, contained, what happened otherwise)."""
    jobs = [Job(each.program, CodeTests(stdio=(("", "contained"),))) for each in ATTACKS]
    for each, outcome in zip(ATTACKS, sandbox.run(jobs), strict=True):
        yield each, outcome.kind == "passed", outcome.detail
