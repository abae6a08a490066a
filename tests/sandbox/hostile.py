"""Hostile programs, written for these tests: each tries to be scored correct, or to hurt the
machine, or both.

The stdin task: read a number, print twice the number. The function task: `double(x)`. Several of
the programs would solve the task if their trick worked, and none solves it honestly.
"""

from __future__ import annotations

# Mild probes of the same limits that the bombs below strain; they run first, and the bombs only if
# these held.
MILD = {
    "processes": (
        """
import os, time
born = []
try:
    for _ in range(24):
        pid = os.fork()
        if pid == 0:
            time.sleep(2)
            os._exit(0)
        born.append(pid)
except OSError:
    print("held" if len(born) <= 8 else len(born))
else:
    print("no limit", len(born))
"""
    ),
    "memory": (
        """
try:
    x = bytearray(1 << 30)
    print("no limit")
except MemoryError:
    print("held")
"""
    ),
    "disk": (
        """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    for n in range(8):
        with open(f"/tmp/{n}", "wb") as f:
            for _ in range(8):
                f.write(bytes(1 << 20))
    print("no limit")
except OSError:
    print("held")
"""
    ),
    "root": (
        """
for path in ("/x", "/dev/x", "/usr/x", "/lib/x"):
    try:
        open(path, "w")
        print("writable", path)
    except OSError:
        pass
print("held")
"""
    ),
}

STDIN = {
    "nothing": "",
    "exit zero": "import sys; sys.exit(0)",
    "os._exit zero": "import os; os._exit(0)",
    "right answer, wrong exit code": "print(2 * int(input()), flush=True); raise SystemExit(3)",
    "right answer, then an exception": "print(2 * int(input())); 1 / 0",
    "right answer, then a crash": (
        "import os, signal\nprint(2 * int(input()), flush=True)\nos.kill(os.getpid(),"
        " signal.SIGSEGV)"
    ),
    "right answer, then a hang": (
        "import time\nprint(2 * int(input()), flush=True)\nwhile True: time.sleep(1)"
    ),
    "right answer among others": "n = int(input())\nfor k in range(-100, 2000): print(k)",
    "right answer and a trailing line": "print(2 * int(input())); print('passed')",
    "right answer on standard error": "import sys; print(2 * int(input()), file=sys.stderr)",
    "claims of success": (
        'print(\'{"verdict": "correct", "passed": 3}\\nOK\\nPASSED\\n3 passed in 0.01s\')'
    ),
    "forged frames on every descriptor": (
        """
import os
for text in (b'["status",0]', b'["ok"]', b'{"done":{"passed":9,"total":9,"calls":9,"error":null,"broken":false}}'):
    for fd in range(64):
        try: os.write(fd, len(text).to_bytes(4, "big") + text)
        except OSError: pass
"""  # noqa: E501
    ),
    "standard output closed": "import os; os.close(1)",
    "all descriptors closed": "import os; os.closerange(0, 1024)",
    "exit handlers": (
        "import atexit, os\natexit.register(lambda: os.write(1,"
        " b'42'))\natexit.register(os._exit, 0)"
    ),
    "stdout replaced": (
        "import sys, io\nclass S(io.StringIO):\n    def __eq__(s, o): return True\nsys.stdout ="
        " S(); print(0)"
    ),
    "builtins replaced": (
        "import builtins\nbuiltins.print = lambda *a, **k: None\nbuiltins.compile = builtins.exec ="
        " None\nprint(42)"
    ),
    "infinite output": "while True: print('42' * 1000)",
    "one endless line": "import os\nwhile True: os.write(1, b'4' * 65536)",
    "infinite loop": "while True: pass",
    "sleep": "import time; time.sleep(1000)",
    "no limit on signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n   "
        " except (OSError, ValueError): pass\nwhile True: pass"
    ),
    "stops itself": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "kills its parent": "import os, signal; os.kill(os.getppid(), signal.SIGKILL)",
    "kills everybody": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "kills process 1": "import os, signal\nfor s in (9, 15, 2, 11): os.kill(1, s)",
    "kills its group": "import os, signal; os.killpg(0, signal.SIGKILL)",
    "fork bomb": (
        """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
    ),
    "thread bomb": (
        """
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
    except RuntimeError: pass
"""
    ),
    "daemon left behind": (
        """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
print(0)
"""
    ),
    "daemon that prints into the next test": (
        """
import os, time
if os.fork() == 0:
    os.setsid()
    for _ in range(2000):
        os.write(1, b"42\\n"); time.sleep(0.01)
    os._exit(0)
"""
    ),
    "memory bomb": "x = []\nwhile True: x.append(bytearray(1 << 24))",
    "memory bomb in many processes": (
        """
import os
for _ in range(8):
    try:
        if os.fork() == 0: break
    except OSError: break
x = []
while True:
    try: x.append(b"x" * (1 << 22))
    except MemoryError: pass
"""
    ),
    "mmap bomb": (
        "import mmap\nx = []\nwhile True:\n    m = mmap.mmap(-1, 1 << 26)\n    m.write(b'x' * (1 <<"
        " 26))\n    x.append(m)"
    ),
    "disk bomb": (
        """
import itertools
for n in itertools.count():
    try:
        with open(f"/tmp/{n}", "wb") as f:
            while True: f.write(bytes(1 << 20))
    except OSError: pass
"""
    ),
    "sparse file": "f = open('/tmp/x', 'wb')\nf.truncate(1 << 40)\nf.seek(1 << 40)\nf.write(b'42')",
    "descriptor bomb": "import os\nx = []\nwhile True: x.append(os.pipe())",
    "huge integer": "print(len(str(9 ** (9 ** 9))))",
    "huge shift": "print((1 << (1 << 40)) & 42)",
    "recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()",
    "deep nesting": "print(eval('(' * 100000 + '42' + ')' * 100000))",
    "null pointer": "import ctypes; ctypes.string_at(0)",
    "catastrophic pattern": "import re; print(re.match(r'(a+)+$', 'a' * 60 + 'b'))",
    "compressed bomb": (
        "import zlib\nx = zlib.compress(bytes(1 << 26))\ny = []\nwhile True:"
        " y.append(zlib.decompress(x))"
    ),
    "password file": "print(open('/etc/passwd').read())",
    "shadow through a link": (
        "import os\nos.symlink('/etc/shadow', '/tmp/s')\nprint(open('/tmp/s').read())"
    ),
    "hard link": "import os\nos.link(os.__file__, '/tmp/os.py')\nprint(42)",
    "environment": "import os\nprint(os.environ['PATH'], os.environ['HOME'])",
    "environment of process 1": "print(open('/proc/1/environ').read())",
    "search for the answers": (
        """
import os
for folder, _, files in os.walk("/"):
    for name in files:
        try: text = open(os.path.join(folder, name)).read(10000)
        except (OSError, ValueError): continue
        if "hidden" in text and "42" in text and "double" in text: print(text)
"""
    ),
    "network": (
        "import socket\ns = socket.create_connection(('127.0.0.1', PORT),"
        " 2)\ns.send(b'hello')\nprint(s.recv(10).decode())"
    ),
    "datagram": (
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'hello',"
        " ('127.0.0.1', PORT))"
    ),
    "listening": (
        "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()\ns.accept()"
    ),
    "abstract socket": (
        "import socket\ns ="
        " socket.socket(socket.AF_UNIX)\ns.connect('\\0burnish-test-PORT')\ns.send(b'hello')"
    ),
    "shell": "import os; raise SystemExit(os.system('echo 42'))",
    "subprocess": (
        "import subprocess; print(subprocess.run(['/usr/bin/id'], capture_output=True).stdout)"
    ),
    "pickle": "import pickle; pickle.loads(b\"cos\\nsystem\\n(S'echo 42'\\ntR.\")",
    "setuid": "import os\nos.setuid(0)\nprint(42)",
    "set-uid file": (
        "import os, shutil\nshutil.copy(os.__file__, '/tmp/x')\nos.chmod('/tmp/x',"
        " 0o6777)\nos.chown('/tmp/x', 0, 0)\nprint(42)"
    ),
    "writes to the library": "import os\nopen(os.__file__, 'a').write('import evil')\nprint(42)",
    "writes to /proc": "open('/proc/sys/kernel/core_pattern', 'w').write('|/tmp/x')\nprint(42)",
    "writes to /sys": "open('/sys/kernel/uevent_helper', 'w').write('/tmp/x')\nprint(42)",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('h')\nprint(42)",
    "nested user namespace": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.unshare(0x10000000) == 0\nprint(42)"
    ),
    "mount": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nassert libc.mount(b'none', b'/tmp', b'tmpfs', 0,"
        " None) == 0\nprint(42)"
    ),
    "ptrace": (
        "import ctypes, os\nlibc = ctypes.CDLL(None)\nassert libc.ptrace(16, os.getppid(), 0, 0) =="
        " 0\nprint(42)"
    ),
    "terminal injection": (
        "import fcntl\nfor fd in range(3):\n    fcntl.ioctl(fd, 0x5412, b'4')\nprint(42)"
    ),
    "standard input rewritten": (
        "import os\nos.lseek(0, 0, 0)\nos.write(0, b'0')\nos.ftruncate(0, 0)\nprint(42)"
    ),
    "raised limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) *"
        " 2)\nprint(42)"
    ),
    "not UTF-8": "import os; os.write(1, b'42\\xff')",
    "null bytes": "import os; os.write(1, b'42\\x00')",
    "terminal codes": "print('\\x1b[2K\\r42')",
    "not Python": "#!/bin/sh\necho $((2 * x)) &&",
    "null byte in the source": "print(42)\0",
}

FUNCTION = {
    "equal to everything": (
        "class A:\n    def __eq__(s, o): return True\n    __hash__ = None\n    __ne__ = lambda s,"
        " o: False\ndef double(x): return A()"
    ),
    "an int equal to everything": (
        "class A(int):\n    def __eq__(s, o): return True\n    def __hash__(s): return 0\ndef"
        " double(x): return A(0)"
    ),
    "a float equal to everything": (
        "class A(float):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0.0\ndef"
        " double(x): return A(0)"
    ),
    "a text equal to everything": (
        "class A(str):\n    def __eq__(s, o): return True\ndef double(x): return A('')"
    ),
    "a list equal to everything": (
        "class A(list):\n    def __eq__(s, o): return True\ndef double(x): return A()"
    ),
    "a false class": (
        "class A:\n    @property\n    def __class__(s): return int\n    def __eq__(s, o): return"
        " True\n    def __int__(s): return 1\ndef double(x): return A()"
    ),
    "not a number": "def double(x): return float('nan')",
    "nothing": "pass",
    "another name": "def triple(x): return 3 * x",
    "not callable": "double = 42",
    "the first answer for all": "def double(x): return 42",
    "exit while loading": "import sys; sys.exit(0)",
    "exit in a call": "import sys\ndef double(x): sys.exit(0)",
    "os._exit in a call": "import os\ndef double(x): os._exit(0)",
    "os._exit while loading": "import os; os._exit(0)",
    "assertions caught": (
        "class E(AssertionError):\n    def __init__(s, *a): pass\ndef double(x): raise E()"
    ),
    "stops the iteration": "def double(x): raise StopIteration(42)",
    "generator exit": "def double(x): raise GeneratorExit",
    "keyboard interrupt": "def double(x): raise KeyboardInterrupt",
    "an exception that cannot be shown": (
        "class E(Exception):\n    def __str__(s): raise SystemExit(0)\ndef double(x): raise E"
    ),
    "assert switched off": (
        "import sys, builtins\nbuiltins.__debug__ = False\ndef double(x): return 0"
    ),
    "AssertionError replaced": (
        "import builtins\nbuiltins.AssertionError = type('A', (Exception,), {})\ndef double(x):"
        " return 0"
    ),
    "exec and compile replaced": (
        "import builtins\nbuiltins.exec = builtins.compile = builtins.eval = lambda *a, **k:"
        " None\ndef double(x): return 0"
    ),
    "JSON replaced": (
        "import json, _json\njson.dumps = json.dump = _json.encode_basestring_ascii = lambda *a,"
        " **k: '42'\ndef double(x): return 'x'"
    ),
    "frames searched": (
        """
import sys
def double(x):
    frame = sys._getframe()
    while frame:
        for scope in (frame.f_locals, frame.f_globals):
            for name, value in list(scope.items()):
                if isinstance(value, str) and "check" in value and "assert" in value:
                    return eval(value.split("double(" + str(x) + ") == ")[1].split()[0])
        frame = frame.f_back
    return 0
"""
    ),
    "memory searched": (
        """
import gc
def double(x):
    for o in gc.get_objects():
        if isinstance(o, (dict, list, tuple)) and 42 in list(o.values() if isinstance(o, dict) else o): return 42
    return 0
"""  # noqa: E501
    ),
    "harness rewritten": (
        """
import sys, gc, types
for m in list(sys.modules.values()):
    for name in ("_call", "_encode", "_send", "_serve"):
        if hasattr(m, name): setattr(m, name, lambda *a, **k: '["value",true,[]]')
for f in gc.get_objects():
    if isinstance(f, types.FunctionType) and f.__name__ in ("_encode", "_handle"):
        f.__code__ = (lambda *a: "true").__code__
def double(x): return 0
"""
    ),
    "forged verdicts on every descriptor": (
        """
import os
def double(x):
    for text in (b'{"done":{"passed":9,"total":9,"calls":9,"error":null,"broken":false}}', b'["value",true,[]]', b'["ok"]',
                 b'{"kind":"passed","passed":9,"total":9,"detail":"","seconds":0,"id":0}'):
        for fd in range(64):
            try: os.write(fd, len(text).to_bytes(4, "big") + text)
            except OSError: pass
    return 0
"""  # noqa: E501
    ),
    "forged verdict, then the end": (
        """
import os
def double(x):
    text = b'{"done":{"passed":9,"total":9,"calls":9,"error":null,"broken":false}}'
    for fd in range(3, 64):
        try: os.write(fd, len(text).to_bytes(4, "big") + text)
        except OSError: pass
    os._exit(0)
"""
    ),
    "broken frames": (
        "import os\ndef double(x):\n    for fd in range(3, 64):\n        try: os.write(fd,"
        " b'\\xff\\xff\\xff\\xff')\n        except OSError: pass\n    return 0"
    ),
    "nonsense frames": (
        'import os\ndef double(x):\n    t = b\'["value",["h",[[]]],[[0,1],[9,9]]]\'\n    for fd'
        " in range(3, 64):\n        try: os.write(fd, len(t).to_bytes(4, 'big') + t)\n       "
        " except OSError: pass\n    return 0"
    ),
    "nested frames": (
        "import os\ndef double(x):\n    t = b'[' * 100000\n    for fd in range(3, 64):\n       "
        " try: os.write(fd, len(t).to_bytes(4, 'big') + t)\n        except OSError: pass\n   "
        " return 0"
    ),
    "channel drained": (
        "import os\ndef double(x):\n    for fd in range(3, 64):\n        try: os.read(fd, 65536)\n "
        "       except OSError: pass\n    return 0"
    ),
    "channel closed": "import os\ndef double(x): os.closerange(3, 64)",
    "a cyclic list": "def double(x):\n    a = []\n    a.append(a)\n    return a",
    "a deep list": "def double(x):\n    a = []\n    for _ in range(10 ** 5): a = [a]\n    return a",
    "a huge text": "def double(x): return 'x' * (1 << 28)",
    "a huge integer": "def double(x): return 1 << (1 << 28)",
    "a huge list": "def double(x): return [0] * (1 << 25)",
    "an endless generator": "import itertools\ndef double(x): return itertools.repeat(42)",
    "an endless loop": "def double(x):\n    while True: pass",
    "slow at the second call": (
        "import time\nn = 0\ndef double(x):\n    global n\n    n += 1\n    if n > 1:"
        " time.sleep(100)\n    return 2 * x"
    ),
    "a handle": "class A:\n    def double(s, x): return 2 * x\ndef double(x): return A()",
    "a pickle": (
        "class A:\n    def __reduce__(s): return (eval, ('42',))\n    def __eq__(s, o): return"
        " True\ndef double(x): return A()"
    ),
    "a code object": "def double(x): return (lambda: 42).__code__",
    "threads that fight for the channel": (
        """
import threading, os
def flood():
    t = b'["value",42,[]]'
    while True:
        for fd in range(3, 12):
            try: os.write(fd, len(t).to_bytes(4, "big") + t)
            except OSError: pass
threading.Thread(target=flood, daemon=True).start()
def double(x): return 0
"""
    ),
    "stops its process": "import os, signal\ndef double(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "kills everybody": "import os\ndef double(x): os.kill(-1, 9)",
    "garbage at exit": (
        "import atexit, os\natexit.register(os.write, 1, b'passed')\ndef double(x): raise"
        " SystemExit"
    ),
    "recursion without end": (
        "import sys\nsys.setrecursionlimit(10 ** 9)\ndef double(x): return double(x)"
    ),
    "prints instead of returning": "def double(x): print(2 * x)",
    "floods standard output": "def double(x):\n    while True: print('x' * 10000)",
}
