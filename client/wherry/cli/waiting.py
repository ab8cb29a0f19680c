"""Waits for requests. Owns: following them to their ends, and what became of them in all.

Does not own: how progress looks (``progress``), which requests are meant.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wherry import messages as pb
from wherry.cli.states import ENDED
from wherry.errors import NotFoundError, WaitTimeoutError

if TYPE_CHECKING:
    from wherry.cli.calls import Daemon
    from wherry.cli.progress import Progress
_IDS_A_CALL = 1_000
#: What a look may take when the time is over, or was none from the start.
LOOK_S = 1.0


class Outcome(NamedTuple):
    """What became of requests; each is in one of the lists, as it was told last."""

    committed: list[pb.RequestState]
    failed: list[pb.RequestState]  # and cancelled
    left: list[pb.RequestState]  # not ended: the time was over, or offline mode holds them
    timed_out: bool  # also where the daemon told nothing of one in time

    @property
    def is_good(self) -> bool:
        """Whether all are committed."""
        return not (self.failed or self.left or self.timed_out)

    @property
    def states(self) -> list[pb.RequestState]:
        """All of them."""
        return [*self.committed, *self.failed, *self.left]


def wait_ended(
    daemon: Daemon, ids: Sequence[str], timeout_s: float | None, progress: Progress
) -> Outcome:
    """Wait until requests have ended; no longer for one that offline mode holds.

    Args:
        daemon: of the requests' home.
        ids: whole ids.
        timeout_s: for all together; None waits for ever. A look at those of which nothing was told by
            then comes on top.
        progress: is told of each change.

    Raises:
        NotFoundError: the home knows no such request.
    """
    seen: dict[str, pb.RequestState] = {}
    timed_out = False
    with progress:
        progress.begin(len(ids))
        try:
            for state in _changes(daemon, ids, _end(timeout_s)):
                seen[state.request_id] = state
                progress.note(state)
        except WaitTimeoutError:
            timed_out = True
            _look(daemon, [id_ for id_ in ids if id_ not in seen], seen)
    _check_known(ids, seen, timed_out=timed_out)
    is_open = len(seen) < len(ids) or any(state.state not in ENDED for state in seen.values())
    return _outcome(list(seen.values()), timed_out=timed_out and is_open)


def _look(daemon: Daemon, ids: Sequence[str], seen: dict[str, pb.RequestState]) -> None:
    """Ask how those are of which nothing was told: the time may have been too short for one answer."""
    end_s = _end(LOOK_S)
    try:
        for first in range(0, len(ids), _IDS_A_CALL):
            untold = set(part := ids[first : first + _IDS_A_CALL])
            for state in daemon.wait(part, _left_s(end_s)):
                seen[state.request_id] = state
                untold.discard(state.request_id)
                if not untold:
                    break
    except WaitTimeoutError:
        pass


def _changes(daemon: Daemon, ids: Sequence[str], end_s: float | None) -> Iterator[pb.RequestState]:
    """One part after the other: all have to end anyway."""
    for first in range(0, len(ids), _IDS_A_CALL):
        part = ids[first : first + _IDS_A_CALL]
        open_ = set(part)
        changes = daemon.wait(part, _left_s(end_s))
        for state in changes:
            yield state
            if state.last or state.state in (*ENDED, "held"):
                open_.discard(state.request_id)
            if not open_:
                break


def _check_known(ids: Sequence[str], seen: Container[str], *, timed_out: bool) -> None:
    """Nothing is told of a request that the home does not know."""
    unknown = [id_ for id_ in ids if id_ not in seen]
    if unknown and not timed_out:
        raise NotFoundError(
            f"The daemon knows no request {', '.join(unknown[:3])}.",
            hint="Done requests are forgotten after 30 days; `wherry queue` lists the others.",
        )


def _outcome(states: Sequence[pb.RequestState], *, timed_out: bool) -> Outcome:
    return Outcome(
        committed=[state for state in states if state.state == "done"],
        failed=[state for state in states if state.state in ("failed", "cancelled")],
        left=[state for state in states if state.state not in ENDED],
        timed_out=timed_out,
    )


def _end(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _left_s(end_s: float | None) -> float | None:
    return None if end_s is None else max(end_s - time.monotonic(), 0.001)
