"""What one holds of a request that the daemon has promised to do.

Owns: asking the daemon how it stands, and waiting for its end. Does not own: the request's content,
and several at once (``finishing``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from wherry import errors
from wherry import messages as pb
from wherry.connection import connect
from wherry.progress import Line, Pace
from wherry.progress import describe as describe_progress

#: Pause before a daemon that went away is asked again; the first who asks starts the next one.
PAUSE_S = 0.2
_LOOK_TIMEOUT_S = 30.0
#: Unchanged states come again this often, so that a progress line stays alive.
_TELL_EVERY_S = 2.0


class Ticket:
    """One request of this home.

    Args:
        home: where the queue is.
        request_id: its UUID.
        label: names the artifact in messages.
        held: whether offline mode holds it.
    """

    def __init__(self, home: Path, request_id: str, label: str, *, held: bool) -> None:
        self.home = home
        self.request_id = request_id
        self.held = held
        self._label = label
        self._last: pb.RequestState | None = None

    def ask_anew(self) -> None:
        """Forget how it stood: something was added to what the daemon has to do for it."""
        self._last = None

    def look(self) -> pb.RequestState:
        """Ask once how it stands. Raises ``CommError``, ``NotFoundError``."""
        if not self._is_done():
            self._last = next(self._states(_LOOK_TIMEOUT_S), None)
        if self._last is None:
            raise errors.NotFoundError(f"The daemon does not know the request of {self._label}.")
        return self._last

    def committed(self) -> pb.RequestState | None:
        """Give the state if it has become a version; None while it has not.

        Raises:
            Offline: offline mode holds it.
            RequestFailed and whatever the request failed with.
        """
        state = self.look()
        self._check_not_held(state)
        if state.state == "failed" or state.state == "cancelled":
            raise failure(state)
        return state if state.state == "done" or state.state == "settled" else None

    def wait(self, timeout_s: float | None) -> pb.RequestState:
        """Return when it has become a version and has its aliases; tell meanwhile how far it is.

        Raises:
            WaitTimeoutError: it has not after ``timeout_s`` seconds; names the stage.
            Offline: offline mode holds it.
            RequestFailed and whatever the request failed with.
            CommError: there is no daemon, and none can be started.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        if not self._is_done():
            self._last = None  # one that failed may have been retried
        line, pace = Line(sys.stderr, time.monotonic()), Pace()
        try:
            while self._last is None or not self._last.last:
                left_s = None if end_s is None else end_s - time.monotonic()
                if left_s is not None and left_s <= 0:
                    self._check_once(timeout_s)
                    break
                self._follow(left_s, line, pace)
        finally:
            line.clear()
        assert self._last is not None
        if self._last.state != "done":
            raise failure(self._last)
        return self._last

    def _check_once(self, timeout_s: float | None) -> None:
        """With no time to wait: it has ended, or ``WaitTimeoutError`` says how it stands."""
        if self._last is None:
            self._check_not_held(self.look())
        if self._last is None or not self._last.last:
            raise self._timed_out(timeout_s)

    def _is_done(self) -> bool:
        return self._last is not None and self._last.state == "done"

    def _follow(self, left_s: float | None, line: Line, pace: Pace) -> None:
        try:
            for state in self._states(left_s):
                self._last = state
                self._check_not_held(state)
                now_s = time.monotonic()
                if not state.last and line.is_due(now_s):
                    line.show(describe_progress([state], pace, now_s), now_s)
        except errors.WaitTimeoutError:
            return
        except errors.CommError as error:
            if is_final(error):
                raise
            text = f"wherry: {self._label}: the daemon can't be asked: {error.message}"
            line.show(text, time.monotonic())
            time.sleep(PAUSE_S if left_s is None else min(PAUSE_S, left_s))

    def _states(self, timeout_s: float | None) -> Iterator[pb.RequestState]:
        request = pb.WaitRequest(request_ids=[self.request_id], every_s=_TELL_EVERY_S)
        return connect(self.home).server_stream(
            "Wait", request, pb.RequestState, timeout_s=timeout_s
        )

    def _check_not_held(self, state: pb.RequestState) -> None:
        if state.state == "held":
            raise errors.Offline(
                f"{self._label} is held by offline mode.", hint="Send it with: wherry sync"
            )

    def _timed_out(self, timeout_s: float | None) -> errors.WaitTimeoutError:
        stage = describe(self._last) if self._last else "the daemon did not answer"
        return errors.WaitTimeoutError(
            f"{self._label} is not committed after {timeout_s:g} s: {stage}.",
            hint="The work goes on; watch it with: wherry status",
        )


def is_final(error: errors.CommError) -> bool:
    """Tell whether asking another time can't help."""
    return isinstance(
        error,
        (
            errors.DaemonMissing,
            errors.DaemonNotStarted,
            errors.DaemonTooOld,
            errors.ProtocolError,
            errors.NotFoundError,
        ),
    )


def failure(state: pb.RequestState) -> errors.WherryError:
    """Make the error that a request ended with."""
    if state.state == "cancelled":
        return errors.Cancelled(
            f"{state.project}/{state.name} was cancelled.", hint="Log it again."
        )
    return errors.from_wire(state.error or "RequestFailed", state.reason)


_STAGES = {
    "held": "held by offline mode",
    "accepted": "its files are being hashed",
    "prepared": "its files are being uploaded",
    "uploaded": "it waits for its turn to be committed",
    "sending": "its version is being written",
    "settled": "its aliases are being set",
    "done": "committed",
    "failed": "failed",
    "cancelled": "cancelled",
}
_STAGES_OF_UPSERT = {
    "uploaded": "its part is about to be put into the draft",
    "sending": "its part is being put into the draft",
    "settled": "its part waits for a finish that is under way",
    "done": "in the draft",
}


def describe(state: pb.RequestState) -> str:
    """Say in which stage a request is, and why it does not go on if it does not."""
    stages = {**_STAGES, **_STAGES_OF_UPSERT} if state.kind == "upsert" else _STAGES
    text = stages.get(state.state, state.state)
    if state.state == "uploaded" and state.ahead:
        text = f"it waits for {state.ahead} before it in line"
    if state.error == "StoreChanged":
        text = "its lane stands still"
    if state.error:
        text += f" ({state.error}: {state.reason.partition(chr(10))[0]})"
    return text
