"""What happens to a request: each arrow of ``schema.sql`` as a plain function of the connection.

Owns: which state each change may start from, places in line, what a request's row says then.
Does not own: entries (``staging``), stores and artifacts (``knowledge``), transactions (``group``).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Sequence

from wherry.errors import NotFoundError, RequestIdTaken, TypeTaken
from wherryd.model import Manifest, RequestKind, RunInfo, State
from wherryd.queue import run_notes
from wherryd.queue.base import RUNS, Accepted, Known, NewRequest, Sent, WrongState
from wherryd.queue.group import Changed
from wherryd.queue.knowledge import known, learn, note_sent, store_id
from wherryd.queue.queries import Value, all_rows, change, one_row
from wherryd.queue.rows import Head, head_of, json, lane_values, request_values, strings

#: Nothing of the request can be in the store yet.
UNSENT = (State.HELD, State.ACCEPTED, State.PREPARED, State.UPLOADED)
ENDED = (State.DONE, State.FAILED, State.CANCELLED)
GOING = tuple(state for state in State if state not in ENDED)
#: A request that enters one of these may be, or may make room for, the first of its lane that can go.
_MOVES_LANE = (State.UPLOADED, State.FAILED, State.CANCELLED)


def head(db: sqlite3.Connection, row: int, *states: State) -> Head:
    """The request, if it is in one of ``states``; else ``WrongState``."""
    found = one_row(db, "head", row=row)
    if found is None:
        raise WrongState(f"there is no request in row {row}")
    request = head_of(found)
    if request.state not in states:
        raise WrongState(f"request {request.id} is {request.state}, not {' or '.join(states)}")
    return request


# ── coming in ──────────────────────────────────────────────────────────────────────────────────
def accept(db: sqlite3.Connection, row: int, request: NewRequest, now: float) -> Changed[Accepted]:
    """A stream's end → held, or accepted in the next place of the line."""
    before = one_row(db, "accepted_before", id=request.id)
    if before is not None:
        return Changed(_same_again(before, request))
    there = known(db, request.lane)
    _refuse_other_type(db, request, there)
    state = State.HELD if request.offline else State.ACCEPTED
    place = None if request.offline else _next_place(db)
    change(
        db,
        "insert_request",
        **request_values(request),
        row=row,
        state=state,
        place=place,
        floor=there.highest,
        floor_store=there.store_id,
        now=now,
    )
    return Changed(Accepted(row, place, again=False), (state, request.id))


def _same_again(before: sqlite3.Row, request: NewRequest) -> Accepted:
    if before["body"] != request.body:
        raise RequestIdTaken(
            f"request id {request.id} was used before, for something else",
            hint="log again: each call makes an id of its own",
        )
    return Accepted(before["row"], before["place"], again=True)


def _refuse_other_type(db: sqlite3.Connection, request: NewRequest, there: Known) -> None:
    other = there.type
    if other is None:
        values = lane_values(request.lane)
        waiting = one_row(db, "other_type_waiting", **values, type=request.type)
        other = waiting["type"] if waiting else None
    if other is not None and other != request.type:
        raise TypeTaken(
            f"artifact {request.lane.name!r} of project {request.lane.project!r} has type {other!r}, "
            f"not {request.type!r}",
            hint=f"log it with type={other!r}, or under another name",
        )


def _next_place(db: sqlite3.Connection) -> int:
    counted = one_row(db, "next_place")
    assert counted is not None
    place: int = counted["place"]
    return place


def link(
    db: sqlite3.Connection,
    request_id: str,
    run: RunInfo,
    aliases: Sequence[str],
    project: str = "",
    now: float = 0.0,
) -> Changed[None]:
    """Note a further run; the aliases that it gives are added to the request's.

    A request that is done is settled once more, so that they are given; those that it gave before stay
    where they are, since giving one twice moves nothing.
    """
    found = one_row(db, "head_by_id", id=request_id)
    if found is None:
        raise NotFoundError(
            f"this home has no request {request_id}",
            hint="log the artifact again: it was forgotten",
        )
    before = one_row(db, "link", request=request_id, run_id=run.id)
    given = [*(strings(before["aliases"]) if before else ()), *aliases]
    own = json(list(dict.fromkeys(given)))
    linked = {"run_id": run.id, "run": json(run), "project": project}
    change(db, "upsert_link", request=request_id, aliases=own, **linked)
    request = head_of(found)
    news = (RUNS,) if run_notes.note_link(db, request, run, project, now) else ()
    if request.kind is RequestKind.UPSERT:
        return Changed(
            None, (request_id,)
        )  # its part may be in the draft, and says which aliases it brings
    is_more = change(db, "add_aliases", row=request.row, aliases=json(list(aliases))) > 0
    if not is_more or request.state is not State.DONE:
        return Changed(None, (request_id, *news))
    change(db, "set_settled_again", row=request.row)
    return entered(State.SETTLED, request, *news)


# ── forward ────────────────────────────────────────────────────────────────────────────────────
def prepared(db: sqlite3.Connection, row: int, manifest: Manifest, content: str) -> Changed[None]:
    """accepted → prepared."""
    request = head(db, row, State.ACCEPTED)
    change(db, "set_prepared", row=row, **_made(manifest, content))
    return entered(State.PREPARED, request)


def _made(manifest: Manifest, content: str) -> dict[str, Value]:
    """What making a request's manifest found out, as values for a query."""
    return {
        "manifest": manifest.manifest,
        "digest": manifest.digest,
        "content": content,
        "entries": manifest.entries,
        "size": manifest.size,
    }


def plan_again(db: sqlite3.Connection, row: int) -> Changed[None]:
    """prepared → accepted: where its bytes lie in the store is found out anew."""
    request = head(db, row, State.PREPARED)
    change(db, "forget_places", row=row)
    change(db, "delete_packs", row=row)
    change(db, "set_accepted_again", row=row)
    return entered(State.ACCEPTED, request)


def uploaded(
    db: sqlite3.Connection,
    row: int,
    sent_to: str | None,
    since: float | None = None,
    sent: Sequence[Sent] = (),
    now: float = 0.0,
) -> Changed[None]:
    """prepared → uploaded, if the store that counts is the one it was sent to; what was sent is noted."""
    request = head(db, row, State.PREPARED)
    if sent_to is not None and sent_to != store_id(db, request.lane.store):
        raise WrongState(f"request {request.id} was uploaded to another store than counts now")
    if sent:
        note_sent(db, request.lane, sent, sent_to, now)
    change(db, "set_uploaded", row=row, since=since)
    return entered(State.UPLOADED, request)


def send_back(
    db: sqlite3.Connection, row: int, error: str, reason: str, *, is_planned: bool
) -> Changed[None]:
    """uploaded → prepared, or accepted where it has to be planned anew; the reason stays in its row."""
    request = head(db, row, State.UPLOADED)
    change(db, "set_prepared_again", row=row)
    change(db, "forget_type", **lane_values(request.lane))
    back = entered(State.PREPARED, request) if is_planned else plan_again(db, row)
    change(db, "set_waiting", row=row, error=error, reason=reason, next_try=None)
    return back


def attempt(db: sqlite3.Connection, row: int, number: int, record: bytes) -> Changed[None]:
    """uploaded or sending → sending."""
    request = head(db, row, State.UPLOADED, State.SENDING)
    if request.state is State.SENDING:
        _refuse_other_bytes(db, request, number, record)
    change(db, "set_sending", row=row, number=number, record=record)
    return entered(State.SENDING, request)


def _refuse_other_bytes(db: sqlite3.Connection, request: Head, number: int, record: bytes) -> None:
    before = one_row(db, "attempted", row=request.row)
    assert before is not None
    if before["number"] is None:
        return  # a finish that has sent no record yet
    again = number == before["number"] and record == before["record"]
    if number <= before["number"] and not again:
        raise WrongState(f"request {request.id} was sent as v{before['number']} with other bytes")


def applied(db: sqlite3.Connection, row: int, manifest: Manifest, content: str) -> Changed[None]:
    """uploaded → uploaded: what its changes come to."""
    request = _with_base(db, row, State.UPLOADED)
    change(db, "set_applied", row=row, **_made(manifest, content))
    return Changed(None, (request.id,))


def apply_again(db: sqlite3.Connection, row: int) -> Changed[None]:
    """sending → uploaded: another has the number."""
    request = _with_base(db, row, State.SENDING)
    if request.base is not None and request.base.manifest:
        raise WrongState(f"request {request.id} has one base for ever")
    change(db, "set_uploaded_again", row=row)
    return entered(State.UPLOADED, request)


def _with_base(db: sqlite3.Connection, row: int, state: State) -> Head:
    request = head(db, row, state)
    if request.base is None:
        raise WrongState(f"request {request.id} has no base")
    return request


def settle(
    db: sqlite3.Connection,
    row: int,
    version: int,
    aliases: Sequence[str] | None = None,
    now: float = 0.0,
    *,
    is_own: bool = True,
    learned: Known | None = None,
    may_end: bool = False,
) -> Changed[None]:
    """uploaded or sending → settled, or done if it may end and has no alias to give.

    The runs that the version's record does not name are noted.
    """
    request = head(db, row, State.UPLOADED, State.SENDING)
    if learned is not None:
        learn(db, request.lane, learned)
    change(db, "set_settled", row=row, version=version)
    if aliases is not None:
        linked = [strings(one["aliases"]) for one in all_rows(db, "links", request=request.id)]
        given = dict.fromkeys(alias for some in (aliases, *linked) for alias in some)
        change(db, "set_aliases", row=row, aliases=json([*given]))
    is_news = run_notes.note_version(db, request, now, is_own=is_own)
    news = (RUNS,) if is_news else ()
    if not may_end or _to_give(db, row):
        return entered(State.SETTLED, request, *news)
    change(db, "set_done", row=row, now=now, error="", reason="")
    return entered(State.DONE, request, *news)


def _to_give(db: sqlite3.Connection, row: int) -> set[str]:
    """The aliases that a request is to give; those that add nothing are none."""
    asked = one_row(db, "aliases", row=row)
    assert asked is not None
    return set(strings(asked["aliases"])) - {"", "latest"}


def done(
    db: sqlite3.Connection,
    row: int,
    given: Sequence[str],
    now: float,
    error: str = "",
    reason: str = "",
) -> Changed[None]:
    """settled → done, unless a run has asked for further aliases meanwhile."""
    request = head(db, row, State.SETTLED)
    if missing := _to_give(db, row) - {*given}:
        raise WrongState(f"request {request.id} has more aliases to give: {sorted(missing)}")
    change(db, "set_done", row=row, now=now, error=error, reason=reason)
    is_part = request.kind is RequestKind.UPSERT
    is_news = is_part and run_notes.note_version(db, request, now, is_own=False)
    return entered(State.DONE, request, *((RUNS,) if is_news else ()))


# ── what goes wrong, and what the user says ────────────────────────────────────────────────────
def wait_until(
    db: sqlite3.Connection, row: int, error: str, reason: str, next_try: float | None
) -> Changed[None]:
    """Note why a request waits."""
    request = head(db, row, *GOING)
    change(db, "set_waiting", row=row, error=error, reason=reason, next_try=next_try)
    return Changed(None, (request.id,))


def fail(db: sqlite3.Connection, row: int, error: str, reason: str, now: float) -> Changed[None]:
    """held, accepted, prepared or uploaded → failed."""
    request = head(db, row, *UNSENT)
    change(db, "set_failed", row=row, error=error, reason=reason, now=now)
    return entered(State.FAILED, request)


def cancel(db: sqlite3.Connection, row: int, now: float) -> Changed[None]:
    """held, accepted, prepared or uploaded → cancelled."""
    request = head(db, row, *UNSENT)
    change(db, "set_cancelled", row=row, now=now)
    return entered(State.CANCELLED, request)


def retry(db: sqlite3.Connection, row: int, now: float) -> Changed[int]:
    """failed → accepted, in a new place."""
    request = head(db, row, State.FAILED)
    place = _next_place(db)
    change(db, "set_retried", row=row, place=place, now=now)
    change(db, "begin_lookups_anew", row=row)
    return Changed(place, (State.ACCEPTED, request.id))


def sync(db: sqlite3.Connection, rows: Sequence[int], now: float) -> Changed[int]:
    """held → accepted. Rows ascend as their requests came in, and so do the places."""
    held = [found for row in sorted(set(rows)) if (found := _in_state(db, row, State.HELD))]
    for request in held:
        change(db, "set_synced_in_line", row=request.row, place=_next_place(db), now=now)
    return Changed(len(held), _entered_all(State.ACCEPTED, held))


def acknowledge(db: sqlite3.Connection, rows: Sequence[int]) -> Changed[int]:
    """Mark failures as seen."""
    failed = [found for row in set(rows) if (found := _in_state(db, row, State.FAILED))]
    for request in failed:
        change(db, "set_acknowledged", row=request.row)
    return Changed(len(failed), tuple(request.id for request in failed))


def _in_state(db: sqlite3.Connection, row: int, state: State) -> Head | None:
    found = one_row(db, "head", row=row)
    return head_of(found) if found and found["state"] == state else None


def entered(state: State, request: Head, *news: Hashable) -> Changed[None]:
    """Tell who waits for such a request, for this one, for its lane, or for upserts; and further news."""
    lane = (request.lane,) if state in _MOVES_LANE else ()
    kind = (request.kind,) if request.kind is RequestKind.UPSERT else ()
    return Changed(None, (state, request.id, *lane, *kind, *news))


def _entered_all(state: State, requests: Sequence[Head]) -> tuple[object, ...]:
    return (*((state,) if requests else ()), *(request.id for request in requests))
