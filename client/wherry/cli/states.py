"""What a request's state means.

Owns: its JSON form, and the words that tell somebody who is woken at night what happens and what to do.
No I/O. Does not own: where states come from (``calls``), how they are laid out (``output``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from wherry import errors
from wherry import messages as pb
from wherry.cli.words import count_text, first_line, printable, seconds_until, span_text
from wherry.progress import size_text

#: In the order in which a request goes through them.
NOT_ENDED = ("held", "accepted", "prepared", "uploaded", "sending", "settled")
ENDED = ("done", "failed", "cancelled")
#: What there is to do: held requests wait for the user, not for the daemon.
WORK = NOT_ENDED[1:]

#: As many requests as Status has room for.
_SHOWN = 1000
_OF_UPSERT = {
    "uploaded": "being put into its draft",
    "sending": "being put into its draft",
    "settled": "in its draft, whose finish is under way",
    "done": "in its draft",
}
_RETRIED = "It is tried again by itself; mend it, and it goes on."
_REMEDIES: dict[str, str] = {
    "AccessRefused": "Mend the credentials or the permissions, or run any program that logs with"
    " good ones; it goes on by itself.",
    "StoreMissing": "Make the bucket or the folder, or mount it; it goes on by itself.",
    "StoreUnavailable": "It is tried again by itself, for as long as it takes.",
    "Defect": "It is tried again by itself, with growing pauses.",
    "StoreUnfit": "Choose another store (WHERRY_STORE), and log again.",
    "UpsertsPending": "It goes on when they are in the draft; `wherry status` shows them.",
    "DraftConflict": "Finish the draft again, by a new Artifact; it goes on by itself.",
    "SpoolFull": "Free space on the disk of the home; it goes on by itself.",
}


class Lane(NamedTuple):
    """A lane: requests in one lane commit in order."""

    store: str
    project: str
    name: str


def lane_of(state: pb.RequestState | pb.LaneState) -> Lane:
    """Give the lane of a request or of a stopped lane."""
    return Lane(state.store, state.project, state.name)


def request_json(state: pb.RequestState) -> dict[str, object]:
    """Give the keys that ``--json`` shows of a request; they stay as they are."""
    return {
        "request": state.request_id,
        "state": state.state,
        "project": state.project,
        "name": state.name,
        "type": state.type,
        "store": state.store,
        "run": state.run_id or None,
        "place": state.place or None,
        "ahead": state.ahead,
        "kind": state.kind or "log",
        "version": version_text(state) or None,
        "digest": state.digest or None,
        "entries": state.entries,
        "size": state.size,
        "bytes_done": state.bytes_done,
        "error": state.error or None,
        "reason": state.reason or None,
        "next_try": state.next_try or None,
        "accepted": state.accepted or None,
        "acknowledged": state.acknowledged,
    }


def lane_json(lane: pb.LaneState) -> dict[str, object]:
    """Give the keys that ``--json`` shows of a stopped lane."""
    return {"store": lane.store, "project": lane.project, "name": lane.name, "reason": lane.reason}


def version_text(state: pb.RequestState) -> str:
    """Write the version that a request became: ``v3``; "" before."""
    has_one = state.state in ("settled", "done")
    return f"v{state.version}" if has_one and state.version >= 0 else ""


def artifact_text(state: pb.RequestState | pb.LaneState) -> str:
    """Name the artifact: ``project/name``."""
    return printable(f"{state.project}/{state.name}")


def is_waiting(state: pb.RequestState) -> bool:
    """Tell a request that waits for something to get better from one that is going on."""
    return state.state in WORK and bool(state.error)


def headline(state: pb.RequestState) -> str:
    """Say in few words what becomes of the request."""
    if is_waiting(state):
        return f"waiting for {_waits_for(state.error)}"
    if state.kind == "upsert" and state.state in _OF_UPSERT:
        return _OF_UPSERT[state.state]
    if state.state == "uploaded":
        return "uploaded" if state.ahead else "committing"
    words = {
        "held": "held by offline mode",
        "accepted": "being hashed",
        "prepared": "being uploaded",
        "sending": "committing",
        "settled": f"committed as {version_text(state)}, aliases not moved yet",
        "done": f"committed as {version_text(state)}",
    }
    return words.get(state.state, state.state)


def sentences(state: pb.RequestState, short_id: str = "", now: datetime | None = None) -> list[str]:
    """Say why the request is where it is, when it is tried again, and what to do.

    Args:
        short_id: how the remedies name the request.
        now: for a test.
    """
    id_ = short_id or state.request_id
    if state.state == "held":
        return ["`wherry sync` sends it."]
    if state.state == "failed":
        again = f"`wherry retry {id_}` tries again, `wherry acknowledge {id_}` puts this away."
        return [*_reason(state), again]
    if not is_waiting(state):
        return []
    return [*_reason(state), *_next_try(state, now), *_remedy(state, id_)]


def lane_sentences(lane: pb.LaneState) -> list[str]:
    """Say why a lane stands still, and how it is set going."""
    return [
        *_lines(lane.reason),
        f"Look at the store {printable(lane.store)}. If it is the right one, run:",
        f"wherry retry --lane {artifact_text(lane)} --store '{printable(lane.store)}'",
    ]


def runs_json(runs: pb.RunsState) -> dict[str, object]:
    """Give the keys that ``--json`` shows of runs whose records are on the way."""
    return {"waiting": runs.waiting, "held": runs.held, "reason": runs.reason or None}


def runs_sentences(runs: pb.RunsState) -> list[str]:
    """Say of how many runs something is not in the store yet, and why."""
    told = []
    if runs.waiting:
        why = f": {printable(first_line(runs.reason))}" if runs.reason else ""
        told.append(f"what {count_text(runs.waiting, 'run')} did is not in the store yet{why}")
    if runs.held:
        told.append(f"what {count_text(runs.held, 'run')} did is held by offline mode")
    return told


def set_aside_sentences(files: Sequence[str]) -> list[str]:
    """Say that damaged queues were set aside, and what that means for what was in them."""
    if not files:
        return []
    return [
        "A damaged queue was set aside, and a new one begun:",
        *map(printable, files),
        "Requests that were in it and not done are not sent. The files that they captured are kept in",
        "the home's spool as long as it lies there, and so are those that nobody needs. Log again what",
        "is missing (`wherry ls`), then remove it and what begins with its name.",
    ]


def counts_text(counts: Mapping[str, int]) -> str:
    """Sum up: ``3 not done (2 accepted, 1 sending), 1 failed, 120 done``."""
    open_ = {state: counts.get(state, 0) for state in NOT_ENDED if counts.get(state)}
    parts = []
    if open_:
        listed = ", ".join(f"{count:,} {state}" for state, count in open_.items())
        parts.append(f"{sum(open_.values()):,} not done ({listed})")
    parts += [f"{counts[state]:,} {state}" for state in reversed(ENDED) if counts.get(state)]
    return ", ".join(parts) or "nothing was logged here yet"


def shown_counts(found: pb.StatusReply) -> dict[str, int]:
    """Count the requests by state, without failures that were acknowledged."""
    failed = sum(1 for state in found.requests if state.state == "failed")
    # Where only failures are shown there may be more.
    return dict(found.counts) if failed == _SHOWN else {**found.counts, "failed": failed}


def not_shown(found: pb.StatusReply) -> int:
    """Count the requests that are not done and that Status had no room for."""
    open_ = sum(found.counts.get(state, 0) for state in NOT_ENDED)
    return open_ - sum(1 for state in found.requests if state.state in NOT_ENDED)


def outcome_text(state: pb.RequestState) -> str:
    """Tell in one line what became of a request, for sums at the end of a command."""
    name = artifact_text(state)
    match state.state:
        case "done" | "settled" if state.kind != "upsert":
            return f"{name}:{version_text(state)}"
        case "done":
            return f"{name} is in its draft"
        case "failed":
            return f"{name} failed: {' '.join(_reason(state))} (request {state.request_id})"
        case "cancelled":
            return f"{name} was cancelled (request {state.request_id})"
    why = " ".join(_reason(state)) if is_waiting(state) else ""
    behind = f"behind {count_text(state.ahead, 'other')}" if state.ahead else ""
    told = ": ".join(part for part in (headline(state), why or behind) if part)
    return f"{name} is {told} ({size_text(state.size)}, request {state.request_id})"


def _waits_for(error: str) -> str:
    kind = errors.BY_NAME.get(error, errors.WherryError)
    if issubclass(kind, errors.StoreError):
        return "the store"
    if issubclass(kind, errors.ReferenceFailed):
        return "a reference"
    if issubclass(kind, errors.UpsertsPending):
        return "upserts to its draft"
    if issubclass(kind, errors.DraftConflict):
        return "another finish of its draft"
    if issubclass(kind, errors.SpoolFull | errors.QueueError):
        return "the home's disk"
    return "better times"


def _reason(state: pb.RequestState) -> list[str]:
    return _lines(state.reason) or [f"{state.error or 'No reason was noted'}."]


def _lines(reason: str) -> list[str]:
    """Make sentences of a message and its hint, which may be written without a full stop."""
    lines = (printable(line.strip()) for line in reason.splitlines() if line.strip())
    return [line if line[-1] in ".!?:;`" else f"{line}." for line in lines]


def _next_try(state: pb.RequestState, now: datetime | None) -> list[str]:
    left_s = seconds_until(state.next_try, now)
    if left_s is None:
        return []
    return ["Next try now." if left_s < 1 else f"Next try in {span_text(left_s)}."]


def _remedy(state: pb.RequestState, id_: str) -> list[str]:
    if state.error == "StoreChanged":  # `wherry retry` of the request would not set its lane going
        lane = lane_of(state)
        return lane_sentences(pb.LaneState(**lane._asdict()))
    has_hint = "\n" in state.reason.strip()
    told = [] if has_hint else [_REMEDIES.get(state.error, _RETRIED)]
    may_be_there = state.state in ("sending", "settled")  # then it can't be taken back
    cancel = "" if may_be_there else f", `wherry cancel {id_}` gives it up"
    return [*told, f"`wherry retry {id_}` tries now{cancel}."]
