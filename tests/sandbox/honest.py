"""Honest programs, which must be scored correct: (program, columns of the task)."""

from __future__ import annotations

from typing import Any


def stdin(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"tests": [{"input": given, "output": expected} for given, expected in pairs]}


def asserts(*checks: str, setup: str = "") -> dict[str, Any]:
    return {"test_list": list(checks), "test_setup_code": setup}


def check(name: str, given: str, *lines: str) -> dict[str, Any]:
    return {
        "entry_point": name,
        "prompt": given,
        "test": "def check(candidate):\n" + "".join(f"    {x}\n" for x in lines),
    }


DOUBLED = stdin(("21\n", "42\n"), ("-3", "-6"), ("0", "0\n\n"))

HONEST: dict[str, tuple[str, dict[str, Any]]] = {
    "input": ("print(2 * int(input()))", DOUBLED),
    "sys.stdin": ("import sys\nfor line in sys.stdin:\n    print(int(line) * 2)", DOUBLED),
    "bytes": (
        "import sys\nsys.stdout.buffer.write(b'%d' % (2 * int(sys.stdin.buffer.read())))",
        DOUBLED,
    ),
    "os.read": ("import os\nos.write(1, str(2 * int(os.read(0, 100))).encode())", DOUBLED),
    "main guard": (
        "def main():\n    print(2 * int(input()))\nif __name__ == '__main__':\n    main()",
        DOUBLED,
    ),
    "sys.exit": ("import sys\nprint(2 * int(input()))\nsys.exit()", DOUBLED),
    "exit()": ("n = int(input())\nprint(n + n)\nraise SystemExit", DOUBLED),
    "exit handler that prints": (
        "import atexit\natexit.register(lambda: print(2 * n))\nn = int(input())",
        DOUBLED,
    ),
    "trailing white space and line ends": ("print(2 * int(input()), end='  \\r\\n\\n')", DOUBLED),
    "warning on standard error": (
        "import sys\nprint('hm', file=sys.stderr)\nprint(2 * int(input()))",
        DOUBLED,
    ),
    "a thread with a large stack": (
        (
            "import sys, threading\nsys.setrecursionlimit(10 ** 6)\nthreading.stack_size(1 << 26)\n"
            "def f(n): return 0 if n == 0 else 2 + f(n - 1)\n"
            "def main(): n = int(input()); print(f(n) if n > 0 else 2 * n)\n"
            "t = threading.Thread(target=main); t.start(); t.join()"
        ),
        stdin(("21", "42"), ("20000", "40000")),
    ),
    "a dataclass": (
        (
            "from dataclasses import dataclass\n@dataclass\nclass P:\n    n:"
            " int\nprint(P(int(input())).n * 2)"
        ),
        DOUBLED,
    ),
    "much output": (
        "for n in range(int(input())): print(n)",
        stdin(("30000", "\n".join(map(str, range(30000))))),
    ),
    "much input": (
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
        stdin(("7 " * 300_000, "2100000")),
    ),
    "letters of the world": ("print(input()[::-1])", stdin(("naïve – 東京 🙂", "🙂 京東 – evïan"))),
    "no input": ("print('hello')", stdin(("", "hello"))),
    "memory within the limit": ("x = bytearray(100 << 20)\nprint(2 * int(input()))", DOUBLED),
    "standard library": (
        (
            "import bisect, collections, datetime, decimal, fractions, functools, heapq, itertools,"
            " json, math, operator, random\nimport re, statistics, string, textwrap,"
            " typing\nprint(2 * int(input()))"
        ),
        DOUBLED,
    ),
    "a function": (
        "def double(x):\n    return 2 * x",
        asserts("assert double(21) == 42", "assert double(-3) == -6"),
    ),
    "a lambda": ("double = lambda x: 2 * x", asserts("assert double(21) == 42")),
    "check": (
        "def double(x: int) -> int:\n    return x + x",
        check(
            "double", 'def double(x: int) -> int:\n    """Twice."""\n', "assert candidate(21) == 42"
        ),
    ),
    "a tuple and a set": (
        "def f(x): return tuple(x), set(x), frozenset(x), {1: (2, 3)}",
        asserts(
            "assert f([1, 2]) == ((1, 2), {1, 2}, frozenset([1, 2]), {1: (2, 3)})",
            "assert type(f([])[0]) is tuple",
        ),
    ),
    "text and bytes": (
        "def f(x, y): return (x + 'é\\ud800', y + b'\\xff')",
        asserts("assert f('a\\n', b'b') == ('a\\né\\ud800', b'b\\xff')"),
    ),
    "floats": (
        "import math\ndef f(x): return x / 3, math.inf, -0.0, math.nan",
        asserts(
            "assert f(1.0)[0] == 1 / 3 and f(1)[1] == float('inf')",
            "import math\nassert math.copysign(1, f(1)[2]) == -1 and math.isnan(f(1)[3])",
        ),
    ),
    "large integers": (
        "import math\ndef f(n): return math.factorial(n)",
        asserts(
            "import math\nassert f(5000) == math.factorial(5000)",
            "assert f(20) == 2432902008176640000",
        ),
    ),
    "exact numbers": (
        (
            "from fractions import Fraction\nfrom decimal import Decimal\ndef f(x): return"
            " Fraction(x, 3), Decimal('0.1') * x, x * 1j"
        ),
        asserts(
            "from fractions import Fraction as F\nfrom decimal import Decimal as D\nassert f(2) =="
            " (F(2, 3), D('0.2'), 2j)"
        ),
    ),
    "an argument changed in place": (
        "def f(x, d):\n    x.sort()\n    d['n'] = len(x)",
        asserts(
            "a, d = [3, 1, 2], {}\nassert f(a, d) is None\nassert a == [1, 2, 3] and d == {'n': 3}"
        ),
    ),
    "exceptions": (
        "def f(x):\n    if x < 0: raise ValueError('negative')\n    return [1][x]",
        asserts(
            "try:\n    f(-1)\n    assert False\nexcept ValueError as e:\n    assert str(e) =="
            " 'negative'",
            "try:\n    f(5)\n    assert False\nexcept IndexError:\n    pass",
        ),
    ),
    "keywords and defaults": (
        "def f(a, *rest, b=2, **more): return a, rest, b, more",
        asserts(
            "assert f(1, 2, 3, c=4) == (1, (2, 3), 2, {'c': 4})",
            "assert f(1, b=5) == (1, (), 5, {})",
        ),
    ),
    "iterators": (
        (
            "def f(n):\n    for i in range(n): yield i * i\ndef g(n): return zip(range(n),"
            " 'abc')\ndef h(n): return range(n)"
        ),
        asserts(
            "assert list(f(4)) == [0, 1, 4, 9]",
            "assert list(g(2)) == [(0, 'a'), (1, 'b')]",
            "assert h(3) == range(3)",
        ),
    ),
    "collections": (
        (
            "import collections as c\ndef f(x):\n    d = c.defaultdict(int)\n    for k in x: d[k]"
            " += 1\n    return d, c.Counter(x), c.OrderedDict(d), c.deque(x), d.keys(),"
            " c.namedtuple('P', 'a b')(1, 2)"
        ),
        asserts(
            "import collections\nassert f('aab')[0] == {'a': 2, 'b': 1} == f('aab')[1] =="
            " f('aab')[2]",
            "import collections\nassert f('ab')[3] == collections.deque('ab') and list(f('ab')[4])"
            " == ['a', 'b']",
            "assert f('')[5] == (1, 2)",
        ),
    ),
    "a class of the program's, only passed on": (
        (
            "class Pair:\n    def __init__(s, a, b): s.a, s.b = a, b\ndef longest(ps): return"
            " max(p.b - p.a for p in ps)"
        ),
        asserts("assert longest([Pair(1, 5), Pair(2, 3)]) == 4"),
    ),
    "methods of a class": (
        "class Solution:\n    def add(self, a, b): return a + b",
        asserts(
            "assert Solution().add(1, 2) == 3", "s = Solution()\nassert s.add('a', 'b') == 'ab'"
        ),
    ),
    "two functions, one inside the other": (
        "def enc(s): return [ord(c) for c in s]\ndef dec(x): return ''.join(map(chr, x))",
        asserts("assert dec(enc('hello')) == 'hello'"),
    ),
    "built-ins as arguments": (
        "def keep(xs, kind): return [x for x in xs if isinstance(x, kind)]",
        asserts(
            "assert keep([1, 'a', 2.5], str) == ['a']",
            "import sys\nassert keep([sys.maxsize], int) == [sys.maxsize]",
        ),
    ),
    "helpers of the task": (
        "import math\ndef root(cs):\n    return -cs[0] / cs[1]",
        check(
            "root",
            "import math\ndef poly(cs, x):\n    return sum(c * math.pow(x, i) for i, c in"
            ' enumerate(cs))\n\ndef root(cs):\n    """A zero of the polynomial."""\n',
            "for a in (1.0, -4.0, 7.5):\n        assert abs(poly([a, 2.0], candidate([a, 2.0]))) <"
            " 1e-9",
        ),
    ),
    "state between calls": (
        "n = 0\ndef count():\n    global n\n    n += 1\n    return n",
        asserts("assert count() == 1 and count() == 2", "assert count() == 3"),
    ),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)",
        asserts("assert f(5000) == 5000"),
    ),
    "a function that prints": (
        "def f(x):\n    print('debug', x)\n    return x",
        asserts("assert f(3) == 3"),
    ),
    "a demonstration at the end": (
        "def f(x): return x\nif __name__ == '__main__':\n    raise SystemExit(1)",
        asserts("assert f(3) == 3"),
    ),
    "arguments as JSON": (
        "def pair(a, b): return (a, b)",
        {
            "input_output": (
                '{"fn_name": "pair", "inputs": [[1, [2]], ["x", null]], "outputs": [[1, [2]], ["x",'
                " null]]}"
            )
        },
    ),
    "lines as JSON": (
        "print(int(input()) + int(input()))",
        {"input_output": {"inputs": ["1\n2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}},
    ),
    "exit() at the end": ("print(2 * int(input()))\nexit()", DOUBLED),
    "quit(0) at the end": ("print(2 * int(input()))\nquit(0)", DOUBLED),
    "exit() behind the functions": ("def f(x): return x\nexit()", asserts("assert f(3) == 3")),
    "each result in a list of one": (
        "def pair(a, b): return [a, b]",
        {
            "input_output": {
                "fn_name": "pair",
                "inputs": [[1, 2], [3, 4]],
                "outputs": [[[1, 2]], [[3, 4]]],
            }
        },
    ),
    "a list of one that is the result": (
        "def only(a): return [a]",
        {"input_output": {"fn_name": "only", "inputs": [[1], [3]], "outputs": [[1], [3]]}},
    ),
    "a method of Solution": (
        "class Solution:\n    def add(self, a: int, b: int) -> int:\n        return a + b",
        {"input_output": {"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}},
    ),
    "functional tests": (
        "class Solution:\n    def twice(self, xs):\n        return [2 * x for x in xs]",
        {
            "tests": [{"input": "[1, 2]", "output": "[2, 4]", "testtype": "functional"}],
            "starter_code": (
                "class Solution:\n    def twice(self, xs: List[int]) -> List[int]:\n        "
            ),
        },
    ),
    "functional tests, two arguments, name in the metadata": (
        "class Solution:\n    def add(self, a, b):\n        return a + b",
        {
            "public_test_cases": '[{"input": "1\\n2", "output": "3", "testtype": "functional"}]',
            "metadata": '{"func_name": "add"}',
        },
    ),
    "cases of standard input as JSON text": (
        "print(2 * int(input()))",
        {
            "public_test_cases": '[{"input": "1", "output": "2", "testtype": "stdin"}]',
            "private_test_cases": '[{"input": "2", "output": "4", "testtype": "stdin"}]',
        },
    ),
    "public and private tests of a contest": (
        "print(2 * int(input()))",
        {
            "public_tests": {"input": ["1"], "output": ["2"]},
            "private_tests": {"input": ["2"], "output": ["4"]},
            "generated_tests": {"input": [], "output": []},
        },
    ),
    "test cases inside verification info": (
        "print(2 * int(input()))",
        {
            "verification_info": {
                "language": "python",
                "test_cases": [{"input": "1", "output": "2", "type": "stdin_stdout"}],
            }
        },
    ),
    "an entry point that is a method": (
        "class Solution:\n    def add(self, a, b): return a + b",
        {
            "entry_point": "Solution().add",
            "test": "def check(candidate):\n    assert candidate(a=1, b=2) == 3\n",
            "prompt": "from typing import *\n",
        },
    ),
    "a function with the name of a built-in one": (
        "def sum(a, b): return a + b",
        asserts("assert sum(2, 3) == 5"),
    ),
    "a name that only a try gives": (
        "def f(x): return x",
        asserts("try:\n    r = f(2)\nexcept ValueError:\n    pass\nassert r == 2"),
    ),
}
