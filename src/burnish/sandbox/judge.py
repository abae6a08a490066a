"""Runs the tests of a task against a program that lives in another sandbox. Standard library only.

The tests come from the user's data, not from a model; they run in a sandbox all the same. What
stands for the program's
functions here is a proxy: a call sends the arguments to the program's sandbox, and what comes back
is decoded to plain data, so no object, class or operator of the program's ever exists in this
process. A result that is no plain data (an instance of a class of the program's own) is an opaque
handle, equal to nothing, which can be passed back as an argument or asked to call a method. Started
as `harness.py` is, behind its source, and speaks over the same kind of socket.

    in   {"preamble", "checks", "functions", "makers", "partial"}, then answers: "R" + the program's
        frame, or "G" + why
         it is gone
    out  {"call": ["call", ...] as a Python literal}, and at the end {"done": {"passed", "total",
        "calls", "error",
         "broken"}}
"""

import ast
import builtins
import collections
import decimal
import fractions
import json
import sys

# in the sandbox, where no package is, `tiers` supplies it
from burnish.sandbox.harness import (
    _limit,
    _send,
    _socket,
)

_MAX_RECORDS = 100_000


class _Gone(BaseException):
    """The program has ended, or talks nonsense: no test can catch this."""


class _Refused(BaseException):
    """A test that cannot be run at all: it passes something that cannot travel."""


class _Handle:
    """Something of the program's that is no plain data."""

    __slots__ = ("_id", "_link")

    def __init__(self, link, number):
        self._link, self._id = link, number

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Function(self._link, (self._id, name), "value")


class _Function:
    """Stands for a function of the program's."""

    def __init__(self, link, what, kind):
        self._link, self._what, self._kind = link, what, kind

    def __call__(self, *args, **kwargs):
        return self._link.call(self._what, self._kind, args, kwargs)


class _Link:
    """The way to the program's sandbox, through the supervisor."""

    def __init__(self, sock):
        self.sock, self.calls, self.lost, self.raised, self.handles = sock, 0, None, None, False

    def call(self, what, kind, args, kwargs):
        if self.lost:
            raise _Gone(self.lost)
        shown = "{" + ",".join(ascii(k) + ":" + _literal(v) for k, v in kwargs.items()) + "}"
        values = "(" + "".join(_literal(arg) + "," for arg in args) + ")"
        self.calls += 1
        _send(self.sock, json.dumps({"call": f'["call",{what!a},{kind!a},{values},{shown}]'}))
        answer = _frame(self.sock)
        if answer[:1] == b"G":
            self.lost = answer[1:].decode()
            raise _Gone(self.lost)
        try:
            reply = json.loads(answer[1:].decode("ascii"))
            result = error = None
            if reply[0] == "raise":
                error = _error(str(reply[1]), str(reply[2]))
            else:
                result = self.decode(reply[1])
                if result is None:
                    for index, value in reply[2]:
                        _replace(args[index], self.decode(value))
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            RecursionError,
            MemoryError,
            ArithmeticError,
        ):
            self.lost = "the program's answer cannot be read"
            raise _Gone(self.lost) from None
        if error is not None:
            self.raised = error
            raise error
        return result

    def decode(self, value):
        """The opposite of the harness's `_encode`."""
        if not isinstance(value, list):
            if isinstance(value, dict):
                raise ValueError("no objects")
            return value
        tag, rest = value[0], value[1]
        if tag in _CONTAINERS:
            return _CONTAINERS[tag]([self.decode(item) for item in rest])
        if tag == "d":
            return {self.decode(k): self.decode(v) for k, v in rest}
        if tag == "h":
            self.handles = True
            return _Handle(self, int(rest))
        if tag == "r":
            return range(rest, value[2], value[3])
        if tag == "c":
            return complex(rest, value[2])
        return _SCALARS[tag](rest)


_CONTAINERS = {
    "l": list,
    "t": tuple,
    "s": set,
    "f": frozenset,
    "q": collections.deque,
    "v": list,
    "y": iter,
}
_SCALARS = {
    "i": lambda text: int(text, 16),
    "b": bytes.fromhex,
    "B": bytearray.fromhex,
    "D": decimal.Decimal,
    "F": fractions.Fraction,
}


def _error(name, text):
    """The built-in exception that the program raised, made here anew; an assertion of the program's
    is no test's."""
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)) or kind in (
        AssertionError,
        Exception,
    ):
        return RuntimeError(f"{name}: {text}")
    try:
        return kind(text)
    except TypeError:
        return RuntimeError(f"{name}: {text}")


def _replace(target, value):
    """What the program did to an argument, done to the test's own.

    Only where it returned None, as functions that work in place do: else `candidate(x) ==
    sorted(x)` would be won by emptying x and returning it.
    """
    if isinstance(target, list) and isinstance(value, list):
        target[:] = value
    elif isinstance(target, (dict, set)) and type(value) is type(target):
        target.clear()
        target.update(value)


def _literal(value):
    """A value as Python text for the program's sandbox."""
    if value is None or isinstance(value, (bool, str, bytes)):
        return ascii(value)
    if isinstance(value, int):
        return hex(value) if value.bit_length() > 8000 else int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value) if value - value == 0 else f"float('{value}')"
    if isinstance(value, complex):
        return f"complex({_literal(value.real)},{_literal(value.imag)})"
    if isinstance(value, _Handle):
        return f"_h[{value._id}]"
    if isinstance(value, (list, tuple, set, frozenset, collections.deque)):
        inside = "".join(_literal(item) + "," for item in value)
        if isinstance(value, collections.deque):
            return f"__import__('collections').deque([{inside}])"
        return {list: f"[{inside}]", tuple: f"({inside})"}.get(type(value)) or (
            f"({inside})"
            if isinstance(value, tuple)
            else f"[{inside}]"
            if isinstance(value, list)
            else f"{'frozenset' if isinstance(value, frozenset) else 'set'}([{inside}])"
        )
    if isinstance(value, dict):
        return "{" + ",".join(_literal(k) + ":" + _literal(v) for k, v in value.items()) + "}"
    if isinstance(value, range):
        return repr(value)
    if isinstance(value, bytearray):
        return ascii(value)
    if isinstance(value, decimal.Decimal):
        return f"__import__('decimal').Decimal('{value}')"
    if isinstance(value, fractions.Fraction):
        return f"__import__('fractions').Fraction('{value}')"
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and getattr(builtins, name, None) is value:
        return name  # int, len, ...
    if hasattr(type(value), "__next__"):
        return "iter([" + "".join(_literal(item) + "," for item in value) + "])"
    raise _Refused(
        f"a test passes a {type(value).__name__}, which cannot be handed into the sandbox"
    )


def same(found, expected):
    """Equal as JSON, which knows lists but no tuples; numbers and booleans compare as Python
    compares them."""
    if isinstance(found, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(
            same(a, b) for a, b in zip(found, expected, strict=True)
        )
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = {str(k) if isinstance(k, (int, float)) else k: v for k, v in found.items()}
        return keys.keys() == expected.keys() and all(same(keys[k], expected[k]) for k in expected)
    return not isinstance(found, _Handle) and found == expected


def same_or_only(found, expected):
    """Equal to a list, or to the one thing in it: some published sets put every result into a list
    of one."""
    return same(found, expected) or same(found, expected[0])


class _Bare(ast.NodeTransformer):
    """Takes the messages off the assertions: one that cannot be shown would hide that the program
    is wrong."""

    def visit_Assert(self, node):
        node.msg = None
        return node


class _Recorded(ast.NodeTransformer):
    """Turns every assertion into one that is counted instead of raised: the tests of a
    `check(candidate)`, one by one."""

    def __init__(self):
        self.count = 0

    def visit_Assert(self, node):
        self.count += 1
        record = ast.Expr(ast.Call(ast.Name("__record__", ast.Load()), [node.test], []))
        failed = ast.Expr(ast.Call(ast.Name("__record__", ast.Load()), [ast.Constant(False)], []))
        handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [failed])
        return ast.copy_location(ast.Try([record], [handler], [], []), node)


def _check(link, task):
    """Run every check; a check passes when it raises nothing."""
    names = {"__name__": "tests", "_same": same, "_same_or_only": same_or_only}
    passed = total = 0
    error, broken = None, False
    records = []

    def record(value):
        if len(records) < _MAX_RECORDS:
            records.append(bool(value))

    try:
        exec(compile(task["preamble"], "preamble", "exec"), names)
        names.update({name: _Function(link, name, "value") for name in task["functions"]})
        names.update({name: _Function(link, name, "make") for name in task["makers"]})
    except Exception as problem:
        return {"passed": 0, "total": 1, "calls": 0, "error": _shown(problem), "broken": True}
    for text in task["checks"]:
        before = link.calls
        least = 0
        records.clear()
        try:
            tree = _Bare().visit(ast.parse(text))
            if task["partial"]:
                counter = _Recorded()
                tree = ast.fix_missing_locations(counter.visit(tree))
                least = counter.count
                names["__record__"] = record
            exec(compile(tree, "tests", "exec"), names)
            good = link.calls > before
            if not good:
                return {
                    "passed": 0,
                    "total": 1,
                    "calls": link.calls,
                    "error": "a test never calls the program",
                    "broken": True,
                }
        except _Refused as problem:
            # Something of the program's own making may be what cannot travel; then it is no fault
            # of the tests.
            if link.handles:
                return {
                    "passed": passed,
                    "total": len(task["checks"]),
                    "calls": link.calls,
                    "error": str(problem),
                    "broken": False,
                }
            return {
                "passed": 0,
                "total": 1,
                "calls": link.calls,
                "error": str(problem),
                "broken": True,
            }
        except (Exception, _Gone) as problem:
            good = False
            error = error or _shown(problem)
            # A name that the tests give a meaning to nowhere is their own fault; one that they
            # would have given but for what the program did is not.
            unknown = (
                isinstance(problem, NameError)
                and problem is not link.raised
                and not isinstance(problem, UnboundLocalError)
                and problem.name not in _bound(task["preamble"], text)
            )
            broken = broken or unknown or (link.calls == 0 and not isinstance(problem, _Gone))
        if task["partial"]:
            here = max(least, len(records) + (not good), 1)
            total += here
            passed += sum(records) if least else here * good
        else:
            total += 1
            passed += good
            if not good:
                break
    if not task["partial"]:
        total = len(task["checks"])
    if error is None and passed < total:
        error = "AssertionError"
    return {"passed": passed, "total": total, "calls": link.calls, "error": error, "broken": broken}


def _bound(*texts):
    """The names that pieces of test code give a meaning to anywhere."""
    found = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
                found.add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(node.name)
            elif isinstance(node, ast.arg):
                found.add(node.arg)
            elif isinstance(node, ast.alias):
                found.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.ExceptHandler) and node.name:
                found.add(node.name)
    return found


def _shown(problem):
    name = "" if isinstance(problem, _Gone) else type(problem).__name__
    return ": ".join(part for part in (name, " ".join(str(problem).split())[:200]) if part)


def _frame(sock):
    head = _exactly(sock, 4)
    return _exactly(sock, int.from_bytes(head, "big"))


def _exactly(sock, count):
    parts = []
    while count:
        part = sock.recv(min(count, 1 << 16))
        if not part:
            raise SystemExit(0)
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _judge():
    sock = _socket.socket(fileno=int(sys.argv[1]))
    _limit(ast.literal_eval(sys.argv[2]))
    if "confine" in globals():
        globals()["confine"](*ast.literal_eval(sys.argv[3]))
    _send(sock, '["ready"]')
    while True:
        task = json.loads(_frame(sock))
        _send(sock, json.dumps({"done": _check(_Link(sock), task)}))


if __name__ == "__main__":
    _judge()
