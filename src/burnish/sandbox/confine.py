"""The second tier, applied by a process to itself: Landlock, no new privileges, and the system-call
filter.

Runs alone in a fresh interpreter, in front of `harness.py`; imports the standard library only.
Landlock's structures and numbers are those of linux/landlock.h.
"""

import ctypes
import os

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every architecture
_READ = 1 | 4 | 8  # execute, read a file, read a directory
_FILES = (1 << 13) - 1  # ABI 1: execute, write, read, and making or removing anything
_BY_ABI = {2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # refer, truncate, ioctl on devices
_NETWORK = 1 | 2  # ABI 4: bind and connect TCP
_SCOPED = 1 | 2  # ABI 6: abstract sockets and signals stay inside
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.prctl.argtypes = (
    ctypes.c_int,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
    ctypes.c_ulong,
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def landlock_abi():
    """The kernel's Landlock version; 0 without."""
    return max(
        0,
        _libc.syscall(
            ctypes.c_long(_CREATE), ctypes.c_void_p(0), ctypes.c_size_t(0), ctypes.c_uint32(1)
        ),
    )


def _must(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), what)
    return result


def confine(readable, bpf):
    """Keep this process, for good, to reading below the paths `readable`; to no network; and to the
    filter `bpf`."""
    abi = landlock_abi()
    if abi < 1:
        raise OSError("the kernel has no Landlock")
    _must(_libc.prctl(1, 9, 0, 0, 0), "PR_SET_PDEATHSIG")
    _must(_libc.prctl(38, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")
    files = _FILES
    for needed, right in _BY_ABI.items():
        files |= right if abi >= needed else 0
    rules = _Ruleset(files, _NETWORK if abi >= 4 else 0, _SCOPED if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    handle = _must(
        _libc.syscall(
            ctypes.c_long(_CREATE), ctypes.byref(rules), ctypes.c_size_t(size), ctypes.c_uint32(0)
        ),
        "landlock_create_ruleset",
    )
    for path in readable:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        beneath = _Beneath(_READ if os.path.isdir(path) else _READ & ~8, parent)
        _must(
            _libc.syscall(
                ctypes.c_long(_ADD),
                ctypes.c_int(handle),
                ctypes.c_int(1),
                ctypes.byref(beneath),
                ctypes.c_uint32(0),
            ),
            "landlock_add_rule for " + path,
        )
        os.close(parent)
    _must(
        _libc.syscall(ctypes.c_long(_RESTRICT), ctypes.c_int(handle), ctypes.c_uint32(0)),
        "landlock_restrict_self",
    )
    os.close(handle)
    code = ctypes.create_string_buffer(bpf, len(bpf))
    program = _Program(len(bpf) // 8, ctypes.cast(code, ctypes.c_void_p))
    _must(_libc.prctl(22, 2, ctypes.addressof(program), 0, 0), "PR_SET_SECCOMP")
