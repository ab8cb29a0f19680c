"""What is known of some runs' requests when the runs end, and how it is told.

Owns: what counts as progress, the words at the end. Does not own: when waiting ends (``finishing``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wherry import messages as pb
from wherry.errors import NotCommitted, UpsertNotVisible
from wherry.logged import Logged
from wherry.notices import say
from wherry.ticket import describe

_NAMED = 10
_UNTOLD = "the run's artifacts, of which the daemon told nothing"


class Ending(NamedTuple):
    """A run whose artifacts are waited for."""

    home: Path
    timeout_s: float | None  # how long; None where the home lasts
    run_id: str
    logged: Logged
    only_upserts: bool = False  # the rest is left to the daemon
    record: pb.NoteRunRequest | None = None  # tells that the run has ended, when all else has


class Watched:
    """The requests of some runs, as they were told last."""

    def __init__(self, now_s: float) -> None:
        self.states: dict[str, pb.RequestState] = {}
        self.begun_s = self.moved_s = now_s
        self.trouble = ""  # why nothing more is told

    def note(self, state: pb.RequestState, now_s: float) -> None:
        """Take in what was told; whatever shows that work goes on is progress."""
        known = self.states.get(state.request_id)
        if known is None or _is_further(known, state):
            self.moved_s = now_s
        self.states[state.request_id] = state
        self.trouble = ""

    def pending(self) -> list[pb.RequestState]:
        """Those that may still become versions."""
        return [state for state in self.states.values() if not state.last and state.state != "held"]

    def held(self) -> list[pb.RequestState]:
        """Those that offline mode holds: no waiting moves them."""
        return [state for state in self.states.values() if state.state == "held"]

    def failed(self) -> list[pb.RequestState]:
        """Those that failed, and nobody has taken notice of it."""
        return [
            state
            for state in self.states.values()
            if state.state == "failed" and not state.acknowledged
        ]


def is_visible(state: pb.RequestState) -> bool:
    """Tell whether an upsert is in its draft, or is there for the next finish to take."""
    is_put = state.state == "settled" and state.error == "DraftConflict"
    return state.state == "done" or is_put


def not_visible(watched: Watched, group: Sequence[Ending], why: str) -> Iterator[UpsertNotVisible]:
    """Give the error that names the upserts that are not in their drafts, if there are any.

    Args:
        why: as in ``tell_left``.
    """
    if not any(ending.logged.upserts for ending in group):
        return
    upserts = [state for state in watched.states.values() if state.kind == "upsert"]
    missing = [state for state in upserts if not is_visible(state)]
    unseen = _said(missing)
    if why and not upserts:
        unseen.append(_UNTOLD)
    if unseen:
        text = f" ({why})" if why else ""
        hint = "Others may rely on it. Look with `wherry status`; what waits goes on without the script."
        if any(state.error == "DraftFinished" for state in missing):
            hint = 'Use another distributed_id, for instance f"{group}-{epoch}".'
        yield UpsertNotVisible(f"Not in the draft{text}: {_listed(unseen)}.", hint=hint)


def tell_left(watched: Watched, group: Sequence[Ending], why: str) -> None:
    """Say what failed, what goes on without the script, and what does not.

    Args:
        why: waiting stopped before all had ended; "" where it did not.
    """
    _tell_failed(watched)
    if why:
        text = _listed(_left(watched, group)) or _UNTOLD
        say(f"left to the daemon ({why}): {text}. Nothing is lost; watch it with: wherry status")
        for label in _calls(group):
            say(f"{label} is being logged just now, and safe only if log_artifact returns.")
    if watched.held():
        say(f"{_listed(_said(watched.held()))}. Send it with: wherry sync")


def not_committed(watched: Watched, group: Sequence[Ending], why: str) -> Iterator[NotCommitted]:
    """Say what failed; give the error that names all that is not in the store, if anything is not.

    Args:
        why: as in ``tell_left``.
    """
    _tell_failed(watched)
    unsafe = _said(watched.failed())
    if why:
        unsafe += _left(watched, group)
        unsafe += [f"{label}: log_artifact has not returned" for label in _calls(group)]
    unsafe += _said(watched.held())
    if not why and not unsafe:
        return
    text = f" ({why})" if why else ""
    sync = " `wherry sync` sends what offline mode holds." if watched.held() else ""
    yield NotCommitted(
        f"Not in the store{text}: {_listed(unsafe) or _UNTOLD}.",
        hint="This home may not outlive the script. Keep the machine until `wherry status` shows"
        f" nothing, or set WHERRY_HOME_LASTS=yes where the home stays.{sync}",
    )


def not_recorded(group: Sequence[Ending]) -> NotCommitted:
    """Give the error for runs whose own records are not in the store, though their artifacts are."""
    runs = ", ".join(dict.fromkeys(ending.run_id for ending in group))
    return NotCommitted(
        f"Not in the store: what run {runs} has used, and that it has ended.",
        hint="Its artifacts are there. Keep the machine until `wherry status` shows nothing, or set"
        " WHERRY_HOME_LASTS=yes where the home stays.",
    )


def _left(watched: Watched, group: Sequence[Ending]) -> list[str]:
    """Say how each request stands that may still become a version, as far as it is known."""
    if any(ending.only_upserts for ending in group):
        return _said(watched.pending())
    told = {_name(state) for state in watched.states.values()}
    labels = dict.fromkeys(label for ending in group for label in ending.logged.labels)
    untold = [label for label in labels if label not in told]
    return _said(watched.pending()) + [f"{each}: the daemon told nothing of it" for each in untold]


def _calls(group: Sequence[Ending]) -> list[str]:
    return [label for ending in group for label in ending.logged.calls()]


def _tell_failed(watched: Watched) -> None:
    failed = watched.failed()
    for state in failed[:_NAMED]:
        say(f"{_name(state)} failed: {state.error}: {state.reason}")
    if len(failed) > _NAMED:
        say(f"{len(failed) - _NAMED} more failed; see: wherry status")


def _said(states: Iterable[pb.RequestState]) -> list[str]:
    return [f"{_name(state)}: {describe(state)}" for state in states]


def _listed(said: Sequence[str]) -> str:
    more = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    return "; ".join(said[:_NAMED]) + more


def _name(state: pb.RequestState) -> str:
    return f"{state.project}/{state.name}"


def _is_further(before: pb.RequestState, now: pb.RequestState) -> bool:
    """Tell whether work went on: a try that begins again at no bytes is not further for that."""
    stage = ("state", "ahead", "version", "place")
    if any(getattr(before, name) != getattr(now, name) for name in stage):
        return True
    return now.bytes_done > before.bytes_done
