"""Named places where a test can end the process, in the client and in the daemon.

A module declares its places at the top and passes them by calling them::

    _BEFORE_SEND = failpoint("commit.record.before-send")
    ...
    _BEFORE_SEND()

With ``WHERRY_FAILPOINT=commit.record.before-send`` (or ``…@3`` for the third pass) in its
environment the process ends there by SIGKILL; of several, with commas between them, at each that it comes
by first. Without it a pass costs one attribute look-up. ``WHERRY_FAILPOINT_ONCE`` names a file that lists,
line by line, the places where a process has ended; each is off from then on, so the next start goes on.
"""

from __future__ import annotations

import os
import signal

#: Every declared place by its name; tests hit each of them.
DECLARED: dict[str, Failpoint] = {}


class Failpoint:
    """One place; call it to pass it."""

    __slots__ = ("_left", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._left = 0
        for wanted in os.environ.get("WHERRY_FAILPOINT", "").split(","):
            place, _, times = wanted.partition("@")
            if place == name:
                self._left = int(times or 1)

    def __call__(self) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                _end(self.name)


def failpoint(name: str) -> Failpoint:
    """Declare a place. Names are ``<stage>.<step>.<moment>`` and unique."""
    if name in DECLARED:
        raise ValueError(f"failpoint {name} is declared twice")
    place = DECLARED[name] = Failpoint(name)
    return place


def _end(name: str) -> None:
    once = os.environ.get("WHERRY_FAILPOINT_ONCE")
    if once:
        with open(once, "a+", encoding="ascii") as file:
            file.seek(0)
            if name in file.read().split():
                return
            file.write(f"{name}\n")
    os.kill(os.getpid(), signal.SIGKILL)
