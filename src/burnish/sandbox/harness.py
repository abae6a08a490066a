"""Runs one program inside the sandbox. Nothing here is trusted: no verdict and no expected value is
ever in here.

Started as `python -I -S -c SOURCE CONTROL LIMITS`. CONTROL is a socket to the supervisor, over
which frames travel: four bytes of length, then text. Frames that come in are Python literals (from
our side of the wall), those that go out are JSON. A program may do to this module what it likes: it
can only spoil its own answers. Standard library only.

    ["script", SOURCE]      compile a program for the stdin form             -> ["ok"] or ["error",
        TEXT]
    ["run", FORK] + a file  run it with that file as standard input          -> ["status", WAIT
        STATUS]
    ["load", SOURCE]        execute a program that defines functions         -> ["ok"] or ["error",
        TEXT]
    ["call", WHAT, KIND, ARGUMENTS]  call a function of it                   -> ["value", V,
        CHANGED] or ["raise", NAME, TEXT]
"""

import _json
import _socket
import os
import resource
import sys

_handles = []
_ITEMS = 100_000  # of an iterator; a longer one is cut, and then differs from any finite list


def _limit(limits):
    for name, value in limits.items():
        kind = getattr(resource, name)
        most = resource.getrlimit(kind)[1]
        value = value if most == resource.RLIM_INFINITY else min(value, most)
        # A second between the two lets SIGXCPU, which tells of the limit, come before SIGKILL.
        resource.setrlimit(
            kind,
            (
                value,
                value + 1 if name == "RLIMIT_CPU" and most == resource.RLIM_INFINITY else value,
            ),
        )


def _receive(sock):
    """The next frame and the file that came with it, if any; None at the end."""
    head, files, _, _ = sock.recvmsg(4, _socket.CMSG_SPACE(4))
    while 0 < len(head) < 4:
        head += sock.recv(4 - len(head)) or sys.exit(0)
    if not head:
        return None, None
    left, parts = int.from_bytes(head, "big"), []
    while left:
        part = sock.recv(min(left, 1 << 16))
        if not part:
            return None, None
        parts.append(part)
        left -= len(part)
    file = int.from_bytes(files[0][2][:4], sys.byteorder) if files else None
    return eval(b"".join(parts).decode("ascii"), {"_h": _handles}), file


def _send(sock, text):
    data = text.encode("ascii")
    sock.sendall(len(data).to_bytes(4, "big") + data)


def _text(value):
    return _json.encode_basestring_ascii(str(value)[:500])


def _exit(code=None):
    """What `exit` and `quit` are where the module `site` is not loaded."""
    raise SystemExit(code)


def _module(name):
    vars(sys.modules["builtins"]).update(exit=_exit, quit=_exit)
    module = type(sys)(name)
    module.__builtins__ = __builtins__
    sys.modules[name] = module
    return module.__dict__


def _encode(value, depth=0):
    """A value as JSON with its Python type: lists and other containers are tagged, foreign objects
    become handles."""
    if depth > 200:
        raise ValueError("nested too deeply")
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        value = int(value)
        return int.__repr__(value) if value.bit_length() < 8000 else '["i","' + hex(value) + '"]'
    if isinstance(value, float):
        text = float.__repr__(float(value))
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(text, text)
    if isinstance(value, str):
        return _json.encode_basestring_ascii(str(value))
    if isinstance(value, (bytes, bytearray)):
        return f'["{"b" if isinstance(value, bytes) else "B"}","{bytes(value).hex()}"]'
    if isinstance(value, complex):
        return f'["c",{_encode(value.real)},{_encode(value.imag)}]'
    if isinstance(value, dict):
        items = [f"[{_encode(k, depth + 1)},{_encode(v, depth + 1)}]" for k, v in dict.items(value)]
        return '["d",[' + ",".join(items) + "]]"
    for kind, tag in ((list, "l"), (tuple, "t"), (set, "s"), (frozenset, "f")):
        if isinstance(value, kind):
            return _tagged(tag, value, depth)
    if isinstance(value, range):
        return f'["r",{value.start},{value.stop},{value.step}]'
    name = type(value).__module__ + "." + type(value).__name__
    if name in ("decimal.Decimal", "fractions.Fraction"):
        return f'["{"D" if name[0] == "d" else "F"}",{_text(value)}]'
    if name in (
        "collections.deque",
        "builtins.dict_keys",
        "builtins.dict_values",
        "builtins.dict_items",
    ):
        return _tagged("q" if "deque" in name else "v", list(value), depth)
    if hasattr(type(value), "__next__"):
        return _tagged("y", [item for _, item in zip(range(_ITEMS), value)], depth)  # noqa: B905
    return _handle(value)


def _tagged(tag, values, depth):
    return f'["{tag}",[{",".join([_encode(value, depth + 1) for value in values])}]]'


def _error(error):
    return f'["error",{_text(type(error).__name__ + ": " + str(error))}]'


def _handle(value):
    _handles.append(value)
    return f'["h",{len(_handles) - 1}]'


def _named(names, what):
    """A function of the program's, or a method of its class Solution."""
    if what in names:
        return names[what]
    solution = names.get("Solution")
    if isinstance(solution, type) and hasattr(solution, what):
        return getattr(solution(), what)
    raise KeyError(names)


def _call(names, what, kind, args, kwargs):
    """Call a function by name (or a handle's method); `kind` "make" hands back a handle whatever
    the result is."""
    try:
        function = (
            getattr(_handles[what[0]], what[1]) if isinstance(what, tuple) else _named(names, what)
        )
        before = [_encode(arg) if isinstance(arg, (list, dict, set)) else None for arg in args]
        result = function(*args, **kwargs)
        value = _handle(result) if kind == "make" else _encode(result)
        changed = []
        for index, old in enumerate(before):
            if old is not None:
                new = _encode(args[index])
                if new != old:
                    changed.append(f"[{index},{new}]")
        return f'["value",{value},[{",".join(changed)}]]'
    except KeyError as error:
        if error.args and error.args[0] is names:
            return f'["raise","NameError",{_text(f"the program defines no {what}")}]'
        return f'["raise","KeyError",{_text(error)}]'
    except Exception as error:
        builtin = [k.__name__ for k in type(error).__mro__ if k.__module__ == "builtins"]
        return f'["raise",{_text(builtin[0] if builtin else "Exception")},{_text(error)}]'


def _serve(sock):
    """Do what the frames say; returns when this process is to run a script and end."""
    code, names = None, {}
    while True:
        frame, file = _receive(sock)
        if frame is None:
            os._exit(0)
        if frame[0] == "script":
            try:
                code = compile(frame[1], "program.py", "exec", dont_inherit=True)
                _send(sock, '["ok"]')
            except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
                _send(sock, _error(error))
        elif frame[0] == "run":
            child = os.fork() if frame[1] else 0
            assert file is not None
            if child == 0:
                os.dup2(file, 0)
                os.close(file)
                if frame[1]:
                    sock.close()
                return code
            os.close(file)
            _send(sock, f'["status",{os.waitpid(child, 0)[1]}]')
        elif frame[0] == "load":
            names = _module("candidate")
            try:
                exec(compile(frame[1], "program.py", "exec", dont_inherit=True), names)
                _send(sock, '["ok"]')
            except SystemExit as error:
                if error.code not in (None, 0):
                    raise
                _send(sock, '["ok"]')  # it defines what it defines; the tests are still to come
            except Exception as error:
                _send(sock, _error(error))
        elif frame[0] == "call":
            _send(sock, _call(names, *frame[1:]))


def _main():
    sock = _socket.socket(fileno=int(sys.argv[1]))
    _limit(eval(sys.argv[2]))
    if "confine" in globals():  # the second tier: `confine.py` stands in front of this source
        globals()["confine"](*eval(sys.argv[3]))
    sys.argv = ["program.py"]
    _send(sock, '["ready"]')
    code = _serve(sock)
    assert code is not None
    return code


if __name__ == "__main__":
    # Runs at the top of the interpreter, so that exit codes, tracebacks and exit handlers are
    # Python's own.
    exec(_main(), _module("__main__"))
