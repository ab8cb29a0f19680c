"""The end of a run: waiting for its artifacts, and when to stop (docs/promises.md, "The end of a script").

Owns: the rule of 60 seconds, Ctrl-C, homes that may not outlive the script. Does not own: what is said at the
end (``ending``), how progress looks (``progress``), the exit hook (``exits``).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wherry import exits
from wherry import messages as pb
from wherry.connection import connect
from wherry.ending import (
    Ending,
    Watched,
    not_committed,
    not_recorded,
    not_visible,
    tell_left,
)
from wherry.errors import (
    CommError,
    DaemonNotStarted,
    NotCommitted,
    NotFoundError,
    WaitTimeoutError,
    WherryError,
)
from wherry.notices import say
from wherry.progress import Line, Pace, describe
from wherry.run_notes import record_end
from wherry.ticket import PAUSE_S, is_final

STALLED_S = 60.0
_TELL_EVERY_S = 2.0
_SLICE_S = 20.0
#: What a look takes at most, where there is no time to wait.
_LOOK_S = 1.0
#: For the records of runs, which take a moment; where the home lasts the daemon goes on after that.
_RECORD_S = 10.0
#: Between two looks at other threads' calls.
_CALLS_S = 0.05
#: Before a daemon that could not be started is started again.
_START_PAUSE_S = 3.0
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

    def may_help(self, error: CommError) -> bool:
        """Tell whether to ask again after an error.

        Where the home lasts, the next program starts the daemon; else there may be none.
        """
        if self.timeout_s is not None and isinstance(error, DaemonNotStarted):
            return True
        return not is_final(error)


def finish(endings: Sequence[Ending]) -> None:
    """Wait for what runs have logged as the rules say, and tell what became of it.

    Runs of one home are waited for together. Ctrl-C ends all waiting, and so does what a signal's
    handler raises to end the script; that goes on its way when all has been told.

    Raises:
        UpsertNotVisible: an upsert is not in its draft.
        NotCommitted: a home may not outlive the script, and something is not in the store.
    """
    failures: list[NotCommitted] = []
    stop: KeyboardInterrupt | SystemExit | None = None
    for (home, timeout_s, _), group in _by_home(endings).items():
        rules = Rules(timeout_s) if stop is None else Rules(timeout_s and 0.0, 0.0)
        watched = Watched(time.monotonic())
        line = Line(sys.stderr, watched.begun_s)
        try:
            why = _wait(home, group, rules, watched, line)
        except (KeyboardInterrupt, SystemExit) as raised:
            stop, why = raised, "more"
        try:
            recorded = record_ends(home, group, _record_s(rules, watched, why))
        except (KeyboardInterrupt, SystemExit) as raised:
            stop, recorded = raised, False
        line.clear()
        if why and stop is not None:
            why = "interrupted" if isinstance(stop, KeyboardInterrupt) else "the script is ended"
        failures += not_visible(watched, group, why)
        if rules.timeout_s is None:
            tell_left(watched, group, why)
            if not why and not recorded:
                say("left to the daemon: what the run has used, and that it has ended.")
        else:
            failures += not_committed(watched, group, why)
            if not why and not recorded:
                failures.append(not_recorded(group))
    _raise(failures, stop)


def record_ends(home: Path, group: Sequence[Ending], wait_s: float | None) -> bool:
    """Tell that runs have ended; whether the store has all that is noted of them.

    Args:
        wait_s: how long to wait for that; None: the daemon can't even be told.
    """
    records = [ending.record for ending in group if ending.record is not None]
    if not records:
        return True
    if wait_s is None:
        return False
    end_s = time.monotonic() + wait_s
    try:
        told = [record_end(home, each, 0.0) for each in records]
        if wait_s > 0:  # all have been told before one is waited for
            told = [record_end(home, each, max(0.0, end_s - time.monotonic())) for each in records]
    except WherryError as error:
        say(f"that the run has ended could not be noted: {error}")
        return False
    return all(told)


def _record_s(rules: Rules, watched: Watched, why: str) -> float | None:
    """How long to wait for the runs' records, when all else has been waited for."""
    if watched.trouble:
        return None
    if why:
        return 0.0
    if rules.timeout_s is None:
        return _RECORD_S
    return max(_RECORD_S, watched.begun_s + rules.timeout_s - time.monotonic())


_Group = tuple[Path, float | None, bool]


def _by_home(endings: Sequence[Ending]) -> dict[_Group, list[Ending]]:
    groups: dict[_Group, list[Ending]] = {}
    for ending in endings:
        group = ending.home, ending.timeout_s, ending.only_upserts
        groups.setdefault(group, []).append(ending)
    return groups


def _raise(failures: list[NotCommitted], stop: KeyboardInterrupt | SystemExit | None) -> None:
    """Raise the first failure; say the others, and all of them where the script has its own end."""
    ends = isinstance(stop, SystemExit)
    for failure in failures[not ends :]:
        say(f"{failure.__class__.__name__}: {failure}")
    if isinstance(stop, SystemExit):
        if failures:
            exits.note_failure(stop)
        raise stop
    if failures:
        raise failures[0]


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


def _wait(home: Path, group: Sequence[Ending], rules: Rules, watched: Watched, line: Line) -> str:
    """Return "" when all have ended, or why waiting stopped before."""
    why = _wait_calls(group, rules, watched)
    if why or not any(ending.logged.anything for ending in group):
        return why
    run_ids = dict.fromkeys(ending.run_id for ending in group)
    request = pb.WaitRequest(
        run_ids=run_ids, every_s=_TELL_EVERY_S, only_upserts=group[0].only_upserts
    )
    pace, looked = Pace(), False
    while True:
        now_s = time.monotonic()
        why = rules.why_end(watched.begun_s, watched.moved_s, now_s)
        if why and looked:
            return why + watched.trouble
        left_s = _LOOK_S if why else rules.left_s(watched.begun_s, watched.moved_s, now_s)
        looked = True
        states = connect(home).server_stream("Wait", request, pb.RequestState, left_s)
        try:
            _listen(states, watched, line, pace)
            return ""
        except WaitTimeoutError:
            continue
        except NotFoundError as error:
            return f"the daemon can't say more: {error.message}"
        except CommError as error:
            watched.trouble = f"; the daemon can't be asked: {error.message}"
            if not rules.may_help(error):
                return watched.trouble.removeprefix("; ")
            time.sleep(min(_START_PAUSE_S if is_final(error) else PAUSE_S, left_s))
        except WherryError as error:
            return f"the daemon can't say more: {error.message}"


def _listen(states: Iterator[pb.RequestState], watched: Watched, line: Line, pace: Pace) -> None:
    for state in states:
        now_s = time.monotonic()
        watched.note(state, now_s)
        if line.is_due(now_s):
            line.show(describe(watched.states.values(), pace, now_s), now_s)


def _wait_calls(group: Sequence[Ending], rules: Rules, watched: Watched) -> str:
    """Wait for other threads' calls of log_artifact: what they log is not the daemon's before.

    Each of them ends by itself; while one lasts, there is progress.
    """
    while any(ending.logged.calls() for ending in group):
        now_s = watched.moved_s = time.monotonic()
        why = rules.why_end(watched.begun_s, now_s, now_s)
        if why:
            return why
        time.sleep(_CALLS_S)
    return ""
