"""Kills daemons in the middle of their work, and leaves them some to be killed in.

Owns: how far programs may go (``Pace``), and which kills count (``Hunt``): those of a daemon that became
ready since the last one and leaves requests that are not done. Does not own: the programs, what arrived.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.support.machine import Machine, wait_until
from tests.support.queue import taken, unfinished

_POLL_S = 0.002

_DRAIN = """
import sys
from wherry.cli import main
sys.exit(main())
"""


class Pace:
    """How many of its logs each program may begin; it reads that in a file, before each of them.

    Args:
        file: for the programs to read; it appears here.
        logs: how many each program has.
    """

    #: What a program calls before its ``i``-th log; ``pace`` is the file.
    WAIT = """
def wait_turn(i):
    while int(open(pace).read()) <= i:
        time.sleep(0.005)
"""

    def __init__(self, file: Path, logs: int) -> None:
        self.file = file
        self.logs = logs
        self.allowed = 0
        self.let(0)

    def let(self, more: int) -> None:
        """Let each program begin so many more."""
        self.allowed += more
        assert self.allowed <= self.logs, "all is logged, and too few kills fell into work"
        beside = self.file.with_suffix(".new")
        beside.write_text(str(self.allowed))
        beside.replace(self.file)

    @property
    def left(self) -> int:
        """How many logs each program has to wait with."""
        return self.logs - self.allowed


class Hunt:
    """Kills daemons that have work.

    Args:
        machines: on which programs log at ``pace``.
        pace: of all of them.
        programs: how many there are on each machine.
    """

    def __init__(self, machines: Sequence[Machine], pace: Pace, programs: int) -> None:
        self._machines = machines
        self._pace = pace
        self._programs = programs
        self._ready = dict.fromkeys(machines, 0)
        self._chance = random.Random()

    def run(self, kills: int) -> None:
        """Kill so often, spread over the programs' logs, and at least half of the times while they log.

        Raises:
            AssertionError: all is logged, and too few kills fell into work.
        """
        pairs = kills // 4
        steps = [self._kill_in_calls] * (kills - 2 * pairs) + [self._kill_in_drain] * pairs
        self._chance.shuffle(steps)
        # What is left over is for kills that come too late: a daemon may have done its work by then.
        share = max(1, self._pace.left // (2 * len(steps)))
        for step in steps:
            step(self._chance.choice(self._machines), share)

    def _kill_in_calls(self, machine: Machine, share: int) -> None:
        """Kill at a random moment while the programs log their share."""
        mark = taken(machine.home) + self._chance.randint(1, share * self._programs)
        self._pace.let(share)
        wait_until(lambda: taken(machine.home) >= mark, 60, _POLL_S)
        while not self._hit(machine):
            self._let_one(machine)

    def _kill_in_drain(self, machine: Machine, share: int) -> None:
        """Kill when the programs' share is in, and again when ``wherry drain`` goes on with it."""
        self._pace.let(share)
        while True:
            mark = self._programs * self._pace.allowed
            wait_until(lambda mark=mark: taken(machine.home) == mark, 60, _POLL_S)
            if self._hit(machine):
                drain = machine.start(_DRAIN, "drain", "--timeout", "60s")
                is_hit = self._hit(machine)
                drain.wait_done(90)
                if is_hit:
                    return
            self._pace.let(1)

    def _let_one(self, machine: Machine) -> None:
        """Make work."""
        before = taken(machine.home)
        self._pace.let(1)
        wait_until(lambda: taken(machine.home) > before, 60, _POLL_S)

    def _hit(self, machine: Machine) -> bool:
        """Kill the daemon if it has work; whether it had when it died."""
        wait_until(lambda: _starts(machine) > self._ready[machine], 60, _POLL_S)
        if not unfinished(machine.home):
            return False
        self._ready[machine] = _starts(machine)
        assert machine.kill_daemon(), "it ended by itself"
        return unfinished(machine.home) > 0


def _starts(machine: Machine) -> int:
    """How many daemons became ready."""
    try:
        return (machine.home / "daemon.log").read_text(errors="replace").count("event=ready")
    except FileNotFoundError:
        return 0
