from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

import wherryd.queue.sqlite  # noqa: F401  (declares the places)
from tests.faults.queue.actor import WORKERS, Order, request_for
from tests.faults.queue.lives import LIVES, PATHS, states_after
from tests.soak import rounds
from wherry.wire.failpoints import DECLARED
from wherryd.clock import SystemClock
from wherryd.queue import changes, files, looks, staging
from wherryd.queue.base import Filter

PLACES = sorted(name for name in DECLARED if name.startswith("queue."))


class Actor:
    """The process that forks the processes to be killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.queue.actor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )

    def start(self, order: Order) -> int:
        """Start a process and return its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        pid = self._answer()
        assert pid > 1  # a signal to 0 or -1 would hit others
        return pid

    def wait_ended(self) -> int:
        """How the process ended: its exit code, or minus the signal."""
        return self._answer()

    def _answer(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def actor() -> Iterator[Actor]:
    """One for the module: its start takes most of the time."""
    actor = Actor()
    yield actor
    actor.close()


class Home:
    """A queue, and what its processes said that they have done."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "queue.db"
        self._said = folder / "said"
        self._said.touch()

    def order(self, lives: int, place: str = "", times: int = 1, lines: int = 0) -> Order:
        return Order(str(self.path.parent), str(self._said), lives, place, times, lines)

    def said(self) -> list[dict[str, Any]]:
        # A line that is cut off by the kill was not said.
        return [json.loads(line) for line in self._said.read_text().split("\n")[:-1]]

    def wait_said(self, more: int) -> None:
        """Return when this much more has been said."""
        wanted, deadline = len(self.said()) + more, time.monotonic() + 60
        while len(self.said()) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.0005)

    def check(self) -> None:
        """Whatever was said is there, each request once, in ascending places."""
        assert files.prepare(self.path, SystemClock()) is None
        with closing(files.connect(self.path)) as db:
            found = {request.id: request for request in looks.find(db, Filter(limit=100_000))}
            done = self._done()
            for id_, step in done.items():
                state = found[id_].state if id_ in found else ""
                assert state in states_after(step["life"], step["step"]), (step, state)
                if state not in ("", "done", "cancelled"):
                    entries = looks.entries(db, step["row"], None, 10)
                    assert tuple(entry.path for entry in entries) == PATHS
                if state:
                    again = changes.accept(db, 1, request_for(id_), 0.0).value
                    assert (again.again, again.row) == (True, step["row"])
            self._check_places(db)
            counted = dict(
                db.execute("SELECT state, count(*) FROM requests GROUP BY state").fetchall()
            )
            assert {state: n for state, n in looks.counts(db).items() if n} == counted
            assert len(found) == len({request.row for request in found.values()})

    def _done(self) -> dict[str, dict[str, Any]]:
        return {what["id"]: what for what in self.said() if "id" in what}

    def _check_places(self, db: Any) -> None:
        by_worker: dict[str, list[int]] = {}
        for what in self.said():
            if what.get("place"):
                by_worker.setdefault(what["worker"], []).append(what["place"])
        for places in by_worker.values():
            assert places == sorted(places)
        said = [place for places in by_worker.values() for place in places]
        assert len(said) == len(set(said))
        new = changes.accept(db, 2, request_for(f"new, {len(said)}"), 0.0).value
        assert new.place is not None and new.place > max(said, default=0)
        changes.cancel(db, 2, 0.0)
        staging.forget_ended(db, 1.0)

    def check_swept(self) -> None:
        """Nothing is left of streams that were cut: the start before was orderly."""
        with closing(files.connect(self.path)) as db:
            assert staging.orphans(db, 2**62) == []


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


# ── at each place ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.soak
@pytest.mark.parametrize(
    "place", [name for name in PLACES if not name.startswith(("queue.damaged.", "queue.closed.t"))]
)
def test_a_promise_lost_by_a_kill_at(actor: Actor, home: Home, place: str) -> None:
    """Killed at this place, the queue has all that it said was done, and goes on."""
    for times in range(1, 1 + rounds(1, 12)):
        actor.start(home.order(lives=4 * len(LIVES), place=place, times=times))
        ended = actor.wait_ended()
        # Making the file comes once in a home, other places again and again.
        assert ended == -signal.SIGKILL or (times > 1 and ended == 0)
        home.check()
    actor.start(home.order(lives=1))
    assert actor.wait_ended() == 0
    home.check()
    home.check_swept()


@pytest.mark.parametrize("place", [name for name in PLACES if name.startswith("queue.damaged.")])
def test_a_damaged_queue_lost_by_a_kill_at(actor: Actor, home: Home, place: str) -> None:
    """Killed while a damaged queue is set aside, all its bytes are there, and the next start works."""
    home.path.write_bytes(b"damaged" * 1000)
    log = home.path.with_name("queue.db-wal")
    log.write_bytes(b"its log" * 1000)
    actor.start(home.order(lives=1, place=place))
    assert actor.wait_ended() == -signal.SIGKILL
    actor.start(home.order(lives=1))
    assert actor.wait_ended() == 0
    (aside,) = home.path.parent.glob("queue.db.damaged-*Z")
    assert aside.read_bytes() == b"damaged" * 1000
    assert aside.with_name(aside.name + "-wal").read_bytes() == b"its log" * 1000
    home.check()


# ── right after an answer ──────────────────────────────────────────────────────────────────────
@pytest.mark.soak
def test_an_answer_before_it_is_durable(actor: Actor, home: Home) -> None:
    """What a call has returned is durable at that very moment, whichever call it is."""
    steps = sum(len(steps) + 1 for steps in LIVES.values())
    for line in range(1, WORKERS * steps, rounds(7, 1)):
        actor.start(home.order(lives=len(LIVES), lines=line))
        assert actor.wait_ended() == -signal.SIGKILL
        home.check()


# ── at any moment ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.soak
def test_a_promise_lost_by_a_kill_at_any_moment(actor: Actor, home: Home) -> None:
    """Killed at random moments, again and again, the queue has all that it said was done."""
    chance = random.Random(7)
    for _ in range(rounds(8, 500)):
        pid = actor.start(home.order(lives=10_000))
        home.wait_said(chance.randrange(1, 60))
        time.sleep(chance.random() * 0.005)
        os.kill(pid, signal.SIGKILL)
        assert actor.wait_ended() == -signal.SIGKILL
        home.check()
    actor.start(home.order(lives=1))
    assert actor.wait_ended() == 0
    home.check_swept()
