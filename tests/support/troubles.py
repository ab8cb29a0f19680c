"""What programs under test are given to be in trouble with: clocks that jump, roots without powers.

Owns: pieces of source that a program starts with. Does not own: running it (``machine``), what a test
says about it.
"""

from __future__ import annotations

import json
from typing import Any

#: ``@case`` runs a function at once and notes how it ended; ``tell()`` prints all notes.
CASES = """
import json, os, sys
import wherry
import wherry as wandb
from wherry import errors

_found = {}

def case(function):
    name = function.__name__
    try:
        value = function()
    except BaseException as error:
        _found[name] = {
            "raised": type(error).__name__,
            "kinds": [each.__name__ for each in type(error).__mro__],
            "text": str(error),
            "hint": getattr(error, "hint", None),
        }
    else:
        _found[name] = {"raised": None, "kinds": [], "text": repr(value), "hint": None}
    return function

def tell():
    print(json.dumps(_found))
"""

#: Makes root an ordinary user where permissions are asked about; the daemon that it starts as well.
NO_POWERS = """
import ctypes, os, sys

if os.geteuid() == 0 and "WITHOUT_POWERS" not in os.environ:
    os.environ["WITHOUT_POWERS"] = "1"
    for cap_dac_override_or_read_search in (1, 2):
        if ctypes.CDLL(None).prctl(24, cap_dac_override_or_read_search, 0, 0, 0):  # PR_CAPBSET_DROP
            sys.exit("can't drop root's powers")
    os.execv(sys.executable, sys.orig_argv)
"""

#: After ``hurry(seconds)`` the program's clock jumps ahead by so much, three times a second.
CLOCK = """
import threading, time

_real_monotonic, _ahead_s = time.monotonic, 0.0
time.monotonic = lambda: _real_monotonic() + _ahead_s

def hurry(seconds):
    def jump():
        global _ahead_s
        while True:
            time.sleep(0.3)
            _ahead_s += seconds
    threading.Thread(target=jump, daemon=True).start()
"""


def outcomes(printed: str) -> dict[str, dict[str, Any]]:
    """Read what ``tell()`` printed last."""
    found = json.loads(printed.strip().splitlines()[-1])
    assert isinstance(found, dict)
    return found


def check(found: dict[str, dict[str, Any]], wanted: dict[str, tuple[str, str]]) -> None:
    """Compare each case with the kind of error that it is to raise, and a word of its text.

    Args:
        found: the answer of ``outcomes``.
        wanted: by case, a class among those of the error ("" where none may be raised), and what its
            text, or the value's, must contain.
    """
    wrong: dict[str, object] = {name: found.get(name) for name in wanted.keys() ^ found.keys()}
    for name in wanted.keys() & found.keys():
        (kind, word), got = wanted[name], found[name]
        right = (kind in got["kinds"]) if kind else got["raised"] is None
        ours = got["raised"] is None or "WherryError" in got["kinds"]
        if not (right and ours and word in got["text"]):
            wrong[name] = {"wanted": wanted[name], "got": [got["raised"], got["text"]]}
    lines = [f"{name}: {json.dumps(each, ensure_ascii=False)}" for name, each in wrong.items()]
    assert not wrong, "\n".join(lines)
