# ruff: noqa: E501 (programs in tables)
"""Programs that fail their tests and try to pass: they all define `f`, whose right value is x + 41."""

EVERYTHING = """
class E:
    def __getattr__(self, name): return E()
    def __call__(self, *_): return True
{methods}
def f(x): return E()
"""
METHODS = (
    "eq", "ne", "lt", "le", "gt", "ge", "hash", "bool", "len", "contains", "sub", "rsub", "add", "radd", "abs", "float", "int", "index", "instancecheck",
)  # fmt: skip
CHEATS = {
    "equals everything": "class E:\n    def __eq__(self, other): return True\ndef f(x): return E()",
    "is everything": EVERYTHING.format(methods="\n".join(f"    def __{m}__(self, *_): return 0" for m in METHODS)),
    "is true in everything": EVERYTHING.format(methods="\n".join(f"    def __{m}__(self, *_): return 1" for m in METHODS)),
    "an int equal to everything": "class E(int):\n    def __eq__(self, other): return True\ndef f(x): return E()",
    "a list equal to everything": "class E(list):\n    def __eq__(self, other): return True\ndef f(x): return E()",
    "unittest.mock": "from unittest import mock\ndef f(x): return mock.ANY",
    "a mocked class": "from unittest.mock import _ANY\nf = _ANY",
    "redefined builtins": "import builtins\nabs = set = sorted = lambda *_: 0\nbuiltins.AssertionError = int\ndef f(x): return 0",
    "linecache": "import linecache, re\nsource = ''.join(''.join(v[2]) for v in linecache.cache.values() if len(v) > 2)\n"
    "values = {int(a): int(b) for a, b in re.findall(r'(?:f|candidate)\\((\\d+)\\) == (\\d+)', source)}\n"
    "def f(x): return values[x]",
    "garbage collector": "import gc, re\n"
    "def f(x):\n    for one in gc.get_objects():\n        found = re.search(r'\\(%d\\) == (\\d+)' % x, repr(one)[:9999])\n"
    "        if found and 'findall' not in found.string: return int(found[1])",
    "memory of the process": "import re\n"
    "def f(x):\n    maps = [line.split()[0].split('-') for line in open('/proc/self/maps') if 'rw' in line]\n"
    "    with open('/proc/self/mem', 'rb') as memory:\n        for a, b in maps:\n            memory.seek(int(a, 16))\n"
    "            for found in re.findall(rb'(?:f|candidate)\\(%d\\) == (\\d+)' % x, memory.read(int(b, 16) - int(a, 16))):\n"
    "                return int(found)",
    "proof on every descriptor": "import os\ndef f(x):\n    for number in range(3, 64):\n        try: os.write(number, bytes(32))\n"
    "        except OSError: pass\n    os._exit(0)",
    "a false reply": "import os\ndef f(x):\n    os.write(4, b'[\"value\", \"\", 7, null]\\n' * 9)",
    "a deep reply": "import os\ndef f(x):\n    os.write(4, b'[' * 99999 + b'\\n')",
    "garbage": "import os\ndef f(x):\n    os.write(4, b'\\xff\\x00{}\\n[]\\n[[]]\\n{\"a\": 1}\\n')",
    "a stolen frame": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for value in list(frame.f_locals.values()):\n            if isinstance(value, int) and value > 1: return value\n"
    "        frame = frame.f_back",
    "killed checker": "import os\ndef f(x):\n    for pid in (1, os.getppid(), -1):\n        try: os.kill(pid, 9)\n        except OSError: pass",

    "sys.exit": "import sys\ndef f(x): sys.exit(0)",
    "sys.exit at once": "import sys\nsys.exit(0)",
    "os._exit at once": "import os\nos._exit(0)",
    "an end at exit": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit(0)",
    "printed proofs": "import os\nfor number in (1, 2):\n    for text in (b'passed', b'ok\\n', b'exit 0', bytes(32)): os.write(number, text)\ndef f(x): os._exit(0)",
    "patched builtins": "import builtins\nfor name in ('all', 'any', 'abs', 'isinstance', 'type', 'len', 'range', 'zip', 'print', 'getattr'):\n"
    "    setattr(builtins, name, lambda *_: True)\ndef f(x): return 0",
    "a patched channel": "from branchwise.sandbox.jail import peer, values, called\n"
    "peer.Peer.send = lambda self, message: (self._writer.write(b'[\"value\", \"\", true, null]\\n'), self._writer.flush())\n"
    "values.encode = peer.encode = lambda *_: True\ndef f(x): return 0",
    "a patched encoder": "import json\njson.dumps = lambda *_, **__: '[\"value\", \"\", true, null]'\ndef f(x): return 0",
    "a false class": "class E:\n    __class__ = int\n    def __eq__(self, other): return True\n    def __reduce__(self): return (int, (42,))\ndef f(x): return E()",
    "a class of classes": "class M(type):\n    def __eq__(self, other): return True\n    def __instancecheck__(self, one): return True\n    __hash__ = None\n"
    "class E(metaclass=M): pass\ndef f(x): return E",
    "a comparison that asks": "import gc\nclass E:\n    def __eq__(self, other): self.seen = other; return True\n    def __sub__(self, other): return other - other\n"
    "    __rsub__ = __sub__\ndef f(x): return E()",
    "an infinite iterator": "import itertools\ndef f(x): return itertools.count()",
    "a generator that answers": "def f(x):\n    answer = yield\n    while True: answer = yield answer",
    "the end of a loop": "def f(x): raise StopIteration",
    "an expected exception": "def f(x): raise AssertionError('passed')",
    "a closed channel": "import os\ndef f(x): os.closerange(0, 64)",
    "a stopped checker": "import os, signal\ndef f(x):\n    for number in range(1, 12):\n        for name in ('SIGSTOP', 'SIGKILL', 'SIGINT'):\n"
    "            try:\n                if number != os.getpid(): os.kill(number, getattr(signal, name))\n            except OSError: pass\n    os._exit(0)",
    "a traced checker": "import ctypes, os\nlibc = ctypes.CDLL(None)\ndef f(x):\n    for number in range(1, 12):\n"
    "        if number != os.getpid(): libc.ptrace(16, number, 0, 0); libc.ptrace(7, number, 0, 0)\n    os._exit(0)",
    "the memory of the checker": "import os\ndef f(x):\n    for number in [*range(1, 12), os.getppid()]:\n        for file in ('mem', 'fd/3', 'fd/4', 'fd/5'):\n"
    "            try: open(f'/proc/{number}/{file}', 'wb', buffering=0).write(bytes(32))\n            except OSError: pass\n    os._exit(0)",
    "a second program": "import os, sys\ndef f(x): os.execv(sys.executable, [sys.executable, '-c', 'print(42)'])",
    "two processes": "import os\ndef f(x):\n    os.fork()\n    return 0",
    "a stack of the interpreter": "import ctypes, os, sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for offset in range(0, 400, 8):\n            place = ctypes.c_void_p.from_address(id(frame) + offset).value or 0\n"
    "            if place == id(bytes): os.write(3, ctypes.string_at(id(frame) + offset + 24, 32))\n        frame = frame.f_back\n    os._exit(0)",
}  # fmt: skip

_SPEAK = """
import json, os
def send(*message): os.write(4, json.dumps(message).encode() + b"\\n")
def receive():
    line = b""
    while not line.endswith(b"\\n"): line += os.read(3, 1)
    return json.loads(line)
def ask(*message):
    send("ask", *message)
    return receive()[2]
def ours(value): return ["yours", value[1]]
"""
_MAKE = (
    _SPEAK
    + """
send("ran", ["f", "value", ["mine", 0]])
receive()
made = ask("call", ["type", "map"], ["tuple", ["type", "type"], ["list", "X"], ["list", ["tuple", BASES]],
           ["list", ["dict", "__module__", "program", "__eq__", ["mine", 1]]]], ["dict"])
made = ask("call", ours(ask("next", ours(made))), ["tuple"], ["dict"])
send("value", "", ours(made), None)
while True:
    receive()
    send("value", "", True, None)
"""
)
_ONE = "assert f(1) == 42"
# Programs that speak to the checker as the process around them does, and the tests that they attack.
FORGERIES = {
    "names that tests do not ask for": (
        _SPEAK + 'send("ran", ["f", "value", 0], ["all", "value", ["type", "list"]], ["zip", "value", ["type", "list"]])\nreceive()',
        "assert all([f == 42])",
    ),
    "other builtins": (
        _SPEAK + 'send("ran", ["f", "value", 0], ["__builtins__", "value", ["dict", "abs", ["type", "bool"]]])\nreceive()',
        "assert abs(f) == 42",
    ),
    "a class made in the checker": (_MAKE.replace(", BASES", ""), _ONE),
    "a subclass made in the checker": (_MAKE.replace("BASES", '["type", "int"]'), _ONE),
    "an expression of the checker": (
        _SPEAK + 'send("ran", ["f", "value", ["mine", 0]])\nreceive()\n'
        'send("value", "", ask("call", ["member", "eval"], ["tuple", "42"], ["dict"]), None)',
        _ONE,
    ),
    "objects that were not shared": (
        _SPEAK + 'send("ran", ["f", "value", ["mine", 0]])\nreceive()\nfor number in (-1, 0, 1, 99, 1e9, None, "x"):\n'
        '    try: found = ask("str", ["yours", number])\n    except Exception: pass\nsend("value", "", found, None)',
        _ONE,
    ),
    "private attributes of a test's function": (
        _SPEAK + 'send("ran", ["f", "value", ["mine", 0]])\nfound = receive()[3][1]\n'
        'found = ask("getattr", ours(found), "__globals__")\nsend("value", "", found, None)',
        "answer = 42\nassert f(lambda: answer) == answer",
    ),
    "the frame of a test's generator": (
        _SPEAK + 'send("ran", ["f", "value", ["mine", 0]])\nfound = receive()[3][1]\n'
        'found = ask("getattr", ours(ask("getattr", ours(found), "gi_frame")), "f_locals")\nsend("value", "", found, None)',
        "assert f(x for x in [42]) == [42]",
    ),
    "an exit where an exception is expected": (
        "import os\ndef f(x): os._exit(0)",
        "try: f(1)\nexcept BaseException: pass\nelse: assert False",
    ),
    "a closed pipe where an exception is expected": (
        "import os\ndef f(x): os.closerange(0, 64)",
        "import contextlib\nwith contextlib.suppress(BaseException): f(1)",
    ),
    "the end of a loop over calls": (
        "def f(x): raise StopIteration",
        "for found, expected in zip(map(f, [1, 2]), [42, 43]): assert found == expected",
    ),
}  # fmt: skip
