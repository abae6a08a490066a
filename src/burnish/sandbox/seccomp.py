"""A deny-list of system calls, compiled by libseccomp to the BPF program that the kernel takes.

A deny-list is the second wall, not the first: the namespaces (or Landlock) hold on their own, and
this list takes away what has let programs out of such walls before: tracing, mounts, new
namespaces, BPF, io_uring, keyrings and others.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import socket

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NE, _MASKED_EQ, _GT = 1, 7, 6
_CLONE_THREAD = 0x00010000
_CLONE_NEW = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

# What no program that solves a task needs, in either tier.
DENIED = [
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "process_madvise",
    "kcmp",
    "pidfd_open",
    "pidfd_getfd",
    "pidfd_send_signal",
    "mount",
    "umount",
    "umount2",
    "pivot_root",
    "chroot",
    "move_mount",
    "open_tree",
    "fsopen",
    "fsmount",
    "fsconfig",
    "fspick",
    "mount_setattr",
    "unshare",
    "setns",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "setfsuid",
    "setfsgid",
    "capset",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "add_key",
    "request_key",
    "keyctl",
    "memfd_create",
    "memfd_secret",
    "shmget",
    "shmat",
    "shmctl",
    "msgget",
    "msgsnd",
    "msgrcv",
    "semget",
    "semop",
    "semtimedop",
    "mq_open",
    "mq_unlink",
    "open_by_handle_at",
    "name_to_handle_at",
    "fanotify_init",
    "inotify_init",
    "inotify_init1",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "reboot",
    "swapon",
    "swapoff",
    "acct",
    "quotactl",
    "quotactl_fd",
    "syslog",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "iopl",
    "ioperm",
    "modify_ldt",
    "personality",
    "lookup_dcookie",
    "nfsservctl",
    "vhangup",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "mbind",
    "set_mempolicy",
    "migrate_pages",
    "move_pages",
    "mknod",
    "mknodat",
    "vmsplice",
    "tee",
    "listen",
    "accept",
    "accept4",
    "bind",
    "connect",
]

# Landlock hides neither processes nor the owner's power over his files, so in the second tier these
# go as well.
DENIED_WITHOUT_NAMESPACES = [
    "fork",
    "vfork",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "setpgid",
    "setsid",
    "setpriority",
    "sched_setaffinity",
    "sched_setscheduler",
    "sched_setattr",
    "sched_setparam",
    "ioprio_set",
    "prlimit64",
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "truncate",
    "ftruncate",
    "execve",
    "execveat",
    "socket",
]


class _Compare(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    )


def library() -> ctypes.CDLL | None:
    """libseccomp, or None where it is not installed."""
    for name in ("libseccomp.so.2", ctypes.util.find_library("seccomp")):
        try:
            lib = ctypes.CDLL(name, use_errno=True) if name else None
        except OSError:
            continue
        if lib is not None:
            lib.seccomp_init.restype = ctypes.c_void_p
            lib.seccomp_init.argtypes = (ctypes.c_uint32,)
            lib.seccomp_release.argtypes = (ctypes.c_void_p,)
            lib.seccomp_export_bpf.argtypes = (ctypes.c_void_p, ctypes.c_int)
            lib.seccomp_syscall_resolve_name.argtypes = (ctypes.c_char_p,)
            lib.seccomp_rule_add_array.argtypes = (
                ctypes.c_void_p,
                ctypes.c_uint32,
                ctypes.c_int,
                ctypes.c_uint,
                ctypes.POINTER(_Compare),
            )
            return lib
    return None


def deny_list(*, namespaces: bool) -> bytes | None:
    """The filter as BPF: for a process inside namespaces of its own, or (False) without any. None
    without libseccomp.

    Denied calls fail with EPERM; `clone3`, whose flags lie in memory where no filter can look,
    fails with ENOSYS, upon which the C library turns to `clone`, whose flags are looked at. Calls
    of a foreign architecture (32-bit, x32) kill.
    """
    lib = library()
    if lib is None:
        return None
    context = lib.seccomp_init(_ALLOW)
    if not context:
        raise OSError("libseccomp gave no filter")
    try:
        _fill(lib, context, namespaces=namespaces)
        out = os.memfd_create("seccomp")
        try:
            if lib.seccomp_export_bpf(context, out) < 0:
                raise OSError("libseccomp could not write its filter")
            os.lseek(out, 0, os.SEEK_SET)
            return os.read(out, 1 << 20)
        finally:
            os.close(out)
    finally:
        lib.seccomp_release(context)


def _fill(lib: ctypes.CDLL, context: int, *, namespaces: bool) -> None:
    def deny(name: str, *compare: tuple[int, int, int, int], error: int = errno.EPERM) -> None:
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if (
            number < 0
        ):  # not a call of this architecture, or one that this libseccomp is too old to know
            return
        rules = (_Compare * max(1, len(compare)))(*compare)
        code = lib.seccomp_rule_add_array(context, _ERRNO | error, number, len(compare), rules)
        if code < 0:
            raise OSError(-code, f"libseccomp refused a rule for {name}")

    for name in (*DENIED, *(() if namespaces else DENIED_WITHOUT_NAMESPACES)):
        deny(name)
    deny("clone3", error=errno.ENOSYS)
    for flag in _CLONE_NEW:
        deny("clone", (0, _MASKED_EQ, flag, flag))
    deny("ioctl", (1, _MASKED_EQ, 0xFFFFFFFF, _TIOCSTI))
    deny("ioctl", (1, _MASKED_EQ, 0xFFFFFFFF, _TIOCLINUX))
    if namespaces:
        deny("socket", (0, _NE, socket.AF_UNIX, 0))
    else:
        deny("clone", (0, _MASKED_EQ, _CLONE_THREAD, 0))
