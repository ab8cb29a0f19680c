"""For how long a call that is cut off is made again."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry import errors
from wherry.cut_off import LIMIT_S, CutOff
from wherry.wire.status import ConnectionLost


class Hand:
    """A clock that is moved by hand, and by those who sleep."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept: list[float] = []
        self.cut_off = CutOff(Path("home"), lambda: self.now_s, self.sleep)

    def sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.now_s += pause_s

    def cut(self, error: errors.CommError | None = None, end_s: float | None = None) -> None:
        self.cut_off.wait_again(error or ConnectionLost("It broke."), end_s)


def test_number_of_tries_ends_a_call() -> None:
    """Cuts end a call when they have gone on for a minute, however many there were before."""
    hand = Hand()
    for _ in range(20):
        hand.cut()
    hand.now_s = 1000.0 + LIMIT_S
    with pytest.raises(errors.CommError, match=r"21 times in 60 s .* It broke\.") as caught:
        hand.cut(errors.DaemonLeaving("It broke."))
    assert not isinstance(caught.value, ConnectionLost)
    assert "wherry daemon logs" in str(caught.value)


def test_pauses_do_not_grow() -> None:
    """The first try is at once; then pauses grow, to two seconds."""
    hand = Hand()
    for _ in range(10):
        hand.cut()
    assert hand.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]


def test_long_tries_end_a_call_early() -> None:
    """A call of which each try takes longer than the time has a few tries all the same."""
    hand = Hand()
    for _ in range(3):
        hand.cut()
        hand.now_s += 2 * LIMIT_S
    with pytest.raises(errors.CommError, match="ended 4 times"):
        hand.cut()


def test_progress_counts_for_nothing() -> None:
    """A call that comes further has its whole time again, and no pause."""
    hand = Hand()
    for _ in range(100):
        hand.cut()
        hand.now_s += LIMIT_S
        hand.cut_off.note_progress()
    assert hand.slept == []


def test_pause_outlasts_the_caller() -> None:
    """No pause is longer than the time that the caller has left."""
    hand = Hand()
    for _ in range(7):
        hand.cut(end_s=1003.0)
    assert hand.now_s == 1003.0
    hand.cut(end_s=1003.0)
    assert hand.now_s == 1003.0


@pytest.mark.parametrize(
    "error", [errors.ProtocolError("no"), errors.DaemonMissing("no"), errors.NotFoundError("no")]
)
def test_other_errors_are_tried_again(error: errors.CommError) -> None:
    """What is no cut is raised as it is."""
    with pytest.raises(type(error)) as caught:
        Hand().cut(error)
    assert caught.value is error
