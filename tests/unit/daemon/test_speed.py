"""How fast the spool empties, and so how long until it is empty."""

from __future__ import annotations

import pytest

from wherryd.capture.room import EVERY_S, _Speed
from wherryd.progress import Progress

_ROW = 7


class Spool:
    """One request's bytes in the spool, at a clock that the test turns."""

    def __init__(self, size: int = 1_000_000) -> None:
        self.now = 1000.0
        self.logged = size
        self.progress = Progress()
        self.progress.start(_ROW, is_sending=True)
        self.speed = _Speed()
        self.look()

    def look(self) -> bool:
        """Look at it now."""
        return self.speed.note(self.now, self.logged, self.progress)

    def pass_s(self, seconds: float, *, sent_per_s: int = 0, freed_per_s: int = 0) -> None:
        """Let time pass, looking as often as the daemon does."""
        for _ in range(int(seconds / EVERY_S)):
            self.now += EVERY_S
            self.progress.add(_ROW, int(sent_per_s * EVERY_S))
            self.logged -= int(freed_per_s * EVERY_S)
            self.look()

    @property
    def per_s(self) -> float:
        """What is told."""
        return self.speed.bytes_per_s


@pytest.mark.parametrize("seconds", [5, 50, 500])
def test_a_steady_speed_is_told_as_another(seconds: int) -> None:
    """Bytes that are sent, or leave without being sent, at a rate give this rate."""
    sending, freeing = Spool(), Spool()
    sending.pass_s(seconds, sent_per_s=1000)
    assert sending.per_s == pytest.approx(1000)
    freeing.pass_s(seconds, freed_per_s=1000)
    assert freeing.per_s == pytest.approx(1000)


def test_what_is_sent_and_leaves_counts_twice() -> None:
    """What is sent leaves some time after: it is the same bytes."""
    spool = Spool()
    spool.pass_s(30, sent_per_s=1000, freed_per_s=1000)
    assert spool.per_s == pytest.approx(1000)


def test_a_spool_that_stands_still_has_a_speed() -> None:
    """Where nothing leaves there is none: at first, a minute after the last byte, and once it is empty."""
    spool = Spool()
    assert spool.per_s == 0
    spool.pass_s(10)
    assert spool.per_s == 0
    spool.pass_s(10, sent_per_s=1000)
    spool.pass_s(59)
    assert 0 < spool.per_s < 200
    spool.pass_s(2)
    assert spool.per_s == 0
    spool.pass_s(10, sent_per_s=1000)
    assert spool.per_s
    spool.logged = 0
    spool.look()
    assert spool.per_s == 0


def test_a_pause_slows_what_follows_it() -> None:
    """A pause slows the minute that it is in; time before anything moved, while all is hashed, does not."""
    spool = Spool()
    spool.pass_s(40)
    spool.pass_s(10, sent_per_s=1000)
    assert spool.per_s == pytest.approx(1000)
    spool.pass_s(10)
    assert spool.per_s == pytest.approx(500)
    spool.pass_s(10, sent_per_s=1000)
    assert spool.per_s == pytest.approx(2000 / 3)
    spool.pass_s(60, sent_per_s=1000)
    assert spool.per_s == pytest.approx(1000)


def test_what_is_logged_meanwhile_runs_backwards() -> None:
    """Bytes that come in are none that fail to leave; a look says whether anything moved since the last."""
    spool = Spool()
    spool.pass_s(10, freed_per_s=1000)
    spool.speed.came(500_000)
    spool.logged += 500_000
    assert not spool.look()
    spool.pass_s(10, freed_per_s=1000)
    assert spool.per_s == pytest.approx(1000)
    spool.now += EVERY_S
    spool.logged -= 1
    assert spool.look()
