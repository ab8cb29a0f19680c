"""The end of a run: waiting for its artifacts, and when to stop (docs/promises.md, "The end of a script").

Owns: the rule of 60 seconds, Ctrl-C, homes that may not outlive the script, what is said at the end.
Does not own: how progress looks (``progress``), the exit hook (``exits``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from wherry import messages as pb
from wherry.connection import connect
from wherry.errors import CommError, NotCommitted, WaitTimeoutError
from wherry.notices import say
from wherry.progress import Line, Pace, describe
from wherry.ticket import PAUSE_S, is_final
from wherry.ticket import describe as describe_stage

STALLED_S = 60.0
_TELL_EVERY_S = 2.0
_SLICE_S = 20.0
#: What a look takes at most, where there is no time to wait.
_LOOK_S = 1.0
_NAMED = 10
_HELD = "offline mode holds what is left"
_IN_A_CONTAINER = ("/.dockerenv", "/run/.containerenv")


class Rules(NamedTuple):
    """When waiting ends.

    ``timeout_s`` is None where the home outlives the script: then a stand-still ends it.
    """

    timeout_s: float | None
    stalled_s: float = STALLED_S

    def why_end(self, begun_s: float, moved_s: float, now_s: float) -> str:
        """Say why to stop waiting now; "" to go on.

        Args:
            begun_s: when waiting began, on the clock of ``now_s``.
            moved_s: when there was progress last.
        """
        if self.timeout_s is not None:
            over = now_s - begun_s >= self.timeout_s
            return f"WHERRY_FINISH_TIMEOUT of {self.timeout_s:g} s is over" if over else ""
        return f"no progress for {self.stalled_s:g} s" if now_s - moved_s >= self.stalled_s else ""

    def left_s(self, begun_s: float, moved_s: float, now_s: float) -> float:
        """How long the daemon may be listened to before the rules are looked at again."""
        limits = [_SLICE_S]
        if self.timeout_s is not None:
            limits.append(begun_s + self.timeout_s - now_s)
        else:
            limits.append(moved_s + self.stalled_s - now_s)
        return max(min(limits), 0.05)


class Watched:
    """The requests of one run, as they were told last."""

    def __init__(self, now_s: float) -> None:
        self.states: dict[str, pb.RequestState] = {}
        self.begun_s = self.moved_s = now_s
        self.is_complete = False
        """Whether the daemon has told of every request: it tells of one the second time."""
        self._told: set[str] = set()  # in this stream

    def begin_stream(self) -> None:
        """From now on the daemon tells of all requests anew."""
        self._told.clear()

    def note(self, state: pb.RequestState, now_s: float) -> None:
        """Take in what was told; whatever shows that work goes on is progress."""
        known = self.states.get(state.request_id)
        if known is None or _progress(known) != _progress(state):
            self.moved_s = now_s
        self.states[state.request_id] = state
        self.is_complete = state.request_id in self._told
        self._told.add(state.request_id)

    def only_held(self) -> bool:
        """Whether nothing can move: offline mode holds all that is left, and all was told of."""
        pending = self.pending()
        held = bool(pending) and all(state.state == "held" for state in pending)
        return held and self.is_complete

    def pending(self) -> list[pb.RequestState]:
        """Those that may still become versions."""
        return [state for state in self.states.values() if not state.last]

    def failed(self) -> list[pb.RequestState]:
        """Those that failed, and nobody has taken notice of it."""
        return [
            state
            for state in self.states.values()
            if state.state == "failed" and not state.acknowledged
        ]


def finish_run(home: Path, run_id: str, rules: Rules) -> None:
    """Wait for a run's artifacts as the rules say, and tell what became of them.

    Raises:
        NotCommitted: the home may not outlive the script, and something is not in the store.
    """
    watched = Watched(time.monotonic())
    line = Line(sys.stderr, watched.begun_s)
    try:
        why = _wait(home, run_id, rules, watched, line)
    except KeyboardInterrupt:
        why = "interrupted"
    line.clear()
    _tell_failed(watched)
    if rules.timeout_s is not None and (why or watched.failed()):
        raise _not_committed(watched, why)
    if why:
        _tell_left(watched, why)


def home_lasts(said: bool | None, environ: Mapping[str, str]) -> bool:
    """Tell whether the home outlives the script, as far as one can know.

    Args:
        said: the setting ``home_lasts``; it settles the question.
    """
    if said is not None:
        return said
    if os.getpid() == 1 or os.getppid() == 1:
        return False
    if environ.get("SLURM_JOB_ID") or environ.get("KUBERNETES_SERVICE_HOST"):
        return False
    return not any(os.path.exists(sign) for sign in _IN_A_CONTAINER)


def _wait(home: Path, run_id: str, rules: Rules, watched: Watched, line: Line) -> str:
    """Return "" when all have ended, or why waiting stopped before."""
    pace = Pace()
    request = pb.WaitRequest(run_id=run_id, every_s=_TELL_EVERY_S)
    looked = False
    while True:
        now_s = time.monotonic()
        why = rules.why_end(watched.begun_s, watched.moved_s, now_s)
        if why and looked:
            return why
        left_s = _LOOK_S if why else rules.left_s(watched.begun_s, watched.moved_s, now_s)
        looked = True
        watched.begin_stream()
        states = connect(home).server_stream("Wait", request, pb.RequestState, timeout_s=left_s)
        try:
            for state in states:
                now_s = time.monotonic()
                watched.note(state, now_s)
                if watched.only_held():
                    return _HELD
                if line.is_due(now_s):
                    line.show(describe(watched.states.values(), pace, now_s), now_s)
        except WaitTimeoutError:
            continue
        except CommError as error:
            if is_final(error):
                return f"the daemon can't be asked: {error.message}"
            time.sleep(PAUSE_S)
            continue
        return ""


def _progress(state: pb.RequestState) -> tuple[str, int, int, int, int]:
    return state.state, state.bytes_done, state.ahead, state.version, state.place


def _tell_failed(watched: Watched) -> None:
    failed = watched.failed()
    for state in failed[:_NAMED]:
        say(f"{_name(state)} failed: {state.error}: {state.reason}")
    if len(failed) > _NAMED:
        say(f"{len(failed) - _NAMED} more failed; see: wherry status")


def _tell_left(watched: Watched, why: str) -> None:
    if why == _HELD:
        say(f"not sent ({why}): {_listed(watched)}. Send it with: wherry sync")
        return
    say(
        f"left to the daemon ({why}): {_listed(watched)}."
        " Nothing is lost; watch it with: wherry status"
    )


def _not_committed(watched: Watched, why: str) -> NotCommitted:
    text = f" ({why})" if why else ""
    return NotCommitted(
        f"Not in the store{text}: {_listed(watched)}.",
        hint="Send it with `wherry sync`, and call that before the machine ends."
        if why == _HELD
        else "This home may not outlive the script. Keep the machine until `wherry status` shows"
        " nothing, or set WHERRY_HOME_LASTS=yes where the home stays.",
    )


def _listed(watched: Watched) -> str:
    states = [*watched.failed(), *watched.pending()]
    listed = "; ".join(f"{_name(state)}: {describe_stage(state)}" for state in states[:_NAMED])
    more = f"; and {len(states) - _NAMED} more" if len(states) > _NAMED else ""
    return (listed or "the run's artifacts, of which the daemon told nothing") + more


def _name(state: pb.RequestState) -> str:
    return f"{state.project}/{state.name}"
